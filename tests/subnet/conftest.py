"""Spaces by hand, and hypothesis strategies that draw whole spaces with nested conditions."""

from __future__ import annotations

from pathlib import Path

import pytest
from figures import DATA

from mmrazor_lite.subnet import Choice, LayerWidth, SearchSpace


@pytest.fixture
def mmrazor_files() -> Path:
    """The folder of subnet files as MMRazor wrote them."""
    return DATA / "mmrazor_files"


@pytest.fixture
def space() -> SearchSpace:
    """Two widths, of which the first sets two layers, and a layer that stays."""
    return SearchSpace(
        [Choice("conv1", range(8, 49, 8)), Choice("layer1.conv", (4, 6, 12))],
        layers={
            "conv1": LayerWidth("conv1", 48),
            "bn1": LayerWidth("conv1", 48),
            "layer1.conv": LayerWidth("layer1.conv", 12),
            "fc": LayerWidth(None, 10),
        },
    )


@pytest.fixture
def nested() -> SearchSpace:
    """A depth that switches blocks, an operator in a block that switches its kernel."""
    return SearchSpace(
        [
            Choice("b1.kernel", (3, 5, 7), kind="value", active_if=("b1.op", ("conv",))),
            Choice("depth", (1, 2), kind="depth"),
            Choice("b0.op", ("conv", "pool"), kind="operator"),
            Choice("b1.op", ("pool", "conv"), kind="operator", active_if=("depth", (2,))),
            Choice("b1.ratio", (0.5, 1.0), kind="value", active_if=("depth", (2,))),
        ]
    )
