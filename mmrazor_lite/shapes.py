"""The size of one image or clip, as configs and flags give it. Needs no torch.

Letters: N batch, C channels, T frames, H W space, L samples of a signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from mmrazor_lite.errors import UserError, short


def image_shape(value: Any, where: str = "input_shape") -> tuple[int, ...]:
    """Return (C, H, W) of an image, (C, T, H, W) of a clip or (C, L) of a signal, as plain integers.

    A batch of one in front is dropped: of four numbers a leading 1 is one, as MMRazor writes (1, C, H, W); a clip of
    one channel is (1, 1, T, H, W).

    Raises:
        UserError: It is none of these; says ``where``.
    """
    sizes = list(value) if isinstance(value, (list, tuple)) else []
    whole = all(isinstance(size, Integral) and not isinstance(size, bool) and size > 0 for size in sizes)
    if not whole or not 2 <= len(sizes) <= 5:
        raise UserError(
            f"{where}={short(value)}: give whole numbers above 0: (C, H, W) of an image, or (C, T, H, W) of a clip"
        )
    if len(sizes) >= 4 and sizes[0] == 1:
        sizes = sizes[1:]
    if len(sizes) == 5:
        raise UserError(f"{where}={short(value)}: costs are counted for one clip; give (C, T, H, W), or a leading 1")
    return tuple(int(size) for size in sizes)


def resized_shape(shape: Sequence[int], sizes: Sequence[int] | None, where: str = "--input-shape") -> tuple[int, ...]:
    """Return ``shape`` with other sizes behind its channels: H for a square, H W, or T H W of a clip.

    Raises:
        UserError: A size is not above 0, or there are too many.
    """
    if not sizes:
        return tuple(shape)
    if min(sizes) < 1 or len(sizes) > len(shape) - 1:
        forms = "H, or H W, or T H W, all positive" if len(shape) == 4 else "H, or H W, both positive"
        raise UserError(f"{where} {' '.join(map(str, sizes))}: give {forms} (the model takes {tuple(shape)})")
    last = list(sizes) * 2 if len(sizes) == 1 and len(shape) > 2 else list(sizes)
    return (*shape[: len(shape) - len(last)], *last)
