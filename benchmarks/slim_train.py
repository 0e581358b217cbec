"""Trains the networks of ``slim.py`` for which no weights are given, with the project's own commands, on CIFAR-10."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.slim_networks import CASES, ROOT, SHARED
from mmrazor_lite.fileio import atomic_write

EPOCHS = 15
CONFIG = """\
_base_ = ["{base}/datasets/cifar10_device.py", "{base}/schedules/autoslim_8xb256.py", "{base}/runtime.py"]
data_root = "{data}"
model = dict(
    type="AutoSlim",
    input_shape=(3, 32, 32),
    architecture={architecture!r},
    mutator=dict(type="OneShotChannelMutator", divisor=1),
    channel_cfg="{subnet}",
    distiller=None,
    num_random_samples=None,
)
train_dataloader = dict(batch_size=64, dataset=dict(part="all"))
optim_wrapper = dict(optimizer=dict(lr=0.1, weight_decay=5e-4))
param_scheduler = dict(end={epochs})
train_cfg = dict(max_epochs={epochs}, val_interval={epochs})
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
"""


def train(name: str, work: Path, epochs: int = EPOCHS, options: tuple[str, ...] = ()) -> dict[str, Any]:
    """Train a network at its full widths; its weights become ``WORK_DIR/trained/NAME/trained.pth``.

    A training that was interrupted goes on. ``options`` are further ``KEY=VALUE`` of the config.
    """
    folder = work / "trained" / name
    folder.mkdir(parents=True, exist_ok=True)
    config, subnet = folder / "config.py", folder / "full.yaml"
    text = CONFIG.format(
        base=ROOT / "configs/_base_", data=SHARED, architecture=CASES[name].trained, subnet=subnet, epochs=epochs
    )
    config.write_text(text)
    _write_full(config, subnet)
    extra = ["--cfg-options", *options] if options else []
    _command("train.py", config, "--work-dir", folder / "run", "--seed", 0, "--resume", *extra)
    with atomic_write(folder / "trained.pth") as temporary:
        shutil.copyfile(folder / "run" / f"epoch_{epochs}.pth", temporary)
    return {"epochs": epochs}


def _write_full(config: Path, path: Path) -> None:
    """The file of the subnet of all full widths."""
    from mmrazor_lite.config.build import build_model
    from mmrazor_lite.config.load import load_config
    from mmrazor_lite.subnet import write_subnet

    algorithm = build_model(load_config(config, ["model.channel_cfg=None"]))
    space = algorithm.search_space
    full = space.max()
    write_subnet(path, full, space, algorithm.cost_model.of(full), made_by={"tool": "all full widths"})


def _command(tool: str, *words: Any) -> None:
    command = [sys.executable, str(ROOT / "tools" / tool), *map(str, words)]
    print("$ " + " ".join(command), flush=True)
    subprocess.run(command, cwd=ROOT, check=True)
