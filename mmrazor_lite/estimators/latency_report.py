"""How good a latency table is: predicted beside measured times of whole networks.

Shape: S subnets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .latency_table import Correction, LatencyTable

BUSY = 0.1  # spread of repeats from which on times are in doubt


@dataclass(frozen=True)
class Report:
    """A table, and how well it predicts whole networks that it was not made from.

    Attributes:
        table: The table.
        predicted, measured: Milliseconds (S,) of the networks; predicted without a correction.
        entries, distinct: Entries of the table, and the measurements that they come from.
    """

    table: LatencyTable
    predicted: np.ndarray
    measured: np.ndarray
    entries: int
    distinct: int

    @property
    def spread(self) -> float:
        """Of the repeats of one measurement, in the median; see :func:`.steady_rounds.spread`."""
        return self.table.device["spread"]

    def errors(self, corrected: bool = False) -> np.ndarray:
        """Relative errors (S,), without a sign; ``corrected``: with the correction that the table states."""
        fix = self.table.correction if corrected else None
        predicted = self.predicted if fix is None else fix.offset + fix.factor * self.predicted
        return np.abs(predicted - self.measured) / self.measured

    @property
    def rank_correlation(self) -> float:
        """Spearman's, of predicted and measured times."""
        return rank_correlation(self.predicted, self.measured)


def suggest(predicted: np.ndarray, measured: np.ndarray, applied: bool) -> Correction | None:
    """The line that fits measured times (S,) over predicted ones best; None where that is no rising line."""
    if np.ptp(predicted) == 0:
        return None
    factor, offset = np.polyfit(predicted, measured, 1).tolist()
    return Correction(offset, factor, applied) if factor > 0 else None


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays (S,), equal values at their mean rank; NaN where one is constant."""
    ranks = [(x[:, None] > x).sum(1) + (x[:, None] >= x).sum(1) for x in (a, b)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
