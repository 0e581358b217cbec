"""What a distillation takes for granted of a head, a loss and a norm: checked when built, or handled."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmrazor_lite.engine.optim import SubnetOptimWrapper
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms import OFA, AutoSlim
from mmrazor_lite.models.calibration import batch_norms, recalibrated
from mmrazor_lite.models.classifiers import PlainClassifier
from mmrazor_lite.models.distillers import BinaryKLDivergence, KLDivergence
from mmrazor_lite.models.mutators import OneShotChannelMutator
from mmrazor_lite.models.ops import SwitchableBatchNorm

CLASSES, SHAPE = 5, (3, 8, 8)
PLAIN = {"type": "mmrazor_lite.InvertedResidualNet", "stem_channels": 8, "settings": [[2, 8, 1, 1]]}
ELASTIC = {
    "type": "mmrazor_lite.OFAMobileNetV3",
    "arch_setting": [[16, 2, 2, "HSwish", True]],
    "depths": [1, 2],
    "kernel_sizes": [3, 5],
    "expand_ratios": [2, 3, 4],
    "tail_channels": [24, 32],
}
MUTATOR = {"type": "OneShotChannelMutator"}
BINARY = {"type": "BinaryKLDivergence"}


def head(kind: str = "LinearClsHead", **options) -> dict:
    return {"type": kind, "num_classes": CLASSES, "in_channels": 24, **options}


def classifier(head: dict, backbone: dict | None = None) -> dict:
    pool = {"type": "GlobalAveragePooling"} if backbone is None and head["type"] != "CSRAClsHead" else None
    backbone = backbone or {**PLAIN, "last_channels": 24}
    return {"type": "mmpretrain.ImageClassifier", "backbone": backbone, "neck": pool, "head": head}


def slim(head: dict, **options) -> AutoSlim:
    from mmengine.model import BaseDataPreprocessor

    torch.manual_seed(0)
    preprocessor = BaseDataPreprocessor()
    return AutoSlim(classifier(head), MUTATOR, input_shape=SHAPE, data_preprocessor=preprocessor, **options).train()


def train(algorithm: AutoSlim, several: bool = False) -> dict:
    from mmpretrain.structures import DataSample

    labels = [[i % CLASSES, (i + 2) % CLASSES] if several else i % CLASSES for i in range(4)]
    samples = [DataSample().set_gt_label(label) for label in labels]
    optim_wrapper = SubnetOptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=0.1))
    return algorithm.train_step({"inputs": torch.randn(4, *SHAPE), "data_samples": samples}, optim_wrapper)


SOFTMAX = {
    "cross entropy": head(),
    "label smoothing": head(loss={"type": "LabelSmoothLoss", "label_smooth_val": 0.1}),
    "seesaw": head(loss={"type": "SeesawLoss", "num_classes": CLASSES}),
    "stacked": head("StackedLinearClsHead", mid_channels=[16]),
    "efficientformer": head("EfficientFormerClsHead", distillation=False),
    "levit": head("LeViTClsHead", distillation=False),
}
SIGMOID = {
    "several labels": head("MultiLabelLinearClsHead"),
    "attention of classes": head("CSRAClsHead", num_heads=1, lam=0.1),
    "asymmetric": head("MultiLabelLinearClsHead", loss={"type": "AsymmetricLoss"}),
    "binary cross entropy": head(loss={"type": "CrossEntropyLoss", "use_sigmoid": True}),
    "smoothing of several labels": head(
        loss={"type": "LabelSmoothLoss", "label_smooth_val": 0.1, "mode": "multi_label"}
    ),
    "focal": head(loss={"type": "FocalLoss"}),
}
OTHERS = {
    "margins": (head("ArcFaceClsHead"), "ArcFaceClsHead changes its logits by the labels .* use another head"),
    "regression": (
        head("LinearRegressionHead", loss={"type": "RegressionLoss", "loss_type": "MSELoss"}),
        "plain scores, .* or SPOS",
    ),
    "tasks": (
        {"type": "MultiTaskHead", "in_channels": 24, "task_heads": {"a": {"type": "LinearClsHead", "num_classes": 3}}},
        "MultiTaskHead gives a dict, KLDivergence needs one tensor of logits",
    ),
    "one class": (head(num_classes=1), "gives one output, and a softmax over one is always 1"),
}


@pytest.mark.parametrize("name", SOFTMAX)
def test_heads_of_a_softmax_train(name):
    log = train(slim(SOFTMAX[name]))
    assert log["min_subnet.loss"] > 0
    with pytest.raises(UserError, match=r"BinaryKLDivergence compares a sigmoid .* softmax .*type='KLDivergence'\)$"):
        if name == "seesaw":
            pytest.skip("neither, and taken as it is")
        slim(SOFTMAX[name], distiller=BINARY)


@pytest.mark.parametrize("name", SIGMOID)
def test_heads_of_sigmoids_need_the_other_distiller_and_train_with_it(name):
    """The distiller that the message names is the one that works."""
    with pytest.raises(UserError, match=r"KLDivergence compares a softmax .* a sigmoid .*type='BinaryKLDivergence'\)$"):
        slim(SIGMOID[name])
    algorithm = slim(SIGMOID[name], distiller=BINARY)
    if SIGMOID[name]["type"] != "LinearClsHead":  # mmpretrain's takes labels of one class there
        assert train(algorithm, several=True)["min_subnet.loss"] > 0


@pytest.mark.parametrize("name", OTHERS)
def test_heads_that_no_distiller_fits_are_refused_and_the_way_out_works(name):
    config, message = OTHERS[name]
    with pytest.raises(UserError, match=message) as error:
        slim(config)
    assert "\n" not in str(error.value)
    joint = slim(config, channel_cfg=[1.0, 0.5])  # without soft labels, as the message says
    assert joint.kind == "joint"
    if name == "margins":
        assert train(joint)["loss"] > 0


def test_phases_and_sandwiches_of_once_for_all_are_checked_where_they_distil():
    architecture = classifier(head("MultiLabelLinearClsHead", in_channels=32), ELASTIC)
    for options in ({}, {"phase": "kernel"}):
        with pytest.raises(UserError, match="BinaryKLDivergence"):
            OFA(architecture, input_shape=(3, 16, 16), **options)
    OFA(architecture, input_shape=(3, 16, 16), phase="teacher")
    OFA(architecture, input_shape=(3, 16, 16), phase="kernel", kd_ratio=0.0)
    OFA(architecture, input_shape=(3, 16, 16), distiller=BINARY)


def test_a_loss_of_torch_is_known_by_its_name():
    class Hinge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.criterion = nn.Sequential(nn.Conv2d(3, CLASSES, 1)), nn.MultiMarginLoss()

        def forward(self, inputs, data_samples=None, mode="tensor"):
            return self.net(inputs).mean((2, 3))

    with pytest.raises(UserError, match="MultiMarginLoss of Hinge takes the outputs for plain scores"):
        AutoSlim(Hinge(), MUTATOR, input_shape=SHAPE)


def test_maps_are_no_logits():
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, CLASSES, 1))

        def forward(self, inputs, data_samples=None, mode="tensor"):
            return self.net(inputs)

    with pytest.raises(
        UserError, match=r"Maps gives a tensor \(1, 5, 8, 8\), KLDivergence needs logits \(N, classes\)"
    ):
        AutoSlim(Maps(), MUTATOR, input_shape=SHAPE)


def test_a_loss_without_a_name_of_one_is_refused():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, CLASSES, 1))

        def forward(self, inputs, data_samples=None, mode="tensor"):
            logits = self.net(inputs).mean((2, 3))
            return {"objective": logits.sum()} if mode == "loss" else logits

    from mmengine.model import BaseDataPreprocessor

    algorithm = AutoSlim(Odd(), MUTATOR, input_shape=SHAPE, data_preprocessor=BaseDataPreprocessor())
    with pytest.raises(UserError, match=r"Odd: its loss\(\) gives \['objective'.*'loss' in their names"):
        train(algorithm)


# the losses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_binary_divergence_against_a_computation_by_hand(tau):
    torch.manual_seed(0)
    student = torch.randn(4, CLASSES, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, CLASSES, dtype=torch.float64, requires_grad=True)
    p, q = torch.sigmoid(teacher.detach() / tau), torch.sigmoid(student / tau)
    by_hand = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(1).mean() * tau**2 * 0.5
    loss = BinaryKLDivergence(tau=tau, loss_weight=0.5)(student, teacher)
    torch.testing.assert_close(loss, by_hand)
    torch.testing.assert_close(torch.autograd.grad(loss, student)[0], torch.autograd.grad(by_hand, student)[0])
    assert teacher.grad is None
    assert BinaryKLDivergence()(teacher, teacher).item() == 0.0


def test_two_classes_are_one_answer():
    """A softmax of (x, 0) is a sigmoid of x; far out, nothing overflows."""
    x, y = torch.randn(6, 1), torch.randn(6, 1)
    both = [torch.cat([F.pad(x, (0, 1))]), torch.cat([F.pad(y, (0, 1))])]
    torch.testing.assert_close(BinaryKLDivergence()(x, y), KLDivergence()(*both))
    assert torch.isfinite(BinaryKLDivergence()(torch.tensor([[200.0]]), torch.tensor([[-200.0]])))


# norms ----------------------------------------------------------------------------------------------------------


class Instance(nn.Module):
    """An instance norm that keeps running statistics, which those of a batch norm are no different from."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 12, 3), nn.InstanceNorm2d(12, affine=True, track_running_stats=True)
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x):
        return self.fc(self.norm(self.a(x)).relu().mean((2, 3)))


def test_running_statistics_of_instance_norms_are_measured_anew():
    torch.manual_seed(0)
    algorithm = AutoSlim(PlainClassifier(Instance()), MUTATOR, input_shape=SHAPE)
    (norm,) = batch_norms(algorithm.architecture)
    images = 3 + torch.randn(8, *SHAPE)
    with recalibrated(algorithm, [{"inputs": images[:4]}, {"inputs": images[4:]}]), torch.no_grad():
        features = algorithm.architecture.net.a(images)
        torch.testing.assert_close(norm._buffers["running_mean"], features.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)
    assert float(norm._buffers["running_mean"].abs().max()) == 0


def test_joint_subnets_have_running_statistics_of_their_own_whatever_the_norm():
    model, mutator = Instance(), OneShotChannelMutator(divisor=2)
    mutator.prepare(model, SHAPE)
    mutator.make_switchable([mutator.search_space.max(), mutator.search_space.min()])
    assert isinstance(model.norm, SwitchableBatchNorm)
    model.train()(3 + torch.randn(4, *SHAPE))
    assert float(model.norm.bns[0].running_mean.abs().max()) > 0 == float(model.norm.bns[1].running_mean.abs().max())


@pytest.mark.parametrize("kind", [KLDivergence, BinaryKLDivergence])
@pytest.mark.parametrize("weight", [0, -1.0, float("nan"), "1"])
def test_a_loss_without_weight_or_against_the_teacher_is_refused(kind, weight):
    with pytest.raises(UserError, match=r"^distiller\.loss_weight=.*: give a number above 0$"):
        kind(loss_weight=weight)
