"""Learning rates as mmcv's runner sets them: a policy over the whole training, times a warmup; each in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler
from torch.optim import Optimizer

from mmrazor_lite.errors import UserError, check_flag, check_number, check_one_of
from mmrazor_lite.registry import PARAM_SCHEDULERS

_WHERE = "param_scheduler (PolicyLR)"
Rate = Callable[["PolicyLR", float, float], float]  # the rate of a group, by its base rate and by the progress


def _fixed(self: PolicyLR, base: float, done: float) -> float:
    return base


def _step(self: PolicyLR, base: float, done: float) -> float:
    at = self.step_at
    times = done // at if isinstance(at, int) else next((i for i, first in enumerate(at) if done < first), len(at))
    rate = base * self.gamma**times
    return rate if self.min_lr is None else max(rate, self.min_lr)


def _exp(self: PolicyLR, base: float, done: float) -> float:
    return base * self.gamma**done


def _inv(self: PolicyLR, base: float, done: float) -> float:
    return base * (1 + self.gamma * done) ** -self.power


def _poly(self: PolicyLR, base: float, done: float) -> float:
    lowest = self.lowest(base)
    return (base - lowest) * (1 - done / self.length) ** self.power + lowest


def _cosine(self: PolicyLR, base: float, done: float) -> float:
    return _along_cosine(base, self.lowest(base), done / self.length)


def _flat_cosine(self: PolicyLR, base: float, done: float) -> float:
    start = round(self.length * self.start_percent)
    if done < start:
        return base
    return _along_cosine(base, self.lowest(base), (done - start) / max(self.length - start, 1))


def _linear(self: PolicyLR, base: float, done: float) -> float:
    return base + (self.lowest(base) - base) * done / self.length


def _along_cosine(start: float, end: float, share: float) -> float:
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * share))


# Policy -> the rate, the options that it has, and those that it needs.
POLICIES: dict[str, tuple[Rate, frozenset[str], frozenset[str]]] = {
    "fixed": (_fixed, frozenset(), frozenset()),
    "step": (_step, frozenset({"step", "gamma", "min_lr"}), frozenset({"step"})),
    "exp": (_exp, frozenset({"gamma"}), frozenset({"gamma"})),
    "inv": (_inv, frozenset({"gamma", "power"}), frozenset({"gamma"})),
    "poly": (_poly, frozenset({"power", "min_lr"}), frozenset()),
    "cosine": (_cosine, frozenset({"min_lr", "min_lr_ratio"}), frozenset()),
    "flat_cosine": (_flat_cosine, frozenset({"min_lr", "min_lr_ratio", "start_percent"}), frozenset()),
    "linear": (_linear, frozenset({"min_lr", "min_lr_ratio"}), frozenset()),
}
WARMUPS: dict[str, Callable[[float, float], float]] = {  # of the ratio at the beginning and of the share done
    "constant": lambda ratio, share: ratio,
    "linear": lambda ratio, share: 1 - (1 - share) * (1 - ratio),
    "exp": lambda ratio, share: ratio ** (1 - share),
}


@PARAM_SCHEDULERS.register_module()
class PolicyLR(_ParamScheduler):
    """The learning rate of a policy, times that of a warmup, for each step as mmcv 1.x computes it.

    Rates are not multiplied from step to step but computed anew, so that a warmup and a lowest rate go together. With b
    for the base rate of a group, m for the lowest one, t for the progress and T for its end:

    ===============  ===============================================================
    ``fixed``        b
    ``step``         b * gamma ** (how many steps are done), at least ``min_lr``
    ``exp``          b * gamma ** t
    ``inv``          b * (1 + gamma * t) ** -power
    ``poly``         (b - m) * (1 - t / T) ** power + m
    ``cosine``       m + (b - m) * (1 + cos(pi * t / T)) / 2
    ``flat_cosine``  b, and the cosine for the rest from T * ``start_percent``
    ``linear``       b + (m - b) * t / T
    ===============  ===============================================================

    In step i of n steps of warmup, that is multiplied by ``warmup_ratio`` (``constant``), by a line from it to 1
    (``linear``), or by ``warmup_ratio ** (1 - i / n)`` (``exp``).

    Source: mmcv 1.x, ``LrUpdaterHook`` and its subclasses.

    Args:
        optimizer: The wrapper of the optimizer.
        policy: One of :data:`POLICIES`.
        progress: What t and T count: ``"iter"``, or ``"epoch"``, so that rates change between epochs only.
        end: T in iterations; in epochs with ``by_epoch=True, convert_to_iter_based=True``.
        warmup: One of :data:`WARMUPS`; None for none.
        warmup_iters: Steps that it takes.
        warmup_ratio: Where it begins, above 0 and at most 1.
        warmup_by_epoch: ``warmup_iters`` is in epochs.
        step: Of ``step``: a number of steps between two drops, or a list of when they are.
        gamma: Factor of a drop.
        power: Of ``poly`` and ``inv``.
        min_lr: The lowest rate; 0 by default, none for ``step``.
        min_lr_ratio: The lowest rate as a share of the base rate.
        start_percent: Share of the training at the base rate, for ``flat_cosine``.
        by_epoch: False, but for ``end`` in epochs.
        epoch_length: Iterations of an epoch, where something is counted in epochs.
        last_step, verbose: As for mmengine's schedulers.

    Raises:
        UserError: An option that the policy does not have, or a value out of range.
    """

    def __init__(
        self,
        optimizer: OptimWrapper | Optimizer,
        policy: str,
        progress: str = "iter",
        end: int = INF,
        warmup: str | None = None,
        warmup_iters: int = 0,
        warmup_ratio: float = 0.1,
        warmup_by_epoch: bool = False,
        step: int | Sequence[int] | None = None,
        gamma: float | None = None,
        power: float | None = None,
        min_lr: float | None = None,
        min_lr_ratio: float | None = None,
        start_percent: float | None = None,
        by_epoch: bool = True,
        epoch_length: int | None = None,
        last_step: int = -1,
        verbose: bool = False,
    ) -> None:
        check_one_of(f"{_WHERE}.policy", policy, tuple(POLICIES))
        check_one_of(f"{_WHERE}.progress", progress, ("iter", "epoch"))
        given = {"step": step, "gamma": gamma, "power": power, "min_lr": min_lr, "min_lr_ratio": min_lr_ratio}
        _check_options(policy, {**given, "start_percent": start_percent})
        _check_warmup(warmup, warmup_iters, warmup_ratio, warmup_by_epoch)
        if by_epoch:
            raise UserError(
                f"{_WHERE} steps after each iteration: give by_epoch=False, or convert_to_iter_based=True where end is "
                "in epochs"
            )
        if epoch_length is None and (progress == "epoch" or (warmup and warmup_by_epoch)):
            raise UserError(f"{_WHERE} counts in epochs: give by_epoch=True and convert_to_iter_based=True")
        self.policy = policy
        self.step_at = step if step is None or isinstance(step, int) else tuple(step)
        self.gamma = 0.1 if gamma is None else gamma
        self.power = 1.0 if power is None else power
        self.min_lr, self.min_lr_ratio = min_lr, min_lr_ratio
        self.start_percent = 0.75 if start_percent is None else start_percent
        self.unit = epoch_length if progress == "epoch" else 1  # iterations of one count of the progress
        self.length = end / self.unit
        self.warmup, self.warmup_ratio = warmup, warmup_ratio
        self.warmup_iters = warmup_iters * (epoch_length if warmup_by_epoch else 1) if warmup else 0
        super().__init__(optimizer, "lr", 0, INF, last_step, False, verbose)

    @classmethod
    def build_iter_from_epoch(
        cls, *args: Any, end: int = INF, by_epoch: bool = True, epoch_length: int | None = None, **kwargs: Any
    ) -> PolicyLR:
        """Build one whose ``end`` is in epochs, of so many iterations each."""
        return cls(*args, end=end * epoch_length, by_epoch=False, epoch_length=epoch_length, **kwargs)

    def lowest(self, base: float) -> float:
        """The lowest rate of a group."""
        return base * self.min_lr_ratio if self.min_lr_ratio is not None else self.min_lr or 0.0

    def _get_value(self) -> list[float]:
        rate, done = POLICIES[self.policy][0], min(self.last_step // self.unit, self.length)
        factor = 1.0
        if self.last_step < self.warmup_iters:
            factor = WARMUPS[self.warmup](self.warmup_ratio, self.last_step / self.warmup_iters)
        return [rate(self, base, done) * factor for base in self.base_values]


def _check_options(policy: str, given: dict[str, Any]) -> None:
    """Refuse options that the policy has not, and values that make no sense."""
    _, known, needed = POLICIES[policy]
    for key, value in given.items():
        if value is not None and key not in known:
            has = ", ".join(sorted(known)) or "no options"
            raise UserError(f"{_WHERE}: policy '{policy}' has no '{key}' (it has {has}); remove it")
        if value is None and key in needed:
            raise UserError(f"{_WHERE}: policy '{policy}' needs '{key}'")
    for key in ("gamma", "power", "min_lr", "min_lr_ratio", "start_percent"):
        high = 1 if key in ("min_lr_ratio", "start_percent") else math.inf
        check_number(f"{_WHERE}.{key}", given[key], 0, high, optional=True)
    if given["min_lr"] is not None and given["min_lr_ratio"] is not None:
        raise UserError(f"{_WHERE}: give min_lr or min_lr_ratio, not both")
    step = given["step"]
    for value in step if isinstance(step, list | tuple) else [step]:
        check_number(f"{_WHERE}.step", value, 1, whole=True, optional=not isinstance(step, list | tuple))


def _check_warmup(warmup: str | None, iterations: int, ratio: float, by_epoch: bool) -> None:
    check_one_of(f"{_WHERE}.warmup", warmup, (None, *WARMUPS))
    check_flag(f"{_WHERE}.warmup_by_epoch", by_epoch)
    check_number(f"{_WHERE}.warmup_iters", iterations, 0 if warmup is None else 1, whole=True)
    check_number(f"{_WHERE}.warmup_ratio", ratio, 0, 1, above=True)
