"""The files of a network that was slimmed, and what comes back of them."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from slim_nets import NETWORKS, Residual, TwoHeads
from torch import nn
from torch.utils._pytree import tree_leaves

import mmrazor_lite
from mmrazor_lite.errors import UserError
from mmrazor_lite.export.own_network import Around, held_by
from mmrazor_lite.fileio import FileSet
from mmrazor_lite.models.mutators import OneShotChannelMutator
from mmrazor_lite.slimming.group_rows import group_rows
from mmrazor_lite.slimming.report import Quality, Report, Stage
from mmrazor_lite.slimming.slimmed import Slimmed
from mmrazor_lite.subnet import Subnet, read_subnet

SHAPE = (3, 16, 16)


def slimmed(network: nn.Module, shape=SHAPE, **options) -> Slimmed:
    """A network with its units in a drawn order and about half of each group; ``Around(network)`` gives the same."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    for name, tensor in network.named_buffers():
        if "running" in name:  # small means: a unit that is never above them would hide what it is
            tensor.data = (0.1 * torch.randn(tensor.shape) if "mean" in name else torch.rand(tensor.shape) + 0.1).to(
                tensor
            )
    mutator = OneShotChannelMutator(**options)
    mutator.prepare(network.eval(), shape, any_width=True)
    mutator.sort_channels({name: rng.random(units) for name, units in mutator.unit_counts.items()})
    widths = {name: choice.candidates[len(choice.candidates) // 2] for name, choice in mutator.search_space.items()}
    subnet, costs = Subnet(widths), mutator.cost_model
    stages = [Stage("original", Quality(None, 100.0, 0.0, 8)), Stage("cut", Quality(None, 50.0, float("inf"), 8))]
    report = Report(
        type(network).__name__,
        shape,
        "macs 50%",
        stages,
        group_rows(mutator, subnet, {}),
        {"original": costs.max(), "slimmed": costs.of(subnet)},
    )
    return Slimmed(held_by(mutator.export(subnet).eval()), subnet, report, mutator)


def outputs(network: nn.Module, shape=SHAPE) -> list[torch.Tensor]:
    like = next(network.parameters())
    images = torch.randn((3, *shape), generator=torch.Generator().manual_seed(1)).to(like.dtype)
    with torch.no_grad():
        return tree_leaves(network(images))


@pytest.fixture(scope="module")
def residual(tmp_path_factory) -> tuple[Slimmed, list[Path]]:
    """A network and its files, which tests only read."""
    found = slimmed(Residual())
    return found, found.save(tmp_path_factory.mktemp("residual") / "small.pth")  # an ending is no part of the name


@pytest.fixture
def told(monkeypatch) -> list[str]:
    """What is worth a line of the log."""
    lines: list[str] = []
    monkeypatch.setattr("mmrazor_lite.slimming.slimmed.note", lambda text, level: lines.append(text))
    return lines


@pytest.mark.parametrize(
    "name",
    ["Residual", "Split by itself", *(pytest.param(n, marks=pytest.mark.wide) for n in NETWORKS if n != "Residual")],
)
def test_a_file_of_own_code_comes_back_bit_for_bit(name, tmp_path):
    """Prepared by itself or inside of what holds it: then numbers and buffers of the outermost module follow, too."""
    name, alone, _ = name.partition(" ")
    found = slimmed(NETWORKS[name]() if alone else Around(NETWORKS[name]()))
    before = {key: value.clone() for key, value in found.model.state_dict().items()}
    files = found.save(tmp_path / "new" / "small")
    assert [file.name for file in files] == [
        "small.pth", "small.pt2", "small.yaml", "small_report.json", "small_report.html",
    ]  # fmt: skip
    assert sorted(files) == sorted(files[0].parent.iterdir()), "and nothing else"
    torch.manual_seed(7)
    loaded = mmrazor_lite.load_subnet(files[0], model=NETWORKS[name]())
    assert type(loaded) is NETWORKS[name] and not any(module.training for module in loaded.modules())
    assert not [module for module in loaded.modules() if type(module).__module__.startswith("mmrazor_lite")]
    programme = torch.export.load(files[1]).module()
    for own, back, other in zip(outputs(found.model), outputs(loaded), outputs(programme), strict=True):
        assert not torch.allclose(own[0], own[1], rtol=1e-3, atol=1e-4), "what it gives depends on the image"
        assert torch.equal(own, back)
        torch.testing.assert_close(other, own, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[key], value) for key, value in found.model.state_dict().items())
    assert any(group.kept < group.full for group in found.report.groups)


def test_the_subnets_file_is_of_the_project_s_one_format(residual):
    found, files = residual
    document = yaml.safe_load(files[2].read_text())
    assert document["format"] == "mmrazor_lite.subnet/1" and document["choices"] == dict(found.subnet)
    assert document["resources"] == found.report.costs["slimmed"]
    assert document["score"] == {"agreement": 50.0}, "what is not finite is no score"
    assert document["made_by"]["weights"] == mmrazor_lite.export.checkpoint_hash(files[0])
    bare, around = OneShotChannelMutator(), OneShotChannelMutator()
    bare.prepare(Residual(), SHAPE, any_width=True)
    around.prepare(classifier(Residual()), SHAPE, any_width=True)
    assert read_subnet(files[2], bare.search_space).subnet == found.subnet
    wrapped = read_subnet(files[2], around.search_space).subnet  # a config's classifier holds it as 'net'
    assert {f"net.{name}": width for name, width in found.subnet.items()} == dict(wrapped)
    assert json.loads(files[3].read_text()) == found.report.as_dict()


def classifier(net: nn.Module) -> nn.Module:
    from mmrazor_lite.models.classifiers import as_classifier

    return as_classifier(net)


def test_equal_networks_give_equal_files(residual, tmp_path):
    found, first = residual
    twin = dataclasses.replace(found, model=copy.deepcopy(found.model))
    for one, other in zip(first, twin.save(tmp_path / "small"), strict=True):
        if one.suffix != ".pt2":  # torch writes the time into it
            assert one.read_bytes() == other.read_bytes(), one.name


class NoShortcut(Residual):
    def forward(self, x):
        return self.fc(self.back(self.deep(self.branch(self.stem(x)))).mean((2, 3)))


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (
            TwoHeads,
            "only in the file: stem.0.weight, stem.1.weight, stem.1.bias and .* more; only in the network: body",
        ),
        (lambda: Residual(20), "another space.*same names, but other full widths"),
        (NoShortcut, "another space.*only in the model: 'back'"),
        (lambda: nn.Conv2d(3, 5, 1), "another network than Conv2d: only in the file: stem"),
    ],
)
def test_another_network_is_refused_by_what_differs_first(build, says, residual):
    with pytest.raises(UserError, match=says) as error:
        mmrazor_lite.load_subnet(residual[1][0], model=build())
    assert "\n" not in str(error.value)


def test_the_same_names_that_compute_something_else_are_refused(residual):
    class Without(Residual):
        def forward(self, x):
            x = self.stem(x)
            return self.fc((x + self.back(self.deep(self.branch(x).neg()))).mean((2, 3)))

    file = residual[1][0]
    with pytest.raises(UserError, match="is of another network, with weights of the same names and shapes: .*neg"):
        mmrazor_lite.load_subnet(file, model=Without())


def test_what_is_not_of_full_size_is_told_without_options_of_configs(residual):
    """The advice is for one who has a module, and no config."""
    found, files = residual
    more = Residual()
    more.fc = nn.Linear(more.fc.in_features, more.fc.out_features + 3)
    for other in (copy.deepcopy(found.model), more):
        with pytest.raises(UserError) as error:
            mmrazor_lite.load_subnet(files[0], model=other)
        said = str(error.value)
        assert "init_cfg" not in said and "tools/train.py" not in said and "use the config" not in said
        assert "fresh module" in said and "full size" in said


def test_a_network_must_be_given_where_only_code_builds_it(residual):
    file = residual[1][0]
    with pytest.raises(UserError, match="give a fresh one"):
        mmrazor_lite.load_subnet(file)
    with pytest.raises(UserError, match="two names of one argument"):
        mmrazor_lite.load_subnet(file, Residual(), model=Residual())
    with pytest.raises(UserError, match="give a module of torch"):
        mmrazor_lite.load_subnet(file, model=Residual)


def test_what_was_excluded_is_found_again(tmp_path):
    found = slimmed(Residual(), exclude=["stem.*"])
    assert "stem.0" not in found.subnet
    loaded = mmrazor_lite.load_subnet(found.save(tmp_path / "small")[0], model=Residual())
    assert torch.equal(outputs(loaded)[0], outputs(found.model)[0])


def test_the_precision_of_the_weights_comes_back(tmp_path):
    found = slimmed(Residual().double())
    loaded = mmrazor_lite.load_subnet(found.save(tmp_path / "small")[0], model=Residual())
    assert torch.equal(outputs(loaded)[0], outputs(found.model)[0]) and outputs(loaded)[0].dtype == torch.float64


class Counting(Residual):
    """Its code fixes the number of images, so there is no program for any number of them."""

    def forward(self, x):
        return super().forward(x) if x.shape[0] < 5 else super().forward(x[:5])


def test_what_cannot_be_written_is_said_and_the_rest_is_there(tmp_path, told):
    (tmp_path / "small.pt2").write_text("of an earlier network")
    files = slimmed(Counting()).save(tmp_path / "small")
    assert [file.name for file in files] == ["small.pth", "small.yaml", "small_report.json", "small_report.html"]
    assert not (tmp_path / "small.pt2").exists(), "none that is of another network"
    assert "no small.pt2: Counting cannot be exported with a free batch size" in told[0] and len(told) == 1


def test_without_matplotlib_the_page_has_tables_alone(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("mmrazor_lite.visualization.page_file.note", lambda text, level: told.append(text))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = slimmed(Residual()).save(tmp_path / "small")[-1]
    assert told == [f"small_report.html has no pictures: {told[0].partition('pictures: ')[2]}"]
    assert "pip install matplotlib" in told[0]
    text = page.read_text()
    assert "<svg" not in text and "No picture: plots need matplotlib" in text and "<td>stem" in text


def test_a_page_that_cannot_be_written_costs_nothing_else(residual, tmp_path, monkeypatch):
    """As on a disk that is full by then; nor does one of an earlier network stay beside the new one."""
    told = []
    monkeypatch.setattr("mmrazor_lite.visualization.page_file.note", lambda text, level: told.append(text))
    (tmp_path / "small_report.html").write_text("of an earlier network")
    write = FileSet.new

    def full(self, path):
        if Path(path).suffix == ".html":
            raise UserError(f"{path} cannot be written (No space left on device)")
        return write(self, path)

    monkeypatch.setattr(FileSet, "new", full)
    files = residual[0].save(tmp_path / "small")
    assert sorted(files) == sorted(tmp_path.iterdir()) and len(files) == 4
    assert "no small_report.html:" in told[0] and "No space left" in told[0] and len(told) == 1


def test_all_files_or_none(residual, tmp_path):
    """What is there stays where a file cannot be written."""
    found, files = residual
    kept = {tmp_path / file.name: file.read_bytes() for file in files}
    for path, data in kept.items():
        path.write_bytes(data)
    costs, report = found.report.costs, found.report
    broken = dataclasses.replace(found, report=Report("other", SHAPE, "x", [], report.groups, costs, notes=[object()]))
    with pytest.raises(TypeError):
        broken.save(tmp_path / "small")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == kept
    (tmp_path / "b_report.json").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        found.save(tmp_path / "b")
    with pytest.raises(UserError, match=r"is a folder: give a name for the files, such as .*/b_report.json/small'"):
        found.save(tmp_path / "b_report.json")
    for nameless in (tmp_path / ".pth", f"{tmp_path}/new/"):
        with pytest.raises(UserError, match="give a name for the files, such as .*/small'"):
            found.save(nameless)
    for path in (5, None, ""):
        with pytest.raises(UserError, match="path=.*: give a path"):
            found.save(path)
    with pytest.raises(UserError, match="path=5: give a path"):
        mmrazor_lite.load_subnet(5)
    assert {file for file in tmp_path.iterdir() if file.is_file()} == set(kept)


@pytest.mark.wide
def test_own_code_needs_no_mmengine(residual):
    file = residual[1][0]
    code = f"""
import sys
sys.path.insert(0, {str(Path(sys.modules["slim_nets"].__file__).parent)!r})
for name in ("mmengine", "mmcv", "mmpretrain"):
    sys.modules[name] = None
import mmrazor_lite
from slim_nets import Residual
print(type(mmrazor_lite.load_subnet({str(file)!r}, model=Residual())).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "Residual", done.stderr


@pytest.mark.slow
def test_where_a_config_builds_the_network_its_name_is_enough(registered, tmp_path):
    """And the files are those of any other subnet: they are tested, and trained on, with a config of the network."""
    from mmrazor_lite.models.algorithms import SubModel

    config = {"type": "timm.resnet10t", "num_classes": 4, "stem_width": 8}
    shape, net = (3, 32, 32), timm.create_model("resnet10t", num_classes=4, stem_width=8)
    found = dataclasses.replace(slimmed(net, shape), architecture={**config, "pretrained": False})
    weights, _, widths, *_ = found.save(tmp_path / "small")
    expected, loaded = outputs(found.model, shape)[0], mmrazor_lite.load_subnet(weights)
    assert type(loaded) is type(net) and torch.equal(outputs(loaded, shape)[0], expected)
    init = {"type": "Pretrained", "checkpoint": str(weights)}
    mutator = {"type": "OneShotChannelMutator"}
    trained = SubModel(config, str(widths), mutator=mutator, input_shape=shape, init_cfg=init).eval()
    assert torch.equal(outputs(trained.architecture.net, shape)[0], expected)
