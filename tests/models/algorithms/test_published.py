"""What a published net.config says beside its choices is compared with the network that is built for it."""

from __future__ import annotations

import copy

import pytest
from figures import figures
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms import SubModel
from mmrazor_lite.models.algorithms.published import check_net_config
from mmrazor_lite.models.backbones import OFAMobileNetV3, OFAProxylessNAS

FILES = {"net_config_note8_31ms": (OFAMobileNetV3, 1.0), "net_config_cpu_15ms": (OFAProxylessNAS, 1.3)}


class Net(nn.Module):
    """A backbone with a classifier."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.fc = backbone, nn.Linear(backbone.out_channels, 1000)

    def forward(self, x):
        return self.fc(self.backbone(x)[-1])


def _set(path, value):
    def change(document):
        *parents, last = path
        for key in parents:
            document = document[key]
        document[last] = value

    return change


@pytest.mark.parametrize("name", ["net_config_cpu_15ms", pytest.param("net_config_note8_31ms", marks=pytest.mark.slow)])
def test_published_files_fit_and_changed_ones_do_not(name):
    document = figures(f"ofa/{name}")
    cls, width = FILES[name]
    model = SubModel(Net(cls(width_mult=width)), {**document, "image_size": 64}, input_shape=(3, 64, 64))
    check_net_config(document, model.architecture, "net.config")
    layer = document["blocks"][4]["mobile_inverted_conv"]
    changes = {
        "block 4: use_se": _set(["blocks", 4, "mobile_inverted_conv", "use_se"], not layer["use_se"]),
        "block 4: act_func 'ReLU'|block 4: act_func 'HSwish'": _set(
            ["blocks", 4, "mobile_inverted_conv", "act_func"], "relu" if layer["act_func"] != "relu" else "h_swish"
        ),
        "block 1: stride 1, but the model has 2": _set(["blocks", 1, "mobile_inverted_conv", "stride"], 1),
        "first_conv: stride 1, but the model has 2": _set(["first_conv", "stride"], 1),
        "first_conv: act_func": _set(["first_conv", "act_func"], "swish"),
        "feature_mix_layer: out_channels 7": _set(["feature_mix_layer", "out_channels"], 7),
    }
    for expected, change in changes.items():
        changed = copy.deepcopy(document)
        change(changed)
        with pytest.raises(UserError, match=f"^net.config: ({expected})"):
            check_net_config(changed, model.architecture, "net.config")
    check_net_config({"blocks": 3}, model.architecture, "net.config")
    check_net_config({"blocks": [3, None, {}]}, model.architecture, "net.config")
