"""How good a network is on some images, and how near it is to the original.

Shape letters: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from mmrazor_lite.errors import failing
from mmrazor_lite.graph import evaluating
from mmrazor_lite.models.importance import Batches

from .class_numbers import class_numbers, counted, floats_of, why_unused
from .distance import Distance, check_outputs, distance, mean_distance, softened
from .output_kinds import are_scores, value_outputs
from .report import Quality


class Judge:
    """Compares networks with the original on fixed images.

    Args:
        original: Its outputs are kept.
        batches: (images, targets or None).
        strict: Refuse labels that are no class of the network's one output.
        known: Of the first batches, the original's outputs.
        values: Which outputs hold values, as :func:`.output_kinds.value_outputs` takes it.

    Attributes:
        values: The numbers of the outputs that are no class scores.
        why_unused: Why the targets are not taken as class numbers; '' where they are, or where there are none.

    Raises:
        UserError: The network does not take the images, or gives nothing that can be compared.
    """

    def __init__(
        self,
        original: nn.Module,
        batches: Batches,
        strict: bool = False,
        known: Sequence[Any] = (),
        values: bool | Collection[int | str] | None = None,
    ) -> None:
        self.batches = list(batches)
        with failing("the network cannot take the images"):
            self.reference = [*known, *self.outputs(original, len(known))]
        check_outputs(self.reference)
        self.values = value_outputs(self.reference[0], self.batches[0][1], values)
        self.why_unused = why_unused(self.reference[0], self.batches, strict, self.values)
        self.images = sum(len(images) for images, _ in self.batches)

    def _labelled(self, targets: Any) -> Any:
        return None if self.why_unused else targets

    @property
    def bytes_per_image(self) -> float:
        """What the original's outputs of an image take."""
        kept = (leaf for outputs in self.reference for leaf in floats_of(outputs))
        return sum(leaf.numel() * leaf.element_size() for leaf in kept) / self.images

    def outputs(self, network: nn.Module, start: int = 0) -> list[Any]:
        """What a network gives in eval mode, batch by batch, from one of them on."""
        with torch.no_grad(), evaluating(network):
            return [tree_map(_detached, network(images)) for images, _ in self.batches[start:]]

    def __call__(self, network: nn.Module) -> Quality:
        """The quality of a network that gives what the original does: (N, K) class scores, or anything else."""
        outputs = self.outputs(network)
        hits, of = 0.0, 0.0
        same, beside = 0.0, 0.0
        for own, other, (_, targets) in zip(outputs, self.reference, self.batches, strict=True):
            labels = self._labelled(targets)
            found, beside_other = (class_numbers(made, labels, self.values) for made in (own, other))
            for scores, label in zip(found.heads, found.labels, strict=True):
                counts = counted(label, scores.shape[1])
                hits += float((scores.argmax(1) == label)[counts].double().sum())
                of += int(counts.sum())
            pairs = (found.heads, beside_other.heads) if found.heads else (self._scores(own), self._scores(other))
            for a, b in zip(*pairs, strict=True):
                alike = a.argmax(1) == b.argmax(1)
                same += float(alike.double().sum()) * len(a) / alike.numel()
                beside += len(a)
        return Quality(
            accuracy=100 * hits / of if of else None,
            agreement=100 * same / beside if beside else None,
            distance=mean_distance(outputs, self.reference, self._own(distance)),
            images=self.images,
            softened=mean_distance(outputs, self.reference, self._own(softened)),
        )

    def distances(self, network: nn.Module, measure: Distance = distance) -> Iterator[tuple[int, float]]:
        """(images, distance of its outputs from the original's) of batch after batch."""
        measure = self._own(measure)
        for (images, _), reference in zip(self.batches, self.reference, strict=True):
            with torch.no_grad(), evaluating(network):
                yield len(images), mean_distance([network(images)], [reference], measure)

    def _own(self, measure: Distance) -> Distance:
        return partial(measure, values=self.values)

    def _scores(self, outputs: Any) -> list[Tensor]:
        """The outputs that are scores of classes (N, K)."""
        return [leaf for n, leaf in enumerate(floats_of(outputs)) if n not in self.values and are_scores(leaf)]


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf
