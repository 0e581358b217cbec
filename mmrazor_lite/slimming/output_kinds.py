"""Which outputs of a network are scores of classes, and which are values such as coordinates.

Letters: N images, K classes or values.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten_with_path, tree_leaves

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.models.importance import Batches

from .class_numbers import class_numbers, counted, floats_of

TELLING = 10  # images that may well be of one class, if they are fewer


def are_scores(output: Tensor) -> bool:
    """Whether an output is taken for scores of classes, where nothing else is known of it."""
    return output.dim() == 2 and output.shape[1] > 1


def check_value_names(values: Any) -> None:
    """Raise :class:`UserError` unless it may name outputs: a truth, numbers or keys."""
    named = isinstance(values, Sequence) and not isinstance(values, str)
    if not (values is None or isinstance(values, bool)) and not (
        named and all(isinstance(name, str | int) and not isinstance(name, bool) for name in values)
    ):
        raise UserError(f"values={short(values)}: give True, or the outputs that hold values, such as [0] or ['boxes']")


def value_outputs(outputs: Any, targets: Any, asked: bool | Collection[int | str] | None) -> frozenset[int]:
    """The numbers of the outputs that hold values.

    An output is one too where its target has its shape and is no distribution over classes.

    Args:
        outputs: Of the network, for some images.
        targets: For the same ones.
        asked: True for all, False for none; the numbers of outputs or their keys; None where nothing is said.

    Raises:
        UserError: There is no such output.
    """
    found = floats_of(outputs)
    if isinstance(asked, bool):
        return frozenset(range(len(found)) if asked else ())
    if asked is not None:
        return frozenset(_number(name, _keys(outputs)) for name in asked)
    leaves = [] if targets is None else tree_leaves(targets)
    if len(leaves) != len(found):
        return frozenset()
    return frozenset(number for number, pair in enumerate(zip(leaves, found, strict=True)) if _are_values(*pair))


def taken_as(outputs: Any, targets: Any, values: Collection[int], asked: bool) -> list[str]:
    """What is to be said of outputs that are taken for scores of classes though nothing says that they are.

    Args:
        asked: Whether somebody has said which outputs hold values.
    """
    keys, found = _keys(outputs), floats_of(outputs)
    labelled = [id(head) for head in class_numbers(outputs, targets, values).heads]
    scores = [n for n, output in enumerate(found) if n not in values and are_scores(output)]
    notes = []
    if labelled and len(scores) > 1:
        names = ", ".join(_named(keys[n], found[n]) for n, head in enumerate(found) if id(head) in labelled)
        notes.append(f"labels are read for output {names}, accuracy and agreement are of it alone")
    unsure = [] if asked else [n for n in scores if id(found[n]) not in labelled]
    if unsure:
        names = ", ".join(_named(keys[n], found[n]) for n in unsure)
        wanted = "True" if len(found) == 1 else f"[{', '.join(repr(keys[n]) for n in unsure)}]"
        notes.append(
            f"output {names} is taken as class scores; if it holds values, such as coordinates: values={wanted}"
        )
    return notes


def only_class(references: Sequence[Any], values: Collection[int]) -> str:
    """Why agreement tells nothing: each output of scores names one class for all images; '' where it does."""
    outputs = [[out for n, out in enumerate(floats_of(part)) if n not in values] for part in references]
    heads = [torch.cat(parts) for parts in zip(*outputs, strict=True) if are_scores(parts[0])]
    if not heads or len(heads[0]) < TELLING or any(len(head.argmax(1).unique()) > 1 for head in heads):
        return ""
    return f"the network gives all {len(heads[0])} images the same class"


def few_classes(outputs: Any, batches: Batches, values: Collection[int]) -> list[str]:
    """What is to be said where the labels of some images are of far fewer classes than a draw of them would be.

    Args:
        outputs: Of the network, for any number of images.
        batches: (images, targets) of all that are looked at.
    """
    found = [class_numbers(outputs, targets, values) for _, targets in batches]
    if not all(len(part.labels) == 1 and part.labels[0].dim() == 1 for part in found):
        return []
    labels, classes = torch.cat([part.labels[0] for part in found]), found[0].heads[0].shape[1]
    seen = labels[counted(labels, classes)]
    count, expected = len(seen.unique()), classes * (1 - (1 - 1 / classes) ** len(seen))
    if len(seen) < TELLING or count >= expected / 2:
        return []
    return [
        f"the {len(seen)} images are of {count} of the network's {classes} classes, of about {expected:.0f} where they "
        "are drawn at random: what is kept is for these; shuffle the data"
    ]


def _are_values(target: Any, output: Tensor) -> bool:
    if not isinstance(target, Tensor) or not target.is_floating_point() or target.shape != output.shape:
        return False
    sums = target.double().sum(1) if target.dim() > 1 else target
    return bool((target < 0).any() or (sums - 1).abs().max() > 1e-3)  # soft labels are above 0 and sum to 1


def _keys(outputs: Any) -> list[int | str]:
    """Of each output its key where the network gives a dict, else its number."""
    if not isinstance(outputs, dict):
        return list(range(len(floats_of(outputs))))
    found = [(path, leaf) for path, leaf in tree_flatten_with_path(outputs)[0]]
    keys = [path[0].key for path, leaf in found if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return keys if len(set(keys)) == len(keys) else list(range(len(keys)))


def _number(name: int | str, keys: Sequence[int | str]) -> int:
    """The number of an output by its key, or its number."""
    if name in keys:
        return keys.index(name)
    number = int(name) if isinstance(name, int) or name.isdecimal() else -1
    if not 0 <= number < len(keys):
        told = ", ".join(map(str, keys))
        raise UserError(f"values: the network has no output {short(name)}; its outputs of numbers are {told}")
    return number


def _named(key: int | str, output: Tensor) -> str:
    return f"{key} ({', '.join(['N', *map(str, output.shape[1:])])})"
