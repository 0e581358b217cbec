"""Mutables: the objects inside a module that carry a choice and the value active now."""

from .channel import ChannelSlice, MutableChannel
from .choice_module import ITSELF, ChoiceModule, HasStaticForm, InnerWidths, Offer, RunsOnePart
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
]
