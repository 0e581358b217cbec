"""What a subnet costs: macs, flops, params, memory."""

from .analysis import Analysis, analyse
from .cost_model import RESOURCES, CostModel
from .resource import ResourceEstimator

__all__ = ["RESOURCES", "Analysis", "CostModel", "ResourceEstimator", "analyse"]
