"""Everything around a run: its flags, the process group, one line per file read or written."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

from mmrazor_lite import folder_lock
from mmrazor_lite.config import packages
from mmrazor_lite.config.build import require_subnet_files
from mmrazor_lite.errors import SubnetError, UserError, building

from . import ranks, signals
from .data_check import skip_unreadable


def _export_slurm() -> None:
    """Set the variables of torch's ``env://`` rendezvous from slurm's."""
    import subprocess

    host = os.environ["SLURM_NODELIST"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        found = subprocess.run(["scontrol", "show", "hostname", host], capture_output=True, text=True, check=True)
        host = found.stdout.split()[0]
    os.environ.setdefault("MASTER_ADDR", host)
    os.environ.setdefault("MASTER_PORT", os.environ.get("PORT", "29500"))
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["WORLD_SIZE"] = os.environ["SLURM_NTASKS"]
    os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]
    os.environ["LOCAL_WORLD_SIZE"] = os.environ.get("SLURM_NTASKS_PER_NODE", os.environ["SLURM_NTASKS"]).split("(")[0]


def _export_mpi() -> None:
    """Set the variables of torch's ``env://`` rendezvous from Open MPI's."""
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", os.environ.get("PORT", "29500"))
    for ours, theirs in (("RANK", "RANK"), ("WORLD_SIZE", "SIZE"), ("LOCAL_RANK", "LOCAL_RANK")):
        os.environ[ours] = os.environ[f"OMPI_COMM_WORLD_{theirs}"]
    os.environ["LOCAL_WORLD_SIZE"] = os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", os.environ["WORLD_SIZE"])


LAUNCHED = {
    "pytorch": (lambda: None, "mmrazor-lite launch, or torchrun"),
    "slurm": (_export_slurm, "mmrazor-lite launch --slurm, or srun"),
    "mpi": (_export_mpi, "mpirun"),
}


def check_processes(count: int) -> None:
    """Raise :class:`UserError` where ``count`` processes on this machine would share a GPU."""
    import torch

    if torch.cuda.is_available() and count > torch.cuda.device_count():
        raise UserError(
            f"{count} processes on this machine, it has {torch.cuda.device_count()} GPUs: start at most one process "
            "per GPU, or hide the GPUs with CUDA_VISIBLE_DEVICES= to run on the CPU"
        )


def join_process_group(launcher: str, timeout: float | None = None) -> None:
    """Join the process group of ``launcher``: nccl where there is CUDA, gloo elsewhere; nothing to do for ``none``.

    mmengine's own start calls ``torch.cuda.set_device`` also for gloo; it skips a group that exists already.

    Args:
        launcher: Key of :data:`LAUNCHED`, or ``none``.
        timeout: Seconds to wait for the other processes, whenever one waits; by default torch's, 30 minutes with gloo
            and 10 with nccl.

    Raises:
        UserError: The launcher did not start this process, too many processes for the GPUs, or a bad timeout.
    """
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0):
        raise UserError(f"env_cfg.dist_cfg.timeout={timeout!r}: give seconds, more than 0, or leave it out")
    if launcher == "none":
        return
    variable = ranks.VARIABLES[launcher]
    export, how = LAUNCHED[launcher]
    if variable not in os.environ:
        raise UserError(f"--launcher {launcher}: {variable} is not set, start the command with {how}")
    export()
    signals.end_with_launcher()

    import torch

    check_processes(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            timeout=None if timeout is None else timedelta(seconds=timeout),
        )


def leave_process_group(failed: bool) -> None:
    """Leave the process group, where this process is in one: threads of gloo may abort a process that just ends.

    A process that has failed stays in a group of nccl, whose end would wait for the others.

    In torch 2.6 the end of a group waits for its threads and keeps Python locked meanwhile, which one of them may
    need to drop a tensor: the process hangs. A backend that Python holds ends unlocked, after its group.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return
    import torch

    is_gloo = distributed.get_backend() == "gloo"
    if failed and not is_gloo:
        return
    backend = distributed.group.WORLD._get_backend(torch.device("cpu")) if is_gloo else None
    distributed.destroy_process_group()
    del backend


def apply_run_flags(cfg: Any, args: argparse.Namespace, hold: bool = True, without: Collection[str] = ()) -> None:
    """Write the flags of :func:`arguments.add_run` into the config, and join the other processes.

    Args:
        cfg: Of a run.
        args: Its flags.
        hold: Take the work dir for this run, see :mod:`mmrazor_lite.folder_lock`: the first process does it for all.
        without: Sections that the command does not build; their packages may be missing.

    Raises:
        UserError: A package is missing that the run needs, or the process group cannot be joined.
    """
    if cfg.get("launcher") not in (None, "none", args.launcher):
        raise UserError(f"launcher={cfg.launcher!r} of the config: give it as --launcher {cfg.launcher}")
    packages.check(cfg._cfg_dict, str(args.config), without)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or f"work_dirs/{Path(args.config).stem}"
    randomness = dict(cfg.get("randomness") or {})
    if args.seed is not None:
        randomness["seed"] = args.seed
    if args.deterministic:
        randomness["deterministic"] = True
    cfg.randomness = {"seed": 0, **{key: value for key, value in randomness.items() if value is not None}}
    if getattr(args, "skip_unreadable", False):
        skip_unreadable(cfg)
    dist_cfg = (cfg.get("env_cfg") or {}).get("dist_cfg") or {}
    join_process_group(args.launcher, dist_cfg.get("timeout"))
    if hold:
        hold_folder(cfg.work_dir, args)


def hold_folder(folder: str | os.PathLike, args: argparse.Namespace) -> None:
    """Take a folder for a run, see :mod:`mmrazor_lite.folder_lock`: its first process does it for all."""
    if ranks.is_first(args):
        folder_lock.hold(folder, f"{getattr(args, 'command', 'run')} {args.config}")


def hold_file(path: str | os.PathLike, args: argparse.Namespace) -> None:
    """The same for a file that a run adds to, wherever it is."""
    if ranks.is_first(args):
        folder_lock.hold_file(path, f"{getattr(args, 'command', 'run')} {args.config}")


def log_file(action: str, path: str | os.PathLike) -> None:
    """Log ``action`` (read, wrote) and the hash of a file, so that two steps can be seen to share it."""
    from mmengine.dist import is_main_process
    from mmengine.logging import print_log

    from mmrazor_lite.checkpoints import checkpoint_hash

    if is_main_process():  # the others may be here before the file is
        print_log(f"{action} {path} (sha256 {checkpoint_hash(path)})", logger="current")


def require_one_checkpoint(cfg: Any, checkpoint: str) -> None:
    """Refuse a ``load_from`` of another file than the one that a command is given: it would not be read."""
    other = cfg.get("load_from")
    if other and Path(other).absolute() != Path(checkpoint).absolute():
        raise UserError(f"load_from={str(other)!r} would not be read, this command reads '{checkpoint}': remove one")


def build_runner(cfg: Any, note: str | None = None) -> Any:
    """Build the Runner and log the subnet files it read; and ``note``."""
    from mmrazor_lite.engine.runner import RazorRunner

    require_subnet_files(cfg)
    try:
        with building("the run"):
            runner = RazorRunner.from_cfg(cfg)
    except SubnetError as error:  # what a checkpoint carries has no place of its own
        raise UserError(f"{error} ({note})" if note else str(error)) from error
    files = [cfg.model.get(key) or [] for key in ("channel_cfg", "fix_subnet")]
    for entry in files:
        for file in entry if isinstance(entry, list) else [entry]:
            if isinstance(file, str):  # a subnet may also be given by its width, or by its content
                log_file("read", file)
    if note:
        runner.logger.info(note)
    return runner
