"""Algorithms: which subnets one training step trains, and how."""

from .autoslim import AutoSlim
from .base import Algorithm, Pass
from .ofa import OFA
from .spos import SPOS
from .sub_model import SubModel

__all__ = ["OFA", "SPOS", "Algorithm", "AutoSlim", "Pass", "SubModel"]
