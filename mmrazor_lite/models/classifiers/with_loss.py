"""Any network with any outputs, and the loss that its owner trains it with. Letters: N batch, C channels, H W space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmengine.model import BaseModel
from torch import Tensor, nn

from mmrazor_lite.errors import UserError


class WithLoss(BaseModel):
    """A network that knows nothing of losses, called in the modes of a training; its outputs stay what they are.

    Args:
        net: The network.
        loss: Called with (outputs, targets), gives a scalar; None where it is trained without labels.
    """

    def __init__(self, net: nn.Module, loss: Callable[[Any, Any], Tensor] | None = None) -> None:
        super().__init__()
        self.net = net
        self.label_loss = loss

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
        """Run the network on ``inputs`` (N, C, H, W).

        Args:
            inputs: Images.
            data_samples: Targets as the loss takes them.
            mode: ``loss`` for ``{'loss': scalar}``, ``tensor`` for what the network returns.
        """
        outputs = self.net(inputs)
        if mode == "tensor":
            return outputs
        if mode != "loss" or self.label_loss is None:
            raise RuntimeError(f"mode '{mode}' is not known here, or there is no loss for it")
        value = self.label_loss(outputs, data_samples)
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"loss: it gives {found} for (outputs, targets), a scalar tensor is needed")
        return {"loss": value.reshape(())}

    def init_weights(self) -> None:
        """The weights stay as they are."""
