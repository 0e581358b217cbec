"""What the log says of the learning rate."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import RuntimeInfoHook
from mmengine.runner import Runner

from mmrazor_lite.registry import HOOKS

# What a line of the log shows as the mean of the last steps: mmengine's shows the rate of the last step beside losses.
MEAN_PATTERN = r".*(loss|time|data_time|grad_norm|lr$).*"
_STEPS = 10


@HOOKS.register_module()
class RateInfoHook(RuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook``, whose learning rate is one that trains something.

    mmengine shows that of the first group of parameters, which may be frozen. Where all rates are 0 and stay so, which
    trains nothing, it is said once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._still = 0  # steps in a row in which every rate is 0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note the iteration and its learning rates: of each optimizer the first that is not 0."""
        runner.message_hub.update_info("iter", runner.iter)
        moves = False
        for name, rates in runner.optim_wrapper.get_lr().items():
            rate = next((rate for rate in rates if rate), 0.0)
            runner.message_hub.update_scalar(f"train/{name}", rate)
            moves = moves or (rate != 0 and not name.endswith("base_lr"))
        self._still = 0 if moves else self._still + 1
        if self._still == _STEPS:
            runner.logger.warning(
                f"the learning rate is 0 since iteration {runner.iter + 2 - _STEPS}, nothing is learned any more: "
                "optimizer.lr is 0, or param_scheduler ends before train_cfg does"
            )
