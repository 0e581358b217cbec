"""Which subnet it is: of allocations within a budget the best by trial, or along a path by what is measured.

Shapes: n rows, D choices.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.latency_table import CostWithLatency, LatencyTable
from mmrazor_lite.estimators.latency_widths import LANES
from mmrazor_lite.estimators.measure import Bench
from mmrazor_lite.models.importance import Ranking
from mmrazor_lite.search.cost import Cost
from mmrazor_lite.subnet import Subnet

from .allocation import Curves, Divisor, Widths, by_table, check_reachable, path
from .budgets import MEASURED, Budget, Floor
from .distance import softened
from .images import Images
from .judging import Judge
from .kept_steps import lines
from .prepared import Prepared
from .repair import original_of, refit_of, repair
from .report import Quality
from .rival_rows import candidates, streams_of
from .timed import Stopwatch, Timed, limit_of, tightened

FEW, FEW_ROWS = 50, 4  # images that a trial is repaired with, and places of a fit for each input of the original
BEHIND, SOME = 1.5, 100  # times the best: a rival that loses so much more on SOME images is not looked at further
TIED = 0.05  # of a loss: a rival that is nearer by less does not take the place of a more promising one
MORE_BYTES = 256 * 2**20  # memory for the original's outputs of further images that judge trials
JUDGING = 2.5e11  # macs of all passes of such further images: a judge is not to take longer than what it judges
PLACES = 128  # of a path that are looked at, spread evenly over what its rows cost


@dataclass(frozen=True, eq=False)
class Setting:
    """What subnets are chosen from.

    Attributes:
        prepared: The network, its channels sorted.
        rankings: Of the units of every group.
        curves: What is lost by the width of each group.
        divisor: Widths are multiples of it, see :func:`step_of`.
        images, judge: What trials are repaired with, and judged by.
    """

    prepared: Prepared
    rankings: Mapping[str, Ranking]
    curves: Curves
    divisor: Divisor
    images: Images
    judge: Judge

    def read(self, kept: Mapping[str, Any]) -> Choice:
        """What :meth:`Choice.as_dict` gave; any error where it is something else."""
        space = self.prepared.mutator.search_space
        return Choice(space.subnet(space.index(Subnet(kept["subnet"]))), lines(kept["notes"]))

    def rivals(self, cost: Cost, limits: Mapping[str, float], only: str | None = None) -> dict[str, np.ndarray]:
        """Rows (D,) within limits by how they came about, see :func:`candidates`."""
        prepared, space = self.prepared, self.prepared.mutator.search_space
        streams = streams_of(prepared.mutator)
        return candidates(self.curves, self.rankings, cost, space, limits, self.divisor, prepared.least, streams, only)

    def path(self, resources: Sequence[str]) -> list[Subnet]:
        """Subnets from the full network down to the smallest one, evenly spread over the macs."""
        mutator = self.prepared.mutator
        rows = path(self.curves, mutator.cost_model, mutator.search_space, resources, self.divisor, self.prepared.least)
        macs = mutator.cost_model(rows)["macs"].astype(np.float64)
        marks = np.linspace(macs[0], macs[-1], PLACES)
        places = sorted({int(np.abs(macs - mark).argmin()) for mark in marks})
        return [mutator.search_space.subnet(rows[place]) for place in places]


@dataclass(frozen=True)
class Choice:
    """The subnet that was chosen, and what is to be said of the way there."""

    subnet: Subnet
    notes: tuple[str, ...] = ()
    name: str = ""  # of the allocation, among its rivals

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"subnet": dict(self.subnet), "notes": list(self.notes)}


def check_goal(prepared: Prepared, goal: Budget | Floor, divisor: int | str) -> None:
    """Raise :class:`UserError` where no subnet costs as little as a counted limit: before the work."""
    if isinstance(goal, Floor) or not goal.counted:
        return
    widths = _widths(prepared, divisor)
    check_reachable(widths, list(goal.counted), np.array([float(limit) for limit in goal.counted.values()]))


def _widths(prepared: Prepared, divisor: Divisor, cost: Cost | None = None) -> Widths:
    """The widths that may be chosen, none of which loses anything."""
    mutator = prepared.mutator
    flat = {name: np.zeros(units + 1) for name, units in mutator.unit_counts.items()}  # costs alone count
    return Widths(flat, cost or mutator.cost_model, mutator.search_space, divisor, prepared.least)


def choose(setting: Setting, goal: Budget | Floor, original: Quality, clock: Timed | None = None) -> Choice:
    """The subnet for a goal.

    Args:
        setting: What it is chosen from.
        goal: What is asked for.
        original: How good the network is.
        clock: For a goal in milliseconds.

    Raises:
        UserError: Nothing meets it; says what can be reached.
    """
    if isinstance(goal, Floor):
        return _above(setting, goal, original)
    if clock is not None:
        return _fast_enough(setting, goal, clock)
    return _within(setting, goal)


def _within(setting: Setting, goal: Budget) -> Choice:
    """The best allocation that meets a counted budget."""
    return _best(setting, setting.rivals(setting.prepared.mutator.cost_model, goal.counted))


def _best(setting: Setting, rows: Mapping[str, np.ndarray]) -> Choice:
    """Of a few allocations the one whose repaired network is nearest to the original.

    Of those that are about as near it is the first, the most promising one.
    """
    space = setting.prepared.mutator.search_space
    subnets = {name: space.subnet(row) for name, row in rows.items()}
    if len(subnets) == 1:
        ((name, subnet),) = subnets.items()
        return Choice(subnet, name=name)
    trial, judge, race = _trials(setting), _judge_of_trials(setting, len(subnets)), Race()
    for name, subnet in subnets.items():
        race.add(name, judge.distances(trial(subnet), softened))
    best = first_near(race.lost)
    told = f"loss {race.told} on {judge.images} images, refitted with few others"
    return Choice(subnets[best], (f"of {len(subnets)} allocations '{best}' is taken: {told}",), best)


def _trials(setting: Setting) -> Callable[[Subnet], nn.Module]:
    """Gives subnets refitted with few images."""
    few = setting.images.first(FEW)
    original = original_of(setting.prepared, few, FEW_ROWS)
    return lambda subnet: refit_of(setting.prepared, subnet, few, original)[0]


class Race:
    """What rivals lose, batch by batch on the same images; one that is clearly behind is not looked at to the end.

    Images differ by more than rivals do: what such a one lost on the first of them is not to be compared with what
    others lost on all.
    """

    def __init__(self) -> None:
        self._found: dict[str, np.ndarray] = {}  # rival -> (images, loss) of each batch, (n, 2)
        self._behind: set[str] = set()

    def add(self, name: str, batches: Iterable[tuple[int, float]]) -> None:
        """Look at (images, loss) of batch after batch of one more rival."""
        best = self._found[min(self.lost, key=self.lost.__getitem__)] if self._found else np.zeros((0, 2))
        found: list[tuple[int, float]] = []
        for batch in batches:
            found.append(batch)
            own, other = np.array(found), best[: len(found)]
            if len(best) and own[:, 0].sum() >= SOME and _mean(own) > BEHIND * _mean(other):
                self._behind.add(name)
                break
        self._found[name] = np.array(found)

    @property
    def lost(self) -> dict[str, float]:
        """Rival -> its mean loss of an image, of those that are not clearly behind."""
        return {name: _mean(found) for name, found in self._found.items() if name not in self._behind}

    @property
    def told(self) -> str:
        """In words."""
        most = max(map(len, self._found.values()))
        fewer = {
            name: f" ({found[:, 0].sum():.0f} of them)" * (len(found) < most) for name, found in self._found.items()
        }
        return ", ".join(f"{name} {_mean(found):.3g}{fewer[name]}" for name, found in self._found.items())


def _mean(found: np.ndarray) -> float:
    return float((found[:, 0] * found[:, 1]).sum() / found[:, 0].sum())


def first_near(lost: Mapping[str, float]) -> str:
    """The first of those that lose as little as the best one, but for what a few hundred images cannot tell apart."""
    least = min(lost.values())
    return next(name for name, value in lost.items() if value <= (1 + TIED) * least)


def _judge_of_trials(setting: Setting, rivals: int) -> Judge:
    """The judge of networks that are refitted with few images: of others, those held out and of those seen as many as
    memory and time allow.

    They tell rivals apart by what is softened: as it is, a distance is made by the few images whose class is about to
    change, and which these are among a hundred is chance.
    """
    network, held_out = setting.prepared.network, setting.judge
    of_memory = MORE_BYTES / max(held_out.bytes_per_image, 1.0)
    of_time = JUDGING / (max(setting.prepared.mutator.cost_model.max()["macs"], 1) * (rivals + 1))
    more, left = [], min(of_memory, of_time)
    for images, _ in setting.images.behind(FEW):
        left -= len(images)
        if left < 0:
            break
        more.append((images, None))
    return Judge(network, [*held_out.batches, *more], known=held_out.reference, values=held_out.values)


def check_fast(
    prepared: Prepared, goal: Budget, divisor: int | str, bench: Bench, table: LatencyTable | None = None
) -> None:
    """Raise :class:`UserError` where no subnet is as fast as the limit, or the network is: before the work.

    Where there is no table yet, what is tried are the smallest widths and, as kernels may be slow at others, the
    smallest that fill whole lanes.
    """
    watch = Stopwatch(prepared, bench)
    if table is not None:
        limit_of(goal, watch(_fastest(prepared, by_table(divisor, table.steps), table)))
        return
    lanes = LANES if divisor == "auto" else math.lcm(divisor, LANES)
    fastest = watch(_cheapest(_widths(prepared, divisor), "macs"))
    if fastest.slimmed > goal.milliseconds(fastest.original):
        other = watch(_cheapest(_widths(prepared, lanes), "macs"))
        fastest = min(fastest, other, key=lambda pair: pair.slimmed / pair.original)
    limit_of(goal, fastest)


def _cheapest(widths: Widths, resource: str) -> Subnet:
    """The subnet that costs least of a resource, of the widths that may be chosen."""
    return widths.space.subnet(widths.rows(widths.cheapest(resource)[None])[0])


def _fastest(prepared: Prepared, divisor: Divisor, table: LatencyTable) -> Subnet:
    """The fastest subnet by a table."""
    return _cheapest(_widths(prepared, divisor, CostWithLatency(prepared.mutator.cost_model, table)), MEASURED)


def _fast_enough(setting: Setting, goal: Budget, clock: Timed) -> Choice:
    """The best allocation by a latency table, as slow as it may be by measurement beside the original."""
    prepared, mutator, full = setting.prepared, setting.prepared.mutator, setting.prepared.mutator.search_space.max()
    cost, watch = CostWithLatency(mutator.cost_model, clock.table), Stopwatch(prepared, clock.bench)
    setting = replace(setting, divisor=by_table(setting.divisor, clock.table.steps))
    fastest = _fastest(prepared, setting.divisor, clock.table)
    pair, least = watch(fastest), clock.table.of(fastest)
    limit_of(goal, pair)
    found: list[Choice] = []

    def search(limit: float) -> Subnet:
        limits, taken = {**goal.counted, MEASURED: max(limit, least)}, found[0].name if found else None
        rows = (
            setting.rivals(cost, limits, taken) if found else {}
        )  # the kind that was best is best a little beside, too
        if taken in rows:
            return mutator.search_space.subnet(rows[taken])
        found.insert(0, _best(setting, setting.rivals(cost, limits)))
        return found[0].subnet

    ends = {least: pair.slimmed, clock.table.of(full): pair.original}
    subnet, note = tightened(goal, search, clock.table.of, watch, ends)
    return Choice(subnet, (*clock.notes, *_steps_told(setting.divisor), *found[0].notes, note))


def _steps_told(divisor: Divisor) -> list[str]:
    """Which widths a latency table leaves."""
    if not isinstance(divisor, Mapping):
        return []
    counts = Counter(divisor.values())
    told = ", ".join(f"{step} for {counts[step]} groups" for step in sorted(counts))
    return [f"widths are multiples of what pays by the latency table: {told}"]


def _above(setting: Setting, goal: Floor, original: Quality) -> Choice:
    """The smallest subnet of a path whose repaired network keeps the accuracy on the images held out."""
    name, full = ("accuracy", original.accuracy) if original.accuracy is not None else ("agreement", 100.0)
    if original.agreement is None:
        raise UserError(f"{goal.asked}: the network gives no class scores (N, classes) to judge by; give a budget")
    least = goal.least(full)
    told = f"{goal.asked}, judged by {name}" + " with the original, as there are no labels" * (name == "agreement")
    if least > full:
        raise UserError(f"{told} is out of reach: the network itself has {full:.2f}% on {original.images} images")
    subnets, trial = setting.path(["macs"]), _trials(setting)

    def tried(place: int) -> bool:
        return getattr(setting.judge(trial(subnets[place])), name) >= least

    def keeps(place: int) -> bool:
        return (
            getattr(repair(setting.prepared, subnets[place], setting.images.seen, setting.judge).quality, name) >= least
        )

    place = _last_from(_last(len(subnets), tried), len(subnets), keeps)  # with more images it is seldom worse
    if place == 0:
        raise UserError(f"{told} is out of reach: nothing smaller keeps {least:.2f}% of the network's {full:.2f}%")
    one = 100 / original.images
    return Choice(subnets[place], (f"{told} on {original.images} images, of which one is {one:.2g} points",))


def _last_from(start: int, count: int, holds: Callable[[int], bool]) -> int:
    """As :func:`_last`, for what is dear to ask and holds about up to ``start``: it is asked from there outwards."""
    if start == 0 or holds(start):
        while start + 1 < count and holds(start + 1):
            start += 1
        return start
    low, high, step = start - 1, start, 1  # above what it does not hold at, and the way down doubles
    while low > 0 and not holds(low):
        low, high, step = max(low - 2 * step, 0), low, 2 * step
    return low + _last(high - low, lambda more: holds(low + more))


def _last(count: int, holds: Callable[[int], bool]) -> int:
    """By bisection the last place of 1 to count - 1 up to which something holds; 0 where it holds at none."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low
