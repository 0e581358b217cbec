"""Fine-tuning of a slimmed network: it learns to give what the original gives, on images that are there, within a time.

What trains is the project's one training step and runner, so mmengine and mmpretrain are needed here, and only here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from mmrazor_lite import mm_packages
from mmrazor_lite.errors import UserError, check_flag, check_number, short
from mmrazor_lite.models.importance import Batches

from .images import Images
from .report import Quality

UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
LONGEST = 1e9  # seconds, or epochs
_TEXT = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*([a-z]*)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Limit:
    """How long a network is tuned: seconds, or epochs of the images it is tuned on."""

    seconds: float | None = None
    epochs: float | None = None

    def __str__(self) -> str:
        return f"{self.epochs:g} epochs" if self.seconds is None else f"{self.seconds:g} s"


def parse_limit(value: Any) -> Limit:
    """Read a limit: ``'5min'``, ``'300s'``, ``'2h'``, ``'3 epochs'``, or 3 for so many epochs.

    Raises:
        UserError: It is none, or not above 0.
    """
    if isinstance(value, Limit):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    found = _TEXT.fullmatch(value if isinstance(value, str) else f"{value:g}" if is_number else "")
    amount, unit = (float(found[1]), found[2].lower()) if found else (0.0, "")
    known = unit in UNITS or unit in ("", "epoch", "epochs")
    if not known or not 0 < amount <= LONGEST:
        raise UserError(f"tune={short(value)}: give a time above 0 such as '5min', '300s' or '2h', or '3 epochs'")
    return Limit(seconds=amount * UNITS[unit]) if unit in UNITS else Limit(epochs=amount)


@dataclass(frozen=True, eq=False)
class Tuned:
    """What came of it.

    Attributes:
        model: The tuned network, or the one from before where that is better on the images held out.
        is_taken: Whether it is the tuned one.
        before, after: The network from before and the tuned one, on the images held out.
        steps: Updates of the weights.
        images: That it was tuned on, each counted as often as it was seen.
        seconds: Of everything, in this run.
        notes: What is to be said of it, a line each.
        is_held_out: Whether it is sure that it was trained on none of the images held out.
    """

    model: nn.Module
    is_taken: bool
    before: Quality
    after: Quality
    steps: int
    images: int
    seconds: float
    notes: tuple[str, ...] = field(default=())
    is_held_out: bool = True


def tune(
    small: nn.Module,
    full: nn.Module,
    data: Any,
    limit: Any,
    work_dir: str | Path | None = None,
    resume: bool = False,
    *,
    loss: Callable[[Any, Any], Any] | None = None,
    held_out: Batches | Images | None = None,
    augment: bool = False,
    batch_size: int | None = None,
    seed: int = 0,
    show: bool = True,
    values: bool | Collection[int | str] | None = None,
) -> Tuned:
    """Train a slimmed network on the outputs of the original, and on labels where the data has some.

    It never ends worse than it began: a part of the images is held out, and decides which weights are taken.

    Args:
        small: The slimmed network; it is left as it is.
        full: The original; it is left as it is.
        data: As for :func:`mmrazor_lite.slim`; all of it is used. What a dataset draws at random (crops, flips), it
            draws anew each time.
        limit: ``'5min'``, ``'300s'``, ``'2h'``, ``'3 epochs'``, or 3 for so many epochs. A time is kept within a few
            seconds, everything included; learning rates are at their end by then.
        work_dir: Where checkpoints go, so that ``resume`` can go on; none for none.
        resume: Go on with what an earlier call has left in ``work_dir``, in the time that it had left.
        loss: Called with (outputs as the network returns them, targets), gives a scalar; cross entropy for class labels
            where it is not given. Targets without a loss are not used.
        held_out: (images, targets or None) that decide; images of ``data`` that equal one of them are not trained on,
            which tells nothing where it draws them anew. What :func:`.read_images` gives of the same ``data`` is told
            by numbers. By default a tenth of the images, at most 1,000.
        augment: Mirror images and move them by up to an eighth of their size, at random.
        batch_size: Images of a step; by default 64, or that of a loader where it is smaller.
        seed: Of everything random: with as many steps, the same weights.
        show: Show how far it is.
        values: Which outputs hold values and no class scores, as for :func:`mmrazor_lite.slim`.

    Raises:
        UserError: A limit or an option that is none; too few images; a checkpoint of something else; a network that
            cannot be trained.
    """
    from .asked import folder

    began = time.monotonic()
    limit = parse_limit(limit)
    work_dir = folder("work_dir", work_dir, resume)
    check_number("batch_size", batch_size, 1, whole=True, optional=True)
    check_flag("augment", augment)
    mm_packages.require("tune")
    from mmrazor_lite.config.build import register_quietly

    register_quietly()
    from .tuning import Tuning
    from .tuning_images import tuning_images

    like = next((p for p in small.parameters() if p.is_floating_point()), None)
    if like is None:
        raise UserError("tune: the network has no weights that could be trained")
    images = tuning_images(data, like, batch_size, held_out, seed)
    return Tuning(small, full, images, loss, bool(augment), seed, began, values).run(limit, work_dir, resume, show)
