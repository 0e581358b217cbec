"""The files of a search: a subnet for each result, weights where they are asked for, the log, the front."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch import nn

from mmrazor_lite.engine.evaluator import SubnetEvaluator
from mmrazor_lite.engine.search_limits import LIMITS
from mmrazor_lite.engine.search_page import Told, search_page
from mmrazor_lite.engine.search_state import FILE_NAME as STATE_NAME
from mmrazor_lite.engine.search_state import SearchState
from mmrazor_lite.export import write_best_checkpoint
from mmrazor_lite.fileio import FileSet, check_outputs, write_text_atomic
from mmrazor_lite.models.calibration import recalibrated
from mmrazor_lite.search import Budget, Cost
from mmrazor_lite.subnet import Subnet, write_subnet
from mmrazor_lite.visualization.page_file import page_path, write_page

LOG_NAME, FRONT_NAME = "search_log.json", "front.json"
BEST = "best_subnet"


@dataclass(frozen=True)
class Found:
    """One result of a search: for a budget, or the best; what it costs and how it scored."""

    budget: Budget | None
    subnet: Subnet
    costs: Mapping[str, int | float]
    metrics: Mapping[str, float]

    @property
    def score(self) -> dict[str, float]:
        """The metrics under their names."""
        return {name: value for name, value in self.metrics.items() if name != "score"}


@dataclass(frozen=True)
class Front:
    """What nothing is both cheaper in ``resource`` and better than, the cheapest first."""

    resource: str
    found: Sequence[Found]


class SearchOutput:
    """Writes what a search found into the folder of its state; the first process alone touches the disk.

    Args:
        algorithm: The supernet.
        cost: What subnets cost.
        state: Of the search, for the log.
        evaluator: Has the images that statistics are measured on.
        made_by: Goes into all files.
        command: That made them, for the page.
    """

    def __init__(
        self,
        algorithm: nn.Module,
        cost: Cost,
        state: SearchState,
        evaluator: SubnetEvaluator,
        made_by: Mapping[str, Any],
        command: str = "",
    ) -> None:
        self._cost, self._command = cost, command
        self._algorithm, self._state, self._evaluator, self._made_by = algorithm, state, evaluator, made_by
        self._folder = state.path.parent

    def check(self, budgets: Sequence[tuple] | None, more: Sequence[str] = ()) -> None:
        """Refuse names that cannot be written, and ``more``, before the work: see :func:`check_outputs`."""
        results = names_of([Budget(*budget) for budget in budgets] if budgets else [None])
        names = [
            STATE_NAME,
            LOG_NAME,
            FRONT_NAME,
            page_path("").name,
            page_path("").with_suffix(".json").name,
            *more,
            *(f"{name}{end}" for name in results for end in (".yaml", ".pth")),
        ]
        check_outputs(map(self._folder.joinpath, names))

    def write(self, found: Sequence[Found], front: Front | None = None) -> list[dict[str, Any]]:
        """Write all files, which get their names together, and return the results, see ``SearchLoop.run``."""
        names = names_of([one.budget for one in found])
        results = [_result(one, self._folder / f"{name}.yaml") for one, name in zip(found, names, strict=True)]
        if not is_main_process():
            return results
        with FileSet() as files:
            for one, result in zip(found, results, strict=True):
                if one.budget is None or front is not None:
                    self._write_weights(one, result["file"].with_suffix(".pth"), files)
                about = {"resources": one.costs, "score": one.score, "made_by": self._made_by}
                write_subnet(files.new(result["file"]), one.subnet, self._algorithm.mutator.search_space, **about)
            if front is not None:
                self._write_front(front, files.new(self._folder / FRONT_NAME))
            self._write_log(files.new(self._folder / LOG_NAME), results)  # the last: with results, all files are there
        for one, result in zip(found, results, strict=True):
            costs = ", ".join(f"{one.costs[key] / 1e6:.2f}M {key}" for key in ("macs", "flops", "params"))
            score = f"{self._evaluator.score_key} {one.metrics['score']:.2f}"
            print_log(f"search: {result['file']} ({costs}, {score})", logger="current")
        self._write_page(dict(zip(names, found, strict=True)), front)
        return results

    def _write_page(self, found: Mapping[str, Found], front: Front | None) -> None:
        """After all else: the page costs nothing of the results."""
        about = {".yaml": "a subnet", ".pth": "its weights"}
        named = [(f"{name}{end}", what) for name in found for end, what in about.items()]
        named += [(FRONT_NAME, "the front as data"), (LOG_NAME, "the steps"), (STATE_NAME, "for --resume")]
        named.append((str(self._made_by.get("config") or ""), "the config"))
        written = [(name, what) for name, what in named if name and (self._folder / name).is_file()]
        is_predicted = front is not None and any("predicted" in one.metrics for one in found.values())
        told = Told(self._evaluator.score_key, self._made_by, self._command, written)
        predicted = front.found if front is not None and is_predicted else ()
        page = search_page(self._algorithm, self._cost, self._state, found, predicted, told)
        for path in write_page(page_path(self._folder), page)[:1]:
            print_log(f"search: {path} shows all of it", logger="current")

    def write_log(self) -> None:
        """Write the steps taken so far, for people."""
        self._write_log(self._folder / LOG_NAME, ())

    def _write_log(self, path: Path, results: Sequence[Mapping[str, Any]]) -> None:
        identity, steps = self._state.identity, self._state.steps
        log = {
            "made_by": self._made_by,
            **{kind: identity[kind] for kind in LIMITS if kind in identity},
            "subnets_scored": sum(step["scored"] for step in steps),
            "results": [{"file": one["file"].name, **{k: one[k] for k in ("resources", "score")}} for one in results],
            "steps": steps,
        }
        write_text_atomic(path, json.dumps(log, indent=2) + "\n")

    def _write_front(self, front: Front, path: Path) -> None:
        """For people and plots."""
        entries = [
            {"choices": one.subnet.to_dict(), "resources": one.costs, "score": one.metrics["score"]}
            for one in front.found
        ]
        document = {"made_by": self._made_by, "resource": front.resource, "front": entries}
        write_text_atomic(path, json.dumps(document, indent=2) + "\n")

    def _write_weights(self, one: Found, path: Path, files: FileSet) -> None:
        def calibrated() -> AbstractContextManager:
            return recalibrated(self._algorithm, self._evaluator.calibration)

        write_best_checkpoint(self._algorithm, one.subnet, path, score=one.score, calibrated=calibrated, files=files)


def _result(one: Found, path: Path) -> dict[str, Any]:
    limit = None if one.budget is None else tuple(one.budget)
    return {"budget": limit, "file": path, "subnet": one.subnet, "resources": dict(one.costs), "score": one.score}


def names_of(budgets: Sequence[Budget | None]) -> list[str]:
    """File names of the subnets for budgets, without their endings, all different."""

    def name(budget: Budget | None, digits: int) -> str:
        if budget is None:
            return BEST
        if budget.resource == "latency":
            return f"subnet_latency_{budget.limit:.{digits}g}ms"
        return f"subnet_{budget.resource}_{budget.limit / 1e6:.{digits}g}M"

    names = [name(budget, 6) for budget in budgets]
    counts = Counter(names)
    return [short if counts[short] == 1 else name(budget, 17) for short, budget in zip(names, budgets, strict=True)]
