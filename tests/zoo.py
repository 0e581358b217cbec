"""Every architecture the project ships or promises, as tiny variants, each prepared once for all tests.

Not in the zoo, with the reason:

- Inception v3: its auxiliary head needs images of 299 pixels; GoogLeNet covers auxiliary heads and concats;
- models of timm and of mmpretrain's longer list: ``tests/benchmarks/test_any_model.py`` has the small ones.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torchvision.models as tv
from draws import some
from torch import nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.regnet import BlockParams, RegNet

from mmrazor_lite.models.mutators import OneShotChannelMutator

SIXTHS = [i / 6 for i in range(1, 7)]
CLASSES = 7  # a number that is no width


@dataclass(frozen=True)
class Variant:
    """A tiny network: how to build it, the (C, H, W) of its images, and the options of its mutator."""

    build: Callable[[], nn.Module]
    input_shape: tuple[int, int, int] = (3, 32, 32)
    mutator: dict = field(default_factory=dict)
    small: bool = False  # small enough for a hundred subnets


@dataclass
class Prepared:
    """A variant after ``prepare``, and its untouched copy."""

    plain: nn.Module
    model: nn.Module
    mutator: OneShotChannelMutator
    input_shape: tuple[int, int, int]

    def images(self, batch: int = 2, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        dtype = next(self.model.parameters()).dtype
        return torch.randn(batch, *self.input_shape, generator=generator, dtype=torch.float64).to(dtype)

    def double(self) -> Prepared:
        """A copy in float64 that a test may change."""
        clone = copy.deepcopy(self)
        clone.plain.double()
        clone.model.double()
        return clone


def _mmpretrain(backbone: dict, channels: int) -> nn.Module:
    from mmpretrain.registry import MODELS

    from mmrazor_lite.registry import register_all

    register_all()
    return MODELS.build(
        {
            "type": "mmpretrain.ImageClassifier",
            "backbone": backbone,
            "neck": {"type": "GlobalAveragePooling"},
            "head": {"type": "LinearClsHead", "num_classes": CLASSES, "in_channels": channels},
        }
    )


def _demo() -> nn.Module:
    backbone = {
        "type": "mmrazor_lite.InvertedResidualNet",
        "stem_channels": 16,
        "settings": [[1, 16, 1, 1], [4, 24, 2, 1], [4, 40, 2, 2]],
        "last_channels": 128,
    }
    return _mmpretrain(backbone, 128)


def _mobilenet_v1() -> nn.Module:
    backbone = {"type": "mmrazor_lite.MobileNetV1", "stem_channels": 16, "blocks": [[24, 1], [32, 2], [32, 1]]}
    return _mmpretrain(backbone, 32)


def _mnasnet() -> nn.Module:
    from mmrazor_lite.models.backbones import mnasnet

    return mnasnet(0.5, last_channels=72, num_classes=CLASSES)


def _mobilenet_v2_mmpretrain() -> nn.Module:
    return _mmpretrain({"type": "MobileNetV2", "widen_factor": 0.5}, 1280)


def _mobilenet_v2_torchvision() -> nn.Module:
    settings = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2], [6, 64, 1, 2]]
    return tv.MobileNetV2(CLASSES, inverted_residual_setting=settings)


def _resnet(block: type[nn.Module], layers: list[int]) -> nn.Module:
    return tv.ResNet(block, layers, CLASSES)


def _mobilenet_v3() -> nn.Module:
    return tv.mobilenet_v3_small(num_classes=CLASSES, width_mult=0.5)


def _efficientnet() -> nn.Module:
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    settings = [
        MBConvConfig(1, 3, 1, 32, 16, 1, width_mult=0.5),
        MBConvConfig(6, 5, 2, 16, 24, 2, width_mult=0.5),
        MBConvConfig(6, 3, 2, 24, 48, 2, width_mult=0.5),
    ]
    return EfficientNet(settings, dropout=0.2, num_classes=CLASSES, last_channel=96)


def _convnext() -> nn.Module:
    settings = [CNBlockConfig(16, 24, 1), CNBlockConfig(24, 32, 2), CNBlockConfig(32, None, 1)]
    return tv.ConvNeXt(settings, stochastic_depth_prob=0.1, num_classes=CLASSES)


class _Auxiliary(nn.Module):
    """A head beside the last one that runs in train mode only, as GoogLeNet's do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(16, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(24, 32, 3, 2, 1), nn.ReLU())
        self.aux = nn.Sequential(nn.Conv2d(24, 20, 1), nn.ReLU(), nn.Flatten(), nn.Linear(20 * 16, CLASSES))
        self.fc = nn.Linear(32, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        x = self.middle(self.stem(x))
        logits = self.fc(self.last(x).mean((2, 3)))
        return (logits, self.aux(x)) if self.training else logits


def _vgg() -> nn.Module:
    from torchvision.models.vgg import VGG, make_layers

    model = VGG(make_layers([16, "M", 24, "M", 32, "M"], batch_norm=True), CLASSES)
    model.avgpool = nn.AdaptiveAvgPool2d(3)
    model.classifier[0] = nn.Linear(32 * 9, 48)
    model.classifier[3] = nn.Linear(48, 40)
    model.classifier[6] = nn.Linear(40, CLASSES)
    return model


def _vit() -> nn.Module:
    return tv.VisionTransformer(32, 8, num_layers=4, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=CLASSES)


def _swin() -> nn.Module:
    return tv.SwinTransformer([4, 4], 24, [2, 2], [3, 6], [4, 4], num_classes=CLASSES)


ZOO: dict[str, Variant] = {
    "demo": Variant(_demo, (3, 8, 8), {"candidate_choices": SIXTHS, "divisor": 4}, small=True),
    "mobilenet_v1": Variant(_mobilenet_v1, (3, 16, 16), small=True),
    "mnasnet": Variant(_mnasnet),
    "mobilenet_v2_mmpretrain": Variant(_mobilenet_v2_mmpretrain),
    "mobilenet_v2_torchvision": Variant(_mobilenet_v2_torchvision),
    "resnet18": Variant(lambda: _resnet(tv.resnet.BasicBlock, [2, 2, 2, 2])),
    "resnet50": Variant(lambda: _resnet(tv.resnet.Bottleneck, [2, 2, 2, 2])),  # two blocks per stage for time
    "mobilenet_v3": Variant(_mobilenet_v3, mutator={"divisor": 4}),
    "efficientnet": Variant(_efficientnet, mutator={"divisor": 4}),
    "shufflenet_v2": Variant(
        lambda: tv.ShuffleNetV2([2, 2, 2], [24, 48, 96, 192, 256], CLASSES), mutator={"divisor": 4}
    ),
    "densenet": Variant(
        lambda: tv.DenseNet(8, (2, 3, 2, 2), 16, num_classes=CLASSES), mutator={"divisor": 2}, small=True
    ),
    "squeezenet": Variant(lambda: tv.squeezenet1_1(num_classes=CLASSES)),
    "auxiliary": Variant(_Auxiliary, (3, 16, 16), {"divisor": 4}),
    "googlenet": Variant(lambda: tv.GoogLeNet(CLASSES, aux_logits=True, init_weights=False), (3, 64, 64)),
    "regnet": Variant(
        lambda: RegNet(BlockParams([1, 2, 1], [16, 32, 48], [8, 8, 8], [1.0] * 3, [2] * 3, 0.25), CLASSES, 16),
        mutator={"divisor": 4},
    ),
    "convnext": Variant(_convnext, mutator={"divisor": 8}),
    "vgg": Variant(_vgg, mutator={"divisor": 4}, small=True),
    "vit": Variant(_vit, mutator={"divisor": 8}),
    "swin": Variant(_swin, mutator={"divisor": 8}),
}
# What the others have is in one of these too: they are of the wide run.
FEW = some(ZOO, *(ZOO.keys() - {"mnasnet", "mobilenet_v2_mmpretrain", "efficientnet", "googlenet"}))
SMALL = [name for name, variant in ZOO.items() if variant.small]


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every tensor that a model starts with as a constant random values: nothing is zero or one by chance.

    These are statistics, norms, scales, gains, and biases where they are zero at first. Most biases are above zero: a
    small subnet whose rectifiers are all off says nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point() or not tensor.numel() or (tensor != tensor.reshape(-1)[0]).any():
                continue
            noise = torch.rand(tensor.shape, generator=generator)
            positive = bool((tensor > 0).all()) or (tensor.dim() == 1 and name.endswith("weight"))
            tensor.copy_(noise + 0.5 if positive else 0.3 * noise - 0.1)
    return model


def prepare(model: nn.Module, input_shape: tuple[int, int, int] = (3, 16, 16), **options: object) -> Prepared:
    """Prepare ``model`` in place; every width may be chosen unless ``options`` of the mutator say otherwise."""
    any_width = bool(options.pop("any_width", not options))
    randomise(model)
    plain = copy.deepcopy(model)
    mutator = OneShotChannelMutator(**options)
    mutator.prepare(model, input_shape, any_width=any_width)
    return Prepared(plain, model, mutator, input_shape)


@functools.cache
def prepared(name: str) -> Prepared:
    """The variant, prepared once: a test that changes it works on a copy (``copy.deepcopy`` or ``.double()``)."""
    variant = ZOO[name]
    torch.manual_seed(0)
    return prepare(variant.build(), variant.input_shape, any_width=False, **variant.mutator)
