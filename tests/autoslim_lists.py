"""How the channel lists of ``slimmable_networks`` are read: which layer of ours has the width of each entry."""

from __future__ import annotations

from collections.abc import Sequence

from mmrazor_lite.subnet import SearchSpace, Subnet

MOBILENET_V2 = (1, 2, 3, 4, 3, 3, 1)  # blocks per stage
MNASNET = {8: 3, 9: 3, 10: 3, 11: 2, 12: 4, 13: 1}  # by the place of the stage in torchvision's network
RESNET50 = (3, 4, 6, 3)


def layers(family: str) -> list[str]:
    """The layer whose output channels each entry counts, but for the last entry, the classes."""
    if family == "mobilenet_v1":
        return ["backbone.conv1.conv", *(f"backbone.layer{n}.pointwise_conv.conv" for n in range(1, 14))]
    if family == "mobilenet_v2":
        names = ["backbone.conv1.conv", "backbone.layer1.0.conv.1.conv"]
        for stage, blocks in enumerate(MOBILENET_V2[1:], start=2):
            names += [f"backbone.layer{stage}.{n}.conv.{i}.conv" for n in range(blocks) for i in (0, 2)]
        return [*names, "backbone.conv2.conv"]
    if family == "mnasnet":
        names = ["net.layers.0", "net.layers.6"]
        names += [
            f"net.layers.{s}.{n}.layers.{i}" for s, blocks in MNASNET.items() for n in range(blocks) for i in (0, 6)
        ]
        return [*names, "net.layers.14"]
    assert family == "resnet50", family
    names = ["backbone.conv1"]
    for stage, blocks in enumerate(RESNET50, start=1):
        names.append(f"backbone.layer{stage}.0.downsample.0")
        names += [f"backbone.layer{stage}.{n}.conv{i}" for n in range(blocks) for i in (1, 2, 3)]
    return names


def subnet_of(channels: Sequence[int], family: str, space: SearchSpace) -> Subnet:
    """The subnet of a channel list; layers that share a width must agree, and what stays at full width must be it."""
    choices: dict[str, int] = {}
    for layer, width in zip(layers(family), channels[:-1], strict=True):
        choice = space.layers[layer].choice
        if choice is None:
            assert space.layers[layer].full == width, layer
        else:
            assert choices.setdefault(choice, width) == width, layer
    return Subnet(choices)
