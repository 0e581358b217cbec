"""What a command says before its work: few lines on the terminal, the rest in the log file; nothing that cannot be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mmrazor_lite.cli import main

AUTOSLIM = "configs/pruning/autoslim/autoslim_{}_digits.py"
TINY = [
    "model.architecture.backbone.settings=[]",
    "model.architecture.backbone.stem_channels=24",
    "model.architecture.backbone.last_channels=24",
    "model.architecture.head.in_channels=24",
]
LIMIT = 40


@pytest.fixture(autouse=True)
def _new_log():
    """The loggers of the run before write to its captured, closed output."""
    from mmengine.logging import MMLogger

    MMLogger._instance_dict.clear()


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory) -> tuple[Path, str]:
    """Work dir of a supernet; the lines of its training."""
    folder = tmp_path_factory.mktemp("trained")
    few = ["train_dataloader.dataset.dataset.indices=80", "train_cfg.max_epochs=1", "default_hooks.logger.interval=1"]
    few += ["train_dataloader.batch_size=16", "train_cfg.val_interval=9"]
    words = ["train", root / AUTOSLIM.format("supernet"), "--work-dir", folder, "--cfg-options", *TINY, *few]
    with pytest.MonkeyPatch.context() as patch:
        import io
        import sys

        patch.setattr(sys, "stdout", shown := io.StringIO())
        assert main([str(word) for word in words]) == 0
    return folder, shown.getvalue()


def log_of(folder: Path) -> str:
    return max(folder.glob("*/*.log")).read_text()


def test_training(trained):
    folder, text = trained
    before = text[: text.index("Epoch(train)")].splitlines()
    assert len(before) < LIMIT and "Config:" not in text
    assert all("Hooks will be" not in line and "GCC" not in line for line in before)
    log = log_of(folder)
    for part in (
        "Config:\n",
        "System environment:",
        "Hooks will be executed",
        "Resources of one image",
        "Epoch(train)",
    ):
        assert part in log
    named = re.search(r"environment, config and hooks are in (\S+)", text)
    assert named and Path(named[1]).read_text() == log


@pytest.mark.parametrize("step", ["search", "test"])
def test_search_and_test(root, trained, tmp_path, capsys, step):
    checkpoint = trained[0] / "epoch_1.pth"
    few = {
        "search": ["search_cfg.dataloader.dataset.dataset.indices=80", "search_cfg.calibrate_sample_num=20"],
        "test": ["test_dataloader.dataset.indices=40", "test_cfg.calibrate_sample_num=20"],
    }[step]
    few += ["search_cfg.target_macs=90%"] if step == "search" else ["train_dataloader.dataset.dataset.indices=40"]
    config = root / AUTOSLIM.format("search" if step == "search" else "supernet")
    words = [step, config, checkpoint, "--work-dir", tmp_path, "--cfg-options", *TINY, *few]
    assert main([str(word) for word in words]) == 0
    text = capsys.readouterr().out
    first = re.search(r"search: (step|all)|Results of every subnet", text)
    assert first, text
    before = text[: first.start()]
    assert 0 < len(before.splitlines()) < LIMIT and "Config:\n" in log_of(tmp_path)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["train", AUTOSLIM.format("supernet"), "--work-dir", "{}"], "epoch_1.pth"),
        (["train", AUTOSLIM.format("supernet"), "--work-dir", "{}"], "last_checkpoint"),
        (["search", AUTOSLIM.format("search"), "CKPT", "--work-dir", "{}"], "search_state.json"),
        (["predictor-collect", AUTOSLIM.format("search"), "CKPT", "--work-dir", "{}"], "scores.jsonl"),
        (["predictor-collect", AUTOSLIM.format("search"), "CKPT", "-o", "{}/x"], "x"),
        (["test", AUTOSLIM.format("supernet"), "CKPT", "--out", "{}/x"], "x"),
        (["analyze", AUTOSLIM.format("supernet"), "--plot", "{}/x"], "x"),
        (["image-lists", ".", "-o", "{}/a", "{}/x"], "x"),
        (["latency", AUTOSLIM.format("supernet"), "-o", "{}/x"], "x.journal"),
    ],
)
def test_a_folder_in_the_place_of_a_file_is_told_before_the_work(root, trained, tmp_path, capsys, words, place):
    (tmp_path / place).mkdir()
    line = [word.format(tmp_path).replace("CKPT", str(trained[0] / "epoch_1.pth")) for word in words]
    line[1] = str(root / line[1])
    before = sorted(tmp_path.rglob("*"))
    assert main(line) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / place} is a folder, a file is to be written there" in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_step_reads_is_not_replaced(root, trained, capsys):
    checkpoint = trained[0] / "epoch_1.pth"
    before = checkpoint.read_bytes()
    assert main(["test", str(root / AUTOSLIM.format("supernet")), str(checkpoint), "--out", str(checkpoint)]) == 2
    assert "is read by this step, which would replace it" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before
