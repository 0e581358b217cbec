"""What happens around the training loop: checkpoints, resource reports, hooks of other packages."""

from .checkpoint import SafeCheckpointHook
from .early_stopping import ResumableEarlyStoppingHook
from .elasticity import ElasticityHook
from .learning_rate import RateInfoHook
from .recipe import RecipeHook
from .resources import ResourceHook
from .time_limit import TimeLimitHook

__all__ = [
    "ElasticityHook",
    "RateInfoHook",
    "RecipeHook",
    "ResourceHook",
    "ResumableEarlyStoppingHook",
    "SafeCheckpointHook",
    "TimeLimitHook",
]
