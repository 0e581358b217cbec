"""Refit: the weights that are left after a cut, fitted anew so that each layer gives what the original's gave.

Layer by layer, in the order in which the network calls them, in closed form: the input is what the small network gives
now, its earlier layers already fitted, the target is what the full network gives there. So a layer makes up for what
was cut in front of it (Channel Pruning, arXiv:1707.06168, sections 3.1 and 3.2). Where the output is added to another
tensor, the target makes up for that tensor's error too (section 3.3).

Shape letters: N images, P rows, G groups of a conv, K numbers that make one output, O outputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph import evaluating, kind_of
from mmrazor_lite.models.calls import Call, weights_of
from mmrazor_lite.models.mutators import OneShotChannelMutator
from mmrazor_lite.models.ops import active_of

from .layer_flow import LayerFlow, layer_flows
from .layer_rows import Images, RowPlan
from .layer_work import LayerWork
from .least_squares import Fit
from .out_of_memory import is_out_of_memory
from .shared_original import Original, Runs
from .waiting_runs import WaitingRuns

Kept = Mapping[str, tuple[np.ndarray, np.ndarray]]  # layer -> its inputs, its outputs: whether each channel is kept
UNTOUCHED = "nothing changed in front of it"  # what is said of a layer that needs no fit
UNCHANGED = 1e-5  # relative error of a layer to which nothing happened; single precision stays below
FEWEST_INPUTS = 64


@dataclass
class LayerFit:
    """What a fit did to a layer.

    Attributes:
        layer: Its name.
        before, after: Error of its output relative to how much the target varies, root of the mean square.
        rows: Outputs of each channel that were looked at.
        intercept: Where a constant went: ``'bias'``, ``'norm'`` (the mean of the batch norm behind), ``'none'``.
        shortcut: Whether the target makes up for the error of the tensor that the output is added to.
    """

    layer: str
    before: float
    after: float
    rows: int
    intercept: str
    shortcut: bool


@dataclass(frozen=True)
class RefitOptions:
    """How layers are fitted.

    Attributes:
        ridge: Of the mean square of an input: how much a change of the weights costs.
        shortcuts: Make up for the error of the tensor that an output is added to.
        most_inputs: Of a layer with more numbers that make an output, some are fitted after others.
        held_bytes: Memory for runs of either network that wait for a fit; with less, some begin anew for a layer.
    """

    ridge: float = 1e-3
    shortcuts: bool = True
    most_inputs: int = 2304
    held_bytes: int = 640 * 2**20


@dataclass
class RefitReport:
    """What :func:`refit` did: the layers in their order, those that stay, with the reason, and what else to know."""

    layers: list[LayerFit] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def kept_channels(
    mutator: OneShotChannelMutator, subnet: Mapping[str, int]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each layer that makes channels and has some that may go: which inputs and which outputs a subnet keeps."""
    full = mutator.search_space.max()
    kept = np.array([subnet[group] * units // full[group] for group, units in mutator.unit_counts.items()])
    found = {}
    for member in mutator.members:
        if member.kind is not None and member.kind.makes_channels and member.name == "weight":
            active = active_of(mutator.architecture.get_submodule(member.layer))
            found[member.layer] = tuple(side.side.active(kept) for side in (active.inputs, active.outputs))
    return found


@torch.no_grad()
def refit(
    small: nn.Module,
    full: nn.Module,
    kept: Kept,
    batches: Iterable[tuple[Tensor, Any]],
    ridge: float = 1e-3,
    original: Original | None = None,
    **options: Any,
) -> RefitReport:
    """Fit every layer of ``small`` whose input changed, in place, to what ``full`` gives.

    Args:
        small: The network that is left, plain, with the first channels of ``full``.
        full: The network before, all widths active.
        kept: See :func:`kept_channels`; what is not named keeps all channels.
        batches: (images (N, C, H, W), targets, which are not looked at); normalised.
        ridge: Of the mean square of an input: how much a change of the weights costs.
        original: ``full`` on the same ``batches``, which several refits share; it says at which places they look.
        options: Others of :class:`RefitOptions`.

    Raises:
        UserError: There is no image.
    """
    start = time.perf_counter()
    with evaluating(small), evaluating(full):
        work = _Refit(small, full, kept, batches, RefitOptions(ridge, **options), original)
        work.run()
    work.report.seconds = time.perf_counter() - start
    return work.report


class _Refit:
    def __init__(
        self,
        small: nn.Module,
        full: nn.Module,
        kept: Kept,
        batches: Iterable,
        options: RefitOptions,
        original: Original | None,
    ) -> None:
        self.small, self.full, self.options, self.original = small, full, options, original
        self.images = Images(batches, next(small.parameters())) if original is None else original.images
        self.outputs = {name: torch.from_numpy(outputs) for name, (_, outputs) in kept.items() if not outputs.all()}
        self.report = RefitReport()

    def run(self) -> None:
        _, first = next(self.images.first(1), (0, None))
        if first is None:
            raise UserError("refit: the data yields no image; at least one is needed")
        self.flows = layer_flows(self.small, first[:2], self.options.shortcuts)
        self.plans = RowPlan.all_of(self.flows, self.images) if self.original is None else self.original.plans
        self._name_the_unseen()
        waiting = self.flows, self.plans, self.images, self.options.held_bytes
        self.runs = WaitingRuns(self.small, *waiting)
        self.aims: Runs = WaitingRuns(self.full, *waiting, False) if self.original is None else self.original.runs()
        with closing(self.runs), closing(self.aims):
            for name, _ in zip(self.runs.layers(), self.aims.layers(), strict=True):
                if self._is_changed(name):
                    self._fit_layer(name)
                else:
                    self.report.skipped[name] = UNTOUCHED

    def _name_the_unseen(self) -> None:
        known = {name for name, _ in weights_of(self.small).values()}
        for name in sorted(known - self.flows.keys()):
            self.report.skipped[name] = "no image runs through it"
        for name, module in self.small.named_modules():
            kind = kind_of(module)
            if kind is not None and kind.makes_channels and name not in known:
                self.report.skipped[name] = "it computes with its weight before the call, or shares it"

    def _is_changed(self, name: str) -> bool:
        """Whether the output of a layer is not what it should be, by the first images."""
        lacking = varying = 0.0

        def look(call: Call, x: Tensor | None, target: Tensor, lacks: Tensor, judges: Tensor) -> None:
            nonlocal lacking, varying
            lacking += float(lacks.double().square().sum())
            varying += float((target - target.mean(0)).double().square().sum())

        self._meet(name, look, 1, patches=False)
        return not lacking <= UNCHANGED**2 * max(varying, 1e-30)  # what is not finite has changed

    def _meet(self, name: str, look: Callable, batches: int | None = None, patches: bool = True) -> None:
        """``look(call, x, target, what the output lacks, which rows judge)`` for each call of a layer."""
        flow, kept = self.flows[name], self.outputs.get(name)
        stops = zip(self.runs.stops(name, batches), self.aims.stops(name, batches), strict=True)
        for (batch, stop), (_, aim) in stops:
            target = aim.rows_at(kept)
            lacks = target - stop.rows
            if stop.beside is not None:
                gain = flow.gain.to(target)
                target = target + aim.beside_at(kept) * gain
                lacks = target - stop.rows - stop.beside * gain
            x = stop.call.patches(stop.places) if patches else None
            look(stop.call, x, target, lacks, self.images.judges(flow, stop.call.index, batch, stop.places))

    # fits -----------------------------------------------------------------------------------------------------

    def _fit_layer(self, name: str) -> None:
        if self.flows[name].inputs > self.options.most_inputs:
            self._in_pieces(name, self.options.most_inputs)
        else:
            self._guarded(name, None)

    def _guarded(self, name: str, piece: slice | None) -> None:
        """Fit; where memory runs out, some inputs at a time."""
        try:
            self._fit(name, piece)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return
        self.runs.close()
        self.aims.close()
        size = self.flows[name].inputs if piece is None else piece.stop - piece.start
        self._smaller(name, size // 2, piece)

    def _smaller(self, name: str, size: int, within: slice | None) -> None:
        if size < FEWEST_INPUTS:
            self.report.skipped[name] = "memory ran out"
            return
        self.report.notes.append(f"{name}: memory ran out, so {size} inputs are fitted at a time")
        self._in_pieces(name, size, within)

    def _in_pieces(self, name: str, size: int, within: slice | None = None) -> None:
        total = self.flows[name].inputs
        if within is None and size == self.options.most_inputs:
            self.report.notes.append(f"{name}: {total} numbers make an output, {size} of them are fitted at a time")
        start, stop = (0, total) if within is None else (within.start, within.stop)
        for at in range(start, stop, size):
            self._guarded(name, slice(at, min(at + size, stop)))

    def _fit(self, name: str, piece: slice | None) -> None:
        work = LayerWork(piece)
        self._meet(name, work)
        if work.is_finite:
            self._take(name, work)
            self.runs.changed(name)
        else:
            self.report.skipped[name] = "what it reads, or should give, is not finite"

    def _take(self, name: str, work: LayerWork) -> None:
        flow = self.flows[name]
        fit, before, after = work.solved(self.options.ridge, flow.bias or flow.norm is not None)
        self._write(work.call, flow, fit, work.piece)
        known = next((entry for entry in self.report.layers if entry.layer == name), None)
        if known is not None:  # another piece of it
            known.after = after
            return
        where = "bias" if flow.bias else "norm" if flow.norm is not None else "none"
        rows = work.judged.rows + work.fitted.rows
        self.report.layers.append(LayerFit(name, before, after, rows, where, flow.gain is not None))

    def _write(self, call: Call, flow: LayerFlow, fit: Fit, piece: slice | None) -> None:
        change = fit.weight
        if piece is not None:
            change = change.new_zeros((flow.groups, flow.inputs, change.shape[2]))
            change[:, piece] = fit.weight
        call.weight.add_(call.as_weight(change).to(call.weight))
        if flow.bias:
            call.bias.add_(fit.intercept.to(call.bias))
        elif flow.norm is not None:
            mean = self.small.get_submodule(flow.norm).running_mean
            mean -= fit.intercept.to(mean)
