"""Mutators: find or insert choices in an architecture, activate a subnet, export it."""

from .nas import NasMutator
from .width import OneShotChannelMutator

__all__ = ["NasMutator", "OneShotChannelMutator"]
