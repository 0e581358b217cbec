"""A training that ends at a time, or after a number of steps, with learning rates that are at their end by then."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmrazor_lite.engine.progress import StepProgress
from mmrazor_lite.errors import UserError, check_number
from mmrazor_lite.registry import HOOKS

RISE = 20  # steps over which learning rates rise
FIRST = 4  # steps whose speed the first plan is made from
RECENT = 30  # steps whose speed a later one is made from
OFF = 0.05  # share of the steps left by which a plan may miss before there is another


@HOOKS.register_module()
class TimeLimitHook(Hook):
    """Ends a training by iterations after some seconds, and lets learning rates fall to 0 until then.

    They rise over the first 20 steps and fall along half a cosine (SGDR, arXiv:1608.03983, without restarts). How many
    steps the time is enough for is planned after the first four, and again whenever the speed has changed so much that
    the plan misses the end by more than a twentieth of what is left; what is left of the cosine is then spread over the
    steps that are left. Given ``steps`` instead, weights depend on nothing but that number.

    A checkpoint carries the plan and the seconds spent, so a resumed run has the rest of the time.

    Args:
        seconds: For all steps together.
        steps: In the place of ``seconds``.
        title: Of the progress shown; empty for none.
        began: When the time began, by the monotonic clock; by default with the training.

    Raises:
        UserError: Both are given, or neither; a number that is none.
    """

    priority = "NORMAL"

    def __init__(
        self,
        seconds: float | None = None,
        steps: int | None = None,
        title: str = "training",
        began: float | None = None,
    ) -> None:
        if (seconds is None) == (steps is None):
            raise UserError("TimeLimitHook: give seconds, or steps")
        check_number("TimeLimitHook.seconds", seconds, 0, above=True, optional=True)
        check_number("TimeLimitHook.steps", steps, 1, whole=True, optional=True)
        self.seconds, self.steps, self.title = seconds, steps, title
        self._since, self._behind, self._end = FIRST, 0.0, steps  # from this step and share of the cosine to this end
        self._spent, self._began = 0.0, began  # by the runs before; when this one began
        self._durations: deque[float] = deque(maxlen=RECENT)
        self._progress: StepProgress | None = None

    @property
    def spent(self) -> float:
        """Seconds in this run and in those that it goes on from."""
        return self._spent + (0.0 if self._began is None else time.monotonic() - self._began)

    def state(self) -> dict[str, Any]:
        """What a checkpoint carries."""
        if self.seconds is None:
            return {}  # equal runs write equal files
        return {"since": self._since, "behind": self._behind, "end": self._end, "spent": self.spent}

    def load_state(self, state: Mapping[str, Any], where: str) -> None:
        """Take over what :meth:`state` returned."""
        if self.seconds is None:
            return
        try:
            self._since, self._behind = int(state["since"]), float(state["behind"])
            self._end = None if state["end"] is None else int(state["end"])
            self._spent = float(state["spent"])
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{where}: what it says of its time limit is damaged") from None

    def before_train(self, runner: Runner) -> None:
        """Take over the learning rates.

        Raises:
            UserError: There are other schedules, or epochs are counted.
        """
        if runner.param_schedulers:
            raise UserError("TimeLimitHook sets the learning rates: remove param_scheduler")
        if not isinstance(runner.train_loop, IterBasedTrainLoop):
            raise UserError("TimeLimitHook counts steps: set train_cfg=dict(by_epoch=False, max_iters=...)")
        for group in runner.optim_wrapper.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self._step_began = time.monotonic()
        self._began = self._step_began if self._began is None else self._began
        is_over = self.seconds is not None and self.spent >= self.seconds
        if is_over or (self._end is not None and runner.iter >= self._end):
            runner.train_loop.stop_training = True
        if self.title:
            self._progress = StepProgress(self.title, self._done(runner.iter)).__enter__()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set the learning rates of this step."""
        factor = self.factor(runner.iter)
        for group in runner.optim_wrapper.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping | None = None
    ) -> None:
        """Plan anew where need be, and end where the plan ends."""
        now = time.monotonic()
        self._durations.append(now - self._step_began)
        self._step_began = now
        done = runner.iter + 1
        if self.seconds is not None:
            self._plan(done)
        if self._end is not None and done >= self._end:
            runner.train_loop.stop_training = True
        if self._progress is not None:
            self._progress.within(self._done(done), f"step {done:,}{self._loss(outputs)}")

    def after_train(self, runner: Runner) -> None:
        """Nothing more is shown."""
        self.close()

    def close(self) -> None:
        """End the display of the progress, also where the training was broken off."""
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None

    def factor(self, step: int) -> float:
        """What the learning rates of the optimizer are multiplied by in a step."""
        return min(1.0, (step + 1) / RISE) * (1 + math.cos(math.pi * self._behind_at(step))) / 2

    def _behind_at(self, step: int) -> float:
        """Share of the cosine that is behind, before a step."""
        if self._end is None or step <= self._since:
            return self._behind
        return self._behind + (1 - self._behind) * min(1.0, (step - self._since) / max(1, self._end - self._since))

    def _plan(self, done: int) -> None:
        """Set the last step by the time that is left."""
        left = self.seconds - self.spent
        step = statistics.median(self._durations)
        fitting = done + max(0, int(left / step))
        missed = abs(fitting - self._end) if self._end is not None else math.inf
        is_late = left < step / 2
        if self._end is None and done < FIRST and not is_late:
            return  # the first steps are slower than the others
        if is_late or (len(self._durations) >= FIRST and missed > max(1.0, OFF * (fitting - done))):
            behind = self._behind_at(done)
            self._since, self._behind, self._end = max(done, FIRST), behind, fitting if not is_late else done

    def _done(self, step: int) -> float:
        if self.seconds is not None:
            return min(1.0, self.spent / self.seconds)
        return min(1.0, step / self.steps)

    def _loss(self, outputs: Mapping | None) -> str:
        loss = (outputs or {}).get("loss")
        return "" if loss is None or not self._progress.is_due else f", loss {float(loss):.4g}"
