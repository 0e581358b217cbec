"""The page of a search: what was tried, what was chosen, and what it took.

All of it is read from the state and the results, so that a search that is resumed at its end writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from mmrazor_lite import __version__
from mmrazor_lite.engine.search_limits import LIMITS
from mmrazor_lite.engine.search_state import SearchState
from mmrazor_lite.estimators.cost_model import CostModel
from mmrazor_lite.estimators.latency_table import CostWithLatency
from mmrazor_lite.search import Budget, Cost
from mmrazor_lite.search.front import non_dominated
from mmrazor_lite.subnet import SearchSpace, Subnet
from mmrazor_lite.visualization.page import (
    UNITS,
    Curves,
    Fact,
    Outcome,
    Page,
    Section,
    bars,
    compared,
    duration,
    files,
    outcome,
    series,
    settings,
    table,
)
from mmrazor_lite.visualization.page_charts import tick

FULL = "full network"
REST = "all other layers"  # a part without a name
PICTURED = 4  # subnets beside each other in a picture


class FoundSubnet(Protocol):
    """A result, see ``search_output.Found``."""

    @property
    def budget(self) -> Budget | None: ...
    @property
    def subnet(self) -> Subnet: ...
    @property
    def costs(self) -> Mapping[str, int | float]: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class Told:
    """What a page says of how the search was made.

    Attributes:
        score_key: The metric that decides.
        made_by: As in all files of the search.
        command: As typed; nothing where the search was called from Python.
        written: Files in the folder of the page, and what they are.
    """

    score_key: str
    made_by: Mapping[str, Any]
    command: str = ""
    written: Sequence[tuple[str, str]] = ()


def search_page(
    algorithm: nn.Module,
    cost: Cost,
    state: SearchState,
    found: Mapping[str, FoundSubnet],
    predicted: Sequence[FoundSubnet],
    told: Told,
) -> Page:
    """The page.

    Args:
        algorithm: The supernet.
        cost: What subnets cost.
        state: Of the search, after its end.
        found: Its results by the names of their files, without an ending.
        predicted: The front by a predictor; nothing where every score was measured.
        told: How it was made.
    """
    space: SearchSpace = algorithm.mutator.search_space
    full = space.max()
    resource = _resource(state, found)
    parts = [
        _front(space, cost, state, found, predicted, resource, told.score_key),
        _progress(state, told.score_key, bool(predicted) or _is_predicted(found)),
        _choices(space, full, found),
        *_by_part(cost, full, found),
        _predictions(found, told.score_key),
        _time(state),
        _settings(state, told),
        files(told.written) if told.written else None,
    ]
    return Page(
        kind="search",
        title=Path(str(told.made_by.get("config") or type(algorithm).__name__)).stem,
        lead=_lead(state, cost, full, found, resource, told.score_key),
        facts=tuple(_facts(state, cost, full, found, resource, told.score_key)),
        outcomes=(_full(space, cost, state), *_outcomes(found, told)),
        sections=tuple(part for part in parts if part is not None),
    )


def _resource(state: SearchState, found: Mapping[str, FoundSubnet]) -> str:
    """What the search is limited in: the horizontal axis."""
    budget = next((one.budget for one in found.values() if one.budget is not None), None)
    if budget is not None:
        return budget.resource
    limits = state.identity.get("constraints") or []
    return str(limits[0][0]) if limits else "macs"


def _is_predicted(found: Mapping[str, FoundSubnet]) -> bool:
    return any("predicted" in one.metrics for one in found.values())


def _lead(
    state: SearchState, cost: Cost, full: Subnet, found: Mapping[str, FoundSubnet], resource: str, key: str
) -> str:
    scored = sum(step["scored"] for step in state.steps)
    told = []
    for one in found.values():
        share = one.costs[resource] / cost.of(full)[resource] if cost.of(full)[resource] else 1
        told.append(f"{key} {one.metrics['score']:.4g} at {tick(one.costs[resource])} {resource} ({share:.1%})")
    return f"{scored:,} subnets were tried. Found: {'; '.join(told)}. In brackets: of the full network."


def _facts(
    state: SearchState, cost: Cost, full: Subnet, found: Mapping[str, FoundSubnet], resource: str, key: str
) -> Iterator[Fact]:
    seconds = sum(step["seconds"]["all"] for step in state.steps)
    yield Fact("subnets tried", f"{sum(step['scored'] for step in state.steps):,}", f"in {len(state.steps):,} steps")
    yield Fact("time", duration(seconds), "all steps")
    for one in list(found.values())[:PICTURED]:
        unit = {"latency": " ms"}.get(resource, f" {resource}")
        yield Fact(f"{key} at {tick(one.costs[resource])}{unit}", f"{one.metrics['score']:.4g}", _limit(one))


def _limit(one: FoundSubnet) -> str:
    return "the best within the limits" if one.budget is None else f"budget {tick(one.budget.limit)}"


def _full(space: SearchSpace, cost: Cost, state: SearchState) -> Outcome:
    subnet = space.max()
    row = ",".join(map(str, space.canonical(space.index(subnet)[None])[0].tolist()))
    metrics = {name: value for name, value in state.memo.get(row, {}).items() if name != "score"}
    return outcome(FULL, cost.of(subnet), metrics)


def _outcomes(found: Mapping[str, FoundSubnet], told: Told) -> Iterator[Outcome]:
    for name, one in found.items():
        scores = {told.score_key: one.metrics["score"]}
        scores |= {key: value for key, value in one.metrics.items() if key not in ("score", told.score_key)}
        yield outcome(name, one.costs, scores, f"{name}.yaml")


def _front(
    space: SearchSpace,
    cost: Cost,
    state: SearchState,
    found: Mapping[str, FoundSubnet],
    predicted: Sequence[FoundSubnet],
    resource: str,
    key: str,
) -> Section:
    rows = np.array([key.split(",") for key in state.memo], np.int64).reshape(len(state.memo), len(space))
    prices = np.asarray(cost(rows)[resource], float) if len(rows) else np.zeros(0)
    scores = np.array([metrics["score"] for metrics in state.memo.values()], float)
    best = np.flatnonzero(non_dominated(scores, prices)) if len(rows) else np.zeros(0, int)
    best = best[np.argsort(prices[best], kind="stable")]
    lines = [series("tried", zip(prices, scores, strict=True), "faint")]
    lines.append(series("the best of its cost", zip(prices[best], scores[best], strict=True), "steps"))
    if predicted:
        points = ((one.costs[resource], one.metrics["score"]) for one in predicted)
        lines.append(series("predicted front", points, "steps"))
    lines.append(series("chosen", ((one.costs[resource], one.metrics["score"]) for one in found.values()), "marks"))
    shown = ((tick(float(prices[i])), float(prices[i]), float(scores[i])) for i in best)
    unit = UNITS.get(resource, resource)
    text = f"{len(rows):,} subnets that were measured. On the line nothing is both cheaper and better."
    chart = Curves(unit, key, tuple(line for line in lines if line.points))
    return Section("front", "Cost and score", text, chart, table(("", unit, key), shown))


def _progress(state: SearchState, key: str, predicted: bool) -> Section | None:
    if not state.steps:
        return None
    tried = np.cumsum([step["asked"] for step in state.steps])
    points = list(zip(tried.tolist(), (step["best_score"] for step in state.steps), strict=True))
    name = f"{key}, predicted" if predicted else key
    rows = ((i, step["asked"], step["scored"], step["best_score"]) for i, step in enumerate(state.steps[:1000], 1))
    text = "The best score of each step, over the subnets asked for."
    chart = Curves("subnets asked for", name, (series("best of the step", points),))
    return Section("progress", "Score over the search", text, chart, table(("step", "asked", "new", key), rows))


def _choices(space: SearchSpace, full: Subnet, found: Mapping[str, FoundSubnet]) -> Section:
    names, subnets = list(space), {FULL: full, **{name: one.subnet for name, one in found.items()}}
    widths = [name for name in names if space[name].kind == "width"]
    rows = [(name, space[name].kind, *(subnet.get(name) for subnet in subnets.values())) for name in names]
    cells = table(("choice", "kind", *subnets), ([*map(_cell, row)] for row in rows))
    if not widths or any(space[name].active_if for name in widths):
        return Section("choices", "What was chosen", "Of every choice; - where it does not matter.", None, cells, False)
    chart = bars(
        "channels",
        widths,
        {name: [subnet[choice] for choice in widths] for name, subnet in list(subnets.items())[: PICTURED + 1]},
        behind=True,
    )
    return Section("choices", "Widths before and after", "Channels of every width group.", chart, cells)


def _cell(value: Any) -> Any:
    return value if isinstance(value, (str, int, float)) or value is None else str(value)


def _by_part(cost: Cost, full: Subnet, found: Mapping[str, FoundSubnet]) -> Iterator[Section]:
    """Macs, and milliseconds where a table has them, of each part of the network before and after."""
    subnets = {FULL: full, **{name: one.subnet for name, one in found.items()}}
    model = cost.cost if isinstance(cost, CostWithLatency) else cost
    if isinstance(model, CostModel):
        found_macs = {name: model.by_part(subnet) for name, subnet in subnets.items()}
        yield _parts("macs", "Where the macs go", "Of every layer, or block that is chosen.", "macs", found_macs)
    if isinstance(cost, CostWithLatency):
        times = {name: cost.table.by_part(subnet) for name, subnet in subnets.items()}
        yield _parts("latency", "Where the milliseconds go", "By the latency table.", "ms", times)


def _parts(name: str, title: str, text: str, unit: str, found: Mapping[str, Mapping[str, float]]) -> Section:
    named = {key: {part or REST: amount for part, amount in amounts.items()} for key, amounts in found.items()}
    return compared(name, title, text, unit, named, pictured=PICTURED + 1)


def _predictions(found: Mapping[str, FoundSubnet], key: str) -> Section | None:
    if not _is_predicted(found):
        return None
    values = {
        "predicted": [one.metrics.get("predicted") for one in found.values()],
        "measured": [one.metrics["score"] for one in found.values()],
    }
    rows = ((name, *pair) for name, *pair in zip(found, *values.values(), strict=True))
    text = "The search went by the predictor; what it found was measured at the end."
    return Section(
        "stages", "Predicted and measured", text, bars(key, found, values), table(("network", *values), rows)
    )


def _time(state: SearchState) -> Section | None:
    names = [name for name in (state.steps[0]["seconds"] if state.steps else {}) if name != "all"]
    if not names:
        return None
    spent = {name: sum(step["seconds"].get(name, 0) for step in state.steps) for name in names}
    text = "Of all steps, mean over the processes."
    return Section("time", "Where the time went", text, bars("seconds", spent, {"seconds": spent.values()}))


def _settings(state: SearchState, told: Told) -> Section:
    known = state.identity
    limits = {kind: _limits(known[kind]) for kind in LIMITS if known.get(kind)}
    evaluator = {key: known["evaluator"].get(key) for key in ("images", "metrics", "calibrate_images")}
    pairs = {
        "command": told.command,
        **{key: told.made_by.get(key) for key in ("config", "checkpoint")},
        **limits,
        "searcher": known["searcher"],
        "seed": known["seed"],
        "evaluator": evaluator,
        "versions": {"mmrazor_lite": __version__, "torch": torch.__version__},
    }
    return settings(pairs)


def _limits(limits: Sequence[Sequence[Any]]) -> list[str]:
    """Budgets (resource, most) and constraints (resource, least, most) in words."""
    told = []
    for resource, *numbers in limits:
        *low, high = (None if number is None else tick(number) for number in numbers)
        least = f"{low[0]} <= " if low and low[0] not in (None, "0") else ""
        told.append(f"{least}{resource}" + ("" if high is None else f" <= {high}"))
    return told
