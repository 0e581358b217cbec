"""The models that ``any_model.py`` walks: read from ``any_model_lists.yaml``, built with random weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import torch
import yaml
from torch import nn

SETS = ("torchvision", "timm", "mmpretrain")
LISTS = Path(__file__).with_name("any_model_lists.yaml")


@dataclass(frozen=True)
class Entry:
    """A model of the lists; the fields are the keys of ``any_model_lists.yaml``."""

    set: str
    name: str
    args: dict = field(default_factory=dict)
    size: int = 224
    check: int = 64
    channels: int = 3
    kind: str = "cnn"

    @property
    def key(self) -> str:
        return f"{self.set}/{self.name}"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return (self.channels, self.size, self.size)

    @property
    def check_shape(self) -> tuple[int, int, int]:
        return (self.channels, self.check, self.check)

    def build(self) -> nn.Module:
        """The model with random weights; nothing is downloaded."""
        torch.manual_seed(0)
        return {"torchvision": _torchvision, "timm": _timm, "mmpretrain": _mmpretrain}[self.set](self)


def entries(which: str = "all") -> list[Entry]:
    """The models of one set or of all of them, in the order of the lists."""
    lists = yaml.safe_load(LISTS.read_text())
    found = [Entry("torchvision", **_of_torchvision(name, lists["torchvision"])) for name in torchvision_names()]
    found += [Entry(name, **item) for name in SETS[1:] for item in lists[name]]
    return [entry for entry in found if which in ("all", entry.set)]


def torchvision_names() -> list[str]:
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def _of_torchvision(name: str, rules: list[dict]) -> dict:
    """What the list says about a model; patterns are read in order, later ones count."""
    item = {}
    for rule in rules:
        if fnmatchcase(name, rule["name"]):
            item |= rule
    return item | {"name": name}


def _torchvision(entry: Entry) -> nn.Module:
    import torchvision

    return torchvision.models.get_model(entry.name, weights=None, **entry.args)


def _timm(entry: Entry) -> nn.Module:
    import timm

    return timm.create_model(entry.name, pretrained=False, **entry.args)


def _mmpretrain(entry: Entry) -> nn.Module:
    from mmpretrain.registry import MODELS

    from mmrazor_lite.config.build import register_quietly

    register_quietly()
    backbone = {"type": entry.name, **entry.args}
    probe = MODELS.build(backbone)
    probe.eval()  # some backbones return nothing here
    with torch.no_grad():
        shape = probe(torch.zeros(1, *entry.input_shape))[-1].shape
    return MODELS.build(
        {
            "type": "mmpretrain.ImageClassifier",
            "backbone": backbone,
            "neck": {"type": "GlobalAveragePooling"} if len(shape) == 4 else None,
            "head": {"type": "LinearClsHead", "num_classes": 1000, "in_channels": shape[1]},
        }
    )
