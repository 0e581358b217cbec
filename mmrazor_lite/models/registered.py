"""Everything of this room that a config may name."""

from mmrazor_lite.registry import MUTATORS

from . import algorithms, backbones, classifiers, distillers, mutables
from .mutators import NasMutator, OneShotChannelMutator

__all__ = ["algorithms", "backbones", "classifiers", "distillers", "mutables"]

for _mutator in (NasMutator, OneShotChannelMutator):  # which need no registry themselves
    MUTATORS.register_module(module=_mutator)
