"""Spaces of Once-for-All, without a network."""

from __future__ import annotations

from mmrazor_lite.subnet import Choice, LayerWidth, SearchSpace, Stage


def make_space(widths: tuple = (), stages: int = 5, largest: int = 260, sizes: bool = True) -> SearchSpace:
    """The space of a network of Once-for-All; ``widths`` are the channels behind its stages, where it knows them."""
    choices = [Choice("resolution", range(128, largest + 1, 4), kind="resolution")] if sizes else []
    rows = []
    for stage in range(1, stages + 1):
        depth = f"backbone.layers.{stage}.depth"
        if stage < 6:
            choices.append(Choice(depth, (2, 3, 4), kind="depth"))
        names = [f"backbone.layers.{stage}.{block}" for block in range(4 if stage < 6 else 1)]
        rows.append(Stage(f"backbone.layers.{stage}", tuple(names), depth if stage < 6 else None))
        for block in range(len(names)):
            runs = (depth, tuple(d for d in (2, 3, 4) if d > block)) if block >= 2 else None
            for what, values in (("kernel_size", (3, 5, 7)), ("expand_ratio", (3, 4, 6))):
                choices.append(Choice(f"backbone.layers.{stage}.{block}.{what}", values, "value", runs))
    layers = {f"backbone.layers.{i}": LayerWidth(None, width) for i, width in enumerate(widths, start=1)}
    return SearchSpace(choices, layers=layers, stages=rows)
