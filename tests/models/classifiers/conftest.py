"""Networks as users write them, in a module of their own, and labelled batches."""

from __future__ import annotations

import sys

import pytest
import torch

CODE = '''
from collections import namedtuple
import torch
from torch import nn

Outputs = namedtuple("Outputs", ["logits", "aux"])
number = 3


class MyNet(nn.Module):
    """A residual, a concat and a grouped conv; `net` and `head` are names of its own."""

    def __init__(self, width=8, num_classes=5):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.net = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, groups=2), nn.BatchNorm2d(width), nn.ReLU())
        self.branch = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(2 * width, num_classes)
        self.aux = nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.stem(x)
        y = x + self.net(x)
        logits = self.head(torch.cat([y, self.branch(x)], 1).mean((2, 3)))
        return Outputs(logits, self.aux(y.mean((2, 3)))) if self.training else {"logits": logits}


class WithHead(nn.Module):
    def __init__(self, head="linear"):
        super().__init__()
        self.fc = nn.Linear(3, 5)

    def forward(self, x):
        return self.fc(x.mean((2, 3)))


def make(num_classes=5):
    return WithHead() if num_classes == 5 else None


class NoModule:
    pass
'''


@pytest.fixture
def my_nets(tmp_path, monkeypatch):
    """The module ``my_nets`` in the current directory, importable only from there."""
    (tmp_path / "my_nets.py").write_text(CODE)
    (tmp_path / "broken_nets.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield
    for name in ("my_nets", "broken_nets"):
        sys.modules.pop(name, None)


@pytest.fixture
def batch(registered):
    """Build (inputs, samples): seeded images (4, 3, size, size) and labels 0 to 3."""
    from mmpretrain.structures import DataSample

    def build(size: int = 16):
        images = torch.randn((4, 3, size, size), generator=torch.Generator().manual_seed(0))
        return images, [DataSample().set_gt_label(label) for label in range(4)]

    return build
