"""Which project and generation a config was written for, seen in its keys and names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from mmrazor_lite.walk import mappings

Generation = Literal["own", "1.x", "0.x"]

# Top-level keys that only mmcv's runner reads, which MMRazor 0.x is built on, ...
V0_KEYS = frozenset(
    "algorithm searcher runner data optimizer optimizer_config lr_config evaluation checkpoint_config log_config "
    "dist_params resume_from workflow total_epochs total_iters use_ddp_wrapper momentum_config cudnn_benchmark".split()
)
# ... what its commands and hooks read beside them, ...
V0_FURTHER = frozenset(
    "custom_hooks custom_imports deterministic device find_unused_parameters fp16 gpu_ids load_from log_level "
    "mp_start_method opencv_num_threads seed work_dir auto_resume sampler gpus".split()
)
# ... those of them that make a config one of 0.x, whatever else is in it, ...
_V0_MARKS = frozenset("algorithm searcher runner data optimizer_config lr_config".split())
# ... and those that only mmengine's reads.
V1_KEYS = frozenset(
    "train_dataloader val_dataloader test_dataloader train_cfg val_cfg test_cfg val_evaluator test_evaluator "
    "optim_wrapper param_scheduler search_cfg model_wrapper_cfg".split()
)
# Sections of its mutators, ...
_V1_SECTIONS = frozenset(("channel_unit_cfg", "parse_cfg"))
# ... and names that MMRazor 1.x's configs write without its prefix and this project spells otherwise, or not at all.
_V1_CLASSES = frozenset(
    "SlimmableNetwork SlimmableNetworkDDP AutoSlimDDP BigNAS BigNASDDP SlimmableChannelMutator SlimmableChannelUnit "
    "ConfigurableDistiller AttentiveMobileNetV3 SearchableImageClassifier DynamicLinearClsHead "
    "AutoSlimGreedySearchLoop EvolutionSearchLoop SlimmableValLoop MetricPredictor OneShotMutableChannelUnit".split()
)


def generation_of(config: Mapping[str, Any], helpers: Collection[str] = ()) -> Generation:
    """Return which generation a config is of; one of mixed keys counts as 0.x, see :func:`mixed`.

    Args:
        config: A config as it was read, bases and all.
        helpers: Its top-level names that its own files use; one that mmengine does not read may be called anything.
    """
    if _old_keys(config, helpers) & _V0_MARKS:
        return "0.x"
    for _, node in mappings(config):
        name = node.get("type")
        is_named = isinstance(name, str) and _is_of_v1(name)
        if node.get("_scope_") == "mmrazor" or is_named or _V1_SECTIONS & node.keys():
            return "1.x"
    return "own"


def reads(config: Mapping[str, Any], key: str, helpers: Collection[str] = ()) -> bool:
    """Return whether a top-level key says something in a config as its file has it; a helper variable says nothing."""
    return key in V0_KEYS | V0_FURTHER if generation_of(config, helpers) == "0.x" else key in config


def mixed(config: Mapping[str, Any], helpers: Collection[str] = ()) -> str | None:
    """Return what to say of a config that has keys of both generations; None of any other."""
    old, new = _old_keys(config, helpers), V1_KEYS & config.keys()
    if not (old & _V0_MARKS and new):
        return None
    return (
        f"keys of MMRazor 0.x ({', '.join(sorted(old))}) stand beside those of 1.x ({', '.join(sorted(new))}): keep "
        "those of one generation"
    )


def _old_keys(config: Mapping[str, Any], helpers: Collection[str]) -> set[str]:
    """The keys of 0.x in a config; in one of mmengine's, names that the file itself uses are helper variables."""
    old = V0_KEYS & config.keys()
    return old - set(helpers) if V1_KEYS & config.keys() else old


def _is_of_v1(name: str) -> bool:
    scope, _, bare = name.rpartition(".")
    return scope == "mmrazor" or (not scope and bare in _V1_CLASSES)
