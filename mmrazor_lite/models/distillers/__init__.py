"""Losses between the output of a subnet and that of its teacher."""

from .binary_kl_divergence import BinaryKLDivergence
from .kl_divergence import KLDivergence
from .output_distance import OutputDistance

__all__ = ["BinaryKLDivergence", "KLDivergence", "OutputDistance"]
