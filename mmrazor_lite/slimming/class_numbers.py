"""Class numbers among the targets, and the scores that they belong to; and why targets are none.

Letters: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.models.importance import Batches

IGNORED = -100  # a label that counts for nothing, as torch's cross entropy has it
IGNORED_PLACE = 255  # the same of maps, as data sets for segmentation have it


@dataclass(frozen=True, eq=False)
class ClassNumbers:
    """What targets say of classes.

    Attributes:
        labels: (N, ...), of each head one.
        heads: The scores (N, K, ...) that they are for.
        why: Why the targets are no class numbers; '' where they are, or where there are none.
        outside: A label that is no class of the network's one head.
    """

    labels: Sequence[Tensor] = ()
    heads: Sequence[Tensor] = ()
    why: str = ""
    outside: bool = False


def class_numbers(outputs: Any, targets: Any, values: Collection[int] = ()) -> ClassNumbers:
    """The class numbers among targets.

    Of as many targets as outputs each goes with its own; a single one goes with ``logits`` or ``out`` of a dict; else
    they go by their order, each head once. A column (N, 1) is read as (N,).

    Args:
        values: Numbers of the outputs that are no class scores: no target of whole numbers is for them.
    """
    leaves = [] if targets is None else tree_leaves(targets)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if not any(map(_is_whole, tensors)):
        return ClassNumbers(why=_kind(leaves[0]) if leaves else "")
    every = floats_of(outputs)
    pairs = _pairs(tensors, every, values, _logits(outputs))
    if not pairs:
        return ClassNumbers(why="the network gives fewer outputs of scores than there are targets")
    labels = []
    for label, head in pairs:
        if head.dim() < 2 or head.shape[1] < 2:
            return ClassNumbers(why=f"an output {tuple(head.shape)} has no scores of several classes")
        fitting, classes = _fitting(label, head), head.shape[1]
        if fitting is None:
            wanted = ", ".join(["N", *map(str, head.shape[2:])]) + "," * (head.dim() == 2)
            return ClassNumbers(why=f"their shape is {tuple(label.shape)}, and class numbers would be ({wanted})")
        wrong = fitting[((fitting < 0) | (fitting >= classes)) & counted(fitting, classes)]
        if len(wrong):
            why = f"label {int(wrong[0])} is none of the {classes} classes of the network, 0 to {classes - 1}"
            return ClassNumbers(why=why, outside=len(every) == 1)
        labels.append(fitting)
    return ClassNumbers(labels, [head for _, head in pairs])


def why_unused(outputs: Any, batches: Batches, strict: bool = True, values: Collection[int] = ()) -> str:
    """Why targets of some batches are not taken as class numbers; '' where they are, or where there are none.

    Args:
        outputs: Of the network, for any number of images.
        strict: A label that is no class of the network's one output is refused.
        values: Numbers of the outputs that are no class scores.

    Raises:
        UserError: There is such a label.
    """
    for _, targets in batches:
        found = class_numbers(outputs, targets, values)
        if found.outside and strict:
            raise UserError(
                f"data: {found.why}: number them from 0 ({IGNORED} is for images that count for nothing), or give loss="
            )
        if found.why:
            return found.why
    return ""


def cross_entropy_where(batches: Batches, outputs: Any, values: Collection[int] = ()) -> Callable | None:
    """Cross entropy for class numbers beside one output of class scores (N, K); None where it is not that.

    Args:
        outputs: Of the network, for any number of images; the loss takes such too.

    Raises:
        UserError: A label that is no class of the network.
    """
    heads = floats_of(outputs)
    if len(heads) != 1 or heads[0].dim() != 2 or why_unused(heads[0], batches, values=values):
        return None
    return _cross_entropy if class_numbers(heads[0], batches[0][1], values).labels else None


def counted(labels: Tensor, classes: int) -> Tensor:
    """Which labels (N, ...) count: not those that say that the image, or the place in it, is to be ignored."""
    counts = labels != IGNORED
    return counts & (labels != IGNORED_PLACE) if labels.dim() > 1 and classes <= IGNORED_PLACE else counts


def floats_of(outputs: Any) -> list[Tensor]:
    """The outputs that are tensors of numbers; a count or a mask is none."""
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _cross_entropy(outputs: Any, targets: Any) -> Tensor:
    given = floats_of(outputs)[0]
    labels = next(leaf for leaf in tree_leaves(targets) if isinstance(leaf, Tensor) and _is_whole(leaf))
    labels = labels.flatten().long()
    loss = nn.functional.cross_entropy(given, labels, ignore_index=IGNORED, reduction="sum")
    return loss / (labels != IGNORED).sum().clamp(min=1)  # 0 of a batch in which nothing counts


def _is_whole(leaf: Tensor) -> bool:
    return not (leaf.is_floating_point() or leaf.is_complex() or leaf.dtype == torch.bool)


def _kind(leaf: Any) -> str:
    """Why what is no tensor of whole numbers is not taken."""
    what = f"{str(leaf.dtype).removeprefix('torch.')}" if isinstance(leaf, Tensor) else f"such as {short(leaf)}"
    return f"they are {what}, and class numbers are whole numbers (int64)"


def _logits(outputs: Any) -> Tensor | None:
    """The output of a dict that is called so; None where there is none."""
    named = [outputs[key] for key in ("logits", "out") if key in outputs] if isinstance(outputs, Mapping) else []
    return next((leaf for leaf in named if isinstance(leaf, Tensor) and leaf.is_floating_point()), None)


def _pairs(
    tensors: Sequence[Tensor], outputs: Sequence[Tensor], values: Collection[int], logits: Tensor | None
) -> list[tuple[Tensor, Tensor]]:
    """Targets of whole numbers with their outputs; none where outputs are missing."""
    if len(tensors) == len(outputs):
        pairs = enumerate(zip(tensors, outputs, strict=True))
        return [(leaf, head) for number, (leaf, head) in pairs if _is_whole(leaf) and number not in values]
    labels = [leaf for leaf in tensors if _is_whole(leaf)]
    heads = [head for number, head in enumerate(outputs) if head.dim() > 1 and number not in values]
    if len(labels) == 1 and any(head is logits for head in heads):
        return [(labels[0], logits)]
    return list(zip(labels, heads, strict=False)) if len(labels) <= len(heads) else []


def _fitting(label: Tensor, head: Tensor) -> Tensor | None:
    """A label without its column of one, where it then fits the scores."""
    wanted = tuple(head.shape[2:])
    if label.dim() == len(wanted) + 2 and label.shape[1] == 1:
        label = label.squeeze(1)
    return label.long() if label.dim() >= 1 and tuple(label.shape[1:]) == wanted else None
