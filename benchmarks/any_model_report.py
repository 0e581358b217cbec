"""The Markdown table of ``any_model.py``'s records, and whether they reach the floors."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase

from benchmarks.any_model_lists import SETS, Entry

INVARIANTS = ("1", "2", "2b", "3")
# the families of torchvision with a floor: 90% of macs searchable, smallest subnet at most 10% of the largest
NAMED = (
    "resnet* wide_resnet* resnext* vgg* mobilenet* mnasnet* regnet* densenet* shufflenet* squeezenet* efficientnet* "
    "googlenet inception* convnext*"
).split()
USUAL = "the model's output"  # the reason every classifier's last layer has
SLOW = 20.0  # seconds to prepare the largest
TYPICAL = 3.0  # seconds to prepare most


def table(records: dict[str, dict], chosen: list[Entry]) -> str:
    """One table for each set; a model without a record is missing from it."""
    parts = []
    for name in SETS:
        rows = [records[entry.key] for entry in chosen if entry.set == name and entry.key in records]
        if rows:
            parts.append(f"### {name}\n\n" + "\n".join([*HEADER, *map(_row, rows)]))
    return "\n\n".join(parts)


HEADER = [
    "| model | prepare s | groups | searchable | max macs | min / max | 1 | 2 | 2b | 3 | stays at full width |",
    "|---|--:|--:|--:|--:|--:|:-:|:-:|:-:|:-:|---|",
]


def _row(record: dict) -> str:
    name = record["model"].partition("/")[2] + (f" ({record['size']} px)" if record["size"] != 224 else "")
    if "groups" not in record:
        return f"| {name} | | | | | | | | | | {record['failed']['stage']}: {record['failed']['error']} |"
    marks = [_mark(record.get("invariants", {}).get(which)) for which in INVARIANTS]
    numbers = [
        f"{record['prepare_s']:.1f}",
        str(record["groups"]),
        f"{record['searchable']:.1%}",
        _macs(record["max_macs"]),
        f"{ratio(record):.1%}",
    ]
    left = _left(record)
    if "failed" in record:
        left = f"{record['failed']['stage']}: {record['failed']['error']}; {left}"
    return f"| {name} | " + " | ".join([*numbers, *marks, left]) + " |"


def _mark(verdict: str | None) -> str:
    if verdict is None:
        return ""
    return {"ok": "✓", "left out": "-"}.get(verdict.partition(":")[0], "✗")


def _macs(macs: int) -> str:
    return f"{macs / 1e9:.2f} G" if macs >= 1e9 else f"{macs / 1e6:.0f} M"


def ratio(record: dict) -> float:
    return record["min_macs"] / max(record["max_macs"], 1)


def _left(record: dict) -> str:
    """Reasons with their number of layers and share of the macs, but for what every classifier has."""
    parts = [
        f"{reason} ({counts['layers']} layers, {counts['output_macs']:.0%} of macs)"
        for reason, counts in record["fixed"].items()
        if reason != USUAL and (counts["layers"] or counts["output_macs"] >= 0.005)
    ]
    return "; ".join(parts).replace("|", "\\|")


def floors(records: dict[str, dict], chosen: list[Entry]) -> list[str]:
    """One line for each floor, with every model below it; then what failed in each set, and the reasons in all."""
    measured = [(entry.set, records[entry.key]) for entry in chosen if entry.key in records]
    lines = _of_torchvision([record for name, record in measured if name == "torchvision"])
    for name in SETS:
        lines += _failures(name, [record for other, record in measured if other == name])
    return lines + _reasons([record for _, record in measured])


def _of_torchvision(records: list[dict]) -> list[str]:
    if not records:
        return []
    prepared = [record for record in records if "groups" in record]
    lines = [_line(f"prepared without a crash: {len(prepared)} of 80", len(prepared) == 80, _names(records, prepared))]
    cnns = [record for record in records if record["kind"] == "cnn"]
    passed = [record for record in cnns if passes(record)]
    lines.append(_line(f"CNNs that pass the invariants: {len(passed)} of 68", len(passed) >= 68, _names(cnns, passed)))
    named = [r for r in cnns if "groups" in r and any(fnmatchcase(_name(r), pattern) for pattern in NAMED)]
    poor = [f"{_name(record)} {record['searchable']:.1%}" for record in named if record["searchable"] < 0.9]
    text = f"named families, at least 90% of macs searchable: {len(named) - len(poor)} of {len(named)}"
    lines.append(_line(text, not poor, poor))
    wide = [f"{_name(record)} {ratio(record):.1%}" for record in named if ratio(record) > 0.1]
    text = f"named families, min at most 10% of max: {len(named) - len(wide)} of {len(named)}"
    lines.append(_line(text, not wide, wide))
    times = sorted(record["prepare_s"] for record in prepared)
    if times:
        slow = [f"{_name(record)} {record['prepare_s']:.0f} s" for record in prepared if record["prepare_s"] > SLOW]
        median = times[len(times) // 2]
        text = f"seconds to prepare: median {median:.1f}, largest {times[-1]:.1f}"
        lines.append(_line(text, not slow and median <= TYPICAL, slow))
    return lines


def passes(record: dict) -> bool:
    found = record.get("invariants", {})
    return all(found.get(which) == "ok" for which in INVARIANTS)


def _line(text: str, reached: bool, below: list[str]) -> str:
    return f"{'reached' if reached else 'BELOW'}: torchvision, {text}" + (
        f" (not: {', '.join(below)})" if below else ""
    )


def _name(record: dict) -> str:
    return record["model"].partition("/")[2]


def _names(all_of: list[dict], good: list[dict]) -> list[str]:
    return [_name(record) for record in all_of if record not in good]


def _failures(name: str, records: list[dict]) -> list[str]:
    if not records:
        return []
    failed = [f"{_name(r)} {r['failed']['stage']}: {r['failed']['error']}" for r in records if "failed" in r]
    wrong = [
        f"{_name(record)} {which}: {verdict}"
        for record in records
        for which, verdict in record.get("invariants", {}).items()
        if verdict != "ok"
    ]
    lines = [f"{name}: {len(records)} models, {sum(map(passes, records))} pass every invariant"]
    return lines + [f"  {text}" for text in [*failed, *wrong]]


def _reasons(records: list[dict]) -> list[str]:
    reasons: Counter = Counter()
    for record in records:
        for reason, counts in record.get("fixed", {}).items():
            reasons[reason] += counts["output_macs"]
    lines = ["what keeps outputs at full width, in macs of whole models:"]
    return lines + [f"  {macs:.2f} {reason}" for reason, macs in reasons.most_common(25) if macs >= 0.005]
