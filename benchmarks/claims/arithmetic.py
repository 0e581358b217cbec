"""What is computed from accuracies: paired differences, their errors, and agreement of two orders.

Letters: S seeds, K controls, N subnets.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Difference:
    """A mean difference in points, its standard error, NaN of a single value, and of how many values it is."""

    mean: float
    error: float
    values: int

    @property
    def half_interval(self) -> float:
        """Half of the 95 % interval of the mean, by Student's t."""
        from scipy.stats import t

        return float(t.ppf(0.975, self.values - 1)) * self.error if self.values > 1 else float("nan")

    @property
    def errors(self) -> float:
        """How many errors it is ahead."""
        return self.mean / self.error if self.error > 0 else float("nan")

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ({self.error:.2f})"


def standard_error(values: Sequence[float]) -> float:
    """Of the mean."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """The mean of ``ours - theirs`` (S each), seed by seed: what a seed does to both drops out."""
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    return Difference(statistics.fmean(gaps), standard_error(gaps), len(gaps))


def ahead_of_draws(ours: Sequence[float], others: Sequence[Sequence[float]]) -> Difference:
    """Accuracies (S) beside those of other controls for each seed, (S, any number), which are trained once each.

    The differences by seed have in them what the seeds do and what the draw of the controls does, so their error is
    that of both. Controls that are trained with every seed would cost S times as much, and narrow it little: what
    differs is mostly the controls.
    """
    return paired(ours, [statistics.fmean(drawn) for drawn in others])


def tau(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b of two lists (N); NaN where one of them is all ties."""
    return float(_taus(np.asarray(a, dtype=float)[None], np.asarray(b, dtype=float)[None])[0])


def tau_interval(a: Sequence[float], b: Sequence[float], draws: int = 2000, share: float = 0.9) -> tuple[float, float]:
    """The middle ``share`` of tau over bootstrap draws of the subnets."""
    chosen = np.random.default_rng(0).integers(len(a), size=(draws, len(a)))
    drawn = _taus(np.asarray(a, dtype=float)[chosen], np.asarray(b, dtype=float)[chosen])
    low, high = np.nanquantile(drawn, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def _taus(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Tau-b (n,) of the rows of two tables (n, N): concordant less discordant pairs, of those that are no ties."""
    signs = [np.sign(table[:, :, None] - table[:, None, :]) for table in (a, b)]
    pairs = [np.abs(sign).sum((1, 2)) for sign in signs]
    with np.errstate(invalid="ignore"):
        return (signs[0] * signs[1]).sum((1, 2)) / np.sqrt(pairs[0] * pairs[1])
