"""Mutators: find or insert choices in an architecture, activate a subnet, export it."""

from .width import OneShotChannelMutator

__all__ = ["OneShotChannelMutator"]
