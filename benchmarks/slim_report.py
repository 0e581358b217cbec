"""What came of the jobs of ``slim.py``: a Markdown table, and the goals, which were fixed before anything was measured.

Letters: S seeds, N images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.slim_jobs import COSTS_CASES, PEERS, SEEDS, TUNED, TUNED_CASES, TUNING, Job, jobs, read, truths
from benchmarks.slim_networks import CASES

Record = Mapping[str, Any]
METHODS = {
    "none": "no slimming",
    "ours": "slim",
    "first": "control: first channels, as cut",
    "l1_cut": "control: largest weights (l1), as cut",
    "tp_magnitude": "Torch-Pruning, magnitude",
    "tp_taylor": "Torch-Pruning, Taylor",
    "tp_bn": "Torch-Pruning, BN scale",
    "fastnas": "ModelOpt FastNAS",
}
STAGES = {
    "none": "as it is",
    "cut": "cut",
    "refit": "refitted",
    "recalibrated": "cut, norms recalibrated",
    "refit and recalibrated": "refitted, norms recalibrated",
    "slim": "**what slim hands back**",
    "norms": "norms recalibrated",
    "tuned": f"tuned for {TUNING}",
}
UNTUNED = {"resnet20-73": 2.5, "resnet20-50": 9.0, "resnet56-65": 1.5, "resnet56-50": 4.0}  # points lost, at most
PROTOTYPE = {"resnet20-73": 4.5, "resnet20-50": 13.9, "resnet56-65": 2.8, "resnet56-50": 6.5}
AGREES = {"lite0-80": 90.0}  # percent of the images, at least
TUNED_DROP = {"resnet56-50": 1.0}  # points, and no peer better
SECONDS = {"resnet56-50": 180, "lite0-80": 600}  # of slim without tuning, on 2 cores
SEARCH_SECONDS = 10
MEMORY = 2  # times a forward pass of the calibration images, plus the weights


@dataclass(frozen=True)
class Figure:
    """A mean over images and seeds, in points or percent, with its standard error."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.error:.2f})"


def paired(differences: Mapping[int, Mapping[int, float]]) -> Figure:
    """The mean of seed -> image -> difference, times 100.

    The error has a part of the images (of their means over the seeds) and one of the seeds (of their means over the
    images), as if the two were independent; what they share is in both, so it is rather too large.
    """
    seeds = [100 * float(np.mean(list(of.values()))) for of in differences.values()]
    by_image: dict[int, list[float]] = {}
    for of in differences.values():
        for image, value in of.items():
            by_image.setdefault(image, []).append(value)
    images = 100 * np.array([np.mean(values) for values in by_image.values()])
    parts = [values.std(ddof=1) ** 2 / len(values) for values in (images, np.array(seeds)) if len(values) > 1]
    return Figure(float(np.mean(seeds)), math.sqrt(sum(parts)))


class Row:
    """A method on a network at a share of its macs: the records of its seeds."""

    def __init__(self, work: Path, case: str, share: int, method: str) -> None:
        self.case, self.share, self.method = case, share, method
        found = {seed: read(work, Job(case, share, method, seed)) for seed in SEEDS}
        self.records: dict[int, Record] = {seed: record for seed, record in found.items() if record is not None}

    @property
    def stages(self) -> list[str]:
        """Names of the stages that every seed has, in their order."""
        lists = [[stage["name"] for stage in record["stages"]] for record in self.records.values()]
        return [name for name in lists[0] if all(name in other for other in lists)] if lists else []

    def _each(self, stage: str, key: str) -> Iterator[tuple[int, Record, np.ndarray]]:
        """Seed, record and what is told of its images (N,)."""
        for seed, record in self.records.items():
            told = next(part for part in record["stages"] if part["name"] == stage)
            yield seed, record, truths(told[key], record["images"])

    def lost(self, stage: str) -> Figure:
        """Points of accuracy, paired by image with the original."""
        each = self._each(stage, "right")
        return paired({seed: _by_image(record, _full(record) - 1.0 * right) for seed, record, right in each})

    def agreement(self, stage: str) -> Figure:
        """Percent of the images that get the class that the original gives them."""
        return paired({seed: _by_image(record, same) for seed, record, same in self._each(stage, "same")})

    def shown(self) -> dict[str, str]:
        """Stage -> what the table calls it; one that every seed handed back is not shown twice."""
        taken = {record.get("taken") for record in self.records.values()}
        names = {stage: STAGES.get(stage, stage) for stage in self.stages if stage not in taken or len(taken) > 1}
        if "slim" in names and len(taken) == 1:
            names["slim"] = f"**{STAGES[taken.pop()]}: what slim hands back**"
        return names

    def macs(self) -> str:
        """Percent of the macs that are left, by our cost model: the range of the seeds."""
        shares = [100 * r["left"]["macs"] / r["full"]["macs"] for r in self.records.values()]
        low, high = f"{min(shares):.1f}", f"{max(shares):.1f}"
        return low if low == high else f"{low} to {high}"


def _by_image(record: Record, values: np.ndarray) -> dict[int, float]:
    """Number of each image -> value; seeds whose test images differ have other numbers."""
    numbers = record["numbers"] or range(record["images"])
    return dict(zip(numbers, values.astype(float).tolist(), strict=True))


def _full(record: Record) -> np.ndarray:
    return truths(record["full"]["right"], record["images"])


# the tables -----------------------------------------------------------------------------------------------------


def report(work: Path) -> str:
    """Everything, as Markdown."""
    parts = [circumstances(work), "### Goals", goals(work)]
    for name, case in CASES.items():
        for share in case.shares:
            rows = [Row(work, name, share, method) for method in METHODS if method != "none"]
            text = table([row for row in rows if row.records])
            if text:
                parts += [f"### {case.title}, {share}% of the macs", text, failures(work, rows)]
    tuned = [Row(work, case, share, method) for case, share in TUNED_CASES.items() for method in TUNED]
    text = table([row for row in tuned if row.records])
    if text:
        parts += [f"### Tuned for {TUNING}", text, failures(work, tuned)]
    return "\n\n".join(part for part in parts if part) + "\n"


def circumstances(work: Path) -> str:
    """Command, commits, machines and dates of all that was measured."""
    records = [record for job in jobs() if (record := read(work, job)) is not None]
    told = [f"    python benchmarks/slim.py    # {len(records)} jobs of {len(list(jobs()))}", ""]
    for key in ("date", "commit", "machine", "versions"):
        values = sorted({record[key] for record in records if record.get(key)})
        told += [f"- {key}: {', '.join(values)}"] if values else []
    return "\n".join(told)


def table(rows: list[Row]) -> str:
    """Points lost and agreement of every method and stage."""
    if not rows:
        return ""
    accuracies = {f"{record['full']['accuracy']:.2f}" for row in rows for record in row.records.values()}
    images = next(iter(rows[0].records.values()))["images"]
    lines = [
        f"The original has {', '.join(sorted(accuracies))} % on {images:,} images; in brackets standard errors.",
        "",
        "| method | stage | macs left, % | points lost | agrees with the original, % | seeds |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        for stage, called in row.shown().items():
            cells = [METHODS[row.method.removesuffix("_tuned")], called, row.macs()]
            cells += [str(row.lost(stage)), str(row.agreement(stage)), str(len(row.records))]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def failures(work: Path, rows: list[Row]) -> str:
    """What ended the methods that have no record, though they were run."""
    lines = []
    for row in rows:
        logs = [work / "logs" / f"{row.case}-{row.share}-{row.method}-{seed}.log" for seed in SEEDS]
        log = next((log for log in logs if log.exists()), None)
        if log is not None and not row.records:
            said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
            lines.append(
                f"- {METHODS[row.method.removesuffix('_tuned')]} did not end: {said[-1][:300] if said else ''}"
            )
    return "\n".join(lines)


# the goals ------------------------------------------------------------------------------------------------------


def goals(work: Path) -> str:
    """Met or missed, one line for each goal; what was not measured says so."""
    lines = ["| goal | measured | verdict |", "|---|---|---|"]
    for goal, measured, met in _goals(work):
        verdict = "not measured" if met is None else "met" if met else "**missed**"
        lines.append(f"| {goal} | {measured} | {verdict} |")
    return "\n".join(lines)


Verdict = tuple[str, str, bool | None]


def _goals(work: Path) -> Iterator[Verdict]:
    for key, points in UNTUNED.items():
        row = _row(work, key, "ours")
        told = f"{_named(key)}: at most {points:g} points lost (a prototype: {PROTOTYPE[key]:g})"
        yield _least(told, row.lost("slim"), points) if row.records else (told, "", None)
    for key, percent in AGREES.items():
        row = _row(work, key, "ours")
        told = f"{_named(key)}: agrees with the original on at least {percent:g} %"
        found = row.agreement("slim") if row.records else None
        yield (told, "", None) if found is None else (told, f"{found} %", found.mean >= percent)
    yield from _tuned_goals(work)
    for key in (f"{case}-{share}" for case, share in COSTS_CASES.items()):
        yield from _cost_goals(work, key)


def _tuned_goals(work: Path) -> Iterator[Verdict]:
    for key, points in TUNED_DROP.items():
        row = _row(work, key, "ours_tuned")
        told = f"{_named(key)}, tuned for {TUNING}: at most {points:g} points lost"
        yield _least(told, row.lost("tuned"), points) if row.records else (told, "", None)
        others = {peer: _row(work, key, f"{peer}_tuned") for peer in PEERS}
        others = {peer: other.lost("tuned") for peer, other in others.items() if other.records}
        told = f"{_named(key)}, tuned for {TUNING}: no peer is better"
        if not others or not row.records:
            yield told, "", None
            continue
        best = min(others, key=lambda peer: others[peer].mean)
        yield told, f"{METHODS[best]} loses {others[best]} points", row.lost("tuned").mean <= others[best].mean


def _cost_goals(work: Path, key: str) -> Iterator[Verdict]:
    case, share = key.split("-")
    slim, forward = (read(work, Job(case, int(share), method, 0)) for method in ("slim", "forward"))
    told = f"{_named(key)}: slim without tuning in at most {SECONDS[key]} s"
    yield (told, "", None) if slim is None else (told, f"{slim['spent_s']:.0f} s", slim["spent_s"] <= SECONDS[key])
    told = f"{_named(key)}: search to the budget after scoring in at most {SEARCH_SECONDS} s"
    seconds = None if slim is None else slim["seconds"]["search"][0]
    yield (told, "", None) if seconds is None else (told, f"{seconds:.1f} s", seconds <= SEARCH_SECONDS)
    told = (
        f"{_named(key)}: peak memory of slim at most {MEMORY} times a forward pass of the 500 images, plus the weights"
    )
    if slim is None or forward is None:
        yield told, "", None
        return
    limit = MEMORY * forward["above_mb"] + slim["weights_mb"]
    yield told, f"{slim['above_mb']:.0f} MiB of {limit:.0f} MiB", slim["above_mb"] <= limit


def _least(told: str, found: Figure, points: float) -> Verdict:
    return told, f"{found} points", found.mean <= points


def _row(work: Path, key: str, method: str) -> Row:
    case, share = key.split("-")
    return Row(work, case, int(share), method)


def _named(key: str) -> str:
    case, share = key.split("-")
    return f"{CASES[case].title}, {share}% of the macs"
