"""Images of a batch moved and mirrored, each by numbers of its own. Letters: B images, C channels, H W space."""

from __future__ import annotations

import torch
from torch import Tensor


def shifted(images: Tensor, top: Tensor, left: Tensor, mirrored: Tensor, mode: str) -> Tensor:
    """Show each image from another corner, mirrored or not: a crop of its own size from a padded one, then a flip.

    One gather of the pixels that are shown, so nothing is padded or copied before.

    Args:
        images: (B, C, H, W) of any type.
        top, left: (B,) pixels by which the crop is moved; at most H - 1 and W - 1 with ``mode='reflect'``.
        mirrored: (B,) above 0 where the image is mirrored left to right.
        mode: What is beyond the edge: ``constant`` (zeros) or ``reflect``.
    """
    height, width = images.shape[2:]
    top, left, mirrored = (x.to(images.device, non_blocking=True)[:, None] for x in (top, left, mirrored))
    columns = torch.arange(width, device=images.device)
    columns = torch.where(mirrored > 0, width - 1 - columns, columns) + left
    rows = torch.arange(height, device=images.device) + top
    inside = None
    if mode == "reflect":
        rows, columns = _reflected(rows, height), _reflected(columns, width)
    else:
        inside = _inside(rows, height)[:, None, :, None] & _inside(columns, width)[:, None, None, :]
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    pixels = rows[:, :, None] * width + columns[:, None, :]
    planes = images.flatten(2)
    shown = planes.gather(2, pixels.flatten(1)[:, None].expand_as(planes)).view_as(images)
    return shown if inside is None else shown * inside


def _reflected(places: Tensor, size: int) -> Tensor:
    places = places.abs()
    return torch.minimum(places, 2 * (size - 1) - places)


def _inside(places: Tensor, size: int) -> Tensor:
    return (places >= 0) & (places < size)
