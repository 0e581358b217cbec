"""Channels per layer, before and after slimming."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import atomic_write


def layer_channels(algorithm: Any, subnet: Mapping[str, int]) -> dict[str, int]:
    """Return the output channels that each convolution and linear layer of a supernet has in ``subnet``."""
    modules = dict(algorithm.architecture.named_modules())
    return {
        name.removesuffix(".conv"): subnet[layer.choice] if layer.choice else layer.full
        for name, layer in algorithm.search_space.layers.items()
        if modules[name].weight.dim() > 1
    }


def plot_channels(
    path: str | os.PathLike, full: Mapping[str, int], subnets: Mapping[str, Mapping[str, int]], title: str = ""
) -> None:
    """Draw one group of bars per layer, the full network behind and each subnet in front, and write a PNG file.

    Args:
        path: file to write; an existing one is replaced whole.
        full: channels of each layer of the full network, in the order to draw.
        subnets: name of a subnet -> channels of its layers (the same layers).
        title: shown above the picture.

    Raises:
        UserError: matplotlib is missing, or a subnet lacks a layer.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"plots need matplotlib ({error}): run 'pip install matplotlib'") from error
    for name, channels in subnets.items():
        missing = [layer for layer in full if layer not in channels]
        if missing:
            raise UserError(f"plot of subnet '{name}': layer '{missing[0]}' is missing, {len(full)} layers are needed")

    figure = Figure(figsize=(max(8.0, 0.28 * len(full)), 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    draw_channels(figure.subplots(), full, subnets, title)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def draw_channels(
    axes: Any, full: Mapping[str, int], subnets: Mapping[str, Mapping[str, int]], title: str = ""
) -> None:
    """Draw the bars of :func:`plot_channels` into ``axes`` of matplotlib."""
    positions = range(len(full))
    axes.bar(positions, list(full.values()), width=0.9, color="#d9d9d9", label="full network")
    width = 0.8 / max(1, len(subnets))
    for index, (name, channels) in enumerate(subnets.items()):
        shift = (index - (len(subnets) - 1) / 2) * width
        axes.bar([x + shift for x in positions], [channels[layer] for layer in full], width=width, label=name)
    axes.set_xticks(list(positions), list(full), rotation=90, fontsize=7)
    axes.set_xlim(-0.6, len(full) - 0.4)
    axes.set_ylabel("output channels")
    axes.set_title(title)
    axes.legend(fontsize=8)
