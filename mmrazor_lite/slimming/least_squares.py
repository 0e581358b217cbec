"""Least squares from sums over rows: what an output lacks, as a linear function of what makes it.

Shape letters: P rows, G groups of a conv, K numbers that make one output, O outputs of all groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Fit:
    """Change of a weight (G, K, O / G), and of what is added to the outputs (O,)."""

    weight: Tensor
    intercept: Tensor

    def only(self, outputs: Tensor) -> Fit:
        """The change of some outputs alone, (O,) of bools."""
        groups, _, each = self.weight.shape
        return Fit(self.weight * outputs.reshape(groups, 1, each), self.intercept * outputs)

    def __add__(self, other: Fit) -> Fit:
        return Fit(self.weight + other.weight, self.intercept + other.intercept)

    def of(self, x: Tensor) -> Tensor:
        """What the change gives for inputs x (P, G, K): (P, O)."""
        by_group = x.transpose(0, 1) @ self.weight.to(x)
        return by_group.transpose(0, 1).reshape(len(x), -1) + self.intercept.to(x)


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
        self.xe = self.xe + products(x, e)
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


def products(x: Tensor, e: Tensor) -> Tensor:
    """Sums over rows of inputs (P, G, K) times outputs (P, O): (G, K, O / G), in double."""
    by_group = e.reshape(len(e), x.shape[1], -1).transpose(0, 1)
    return (x.transpose(0, 1).transpose(1, 2) @ by_group).double()


class System:
    """The normal equations of rows, factored once.

    Args:
        ridge: Of the mean square of an input: what the square of a change costs.
        intercept: Whether something may be added to the outputs.
    """

    def __init__(self, moments: Moments, ridge: float, intercept: bool) -> None:
        self._moments, self._intercept = moments, intercept
        xx = moments.xx
        self._mean = moments.x / moments.rows
        if intercept:
            xx = xx - moments.rows * self._mean.unsqueeze(2) * self._mean.unsqueeze(1)
        diagonal = xx.diagonal(dim1=1, dim2=2)
        self._ridge = ridge * diagonal.mean(1, keepdim=True)
        system = xx + torch.diag_embed(self._ridge.expand_as(diagonal))
        self._factor, failed = torch.linalg.cholesky_ex(system)
        of_factor = self._factor.diagonal(dim1=1, dim2=2)
        self._bad = (failed != 0) | ~(of_factor.amin(1) > 1e-7 * of_factor.amax(1))
        self._inverse = _by_eigenvalues(system[self._bad])

    def fit(self) -> Fit:
        """The change that leaves the least of what the outputs lack."""
        return self.step(self._moments.xe, self._moments.e, None)

    def step(self, xe: Tensor, e: Tensor, so_far: Fit | None) -> Fit:
        """The same for other numbers that they lack, after a change so far.

        Args:
            xe, e: As of :class:`Moments`: sums of inputs times what is lacking, and of what is lacking.
        """
        if so_far is not None:
            xe = xe - self._ridge.unsqueeze(2) * so_far.weight
        level = e.reshape(len(self._mean), -1) / self._moments.rows
        if self._intercept:
            xe = xe - self._moments.rows * self._mean.unsqueeze(2) * level.unsqueeze(1)
        weight = torch.cholesky_solve(xe, self._factor)
        if self._bad.any():
            weight[self._bad] = self._inverse @ xe[self._bad]
        if not self._intercept:
            return Fit(weight, torch.zeros_like(e))
        return Fit(weight, (level.unsqueeze(1) - self._mean.unsqueeze(1) @ weight).reshape(-1))


def _by_eigenvalues(systems: Tensor) -> Tensor:
    """Inverses of singular systems: directions in which the rows hardly vary stay as they are."""
    values, vectors = torch.linalg.eigh(systems)
    keep = values > 1e-13 * values.amax(1, keepdim=True).clamp_min(1e-300) if len(values) else values > 0
    inverse = torch.where(keep, 1 / values.where(keep, torch.ones_like(values)), torch.zeros_like(values))
    return vectors @ (inverse.unsqueeze(2) * vectors.transpose(1, 2))
