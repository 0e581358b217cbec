"""The command line is an interface: a new or lost flag shows here."""

from __future__ import annotations

import argparse

import pytest

from mmrazor_lite.cli.arguments import RESOURCES
from mmrazor_lite.cli.main import build_parser
from mmrazor_lite.subnet import RESOURCE_UNITS

RUN = {"config", "--cfg-options", "--work-dir", "--launcher", "--seed", "--deterministic", "--skip-unreadable"}
FLAGS = {
    "train": RUN | {"--amp", "--auto-scale-lr", "--reset-head", "--resume"},
    "search": RUN | {"checkpoint", "--resume"},
    "test": RUN | {"checkpoint", "--metrics", "--out"},
    "split": {"config", "--cfg-options", "checkpoint", "--channel-cfgs", "--output-dir"},
    "extract": {"config", "--cfg-options", "checkpoint", "subnet", "-o", "--output", "--launcher"},
    "publish": {"checkpoint", "out_file", "--model-name", "--timestamp", "--out-dir", "--mutable-cfg", "--channel-cfg"},
    "analyze": {"config", "--model", "--cfg-options", "--input-shape", "--shape", "--sort", "--top", "--full"}
    | {"--plot", "--json"},
    "flops": {"config", "--cfg-options", "--subnet", "--input-shape", "--shape", "--json"},
    "slim": {"config", "--cfg-options", "--model", "--weights", "--data", "--size", "--mean", "--std", "--budget"}
    | {"--min-accuracy", "--max-drop", "--importance", "--tune", "--images", "--divisor", "--keep", "--opaque"}
    | {"--work-dir", "--seed", "--device", "--skip-unreadable", "--resume", "--json", "--table", "--backend"}
    | {"--values"},
    "export": {
        "file",
        "--cfg-options",
        "--model",
        "--weights",
        "--format",
        "--output",
        "--force",
        "--images",
        "--count",
    }
    | {"--size", "--mean", "--std", "--normalise", "--opset", "--batch-size", "--repeats"}
    | {"--threads", "--int8", "--calibrate", "--license", "--name", "--seed", "--skip-unreadable", "--json"},
    "configs": {"words"},
    "launch": {
        "--nproc",
        "--nnodes",
        "--rdzv",
        "--node-rank",
        "--slurm",
        "--job-name",
        "--cpus-per-task",
        "--srun-args",
    }
    | {"words"},
    "print-config": {"config", "--cfg-options"},
    "migrate": {"config", "--cfg-options", "-o", "--output"},
    "demo": {"--work-dir"},
    "board": {"work_dirs", "--cost", "-o", "--output"},
    "original": {"original", "flags"},
    "autoslim-cifar10": {"--arch", "--small", "--width", "--epochs", "--supernet-epochs", "--seeds", "--target"}
    | {"--device", "--amp", "--data-root", "--images-per-class", "--val-images-per-class", "--calibrate-images"}
    | {"--batch-size", "--lr", "--work-dir"},
    "specialize": RUN
    | {"checkpoint", "--macs", "--flops", "--params", "--memory", "--latency"}
    | {"--table", "--predictor", "--front", "--resume"},
    "predictor-collect": RUN | {"checkpoint", "-n", "--number", "-o", "--out"},
    "predictor-train": {"config", "--cfg-options", "scores", "-o", "--out", "--held-out", "--epochs", "--hidden"}
    | {"--weight-decay", "--seed"},
    "convert-ofa": {
        "checkpoint",
        "--config",
        "--cfg-options",
        "-o",
        "--output",
        "--inplace",
        "--depth",
        "--to-official",
    },
    "latency": {"config", "--cfg-options", "-o", "--output", "--device", "--backend", "--threads", "--batch-size"}
    | {"--resolutions", "--repeats", "--checks", "--seed", "--apply-correction", "--official"}
    | {"--model", "--size", "--keep", "--opaque", "--dtype", "--channels-last", "--clock"},
    "image-lists": {"root", "-o", "--output", "--classes", "--fraction", "--seed"},
    "convert-tfnas-table": {"table", "--config", "-o", "--output"},
    "parse-tfnas": {"checkpoint", "-o", "--output", "--config", "--latency-table", "--model-config", "--cfg-options"},
}


def subparsers() -> dict[str, argparse.ArgumentParser]:
    action = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def test_subcommands_are_frozen():
    assert set(subparsers()) == set(FLAGS)


@pytest.mark.parametrize("command", FLAGS)
def test_flags_are_frozen(command):
    names = {n for a in subparsers()[command]._actions for n in (a.option_strings or [a.dest])}
    assert names - {"-h", "--help"} == FLAGS[command]


@pytest.mark.parametrize("command", FLAGS)
def test_every_flag_says_what_it_does(command):
    for action in subparsers()[command]._actions:
        assert action.help, action


def test_launchers_are_frozen():
    action = next(a for a in subparsers()["train"]._actions if a.dest == "launcher")
    assert tuple(action.choices) == ("none", "pytorch", "slurm", "mpi")


@pytest.mark.parametrize("text", ["-1", "4294967296", "1.5", "x"])
def test_a_seed_that_is_none(capsys, text):
    for words in (["train", "c.py"], ["predictor-train", "c.py", "scores.jsonl"]):
        with pytest.raises(SystemExit, match="2"):
            build_parser().parse_args([*words, "--seed", text])
        assert f"'{text}' is no seed: give a whole number from 0 to 4294967295" in capsys.readouterr().err
    assert build_parser().parse_args(["train", "c.py", "--seed", "4294967295"]).seed == 2**32 - 1


def test_resume_with_and_without_a_file():
    parse = build_parser().parse_args
    assert parse(["train", "c.py"]).resume is None
    assert parse(["train", "c.py", "--resume"]).resume == "auto"
    assert parse(["train", "c.py", "--resume", "a.pth"]).resume == "a.pth"


def test_resources_have_one_set_of_names():
    assert tuple(RESOURCE_UNITS) == RESOURCES
