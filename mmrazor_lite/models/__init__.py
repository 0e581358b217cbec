"""Search spaces, dynamic layers, mutators, distillers and algorithms."""

from . import algorithms, backbones, distillers, mutators

__all__ = ["algorithms", "backbones", "distillers", "mutators"]
