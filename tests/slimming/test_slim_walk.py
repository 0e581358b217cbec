"""Every architecture of the zoo, and small ones of the any-model lists, slimmed to half of its macs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves
from zoo import ZOO, randomise

from mmrazor_lite import Slimmer, slim
from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.resource import plain_cost

QUICK = ("vgg",)  # the rest takes minutes
TIMM = ("convnext_atto", "dla46x_c", "lcnet_050", "rexnet_100", "skresnet18", "starnet_s050", "mixer_s32_224")
PIXELS = 64


def _zoo(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(0)
    return randomise(ZOO[name].build()), ZOO[name].input_shape


def _timm(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    import timm

    torch.manual_seed(0)
    size = {"img_size": PIXELS} if name.startswith("mixer") else {}
    return randomise(timm.create_model(name, num_classes=7, **size)), (3, PIXELS, PIXELS)


NETWORKS: dict[str, Callable] = {
    **{name: lambda name=name: _zoo(name) for name in ZOO},
    **{f"timm.{name}": lambda name=name: _timm(name) for name in TIMM},
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in NETWORKS])
def test_half_of_the_macs(name):
    """The budget is met exactly where it can be, by a network that is an export of the subnet, with other weights."""
    network, shape = NETWORKS[name]()
    network.eval()
    before = copy.deepcopy(network.state_dict())
    images = torch.randn((24, *shape), generator=torch.Generator().manual_seed(1))
    share = 0.5
    try:
        result = slim(network, images, "50%", images=24, importance="l1", latency=False)
    except UserError as error:  # much of it may keep its width
        assert "out of reach" in str(error)
        share = 0.85
        result = slim(network, images, "85%", images=24, importance="l1", latency=False)
    found, full = plain_cost(result.model, shape), plain_cost(network, shape)
    assert found == dict(result.report.costs["slimmed"]) and full == dict(result.report.costs["original"])
    assert (share - 0.15) * full["macs"] < found["macs"] <= share * full["macs"]
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())
    twin = Slimmer(network, shape).export(result.subnet)
    twin.load_state_dict(result.model.state_dict())
    with torch.no_grad():
        pairs = zip(tree_leaves(twin(images[:4])), tree_leaves(result.model(images[:4])), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    cut = next(stage for stage in result.report.stages if stage.name == "cut")
    assert result.report.stages[-1].held_out.softened <= cut.held_out.softened
