"""Once-for-All from the teacher to the test of a found subnet, as its users type it, shrunken."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from mmrazor_lite.cli import main
from mmrazor_lite.export import read_checkpoint, save_checkpoint

OFA = "configs/nas/mmcls/onceforall"
TINY = [
    "model.architecture.backbone.arch_setting=[[16,2,2,'HSwish',True]]",
    "model.architecture.backbone.depths=[1,2]",
    "model.architecture.backbone.expand_ratios=[2,4]",
    "model.architecture.backbone.tail_channels=[24,32]",
    "model.architecture.head.in_channels=32",
]
SHORT = [
    "train_cfg.max_epochs=1",
    "train_cfg.val_interval=1",
    "param_scheduler.end=1",
    "train_dataloader.batch_size=256",
]
CALIBRATED = ["val_cfg.calibrate_sample_num=64", "default_hooks.checkpoint.interval=1"]
SEARCHED = [
    "search_cfg.constraints_range.macs=(0,1)",
    "search_cfg.calibrate_sample_num=64",
    "search_cfg.searcher.max_epochs=2",
    *(f"search_cfg.searcher.{key}=2" for key in ("top_k", "num_mutation", "num_crossover")),
    "search_cfg.searcher.num_candidates=4",
]
ORDER = ["teacher", "kernel", "depth_1", "expand_1"]  # of the tiny space, which has two depths and two ratios


def run(capsys, *argv: object) -> str:
    """Run one command and return what it says."""
    code = main([str(word) for word in argv])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def fails(capsys, *argv: object) -> str:
    """Run one command that must fail, and return its one line."""
    assert main([str(word) for word in argv]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    return error


def words(root, folder, phase: str, start: str | None, teacher: bool = True) -> list:
    """The command of a phase."""
    options = [*SHORT, *CALIBRATED, *TINY]
    if start is not None:
        options.append(f"load_from={folder / start / 'epoch_1.pth'}")
    if teacher and phase != "teacher":
        options.append(f"model.teacher={folder / 'teacher' / 'epoch_1.pth'}")
    config = root / OFA / f"ofa_{phase}_digits.py"
    return ["train", config, "--work-dir", folder / phase, "--cfg-options", *options]


@pytest.fixture(scope="module")
def chain(root, tmp_path_factory):
    """Folder of a run of all phases, each in a folder of its name, then of the search in ``search``.

    ``subnet.py`` there is the config of the subnet that was found.
    """
    folder = tmp_path_factory.mktemp("ofa")
    before = None
    for phase in ORDER:
        assert main([str(word) for word in words(root, folder, phase, before)]) == 0
        before = phase
    search = root / OFA / "ofa_search_digits.py"
    argv = ["search", search, folder / ORDER[-1] / "epoch_1.pth", "--work-dir", folder / "search"]
    assert main([str(word) for word in [*argv, "--cfg-options", *SEARCHED, *TINY]]) == 0
    backbone = "dict(arch_setting=[[16, 2, 2, 'HSwish', True]], depths=[1, 2], expand_ratios=[2, 4], "
    (folder / "subnet.py").write_text(
        f"_base_ = {str(root / OFA / 'ofa_subnet_digits.py')!r}\n"
        "model = dict(\n"
        f"    fix_subnet={str(folder / 'search' / 'best_subnet.yaml')!r},\n"
        f"    cfg=dict(architecture=dict(backbone={backbone}tail_channels=[24, 32]), head=dict(in_channels=32))),\n"
        ")\n"
    )
    return folder


def test_every_phase_says_what_it_is_and_trains_what_it_adds(chain):
    states = {}
    for phase in ORDER:
        checkpoint = read_checkpoint(chain / phase / "epoch_1.pth")
        assert checkpoint["meta"]["mmrazor_lite"]["phase"] == phase
        states[phase] = checkpoint["state_dict"]
        assert set(states[phase]) == set(states["teacher"])  # without the frozen network
    name = "architecture.backbone.layers.1.0.depth_conv.conv.transform_5to3"
    assert torch.equal(states["teacher"][name], torch.eye(9))
    assert not torch.equal(states["kernel"][name], torch.eye(9))
    sizes = [(name, tuple(tensor.shape)) for name, tensor in states["teacher"].items()]
    assert all(sizes == [(name, tuple(t.shape)) for name, t in state.items()] for state in states.values())


@pytest.mark.parametrize(
    ("phase", "start", "message"),
    [
        ("expand_1", "kernel", r"was trained up to phase 'kernel', algorithm.phase='expand_1' starts from"),
        ("kernel", "expand_1", r"was trained up to phase 'expand_1', algorithm.phase='kernel' starts from"),
        ("kernel", None, r"algorithm.phase='kernel' starts from a checkpoint of phase 'teacher': set load_from=FILE"),
        ("depth_2", "depth_1", r"algorithm.phase='depth_2' is unknown"),
    ],
)
def test_phases_out_of_order_are_refused(capsys, root, chain, tmp_path, phase, start, message):
    argv = words(root, chain, phase, start)
    argv[3] = tmp_path / "wrong"
    assert message in fails(capsys, *argv)
    assert not list((tmp_path / "wrong").glob("*.pth"))


@pytest.mark.parametrize(("phase", "before"), [("kernel", "teacher"), ("expand_1", "depth_1")])
def test_a_phase_does_not_resume_the_one_before(capsys, root, chain, tmp_path, phase, before):
    argv = words(root, chain, phase, None)
    argv[3] = tmp_path
    line = fails(capsys, *argv[:4], "--resume", chain / before / "epoch_1.pth", *argv[4:])
    assert f"epoch_1.pth is of phase '{before}', it cannot be resumed by algorithm.phase='{phase}'" in line
    assert "load_from=FILE" in line and not list(tmp_path.glob("*.pth"))


def test_a_start_that_says_no_phase_is_told(capsys, root, chain, tmp_path):
    content = read_checkpoint(chain / "teacher" / "epoch_1.pth")
    content["meta"]["mmrazor_lite"].pop("phase")
    save_checkpoint(content, tmp_path / "none.pth")
    argv = words(root, chain, "kernel", None)
    argv[3] = tmp_path / "w"
    said = run(capsys, *argv, f"load_from={tmp_path / 'none.pth'}", "train_dataloader.batch_size=1024")
    assert "none.pth does not say up to which phase it was trained" in said


def test_a_finished_phase_says_that_nothing_is_left(capsys, root, chain):
    argv = words(root, chain, "kernel", None)
    assert "nothing is left to train: the run of" in run(capsys, *argv[:4], "--resume", *argv[4:])


def test_a_phase_without_its_teacher_is_refused(capsys, root, chain, tmp_path):
    argv = words(root, chain, "kernel", "teacher", teacher=False)
    argv[3] = tmp_path
    assert "set algorithm.teacher to a checkpoint of phase 'teacher'" in fails(capsys, *argv)
    assert "nowhere.pth" in fails(capsys, *argv, "model.teacher=nowhere.pth")
    assert "teacher is not read" in fails(capsys, *argv, "model.teacher=nowhere.pth", "model.kd_ratio=0")


@pytest.mark.wide
def test_channels_are_sorted_in_the_expand_phase_and_not_on_a_resume(capsys, root, chain, tmp_path):
    argv = words(root, chain, "expand_1", "depth_1")
    argv[3] = tmp_path
    assert run(capsys, *argv).count("sorted the channels") == 1
    longer = [word.replace("max_epochs=1", "max_epochs=2").replace("end=1", "end=2") for word in map(str, argv)]
    said = run(capsys, *longer[:4], "--resume", *longer[4:])
    assert "resumed epoch: 1" in said and "sorted the channels" not in said
    kept = (chain / "expand_1" / "epoch_1.pth", tmp_path / "epoch_1.pth")
    states = [read_checkpoint(path)["state_dict"] for path in kept]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())  # same seed, same weights
    assert (tmp_path / "epoch_2.pth").is_file()


def test_the_found_subnet_is_tested_alike_by_both_commands(capsys, chain, tmp_path):
    found = yaml.safe_load((chain / "search" / "best_subnet.yaml").read_text())
    file, config = chain / "search" / "best_subnet.pth", chain / "subnet.py"
    carried = read_checkpoint(file)["meta"]["mmrazor_lite"]["subnet"]
    assert carried["choices"] == found["choices"]
    outs = [tmp_path / "named.json", tmp_path / "positional.json"]
    flags = ["--work-dir", tmp_path, "--out"]
    options = ["--cfg-options", f"model.init_cfg.checkpoint={file}"]
    said = run(capsys, "test", config, "none", *flags, outs[0], *options)
    assert f"loaded {file} (sha256" in said
    assert f"loaded {file} (sha256" in run(capsys, "test", config, file, *flags, outs[1])
    named, positional = (json.loads(path.read_text()) for path in outs)
    assert named == positional and 0 <= named["accuracy/top1"] <= 100


def test_a_split_subnet_scores_what_the_search_found(capsys, root, chain, tmp_path):
    """Statistics of its own, at its resolution: the checkpoint alone gives the score on the held-out images."""
    found = yaml.safe_load((chain / "search" / "best_subnet.yaml").read_text())
    out = tmp_path / "score.json"
    config = tmp_path / "held_out.py"
    config.write_text(
        f"_base_ = {str(chain / 'subnet.py')!r}\n"
        "test_dataloader = dict(dataset=dict(_delete_=True, type='HeldOut', part='held_out', fraction=0.2, "
        "dataset=dict(type='Digits', split='train', pipeline=[dict(type='PackInputs')])))\n"
    )
    run(capsys, "test", config, chain / "search" / "best_subnet.pth", "--work-dir", tmp_path, "--out", out)
    assert json.loads(out.read_text())["accuracy/top1"] == pytest.approx(found["score"]["accuracy/top1"], abs=1e-4)


def test_the_supernet_config_tests_any_phase(capsys, root, chain, tmp_path):
    out = tmp_path / "metrics.json"
    argv = ["test", root / OFA / "ofa_supernet_digits.py", chain / "depth_1" / "epoch_1.pth", "--work-dir", tmp_path]
    said = run(capsys, *argv, "--out", out, "--cfg-options", *TINY, "test_cfg.calibrate_sample_num=64")
    assert "depth_1/epoch_1.pth was trained up to phase 'depth_1' of teacher, kernel, depth_1, expand_1" in said
    metrics = json.loads(out.read_text())
    assert {name.split(".")[0].split("/")[0] for name in metrics} >= {"max_subnet", "min_subnet", "random0_subnet"}


def test_costs_of_the_found_subnet(capsys, root, chain):
    best = chain / "search" / "best_subnet.yaml"
    document = yaml.safe_load(best.read_text())
    supernet = root / OFA / "ofa_supernet_digits.py"
    for words in (["flops", chain / "subnet.py"], ["flops", supernet, "--cfg-options", *TINY]):
        said = json.loads(run(capsys, *words, "--subnet", best, "--json"))
        assert {key: said[key] for key in document["resources"]} == document["resources"]
    other = json.loads(run(capsys, "flops", supernet, "--json", "--input-shape", 12, "--cfg-options", *TINY))
    largest = json.loads(run(capsys, "flops", supernet, "--json", "--cfg-options", *TINY))
    assert other["params"] == largest["params"] and other["macs"] > largest["macs"]
