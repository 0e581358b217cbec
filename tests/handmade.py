"""Small networks written by hand, and what must hold of each: right, or fixed with a reason, never silently wrong."""

from __future__ import annotations

import numpy as np
import torch
from oracles import assert_subnet_is_right, tensors
from torch import Tensor, nn
from zoo import Prepared, prepare

from mmrazor_lite.subnet import Subnet


def block(inputs: int, outputs: int, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Net(nn.Module):
    """A stem of 16 channels, a body under test that gives ``out`` channels, and a 1x1 conv as head."""

    def __init__(self, out: int = 16) -> None:
        super().__init__()
        self.stem, self.head = block(3, 16), nn.Conv2d(out, 5, 1)
        self.make()

    def make(self) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x))).mean((2, 3))


class Cases(dict):
    """Network name -> (class, channels of its body, expected groups, expected fixed layers)."""

    def add(self, groups: list[tuple[str, int, int]], fixed: dict[str, str] | None = None, out: int = 16):
        """Register a class: its groups as (name, units, channels per unit); layer -> part of the reason it stays."""

        def register(cls: type[Net]) -> type[Net]:
            self[cls.__name__] = (cls, out, groups, fixed or {})
            return cls

        return register

    def check(self, name: str) -> None:
        """Groups and reasons are as expected; the smallest and a random subnet are right."""
        cls, out, groups, fixed = self[name]
        torch.manual_seed(0)
        twin = prepare(cls(out), (3, 8, 8)).double()
        assert [(m.name, m.group.units, m.group.unit) for m in twin.mutator.mutables] == groups
        reasons = {layer.layer: layer.reason for layer in twin.mutator.fixed}
        for layer, reason in fixed.items():
            assert reason in reasons[layer], reasons[layer]
        space = twin.mutator.search_space
        drawn = space.sample(np.random.default_rng(0))
        assert_output_depends_on_the_image(twin, drawn)
        for subnet in (space.min(), drawn):
            assert_subnet_is_right(twin, subnet)


def assert_output_depends_on_the_image(twin: Prepared, subnet: Subnet) -> None:
    """Else two outputs agree whatever the subnet: a check that cannot fail."""
    twin.mutator.activate(subnet)
    with torch.no_grad():
        outputs = tensors(twin.model.eval()(twin.images(2)))[0]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-4 * outputs.abs().max()
