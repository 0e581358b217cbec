"""The one wrapper for training in several processes; every algorithm's own train_step runs inside it."""

from __future__ import annotations

import warnings
from typing import Any

from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmrazor_lite.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class SubnetDDP(MMDistributedDataParallel):
    """Data-parallel training of subnets: gradients of all passes of a batch are reduced once.

    Args:
        module: The algorithm.
        device_ids: Dropped when the algorithm is on the CPU, where torch wants none.
        find_unused_parameters: A pass may leave parameters unused: paths not chosen, norms of other subnets.
        broadcast_buffers: Off: statistics belong to the process that computed them, and a broadcast before every
            pass would overwrite those of the pass before.
        **kwargs: As for ``torch.nn.parallel.DistributedDataParallel``.
    """

    def __init__(
        self,
        module: nn.Module,
        device_ids: list | None = None,
        find_unused_parameters: bool = True,
        broadcast_buffers: bool = False,
        **kwargs: Any,
    ) -> None:
        if all(parameter.device.type == "cpu" for parameter in module.parameters()):
            device_ids = None
        with warnings.catch_warnings():
            # torch 2.14 has another name for it, which sends buffers at the start and is not there before
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            super().__init__(
                module,
                device_ids=device_ids,
                find_unused_parameters=find_unused_parameters,
                broadcast_buffers=broadcast_buffers,
                **kwargs,
            )

    def train_step(self, data: dict | tuple | list, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Run the algorithm's train_step with this wrapper as its forward pass."""
        return self.module.train_step(data, optim_wrapper, forward=self)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model without its wrapper, if it has one."""
    return model.module if is_model_wrapper(model) else model
