"""One subnet of a supernet as a file, and the weights of a run alone: under MMRazor's commands too."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from mmrazor_lite import load_subnet
from mmrazor_lite.checkpoints import checkpoint_hash, read_checkpoint, save_checkpoint
from mmrazor_lite.cli import main
from mmrazor_lite.config import build_model, load_config
from mmrazor_lite.subnet import write_subnet

OTHER = """_candidates = dict(k1=dict(type="MBBlock", kernel_size=1, expand_ratio=1), identity=dict(type="Identity"))
model = dict(architecture=dict(backbone=dict(arch_setting=[[8, 5, 1, dict(type="OneShotMutableOP",
    candidates=_candidates)]])))
"""
CONFIG = Path(__file__).resolve().parents[1] / "robustness" / "spos" / "search.py"


class Trained(NamedTuple):
    """A supernet with weights, a checkpoint of its run, and the file of one of its subnets, which is active."""

    algorithm: nn.Module
    checkpoint: Path
    subnet: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("run")
    algorithm = build_model(load_config(str(CONFIG), [])).eval()
    found = algorithm.search_space.min()
    content = {"meta": {"epoch": 4, "iter": 9, "settings": {}, "mmrazor_lite": algorithm.checkpoint_meta()},
               "state_dict": algorithm.state_dict(), "optimizer": {"state": {}, "param_groups": []}}  # fmt: skip
    save_checkpoint(content, folder / "epoch_4.pth")
    write_subnet(folder / "small.yaml", found, algorithm.search_space)
    algorithm.mutator.activate(found)
    return Trained(algorithm, folder / "epoch_4.pth", folder / "small.yaml")


def test_a_subnet_is_extracted_of_what_mmrazor_wrote(trained, tmp_path):
    """``architecture.``, candidates, and no word of ours: as MMRazor 1.x keeps a supernet of operators."""
    algorithm, _, path = trained
    theirs = tmp_path / "iter_9.pth"
    torch.save({"meta": {"iter": 9}, "state_dict": algorithm.state_dict(), "optimizer": {}}, theirs)
    assert main(["extract", str(CONFIG), str(theirs), str(path)]) == 0
    net = load_subnet(tmp_path / "small.pth")
    images = torch.randn(2, *algorithm.input_shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(net(images), algorithm(images, mode="tensor"), atol=1e-5)


def test_what_is_extracted_of_something_else_is_one_line(trained, tmp_path, capsys):
    _, checkpoint, path = trained
    other = tmp_path / "other.py"
    other.write_text(f"_base_ = {str(CONFIG)!r}\n{OTHER}")
    for words, said in (
        (
            ["configs/pruning/autoslim/autoslim_mbv2_subnet_8xb256_in1k.py", checkpoint, path],
            "split_checkpoint",
        ),
        ([other, checkpoint, path], "small.yaml"),
        ([CONFIG, checkpoint, path, "-o", path], "small.yaml"),
    ):
        assert main(["extract", *map(str, words)]) == 2
        errors = capsys.readouterr().err.strip().splitlines()
        assert len(errors) == 1 and said in errors[0]
    assert not (tmp_path / "small.pth").exists()


@pytest.mark.parametrize("old", [False, True], ids=["1.x", "0.x"])
def test_weights_are_published_with_their_check_sum(trained, tmp_path, old):
    path = trained.subnet
    words = [str(tmp_path / "net.pth"), "--mutable-cfg", str(path)] if old else ["--model-name", "net", "--out-dir",
                                                                                   str(tmp_path)]  # fmt: skip
    assert main(["publish", str(trained.checkpoint), *words]) == 0
    (file,) = tmp_path.glob("net*.pth")
    assert file.stem == f"net-{checkpoint_hash(file)[:8]}"
    content, source = read_checkpoint(file), read_checkpoint(trained.checkpoint)
    assert set(content) == {"meta", "state_dict"} and content["meta"]["mmrazor_lite"] == source["meta"]["mmrazor_lite"]
    assert all(torch.equal(content["state_dict"][key], value) for key, value in source["state_dict"].items())
    assert [item.name for item in tmp_path.glob("net*.yaml")] == [f"{file.stem}_mutable_cfg.yaml"] * old
    assert main(["publish", str(trained.checkpoint), *words]) == 0  # equal bytes under the same name


def test_where_it_goes_is_said_once(trained, tmp_path, capsys):
    for words in (
        [],
        [str(tmp_path / "a.pth"), "--out-dir", str(tmp_path)],
        [str(tmp_path / "a.pth"), "--timestamp", "1"],
    ):
        assert main(["publish", str(trained.checkpoint), *words]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_averages_of_the_student_are_what_is_published(trained, tmp_path):
    content = read_checkpoint(trained.checkpoint)
    before = {f"module.{key}": value + 1 for key, value in content["state_dict"].items()}
    state = {**content["state_dict"], "teacher.fc.weight": torch.ones(2, 2), "distiller.loss.weight": torch.ones(1)}
    whole = {**content, "state_dict": state, "ema_state_dict": {"steps": torch.tensor(3), **before}}
    save_checkpoint(whole, tmp_path / "a.pth")
    assert main(["publish", str(tmp_path / "a.pth"), str(tmp_path / "out" / "b.pth")]) == 0
    (file,) = (tmp_path / "out").iterdir()
    assert read_checkpoint(file)["state_dict"].keys() == content["state_dict"].keys()
