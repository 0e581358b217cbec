"""Where a plain network comes from: torchvision, timm, or the user's own code by import path.

A config names it by ``type``: ``torchvision.resnet18``, ``timm.mobilenetv3_small_100`` or ``package.module.Net``; all
other keys are arguments of what it names. timm and torchvision are imported where they are used.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine.model import BaseModel
from mmengine.registry import MODELS as ENGINE_MODELS
from mmengine.registry import Registry
from torch import nn

from mmrazor_lite import network_names
from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.network_names import (
    LIBRARIES,
    call_builder,
    check_library_name,
    library_of,
    require_module,
    title,
    without_fetching,
)
from mmrazor_lite.registry import SCOPE

WRAPPER = f"{SCOPE}.PlainClassifier"
# What PlainClassifier takes out of the short form; the rest are arguments of the network.
AROUND = ("loss", "neck", "head", "aux_weight", "topk", "cal_acc", "train_cfg", "data_preprocessor", "init_cfg")
_SCOPES = (SCOPE, "mmpretrain", "mmengine", "mmcv")


def source_of(kind: Any) -> str | None:
    """Say where the ``type`` of a config comes from: ``'torchvision'``, ``'timm'``, ``'own'``, or None if registered.

    Nothing is imported; an unknown name has the source that its spelling says.
    """
    if not isinstance(kind, str):
        registered = inspect.isclass(kind) and issubclass(kind, BaseModel)
        return "own" if callable(kind) and not registered else None
    scope, dot, _ = kind.rpartition(".")
    if not dot or scope in _SCOPES or any(scope == registry.scope for registry in _family(ENGINE_MODELS)):
        return None
    return library_of(kind) or "own"


def is_wrapper(config: Mapping) -> bool:
    """Whether a config is the explicit form: a ``PlainClassifier`` around ``net``."""
    return config.get("type") in (WRAPPER, "PlainClassifier")


def explicit(config: Mapping) -> dict[str, Any]:
    """Return ``dict(type='PlainClassifier', net=..., loss=..., ...)`` of a config that names a network directly.

    Configs of registered classes are returned as they are (copied on top level). Nothing is imported.
    """
    if is_wrapper(config):
        return {**config, "type": WRAPPER}
    if source_of(config.get("type")) is None:
        return dict(config)
    around = {key: config[key] for key in AROUND if key in config}
    return {"type": WRAPPER, "net": {k: v for k, v in config.items() if k not in AROUND}, **around}


def expand(config: Mapping, where: str) -> dict[str, Any]:
    """Return the config that builds the architecture: as :func:`explicit`, with the user's own code looked at.

    A class of the user's that is a classifier already (a ``BaseModel``, with losses of its own) stays alone.

    Raises:
        UserError: The user's code cannot be imported, or a key may mean an argument of it and one of ours.
    """
    kind = config.get("type")
    if source_of(kind) != "own":
        return explicit(config)
    builder = find_builder(kind, where)
    if inspect.isclass(builder) and issubclass(builder, BaseModel):
        return {**config, "type": builder}
    both = [key for key in AROUND if key in config and key in (_parameters(builder) or ())]
    if both:
        raise UserError(
            f"{where}: '{both[0]}' is an argument of {title(kind)} and of PlainClassifier; write "
            f"dict(type='PlainClassifier', net=dict(type={title(kind)!r}, ...), {both[0]}=...) to say which"
        )
    return explicit(config)


def offline(config: Any) -> Any:
    """Return the config of the same network without what would fetch weights; None and other models as they are."""
    if not isinstance(config, Mapping):
        return config
    config = explicit(config)
    net = config.get("net")
    if is_wrapper(config) and isinstance(net, Mapping) and source_of(net.get("type")) in LIBRARIES:
        config["net"] = without_fetching(net)
    return config


def build_net(config: Mapping, where: str = "architecture") -> nn.Module:
    """Build a network.

    Args:
        config: ``type`` and the arguments of what it names; a registered name is built by mmpretrain's registry.
        where: Names the config entry in errors.

    Raises:
        UserError: The name is unknown, a package is missing, or the arguments do not fit.
    """
    if config.get("type") is None:
        raise UserError(f"{where} has no 'type'; give torchvision.NAME, timm.NAME or the import path of a class")
    kind, arguments = config["type"], {key: value for key, value in config.items() if key != "type"}
    source = source_of(kind)
    if source is None:
        from mmpretrain.registry import MODELS  # slow to import

        if isinstance(kind, str) and MODELS.get(kind) is None:
            raise UserError(f"{where}.type={kind!r} is not registered{nearest(kind, MODELS.module_dict)}")
        return _call(lambda **options: MODELS.build({**options, "type": kind}), kind, arguments, where)
    return require_module(_call(find_builder(kind, where), kind, arguments, where), kind, where)


def find_builder(kind: Any, where: str) -> Callable[..., nn.Module]:
    """Return what builds the network that ``kind`` names; see :func:`build_net` for errors."""
    return network_names.find_builder(kind, f"{where}.type") if isinstance(kind, str) else kind


def argument_names(kind: Any, where: str) -> frozenset[str] | None:
    """Return the arguments that a network takes, or None where any name may be one (timm, ``**kwargs``)."""
    source = source_of(kind)
    if source == "timm":
        check_library_name(kind, f"{where}.type")
        return None
    builder = find_builder(kind, where)
    own = _parameters(builder)
    if source != "torchvision" or own is not None:
        return own
    signature = inspect.signature(builder, eval_str=True)  # its **kwargs go to the class it says it returns
    passed_on = _parameters(signature.return_annotation) if inspect.isclass(signature.return_annotation) else None
    return None if passed_on is None else passed_on | {"weights", "progress"}


def _call(builder: Callable, kind: Any, arguments: dict[str, Any], where: str) -> Any:
    if source_of(kind) == "timm" and arguments.get("checkpoint_path"):
        raise UserError(
            f"{where}.checkpoint_path: give init_cfg=dict(type='Pretrained', checkpoint=FILE) instead; it is read "
            "without running anything in the file, and strictly"
        )
    return call_builder(builder, kind, arguments, where)


def _parameters(builder: Callable) -> frozenset[str] | None:
    """Return the names of the parameters of a class or function; None where it takes any or does not say."""
    try:
        parameters = inspect.signature(builder).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def _family(registry: Registry) -> Iterator[Registry]:
    yield registry
    for child in registry.children.values():
        yield from _family(child)
