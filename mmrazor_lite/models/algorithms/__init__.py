"""Algorithms: which subnets one training step trains, and how."""

from .autoslim import AutoSlim
from .base import Algorithm, Pass
from .distilled import Distilled
from .ofa import OFA
from .spos import SPOS
from .sub_model import SubModel
from .tfnas import TFNAS

__all__ = ["OFA", "SPOS", "TFNAS", "Algorithm", "AutoSlim", "Distilled", "Pass", "SubModel"]
