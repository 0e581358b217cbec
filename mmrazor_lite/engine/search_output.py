"""The files of a search: a subnet for each result, weights where they are asked for, the log, the front."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log

from mmrazor_lite.engine.search_state import FILE_NAME as STATE_NAME
from mmrazor_lite.fileio import FileSet, check_outputs, write_text_atomic
from mmrazor_lite.models.calibration import recalibrated
from mmrazor_lite.search import Budget, HasFront
from mmrazor_lite.subnet import Subnet, write_subnet

if TYPE_CHECKING:
    from mmrazor_lite.engine.search_loop import SearchLoop

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


class SearchOutput:
    """Writes what ``loop`` found; the first process alone touches the disk."""

    def __init__(self, loop: SearchLoop) -> None:
        self._loop = loop

    def check(self) -> None:
        """Refuse names that cannot be written, before the work: see :func:`check_outputs`."""
        budgets = self._loop.limits.get("budgets") or [None]
        results = names_of([budget and Budget(*budget) for budget in budgets])
        names = [STATE_NAME, LOG_NAME, FRONT_NAME, *(f"{name}{end}" for name in results for end in (".yaml", ".pth"))]
        check_outputs(map(self._loop.work_dir.joinpath, names))

    def write(self, found: Sequence[Found]) -> list[dict[str, Any]]:
        """Write all files, which get their names together, and return the results, see ``SearchLoop.run``."""
        with FileSet() as files:
            results, lines = self._write(found, files)
        for line in lines:
            print_log(line, logger="current")
        return results

    def _write(self, found: Sequence[Found], files: FileSet) -> tuple[list[dict[str, Any]], list[str]]:
        loop, results, lines = self._loop, [], []
        has_front = isinstance(loop.searcher, HasFront)
        for one, name in zip(found, names_of([one.budget for one in found]), strict=True):
            path = loop.work_dir / f"{name}.yaml"
            if loop.rank == 0:
                if one.budget is None or has_front:
                    self._write_weights(one, path.with_suffix(".pth"), files)
                about = {"resources": one.costs, "score": one.score, "made_by": loop.made_by}
                write_subnet(files.new(path), one.subnet, loop.space, **about)
                costs = ", ".join(f"{one.costs[key] / 1e6:.2f}M {key}" for key in ("macs", "flops", "params"))
                lines.append(f"search: {path} ({costs}, {loop.evaluator.score_key} {one.metrics['score']:.2f})")
            limit = None if one.budget is None else tuple(one.budget)
            entry = {"budget": limit, "file": path, "subnet": one.subnet}
            results.append({**entry, "resources": dict(one.costs), "score": one.score})
        if loop.rank == 0:
            if has_front:
                self._write_front(files)
            self._write_log(files.new(loop.work_dir / LOG_NAME), results)  # the last: with results, all files are there
        return results, lines

    def write_log(self) -> None:
        """Write the steps taken so far, for people."""
        self._write_log(self._loop.work_dir / LOG_NAME, ())

    def _write_log(self, path: Path, results: Sequence[Mapping[str, Any]]) -> None:
        loop = self._loop
        found = [
            {"file": result["file"].name, "resources": result["resources"], "score": result["score"]}
            for result in results
        ]
        log = {
            "made_by": loop.made_by,
            **{kind: loop.state.identity[kind] for kind in loop.limits},
            "subnets_scored": sum(step["scored"] for step in loop.state.steps),
            "results": found,
            "steps": loop.state.steps,
        }
        write_text_atomic(path, json.dumps(log, indent=2) + "\n")

    def _write_front(self, files: FileSet) -> None:
        """All subnets that nothing is both cheaper and better than, for people and plots."""
        loop, entries = self._loop, []
        for _, row, metrics in loop.searcher.front():
            subnet = loop.space.subnet(row)
            entries.append({"choices": subnet.to_dict(), "resources": loop.cost.of(subnet), "score": metrics["score"]})
        document = {"made_by": loop.made_by, "resource": loop.searcher.resource, "front": entries}
        write_text_atomic(files.new(loop.work_dir / FRONT_NAME), json.dumps(document, indent=2) + "\n")

    def _write_weights(self, one: Found, path: Path, files: FileSet) -> None:
        from mmrazor_lite.export.best_subnet import write_best_checkpoint

        algorithm = self._loop.algorithm

        def calibrated() -> AbstractContextManager:
            return recalibrated(algorithm, self._loop.evaluator.calibration)

        write_best_checkpoint(algorithm, one.subnet, path, score=one.score, calibrated=calibrated, files=files)


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
