"""From the config that a checkpoint carries back to a model, without trusting it.

mmengine's registries import whatever a dotted ``type`` names, and many classes read files when asked to. A carried
config is therefore plain data, may name registered classes and the classifiers of torchvision and timm only, and none
of its values may name a file to load. Code of the user's own is never imported: it is given as a module.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine.model import BaseModel
from mmengine.registry import MODELS as ENGINE_MODELS
from mmengine.registry import DefaultScope, Registry
from torch import nn

from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.models.classifiers import PlainClassifier, as_classifier, explicit, offline, source_of
from mmrazor_lite.models.classifiers.nets import FETCHING, LIBRARIES, check_library_name, is_wrapper
from mmrazor_lite.randomness import seeded
from mmrazor_lite.registry import MODELS, MUTATORS, SCOPE

_SCOPES = (SCOPE, "mmpretrain", "mmengine", "mmcv")
_TRAINING_KEYS = ("init_cfg", "train_cfg", "batch_augments")  # the weights are given, and it is not trained
_LOADS = (
    "pretrained",
    "checkpoint",
    "ckpt",
    "prototype",
    "tokenizer",
    "vocab",
    "path",
    "file",
    "url",
    "load",
    "channel_cfg",
    "fix_subnet",
)
_FETCHES = ("://", "hf-hub:", "hf_hub:", "local-dir:")
_GATEWAYS = ("HuggingFaceClassifier", "ImageToImageRetriever")  # they exist to fetch or read something


def carried(config: Any) -> Any:
    """Return a copy of a model config as plain data, without what only training needs."""
    if isinstance(config, Mapping):
        return {str(key): carried(value) for key, value in config.items() if key not in _TRAINING_KEYS}
    return [carried(item) for item in config] if isinstance(config, (list, tuple)) else config


def rebuild(architecture: Any, data_preprocessor: Any, where: str) -> nn.Module:
    """Build the plain model of a carried config, with arbitrary weights.

    Args:
        architecture: The carried config of the model.
        data_preprocessor: The carried config of its preprocessor, or ``None``.
        where: Names the file in errors.

    Raises:
        UserError: The config names a class that is not registered, is no plain data, would read or fetch something,
            or its class refuses the arguments.
    """
    config = carried(check_architecture(architecture, where))
    if data_preprocessor is not None:
        check_config(data_preprocessor, where, "data_preprocessor")
        cls = _known_builder(config["type"])
        if inspect.isclass(cls) and issubclass(cls, BaseModel):
            config["data_preprocessor"] = carried(data_preprocessor)
    from mmpretrain.registry import MODELS as PRETRAIN_MODELS

    with seeded(0), _default_scope("mmpretrain"):  # the random states of the caller stay
        return _build(PRETRAIN_MODELS, config, f"{where}: architecture")


def check_architecture(architecture: Any, where: str) -> dict[str, Any]:
    """Return the explicit form of a carried architecture after everything in it was found harmless.

    Raises:
        UserError: As :func:`rebuild`; nothing was built, and nothing imported but torchvision or timm.
    """
    _register()
    if not isinstance(architecture, dict):
        raise UserError(f"{where}: carries no architecture to build (expected a config dict)")
    config = explicit(architecture)
    rest = config
    if is_wrapper(config):
        net = config.get("net")
        if not isinstance(net, dict) or net.get("type") is None:
            raise UserError(f"{where}: architecture.net is {net!r}, expected a config dict with a 'type'")
        source = source_of(net["type"])
        if source == "own":
            raise UserError(
                f"{where}: architecture.type: {str(net['type'])!r} is not a registered model, and code of your own is "
                "never imported from a file; nothing was run; give a fresh module of full size: load_subnet(path, "
                "architecture=MyNet(...))"
            )
        if source in LIBRARIES:
            _check_library_net(net, where)
            rest = {**config, "net": {key: value for key, value in net.items() if key != "type"}}
    check_config(rest, where, "architecture")
    if "type" not in config:
        raise UserError(f"{where}: the carried architecture has no 'type'")
    return config


def is_rebuildable(architecture: Any) -> bool:
    """Whether a file with this architecture config can be read without the module being given."""
    try:
        check_architecture(carried(offline(architecture)), "architecture")
    except UserError:
        return False
    return True


def put_around(net: nn.Module, architecture: Any, where: str) -> nn.Module:
    """Return the model of a carried config with ``net`` in the place of its network.

    Args:
        net: A full-size network, or the whole model where the config is of one that has losses of its own.
        architecture: The carried config; only a neck and a head in it are built.
        where: Names the file in errors.
    """
    _register()
    around = explicit(architecture) if isinstance(architecture, dict) else {}
    model = as_classifier(net)
    if model is net or not is_wrapper(around):
        return model
    options = carried({key: value for key, value in around.items() if key not in ("type", "net")})
    check_config(options, where, "architecture")
    with seeded(0), _default_scope("mmpretrain"):
        try:
            return PlainClassifier(net, **options)
        except TypeError as error:
            raise UserError(f"{where}: architecture: cannot be built ({' '.join(str(error).split())[:300]})") from None


def rebuild_mutator(config: Any, where: str) -> Any:
    """Build the mutator of a carried config; errors as :func:`rebuild`."""
    _register()
    _check_plain(config, where, "mutator")
    name = str(config.get("type")).removeprefix(f"{SCOPE}.") if isinstance(config, dict) else None
    if name not in MUTATORS.module_dict:
        known = MUTATORS.module_dict
        raise UserError(f"{where}: mutator.type {name!r} is not one of {', '.join(known)}{nearest(str(name), known)}")
    return _build(MUTATORS, {**config, "type": name, "_scope_": SCOPE}, f"{where}: mutator")


def check_config(config: Any, where: str, key: str) -> None:
    """Refuse a carried model config that is not plain data naming registered classes.

    Raises:
        UserError: Names the file, the key and the value.
    """
    if not isinstance(config, dict):
        raise UserError(f"{where}: carries no {key} to build (expected a config dict)")
    _check_plain(config, where, key)
    for path, name, value in _entries(config, key):
        if name == "type" and _known_builder(value) is None:
            raise UserError(f"{where}: {path}: {value!r} is not a registered model or layer; nothing was run")
        if name == "_scope_" and value not in _SCOPES:
            raise UserError(f"{where}: {path}: unknown scope {value!r} (allowed: {', '.join(_SCOPES)})")
        loads = any(word in name.lower() for word in _LOADS) and name != "use_checkpoint"
        if (loads and (value is True or (isinstance(value, str) and value))) or _fetches(value):
            raise UserError(f"{where}: {path}: {value!r} would load another file; a carried config must not")


def _check_library_net(net: Mapping[str, Any], where: str) -> None:
    """Refuse a model of torchvision or timm that does not exist, or that would fetch its weights."""
    check_library_name(net["type"], f"{where}: architecture")
    for key in sorted(FETCHING & set(net)):
        if net[key]:
            raise UserError(
                f"{where}: architecture.{key}: {str(net[key])!r} would load another file; a carried config must not"
            )


def _check_plain(value: Any, where: str, path: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, (str, int)):
                raise UserError(f"{where}: {path}: the key {key!r} is not text")
            _check_plain(item, where, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_plain(item, where, f"{path}[{index}]")
    elif not (value is None or isinstance(value, (str, int, float, bool))):
        raise UserError(f"{where}: {path}: holds a {type(value).__name__}; a carried config is plain data")


def _entries(value: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """Yield (path, key, value) of everything that will be built; what training alone needs is dropped before that."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in _TRAINING_KEYS:
                continue
            yield f"{path}.{key}", str(key), item
            yield from _entries(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _entries(item, f"{path}[{index}]")


def _fetches(value: Any) -> bool:
    return isinstance(value, str) and any(word in value for word in _FETCHES)


def _known_builder(name: Any) -> Callable[..., nn.Module] | None:
    """Look ``name`` up in what is registered already: a registry's own look-up imports dotted names.

    Models and layers are classes; our own backbones may also be functions that return one.
    """
    if not isinstance(name, str):
        return None
    from mmpretrain.registry import MODELS as PRETRAIN_MODELS

    scope, _, short = name.rpartition(".")
    places = {SCOPE: [MODELS], "mmpretrain": [PRETRAIN_MODELS]}
    everywhere = [MODELS, PRETRAIN_MODELS, ENGINE_MODELS]
    if (scope and scope not in _SCOPES) or short in _GATEWAYS:
        return None
    for registry in places.get(scope, everywhere if not scope else [ENGINE_MODELS]):
        found = registry.module_dict.get(short)
        is_model = inspect.isclass(found) and issubclass(found, nn.Module)
        if is_model or (registry is MODELS and inspect.isfunction(found)):
            return found
    return None


def _build(registry: Registry, config: Mapping[str, Any], where: str) -> Any:
    try:
        return registry.build(dict(config))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except Exception as error:  # whatever a model's constructor raises for arguments it does not take
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{where} {config['type']}: cannot be built ({reason})") from None


@contextlib.contextmanager
def _default_scope(scope: str) -> Iterator[None]:
    with DefaultScope.overwrite_default_scope(scope):
        yield


def _register() -> None:
    """Import the packages whose models may be named, without their chatter."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for package in ("mmpretrain.models", f"{SCOPE}.models"):
            importlib.import_module(package)
