"""The page of a network that was slimmed: a report as sections with pictures and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from mmrazor_lite import __version__
from mmrazor_lite.visualization.analysis_tables import short
from mmrazor_lite.visualization.page import (
    Curves,
    Fact,
    Outcome,
    Page,
    Section,
    bars,
    duration,
    files,
    outcome,
    series,
    settings,
    table,
)

from .report_tables import machine_of

if TYPE_CHECKING:
    from .report import GroupRow, Report, Stage

CURVES = 8  # of groups in which most is lost: one colour each


def slim_page(report: Report, command: str = "", written: Sequence[tuple[str, str]] = ()) -> Page:
    """The page of a report.

    Args:
        command: That made it, as typed.
        written: The files of the result, from the folder of the page, and what they are.
    """
    return Page(
        kind="slim",
        title=report.model,
        lead=_lead(report),
        facts=tuple(_facts(report)),
        outcomes=tuple(_outcomes(report, written)),
        sections=(*slim_sections(report), *_rest(report, command, written)),
    )


def slim_sections(report: Report) -> list[Section]:
    """The sections with pictures."""
    found = [_widths(report.groups), _macs(report), _losses(report.groups), *_stages(report), *_latency(report)]
    return [section for section in found if section is not None]


def _lead(report: Report) -> str:
    size = "x".join(map(str, report.input_shape))
    first, last = (report.stages[i] if report.stages else None for i in (0, -1))
    told = f"Slimmed to {report.asked}, for images of {size}."
    if first is None or last is None:
        return told
    if first.accuracy is not None and last.accuracy is not None:
        return f"{told} Accuracy {last.accuracy:.2f}% where it was {first.accuracy:.2f}%, on {report.judged_on}."
    if last.agreement is not None:
        return f"{told} Its first class is the original's on {last.agreement:.2f}% of {report.judged_on}."
    return f"{told} Distance of its outputs from the original's: {last.distance:.3g}."


def _facts(report: Report) -> Iterator[Fact]:
    before, after = report.costs.get("original", {}), report.costs.get("slimmed", {})
    for name in ("macs", "params"):
        if name in before and name in after:
            share = f"{after[name] / before[name]:.1%} of {short(int(before[name]))}" if before[name] else ""
            yield Fact(name, short(int(after[name])), share)
    if report.stages:
        first, last = report.stages[0], report.stages[-1]
        if first.accuracy is not None and last.accuracy is not None:
            yield Fact("accuracy", f"{last.accuracy:.2f}%", f"{last.accuracy - first.accuracy:+.2f} points")
        elif last.agreement is not None:
            yield Fact("agreement", f"{last.agreement:.2f}%", "with the original")
        yield Fact("time", duration(sum(stage.seconds for stage in report.stages)), "all steps")
    if report.latency is not None:
        original, slimmed = report.latency.quartiles
        yield Fact("latency", f"{slimmed[1]:.3g} ms", f"{report.latency.speedup[1]:.2f}x, from {original[1]:.3g} ms")


def _outcomes(report: Report, written: Sequence[tuple[str, str]]) -> Iterator[Outcome]:
    times = {} if report.latency is None else dict(zip(("original", "slimmed"), report.latency.quartiles, strict=True))
    stages = {"original": report.stages[0], "slimmed": report.stages[-1]} if report.stages else {}
    weights = next((file for file, _ in written if file.endswith(".pth")), "")
    for name, costs in report.costs.items():
        found = dict(costs) | ({"latency": times[name][1]} if name in times else {})
        yield outcome(name, found, _scores(stages.get(name)), weights if name == "slimmed" else "")


def _scores(stage: Stage | None) -> dict[str, float | None]:
    if stage is None:
        return {}
    named = {"accuracy (%)": stage.accuracy, "agreement (%)": stage.agreement, "distance": stage.distance}
    return {name: value for name, value in named.items() if value is not None}


def _widths(groups: Sequence[GroupRow]) -> Section | None:
    if not groups:
        return None
    names = [group.name for group in groups]
    chart = bars(
        "channels", names, {"before": [g.full for g in groups], "after": [g.kept for g in groups]}, behind=True
    )
    columns = ("group", "before", "after", "importance that went", "layers")
    rows = ((g.name, g.full, g.kept, f"{g.lost:.1%}", ", ".join(g.producers)) for g in groups)
    text = "Channels of every width group, which are layers that must agree in their number."
    return Section("widths", "Widths before and after", text, chart, table(columns, rows))


def _macs(report: Report) -> Section | None:
    totals = [report.costs.get(name, {}).get("macs", 0) for name in ("original", "slimmed")]
    groups = [group for group in report.groups if group.share_before or group.share_after]
    if not groups or not all(totals):
        return None
    before, after = (
        [round(g.share_before * totals[0]) for g in groups],
        [round(g.share_after * totals[1]) for g in groups],
    )
    chart = bars("macs", [g.name for g in groups], {"before": before, "after": after}, behind=True)
    columns = ("group", "before", "after", "share before", "share after")
    shares = [(f"{g.share_before:.1%}", f"{g.share_after:.1%}") for g in groups]
    rows = ((g.name, b, a, *share) for g, b, a, share in zip(groups, before, after, shares, strict=True))
    text = "Macs of the layers that make a group's channels; what is left belongs to layers that stay as they are."
    return Section("macs", "Where the macs go", text, chart, table(columns, rows))


def _losses(groups: Sequence[GroupRow]) -> Section | None:
    """What the outputs lose by the share of one group's channels that stay; a mark where the groups are now."""
    known = sorted((group for group in groups if len(group.sensitivity) > 1), key=lambda group: -_now(group))
    if not known:
        return None
    lines = []
    for group in known[:CURVES]:
        last = len(group.sensitivity) - 1
        points = ((100 * i / last, loss) for i, loss in enumerate(group.sensitivity) if loss > 0)
        lines.append(series(group.name, points))
    rows = ((g.name, 100 * g.kept / g.full, _now(g)) for g in known)
    more = f" The {CURVES} groups in which most is lost." if len(known) > CURVES else ""
    text = f"Distance of the outputs from the original's where one group alone is slimmed.{more}"
    chart = Curves("channels kept (%)", "distance", tuple(lines), log_y=True)
    return Section(
        "losses", "What each group's channels are worth", text, chart, table(("group", "kept (%)", "distance"), rows)
    )


def _now(group: GroupRow) -> float:
    units = group.kept // group.unit
    return float(group.sensitivity[units]) if units < len(group.sensitivity) else 0.0


def _stages(report: Report) -> Iterator[Section]:
    """Accuracy and agreement, or the distance where there is neither; times."""
    stages = report.stages
    if not stages:
        return
    names = [stage.name for stage in stages]
    measured = {"accuracy": [s.accuracy for s in stages], "agreement with the original": [s.agreement for s in stages]}
    found = {name: values for name, values in measured.items() if any(value is not None for value in values)}
    unit = "%" if found else "distance to the original"
    chart = bars(unit, names, found or {"distance": [s.distance for s in stages]})
    columns = ("stage", *found, "distance", "seconds")
    rows = (
        (s.name, *(values[i] for values in found.values()), s.distance, round(s.seconds, 2))
        for i, s in enumerate(stages)
    )
    text = f"On {report.judged_on}."
    yield Section("stages", "Where accuracy went", text, chart, table(columns, rows))
    timed = [stage for stage in stages if stage.seconds]
    if timed:
        chart = bars("seconds", [s.name for s in timed], {"seconds": [round(s.seconds, 2) for s in timed]})
        yield Section("time", "Where the time went", "From the stage before to this one.", chart)


def _latency(report: Report) -> Iterator[Section]:
    if report.latency is None:
        return
    quartiles = dict(zip(("original", "slimmed"), report.latency.quartiles, strict=True))
    rounds = len(report.latency.original)
    text = f"{_upper(report.latency.verdict)}{machine_of(report.latency.machine)}. Both in turns, {rounds} rounds."
    chart = bars("ms", list(quartiles), {"median": [values[1] for values in quartiles.values()]})
    rows = ((name, *values) for name, values in quartiles.items())
    yield Section(
        "latency", "Milliseconds", text, chart, table(("network", "lower quartile", "median", "upper quartile"), rows)
    )


def _rest(report: Report, command: str, written: Sequence[tuple[str, str]]) -> Iterator[Section]:
    if report.notes:
        rows = ((note,) for note in report.notes)
        yield Section("notes", "Notes", "", table=table(("",), rows), folded=False)
    versions = {"mmrazor_lite": __version__, "torch": torch.__version__}
    yield settings({"command": command, "asked": report.asked, "versions": versions})
    if written:
        yield files(written)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
