"""Search spaces, dynamic layers, mutators, distillers and algorithms."""

from . import algorithms, backbones, classifiers, distillers, importance, mutators

__all__ = ["algorithms", "backbones", "classifiers", "distillers", "importance", "mutators"]
