"""What happens around the training loop: checkpoints, resource reports."""

from .checkpoint import SafeCheckpointHook
from .resources import ResourceHook

__all__ = ["ResourceHook", "SafeCheckpointHook"]
