"""Run another command in several processes: one per GPU, or on CPUs; on one machine, on several, or through slurm."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mmrazor_lite.errors import UserError, one_line

from . import old_flags, signals, torchrun
from .environment import check_processes
from .torchrun import Machines

# By its path, which runs uninstalled too, and takes nothing from the current directory that has another's name.
PROGRAM = str(Path(__file__).with_name("__main__.py"))
LARGEST_PORT = 65535
GPUS_OF_SRUN = ("--gres", "--gpus", "-G")  # with one of these in --srun-args, launch asks for no GPUs itself
LAUNCHED = ("train", "search", "specialize", "test", "predictor-collect")  # what computes in several processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add = parser.add_argument
    add("--nproc", metavar="N", help="processes on each machine (default: one per GPU, or one)")
    add("--nnodes", metavar="N", help="machines; give the same line on each of them (default: NNODES, or 1)")
    add("--rdzv", metavar="HOST:PORT", help="the first machine and a free port of it (default: MASTER_ADDR and PORT)")
    add("--node-rank", metavar="R", help="number of this machine, from 0 (default: NODE_RANK, or as they come)")
    add("--slurm", metavar="PARTITION", help="start it there by srun; --nproc and --nnodes say how many tasks")
    add("--job-name", default="mmrazor_lite", help="with --slurm (default: %(default)s)")
    add("--cpus-per-task", metavar="N", help="with --slurm (default: CPUS_PER_TASK, or 5)")
    add(
        "--srun-args", metavar="TEXT", default="", help="with --slurm: more for srun, such as --srun-args='--time=1:00'"
    )
    add("words", nargs=argparse.REMAINDER, metavar="COMMAND ...", help="train, search, ... with all that it takes")


def run(args: argparse.Namespace) -> int:
    """Run the command in all processes to the end and return the exit status, see :func:`torchrun.start`."""
    try:
        words = _checked(args.words)
        if args.slurm:
            return _srun(slurm_words(args, words))
        machines = machines_of(args)
        check_processes(machines.processes)
        return torchrun.start(machines, [PROGRAM, *words, "--launcher", "pytorch"])
    except UserError as error:
        return torchrun.fail(one_line(error), 2)
    except KeyboardInterrupt:
        print(signals.line(signal.SIGINT, resumes=True), file=sys.stderr)
        return 128 + signal.SIGINT


def machines_of(args: argparse.Namespace) -> Machines:
    """What the flags and the environment say of the machines; see :class:`Machines`.

    Raises:
        UserError: A number that is none, or several machines that do not know where to meet.
    """
    known = os.environ
    nodes = _number("--nnodes" if args.nnodes else "NNODES", args.nnodes or known.get("NNODES", "1"), 1)
    given = args.node_rank or known.get("NODE_RANK")
    rank = None if given is None else _number("--node-rank" if args.node_rank else "NODE_RANK", given, 0, nodes - 1)
    if args.rdzv:
        host, port = _endpoint(args.rdzv)
    else:
        if nodes > 1 and rank is None and "NNODES" not in known:
            raise UserError("--nnodes: several machines need --rdzv HOST:PORT, the first of them and a free port of it")
        rank = rank or 0
        host = known.get("MASTER_ADDR", "127.0.0.1")
        default = str(_free_port()) if nodes == 1 else "29500"
        port = _number("PORT", known.get("PORT", default), 1, LARGEST_PORT)
    rank = 0 if nodes == 1 else rank
    processes = _gpus() if args.nproc is None else _number("--nproc", args.nproc, 1)
    return Machines(processes, nodes, rank, host, port)


def slurm_words(args: argparse.Namespace, words: Sequence[str]) -> list[str]:
    """The line that starts the command by srun, one task per GPU."""
    if args.nproc is None:
        raise UserError("--slurm: give --nproc N, the tasks on each machine, which are its GPUs")
    if args.rdzv or args.node_rank:
        raise UserError("--slurm: srun knows where the machines meet: leave out --rdzv and --node-rank")
    tasks, nodes = _number("--nproc", args.nproc, 1), _number("--nnodes", args.nnodes or "1", 1)
    cpus = _number("--cpus-per-task", args.cpus_per_task or os.environ.get("CPUS_PER_TASK", "5"), 1)
    more = shlex.split(args.srun_args)
    gpus = {} if any(word.startswith(GPUS_OF_SRUN) for word in more) else {"gres": f"gpu:{tasks}"}
    options = {**gpus, "ntasks": tasks * nodes, "ntasks-per-node": tasks, "cpus-per-task": cpus}
    line = ["srun", "-p", args.slurm, f"--job-name={args.job_name}"]
    line += [*(f"--{name}={value}" for name, value in options.items()), "--kill-on-bad-exit=1"]
    return [*line, *more, sys.executable, "-u", PROGRAM, *words, "--launcher", "slurm"]


def _checked(words: Sequence[str]) -> list[str]:
    """The command, once it is known to be one that runs in several processes, and to take its words."""
    from .main import SUBCOMMANDS, build_parser

    if not words:
        raise UserError("launch: give the command to run, such as launch --nproc 8 train CONFIG --work-dir W")
    if words[0] not in SUBCOMMANDS:
        raise UserError(f"launch: '{words[0]}' is no command; flags of launch stand before the command")
    words = old_flags.ours(words)
    args = build_parser().parse_args(words)
    if words[0] not in LAUNCHED:
        raise UserError(f"launch: '{words[0]}' runs in one process, {', '.join(LAUNCHED)} in several")
    if args.launcher != "none":
        raise UserError(f"launch: leave out --launcher {args.launcher}, which is what launch says to its processes")
    return words


def _srun(line: list[str]) -> int:
    """Run srun to its end and return its status; a signal to this process ends the tasks too."""
    with signals.raised() as ended:
        try:
            process = subprocess.Popen(line)
        except FileNotFoundError:
            raise UserError("--slurm: there is no srun on PATH: this machine starts no jobs of slurm") from None
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()  # srun ends its tasks, then itself; killed, it would leave them running
            process.wait()
            number = ended[0] if ended else signal.SIGINT
            print(signals.line(number, resumes=True), file=sys.stderr)
            return 128 + number


def _gpus() -> int:
    import torch

    return max(torch.cuda.device_count(), 1)


def _free_port() -> int:
    """A port of this machine that nothing listens on: two runs on it need no names for theirs."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _endpoint(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host.strip("[]"):
        raise UserError(f"--rdzv is '{text}': give HOST:PORT, such as 10.0.0.1:29500")
    return host.strip("[]"), _number("the port of --rdzv", port, 1, LARGEST_PORT)


def _number(name: str, text: str, low: int, high: int | None = None) -> int:
    if text.isdecimal() and low <= int(text) and (high is None or int(text) <= high):
        return int(text)
    allowed = f"from {low} to {high}" if high is not None else f"of {low} or more"
    raise UserError(f"{name} is '{text}': give a whole number {allowed}")
