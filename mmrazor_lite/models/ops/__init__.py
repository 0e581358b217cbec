"""Layers whose width is a choice; each is of a subclass of the layer it replaces."""

from __future__ import annotations

from .dynamic import Active, active_of, export, make_dynamic, settle
from .switchable import SwitchableBatchNorm
from .whole import whole_copy

__all__ = [
    "Active",
    "SwitchableBatchNorm",
    "active_of",
    "export",
    "make_dynamic",
    "settle",
    "whole_copy",
]
