"""A classifier around any network: losses, names of weights, and what is refused."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.classifiers import PlainClassifier, as_classifier, check_sizes, main_logits, plain_module

CLASSES = 5
SMOOTH = {"type": "LabelSmoothLoss", "label_smooth_val": 0.1}
pytestmark = pytest.mark.usefixtures("registered")


class Gives(nn.Module):
    """Logits of the mean colour, in whatever form ``pack`` makes of them and of two auxiliary ones."""

    def __init__(self, pack=lambda logits, one, two: logits) -> None:
        super().__init__()
        self.fc, self.pack = nn.Linear(3, 3 * CLASSES), pack

    def forward(self, x):
        return self.pack(*self.fc(x.mean((2, 3))).split(CLASSES, 1))


def test_losses_are_those_of_the_logits(batch):
    images, samples = batch()
    target = torch.arange(4)
    model = PlainClassifier(Gives(), loss={**SMOOTH, "num_classes": CLASSES})
    logits = model(images)
    expected = F.cross_entropy(logits, target, label_smoothing=0.1)
    losses = model(images, samples, mode="loss")
    assert set(losses) == {"loss"}
    torch.testing.assert_close(losses["loss"], expected)
    found = model(images, mode="predict")
    torch.testing.assert_close(torch.stack([sample.pred_score for sample in found]), logits.softmax(1))


@pytest.mark.parametrize(
    ("pack", "auxiliary"),
    [
        (lambda a, b, c: (a, b, c), [1, 2]),
        (lambda a, b, c: [a, None, c], [2]),
        (lambda a, b, c: {"aux": b, "logits": a, "maps": torch.zeros(4, 7)}, [1]),
        (lambda a, b, c: {"x": a}, []),
        (lambda a, b, c: (a, torch.zeros(4, 7)), []),
    ],
)
def test_auxiliary_logits(batch, pack, auxiliary):
    images, samples = batch()
    net, target = Gives(pack), torch.arange(4)
    parts = net.fc(images.mean((2, 3))).split(CLASSES, 1)
    torch.testing.assert_close(main_logits(net(images)), parts[0])
    losses = PlainClassifier(net, aux_weight=0.3)(images, samples, mode="loss")
    torch.testing.assert_close(losses.pop("loss"), F.cross_entropy(parts[0], target))
    expected = [0.3 * sum(F.cross_entropy(parts[k], target) for k in auxiliary)] if auxiliary else []
    torch.testing.assert_close(list(losses.values()), expected)
    assert list(losses) == ["aux_loss"] * len(expected)


def test_soft_labels_reach_every_loss(batch):
    images, samples = batch()
    net = Gives(lambda a, b, c: (a, b))
    model = PlainClassifier(net, train_cfg={"augments": {"type": "Mixup", "alpha": 1.0}})
    check_sizes(model, (3, 16, 16))
    assert model.data_preprocessor.num_classes == CLASSES  # nobody said it
    data = model.data_preprocessor({"inputs": list(images), "data_samples": samples}, training=True)
    scores = torch.stack([sample.gt_score for sample in data["data_samples"]])
    assert not torch.equal(scores, scores.round())
    losses = model(**data, mode="loss")
    logits, other = net(data["inputs"])
    torch.testing.assert_close(losses["loss"], F.cross_entropy(logits, scores))
    torch.testing.assert_close(losses["aux_loss"], 0.4 * F.cross_entropy(other, scores))


def test_weights_have_the_names_of_the_network(my_nets):
    model = PlainClassifier({"type": "my_nets.MyNet"})
    net = copy.deepcopy(model.net)  # has parts called `net` and `head`
    assert list(model.state_dict()) == list(net.state_dict())
    around = nn.ModuleDict({"architecture": copy.deepcopy(model)})
    assert list(around.state_dict()) == [f"architecture.{key}" for key in net.state_dict()]
    for other in (model, around["architecture"]):
        torch.nn.init.zeros_(other.net.head.weight)
    model.load_state_dict(net.state_dict())
    around.load_state_dict({f"architecture.{key}": value for key, value in net.state_dict().items()})
    for other in (model, around["architecture"]):
        torch.testing.assert_close(other.net.head.weight, net.head.weight)
    with pytest.raises(RuntimeError, match="stem.0.weight"):
        model.load_state_dict({key: value for key, value in net.state_dict().items() if key != "stem.0.weight"})
    with pytest.raises(RuntimeError, match="extra"):
        model.load_state_dict({**net.state_dict(), "extra": torch.zeros(1)})


def test_a_loss_keeps_its_state_under_its_own_name(batch):
    models = [PlainClassifier(Gives(), loss={"type": "SeesawLoss", "num_classes": CLASSES}) for _ in range(2)]
    models[0](*batch(), mode="loss")
    assert list(models[0].state_dict()) == ["fc.weight", "fc.bias", "head.loss_module.cum_samples"]
    models[1].load_state_dict(models[0].state_dict())
    assert models[1].head.loss_module.cum_samples.sum() == 4


def test_head_of_mmpretrain_around_features(batch):
    images, samples = batch()
    head = {"type": "LinearClsHead", "num_classes": CLASSES, "in_channels": 8}
    net = nn.Conv2d(3, 8, 3)
    model = PlainClassifier(net, neck={"type": "GlobalAveragePooling"}, head=head, loss=SMOOTH)
    logits = model.head.fc(net(images).mean((2, 3)))
    torch.testing.assert_close(model(images), logits)
    losses = model(images, samples, mode="loss")
    torch.testing.assert_close(losses["loss"], F.cross_entropy(logits, torch.arange(4), label_smoothing=0.1))
    assert list(model.state_dict()) == ["net.weight", "net.bias", "head.fc.weight", "head.fc.bias"]
    assert plain_module(model) is model
    assert plain_module(PlainClassifier(net)) is net


def test_initialisation_leaves_the_network_alone():
    class Own(nn.Linear):
        def init_weights(self) -> None:
            nn.init.zeros_(self.weight)

    net = Own(3, 3)
    before = net.weight.clone()
    model = PlainClassifier(net, head={"type": "LinearClsHead", "num_classes": 5, "in_channels": 3})
    nn.init.ones_(model.head.fc.weight)
    model.init_weights()
    assert torch.equal(net.weight, before)
    assert model.head.fc.weight.std() < 0.1
    assert not hasattr(net, "is_init")


def test_what_has_losses_stays_as_it_is():
    class Losses(nn.Module):
        def forward(self, inputs, data_samples=None, mode="tensor"):
            return inputs

    for module in (Losses(), PlainClassifier(Gives())):
        assert as_classifier(module) is module
    assert isinstance(as_classifier(Gives()), PlainClassifier)


FEATURES = {"type": "timm.resnet10t", "num_classes": 0}
HEAD = {"type": "LinearClsHead", "num_classes": CLASSES, "in_channels": 512}
AUGMENTED = {"augments": {"type": "Mixup", "alpha": 1.0}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"net": FEATURES, "head": {**HEAD, "in_channels": 100}}, "head.in_channels is 100, .* gives 512 features"),
        ({"net": {**FEATURES, "global_pool": ""}, "head": HEAD}, "add neck=dict.type='GlobalAveragePooling'"),
        ({"net": {**FEATURES, "global_pool": ""}}, r"gives a tensor \(1, 512, 1, 1\), expected logits"),
        ({"net": Gives(lambda a, b, c: None)}, "gives a NoneType, expected logits"),
        ({"net": Gives(), "loss": {**SMOOTH, "num_classes": 7}}, "loss.num_classes is 7"),
        ({"net": Gives(), "data_preprocessor": {"num_classes": 7}}, "data_preprocessor.num_classes is 7"),
        ({"net": nn.Conv2d(4, 3, 1)}, "cannot run on an image of 3x16x16: RuntimeError: .*4 channels"),
    ],
)  # fmt: skip
def test_sizes_that_differ(config, message):
    with pytest.raises(UserError, match=message) as error:
        check_sizes(PlainClassifier(**config), (3, 16, 16))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neck": {"type": "GlobalAveragePooling"}}, "neck needs a head"),
        ({"head": HEAD, "aux_weight": 0.4}, "aux_weight is for a network that gives logits"),
        ({"head": {**HEAD, "loss": {"type": "FocalLoss"}}, "loss": {"type": "FocalLoss"}}, "loss is given twice"),
        ({"head": {**HEAD, "no_such": 1}}, "architecture.head LinearClsHead: cannot be built .*no_such"),
        ({"loss": {"type": "NoSuchLoss"}}, "architecture.loss NoSuchLoss: cannot be built .*NoSuchLoss"),
        ({"train_cfg": AUGMENTED, "data_preprocessor": nn.Identity()}, "train_cfg goes into"),
    ],
)  # fmt: skip
def test_options_that_contradict(options, message):
    with pytest.raises(UserError, match=message) as error:
        PlainClassifier(Gives(), **options)
    assert "\n" not in str(error.value)


def test_timm_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'mmrazor_lite\[timm\]'"):
        PlainClassifier({"type": "timm.resnet18"})
