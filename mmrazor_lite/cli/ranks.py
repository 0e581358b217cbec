"""Which process of a run this one is, known before it has joined the others."""

from __future__ import annotations

import argparse
import os

# Launcher -> the variable in which it gives a process its number.
VARIABLES = {"pytorch": "RANK", "slurm": "SLURM_PROCID", "mpi": "OMPI_COMM_WORLD_RANK"}
ONE_TERMINAL = ("slurm", "mpi")  # shows what all processes say, on all machines


def is_first(args: argparse.Namespace) -> bool:
    """Whether this is the first process of the run, which does for all what is done once."""
    launcher = getattr(args, "launcher", "none")
    return launcher not in VARIABLES or os.environ.get(VARIABLES[launcher], "0") == "0"


def in_one_terminal(args: argparse.Namespace) -> bool:
    """Whether what all processes say is shown in one place."""
    return getattr(args, "launcher", "none") in ONE_TERMINAL


def seconds_before_telling(args: argparse.Namespace) -> int:
    """How long it keeps an error that another process may tell too, whose launcher then ends this one.

    The first of those that share a terminal tells it at once, and takes a few seconds more to end.
    """
    if in_one_terminal(args):
        return 0 if is_first(args) else 15
    return 0 if os.environ.get("LOCAL_RANK", "0") == "0" else 2
