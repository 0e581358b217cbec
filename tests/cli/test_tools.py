"""The scripts in tools/ are five lines, run from any folder, and need no installation."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPTS = {
    "train.py": "train",
    "search.py": "search",
    "test.py": "test",
    "analyze.py": "analyze",
    "mmcls/train_mmcls.py": "train",
    "mmcls/search_mmcls.py": "search",
    "mmcls/test_mmcls.py": "test",
    "model_converters/split_checkpoint.py": "split",
    "model_converters/convert_ofa_ckpt.py": "convert-ofa",
    "specialize.py": "specialize",
    "predictor/collect.py": "predictor-collect",
    "predictor/train.py": "predictor-train",
    "latency/build_table.py": "latency",
    "latency/convert_tfnas_table.py": "convert-tfnas-table",
    "nas/parse_tfnas.py": "parse-tfnas",
    "dataset/make_lists.py": "image-lists",
    "recipes/autoslim_cifar10.py": "autoslim-cifar10",
    "misc/print_config.py": "print-config",
    "misc/get_flops.py": "flops",
}
SHELL = [f"{kind}_{step}.sh" for kind in ("dist", "slurm") for step in ("train", "search", "test")]


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_is_thin_and_runs_anywhere(script, root, tmp_path):
    path = root / "tools" / script
    assert len(path.read_text().splitlines()) <= 5
    done = subprocess.run([sys.executable, path, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"mmrazor-lite {SCRIPTS[script]}" in done.stdout


@pytest.mark.parametrize("script", SHELL)
def test_shell_script_shows_its_usage(script, root, tmp_path):
    done = subprocess.run([root / "tools" / script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")


@pytest.mark.parametrize(
    ("script", "words", "expected"),
    [
        ("slurm_train.sh", "part job c.py W --amp", "train.py c.py --work-dir W --launcher slurm --amp"),
        ("slurm_search.sh", "part job c.py k.pth W", "search.py c.py k.pth --work-dir W --launcher slurm"),
        ("slurm_test.sh", "part job c.py none W", "test.py c.py none --work-dir W --launcher slurm"),
    ],
)
def test_slurm_arguments_are_in_mmrazors_order(script, words, expected, root, tmp_path):
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "GPUS": "4", "SRUN_ARGS": "--exclusive"}
    done = subprocess.run([root / "tools" / script, *words.split()], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("-p part --job-name=job --gres=gpu:4 --ntasks=4")
    assert "--exclusive" in done.stdout
    assert done.stdout.rstrip().endswith(expected)


def test_importing_the_package_and_the_command_line_is_cheap():
    code = "import sys, mmrazor_lite.cli; print([n for n in ('torch', 'mmengine', 'numpy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_torchrun_command(monkeypatch):
    from mmrazor_lite.cli import launch
    from mmrazor_lite.errors import UserError

    monkeypatch.setattr(launch, "check_processes", lambda count: None)
    monkeypatch.setenv("NNODES", "2")
    monkeypatch.setenv("PORT", "1234")
    line = launch.command("3", ["tools/train.py", "c.py"])
    assert {"--nnodes=2", "--master_port=1234", "--nproc_per_node=3"} <= set(line)
    assert line[-4:] == ["tools/train.py", "c.py", "--launcher", "pytorch"]
    with pytest.raises(UserError, match="positive number"):
        launch.command("none", [])


def test_more_processes_than_gpus_are_refused(monkeypatch):
    import torch

    from mmrazor_lite.cli.environment import check_processes
    from mmrazor_lite.errors import UserError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_processes(2)
    with pytest.raises(UserError, match="3 processes on this machine, it has 2 GPUs"):
        check_processes(3)
