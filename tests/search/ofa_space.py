"""The space of Once-for-All without its network, and rows of the reference's subnets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmrazor_lite.subnet import Choice, SearchSpace, Stage


def ofa_space(resolutions: Sequence[int] = (160, 176, 192, 208, 224), stages: int = 5) -> SearchSpace:
    rows = []
    choices = [Choice("resolution", tuple(resolutions), kind="resolution")]
    for stage in range(1, stages + 1):
        depth = f"backbone.layers.{stage}.depth"
        choices.append(Choice(depth, (2, 3, 4), kind="depth"))
        names = tuple(f"backbone.layers.{stage}.{block}" for block in range(4))
        rows.append(Stage(f"backbone.layers.{stage}", names, depth))
        for block in range(4):
            rule = None if block < 2 else (depth, tuple(d for d in (2, 3, 4) if d > block))
            name = f"backbone.layers.{stage}.{block}"
            choices.append(Choice(f"{name}.kernel_size", (3, 5, 7), kind="value", active_if=rule))
            choices.append(Choice(f"{name}.expand_ratio", (3, 4, 6), kind="value", active_if=rule))
    return SearchSpace(choices, stages=rows)


def row_of(example: Mapping, space: SearchSpace) -> np.ndarray:
    """The row (1, D) of a subnet in the reference's form: lists ``ks``, ``e``, ``d`` and a ``resolution``."""
    subnet = {"resolution": example["resolution"]}
    for slot, (kernel, ratio) in enumerate(zip(example["ks"], example["e"], strict=True)):
        stage, block = slot // 4 + 1, slot % 4
        subnet[f"backbone.layers.{stage}.depth"] = example["d"][stage - 1]
        subnet[f"backbone.layers.{stage}.{block}.kernel_size"] = kernel
        subnet[f"backbone.layers.{stage}.{block}.expand_ratio"] = ratio
    return space.index(subnet)[None]
