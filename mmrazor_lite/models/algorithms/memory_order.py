"""The order in which the four dimensions of weights and maps lie in memory."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def lay(model: nn.Module, channels_last: bool) -> None:
    """Lay all tensors (N, C, H, W) of a model with their channels innermost, or as (N, C, H, W) says.

    Values stay, and so do the tensors as objects: an optimizer goes on with them.
    """
    order = torch.channels_last if channels_last else torch.contiguous_format
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=order)
