"""Mutables: the objects inside a module that carry a choice and the value active now."""

from .channel import ChannelSlice, MutableChannel
from .operator import CANDIDATES, MutableOP

__all__ = ["CANDIDATES", "ChannelSlice", "MutableChannel", "MutableOP"]
