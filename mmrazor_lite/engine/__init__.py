"""Where training and search meet data: runner, loops, samplers, wrappers, hooks."""

from .ddp import SubnetDDP
from .evaluator import SubnetEvaluator
from .hooks import ResourceHook, SafeCheckpointHook
from .optim import SubnetAmpOptimWrapper, SubnetOptimWrapper
from .runner import RazorRunner
from .sampler import SeededSampler
from .search_loop import SearchLoop
from .seeding import SeededDataset
from .val_loop import SubnetTestLoop, SubnetValLoop

__all__ = [
    "RazorRunner",
    "ResourceHook",
    "SafeCheckpointHook",
    "SearchLoop",
    "SeededDataset",
    "SeededSampler",
    "SubnetAmpOptimWrapper",
    "SubnetDDP",
    "SubnetEvaluator",
    "SubnetOptimWrapper",
    "SubnetTestLoop",
    "SubnetValLoop",
]
