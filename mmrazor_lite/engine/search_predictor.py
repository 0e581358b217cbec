"""The predictor of a search: read from a file, or fitted to the first subnets that the search evaluates.

Shapes: n rows, D choices.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from mmrazor_lite.checkpoints import checkpoint_hash
from mmrazor_lite.errors import UserError, check_number, nearest, short
from mmrazor_lite.search import AccuracyPredictor, Constraint, Cost
from mmrazor_lite.search.fit import LEAST, fit_predictor
from mmrazor_lite.search.within_limits import LegalRows
from mmrazor_lite.subnet import SearchSpace

FILE_NAME = "predictor.safetensors"
Score = Callable[[np.ndarray], Sequence[Mapping[str, float]]]  # rows (n, D) -> the metrics of each, by evaluation


class SearchPredictor:
    """What scores candidates in place of the evaluator.

    Args:
        said: ``search_cfg.predictor``: a file, ``dict(samples=N)``, or None where the evaluator scores.
        mutator: Of the supernet, for its space and network.
        constraints: That the subnets fitted to must keep.
        cost: What subnets cost.
        seed: Of the subnets drawn, and of the fit.

    Raises:
        UserError: A file that is no predictor of this network; an unknown option, or too few samples.
    """

    def __init__(
        self, said: str | Path | Mapping[str, int] | None, mutator: Any, constraints: Sequence[Constraint], cost: Cost,
        seed: int,
    ) -> None:  # fmt: skip
        self._space, self._network = mutator.search_space, mutator.cost_model.fingerprint
        self._constraints, self._cost, self._seed = constraints, cost, seed
        self.samples = _samples(said) if isinstance(said, Mapping) else 0
        self._predict = None if said is None or self.samples else _read(said, self._space, self._network)
        identity = {"predictor": {"samples": self.samples} if self.samples else said and checkpoint_hash(said)}
        self.identity: dict[str, Any] = {} if said is None else identity

    @property
    def writes(self) -> list[str]:
        """The names of the files that a fit writes."""
        return [FILE_NAME] if self.samples else []

    @property
    def is_used(self) -> bool:
        """Whether candidates are predicted; not before a fit, nor where there was nothing to fit to."""
        return self._predict is not None

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Predicted scores (n,) of rows (n, D)."""
        return self._predict(rows)

    def fit(self, score: Score, folder: Path) -> None:
        """Evaluate the first subnets, fit a predictor to them, and write it; nothing to do for one of a file.

        Every process does the same. Where all subnets score alike nothing can be learnt: the search evaluates its
        candidates then, and says so.

        Raises:
            UserError: There are too few subnets within the limits.
        """
        if not self.samples:
            return
        rows = self.draw()
        print_log(f"search: evaluates {len(rows)} subnets to fit a predictor to", logger="current")
        scores = np.array([metrics["score"] for metrics in score(rows)])
        if np.ptp(scores) == 0:
            print_log(
                f"search: all {len(rows)} subnets have the score {scores[0]:g}, which no predictor can learn from; the "
                "candidates are evaluated instead (is the supernet trained?)",
                logger="current",
                level=logging.WARNING,
            )
            return
        predictor = fit_predictor(self._space, rows, scores, seed=self._seed)
        predictor.facts |= {"network": self._network}
        self._predict = predictor
        if is_main_process():
            predictor.write(folder / FILE_NAME)
        facts = predictor.facts
        print_log(
            f"search: predictor fitted to {facts['train']} subnets; on {facts['held_out']} held out: Kendall tau "
            f"{_shown(facts['kendall_tau'])}, error {facts['rmse']:.3g} (predicting the mean: "
            f"{facts['rmse_of_the_mean']:.3g}); wrote {folder / FILE_NAME}",
            logger="current",
        )

    def draw(self) -> np.ndarray:
        """The subnets (n, D) to fit to: different ones within the limits, by the seed.

        Raises:
            UserError: There are fewer than a fit needs.
        """
        legal = LegalRows(self._space, self._cost, self._constraints)
        rows = legal.draw(np.random.default_rng(self._seed), self.samples, set(), legal.corners[:0])
        if len(rows) < LEAST:
            raise UserError(
                f"search_cfg.predictor: {len(rows)} subnets are within the limits, a predictor is fitted to {LEAST} or "
                "more; search without it"
            )
        return rows


def _samples(said: Mapping[str, Any]) -> int:
    odd = next((key for key in said if key != "samples"), None)
    if odd is not None or "samples" not in said:
        what = f"unknown key {short(odd)}{nearest(str(odd), ['samples'])}" if odd is not None else "no 'samples'"
        raise UserError(f"search_cfg.predictor: {what}; give a file, or dict(samples=500) to fit one")
    check_number("search_cfg.predictor.samples", said["samples"], LEAST, whole=True)
    return said["samples"]


def _read(path: str | Path, space: SearchSpace, network: str) -> AccuracyPredictor:
    predictor = AccuracyPredictor.read(path, space, network)
    if predictor.encoding == "ofa":
        print_log(
            f"search: {path} does not say of which network it is; the published one is of OFAMobileNetV3 at "
            "width_mult=1.2",
            logger="current",
            level=logging.WARNING,
        )
    return predictor


def _shown(correlation: float | None) -> str:
    return "none" if correlation is None else f"{correlation:.3f}"
