"""Layers whose width is a choice; each is of a subclass of the layer it replaces."""

from __future__ import annotations

from mmrazor_lite.graph import LAYER_KINDS, LayerKind, kind_of

from .dynamic import Active, active_of, export, make_dynamic, settle
from .switchable import SwitchableBatchNorm

KIND = LAYER_KINDS

__all__ = [
    "KIND",
    "Active",
    "LayerKind",
    "SwitchableBatchNorm",
    "active_of",
    "export",
    "kind_of",
    "make_dynamic",
    "settle",
]
