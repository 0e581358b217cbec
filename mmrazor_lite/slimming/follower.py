"""Follows the outputs of some layers through a run of a network to the tensors that they are added to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mmrazor_lite.models.calls import Call, Calls, Enough, Watcher, weights_of

from .layer_flow import LayerFlow
from .trails import Trail, tensors_in

# called with the tensor that an output is added to, of the shape of the output, or None; says whether the layer's
# weight was changed meanwhile
Finish = Callable[[Tensor | None], bool]


@dataclass(eq=False)
class _Open:
    """A call whose trail is followed to its sum; ``like`` has the shape of its output, which is not held."""

    call: Call
    like: Tensor
    trail: Trail
    steps: int
    finish: Finish


class Follower:
    """A watcher that hands over calls of some layers, each as soon as it is known what its output is added to.

    Where the weight of a layer is changed meanwhile, the run goes on with what the layer gives by now.

    Args:
        flows: The layers; the run is stopped behind their last call.
        visit: Called with a call and its output. What it gives is called with the tensor added to the output, of the
            shape of the output; None where it does not matter. By then the sum may have changed the output in place,
            and it has not changed ``call.x``.
    """

    def __init__(self, flows: Mapping[str, LayerFlow], visit: Callable[[Call, Tensor], Finish]) -> None:
        self._flows, self._visit = flows, visit
        self._left = sum(len(flow.places) for flow in flows.values())
        self._open: list[_Open] = []

    def before(self, call: Call) -> None:
        pass

    def after(self, call: Call, y: Tensor) -> None:
        self._step(None, (call.x, call.weight), {}, y)
        flow = self._flows.get(call.layer)
        if flow is None:
            return
        if flow.gain is not None and flow.changes_input:
            call.x = call.x.clone()
        finish = self._visit(call, y)
        if flow.gain is not None:
            like = y.new_empty(()).expand(y.shape)
            self._open.append(_Open(call, like, Trail(y), flow.steps[call.index], finish))
        elif self._finished(finish, None):
            y.copy_(call.output())

    def other(self, function: Callable, args: tuple, kwargs: Mapping, result: Any) -> None:
        if self._open and isinstance(result, Tensor):
            self._step(function, args, kwargs, result)

    def _step(self, function: Callable | None, args: tuple, kwargs: Mapping, result: Tensor) -> None:
        read = {id(tensor) for tensor in tensors_in((args, kwargs))} if self._open else ()
        for entry in [entry for entry in self._open if id(entry.trail.value) in read]:
            trail = entry.trail
            step = Trail.step(trail.value, function, args, kwargs)
            if len(trail.steps) < entry.steps:
                trail.steps.append(step.without())
                trail.value = result
                continue
            trail.sum, trail.result = step, result
            self._open.remove(entry)
            other = trail.other()
            if self._finished(entry.finish, trail.back(other, entry.like)):
                value = entry.call.output()
                for step in trail.steps:
                    value = step(value)
                result.copy_(value + other)

    def _finished(self, finish: Finish, other: Tensor | None) -> bool:
        changed = finish(other)
        self._left -= 1
        if self._left == 0:
            raise Enough
        return changed


def run_until(network: nn.Module, images: Tensor, watcher: Watcher) -> None:
    """Run a network until a watcher has seen enough."""
    try:
        with Calls(weights_of(network), watcher):
            network(images)
    except Enough:
        pass
