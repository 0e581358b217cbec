"""Algorithms: which subnets one training step trains, and how."""

from .autoslim import AutoSlim
from .base import Algorithm, Pass
from .spos import SPOS
from .sub_model import SubModel

__all__ = ["SPOS", "Algorithm", "AutoSlim", "Pass", "SubModel"]
