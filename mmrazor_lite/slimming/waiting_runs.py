"""Runs of a network side by side: those of all batches wait behind each layer until its weight is fitted.

Those of a network that is only looked at wait in front of the next layer, where they hold least. So each run goes
through the network once, whatever the depth. What it needs to go on is what it holds itself; where that takes too much
memory, runs are given up, and start anew for the next layer.

Shape letters: P rows, O outputs.
"""

from __future__ import annotations

import copy
import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from mmrazor_lite.models.calls import Call

from .follower import Finish, Follower, run_until
from .halting import AskedOps, Halting
from .layer_flow import LayerFlow
from .layer_rows import Images, RowPlan
from .out_of_memory import is_out_of_memory
from .trails import tensors_in


class Stop:
    """Where a run waits.

    Attributes:
        layer: Behind a call of which it does.
        call: The call; None in a network that is only looked at.
        places: Of its outputs, those of the plan: (P,).
        beside: What the outputs there are added to, (P, O); None where it does not matter.
        is_changed: Whether the weight was, since the run stopped.
    """

    def __init__(self, layer: str, call: Call | None, places: Tensor, rows: Tensor, beside: Tensor | None) -> None:
        self.layer, self.call, self.places, self.beside = layer, call, places, beside
        self.is_changed = False
        self._rows: Tensor | None = rows

    @property
    def rows(self) -> Tensor:
        """What the call gives at the places, with the weight as it is now: (P, O)."""
        if self._rows is None:
            self._rows = self.call.outputs(self.call.output(), self.places)
        return self._rows

    def rows_at(self, kept: Tensor | None) -> Tensor:
        """Those of some channels, a mask (O,); of all without."""
        return _some(self.rows, kept)

    def beside_at(self, kept: Tensor | None) -> Tensor:
        """What the outputs of some channels are added to."""
        return _some(self.beside, kept)

    def change(self) -> None:
        """Say that the weight was changed."""
        self.is_changed, self._rows = True, None


def _some(rows: Tensor, kept: Tensor | None) -> Tensor:
    return rows if kept is None else rows[:, kept.to(rows.device)]


class WaitingRuns:
    """The runs of all batches through one network, in whose order the layers are gone through.

    Args:
        network: Its weights may be changed where ``is_fitted``, those of the layer that :meth:`layers` has given.
        flows, plans: Of the layers, in the order of their first calls.
        images: See ``Images``.
        most_bytes: What runs that wait may hold, all together.
    """

    def __init__(
        self,
        network: nn.Module,
        flows: Mapping[str, LayerFlow],
        plans: Mapping[str, RowPlan],
        images: Images,
        most_bytes: int,
        is_fitted: bool = True,
    ) -> None:
        self._network, self._flows, self._plans, self._images = network, flows, plans, images
        self._most_bytes, self._is_fitted = most_bytes, is_fitted
        self._left: list[str] = []  # layers that runs still stop at
        self._runs: dict[int, _Run] = {}

    def layers(self) -> Iterator[str]:
        """Layer after layer; all before it in the network's order have been given."""
        for once, names in itertools.groupby(self._flows, lambda name: len(self._flows[name].places) == 1):
            if not once:  # a run cannot go on to a second call before the fit, and not back to the first one after it
                for name in names:
                    self.close()
                    yield name
                continue
            self.close()
            self._left = list(names)
            while self._left:
                stop = self._next(0)
                if stop is None:
                    break
                name = stop.layer
                yield name
                self._left.remove(name)
        self.close()

    def stops(self, name: str, batches: int | None = None) -> Iterator[tuple[int, Stop]]:
        """(number of the batch, where its run stops) for every call of the layer that is at hand.

        Args:
            batches: Look at so many, the first ones; by default at all of the plan.
        """
        for batch in range(min(batches or self._plans[name].batches, self._plans[name].batches)):
            if len(self._flows[name].places) > 1:
                yield from self._passing(name, batch)
                continue
            stop = self._at(name, batch)
            if stop is not None:
                yield batch, stop
            if sum(run.bytes for run in self._runs.values()) > self._most_bytes:
                self._give_up(batch)

    def changed(self, name: str) -> None:
        """Say that the weight of the layer at hand was changed."""
        for run in self._runs.values():
            if run.stop is not None and run.stop.layer == name:
                run.stop.change()

    def close(self) -> None:
        """Give up all runs."""
        for batch in list(self._runs):
            self._give_up(batch)

    def _passing(self, name: str, batch: int) -> Iterator[tuple[int, Stop]]:
        run = self._run(batch, [name])
        try:
            while run.next() is not None:
                yield batch, run.stop
        finally:
            run.close()

    def _at(self, name: str, batch: int) -> Stop | None:
        """The stop of a batch at the layer at hand; a layer that nobody looked at may lie before it."""
        run = self._runs.get(batch)
        stop = None if run is None else run.stop
        while stop is None or stop.layer != name:
            stop = self._next(batch)
            if stop is None:
                return None
        return stop

    def _next(self, batch: int) -> Stop | None:
        if batch not in self._runs:
            self._runs[batch] = self._run(batch, self._left)
        try:
            return self._runs[batch].next()
        except BaseException as error:
            others = len(self._runs) > 1
            self.close()
            if others and is_out_of_memory(error):
                return self._next(batch)
            raise

    def _run(self, batch: int, names: list[str]) -> _Run:
        due = {name: self._flows[name] for name in names if self._plans[name].batches > batch}
        return _Run(self._network, self._images, batch, due, self._plans, self._is_fitted)

    def _give_up(self, batch: int) -> None:
        self._runs.pop(batch).close()


class _Run:
    """The run of one batch, that waits at every call of some layers.

    It has modules of its own, which hold the same tensors: some keep what they saw until they are called again.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Images,
        batch: int,
        flows: Mapping[str, LayerFlow],
        plans: Mapping[str, RowPlan],
        is_fitted: bool,
    ) -> None:
        self.stop: Stop | None = None
        self.bytes = 0
        self._network = _twin(network)
        self._inputs = images[batch]
        self._batch, self._flows, self._plans, self._is_fitted = batch, flows, plans, is_fitted
        self._halting = Halting(self._work, self._inputs.device.type)

    def next(self) -> Stop | None:
        """Where it stops next; None at the end."""
        self.stop = None
        self.stop = self._halting.next()
        return self.stop

    def close(self) -> None:
        self._halting.close()
        self.stop, self.bytes = None, 0

    def _work(self, halt: Callable[[Stop], None]) -> None:
        seen: list[Stop] = []  # and not handed over yet

        def hand_over() -> None:
            while seen:
                self.bytes = weighed.bytes
                halt(seen.pop(0))

        def visit(call: Call, y: Tensor) -> Finish:
            flow = self._flows[call.layer]
            places = self._plans[call.layer].places(flow, call.index, self._batch, len(self._inputs)).to(y.device)
            rows = call.outputs(y, places)

            def finish(other: Tensor | None) -> bool:
                beside = None if other is None else call.outputs(other, places)
                stop = Stop(call.layer, call if self._is_fitted else None, places, rows, beside)
                seen.append(stop)
                if self._is_fitted:
                    hand_over()
                return stop.is_changed

            return finish

        weighed = _Weighed(Follower(self._flows, visit), hand_over)
        is_on_cpu = self._inputs.device.type == "cpu"
        with AskedOps(self._halting) if is_on_cpu else nullcontext():
            run_until(self._network, self._inputs, weighed)
            hand_over()
        self.bytes = 0


def _twin(network: nn.Module) -> nn.Module:
    """Modules of their own around the same parameters and buffers."""
    shared = itertools.chain(network.parameters(), network.buffers())
    return copy.deepcopy(network, {id(tensor): tensor for tensor in shared})


class _Weighed:
    """A watcher in front of another one that knows what the run holds of all that it has made.

    Args:
        watcher: The other one.
        before: Called before every call of a layer.
    """

    def __init__(self, watcher: Follower, before: Callable[[], None]) -> None:
        self._watcher, self._before = watcher, before
        self._made: list[weakref.ref[Tensor]] = []

    @property
    def bytes(self) -> int:
        self._made = [made for made in self._made if made() is not None]
        storages = {s.data_ptr(): s.nbytes() for made in self._made if (s := _storage(made())) is not None}
        return sum(storages.values())

    def before(self, call: Call) -> None:
        self._before()
        self._watcher.before(call)

    def after(self, call: Call, y: Tensor) -> None:
        self._made.append(weakref.ref(y))
        self._watcher.after(call, y)

    def other(self, function: Callable, args: tuple, kwargs: Mapping, result: Any) -> None:
        self._made += map(weakref.ref, tensors_in(result))
        self._watcher.other(function, args, kwargs, result)


def _storage(tensor: Tensor | None) -> torch.UntypedStorage | None:
    return None if tensor is None or tensor.is_sparse else tensor.untyped_storage()
