"""Several runs on one page: their networks in one table and one picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from .page import UNITS, Bars, Curves, Outcome, Page, Section, Series, bars, series, settings, table

REFERENCES = ("full network", "original")  # what others are compared with, and no result


def side_by_side(
    pages: Mapping[str, Page],
    folders: Mapping[str, str],
    cost: str = "macs",
    kind: str = "board",
    title: str = "Runs side by side",
    command: str = "",
) -> Page:
    """The page of several runs.

    Args:
        pages: Those of the runs, by what they are called here.
        folders: Of each, from the folder of the new page.
        cost: What the networks are compared in.
        kind, title: Of the new page.
        command: That made it.
    """
    found = {name: [_moved(one, name, folders[name]) for one in page.outcomes] for name, page in pages.items()}
    rows = ((name, page.kind, page.title, page.lead) for name, page in pages.items())
    links = (f"{folders[name]}/report.html" for name in pages)
    parts = [
        Section("runs", "Runs", table=table(("run", "kind", "of", "what came out"), rows, links), folded=False),
        *_fronts(pages, found, cost),
        *_times(pages),
        settings({"command": command}),
    ]
    count = sum(len(_results(outcomes)) for outcomes in found.values())
    lead = f"{count} network{'s' * (count != 1)} of {len(pages)} run{'s' * (len(pages) != 1)}, compared in {cost}."
    outcomes = tuple(one for group in found.values() for one in group)
    return Page(kind, title, lead, (), outcomes, tuple(part for part in parts if part.table is None or part.table.rows))


def _moved(one: Outcome, run: str, folder: str) -> Outcome:
    """An outcome as it is called, and found, from the new page."""
    return replace(one, name=f"{run}: {one.name}", file=f"{folder}/{one.file}" if one.file else "")


def _results(outcomes: list[Outcome]) -> list[Outcome]:
    return [one for one in outcomes if not one.name.endswith(tuple(f": {name}" for name in REFERENCES))]


def _fronts(pages: Mapping[str, Page], found: Mapping[str, list[Outcome]], cost: str) -> Iterator[Section]:
    """A picture for each metric: what came out of each run, and the front of what it tried."""
    metrics = dict.fromkeys(one.scores[0][0] for group in found.values() for one in _results(group) if one.scores)
    for number, metric in enumerate(metrics):
        lines: list[Series] = []
        for name, page in pages.items():
            points = [
                (dict(one.costs)[cost], dict(one.scores)[metric])
                for one in _results(found[name])
                if one.scores and one.scores[0][0] == metric and cost in dict(one.costs)
            ]
            if points:
                lines += [replace(line, name=f"{name}, tried", of=name) for line in _front_of(page, cost, metric)]
                lines.append(series(name, points, "marks"))
        if lines:
            text = "Marks are what each run chose, lines the best of what it measured."
            anchor = "front" if not number else f"front{number + 1}"
            yield Section(anchor, f"Cost and {metric}", text, Curves(UNITS.get(cost, cost), metric, tuple(lines)))


def _front_of(page: Page, cost: str, metric: str) -> Iterator[Series]:
    for section in page.sections:
        if isinstance(section.chart, Curves) and (section.chart.x, section.chart.y) == (UNITS.get(cost, cost), metric):
            yield from (line for line in section.chart.series if line.look == "steps")


def _times(pages: Mapping[str, Page]) -> Iterator[Section]:
    """Seconds of each run, where its page has them."""
    spent: dict[str, float] = {}
    for name, page in pages.items():
        charts = [part.chart for part in page.sections if part.name == "time"]
        if charts and isinstance(charts[0], Bars):
            spent[name] = sum(value or 0 for _, numbers in charts[0].values for value in numbers)
    if spent:
        yield Section(
            "time", "Where the time went", "All steps of a run.", bars("seconds", spent, {"seconds": spent.values()})
        )
