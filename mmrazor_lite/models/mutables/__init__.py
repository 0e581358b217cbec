"""Mutables: the objects inside a module that carry a choice and the value active now."""

from .channel import ChannelSlice, MutableChannel
from .elastic import ElasticBlock, KernelConv2d, MutableDepth
from .operator import CANDIDATES, MutableOP

__all__ = [
    "CANDIDATES",
    "ChannelSlice",
    "ElasticBlock",
    "KernelConv2d",
    "MutableChannel",
    "MutableDepth",
    "MutableOP",
]
