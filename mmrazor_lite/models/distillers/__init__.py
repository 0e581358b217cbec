"""Losses between the output of a subnet and that of its teacher."""

from .kl_divergence import KLDivergence

__all__ = ["KLDivergence"]
