"""The fit of one layer: what is gathered for it, batch by batch, and which change it becomes.

Shape letters: P rows, G groups of a conv, K numbers that make one output, O outputs of all groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmrazor_lite.models.calls import Call

from .activation_fit import Activation, Rows
from .least_squares import Fit, Moments, System


class LayerWork:
    """What is gathered for the fit of a layer, and the fit."""

    def __init__(self, activation: Activation | None, piece: slice | None) -> None:
        self.activation, self.piece = activation, piece
        self.fitted, self.judged = Moments(), Moments()
        self.call: Call | None = None
        self._rows: list[Rows] = []
        self._targets, self._total, self._squares = 0, 0.0, 0.0

    def __call__(self, call: Call, x: Tensor, target: Tensor, lacks: Tensor, judges: Tensor) -> None:
        self.call = call
        x = x if self.piece is None else x[:, :, self.piece]
        x, target, lacks = (t if t.dtype in (torch.float32, torch.float64) else t.float() for t in (x, target, lacks))
        rows = Rows(x, target, lacks, judges.to(x.device))
        for moments, judging in ((self.fitted, False), (self.judged, True)):
            part = rows.some(judging)
            if len(part.x):
                moments.add(part.x, part.lacks)
            if len(part.x) and self.activation is not None:
                self._rows.append(part)
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
        system = System(moments, ridge, intercept)
        fit = system.fit()
        if self.fitted.rows and self.judged.rows:
            trial = System(self.fitted, ridge, intercept)
            fit = self._judged(fit, trial.fit(), system, trial)
        elif self.activation is not None:
            fit = self.activation.descend(self._rows, system, fit)
        varies = float((self._squares - self._total.square() / self._targets).clamp_min(0).sum())
        errors = (moments.left(None), moments.left(fit))
        return fit, *(float((error.sum() / max(varies, 1e-30)).sqrt()) for error in errors)

    def _judged(self, fit: Fit, trial_fit: Fit, system: System, trial: System) -> Fit:
        if self.activation is None:
            return fit.only(self.judged.left(trial_fit) < self.judged.left(None))
        judges, others = ([rows for rows in self._rows if bool(rows.judges[0]) == which] for which in (True, False))
        behind = self.activation.descend(others, trial, trial_fit)
        left = torch.stack([self.activation.left(judges, known) for known in (None, trial_fit, behind)])
        best = left.argmin(0)
        return fit.only(best == 1) + self.activation.descend(self._rows, system, fit).only(best == 2)
