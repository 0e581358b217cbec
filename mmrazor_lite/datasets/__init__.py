"""Datasets of the project; importing the package registers them."""

from .digits import Digits
from .held_out import HeldOut

__all__ = ["Digits", "HeldOut"]
