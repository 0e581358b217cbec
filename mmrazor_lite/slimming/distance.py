"""How far the outputs of a network are from those of another one on the same images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from mmrazor_lite.errors import UserError

from .class_numbers import floats_of
from .output_kinds import are_scores

SOFT = 4.0  # temperature at which scores that a network is sure of still differ

Distance = Callable[[Any, Any], float]  # (outputs, those of the original) -> 0 where they are equal


@torch.no_grad()
def distance(outputs: Any, reference: Any, temperature: float = 1.0, values: Collection[int] = ()) -> float:
    """What is lost of the reference: a sum over the outputs of a network.

    Of class scores (N, C), that is of two dimensions and more than one column, it is the Kullback-Leibler divergence of
    the softmax from the reference's in nats, a mean over the images, at a temperature and times its square (as in
    distillation, arXiv:1503.02531, section 2.1). Of any other tensor of numbers it is the squared error relative to the
    mean square of the reference. Numbers that are not finite are infinitely far.

    Args:
        outputs, reference: A tensor, or tensors in lists and dictionaries of one structure.
        temperature: What class scores are divided by. At 1 an image that the network is sure of counts for nothing, as
            nearly all images are that it was trained with.
        values: Numbers of the outputs that are no class scores, whatever their shape.
    """
    pairs = enumerate(zip(floats_of(outputs), floats_of(reference), strict=True))
    total = sum(float(_one(a.detach().double(), b.detach().double(), temperature, n in values)) for n, (a, b) in pairs)
    return total if total == total else float("inf")


softened: Distance = partial(distance, temperature=SOFT)


def mean_distance(outputs: Iterable[Any], references: Sequence[Any], measure: Distance = distance) -> float:
    """The distance over batches, weighted by their images."""
    total = count = 0.0
    for own, reference in zip(outputs, references, strict=True):
        images = next((len(leaf) for leaf in floats_of(reference) if leaf.dim()), 1)
        total, count = total + images * measure(own, reference), count + images
    return total / max(count, 1.0)


def check_outputs(outputs: Any) -> None:
    """Refuse outputs that cannot be compared.

    Raises:
        UserError: There are no tensors of floats in them, or what is in them is not finite.
    """
    found = floats_of(outputs)
    if not found:
        kinds = sorted({_kind(leaf) for leaf in tree_leaves(outputs)})
        raise UserError(
            f"the network gives no floats ({', '.join(kinds) or 'nothing'}), which slimming compares: slim the part "
            "that gives scores, before any argmax"
        )
    if not all(bool(torch.isfinite(leaf).all()) for leaf in found):
        raise UserError("the network gives what is no finite number (NaN or infinity) for some of the images")


def _kind(leaf: Any) -> str:
    return str(leaf.dtype).removeprefix("torch.") if isinstance(leaf, Tensor) else type(leaf).__name__


def _one(own: Tensor, reference: Tensor, temperature: float, are_values: bool) -> Tensor:
    if are_scores(own) and not are_values:
        own, reference = (own / temperature).log_softmax(1), (reference / temperature).log_softmax(1)
        return temperature**2 * (reference.exp() * (reference - own)).sum(1).mean().clamp(min=0.0)
    return (own - reference).square().sum() / reference.square().sum().clamp(min=torch.finfo(torch.float64).tiny)
