"""Losses between the output of a subnet and that of its teacher."""

from .binary_kl_divergence import BinaryKLDivergence
from .kl_divergence import KLDivergence

__all__ = ["BinaryKLDivergence", "KLDivergence"]
