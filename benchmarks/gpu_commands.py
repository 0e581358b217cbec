"""The GPU benchmark's commands: a training that is killed and resumed, and the whole chain on handwritten digits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.gpu_figures import Figures
from benchmarks.gpu_steps import DEVICE, ROOT

COMMAND = [sys.executable, "-m", "mmrazor_lite.cli"]
SUPERNET = "configs/pruning/autoslim/autoslim_supernet_digits.py"
EPOCHS, KILLED_AFTER = 4, 2
SHORT = [f"train_cfg.max_epochs={EPOCHS}", f"param_scheduler.end={EPOCHS}", f"train_cfg.val_interval={EPOCHS}"]
SHORT += ["default_hooks.checkpoint.interval=1", "default_hooks.checkpoint.max_keep_ckpts=9"]
SHORT += ["randomness.deterministic=True"]
FEW = ["train_dataloader.dataset.dataset.indices=100", "train_dataloader.batch_size=16"]


def resume(figures: Figures, tiny: bool, folder: Path) -> None:
    """Two trainings side by side: one to its end, one killed within an epoch and resumed; all weights are compared."""
    began = time.monotonic()
    whole = _train(folder / "whole", tiny)
    cut = _train(folder / "cut", tiny)
    mark = folder / "cut" / f"epoch_{KILLED_AFTER}.pth"
    while not mark.is_file() and cut.poll() is None:
        time.sleep(0.02)
    cut.send_signal(signal.SIGKILL)
    cut.wait()
    was_killed = cut.returncode == -signal.SIGKILL
    figures.check("the training was killed within it", was_killed, after=_last(folder / "cut"))
    if was_killed:
        _must(_train(folder / "cut", tiny, "--resume"))
    _must(whole)
    ours, theirs = (_weights(folder / name / f"epoch_{EPOCHS}.pth") for name in ("cut", "whole"))
    different = [name for name, value in theirs.items() if not torch.equal(value, ours[name])]
    apart = max((float((ours[name].double() - theirs[name].double()).abs().max()) for name in different), default=0.0)
    figures.check(f"resumed on {DEVICE}, all weights have the bits of the training that was not killed", not different,
                  tensors=len(theirs), different=len(different), largest=apart)  # fmt: skip
    figures.add("two trainings of the digits network", round(time.monotonic() - began, 1), "s", epochs=EPOCHS)


def digits(figures: Figures, tiny: bool, folder: Path) -> None:
    """``mmrazor-lite demo``: training, search, joint retraining, split, tests, and slim; with its accuracies."""
    if tiny:
        _must(_run("train", SUPERNET, "--work-dir", str(folder / "supernet"), "--cfg-options", *_few()))
        figures.check("a training of few images ended well", True)
        return
    began = time.monotonic()
    _must(_run("demo", "--work-dir", str(folder)))
    seconds = round(time.monotonic() - began, 1)
    figures.check(f"the chain of commands on {DEVICE} ended well", True, seconds=seconds)
    report = json.loads((folder / "report.json").read_text())
    for row in report["outcomes"]:
        figures.write({"what": f"scores, {row['name']}", **dict(row["scores"])})


def _few() -> list[str]:
    return [*FEW, "train_cfg.max_epochs=1", "train_cfg.val_interval=1"]


def _train(folder: Path, tiny: bool, *more: str) -> subprocess.Popen:
    options = [*SHORT, *(FEW if tiny else [])]
    return _run("train", SUPERNET, "--work-dir", str(folder), *more, "--cfg-options", *options)


def _run(*words: str) -> subprocess.Popen:
    """A command in the background; its output goes with that of this process, its log into its work dir."""
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    return subprocess.Popen([*COMMAND, *words], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def _must(process: subprocess.Popen) -> None:
    """Wait until a command has ended well.

    Raises:
        RuntimeError: It has not; its error is above.
    """
    if process.wait():
        raise RuntimeError(f"{' '.join(process.args[3:])} has ended with {process.returncode}")


def _weights(file: Path) -> dict[str, torch.Tensor]:
    from mmrazor_lite.checkpoints import read_checkpoint

    return read_checkpoint(file)["state_dict"]


def _last(folder: Path) -> str:
    pointer = folder / "last_checkpoint"
    return Path(pointer.read_text().strip()).name if pointer.is_file() else "no checkpoint"
