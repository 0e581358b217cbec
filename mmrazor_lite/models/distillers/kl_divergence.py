"""Soft labels. Shape letters: N batch, K classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrazor_lite.errors import check_number
from mmrazor_lite.registry import DISTILLERS


@DISTILLERS.register_module()
class KLDivergence(nn.Module):
    """Kullback-Leibler divergence of the softened outputs, averaged over the batch.

    ``loss_weight * tau**2 * KL(softmax(teacher / tau) || softmax(student / tau))``; ``tau**2`` keeps the size of the
    gradient independent of the temperature (Hinton et al., 2015, section 2).

    Source: arXiv:1503.02531.

    Args:
        tau: Temperature, above 0.
        loss_weight: Factor on the loss, above 0.
    """

    activation = "softmax"  # what it makes of logits, see check_distillation

    def __init__(self, tau: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        check_number("distiller.tau", tau, 0, above=True)
        check_number("distiller.loss_weight", loss_weight, 0, above=True)
        self.tau = tau
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the scalar loss of ``student`` (N, K); no gradient reaches ``teacher`` (N, K)."""
        dtype = torch.promote_types(student.dtype, torch.float32)  # half precision is too coarse for a log-softmax
        log_student = F.log_softmax(student.to(dtype) / self.tau, dim=1)
        log_teacher = F.log_softmax(teacher.detach().to(dtype) / self.tau, dim=1)
        divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
        return self.loss_weight * self.tau**2 * divergence
