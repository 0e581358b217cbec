"""Mutables: the objects inside a module that carry a choice and the value active now."""

from .channel import ChannelSlice, MutableChannel

__all__ = ["ChannelSlice", "MutableChannel"]
