"""Least squares from sums over rows: what an output lacks, as a linear function of what makes it.

Shape letters: P rows, G groups of a conv, K numbers that make one output, O outputs of all groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmrazor_lite.models.importance.moments import ridge_of

LARGEST_EXACT = 1024  # inputs up to which a singular system is solved by its eigenvalues
SINGULAR = 1e-6  # ridge of a larger one


@dataclass
class Fit:
    """Change of a weight (G, K, O / G), and of what is added to the outputs (O,)."""

    weight: Tensor
    intercept: Tensor

    def only(self, outputs: Tensor) -> Fit:
        """The change of some outputs alone, (O,) of bools."""
        groups, _, each = self.weight.shape
        return Fit(self.weight * outputs.reshape(groups, 1, each), self.intercept * outputs)


class Moments:
    """Sums over rows of inputs x (P, G, K) and of what the outputs lack, e (P, O): all that a fit needs."""

    def __init__(self) -> None:
        self.rows = 0
        self.x = self.e = self.xx = self.xe = self.ee = 0.0

    def add(self, x: Tensor, e: Tensor) -> None:
        """Add rows; products are of the precision of the rows, sums in double."""
        by_group = x.transpose(0, 1)
        self.rows += len(e)
        self.x = self.x + by_group.sum(1).double()
        self.e = self.e + e.sum(0).double()
        self.xx = self.xx + (by_group.transpose(1, 2) @ by_group).double()
        self.xe = self.xe + (by_group.transpose(1, 2) @ e.reshape(len(e), x.shape[1], -1).transpose(0, 1)).double()
        self.ee = self.ee + e.double().square().sum(0)

    def __add__(self, other: Moments) -> Moments:
        total = Moments()
        for name in vars(total):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    def left(self, fit: Fit | None) -> Tensor:
        """Sum of squares that each output still lacks, with a fit or without: (O,)."""
        if fit is None:
            return self.ee
        change, shift = fit.weight, fit.intercept
        square = (change * (self.xx @ change)).sum(1).reshape(-1)
        cross = (change * self.xe).sum(1).reshape(-1)
        level = (self.x.unsqueeze(1) @ change).reshape(-1)
        total = self.ee + square - 2 * cross + self.rows * shift.square() + 2 * shift * (level - self.e)
        return total.clamp_min(0)


def solve(moments: Moments, ridge: float, intercept: bool) -> Fit:
    """The change that leaves the least of what the outputs lack.

    Args:
        ridge: Of the mean square of an input: what the square of a change costs; of fewer rows than inputs it is more.
        intercept: Whether something may be added to the outputs.
    """
    xx, xe = moments.xx, moments.xe
    mean = moments.x / moments.rows
    level = moments.e.reshape(len(mean), -1) / moments.rows
    if intercept:
        xx = xx - moments.rows * mean.unsqueeze(2) * mean.unsqueeze(1)
        xe = xe - moments.rows * mean.unsqueeze(2) * level.unsqueeze(1)
    ridge = ridge_of(ridge, moments.rows, xx.shape[1]) if ridge else 0.0
    diagonal = xx.diagonal(dim1=1, dim2=2)
    system = xx + torch.diag_embed((ridge * diagonal.mean(1, keepdim=True)).expand_as(diagonal))
    factor, failed = torch.linalg.cholesky_ex(system)
    of_factor = factor.diagonal(dim1=1, dim2=2)
    bad = (failed != 0) | ~(of_factor.amin(1) > 1e-7 * of_factor.amax(1))
    weight = torch.cholesky_solve(xe, factor)
    for group in bad.nonzero()[:, 0].tolist():
        weight[group] = _singular(system[group], xe[group])
    if not intercept:
        return Fit(weight, torch.zeros_like(moments.e))
    return Fit(weight, (level.unsqueeze(1) - mean.unsqueeze(1) @ weight).reshape(-1))


def _singular(system: Tensor, xe: Tensor) -> Tensor:
    """The change where inputs hardly vary: what they say nothing of stays as it is."""
    if not float(system.diagonal().abs().max()) > 0:
        return torch.zeros_like(xe)
    if len(system) > LARGEST_EXACT:
        ridge = SINGULAR * system.diagonal().max()
        return torch.linalg.solve(system + ridge * torch.eye(len(system)).to(system), xe)
    values, vectors = torch.linalg.eigh(system)
    keep = values > 1e-13 * values.max()
    inverse = torch.where(keep, 1 / values.where(keep, torch.ones_like(values)), torch.zeros_like(values))
    return vectors @ (inverse.unsqueeze(1) * (vectors.T @ xe))
