"""A latency table of a network whose widths were found by tracing: what its ops take, each distinct one once.

Shape: S subnets.
"""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
from scipy.optimize import nnls
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph import OpCall, chained
from mmrazor_lite.graph.op_chains import POINTWISE
from mmrazor_lite.search.offered import offered, that_pay
from mmrazor_lite.subnet import SearchSpace

from .cells import Cell
from .latency_measuring import check_numbers, facts_of_repeats, measure
from .latency_parts import Job, add_job, plan_networks, plan_nothing
from .latency_report import Report, suggest
from .latency_table import NETWORK, LatencyTable
from .measure import COMPILED, Measures
from .measurement_log import Journal
from .op_runs import OpRun
from .runtime_timers import RUNTIMES
from .steady_rounds import spread
from .width_curves import Curve, Priced, WidthCurves, never_falling
from .width_steps import Stair, heaviest, lanes_of, paying_steps, stairs_of

FOR_BASE, FOR_BASE_WRITTEN = 24, 8  # whole networks that say what is there beside ops, and how long these take inside;
# of those that are written for another runtime, or compiled, fewer: that takes longer than to run them
SHARES = {False: (1 / 4, 1 / 2, 3 / 4), True: (1 / 4, 1 / 2)}  # of the channels of an axis that are measured first,
# beside the fewest and all; of ops that are written for another runtime fewer, since that takes as long as to run them
FEW = 3  # repeats that tell a step from chance
LANES = 16  # channels that are computed together: what is measured are multiples, where there are that many; blocks of
# a runtime hold so many
ROUNDS = 4  # times that widths are looked at between those that were measured
STEP = 0.1  # of an op's time: what is that far from the line between its neighbours is a step
MATTERS = 0.002  # of the time of all ops at full width: steps below it are not looked for
SAME = 1.02  # times as long: below, the layout of tensors makes no difference
SMALLEST, JITTER = 0.3, 0.2  # shares of the widths of networks that are drawn, and of one group beside the others


@runtime_checkable
class HasCalls(Protocol):
    """A mutator whose network was traced, and whose ops follow its widths."""

    architecture: nn.Module
    calls: list[OpCall]


def build_width_table(
    mutator: Any,
    bench: Measures,
    journal: str | os.PathLike,
    *,
    checks: int = 20,
    repeats: int = 11,
    min_seconds: float = 0.01,
    seed: int = 0,
    apply_correction: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Measure what the ops of a traced network take over a grid of widths.

    An op is measured once for all places with the same sizes; the least of its repeats counts, without what a run of
    nothing takes. Where an op steps between two widths of the grid, it is measured there too. A line through the
    times of a few whole networks says what is there beside: calls, views and all that no width changes; and how much
    longer ops take inside a network than alone. Of a runtime half of these networks have widths that fill its blocks
    of channels, and ops that read others get a factor of their own.

    Args:
        mutator: A prepared ``OneShotChannelMutator``.
        bench, journal, checks, repeats, min_seconds, seed, apply_correction, progress: See
            :func:`~mmrazor_lite.estimators.latency_build.build_table`.

    Raises:
        UserError: No width to choose, an op that the backend lacks, a number out of range, a journal of others.
    """
    check_numbers(checks, repeats, seed)
    if not isinstance(mutator, HasCalls):
        raise UserError(f"a latency table needs a network that is prepared; this {type(mutator).__name__} has none")
    if not mutator.calls:
        raise UserError("a latency table needs choices: no op of this network has a width that can be chosen")
    space, facts = mutator.search_space, facts_of(mutator, bench)
    backend = facts.get("backend", "torch")
    called, fused = run_by(mutator.calls, backend), backend in RUNTIMES
    base_rows, check_rows = _rows(space, backend, checks, np.random.default_rng([seed, 1]))
    jobs: dict[str, Job] = {}
    nothing = plan_nothing(jobs)
    networks = plan_networks(mutator, jobs, [base_rows, check_rows])
    whole = set(jobs)
    book = Journal(journal, {"space": space.fingerprint, **facts})

    def times() -> Times:
        measure(jobs, bench, book, repeats, min_seconds, seed, progress)
        # Networks as what is delivered is timed; of ops, whose factors are fitted to that, the least varies least.
        found = {key: float((np.median if key in whole else np.min)(book.times[key])) for key in jobs}
        own = {key: max(ms - found[nothing], 0.0) for key, ms in found.items()}
        return Times(own, {key: spread(book.times[key]) if repeats >= FEW else math.inf for key in jobs})

    grids = _distinct(called, facts["batch_size"], 0 if fused else held_bytes(mutator), SHARES[fused])
    _measured(grids.values(), jobs, times)
    stairs = _stairs(grids, times(), jobs, depthwise=not fused)
    own = times().ms
    number = {key: index for index, key in enumerate(grids)}
    calls = [Priced(call.name, number[call.key], call.axes) for call in called]
    beside = {key: {point: own[job] for point, job in grids[key].keys.items()} for key in stairs}
    narrow = [key for key in stairs if len(grids[key].knots) == 1 and stairs[key] and not fused]
    lanes = {key: lanes_of(stairs[key][0], beside[key]) for key in narrow}
    alone = WidthCurves(space, [grid.curve(own, *lanes.get(key, (1, 1.0))) for key, grid in grids.items()], calls)
    known, measured = (np.array([own[key] for key in keys]) for keys in networks)
    base, factor, curves = _inside(alone, base_rows, known, fused)
    found = {**facts_of_repeats(jobs, book), "inside": round(factor, 4)}
    predicted = base + curves(check_rows)
    fix = suggest(predicted, measured, apply_correction)
    steps = paying_steps(space, called, stairs, beside)
    table = LatencyTable(space, Cell("", (), np.array([base])), [], {**facts, **found}, fix, widths=curves, steps=steps)
    return Report(table, predicted, measured, len(calls), len(jobs) - len(whole))


def _rows(space: SearchSpace, backend: str, checks: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Networks (S, D) that say what is there beside ops, and networks to check on; half of a runtime's fill lanes."""
    for_base = FOR_BASE if backend == "torch" else FOR_BASE_WRITTEN
    base_rows, check_rows = draw_widths(space, for_base, rng), draw_widths(space, checks, rng)
    if backend in RUNTIMES:
        base_rows = np.concatenate([base_rows, draw_aligned(space, for_base, rng)])
        check_rows[::2] = draw_aligned(space, checks, rng)[::2]
    return base_rows, check_rows


def _inside(alone: WidthCurves, rows: np.ndarray, known: np.ndarray, fused: bool) -> tuple[float, float, WidthCurves]:
    """What networks take beside their ops, how many times longer these take in them, and their curves there.

    Args:
        alone: What ops take alone.
        rows: (S, D) of the networks.
        known: (S,) what they take.
        fused: Whether ops beside the lanes get a factor of their own.
    """
    if fused:
        twice = [replace(curve, lanes=LANES, beside=2.0) for curve in alone.curves]
        more = WidthCurves(alone.space, twice, alone.calls)(rows) - alone(rows)
        base, factor, longer = of_layouts(alone(rows), more, known)
    else:
        (base, factor), longer = line_through(alone(rows), known), 1.0
    inside = [replace(curve, ms=factor * curve.ms) for curve in alone.curves]
    if longer > 1:
        inside = [replace(curve, lanes=LANES, beside=longer) for curve in inside]
    return base, factor, WidthCurves(alone.space, inside, alone.calls)


def line_through(predicted: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    """Offset and slope of the line through points (S,): medians over all pairs, which single slow points do not move.

    The slope is 1 where all points are of one size, or the line falls; a line that would begin below 0 begins there.
    Source: Theil and Sen, see scipy's theilslopes.
    """
    first, second = np.triu_indices(len(predicted), 1)
    apart = predicted[second] - predicted[first]
    far = np.abs(apart) > 0.05 * np.abs(predicted).max()
    slopes = (measured[second] - measured[first])[far] / apart[far]
    slope = float(np.median(slopes)) if far.any() else 1.0
    slope = slope if slope > 0 else 1.0
    offset = float(np.median(measured - slope * predicted))
    return (offset, slope) if offset >= 0 else (0.0, float(np.median(measured / predicted)))


def of_layouts(ms: np.ndarray, beside: np.ndarray, measured: np.ndarray) -> tuple[float, float, float]:
    """Offset, slope, and how many times longer ops take whose inputs have no multiple of :data:`LANES` channels.

    A runtime lays tensors out in blocks of so many channels. An op alone pays for the way into the blocks and back;
    in a network it does not, unless its channels fill no blocks: then it is computed without them.

    Args:
        ms: (S,) what the ops of networks take alone, in sum.
        beside: (S,) of that the ops with such inputs.
        measured: (S,) what the networks take.
    """
    weighed = np.stack([np.ones(len(ms)), ms - beside, beside], 1) / measured[:, None]
    (offset, slope, slope_beside), _ = nnls(weighed, np.ones(len(ms)))  # relative errors count
    if slope <= 0 or slope_beside < SAME * slope:  # one slope will do, or there are no such ops
        return (*line_through(ms, measured), 1.0)
    return float(offset), float(slope), float(slope_beside / slope)


def facts_of(mutator: Any, bench: Measures) -> dict[str, Any]:
    """What decides about the times of a network, as plain data: of the bench, and of the network."""
    numbers = [tensor for tensor in mutator.architecture.parameters() if tensor.is_floating_point()]
    own = {
        "dtype": str(numbers[0].dtype).removeprefix("torch.") if numbers else "float32",
        "channels_last": False,
        "input_shape": list(mutator.input_shape),
    }
    return {**own, **bench.facts(), NETWORK: mutator.cost_model.fingerprint}


def draw_widths(space: SearchSpace, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random rows (S, D) of small to large networks: widths about one share of the full ones."""
    sizes = np.array([len(choice.candidates) for choice in space.values()])
    full = np.array([choice.candidates[-1] for choice in space.values()], np.float64)
    shares = rng.uniform(SMALLEST, 1, (count, 1)) + rng.uniform(-JITTER, JITTER, (count, len(full)))
    rows = np.zeros((count, len(full)), np.int64)
    for column, choice in enumerate(space.values()):
        widths = np.asarray(choice.candidates, np.float64)
        rows[:, column] = np.searchsorted(widths, np.clip(shares[:, column], 0, 1) * full[column])
    return np.minimum(rows, sizes - 1)


def draw_aligned(space: SearchSpace, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows (S, D) as :func:`draw_widths` draws them, of multiples of :data:`LANES` channels alone, and of all."""
    kept = that_pay(space, dict.fromkeys(space, LANES))
    rows = draw_widths(offered(space, kept), count, rng)
    return np.stack([indices[rows[:, column]] for column, indices in enumerate(kept)], 1)


@dataclass(frozen=True)
class Times:
    """Of every job: milliseconds without what a run of nothing takes, and how far its repeats lie apart, as a share."""

    ms: Mapping[str, float]
    spread: Mapping[str, float]


@dataclass
class _Grid:
    """A distinct op while it is measured.

    Attributes:
        call: The op.
        count: How often the network runs it.
        make: Channels of its axes -> the module that runs it.
        knots: Of each axis the channels that are measured, ascending.
        settled: (axis, gap between two knots) that needs no knot.
        keys: Channels -> the key of their job.
    """

    call: OpCall
    count: int
    make: Callable[[tuple[int, ...]], OpRun]
    knots: list[list[int]]
    settled: set[tuple[int, int, int]] = field(default_factory=set)
    keys: dict[tuple[int, ...], str] = field(default_factory=dict)

    def plan(self, jobs: dict[str, Job], points: Iterable[tuple[int, ...]]) -> None:
        """Let measurements at these channels join the others."""
        for point in points:
            if point not in self.keys:
                label = f"{self.call.kind} of {' to '.join(map(str, point))} channels"
                job = Job(partial(self.make, point), (1, 1, 1), label)
                self.keys[point] = add_job(jobs, job, (self.call.key, point))

    @property
    def points(self) -> list[tuple[int, ...]]:
        """All channels of the grid."""
        return list(itertools.product(*self.knots))

    def full(self, times: Times) -> float:
        """What all calls take at full width."""
        return self.count * times.ms[self.keys[self.call.fulls]]

    def probes(self) -> Iterator[tuple[int, tuple[int, int], tuple[int, ...]]]:
        """(axis, gap, channels inside of it) of every gap that is not settled."""
        for axis, line in enumerate(self.knots):
            for gap in itertools.pairwise(line):
                inside = _between(*gap, self.call.steps[axis])
                if inside is not None and (axis, *gap) not in self.settled:
                    yield axis, gap, self._at(axis, inside)

    def refine(self, times: Times) -> bool:
        """Add a knot where the op is far from the line between two of them; the other gaps are settled.

        On a busy machine, far is more: what repeats differ by is no step.

        Returns:
            Whether there is a new one.
        """
        new = []
        for axis, gap, point in self.probes():
            ends = [self.keys[self._at(axis, end)] for end in gap]
            line = float(np.interp(point[axis], gap, [times.ms[key] for key in ends]))
            key = self.keys[point]
            doubt = max(times.spread[key] for key in (key, *ends))
            if abs(times.ms[key] - line) > (STEP + doubt) * line:
                new.append((axis, point[axis]))
            else:
                self.settled.add((axis, *gap))
        for axis, inside in new:
            self.knots[axis] = sorted({*self.knots[axis], inside})
        return bool(new)

    def curve(self, ms: Mapping[str, float], lanes: int, beside: float) -> Curve:
        """What was measured; of one axis, of multiples of the lanes."""
        times = np.array([ms[self.keys[point]] for point in self.points]).reshape([len(line) for line in self.knots])
        if lanes > 1:
            times = times / np.where(np.array(self.knots[0]) % lanes, beside, 1.0)
        sizes = " to ".join(map(str, self.call.fulls))
        what = f"{self.call.kind} of up to {sizes} channels, as in {self.call.name or 'the network'}"
        return Curve(what, tuple(np.array(line) for line in self.knots), never_falling(times), lanes, beside)

    def _at(self, axis: int, channels: int) -> tuple[int, ...]:
        """So many channels of one axis, all of the other."""
        return (*self.call.fulls[:axis], channels, *self.call.fulls[axis + 1 :])


def run_by(calls: Sequence[OpCall], backend: str) -> list[OpCall]:
    """What a backend runs as one: a call, or several in a row.

    Runtimes join a convolution and what is pointwise behind it. ``torch.compile`` joins what is pointwise, and calls
    the kernels of all else.
    """
    if backend in RUNTIMES:
        return chained(calls)
    return chained(calls, POINTWISE) if backend == COMPILED else list(calls)


def held_bytes(mutator: HasCalls) -> int:
    """What the weights of the whole network take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in mutator.architecture.parameters())


def _distinct(calls: Sequence[OpCall], images: int, held: int, shares: Sequence[float]) -> dict[str, _Grid]:
    """Key -> each distinct op, on its first grid."""
    counts, found = Counter(call.key for call in calls), {}
    for call in calls:
        if call.key not in found:
            make = partial(OpRun, call, images=images, held_bytes=held)
            knots = [_first(call, axis, shares) for axis in range(len(call.axes))]
            found[call.key] = _Grid(call, counts[call.key], make, knots)
    return found


def _measured(grids: Collection[_Grid], jobs: dict[str, Job], measured: Callable[[], Times]) -> Times:
    """Measure grids, and between their widths where that matters and an op steps there."""
    for grid in grids:
        grid.plan(jobs, grid.points)
    times = measured()
    total = sum(grid.full(times) for grid in grids)
    heavy = [grid for grid in grids if STEP * grid.full(times) > MATTERS * total]
    for _ in range(ROUNDS):
        for grid in heavy:
            grid.plan(jobs, [point for *_, point in grid.probes()])
        times = measured()
        heavy = [grid for grid in heavy if grid.refine(times)]
        for grid in heavy:
            grid.plan(jobs, grid.points)
        times = measured()
        if not heavy:
            break
    return times


def _stairs(grids: Mapping[str, _Grid], times: Times, jobs: dict[str, Job], depthwise: bool) -> dict[str, list[Stair]]:
    """Those of the ops that take longest, and of depthwise convolutions, by their keys; they join the others."""
    found, heavy = {}, heaviest({key: grid.full(times) for key, grid in grids.items()})
    narrow = [key for key, grid in grids.items() if len(grid.knots) == 1 and grid.call.kind.startswith("conv")]
    for key in dict.fromkeys([*heavy, *(narrow if depthwise else ())]):
        found[key] = list(stairs_of(grids[key].call))
        for stair in found[key]:
            grids[key].plan(jobs, stair.points)
    return found


def _first(call: OpCall, axis: int, shares: Sequence[float]) -> list[int]:
    """The channels that an op is measured at first: the fewest that it can have, and shares of all."""
    full, step, width = call.fulls[axis], call.steps[axis], call.axes[axis]
    low = width.constant + sum(per for _, per, _ in width.terms)
    lanes = math.lcm(step, LANES)
    if full < 2 * lanes:
        inner = {full - round(full / 2 / step) * step}
    elif width.constant:
        inner = {full - round((1 - share) * full / step) * step for share in shares}
    else:
        inner = {round(share * full / lanes) * lanes for share in shares}
    return sorted({low, full, *(n for n in inner if low < n < full)})


def _between(low: int, high: int, step: int) -> int | None:
    """A number of channels between two others that a network can have; None where there is none."""
    steps = (high - low) // step
    if steps < 2:
        return None
    middle = high - (steps // 2) * step
    aligned = round(middle / LANES) * LANES
    return aligned if low < aligned < high and (high - aligned) % step == 0 else middle
