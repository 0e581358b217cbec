"""What a model is: its traced graph, its width groups, its layer table."""

from .channels import Side, WidthGroup
from .groups import FixedLayer, WidthGraph, find_width_groups
from .layer_table import LayerTable, layer_table
from .layers.record import LAYER_KINDS, LayerKind, LayerKinds, kind_of
from .layers.rows import LayerRow
from .trace import TracedModel, TraceError, trace

__all__ = [
    "LAYER_KINDS",
    "FixedLayer",
    "LayerKind",
    "LayerKinds",
    "LayerRow",
    "LayerTable",
    "Side",
    "TraceError",
    "TracedModel",
    "WidthGraph",
    "WidthGroup",
    "find_width_groups",
    "kind_of",
    "layer_table",
    "trace",
]
