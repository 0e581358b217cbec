"""Backbones of the project; importing the package registers them."""

from .inverted_residual import inverted_residual_net

__all__ = ["inverted_residual_net"]
