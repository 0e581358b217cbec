"""Mutables: the objects inside a module that carry a choice and the value active now."""

from typing import TYPE_CHECKING

from mmrazor_lite.late import late

from .channel import ChannelSlice, MutableChannel
from .choice_module import ITSELF, ChoiceModule, HasStaticForm, InnerWidths, Offer, RunsOnePart, has_static_form

if TYPE_CHECKING:
    from .elastic import ElasticBlock, KernelConv2d, MutableDepth
    from .operator import MutableOP

__all__ = [
    "ITSELF",
    "ChannelSlice",
    "ChoiceModule",
    "ElasticBlock",
    "HasStaticForm",
    "InnerWidths",
    "KernelConv2d",
    "MutableChannel",
    "MutableDepth",
    "MutableOP",
    "Offer",
    "RunsOnePart",
    "has_static_form",
]

# Modules of mmengine's kind.
__getattr__ = late(
    __name__, {**dict.fromkeys(("ElasticBlock", "KernelConv2d", "MutableDepth"), "elastic"), "MutableOP": "operator"}
)
