"""The command line: one subcommand per module, each of which builds and runs."""

from .main import main

__all__ = ["main"]
