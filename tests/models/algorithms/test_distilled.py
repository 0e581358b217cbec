"""A subnet that learns from its original: the teacher stays what it is, and starts the subnet."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import nn

from mmrazor_lite.checkpoints import save_checkpoint
from mmrazor_lite.engine.optim import SubnetOptimWrapper
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms import Distilled
from mmrazor_lite.models.classifiers import WithLoss

from .conftest import tiny_classifier

MUTATOR = {"type": "OneShotChannelMutator", "candidate_choices": [0.5, 1.0], "divisor": 2}


class TwoHeads(nn.Module):
    """Class scores and a map, in a dict."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.classes, self.map = nn.Linear(width, 4), nn.Conv2d(width, 2, 1)

    def forward(self, x: torch.Tensor) -> dict:
        x = self.stem(x)
        return {"classes": self.classes(x.mean((2, 3))), "map": self.map(x)}


def sgd(model: nn.Module, lr: float = 0.05) -> SubnetOptimWrapper:
    return SubnetOptimWrapper(torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9))


def cut(**options) -> Distilled:
    options = {"channel_cfg": 0.5, "mutator": MUTATOR, "data_preprocessor": BaseDataPreprocessor(), **options}
    return Distilled(tiny_classifier(), input_shape=(3, 8, 8), **options)


@pytest.fixture
def original(make, tmp_path):
    """A file of the weights of the full network, and the network."""
    algorithm = make(torch.float32, channel_cfg=1.0)
    path = tmp_path / "original.pth"
    save_checkpoint({"state_dict": algorithm.architecture.state_dict(), "meta": {}}, path)
    return str(path), algorithm.architecture.eval()


def test_the_loss_is_that_of_the_outputs_and_of_the_labels():
    torch.manual_seed(0)
    small, full = nn.Linear(5, 3).double(), nn.Linear(5, 3).double()
    algorithm = Distilled(WithLoss(small, F.cross_entropy), teacher=full, soft_weight=2.0, label_weight=0.5)
    images, labels = torch.randn(4, 5).double(), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        own, theirs = small(images), full(images)
        soft = (theirs.softmax(1) * (theirs.log_softmax(1) - own.log_softmax(1))).sum(1).mean()
        expected = 2.0 * soft + 0.5 * F.cross_entropy(own, labels)
    log = algorithm.train_step({"inputs": images, "data_samples": labels}, sgd(algorithm))
    torch.testing.assert_close(log["loss"], expected, rtol=1e-12, atol=0)


def test_any_outputs_are_learned_without_labels_and_the_teacher_stays():
    torch.manual_seed(0)
    full, small = TwoHeads(8), TwoHeads(4)
    before, given = copy.deepcopy(full.state_dict()), copy.deepcopy(full)
    algorithm = Distilled(WithLoss(small), teacher=full, label_weight=0.0)
    wrapper, images = sgd(algorithm), torch.randn(16, 3, 6, 6)
    batch = {"inputs": images, "data_samples": None}
    losses = [algorithm.train_step(batch, wrapper)["loss"].item() for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    kept = algorithm._teacher[0].net
    assert kept is not full and not any(parameter.requires_grad for parameter in kept.parameters())
    for name, value in kept.state_dict().items():  # statistics of norms too
        assert torch.equal(value, before[name])
    assert full.training == given.training and all(p.requires_grad for p in full.parameters())
    assert not any("teacher" in name for name in algorithm.state_dict())


def test_a_subnet_starts_from_its_part_of_the_original(original):
    path, network = original
    algorithm = cut(teacher=path)
    algorithm.init_weights()
    full = network.state_dict()
    for name, value in algorithm.architecture.state_dict().items():
        part = full[name][tuple(slice(size) for size in value.shape)]
        assert torch.equal(value, part), name
    assert sum(v.numel() for v in algorithm.architecture.parameters()) < sum(v.numel() for v in network.parameters())


def test_the_teacher_of_a_config_is_the_original(original, batch):
    path, network = original
    algorithm, data = cut(teacher=path), batch(dtype=torch.float32)
    algorithm.init_weights()
    with torch.no_grad():
        torch.testing.assert_close(algorithm.teacher_outputs(data, None), network(data["inputs"], mode="tensor"))
    wrapper = sgd(algorithm, lr=0.01)
    losses = [algorithm.train_step(data, wrapper)["loss"].item() for _ in range(20)]
    assert losses[-1] < losses[0]
    assert set(algorithm.train_step(data, wrapper)) == {"loss", "soft_loss"}


def test_a_checkpoint_says_which_subnet_it_holds(original):
    algorithm = cut(teacher=original[0])
    meta = algorithm.checkpoint_meta()
    assert meta["kind"] == "subnet" and meta["resources"]["macs"] < algorithm.cost_model.max()["macs"]
    algorithm.check_meta(meta)
    with pytest.raises(UserError, match="holds another subnet"):
        cut(teacher=original[0], channel_cfg=1.0).check_meta(meta)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"teacher": None}, "algorithm.teacher is missing"),
        ({"mutator": None}, "algorithm.mutator is missing"),
        ({"channel_cfg": None}, "give one subnet file, or a uniform width"),
        ({"channel_cfg": [0.5, 1.0]}, "give one subnet file, or a uniform width"),
        ({"soft_weight": 0}, "soft_weight=0: give a number above 0"),
        ({"label_weight": -1}, "label_weight=-1: give a number of 0 or more"),
        ({"teacher": nn.Linear(2, 2)}, "is not read where the teacher is a network"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        cut(**{"teacher": "x.pth", **options})


def test_a_teacher_of_another_network_is_refused(tmp_path):
    save_checkpoint({"state_dict": {"conv.weight": torch.zeros(3)}, "meta": {}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="other.pth"):
        cut(teacher=str(tmp_path / "other.pth")).init_weights()
