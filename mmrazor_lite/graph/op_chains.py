"""Calls in a row that a runtime may run as one: a convolution with the norm, the sum and the activation behind it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .op_calls import MOST_AXES, Along, ChannelSum, OpCall, TensorForm

POINTWISE = frozenset(
    "add addcmul batch_norm celu clamp clamp_max clamp_min div elu exp gelu hardsigmoid hardswish hardtanh leaky_relu "
    "log mish mul neg pow prelu relu relu6 rsub selu sigmoid silu softplus sqrt sub tanh".split()
)


class _Previous:
    """Stands among the arguments of a call for what the call before gives."""

    def __repr__(self) -> str:
        return "previous"


PREVIOUS = _Previous()


@dataclass(frozen=True)
class Chain:
    """Ops in a row as one op: called with a list of arguments, and of keywords with values, for each of them."""

    ops: tuple[Any, ...]

    def __call__(self, *calls: Sequence) -> Any:
        result = None
        for op, (args, kwargs) in zip(self.ops, calls, strict=True):
            result = op(*_with(args, result), **{name: _with(value, result) for name, value in kwargs})
        return result


def chained(calls: Sequence[OpCall], first: Collection[str] | None = None) -> list[OpCall]:
    """Calls with those joined that come in a row: each but the first is pointwise, and alone reads what comes before.

    Args:
        calls: Of one graph, in order.
        first: Kinds that a row may begin with; None: any.
    """
    by_node = {call.node: call for call in calls}
    found, joined = [], set()
    for call in calls:
        if call.node in joined:
            continue
        if first is None or call.kind in first:
            while (after := by_node.get(call.reader)) is not None and after.kind in POINTWISE:
                longer = _joined(call, after)
                if longer is None:
                    break
                joined.add(after.node)
                call = longer
        found.append(call)
    return found


def _joined(call: OpCall, after: OpCall) -> OpCall | None:
    """Both as one call; None where there would be too many axes, or one that follows another without being a multiple
    of it: each is measured at widths of its own."""
    axes, steps, fulls, places = list(call.axes), list(call.steps), list(call.fulls), {}
    for index, axis in enumerate(after.axes):
        place = _place(axis, axes)
        if place is None:
            if len(axes) == MOST_AXES or _shares(axis, axes):
                return None
            place = Along(len(axes))
            axes.append(axis)
            steps.append(after.steps[index])
            fulls.append(after.fulls[index])
        places[index] = place
    before = call if isinstance(call.op, Chain) else _alone(call)
    last = [_moved(after.args, places, call.node), _moved(_pairs(after.kwargs), places, call.node)]
    return replace(
        before,
        kind=f"{call.kind}, {after.kind}",
        op=Chain((*before.op.ops, after.op)),
        args=(*before.args, last),
        axes=tuple(axes),
        steps=tuple(steps),
        fulls=tuple(fulls),
        node=after.node,
        reader=after.reader,
    )


def _alone(call: OpCall) -> OpCall:
    """A call as a chain of one."""
    return replace(call, op=Chain((call.op,)), args=([list(call.args), _pairs(call.kwargs)],), kwargs={})


def _pairs(kwargs: Mapping[str, Any]) -> list[list]:
    return [[name, value] for name, value in kwargs.items()]


def _place(wanted: ChannelSum, axes: Iterable[ChannelSum]) -> Along | None:
    """An axis as so many times one of others."""
    for index, axis in enumerate(axes):
        times = wanted.over(axis)
        if times is not None:
            return Along(index, times)
    return None


def _shares(wanted: ChannelSum, axes: Iterable[ChannelSum]) -> bool:
    """Whether an axis counts a group that another one counts too."""
    names = {name for name, _, _ in wanted.terms}
    return any(name in names for axis in axes for name, _, _ in axis.terms)


def _moved(value: Any, places: Mapping[int, Along], before: str) -> Any:
    """Arguments of a call with its axes as those of a longer one, and without what the call before gives."""
    if isinstance(value, (list, tuple)):
        return [_moved(part, places, before) for part in value]
    if isinstance(value, Along):
        return Along(places[value.axis].axis, value.times * places[value.axis].times)
    if not isinstance(value, TensorForm):
        return value
    if value.source == before:
        return PREVIOUS
    return replace(value, shape=tuple(_moved(size, places, before) for size in value.shape))


def _with(value: Any, result: Any) -> Any:
    if isinstance(value, list):
        return [_with(part, result) for part in value]
    return result if value is PREVIOUS else value
