"""Running a network again behind what was changed gives the same bits as running it as a whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from zoo import SMALL, prepared

from mmrazor_lite.slimming.replay import Replay


class Ops(TorchFunctionMode):
    """Names of the ops that are computed while the block runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


class InPlace(nn.Module):
    """Adds to what an earlier op gave, through a view of it, after a branch that may be changed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch, self.last = (nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        flat = y.flatten(2)
        flat += self.branch(x).flatten(2)
        y.relu_()
        return self.last(y)


class Computed(nn.Module):
    """Computes with its weight before it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.relu(x), F.normalize(self.weight[:2].view(2, 3, 1, 1), dim=1))


class Hidden(nn.Module):
    """Computes with an op that is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.from_numpy(np.tanh(self.first(x).numpy())))


class Other(nn.Module):
    """Runs an op more from its second run on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        x = x.relu() if self.runs > 1 else x
        return self.last(self.first(x).relu())


def change(tensor: Tensor) -> None:
    with torch.no_grad():
        tensor += torch.rand_like(tensor)


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL)
def test_the_same_bits(name: str) -> None:
    own = prepared(name)
    images, network = own.images(3), own.plain.eval()
    replay = Replay(lambda: network(images))
    tensors = [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
    some = [*tensors[:: max(1, len(tensors) // 5)], tensors[-1]]
    for tensor in [*some, some[1]]:  # from the front to the back, and back once
        before = tensor.clone()
        change(tensor)
        assert torch.equal(replay.again([tensor]), network(images))
        tensor.copy_(before)
    assert torch.equal(replay.again([]), replay.result)


@torch.no_grad()
@pytest.mark.parametrize("make", [InPlace, Computed, Hidden, Other])
def test_of_unusual_ops(make) -> None:
    network, images = make(), torch.randn(2, 3, 4, 4)
    replay = Replay(lambda: network(images))
    for _ in range(2):  # what a run computes is not handed to the next one
        for tensor in network.parameters():
            before = tensor.clone()
            change(tensor)
            assert torch.equal(replay.again([tensor]), network(images))
            tensor.copy_(before)


@torch.no_grad()
def test_what_comes_before_is_computed_once() -> None:
    body = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(5)))
    images = torch.randn(2, 3, 16, 16)
    replay = Replay(lambda: body(images))
    for first in range(1, 5):
        for again in range(2):
            with Ops() as ops:
                replay.again([body[first].weight, body[4].bias])
            on_the_way = 0 if again else 1
            assert ops.names.count("conv2d") == on_the_way + 5 - first
            assert replay.bytes == pytest.approx(images.nbytes, rel=0.02), "what one conv reads, whatever came before"
    with Ops() as ops:
        replay.again([body[2].weight])
    assert ops.names.count("conv2d") == 5, "it begins earlier than the last one"
    with Ops() as ops:
        replay.again([torch.zeros(3)])
    assert ops.names.count("conv2d") == 5, "a tensor that no op has read says nothing"


@torch.no_grad()
def test_what_is_kept_is_what_a_pass_holds() -> None:
    branch, images = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(9))), torch.randn(2, 3, 16, 16)
    body = nn.Conv2d(3, 3, 1)
    replay = Replay(lambda: [y := body(images), y + branch(y)][1])
    replay.again([branch[6].weight])
    assert replay.bytes == pytest.approx(2 * images.nbytes, rel=0.05), "what is added, and what the conv reads"
