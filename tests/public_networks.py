"""The networks of other projects in plain torch, from their published descriptions: their names, their forward pass.

Nothing of the project is used. Widths and depths are arguments, so that tests can make them tiny.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and statistics, in eval mode and float64."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in net.double().state_dict().items():
        if "num_batches" in name:
            tensor.fill_(5)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        else:
            tensor.normal_(0.3, 0.3, generator=generator)
    return net.eval()


# SinglePathOneShot ---------------------------------------------------------------------------------------------------


class ShuffleChoice(nn.Module):
    """A block of SPOS: ``branch_main``, and ``branch_proj`` where it halves the map."""

    def __init__(self, inputs: int, out: int, stride: int, kernel: int, affine: bool) -> None:
        super().__init__()
        self.stride = stride
        inp, mid = (inputs if stride == 2 else inputs // 2), out // 2
        norm = lambda width: nn.BatchNorm2d(width, affine=affine)  # noqa: E731
        conv = lambda a, b: nn.Conv2d(a, b, 1, bias=False)  # noqa: E731

        def depthwise(width: int, size: int, step: int) -> nn.Conv2d:
            return nn.Conv2d(width, width, size, step, size // 2, groups=width, bias=False)

        if kernel:
            main = [conv(inp, mid), norm(mid), nn.ReLU(), depthwise(mid, kernel, stride), norm(mid)]
            main += [conv(mid, out - inp), norm(out - inp), nn.ReLU()]
        else:
            main = []
            for a, b, step in ((inp, mid, stride), (mid, mid, 1), (mid, out - inp, 1)):
                main += [depthwise(a, 3, step), norm(a), conv(a, b), norm(b), nn.ReLU()]
        self.branch_main = nn.Sequential(*main)
        if stride == 2:
            proj = [depthwise(inp, kernel or 3, 2), norm(inp), conv(inp, inp), norm(inp), nn.ReLU()]
            self.branch_proj = nn.Sequential(*proj)

    def forward(self, x: Tensor) -> Tensor:
        """Even channels pass, odd ones are worked on."""
        if self.stride == 2:
            return torch.cat((self.branch_proj(x), self.branch_main(x)), 1)
        return torch.cat((x[:, ::2], self.branch_main(x[:, 1::2])), 1)


class Spos(nn.Module):
    """The ShuffleNetV2 of SPOS: all four blocks at each place (a supernet), or one."""

    def __init__(
        self, stages: Sequence[tuple[int, int]], last: int, classes: int, subnet: Sequence[int] | None
    ) -> None:
        super().__init__()
        affine, width, places = subnet is not None, 16, []
        self.first_conv = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16, affine=affine), nn.ReLU()
        )
        for out, blocks in stages:
            for index in range(blocks):
                made = [ShuffleChoice(width, out, 1 if index else 2, kernel, affine) for kernel in (3, 5, 7, 0)]
                places.append(nn.ModuleList(made) if subnet is None else made[subnet[len(places)]])
                width = out
        self.features = nn.ModuleList(places)
        self.conv_last = nn.Sequential(
            nn.Conv2d(width, last, 1, bias=False), nn.BatchNorm2d(last, affine=affine), nn.ReLU()
        )
        self.classifier = nn.Sequential(nn.Linear(last, classes, bias=False))

    def forward(self, x: Tensor, path: Sequence[int] | None = None) -> Tensor:
        """Logits; of a supernet, of the blocks ``path``."""
        x = self.first_conv(x)
        for index, place in enumerate(self.features):
            x = (place if path is None else place[path[index]])(x)
        return self.classifier(self.conv_last(x).mean((2, 3)))


# slimmable_networks -------------------------------------------------------------------------------------------------


class Switched(nn.Module):
    """A batch norm for each width, in ``bn``; universally slimmable ones share weight and bias."""

    def __init__(self, widths: Sequence[int], shared: bool) -> None:
        super().__init__()
        self.bn = nn.ModuleList(nn.BatchNorm2d(width, affine=not shared) for width in widths)
        if shared:
            self.weight, self.bias = nn.Parameter(torch.ones(max(widths))), nn.Parameter(torch.zeros(max(widths)))

    def run(self, x: Tensor, at: int) -> Tensor:
        """Normalise ``x`` (N, C, H, W) with the statistics of width number ``at``."""
        norm = self.bn[at]
        if not hasattr(self, "weight"):
            return norm(x)
        width = x.shape[1]
        return F.batch_norm(
            x, norm.running_mean, norm.running_var, self.weight[:width], self.bias[:width], eps=norm.eps
        )


class Block(nn.Module):
    """Layers in ``body``, and in ``shortcut`` where there is one."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Sequential | None = None) -> None:
        super().__init__()
        self.body = body
        if shortcut is not None:
            self.shortcut = shortcut


def run(layers: nn.Sequential, x: Tensor, at: int, widths: dict[nn.Module, Sequence[int]]) -> Tensor:
    """Run layers at width number ``at``: convolutions take their first channels."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            out = widths[layer][at]
            weight = layer.weight[:out, : (1 if layer.groups > 1 else x.shape[1])]
            groups = x.shape[1] if layer.groups > 1 else 1
            x = F.conv2d(x, weight, None, layer.stride, layer.padding, 1, groups)
        else:
            x = layer.run(x, at) if isinstance(layer, Switched) else layer(x)
    return x


class SlimmableMobileNetV1(nn.Module):
    """Depthwise separable blocks; ``channels[i]`` are the widths of stage i at each of the widths."""

    def __init__(self, channels: Sequence[Sequence[int]], strides: Sequence[int], classes: int, shared: bool) -> None:
        super().__init__()
        self.widths: dict[nn.Module, Sequence[int]] = {}

        def layer(inputs: Sequence[int], out: Sequence[int], size: int, stride: int, deep: bool = False) -> list:
            options = {"groups": max(out) if deep else 1, "bias": False}
            conv = nn.Conv2d(max(inputs), max(out), size, stride, size // 2, **options)
            self.widths[conv] = out
            return [conv, Switched(out, shared), nn.ReLU6()]

        rgb = [3] * len(channels[0])
        parts: list[nn.Module] = [nn.Sequential(*layer(rgb, channels[0], 3, 2))]
        for inputs, out, stride in zip(channels, channels[1:], strides, strict=False):
            parts.append(Block(nn.Sequential(*layer(inputs, inputs, 3, stride, True), *layer(inputs, out, 1, 1))))
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(nn.Linear(max(channels[-1]), classes))

    def logits(self, x: Tensor, at: int) -> Tensor:
        """Logits at width number ``at``."""
        for part in self.features:
            x = run(part.body if isinstance(part, Block) else part, x, at, self.widths)
        x = x.mean((2, 3))
        return F.linear(x, self.classifier[0].weight[:, : x.shape[1]], self.classifier[0].bias)


class AutoSlimMobileNetV2(nn.Module):
    """Inverted residuals at the widths of searched subnets: ``lists`` has one row of all layers for each of them.

    A row: stem, output of the first block, then hidden width and output of every other block, the last convolution.
    """

    def __init__(self, lists: Sequence[Sequence[int]], strides: Sequence[int], classes: int) -> None:
        super().__init__()
        self.widths: dict[nn.Module, Sequence[int]] = {}
        layers = [list(widths) for widths in zip(*lists, strict=True)]

        def layer(inputs: Sequence[int], out: Sequence[int], size: int, stride: int, deep: bool = False) -> list:
            conv = nn.Conv2d(max(inputs), max(out), size, stride, size // 2, groups=max(out) if deep else 1, bias=False)
            self.widths[conv] = out
            return [conv, Switched(out, False)]

        stem = layers.pop(0)
        parts: list[nn.Module] = [nn.Sequential(*layer([3] * len(stem), stem, 3, 2), nn.ReLU6())]
        self.kept = []
        inputs = stem
        for index, stride in enumerate(strides):
            mid = layers.pop(0) if index else inputs
            out = layers.pop(0)
            body = [*layer(inputs, mid, 1, 1), nn.ReLU6()] if index else []
            body += [*layer(mid, mid, 3, stride, True), nn.ReLU6(), *layer(mid, out, 1, 1)]
            parts.append(Block(nn.Sequential(*body)))
            self.kept.append(stride == 1 and inputs == out)
            inputs = out
        parts.append(nn.Sequential(*layer(inputs, layers[0], 1, 1), nn.ReLU6()))
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(nn.Linear(max(layers[0]), classes))

    def logits(self, x: Tensor, at: int) -> Tensor:
        """Logits of subnet number ``at``."""
        x = run(self.features[0], x, at, self.widths)
        for block, kept in zip(self.features[1:-1], self.kept, strict=True):
            out = run(block.body, x, at, self.widths)
            x = x + out if kept else out
        x = run(self.features[-1], x, at, self.widths).mean((2, 3))
        return F.linear(x, self.classifier[0].weight[:, : x.shape[1]], self.classifier[0].bias)


class SlimmableResNet(nn.Module):
    """Bottlenecks as of ResNet-50, one stage after another; ``outs[i]`` are the widths of stage i."""

    def __init__(self, stem: Sequence[int], outs: Sequence[Sequence[int]], depths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.widths: dict[nn.Module, Sequence[int]] = {}

        def layer(inputs: Sequence[int], out: Sequence[int], size: int, stride: int) -> list:
            conv = nn.Conv2d(max(inputs), max(out), size, stride, size // 2, bias=False)
            self.widths[conv] = out
            return [conv, Switched(out, False)]

        parts: list[nn.Module] = [nn.Sequential(*layer([3] * len(stem), stem, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))]
        inputs = stem
        for stage, (out, depth) in enumerate(zip(outs, depths, strict=True)):
            for index in range(depth):
                stride, mid = 2 if stage and not index else 1, [width // 4 for width in out]
                body = [*layer(inputs, mid, 1, 1), nn.ReLU(), *layer(mid, mid, 3, stride), nn.ReLU()]
                shortcut = None if index else nn.Sequential(*layer(inputs, out, 1, stride))
                parts.append(Block(nn.Sequential(*body, *layer(mid, out, 1, 1)), shortcut))
                inputs = out
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(nn.Linear(max(outs[-1]), classes))

    def logits(self, x: Tensor, at: int) -> Tensor:
        """Logits at width number ``at``."""
        x = run(self.features[0], x, at, self.widths)
        for part in self.features[1:]:
            before = run(part.shortcut, x, at, self.widths) if hasattr(part, "shortcut") else x
            x = F.relu(run(part.body, x, at, self.widths) + before)
        x = x.mean((2, 3))
        return F.linear(x, self.classifier[0].weight[:, : x.shape[1]], self.classifier[0].bias)
