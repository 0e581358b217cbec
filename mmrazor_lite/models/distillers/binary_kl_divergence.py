"""Soft labels of networks that score each class by itself. Shape letters: N batch, K classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmrazor_lite.models.distillers.kl_divergence import KLDivergence
from mmrazor_lite.registry import DISTILLERS


@DISTILLERS.register_module()
class BinaryKLDivergence(KLDivergence):
    """Kullback-Leibler divergence of K independent yes-or-no answers, summed over classes, averaged over the batch.

    ``loss_weight * tau**2 * sum_k KL(sigmoid(teacher_k / tau) || sigmoid(student_k / tau))``, for heads of several
    labels per image, whose loss is a binary cross entropy; of one label per image, it is ``KLDivergence`` that fits.

    Args:
        tau: Temperature, above 0.
        loss_weight: Factor on the loss.
    """

    activation = "sigmoid"

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the scalar loss of ``student`` (N, K); no gradient reaches ``teacher`` (N, K)."""
        dtype = torch.promote_types(student.dtype, torch.float32)
        student, teacher = student.to(dtype) / self.tau, teacher.detach().to(dtype) / self.tau
        yes = torch.sigmoid(teacher)
        agree = F.logsigmoid(teacher) - F.logsigmoid(student)
        differ = F.logsigmoid(-teacher) - F.logsigmoid(-student)
        divergence = (yes * agree + (1 - yes) * differ).sum() / len(student)
        return self.loss_weight * self.tau**2 * divergence
