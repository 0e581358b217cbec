"""Print a config as a run would use it: bases merged, overrides applied, every key checked."""

from __future__ import annotations

import argparse

from mmrazor_lite import mm_packages
from mmrazor_lite.config import load_config

from . import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    arguments.add_config(parser)


def run(args: argparse.Namespace) -> None:
    """Print it."""
    mm_packages.load_formatter()
    print(load_config(args.config, args.cfg_options).pretty_text, end="")
