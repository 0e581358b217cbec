"""mmpretrain's linear classifier without its bias."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmrazor_lite.registry import MODELS


@MODELS.register_module(name="BiasFreeLinearClsHead")
def bias_free_linear_head(num_classes: int, in_channels: int, **options: Any) -> nn.Module:
    """mmpretrain's ``LinearClsHead`` whose layer has no bias, as SPOS's authors train it (arXiv:1904.00420).

    Args:
        num_classes: Logits.
        in_channels: Features.
        options: Further arguments of ``LinearClsHead``.
    """
    from mmpretrain.models.heads import LinearClsHead  # slow to import

    head = LinearClsHead(num_classes, in_channels, **options)
    head.fc = nn.Linear(in_channels, num_classes, bias=False)
    return head
