"""Fits that look at what comes behind the activation of a layer: what a rectifier cuts off need not be right.

Asymmetric reconstruction with the nonlinear response (Zhang et al., arXiv:1505.06798, sections 3.2 and 3.3), by a loss
that is convex: that whose derivative by the output u is ``f(u) - f(target)``, for an activation f that rises (the
matching loss of Auer, Herbster and Warmuth, 1995). As f is nowhere steeper than the identity, the normal equations of
the rows bound it from above, and each step is one solution of them (majorisation).

Shape letters: P rows, G groups of a conv, K numbers that make one output, O outputs of all groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .least_squares import Fit, System, products

STEPS = 10


@dataclass(eq=False)
class Rows:
    """Inputs x (P, G, K), target and what lacks of it (P, O), and which rows judge (P,)."""

    x: Tensor
    target: Tensor
    lacks: Tensor
    judges: Tensor

    def some(self, judges: bool) -> Rows:
        """The rows that judge, or the others."""
        mask = self.judges == judges
        return Rows(self.x[mask], self.target[mask], self.lacks[mask], self.judges[mask])


@dataclass(eq=False)
class Activation:
    """What outputs go through: ``function(slope * y + offset)``; the vectors are (O,)."""

    function: Callable[[Tensor], Tensor]
    slope: Tensor
    offset: Tensor

    def __call__(self, y: Tensor) -> Tensor:
        return self.function(self.slope.to(y) * y + self.offset.to(y))

    def left(self, rows: Sequence[Rows], fit: Fit | None) -> Tensor:
        """Sum of squares of what lacks behind it, with a fit or without: (O,)."""
        return sum((self(part.target) - self(_now(part, fit))).double().square().sum(0) for part in rows if len(part.x))

    def descend(self, rows: Sequence[Rows], system: System, start: Fit) -> Fit:
        """Go on from a fit, with the normal equations of the rows."""
        fit = start
        for _ in range(STEPS):
            xe = e = 0.0
            for part in rows:
                lacks = self._weighted(part.target, _now(part, fit))
                xe, e = xe + products(part.x, lacks), e + lacks.sum(0).double()
            fit = fit + system.step(xe, e, fit)
        return fit

    def _weighted(self, target: Tensor, now: Tensor) -> Tensor:
        lacks = target - now
        behind, before = self(target) - self(now), self.slope.to(now) * lacks
        flat = before.abs() < torch.finfo(now.dtype).tiny ** 0.5
        slope = torch.where(flat, torch.zeros_like(behind), behind / before.where(~flat, torch.ones_like(before)))
        return slope.clamp(0, 1) * lacks


def _now(rows: Rows, fit: Fit | None) -> Tensor:
    now = rows.target - rows.lacks
    return now if fit is None else now + fit.of(rows.x)
