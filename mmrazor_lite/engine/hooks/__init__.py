"""What happens around the training loop: checkpoints, resource reports."""

from .checkpoint import SafeCheckpointHook
from .elasticity import ElasticityHook
from .learning_rate import LearningRateHook
from .resources import ResourceHook

__all__ = ["ElasticityHook", "LearningRateHook", "ResourceHook", "SafeCheckpointHook"]
