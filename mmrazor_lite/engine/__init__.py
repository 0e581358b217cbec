"""Where training and search meet data: runner, loops, samplers, wrappers, hooks."""

from .ddp import SubnetDDP
from .evaluator import SubnetEvaluator
from .hooks import ElasticityHook, ResourceHook, SafeCheckpointHook
from .optim import SubnetAmpOptimWrapper, SubnetOptimWrapper
from .paired_loop import PairedTrainLoop
from .runner import RazorRunner
from .sampler import SeededSampler
from .search_build import evolution_search_loop
from .search_loop import SearchLoop
from .seeding import SeededDataset
from .separate_optim import SeparateOptimWrapperConstructor
from .val_loop import SubnetTestLoop, SubnetValLoop

__all__ = [
    "ElasticityHook",
    "PairedTrainLoop",
    "RazorRunner",
    "ResourceHook",
    "SafeCheckpointHook",
    "SearchLoop",
    "SeededDataset",
    "SeededSampler",
    "SeparateOptimWrapperConstructor",
    "SubnetAmpOptimWrapper",
    "SubnetDDP",
    "SubnetEvaluator",
    "SubnetOptimWrapper",
    "SubnetTestLoop",
    "SubnetValLoop",
    "evolution_search_loop",
]
