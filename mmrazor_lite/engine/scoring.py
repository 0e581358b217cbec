"""Scores of subnets, shared by the processes of a run and kept as they come.

A key is a row of the space as text: its indices, with commas between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, barrier, get_dist_info

from mmrazor_lite.engine.evaluator import SubnetEvaluator
from mmrazor_lite.engine.search_state import Metrics, ScoreJournal, SearchState
from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet import SearchSpace

SYNC_SECONDS = 2.0  # what a power cut may cost; the end of a process costs the subnet being scored
Report = Callable[[int, int, float, int], None]  # subnets scored of how many, the best score, how many were known


class Scorer:
    """Evaluates subnets: each process its share, each on all images. What is asked for twice is scored once.

    Args:
        space: The search space.
        evaluator: Scores one.
        state: Of the search: its memo is read and extended.
    """

    def __init__(self, space: SearchSpace, evaluator: SubnetEvaluator, state: SearchState) -> None:
        self.space, self.evaluator, self.state = space, evaluator, state
        self.rank, self.world_size = get_dist_info()
        self._journal = ScoreJournal(state, self.rank)
        self._kept: dict[str, Metrics] = {}  # of a step that was cut off
        self._synced = time.monotonic()

    def begin(self, resume: bool) -> int:
        """Take up what a run that was cut off has scored, or drop it; all processes at once.

        Returns:
            The number of subnets taken up that the state does not know.

        Raises:
            UserError: The journal is damaged or of another search.
        """
        problem = None
        try:
            if resume:
                self._kept = self._journal.read()
            else:
                self._journal.drop()
        except UserError as error:
            problem = str(error)
        # Every process may see other files, and all must know the same. Nobody writes before all have read.
        gathered = all_gather_object((self._kept, problem))
        problem = next((text for _, text in gathered if text), None)
        if problem is not None:
            raise UserError(problem)
        self._kept = {key: metrics for kept, _ in reversed(gathered) for key, metrics in kept.items()}
        return len(self._kept.keys() - self.state.memo.keys())

    def end(self) -> None:
        """Drop the journal: the state on disk has everything."""
        barrier()
        self._journal.drop()

    def __call__(self, rows: np.ndarray, report: Report) -> tuple[list[Metrics], int, dict[str, float]]:
        """Score rows (n, D).

        Returns:
            The metrics of each, how many were not known from earlier steps, and the seconds that a process spent on
            each part of an evaluation (mean over the processes).
        """
        memo = self.state.memo
        keys = [key_of(row) for row in self.space.canonical(rows)]
        new = [key for key in dict.fromkeys(keys) if key not in memo]
        kept = {key: self._kept[key] for key in new if key in self._kept}
        scored, spent = self._score([key for key in new if key not in kept], kept, report)
        memo.update({key: kept.get(key) or scored[key] for key in new})
        return [dict(memo[key]) for key in keys], len(new), spent

    def _score(
        self, keys: Sequence[str], kept: dict[str, Metrics], report: Report
    ) -> tuple[dict[str, Metrics], dict[str, float]]:
        mine: dict[str, Metrics] = {}
        before = dict(self.evaluator.seconds)
        best = max((metrics["score"] for metrics in kept.values()), default=-np.inf)
        error: Exception | None = None
        try:
            for key in keys[self.rank :: self.world_size]:
                mine[key] = self.evaluator.evaluate(self.space.subnet(row_of(key)))
                self._keep(key, mine[key])
                best = max(best, mine[key]["score"])
                done = min(len(keys), self.world_size * len(mine))  # the others are about as far
                report(len(kept) + done, len(kept) + len(keys), best, len(kept))
        except Exception as problem:  # the others wait for this process below
            error = problem
        spent = {name: value - before[name] for name, value in self.evaluator.seconds.items()}
        gathered: list[Any] = all_gather_object((mine, error and f"{type(error).__name__}: {error}", spent))
        if error is not None:
            raise error
        failed = next((text for _, text, _ in gathered if text), None)
        if failed is not None:
            raise UserError(f"another process could not score its subnets: {failed}")
        mean = {name: sum(times[name] for _, _, times in gathered) / len(gathered) for name in spent}
        return {key: metrics for part, _, _ in gathered for key, metrics in part.items()}, mean

    def _keep(self, key: str, metrics: Metrics) -> None:
        now = time.monotonic()
        sync = now - self._synced > SYNC_SECONDS
        self._journal.add(key, metrics, sync)
        if sync:
            self._synced = now


def key_of(row: np.ndarray) -> str:
    """The key of a canonical row (D,)."""
    return ",".join(map(str, row.tolist()))


def row_of(key: str) -> np.ndarray:
    """The row (D,) of a key."""
    return np.array(key.split(","), dtype=np.int64)
