"""Tiny elastic networks, and what their subnets must compute, written without the code that makes them elastic.

Letters: N batch, C channels, H W space, k kernel size.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrazor_lite.models.backbones import OFAMobileNetV3, OFAProxylessNAS
from mmrazor_lite.models.mutables import KernelConv2d
from mmrazor_lite.models.mutators import NasMutator

SHAPE = (3, 32, 32)
RESOLUTIONS = (16, 24, 32)
RATIOS = (2, 3, 4)
# Channels of the block that an expansion reads -> expanded channels by ratio, and those inside squeeze-and-excitation.
WIDTHS = {16: {2: 32, 3: 48, 4: 64}, 24: {2: 48, 3: 72, 4: 96}}
INSIDE = {32: 8, 48: 16, 64: 16, 72: 24, 96: 24}

BACKBONES = {
    "mobilenet_v3": functools.partial(
        OFAMobileNetV3,
        arch_setting=[[16, 3, 2, "ReLU", False], [24, 3, 2, "HSwish", True]],
        depths=(1, 2, 3),
        expand_ratios=RATIOS,
        tail_channels=(24, 32),
        dropout=0.0,
    ),
    "proxyless": functools.partial(
        OFAProxylessNAS,
        arch_setting=[[16, 3, 2, "ReLU6", False], [24, 1, 1, "ReLU6", False]],
        width_mult=1.0,
        depths=(1, 2, 3),
        expand_ratios=RATIOS,
        stem_channels=16,
        tail_channels=(32,),
        dropout=0.0,
    ),
}


class Net(nn.Module):
    """A backbone with a classifier."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.fc = backbone, nn.Linear(backbone.out_channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 5)."""
        return self.fc(self.backbone(x)[-1])


def build(name: str, seed: int = 0, **options: object) -> Net:
    """A network whose norms, statistics and kernel matrices are random, so that a wrong slice shows."""
    torch.manual_seed(seed)
    return randomised(Net(BACKBONES[name](**options)))


def randomised(model: nn.Module) -> nn.Module:
    """Give norms, statistics and kernel matrices random values, in place, and weights that keep an image visible."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".transform_" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@functools.cache
def _prepared(name: str, elastic_size: bool) -> tuple[Net, Net, NasMutator]:
    model = build(name)
    plain = copy.deepcopy(model)
    mutator = NasMutator(resolutions=RESOLUTIONS if elastic_size else None)
    mutator.prepare(model, SHAPE)
    return plain, model, mutator


def prepared(name: str, double: bool = False, elastic_size: bool = True) -> tuple[Net, Net, NasMutator]:
    """(the untouched network, the prepared one, its mutator): copies that a test may change."""
    plain, model, mutator = copy.deepcopy(_prepared(name, elastic_size))
    return (plain.double(), model.double(), mutator) if double else (plain, model, mutator)


def images(size: int = SHAPE[-1], seed: int = 0, n: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    """(n, 3, size, size) normal values."""
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def chained(weight: Tensor, matrices: Mapping[tuple[int, int], Tensor], size: int) -> dict[int, Tensor]:
    """Kernel weights (C, k, k) of every size from the largest down to ``size``, one matrix product per channel.

    Args:
        weight: (C, 1, K, K) of the largest size.
        matrices: (larger, smaller) size -> matrix (k*k, k*k); the sizes in a chain.
        size: The last size wanted.
    """
    found = {weight.shape[-1]: weight[:, 0]}
    for large, small in sorted(matrices, reverse=True):
        if small < size:
            break
        first = (large - small) // 2
        window = [found[large][:, first + row, first : first + small] for row in range(small)]
        flat = torch.cat(window, dim=1)  # rows one after another
        found[small] = torch.einsum("ij,cj->ci", matrices[large, small], flat).unflatten(1, (small, small))
    return found


def matrices_of(conv: KernelConv2d) -> dict[tuple[int, int], Tensor]:
    """(larger, smaller) size -> the parameter that makes the one from the other."""
    sizes = conv.kernel_sizes
    return {
        (large, small): conv.get_parameter(f"transform_{large}to{small}") for small, large in itertools.pairwise(sizes)
    }


@torch.no_grad()
def zeroed(plain: Net, subnet: Mapping[str, int], x: Tensor) -> Tensor:
    """What the full network gives in eval mode with the dropped channels zeroed and the dropped blocks left out.

    A smaller kernel is the one of the chain of matrices, inside a frame of zeros of the full size.
    """
    net = copy.deepcopy(plain).eval()
    for number, stage in enumerate(net.backbone.layers):
        for index, block in enumerate(stage):
            place = f"backbone.layers.{number}.{index}"
            if index >= subnet.get(f"backbone.layers.{number}.depth", len(stage)):
                stage._modules[str(index)] = nn.Identity()
            elif f"{place}.kernel_size" in subnet:
                _zero_block(block, subnet[f"{place}.kernel_size"], subnet[f"{place}.expand_ratio"])
    return net(x)


def _zero_block(block: nn.Module, size: int, ratio: int) -> None:
    width = WIDTHS[block.in_channels][ratio]
    conv = block.depth_conv.conv
    small = chained(conv.weight, matrices_of(conv), size)[size].clone()
    conv.weight.zero_()
    edge = (conv.weight.shape[-1] - size) // 2
    conv.weight[:, 0, edge : edge + size, edge : edge + size] = small
    _zero_after(block.inverted_bottleneck, width)
    _zero_after(block.depth_conv.act, width)
    if block.use_se:
        _zero_after(block.depth_conv.se.relu, INSIDE[width])


def _zero_after(module: nn.Module, width: int) -> None:
    def hook(_: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return torch.cat([output[:, :width], torch.zeros_like(output[:, width:])], dim=1)

    module.register_forward_hook(hook)


def by_hand(net: Net, x: Tensor) -> Tensor:
    """The full network in eval mode, op by op."""
    backbone = net.backbone
    x = _conv_norm(backbone.first_conv, x)
    act = {"ReLU": F.relu, "ReLU6": F.relu6, "HSwish": F.hardswish}
    mobile = hasattr(backbone, "final_expand_layer")
    x = act["HSwish" if mobile else "ReLU6"](x)
    for stage in backbone.layers:
        for block in stage:
            y, function = x, act[block.act]
            if block.inverted_bottleneck is not None:
                y = function(_conv_norm(block.inverted_bottleneck, y))
            y = function(_conv_norm(block.depth_conv, y))
            if block.use_se:
                se = block.depth_conv.se
                inside = F.relu(F.conv2d(y.mean((2, 3), keepdim=True), se.reduce.weight, se.reduce.bias))
                y = y * F.hardsigmoid(F.conv2d(inside, se.expand.weight, se.expand.bias))
            y = _conv_norm(block.point_linear, y)
            x = x + y if y.shape == x.shape else y
    if mobile:
        x = F.hardswish(_conv_norm(backbone.final_expand_layer, x)).mean((2, 3), keepdim=True)
        x = F.hardswish(F.conv2d(x, backbone.feature_mix_layer.conv.weight))
    else:
        x = F.relu6(_conv_norm(backbone.feature_mix_layer, x)).mean((2, 3))
    return F.linear(x.flatten(1), net.fc.weight, net.fc.bias)


def _conv_norm(layer: nn.Module, x: Tensor) -> Tensor:
    conv, bn = layer.conv, layer.bn
    x = F.conv2d(x, conv.weight, None, conv.stride, conv.weight.shape[-1] // 2, 1, conv.groups)
    return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, False, 0.0, bn.eps)
