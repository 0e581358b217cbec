"""From the config that a checkpoint carries back to a model, without trusting it.

mmengine's registries import whatever a dotted ``type`` names, and many classes read files when asked to. A carried
config is therefore plain data and may name registered classes and the classifiers of torchvision and timm only. Its
values are numbers, and text only where :mod:`.allowed_text` declares it: no name of a file, no address, no code. Code
of the user's own is never imported: it is given as a module. What is built may be as large as the weights beside it
make likely.
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
from torch import Tensor, nn

from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.export.allowed_text import is_word
from mmrazor_lite.export.build_limit import PER_SECOND, SECONDS, bounded
from mmrazor_lite.export.carried_data import check_plain
from mmrazor_lite.models.classifiers import PlainClassifier, as_classifier, explicit, offline, source_of
from mmrazor_lite.models.classifiers.nets import is_wrapper
from mmrazor_lite.network_names import FETCHING, LIBRARIES, check_library_name
from mmrazor_lite.plain_data import plain
from mmrazor_lite.randomness import seeded
from mmrazor_lite.registry import MODELS, MUTATORS, SCOPE

_SCOPES = (SCOPE, "mmpretrain", "mmengine", "mmcv")
_TRAINING_KEYS = ("init_cfg", "train_cfg", "batch_augments")  # the weights are given, and it is not trained
_LOADS = ("pretrained", "checkpoint", "prototype", "weights", "load_from")  # what is not False there is fetched or read
MAX_MODULES, MAX_ELEMENTS = 20_000, 1 << 31  # of what it builds, where no weights are given to compare with
_GATEWAYS = ("HuggingFaceClassifier", "ImageToImageRetriever")  # they exist to fetch or read something


def carried(config: Any) -> Any:
    """Return a copy of a model config as plain data, without what only training needs."""
    return plain(config, without=_TRAINING_KEYS)


def rebuild(
    architecture: Any, data_preprocessor: Any, where: str, weights: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Build the plain model of a carried config, with arbitrary weights.

    Args:
        architecture: The carried config of the model.
        data_preprocessor: The carried config of its preprocessor, or ``None``.
        where: Names the file in errors.
        weights: Those that the file holds; what is built may be a supernet of theirs, and no more.

    Raises:
        UserError: The config names a class that is not registered, is no plain data, would read or fetch something,
            builds far more than the weights are for, or its class refuses the arguments.
    """
    config = carried(check_architecture(architecture, where))
    if data_preprocessor is not None:
        check_config(data_preprocessor, where, "data_preprocessor")
        cls = _known_builder(config["type"])
        if inspect.isclass(cls) and issubclass(cls, BaseModel):
            config["data_preprocessor"] = carried(data_preprocessor)
    from mmpretrain.registry import MODELS as PRETRAIN_MODELS

    modules, elements, held = MAX_MODULES, MAX_ELEMENTS, MAX_ELEMENTS
    if weights is not None:  # the supernet of a subnet has several operators for one, and wider layers
        held = sum(tensor.numel() for tensor in weights.values())
        modules = min(modules, 2000 + 50 * len(weights))
        elements = min(elements, (1 << 22) + 300 * held)
    seconds, what = SECONDS + held / PER_SECOND, f"{where}: the carried architecture"
    # The random states of the caller stay.
    with seeded(0), _default_scope("mmpretrain"), bounded(modules, elements, what, seconds):
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
                "model=MyNet(...)), of a command --model"
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
    check_plain(config, where, "mutator")
    name = str(config.get("type")).removeprefix(f"{SCOPE}.") if isinstance(config, dict) else None
    if name not in MUTATORS.module_dict:
        known = MUTATORS.module_dict
        raise UserError(f"{where}: mutator.type {name!r} is not one of {', '.join(known)}{nearest(str(name), known)}")
    if not MUTATORS.module_dict[name].__module__.startswith(f"{SCOPE}."):  # ours compare text with names of layers
        rest = {key: value for key, value in config.items() if key != "type"}
        for path, key, value, builder in _entries(rest, "mutator", builder=MUTATORS.module_dict[name]):
            if isinstance(value, str) and not is_word(value, key, builder):
                _refuse_text(path, value, where)
    return _build(MUTATORS, {**config, "type": name, "_scope_": SCOPE}, f"{where}: mutator")


def check_config(config: Any, where: str, key: str) -> None:
    """Refuse a carried model config that is not plain data naming registered classes.

    Raises:
        UserError: Names the file, the key and the value.
    """
    if not isinstance(config, dict):
        raise UserError(f"{where}: carries no {key} to build (expected a config dict)")
    check_plain(config, where, key)
    for path, name, value, builder in _entries(config, key):
        if name == "type" and _known_builder(value) is None:
            raise UserError(f"{where}: {path}: {value!r} is not a registered model or layer; nothing was run")
        if name == "_scope_" and value not in _SCOPES:
            raise UserError(f"{where}: {path}: unknown scope {value!r} (allowed: {', '.join(_SCOPES)})")
        elif name in _LOADS and value not in (None, False, ""):
            raise UserError(f"{where}: {path}: {short(value)} would load another file; a carried config must not")
        elif name not in ("type", "_scope_") and isinstance(value, str) and not is_word(value, name, builder):
            _refuse_text(path, value, where)


def _refuse_text(path: str, value: str, where: str) -> None:
    raise UserError(
        f"{where}: {path}: {short(value)} is no word that is known there, it may name a file, which a carried config "
        "must not; give a fresh module of full size: load_subnet(path, architecture=...)"
    )


def _check_library_net(net: Mapping[str, Any], where: str) -> None:
    """Refuse a model of torchvision or timm that does not exist, or that would fetch its weights."""
    check_library_name(net["type"], f"{where}: architecture.type")
    for key in sorted(FETCHING & set(net)):
        if net[key]:
            raise UserError(
                f"{where}: architecture.{key}: {str(net[key])!r} would load another file; a carried config must not"
            )


def _entries(
    value: Any, path: str, name: str = "", builder: Callable | None = None
) -> Iterator[tuple[str, str, Any, Callable | None]]:
    """Yield (path, key, value, class) of everything that will be built, without what training alone needs.

    The items of a list have the key of the list; the class is that of the innermost dict with a type.
    """
    if isinstance(value, dict):
        builder = _known_builder(value["type"]) if "type" in value else builder
        for key, item in value.items():
            if key in _TRAINING_KEYS:
                continue
            yield f"{path}.{key}", str(key), item, builder
            yield from _entries(item, f"{path}.{key}", str(key), builder)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if not isinstance(item, (dict, list, tuple)):
                yield f"{path}[{index}]", name, item, builder
            yield from _entries(item, f"{path}[{index}]", name, builder)


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
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{where} {config['type']}: cannot be built ({reason})") from None


@contextlib.contextmanager
def _default_scope(scope: str) -> Iterator[None]:
    with DefaultScope.overwrite_default_scope(scope):
        yield


def _register() -> None:
    """Import the packages whose models may be named, without their chatter."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for package in ("mmpretrain.models", f"{SCOPE}.models", f"{SCOPE}.models.registered"):
            importlib.import_module(package)
