"""Stop when a metric no longer improves; a run that is killed and resumed stops where it would have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import Runner

from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import HOOKS


@HOOKS.register_module()
class ResumableEarlyStoppingHook(EarlyStoppingHook):
    """mmengine's ``EarlyStoppingHook``, whose best score and count of validations are in every checkpoint."""

    priority = "LOW"  # before a checkpoint that follows a validation

    def state(self) -> dict[str, Any]:
        """What a checkpoint carries."""
        return {"monitor": self.monitor, "best_score": float(self.best_score), "wait_count": self.wait_count}

    def load_state(self, state: Mapping[str, Any], where: str) -> None:
        """Take over what :meth:`state` returned, of the same metric; raise ``UserError`` where it is damaged."""
        try:
            best, count, monitor = float(state["best_score"]), int(state["wait_count"]), state["monitor"]
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{where}: what it says of early stopping is damaged; start from it with load_from"
            ) from None
        if monitor == self.monitor:
            self.best_score, self.wait_count = best, count

    def before_train(self, runner: Runner) -> None:
        """Go no further where the run before was stopped."""
        threshold = self.stopping_threshold
        reached = threshold is not None and self.rule_map[self.rule](self.best_score, threshold)
        if self.wait_count >= self.patience or reached:
            runner.train_loop.stop_training = True
            runner.logger.warning(
                f"the run was stopped early: best {self.monitor} {self.best_score:.4g}, {self.wait_count} validations "
                "without a better one; a larger patience goes on"
            )
