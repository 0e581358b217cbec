"""Searchers: they propose subnets and learn from their scores. Needs numpy, never torch."""

from mmrazor_lite.search.cost import Cost
from mmrazor_lite.search.evolution import EvolutionSearcher
from mmrazor_lite.search.front import FrontSearcher
from mmrazor_lite.search.greedy import GreedySearcher
from mmrazor_lite.search.predictor import AccuracyPredictor
from mmrazor_lite.search.protocols import Budget, Constraint, HasFront, HasHistory, Result, Searcher
from mmrazor_lite.search.uniform import uniform_subnet

__all__ = [
    "AccuracyPredictor",
    "Budget",
    "Constraint",
    "Cost",
    "EvolutionSearcher",
    "FrontSearcher",
    "GreedySearcher",
    "HasFront",
    "HasHistory",
    "Result",
    "Searcher",
    "uniform_subnet",
]
