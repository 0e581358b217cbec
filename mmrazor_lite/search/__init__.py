"""Searchers: they propose subnets and learn from their scores. Needs numpy, never torch."""

from mmrazor_lite.search.base import Budget, CostFunction, Result, Searcher
from mmrazor_lite.search.greedy import GreedySearcher

__all__ = ["Budget", "CostFunction", "GreedySearcher", "Result", "Searcher"]
