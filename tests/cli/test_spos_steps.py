"""Supernet, search, retraining and test of SPOS as MMRazor's users type them, shrunken."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import yaml

from mmrazor_lite.cli import main
from mmrazor_lite.export import read_checkpoint

SPOS = "configs/nas/spos"
SEARCH = {"max_epochs": 2, "num_candidates": 3, "top_k": 2, "num_mutation": 1, "num_crossover": 1}
TINY = [
    "model.architecture.backbone.arch_setting=[[16,2]]",
    "model.architecture.backbone.last_channels=8",
    "model.architecture.head.in_channels=8",
]
SEARCHED = [
    "search_cfg.constraints_range.flops=(0,1)",
    "search_cfg.calibrate_sample_num=64",
    *(f"search_cfg.searcher.{key}={value}" for key, value in SEARCH.items()),
    *TINY,
]
SHORT = ["train_cfg.max_epochs=1", "param_scheduler.end=1", "train_dataloader.batch_size=256"]


def run(capsys, *argv: object) -> str:
    """Run one command and return what it says."""
    code = main([str(word) for word in argv])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def fails(capsys, *argv: object) -> str:
    """Run one command that must fail, and return its one line."""
    assert main([str(word) for word in argv]) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def steps(root, tmp_path_factory):
    """Folder of a run of the first three steps: W1 the supernet, W2 the search, W3 the retraining.

    ``subnet.py`` there is the config of the retraining with a subnet of its own, ``other.yaml``.
    """
    folder = tmp_path_factory.mktemp("steps")
    config = root / SPOS / "spos_supernet_digits.py"
    assert main(["train", str(config), "--work-dir", str(folder / "W1"), "--cfg-options", *SHORT, *TINY]) == 0

    config = root / SPOS / "spos_evolution_search_digits.py"
    options = [f"load_from={folder / 'W1' / 'epoch_1.pth'}", *SEARCHED]
    assert main(["train", str(config), "--work-dir", str(folder / "W2"), "--cfg-options", *options]) == 0

    found = yaml.safe_load((folder / "W2" / "best_subnet.yaml").read_text())["choices"]
    name, value = next(iter(found.items()))
    another = {**found, name: "shuffle_7x7" if value != "shuffle_7x7" else "shuffle_3x3"}
    (folder / "other.yaml").write_text(yaml.safe_dump({key: {"chosen": item} for key, item in another.items()}))
    (folder / "subnet.py").write_text(
        f"_base_ = {str(root / SPOS / 'spos_subnet_digits.py')!r}\n"
        "model = dict(\n"
        f"    fix_subnet={str(folder / 'other.yaml')!r},\n"
        "    cfg=dict(backbone=dict(arch_setting=[[16, 2]], last_channels=8), head=dict(in_channels=8)),\n"
        ")\n"
    )
    words = ["train", str(folder / "subnet.py"), "--work-dir", str(folder / "W3"), "--cfg-options", *SHORT]
    assert main([*words, f"model.init_cfg.checkpoint={folder / 'W2' / 'best_subnet.pth'}"]) == 0
    return folder


def test_the_four_commands(capsys, steps, tmp_path):
    best = yaml.safe_load((steps / "W2" / "best_subnet.yaml").read_text())
    for file in (steps / "W2" / "best_subnet.pth", steps / "W3" / "epoch_1.pth"):
        carried = read_checkpoint(file)["meta"]["mmrazor_lite"]["subnet"]
        assert carried["choices"] == best["choices"]
    retrained = steps / "W3" / "epoch_1.pth"
    out = [tmp_path / "named.json", tmp_path / "positional.json"]
    words = ["test", steps / "subnet.py"]
    flags = ["--work-dir", tmp_path, "--out"]
    said = run(capsys, *words, "none", *flags, out[0], "--cfg-options", f"model.init_cfg.checkpoint={retrained}")
    assert f"subnet: the one that {retrained} carries, not {steps / 'other.yaml'} of the config" in said
    assert f"loaded {retrained} (sha256" in said
    said = run(capsys, *words, retrained, *flags, out[1])
    assert f"subnet: the one that {retrained} carries, not {steps / 'other.yaml'} of the config" in said
    named, positional = (json.loads(path.read_text()) for path in out)
    assert named == positional and 0 <= named["accuracy/top1"] <= 100


def test_positional_weights_replace_those_of_the_config(capsys, steps, tmp_path):
    files = [steps / "W2" / "best_subnet.pth", steps / "W3" / "epoch_1.pth"]
    words = ["test", steps / "subnet.py"]
    said = run(
        capsys, *words, files[1], "--work-dir", tmp_path, "--cfg-options", f"model.init_cfg.checkpoint={files[0]}"
    )
    assert f"loaded {files[1]} (" in said and f"loaded {files[0]} (" not in said
    assert f"model.init_cfg.checkpoint={files[0]} is not read: {files[1]} replaces its weights" in said


def test_search_command_finds_the_same(capsys, steps, root, tmp_path):
    words = ["search", root / SPOS / "spos_evolution_search_digits.py", steps / "W1" / "epoch_1.pth"]
    run(capsys, *words, "--work-dir", tmp_path, "--cfg-options", *SEARCHED)
    for name in ("best_subnet.yaml", "best_subnet.pth"):
        assert (tmp_path / name).read_bytes() == (steps / "W2" / name).read_bytes()


def test_resumed_retraining_keeps_its_subnet(capsys, steps, tmp_path):
    shutil.copytree(steps / "W3", tmp_path / "W3")
    longer = ["train_cfg.max_epochs=2", "param_scheduler.end=2", SHORT[2]]
    start = f"model.init_cfg.checkpoint={steps / 'W2' / 'best_subnet.pth'}"  # as typed the first time
    words = ["train", steps / "subnet.py", "--work-dir", tmp_path / "W3", "--resume", "--cfg-options", *longer, start]
    said = run(capsys, *words)
    assert f"subnet: the one that {tmp_path / 'W3' / 'epoch_1.pth'} carries" in said and "resumed epoch: 1" in said
    assert (tmp_path / "W3" / "epoch_2.pth").is_file()


def test_a_subnet_of_the_command_line_counts(capsys, steps, tmp_path):
    option = f"model.fix_subnet={steps / 'other.yaml'}"
    words = ["test", steps / "subnet.py", steps / "W3" / "epoch_1.pth", "--work-dir", tmp_path, "--cfg-options", option]
    error = fails(capsys, *words)
    assert re.search(r"epoch_1\.pth holds another subnet than model\.fix_subnet \(\S*other\.yaml\): ", error)
    # The weights of a supernet carry no subnet: the config's and the command line's count.
    supernet = [f"model.init_cfg.checkpoint={steps / 'W1' / 'epoch_1.pth'}", "model.init_weight_from_supernet=True"]
    words = ["test", steps / "subnet.py", "none", "--work-dir", tmp_path, "--cfg-options", *supernet]
    assert f"subnet: {steps / 'other.yaml'} (model.fix_subnet of the config)" in run(capsys, *words)
    said = run(capsys, *words, f"model.fix_subnet={steps / 'W2' / 'best_subnet.yaml'}")
    assert f"subnet: {steps / 'W2' / 'best_subnet.yaml'} (--cfg-options model.fix_subnet)" in said


def test_a_supernet_is_no_subnet(capsys, steps, tmp_path):
    supernet = steps / "W1" / "epoch_1.pth"
    error = fails(capsys, "test", steps / "subnet.py", supernet, "--work-dir", tmp_path)
    assert "holds a supernet" in error and "model.init_weight_from_supernet=True" in error


def test_no_subnet_anywhere(capsys, steps, tmp_path):
    """Of the config's own, a file that the search of the same place would have written."""
    config, supernet = tmp_path / "subnet.py", steps / "W1" / "epoch_1.pth"
    config.write_text(
        f"_base_ = {str(steps / 'subnet.py')!r}\nmodel = dict(fix_subnet={str(tmp_path / 'no.yaml')!r})\n"
    )
    missing = f"the file of model.fix_subnet, '{tmp_path / 'no.yaml'}', is not there: give --cfg-options "
    words = [config, "--work-dir", tmp_path]
    error = fails(capsys, "test", config, supernet, *words[1:])
    assert f"{supernet} carries no subnet (it is a supernet), and {missing}model.fix_subnet=FILE" in error
    assert f"error: {missing}model.fix_subnet=FILE" in fails(capsys, "train", *words)
    config.write_text(f"_base_ = {str(steps / 'subnet.py')!r}\nmodel = dict(fix_subnet=None)\n")
    assert "error: model.fix_subnet names no file: give" in fails(capsys, "train", *words)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], r"is a search config: give the trained supernet with --cfg-options load_from=CKPT"),
        (["--amp"], "--amp: .* is a search config"),
        (["--resume", "x.pth"], "--resume FILE: a search goes on from"),
    ],
)
def test_training_a_search_config_asks_for_the_supernet(capsys, root, tmp_path, flags, message):
    config = root / SPOS / "spos_evolution_search_digits.py"
    assert re.search(message, fails(capsys, "train", config, "--work-dir", tmp_path, *flags))


def test_flops_of_a_subnet(capsys, steps, root):
    best = steps / "W2" / "best_subnet.yaml"
    costs = yaml.safe_load(best.read_text())["resources"]
    config = root / SPOS / "spos_supernet_digits.py"
    for words in (["flops", config, "--cfg-options", *TINY], ["flops", steps / "subnet.py"]):
        said = json.loads(run(capsys, *words, "--subnet", best, "--json"))
        assert {key: said[key] for key in costs} == costs
