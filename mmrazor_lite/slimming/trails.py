"""Trails: through which ops the output of a layer goes until it is added to another tensor.

Seen at run time, op by op, by the identity of tensors. What a trail may go through is the same for each number of a
channel wherever it is (norms of eval mode, layer scale, numbers), or moves numbers only (views, permutations, windows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

SAME = frozenset("dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout contiguous clone detach".split())
MOVES = frozenset(
    """view reshape view_as reshape_as permute transpose flatten unflatten squeeze unsqueeze roll __getitem__ movedim
    moveaxis swapaxes swapdims narrow""".split()
)
SCALES = frozenset("mul mul_ __mul__ __rmul__ __imul__ multiply div div_ true_divide __truediv__ __itruediv__".split())
ADDS = frozenset("add add_ __add__ __radd__ __iadd__".split())
SHIFTS = frozenset("sub sub_ __sub__ __isub__ subtract".split())


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors among the arguments, or the results, of an op."""
    return (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def name_of(function: Callable) -> str:
    return getattr(function, "__name__", "")


@dataclass(eq=False)
class Step:
    """One op on a trail; ``position`` is that of the trail's tensor among its arguments."""

    function: Callable
    args: tuple
    kwargs: Mapping[str, Any]
    position: int | str

    def __call__(self, x: Tensor) -> Tensor:
        """The same op on another tensor in the place of the trail's."""
        if isinstance(self.position, str):
            return self.function(*self.args, **{**self.kwargs, self.position: x})
        args = (*self.args[: self.position], x, *self.args[self.position + 1 :])
        return self.function(*args, **self.kwargs)

    def without(self) -> Step:
        """The same without the trail's tensor, which so is not held."""
        if isinstance(self.position, str):
            return replace(self, kwargs={**self.kwargs, self.position: None})
        return replace(self, args=(*self.args[: self.position], None, *self.args[self.position + 1 :]))

    @property
    def others(self) -> list[Tensor]:
        """Tensors that it reads besides."""
        args = (*self.args[: self.position], *self.args[self.position + 1 :]) if self._by_place else self.args
        return list(tensors_in((args, {k: v for k, v in self.kwargs.items() if k != self.position})))

    @property
    def _by_place(self) -> bool:
        return not isinstance(self.position, str)

    @property
    def moves(self) -> bool:
        return name_of(self.function) in MOVES

    @property
    def is_norm(self) -> bool:
        """Whether it is a batch norm of eval mode, called with the trail's tensor."""
        if name_of(self.function) != "batch_norm":
            return False
        training = self.kwargs.get("training", self.args[5] if len(self.args) > 5 else False)
        return not training and self.position in (0, "input") and self.statistic is not None

    @property
    def statistic(self) -> Tensor | None:
        """The running mean of a batch norm."""
        return self.kwargs.get("running_mean", self.args[1] if len(self.args) > 1 else None)

    @property
    def is_sum(self) -> bool:
        plain = self.kwargs.get("alpha", 1) == 1 and "out" not in self.kwargs
        return name_of(self.function) in ADDS and plain

    def keeps_channels_apart(self, is_constant: Callable[[Tensor], bool]) -> bool:
        """Whether each number it gives is an affine function of one number of the trail's tensor."""
        name = name_of(self.function)
        if name in SAME or name in MOVES or self.is_norm:
            return self.position in (0, "input", "self")
        if name in SCALES | ADDS | SHIFTS and self.kwargs.keys() <= {"other", "input", "alpha"}:
            divides = "div" in name and self.position not in (0, "input")
            return not divides and all(is_constant(tensor) for tensor in self.others)
        return False


@dataclass(eq=False)
class Trail:
    """Where the output of a call went so far.

    Attributes:
        value: The tensor that it is now.
        steps: What it went through.
        sum: The addition to another tensor that ends the trail, None before and where there is none.
        result: What the addition gave.
    """

    value: Tensor
    steps: list[Step] = field(default_factory=list)
    sum: Step | None = None
    result: Tensor | None = None

    @staticmethod
    def step(value: Tensor, function: Callable, args: tuple, kwargs: Mapping) -> Step | None:
        """The op as a step of the trail whose tensor is ``value``; None where it does not read it by itself."""
        places = [*enumerate(args), *kwargs.items()]
        mine = [place for place, argument in places if argument is value]
        return Step(function, args, kwargs, mine[0]) if len(mine) == 1 else None

    def other(self) -> Tensor:
        """What the trail's tensor was added to, of the shape of the sum."""
        other = self.sum.others
        if not other:
            raise AssertionError("the sum of a trail has no other tensor")
        if other[0] is self.result:  # it was changed in place
            return self.result - self.value
        return other[0].expand(self.result.shape)

    def back(self, tensor: Tensor, y: Tensor) -> Tensor:
        """Numbers of the shape of the sum where they belong in the output ``y`` of the call."""
        moves = [step for step in self.steps if step.moves]
        if not moves:
            return tensor
        index = torch.arange(y.numel(), device=y.device).reshape(y.shape)
        for step in moves:
            index = step(index)
        found = torch.empty(y.numel(), dtype=tensor.dtype, device=tensor.device)
        found[index.reshape(-1)] = tensor.reshape(-1)
        return found.reshape(y.shape)

    def slope(self, y: Tensor) -> Tensor:
        """What the steps multiply each number of ``y`` by, of its shape."""
        one, zero = torch.ones_like(y), torch.zeros_like(y)
        for step in self.steps:
            one, zero = step(one), step(zero)
        return self.back(one - zero, y)
