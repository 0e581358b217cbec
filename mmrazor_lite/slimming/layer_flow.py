"""How the layers of a network follow each other, seen in one run of a few images.

Of each layer: how often it is called and for how many outputs, which layers stand before it, which batch norm reads its
output and nothing else does, and to which tensor its output is added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmrazor_lite.models.calls import Call, Calls, weights_of

from .trails import Trail, name_of, tensors_in

SMALL_SLOPE = 0.05  # of the mean one: outputs of a channel that counts as little are not to make up for errors


@dataclass(eq=False)
class LayerFlow:
    """What is known of a layer.

    Attributes:
        name: Of the layer.
        inputs: Numbers that make one output.
        groups: Of a conv.
        outputs: Channels of its output.
        places: Outputs of one channel that the calls give, for one image.
        before: Layers whose outputs its input, or what is added to its output, is made of.
        bias: Whether its call adds a parameter of its own.
        norm: The batch norm that reads its output, and reads nothing else, where nothing else reads it.
        gain: What an error of the tensor that it is added to is multiplied by, to make up for it: (outputs,). None
            where there is no such tensor, or it is not final when the layer is fitted.
        steps: Ops between the output of each call and the sum.
        changes_input: Whether what a call reads is changed in place until the sum.
    """

    name: str
    inputs: int
    groups: int
    outputs: int
    places: tuple[float, ...]
    before: frozenset[str]
    bias: bool
    norm: str | None = None
    gain: Tensor | None = None
    steps: tuple[int, ...] = ()
    changes_input: bool = False


@torch.no_grad()
def layer_flows(network: nn.Module, images: Tensor, sums: bool = True) -> dict[str, LayerFlow]:
    """What is known of each layer, in the order of their first calls.

    Args:
        images: (N, C, H, W), a few are enough.
        sums: Look for what outputs are added to.
    """
    scout = _Scout(network, images, sums)
    with Calls(weights_of(network), scout):
        network(images)
    return {name: scout.flow(name) for name in scout.seen}


@dataclass(eq=False)
class _Seen:
    """One call, with where its output went."""

    call: Call
    y: Tensor
    before: frozenset[str]
    trail: Trail
    version: int | None  # of what the call reads, which counts changes in place
    changes_input: bool = False
    read_again: int | None = None  # index of the first tensor of the trail that something else reads as well
    others: frozenset[str] = frozenset()  # layers that what is added is made of

    @property
    def is_alone(self) -> bool:
        """Whether nothing else reads what is on the trail before the sum."""
        return self.read_again is None or self.read_again > len(self.trail.steps)


class _Scout:
    """A watcher that keeps all tensors of a run, so that identities stay valid."""

    def __init__(self, network: nn.Module, images: Tensor, sums: bool) -> None:
        self._images, self._sums = len(images), sums
        self._own = {id(t): name for name, t in [*network.named_parameters(), *network.named_buffers()]}
        self.seen: dict[str, list[_Seen]] = {}
        self._kept: list[Any] = []
        self._made_of: dict[int, set[str]] = {_storage(images): set()}  # storage -> layers its numbers are made of
        self._made_of |= {_storage(t): set() for t in [*network.parameters(), *network.buffers()]}
        self._constant: set[int] = set(self._own)
        self._at: dict[int, list[_Seen]] = {}  # tensor -> trails that are there now
        self._past: dict[int, list[tuple[_Seen, int]]] = {}  # tensor -> trails that were there
        self._norm_calls: Counter[int] = Counter()  # running mean -> calls of a norm with it

    # what runs ------------------------------------------------------------------------------------------------

    def before(self, call: Call) -> None:
        pass

    def after(self, call: Call, y: Tensor) -> None:
        self._read((call.x, call.weight, call.bias), None)
        before = self._layers_of(call.x)
        self._kept += [call, y]
        self._made_of.setdefault(_storage(y), set()).update(before | {call.layer})
        seen = _Seen(call, y, frozenset(before), Trail(y), _version(call.x))
        self.seen.setdefault(call.layer, []).append(seen)
        self._at.setdefault(id(y), []).append(seen)

    def other(self, function: Callable, args: tuple, kwargs: Mapping, result: Any) -> None:
        results, given = list(tensors_in(result)), list(tensors_in((args, kwargs)))
        if function is Tensor.__setitem__:
            results = given[:1]
        if not results:
            return
        self._kept.append((given, results))
        if name_of(function) == "batch_norm":
            self._norm_calls.update(id(tensor) for tensor in given)
        if all(id(tensor) in self._constant for tensor in given):
            self._constant.update(map(id, results))
        else:
            self._constant.difference_update(map(id, results))
        found = set().union(*(self._layers_of(tensor) for tensor in given))
        for tensor in results:
            self._made_of.setdefault(_storage(tensor), set()).update(found)
        self._read((args, kwargs), (function, args, kwargs, result if isinstance(result, Tensor) else None))

    def _layers_of(self, tensor: Tensor) -> set[str]:
        """Layers that a tensor is made of; of one that no op seen here made, all that were called so far."""
        return self._made_of.get(_storage(tensor), set(self.seen))

    # trails ---------------------------------------------------------------------------------------------------

    def _read(self, given: Any, op: tuple | None) -> None:
        for tensor in {id(t): t for t in tensors_in(given)}.values():
            for seen, index in self._past.get(id(tensor), ()):
                seen.read_again = index if seen.read_again is None else min(index, seen.read_again)
            for seen in self._at.pop(id(tensor), ()):
                self._go_on(seen, op)

    def _go_on(self, seen: _Seen, op: tuple | None) -> None:
        """Take the trail of a call over the first op that reads where it is."""
        trail = seen.trail
        value, result = trail.value if trail.sum is None else trail.result, op[3] if op else None
        step = Trail.step(value, *op[:3]) if op else None
        if value is not result:
            self._past.setdefault(id(value), []).append((seen, len(trail.steps) + (trail.sum is not None)))
        if step is None or result is None:
            return
        if trail.sum is not None:
            return
        if step.keeps_channels_apart(lambda tensor: id(tensor) in self._constant):
            if result.numel() == value.numel():
                trail.steps.append(step)
                trail.value = result
                self._at.setdefault(id(result), []).append(seen)
        elif step.is_sum and result.numel() == value.numel() and step.others:
            trail.sum, trail.result = step, result
            seen.changes_input = seen.version is None or seen.version != _version(seen.call.x)
            self._at.setdefault(id(result), []).append(seen)
            seen.others = frozenset().union(*(self._layers_of_other(t, result, seen) for t in step.others))

    def _layers_of_other(self, tensor: Tensor, result: Tensor, seen: _Seen) -> set[str]:
        # changed in place, it is made of the layer's own output already
        return self._layers_of(tensor) - ({seen.call.layer} if tensor is result else set())

    # what is known --------------------------------------------------------------------------------------------

    def flow(self, name: str) -> LayerFlow:
        """What the run told of a layer."""
        calls = self.seen[name]
        first = calls[0].call
        earlier = set(list(self.seen)[: list(self.seen).index(name)])
        gain = self._gain(calls, earlier)
        before = frozenset().union(*(seen.before for seen in calls))
        return LayerFlow(
            name,
            first.inputs,
            first.groups,
            calls[0].y.shape[first.dim],
            tuple(seen.call.places(seen.y) / self._images for seen in calls),
            before if gain is None else before.union(*(seen.others for seen in calls)),
            first.bias is not None and {id(seen.call.bias) for seen in calls} <= self._own.keys(),
            self._norm(calls),
            gain,
            tuple(len(seen.trail.steps) for seen in calls),
            any(seen.changes_input for seen in calls),
        )

    def _norm(self, calls: list[_Seen]) -> str | None:
        names = set()
        for seen in calls:
            steps = seen.trail.steps
            if not steps or not steps[0].is_norm or seen.read_again == 0:
                return None
            names.add(self._own.get(id(steps[0].statistic), ""))
            used = self._norm_calls[id(steps[0].statistic)]
        name = names.pop()
        if names or not name.endswith(".running_mean") or used != len(calls):
            return None
        return name.removesuffix(".running_mean")

    def _gain(self, calls: list[_Seen], earlier: set[str]) -> Tensor | None:
        ends = all(s.trail.sum is not None and s.is_alone and s.others <= earlier for s in calls)
        slope = self._slope(calls) if self._sums and ends else None
        if slope is None:
            return None
        return slope / (slope.square() + (SMALL_SLOPE * slope.abs().mean()).square()).clamp_min(1e-30)

    @staticmethod
    def _slope(calls: list[_Seen]) -> Tensor | None:
        """Slope (outputs,) of the steps of all calls; None where it is not the same everywhere."""
        rows = torch.cat([seen.call.outputs(seen.trail.slope(seen.y)).double() for seen in calls])
        return rows[0] if torch.allclose(rows, rows[:1].expand_as(rows), rtol=1e-3, atol=1e-6) else None


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
