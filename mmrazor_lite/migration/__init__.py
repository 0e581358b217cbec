"""Configs of MMRazor, of both of its generations, in our own form."""

from .generation import Generation, generation_of, reads
from .translate import Translated, translate

__all__ = ["Generation", "Translated", "generation_of", "reads", "translate"]
