"""Soft labels of networks that score each class by itself. Shape letters: N batch, K classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrazor_lite.errors import check_number
from mmrazor_lite.registry import DISTILLERS


@DISTILLERS.register_module()
class BinaryKLDivergence(nn.Module):
    """Kullback-Leibler divergence of K independent yes-or-no answers, summed over classes, averaged over the batch.

    ``loss_weight * tau**2 * sum_k KL(sigmoid(teacher_k / tau) || sigmoid(student_k / tau))``, for heads of several
    labels per image, whose loss is a binary cross entropy; of one label per image, it is ``KLDivergence`` that fits.

    Args:
        tau: Temperature, above 0.
        loss_weight: Factor on the loss.
    """

    paper = "https://arxiv.org/abs/1503.02531"
    activation = "sigmoid"

    def __init__(self, tau: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        check_number("distiller.tau", tau, 0, above=True)
        check_number("distiller.loss_weight", loss_weight, 0, above=True)
        self.tau = tau
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the scalar loss of ``student`` (N, K); no gradient reaches ``teacher`` (N, K)."""
        dtype = torch.promote_types(student.dtype, torch.float32)
        student, teacher = student.to(dtype) / self.tau, teacher.detach().to(dtype) / self.tau
        yes = torch.sigmoid(teacher)
        agree = F.logsigmoid(teacher) - F.logsigmoid(student)
        differ = F.logsigmoid(-teacher) - F.logsigmoid(-student)
        divergence = (yes * agree + (1 - yes) * differ).sum() / len(student)
        return self.loss_weight * self.tau**2 * divergence
