"""A limit in milliseconds: a latency table says what meets it, a measurement beside the original has the last word.

Milliseconds are those of the bench: of its batch, threads, dtype and layout; and those of the machine at full speed, as
in a table (:mod:`mmrazor_lite.estimators.steady_rounds`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.latency_build import build_table
from mmrazor_lite.estimators.latency_reading import read_table
from mmrazor_lite.estimators.latency_report import BUSY
from mmrazor_lite.estimators.latency_table import LatencyTable
from mmrazor_lite.estimators.measure import Bench, threads_kept
from mmrazor_lite.estimators.runtime_timers import RUNTIMES
from mmrazor_lite.estimators.steady_rounds import Steady
from mmrazor_lite.fileio import as_path
from mmrazor_lite.subnet import Subnet

from .budgets import Budget
from .prepared import Prepared
from .report import Latency

TABLE = "latency_table.json"  # in the folder of a run
JOURNAL = f"{TABLE}.journal"
BUILT = {"checks": 5, "repeats": 7, "min_seconds": 0.004}  # of a table that is measured on the way
NEAR = 0.03  # of the limit: how far what is delivered may be from it
SEARCHES = 6  # times that the limit is set anew by what was measured
ROUNDS, MOST_ROUNDS, MIN_SECONDS = 15, 60, 0.02  # of a measurement, and of one on a busy machine; of a round
SAME = ("device", "name", "backend")  # facts of a table that must be those of this machine
SETTINGS = ("threads", "batch_size", "dtype", "channels_last", "clock")  # those that a measurement takes over


@dataclass(frozen=True)
class Pair:
    """Milliseconds of one run of the original and of a subnet, measured in turns.

    Attributes:
        speed: Of the machine, as a share of its full speed; below 1 the times are scaled by it.
    """

    original: float
    slimmed: float
    speed: float = 1.0


@dataclass(frozen=True, eq=False)
class Timed:
    """What is needed to choose by time.

    Attributes:
        table: What subnets take, by prediction.
        bench: Measures as the table was measured.
        notes: What is to be said of the table.
    """

    table: LatencyTable
    bench: Bench
    notes: tuple[str, ...] = ()


def bench_of(prepared: Prepared, backend: str = "torch") -> Bench:
    """A bench with as many threads as there are now, where the network is; of another runtime than torch on the CPU.

    Raises:
        UserError: A backend that is unknown, or not installed.
    """
    with threads_kept():
        return Bench(_device(prepared, backend), backend)


def _device(prepared: Prepared, backend: str) -> str:
    return "cpu" if backend in RUNTIMES else next(prepared.network.parameters()).device.type


def table_measured(prepared: Prepared, bench: Bench, folder: Path | None, resume: bool, seed: int) -> Timed:
    """A table of a network that is measured now.

    Args:
        prepared: The network.
        bench: Measures it.
        folder: Where the table is kept, with its journal; None: nowhere.
        resume: Go on with the journal that is there.
        seed: Of the networks that are drawn.
    """
    with threads_kept(bench.threads), tempfile.TemporaryDirectory() as nowhere:
        journal = (folder or Path(nowhere)) / JOURNAL
        if not resume:
            journal.unlink(missing_ok=True)
        report = build_table(prepared.mutator, bench, journal, seed=seed, **BUILT)
        if folder is not None:
            report.table.write(folder / TABLE)
    error = report.errors()
    told = f"{report.distinct} measurements, error on {len(error)} networks {error.mean():.1%} in the mean"
    return Timed(report.table, bench, (f"a latency table was measured: {told}", *_doubt(report.table)))


def table_of_file(prepared: Prepared, path: Any, backend: str | None = None) -> Timed:
    """A table of this machine and network, and a bench with its settings.

    Args:
        prepared: The network.
        path: The file.
        backend: That it must be of, where one is asked for.

    Raises:
        UserError: The file is no table, or of another network, machine or backend; says both.
    """
    path = as_path(path, "table")
    table = read_table(path, prepared.mutator)
    of = table.device.get("backend", "torch")
    if backend is not None and of != backend:
        raise UserError(
            f"{path}: the latency table is of backend '{of}', asked for is '{backend}'; leave one of them out, or "
            "measure a table for it (mmrazor-lite latency)"
        )
    facts = {key: table.device[key] for key in SETTINGS if key in table.device}
    with threads_kept():
        here = Bench(_device(prepared, of), of, **facts)
    own = here.facts()
    for key in SAME:
        if key in table.device and table.device[key] != own[key]:
            raise UserError(
                f"{path}: the latency table is of {key} '{table.device[key]}', here it is '{own[key]}'; measure one "
                "here (mmrazor-lite latency), or leave it out, then one is measured"
            )
    if here.pace is not None and "pace" in table.device:  # its milliseconds are those of that speed
        here.pace = here.pace.with_known(float(table.device["pace"]) / 1000)
    notes = [f"latencies are predicted by {path}", *_doubt(table)]
    if table.device.get("version", own["version"]) != own["version"]:
        notes.append(f"the latency table was measured with {of} {table.device['version']}, here it is {own['version']}")
    return Timed(table, here, tuple(notes))


def _doubt(table: LatencyTable) -> list[str]:
    """What is to be said of a machine that was busy while a table was measured."""
    spread, slow = (float(table.device.get(name, 0.0)) for name in ("spread", "slow"))
    notes = [f"the machine was busy while the latency table was measured: repeats differ by {spread:.0%}"]
    slowed = f"{slow:.0%} of the latency table was measured while the machine was never at full speed, and is scaled"
    return notes * (spread > BUSY) + [slowed] * (slow > BUSY)


class Stopwatch:
    """Measures subnets beside the full network, each as a plain module of its own."""

    def __init__(self, prepared: Prepared, bench: Bench) -> None:
        self._mutator, self._bench = prepared.mutator, bench
        self._full = self._timer(self._mutator.search_space.max())

    def _timer(self, subnet: Mapping[str, Any]) -> Callable[[int], float]:
        return self._bench.timer(self._mutator.export(subnet), self._mutator.input_shape)

    def __call__(self, subnet: Mapping[str, Any]) -> Pair:
        """Medians over rounds of both; more rounds while the medians are uncertain by more than a third of NEAR."""
        timers = {"original": self._full, "slimmed": self._timer(subnet)}
        times: dict[str, list[float]] = {name: [] for name in timers}
        steady, speeds = Steady(self._bench.pace), []
        with threads_kept(self._bench.threads):
            while ROUNDS * len(speeds) < MOST_ROUNDS:
                found = steady.rounds(timers, ROUNDS, MIN_SECONDS, np.random.default_rng(0))
                speeds.append(found.speed)
                for name in timers:
                    times[name] += found.times[name]
                ratios = np.divide(times["slimmed"], times["original"])
                if _uncertain(ratios) <= NEAR / 3:
                    break
        original = float(np.median(times["original"]))
        return Pair(original, original * float(np.median(ratios)), float(np.median(speeds)))


def _uncertain(values: np.ndarray) -> float:
    """Standard error of a median, as a share of it; from the quartiles, as of normal values."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(1.25 * (high - low) / 1.35 / np.sqrt(len(values)) / middle)


def limit_of(goal: Budget, fastest: Pair) -> float:
    """Milliseconds that are allowed, where the original and the fastest subnet take so long.

    Raises:
        UserError: No subnet is that fast, or the network is as it is.
    """
    limit = goal.milliseconds(fastest.original)
    if fastest.slimmed > limit:
        raise UserError(
            f"budget {goal.asked} is out of reach: the fastest subnet takes {fastest.slimmed:.3g} ms, the full "
            f"network {fastest.original:.3g} ms"
        )
    if limit >= fastest.original:
        raise UserError(f"budget {goal.asked}: the network meets it as it is, it takes {fastest.original:.3g} ms")
    return limit


def tightened(
    goal: Budget,
    search: Callable[[float], Subnet],
    predicted: Callable[[Subnet], float],
    measured: Callable[[Subnet], Pair],
    ends: Mapping[float, float],
) -> tuple[Subnet, str]:
    """A subnet that takes as long as it may, by measurement.

    What was searched for by the table is measured. Where it is not within NEAR of the limit, the limit of the table is
    set anew, between those that turned out too high and too low, and the search goes on: by false position, and by
    halves where that moves one end alone.

    Args:
        goal: What is asked for.
        search: The best subnet by a limit of the table, in milliseconds.
        predicted, measured: Of a subnet.
        ends: Milliseconds by the table -> as measured, of the fastest subnet and of the full network.

    Returns:
        The slowest that is fast enough, and what is to be said of it.

    Raises:
        UserError: None was fast enough; says what was measured.
    """
    low, high = ((at, ms / goal.milliseconds(max(ends.values()))) for at, ms in sorted(ends.items()))
    tried: dict[Subnet, Pair] = {}
    for number in range(SEARCHES):
        share = 0.5 if number % 3 == 2 else (1 - low[1]) / max(high[1] - low[1], 1e-9)
        subnet = search(low[0] + min(max(share, 0.0), 1.0) * (high[0] - low[0]))
        if subnet in tried:
            break
        pair = tried[subnet] = measured(subnet)
        found = (predicted(subnet), _share(goal, pair))
        if abs(found[1] - 1) <= NEAR and pair.slimmed < pair.original:
            break
        if found[1] > 1:
            high = min(high, found)
        else:
            low = max(low, found)
    fast = {subnet: pair for subnet, pair in tried.items() if _share(goal, pair) <= 1 + NEAR}
    fast = {subnet: pair for subnet, pair in fast.items() if pair.slimmed < pair.original}
    if not fast:
        figures = ", ".join(map(_both, tried.values())) or "nothing"
        raise UserError(
            f"budget {goal.asked}: no subnet was found that takes no longer; measured, beside the full network: "
            f"{figures}. Measure on an idle machine, or give another budget"
        )
    subnet = max(fast, key=lambda subnet: _share(goal, fast[subnet]))
    pair = fast[subnet]
    told = f"{_both(pair)} of the original, predicted {predicted(subnet):.3g} ms"
    return subnet, f"chosen by measurement: {told}, {len(tried)} measured, {_share(goal, pair):.1%} of the limit"


def _both(pair: Pair) -> str:
    """Milliseconds as measured."""
    scaled = "" if pair.speed >= 1 else f" (scaled from {pair.speed:.0%} of full speed)"
    return f"{pair.slimmed:.3g} ms beside {pair.original:.3g} ms{scaled}"


def _share(goal: Budget, pair: Pair) -> float:
    """Of the limit."""
    return pair.slimmed / goal.milliseconds(pair.original)


def check_delivered(goal: Budget, times: Latency) -> list[str]:
    """What is to be said of the last measurement, of what is delivered.

    Raises:
        UserError: It takes longer than the original.
    """
    (_, original, _), (_, slimmed, _) = times.quartiles
    ratio = 1 / times.speedup[1]
    if times.speedup[2] < 1:
        raise UserError(
            f"budget {goal.asked}: nothing is delivered, since at the end the slimmed network takes {slimmed:.3g} ms "
            f"and the full one {original:.3g} ms; measure on an idle machine"
        )
    share = ratio * original / goal.milliseconds(original)
    if share <= 1 + NEAR:
        return []
    told = f"{slimmed:.3g} ms beside {original:.3g} ms, {share:.0%} of the limit"
    return [f"at the end it takes {told}: is this machine busy?"]
