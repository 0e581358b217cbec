"""What the log says of the learning rate: as of the losses, the mean of the last iterations."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmrazor_lite.registry import HOOKS

MEAN_PATTERN = (
    r".*(loss|time|data_time|grad_norm|lr$).*"  # mmengine's shows the rate of the last step beside the mean loss
)
_STEPS = 10


@HOOKS.register_module()
class LearningRateHook(Hook):
    """Says once that the learning rate has become 0 and stays so, which trains nothing."""

    priority = "LOW"

    def __init__(self) -> None:
        self._steps = 0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Count the steps in a row in which every learning rate is 0."""
        rates = runner.optim_wrapper.get_lr().items()
        moves = any(rate for name, values in rates if not name.endswith("base_lr") for rate in values)
        self._steps = 0 if moves else self._steps + 1
        if self._steps == _STEPS:
            runner.logger.warning(
                f"the learning rate is 0 since iteration {runner.iter + 2 - _STEPS}, nothing is learned any more: "
                "param_scheduler ends before train_cfg does"
            )
