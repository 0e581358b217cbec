"""What a model is: its traced graph, its width groups, its layer table."""

from .channels import Side, WidthGroup
from .groups import FixedLayer, WidthGraph, find_width_groups
from .layer_table import LayerRow, LayerTable, layer_table
from .trace import TracedModel, TraceError, trace

__all__ = [
    "FixedLayer",
    "LayerRow",
    "LayerTable",
    "Side",
    "TraceError",
    "TracedModel",
    "WidthGraph",
    "WidthGroup",
    "find_width_groups",
    "layer_table",
    "trace",
]
