"""Algorithms: which subnets one training step trains, and how."""

from .autoslim import AutoSlim
from .base import Algorithm, Pass

__all__ = ["Algorithm", "AutoSlim", "Pass"]
