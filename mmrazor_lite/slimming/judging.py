"""How good a network is on some images, and how near it is to the original.

Shape letters: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from mmrazor_lite.errors import UserError, failing
from mmrazor_lite.models.importance import Batches

from .distance import mean_distance
from .images import class_labels
from .report import Quality


class Judge:
    """Compares networks with the original on fixed images.

    Args:
        original: Its outputs are kept.
        batches: (images, targets or None).
    """

    def __init__(self, original: nn.Module, batches: Batches) -> None:
        self.batches = list(batches)
        with failing("the network cannot take the images"):
            self.reference = self.outputs(original)
        if not all(bool(torch.isfinite(leaf).all()) for leaf in _tensors(self.reference)):
            raise UserError("the network gives what is no finite number (NaN or infinity) for some of the images")
        self.images = sum(len(images) for images, _ in self.batches)

    def outputs(self, network: nn.Module) -> list[Any]:
        """What a network gives in eval mode, batch by batch."""
        with torch.no_grad(), evaluating(network):
            return [tree_map(_detached, network(images)) for images, _ in self.batches]

    def __call__(self, network: nn.Module) -> Quality:
        """The quality of a network that gives what the original does: (N, K) class scores, or anything else."""
        outputs = self.outputs(network)
        hits, of = 0.0, 0.0
        same, beside = 0.0, 0.0
        for own, other, (_, targets) in zip(outputs, self.reference, self.batches, strict=True):
            labels = labels_beside(own, targets)
            for scores, label in zip(_scores(own, labels), labels, strict=False):
                hits += float((scores.argmax(1) == label).float().mean()) * len(scores)
                of += len(scores)
            for a, b in zip(_scores(own, labels), _scores(other, labels), strict=True):
                same += float((a.argmax(1) == b.argmax(1)).float().mean()) * len(a)
                beside += len(a)
        return Quality(
            accuracy=100 * hits / of if of else None,
            agreement=100 * same / beside if beside else None,
            distance=mean_distance(outputs, self.reference),
            images=self.images,
        )

    def distance(self, network: nn.Module) -> float:
        """Of its outputs from the original's."""
        return mean_distance(self.outputs(network), self.reference)


def labels_beside(outputs: Any, targets: Any) -> list[Tensor]:
    """Class numbers (N, ...) that outputs (N, K, ...) are scores for, of each head one; none where they do not fit."""
    labels = class_labels(targets)
    heads = [leaf for leaf in _tensors(outputs) if leaf.dim() > 1]
    fits = (
        label.dtype != torch.bool and label.shape == (head.shape[0], *head.shape[2:])
        for label, head in zip(labels, heads, strict=False)
    )
    return labels if len(labels) <= len(heads) and all(fits) else []


def _scores(outputs: Any, labels: Sequence[Tensor]) -> list[Tensor]:
    """The outputs that are scores of classes: (N, K), or (N, K, ...) where there are labels for each place."""
    heads = [leaf for leaf in _tensors(outputs) if leaf.dim() > 1]
    return heads[: len(labels)] if labels else [leaf for leaf in heads if leaf.dim() == 2 and leaf.shape[1] > 1]


def _tensors(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; every module has its own mode again after it."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
