"""Importance: which units of a width group are worth keeping. One measure a file, registered by name."""

from .activation import activation
from .definition import Batches, Importance, build
from .fisher import fisher
from .given_order import first, random
from .norm_scale import bn
from .taylor import taylor
from .weight_size import l1, l2

__all__ = ["Batches", "Importance", "activation", "bn", "build", "first", "fisher", "l1", "l2", "random", "taylor"]
