"""What a model is: its traced graph, its width groups, its layer table."""

from .channels import Side, WidthGroup
from .groups import FixedLayer, WidthGraph, find_width_groups
from .layer_table import LayerTable, layer_table
from .layers.record import LAYER_KINDS, LayerKind, LayerKinds, kind_of
from .layers.rows import LayerRow
from .modes import evaluating, modes_kept
from .op_calls import Along, ChannelSum, OpCall, TensorForm, op_calls
from .op_chains import Chain, chained
from .trace import TracedModel, TraceError, trace

__all__ = [
    "LAYER_KINDS",
    "Along",
    "Chain",
    "ChannelSum",
    "FixedLayer",
    "LayerKind",
    "LayerKinds",
    "LayerRow",
    "LayerTable",
    "OpCall",
    "Side",
    "TensorForm",
    "TraceError",
    "TracedModel",
    "WidthGraph",
    "WidthGroup",
    "chained",
    "evaluating",
    "find_width_groups",
    "kind_of",
    "layer_table",
    "modes_kept",
    "op_calls",
    "trace",
]
