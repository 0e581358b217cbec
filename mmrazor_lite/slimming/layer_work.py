"""The fit of one layer: what is gathered for it, batch by batch, and which change it becomes.

Shape letters: P rows, G groups of a conv, K numbers that make one output, O outputs of all groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmrazor_lite.models.calls import Call

from .least_squares import Fit, Moments, solve


class LayerWork:
    """What is gathered for the fit of a layer, and the fit."""

    def __init__(self, piece: slice | None) -> None:
        self.piece = piece
        self.fitted, self.judged = Moments(), Moments()
        self.call: Call | None = None
        self._targets, self._total, self._squares = 0, 0.0, 0.0

    def __call__(self, call: Call, x: Tensor, target: Tensor, lacks: Tensor, judges: Tensor) -> None:
        self.call = call
        x = x if self.piece is None else x[:, :, self.piece]
        x, target, lacks = (t if t.dtype in (torch.float32, torch.float64) else t.float() for t in (x, target, lacks))
        judges = judges.to(x.device)
        for moments, rows in ((self.fitted, ~judges), (self.judged, judges)):
            if rows.any():
                moments.add(x[rows], lacks[rows])
        self._targets += len(target)
        self._total = self._total + target.sum(0).double()
        self._squares = self._squares + target.double().square().sum(0)

    @property
    def is_finite(self) -> bool:
        every = self.fitted + self.judged
        return bool(every.xx.isfinite().all() and every.ee.isfinite().all())

    def solved(self, ridge: float, intercept: bool) -> tuple[Fit, float, float]:
        """The fit, and the relative error before and after; an output that it makes worse where it judges stays."""
        moments = self.fitted + self.judged
        fit = solve(moments, ridge, intercept)
        if self.fitted.rows and self.judged.rows:
            trial = solve(self.fitted, ridge, intercept)
            fit = fit.only(self.judged.left(trial) < self.judged.left(None))
        varies = float((self._squares - self._total.square() / self._targets).clamp_min(0).sum())
        errors = (moments.left(None), moments.left(fit))
        return fit, *(float((error.sum() / max(varies, 1e-30)).sqrt()) for error in errors)
