"""Layers whose width is a choice; each is of a subclass of the layer it replaces."""

from __future__ import annotations

from .dynamic import Active, active_of, export, make_dynamic, settle
from .kinds import KIND, KINDS, LayerKind, kind_of
from .switchable import SwitchableBatchNorm

__all__ = [
    "KIND",
    "KINDS",
    "Active",
    "LayerKind",
    "SwitchableBatchNorm",
    "active_of",
    "export",
    "kind_of",
    "make_dynamic",
    "settle",
]
