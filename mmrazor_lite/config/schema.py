"""What a config may say: registered names, the arguments of what they build, and the top-level keys.

A key is accepted where something reads it; everything else is refused before a run starts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from mmrazor_lite.errors import UserError, nearest, reason, short
from mmrazor_lite.walk import values

from . import not_carried
from .signatures import argument_names, own_names

DEEPEST = 60  # levels of nesting of a config
LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
LARGEST_SEED = 2**32 - 1  # of numpy
TOP_LEVEL = frozenset(
    # mmengine's Runner
    "model work_dir train_dataloader val_dataloader test_dataloader train_cfg val_cfg test_cfg auto_scale_lr "
    "optim_wrapper param_scheduler val_evaluator test_evaluator default_hooks custom_hooks data_preprocessor load_from "
    "resume launcher env_cfg log_processor log_level visualizer vis_backends default_scope randomness experiment_name "
    "model_wrapper_cfg find_unused_parameters sync_bn compile cfg custom_imports runner_type "
    # ours
    "search_cfg data_root channels_last".split()
)
DATALOADER = frozenset(
    "dataset sampler batch_sampler batch_size num_workers collate_fn pin_memory drop_last timeout worker_init_fn "
    "prefetch_factor persistent_workers num_batch_per_epoch disable_subprocess_warning multiprocessing_context "
    "pin_memory_device".split()
)
PLAIN = {  # sections that no registry builds
    "env_cfg": frozenset({"cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"}),
    "randomness": frozenset({"seed", "diff_rank_seed", "deterministic"}),
    "auto_scale_lr": frozenset({"enable", "base_batch_size"}),
    "default_hooks": frozenset(
        {"runtime_info", "timer", "logger", "param_scheduler", "checkpoint", "sampler_seed", "visualization"}
    ),
    "clip_grad": frozenset({"type", "max_norm", "norm_type", "error_if_nonfinite", "foreach", "clip_value"}),
    "paramwise_cfg": frozenset(
        "lr_mult decay_mult bias_lr_mult bias_decay_mult norm_decay_mult flat_decay_mult dwconv_decay_mult "
        "dcn_offset_lr_mult bypass_duplicate custom_keys".split()
    ),
}
DEFAULT_TYPES = {  # what the Runner builds where a section names no type
    ("train_cfg",): ("EpochBasedTrainLoop", "IterBasedTrainLoop"),
    ("val_cfg",): ("ValLoop",),
    ("test_cfg",): ("TestLoop",),
    ("optim_wrapper",): ("OptimWrapper",),
    ("optim_wrapper", "architecture"): ("OptimWrapper",),
    ("optim_wrapper", "arch_parameters"): ("OptimWrapper",),
    ("search_cfg",): ("SearchLoop",),
    ("visualizer",): ("Visualizer",),
    ("log_processor",): ("LogProcessor",),
}
META = frozenset({"type", "_scope_", "_delete_"})
READ_BY_BUILDER = {  # keys that a builder takes out before the class sees them
    "hook": {"priority"},
    "parameter scheduler": {"convert_to_iter_based"},
    "optim_wrapper": {"paramwise_cfg", "constructor"},
    "weight initializer": {"override"},
    "model": {"requires_grad", "init_cfg"},
    "loop": {"by_epoch"},
}
READ_BY_ANY_BUILDER = frozenset().union(*READ_BY_BUILDER.values())  # an import path is in no registry
HANDED_ON = {  # where a class takes any name, and which of them its **kwargs are
    "EMAHook": lambda node: find(node.get("ema_type", "ExponentialMovingAverage")),
    "VisualizationHook": lambda node: [("", _draw_function())],
}
NOT_REGISTERED = ("clip_grad", "on_trace_ready")  # their type is a word of what reads them
FREE = (
    "metainfo",
    "channel_unit_cfg",
    "parse_cfg",
    "estimator_cfg",
    "custom_keys",
    "fix_subnet",
)  # data, or MMRazor's own spelling


@cache
def _roots() -> tuple[Any, ...]:
    import mmengine.registry
    import mmengine.runner
    import mmengine.visualization  # registers its backends
    import mmpretrain.registry  # some of its registries (mixup, cutmix) are nobody's children

    from mmrazor_lite.registry import OURS

    modules = (mmengine.registry, mmpretrain.registry)
    values = [*OURS, *(value for module in modules for value in vars(module).values())]
    return tuple(
        {id(value.root): value.root for value in values if isinstance(value, mmengine.registry.Registry)}.values()
    )


def _registries() -> Iterator[Any]:
    """All there are now: what a config imports may add registries, and names to any."""
    waiting = list(_roots())
    while waiting:
        yield (registry := waiting.pop())
        waiting += registry.children.values()


def registered() -> set[str]:
    """Every name, without its scope."""
    return {name for registry in _registries() for name in registry.module_dict}


def scopes_of(name: str) -> set[str]:
    """The scopes of the registries that have a bare name."""
    return {registry.scope for registry in _registries() if name in registry.module_dict}


def find(name: Any, imports: bool = True) -> list[tuple[str, Callable]]:
    """Return (registry, class) of every registration that ``name`` (or a class itself) may mean; empty if unknown.

    An import path of a module that is registered nowhere is imported, unless ``imports`` is False.
    """
    if not isinstance(name, str):
        return [("", name)]
    scope, dot, bare = name.rpartition(".")
    held = [
        registry for registry in _registries() if bare in registry.module_dict and (not dot or registry.scope == scope)
    ]
    if not held and dot and imports:
        from mmengine.utils import get_object_from_string

        from mmrazor_lite.network_names import import_from_current_directory

        import_from_current_directory(name)
        try:
            built = get_object_from_string(name)
        except Exception as error:  # whatever the module raises
            raise UserError(f"type {short(name)} cannot be imported: {reason(error)}") from error
        return [("", built)] if callable(built) else []
    return [(registry.root.name, registry.module_dict[bare]) for registry in held]


def _draw_function() -> Callable:
    from mmpretrain.visualization import UniversalVisualizer

    return UniversalVisualizer.visualize_cls


def _names(built: Callable, node: Mapping) -> frozenset[str] | None:
    """The names that ``built``, the class of a section, takes; None where any name may be one."""
    further = HANDED_ON.get(getattr(built, "__name__", ""))
    if further is None:
        return argument_names(built)
    names = [argument_names(target) for _, target in further(node)]
    return None if None in names else own_names(built).union(*names) - {"self", "model"}


def allowed_keys(node: Mapping, path: tuple[str, ...], imports: bool = True) -> frozenset[str] | None:
    """Return the keys that ``node``, the section at ``path``, may hold; None where that cannot be known."""
    if not path:
        return TOP_LEVEL
    if "constructor" in node and path[-1] == "paramwise_cfg":
        return None
    if path[-1].endswith("dataloader"):
        return DATALOADER
    if path == ("default_hooks",):  # as in mmengine, of any name where it says what it is
        return PLAIN["default_hooks"] | {
            name for name, hook in node.items() if isinstance(hook, Mapping) and hook.get("type") is not None
        }
    if path[-1] in PLAIN:
        return PLAIN[path[-1]]
    if path == ("optim_wrapper",) and "constructor" in node and "optimizer" not in node:
        return None  # one entry per module of the model; its constructor judges the names
    types = [node["type"]] if node.get("type") is not None else DEFAULT_TYPES.get(path, ())
    names: set[str] = set(META)
    for registry, built in [entry for name in types for entry in find(name, imports)]:
        arguments = _names(built, node)
        if arguments is None:
            return None
        names |= arguments | (READ_BY_BUILDER.get(registry, set()) if registry else READ_BY_ANY_BUILDER)
    return frozenset(names) if len(names) > len(META) else None


def is_place_of_net(path: tuple[str, ...]) -> bool:
    """Whether a section may name a network of torchvision, timm or the user's own."""
    return path in (("model",), ("model", "cfg")) or path[-1] in ("architecture", "net")


def unknown_keys(cfg: Mapping, helpers: Collection[str] | None) -> list[str]:
    """What to say of each top-level key that nothing reads.

    Args:
        cfg: A config in our form.
        helpers: Its helper variables; None where that cannot be seen, and a name is one that a value was copied from.
    """
    others = [key for key in cfg if key not in TOP_LEVEL and not key.startswith("_")]
    if helpers is None:
        used = [value for key, section in cfg.items() if key in TOP_LEVEL for _, value in values(section)]
        helpers = [key for key in others if _is_copied(cfg[key], used)]
    return [_unknown_key(key) for key in others if key not in helpers]


def _is_copied(value: Any, used: Sequence[Any]) -> bool:
    copies = (part for _, part in values(value) if part is value or isinstance(part, str | dict | list | tuple))
    return any(part in used for part in copies)


def _unknown_key(key: str) -> str:
    why = not_carried.reason_of_key(key)
    return (
        f"{key}: {why}"
        if why
        else f"unknown key '{key}' at top level{nearest(key, TOP_LEVEL)}; a helper variable that its file does not use "
        "starts with '_'"
    )
