"""Importance: which units of a width group are worth keeping. One measure a file, registered by name."""

from .activation import activation
from .definition import IMPORTANCES, Batches, Importance, Ranking, build, measure
from .fisher import fisher
from .given_order import first, random
from .moments import Moments, gather
from .norm_scale import bn
from .ranking import rank, unranked
from .reconstruction import reconstruction
from .taylor import taylor
from .weight_size import l1, l2

__all__ = [
    "IMPORTANCES", "Batches", "Importance", "Moments", "Ranking", "activation", "bn", "build", "first", "fisher",
    "gather", "l1", "l2", "measure", "random", "rank", "reconstruction", "taylor", "unranked",
]  # fmt: skip
