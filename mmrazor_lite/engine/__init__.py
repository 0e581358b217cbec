"""Where training and search meet data: runner, loops, samplers, wrappers, hooks."""

from .ddp import SubnetDDP
from .evaluator import ScoringSettings, SubnetEvaluator
from .hooks import ElasticityHook, ResourceHook, SafeCheckpointHook, TimeLimitHook
from .optim import SubnetAmpOptimWrapper, SubnetOptimWrapper
from .paired_loop import PairedTrainLoop
from .policy_lr import PolicyLR
from .runner import RazorRunner
from .sampler import SeededSampler
from .search_build import build_search_loop
from .search_loop import SearchLoop
from .search_settings import SearchSettings
from .seeding import SeededDataset
from .separate_optim import SeparateOptimWrapperConstructor
from .val_loop import SubnetTestLoop, SubnetValLoop

__all__ = [
    "ElasticityHook",
    "PairedTrainLoop",
    "PolicyLR",
    "RazorRunner",
    "ResourceHook",
    "SafeCheckpointHook",
    "ScoringSettings",
    "SearchLoop",
    "SearchSettings",
    "SeededDataset",
    "SeededSampler",
    "SeparateOptimWrapperConstructor",
    "SubnetAmpOptimWrapper",
    "SubnetDDP",
    "SubnetEvaluator",
    "SubnetOptimWrapper",
    "SubnetTestLoop",
    "SubnetValLoop",
    "TimeLimitHook",
    "build_search_loop",
]
