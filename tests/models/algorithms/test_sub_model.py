"""One fixed subnet as a plain network: where its weights come from, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.model import BaseModule
from torch import nn

from mmrazor_lite import load_subnet
from mmrazor_lite.engine import SubnetOptimWrapper
from mmrazor_lite.errors import SubnetError, UserError
from mmrazor_lite.export import read_checkpoint, save_checkpoint, write_best_checkpoint
from mmrazor_lite.models.algorithms import SPOS, SubModel
from mmrazor_lite.models.calibration import recalibrated
from mmrazor_lite.models.mutables import MutableOP
from mmrazor_lite.registry import MODELS
from mmrazor_lite.subnet import subnet_document, write_subnet

CLASSES = 5
SHAPE = (3, 8, 8)
WIDTH = 6
ARCHITECTURE = {
    "type": "mmpretrain.ImageClassifier",
    "backbone": {"type": "mmrazor_lite.TwoChoices"},
    "neck": {"type": "GlobalAveragePooling"},
    "head": {"type": "LinearClsHead", "num_classes": CLASSES, "in_channels": WIDTH, "topk": (1,)},
}
SUPERNET = {"type": "SPOS", "architecture": ARCHITECTURE, "input_shape": SHAPE, "mutator": {"type": "NasMutator"}}
BLOCKS = ("backbone.layers.0", "backbone.layers.1")


@MODELS.register_module(force=True)
class TwoChoices(BaseModule):
    """A stem and two choices among three kernel sizes: small, so that preparing it takes little time."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 1)
        self.layers = nn.Sequential(*(MutableOP({f"conv_{k}": _conv(k) for k in (1, 3, 5)}) for _ in range(2)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.layers(self.stem(x)),)


def _conv(size: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(WIDTH, WIDTH, size, padding=size // 2), nn.BatchNorm2d(WIDTH), nn.ReLU())


def pretrained(path, **options) -> dict:
    return {"type": "Pretrained", "checkpoint": str(path), **options}


def images(n: int = 4) -> torch.Tensor:
    return torch.randn((n, *SHAPE), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(model) -> torch.Tensor:
    model.eval()
    return model(images(), mode="tensor") if hasattr(model, "kind") else model(images())


@pytest.fixture(scope="module")
def supernet(registered) -> SPOS:
    """With random weights and statistics, so that another operator or a wrong statistic shows."""
    torch.manual_seed(0)
    model = SPOS(**{key: value for key, value in SUPERNET.items() if key != "type"})
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.dim():
                tensor.normal_(0, 0.3) if tensor.dim() > 1 else tensor.uniform_(0.5, 1.5)
            assert name.startswith("architecture.")
    return model.eval()


@pytest.fixture(scope="module")
def subnet(supernet):
    return supernet.search_space.subnet(np.array([1, 2]))


@pytest.fixture(scope="module")
def other(supernet):
    return supernet.search_space.subnet(np.array([1, 0]))


@pytest.fixture(scope="module")
def expected(supernet, subnet) -> torch.Tensor:
    supernet.mutator.activate(subnet)
    return logits(supernet)


@pytest.fixture(scope="module")
def files(supernet, subnet, other, tmp_path_factory):
    """``subnet.yaml``, ``other.yaml``, ``supernet.pth`` and ``best.pth`` (of ``subnet``)."""
    folder = tmp_path_factory.mktemp("files")
    for name, value in (("subnet", subnet), ("other", other)):
        write_subnet(folder / f"{name}.yaml", value, supernet.search_space)
    meta = {"mmrazor_lite": supernet.checkpoint_meta()}
    save_checkpoint({"state_dict": supernet.state_dict(), "meta": meta}, folder / "supernet.pth")
    write_best_checkpoint(supernet, subnet, folder / "best.pth", score={"accuracy/top1": 71.5})
    return folder


@pytest.fixture
def build(registered, files):
    def make(**options) -> SubModel:
        return SubModel(**{"cfg": SUPERNET, "fix_subnet": str(files / "subnet.yaml"), **options})

    return make


def assert_close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert (found - wanted).abs().max() <= 1e-5 * max(1, wanted.abs().max())


def test_is_a_plain_network(build, supernet, subnet):
    model = build()
    assert model.kind == "subnet" and model.subnets == [subnet] and model.mutator is None
    assert not [part for part in model.modules() if isinstance(part, MutableOP)]
    params = sum(parameter.numel() for parameter in model.parameters())
    assert model.resources() == {"subnet": supernet.cost_model.of(subnet)}
    assert model.resources()["subnet"]["params"] == params
    assert model.input_shape == SHAPE  # of the supernet's config


def test_best_checkpoint_is_loaded_when_built(build, files, expected):
    model = build(init_cfg=pretrained(files / "best.pth"))
    assert_close(logits(model), expected)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    (files / "best.pth").rename(files / "away.pth")
    try:
        model.init_weights()  # as in train: neither drawn anew nor read a second time
    finally:
        (files / "away.pth").rename(files / "best.pth")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_without_a_file_weights_are_drawn(build):
    model = build(init_cfg=pretrained(""))
    before = model.state_dict()["architecture.head.fc.weight"].clone()
    model.init_weights()
    assert not torch.equal(model.state_dict()["architecture.head.fc.weight"], before)


def test_weights_are_cut_out_of_the_supernet(build, files, expected):
    model = build(init_cfg=pretrained(files / "supernet.pth"), init_weight_from_supernet=True)
    assert_close(logits(model), expected)


def test_the_architecture_alone_does(build, files, expected):
    model = build(cfg=ARCHITECTURE, input_shape=SHAPE, init_cfg=pretrained(files / "best.pth"))
    assert_close(logits(model), expected)


def test_content_of_a_subnet_file(build, files, supernet, subnet, expected):
    document = subnet_document(subnet, supernet.search_space)
    assert_close(logits(build(fix_subnet=document, init_cfg=pretrained(files / "best.pth"))), expected)


@pytest.mark.parametrize(
    ("options", "name"),
    [({}, "{}"), ({"extra_prefix": "algorithm."}, "algorithm.{}"), ({"prefix": "backbone."}, "{short}")],
)
def test_mmrazors_files_and_prefixes(build, subnet, options, name):
    document = {
        name.format(key, short=key.removeprefix("backbone.")): {"chosen": value} for key, value in subnet.items()
    }
    assert build(fix_subnet=document, **options).subnets == [subnet]


@pytest.mark.parametrize("style", ["plain", "architecture.", "architecture.model.", "candidates", "prefix"])
def test_names_of_weights_in_other_tools(build, files, tmp_path, subnet, expected, style):
    state, options = read_checkpoint(files / "best.pth")["state_dict"], {}
    if style == "candidates":  # as MMRazor's exported subnets have them
        for name, value in subnet.items():
            state = {
                key.replace(f"{name}.", f"architecture.{name}._candidates.{value}."): t for key, t in state.items()
            }
    elif style == "prefix":
        state = {"teacher.x": torch.zeros(1), **{f"student.{key}": value for key, value in state.items()}}
        options = {"prefix": "student"}
    elif style != "plain":
        state = {f"{style}{key}": value for key, value in state.items()}
    torch.save({"state_dict": state}, tmp_path / "other.pth")
    assert_close(logits(build(init_cfg=pretrained(tmp_path / "other.pth", **options))), expected)


def test_prefix_of_an_algorithm_may_be_absent(build, files, expected):
    model = build(init_cfg=pretrained(files / "best.pth", prefix="architecture."))
    assert_close(logits(model), expected)


def test_supernet_of_mmrazor_0x(build, files, tmp_path, expected):
    state = read_checkpoint(files / "supernet.pth")["state_dict"]
    state = {
        key.replace("architecture.", "architecture.model.").replace("._candidates.", ".choices."): value
        for key, value in state.items()
    }
    assert any(".choices.conv_3." in key for key in state)
    torch.save({"state_dict": state}, tmp_path / "iter_1.pth")
    model = build(init_cfg=pretrained(tmp_path / "iter_1.pth"), init_weight_from_supernet=True)
    assert_close(logits(model), expected)


def test_training_moves_it_and_its_checkpoint_carries_the_subnet(build, files, tmp_path):
    from mmpretrain.structures import DataSample

    model = build(init_cfg=pretrained(files / "best.pth"))
    before = logits(model)
    wrapper = SubnetOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    model.train()
    samples = [DataSample().set_gt_label(k % CLASSES) for k in range(4)]
    log = model.train_step({"inputs": list(images()), "data_samples": samples}, wrapper)
    assert torch.isfinite(log["loss"])
    after = logits(model)
    assert not torch.allclose(after, before)
    path = tmp_path / "epoch_1.pth"
    save_checkpoint({"state_dict": model.state_dict(), "meta": {"mmrazor_lite": model.checkpoint_meta()}}, path)
    assert_close(logits(load_subnet(path)), after)
    assert_close(logits(build(init_cfg=pretrained(path))), after)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fix_subnet": None}, "fix_subnet is missing: give a subnet file, or a checkpoint"),
        ({"fix_subnet": "nowhere.yaml"}, "nowhere.yaml"),
        ({"fix_subnet": {BLOCKS[0]: {"chosen": "conv_3"}}}, "1 of 2 choices missing"),
        ({"fix_subnet": {block: {"chosen": "conv_4"} for block in BLOCKS}}, "model.fix_subnet.*'conv_4'"),
        ({"mode": "mutator"}, "model.mode='mutator': only 'mutable'"),
        ({"prefix": "a.", "extra_prefix": "b."}, "contradict"),
        ({"cfg": {"type": "sub_model", "cfg": {}}}, "itself the config of a subnet"),
        ({"init_weight_from_supernet": True}, "init_weight_from_supernet=True needs model.init_cfg"),
        ({"init_cfg": [pretrained("a"), pretrained("b")]}, "names 2 checkpoints"),
        ({"init_cfg": pretrained("nowhere.pth")}, "nowhere.pth: no such file"),
    ],
)
def test_refusals(build, options, message):
    with pytest.raises(UserError, match=message):
        build(**options)


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ("supernet", {}, r"supernet\.pth holds a supernet, .* model.init_weight_from_supernet=True"),
        ("best", {"init_weight_from_supernet": True}, r"best\.pth holds one subnet, .*without model.init_weight_from"),
        ("supernet", {"bare": True}, r"bare\.pth holds a supernet \(several .*init_weight_from_supernet=True"),
        (
            "best",
            {"bare": True, "init_weight_from_supernet": True},
            r"bare\.pth holds one subnet, .*init_weight_from_supernet=False",
        ),
        ("best", {"other": True}, r"best\.pth holds another subnet than model.fix_subnet \(.*other\.yaml\): backbone"),
    ],
)
def test_weights_of_something_else(build, files, tmp_path, weights, options, message):
    path, options = files / f"{weights}.pth", dict(options)
    if options.pop("bare", False):
        path = tmp_path / "bare.pth"
        torch.save({"state_dict": read_checkpoint(files / f"{weights}.pth")["state_dict"]}, path)
    if options.pop("other", False):
        options["fix_subnet"] = str(files / "other.yaml")
    with pytest.raises(UserError, match=message):
        build(init_cfg=pretrained(path), **options)


def test_best_checkpoint_has_recalibrated_statistics_and_leaves_the_supernet(supernet, subnet, files, tmp_path):
    batches = [{"inputs": images(8), "data_samples": None}]
    supernet.train()
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    previous = supernet.mutator.active
    path = write_best_checkpoint(
        supernet, subnet, tmp_path / "best.pth", calibrated=lambda: recalibrated(supernet, batches)
    )
    assert supernet.training and supernet.mutator.active == previous
    assert all(torch.equal(value, before[key]) for key, value in supernet.state_dict().items())
    supernet.mutator.activate(subnet)
    with recalibrated(supernet, batches):
        wanted = logits(supernet)
    supernet.eval()
    assert_close(logits(load_subnet(path)), wanted)
    plain = read_checkpoint(files / "best.pth")["meta"]["mmrazor_lite"]
    assert plain["subnet"]["score"] == {"accuracy/top1": 71.5}
    found, without = (read_checkpoint(item)["state_dict"] for item in (path, files / "best.pth"))
    different = [key for key in found if not torch.equal(found[key], without[key])]
    assert different and all("running_" in key or "num_batches" in key for key in different)


def test_who_gives_the_content_of_a_subnet_is_told_of_its_errors(build, tmp_path):
    with pytest.raises(SubnetError, match="model.fix_subnet: "):
        build(fix_subnet={"no_such_layer": {"chosen": "conv_1"}})
    path = tmp_path / "net.yaml"
    path.write_text("no_such_layer: {chosen: conv_1}")
    with pytest.raises(UserError, match=str(path)) as error:
        build(fix_subnet=str(path))
    assert not isinstance(error.value, SubnetError)
