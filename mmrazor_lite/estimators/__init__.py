"""What a subnet costs: macs, flops, params, memory."""

from .cost_model import RESOURCES, CostModel
from .resource import ResourceEstimator

__all__ = ["RESOURCES", "CostModel", "ResourceEstimator"]
