"""What happens around the training loop: checkpoints, resource reports."""

from .checkpoint import SafeCheckpointHook
from .elasticity import ElasticityHook
from .resources import ResourceHook

__all__ = ["ElasticityHook", "ResourceHook", "SafeCheckpointHook"]
