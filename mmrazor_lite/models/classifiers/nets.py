"""Where a plain network comes from: torchvision, timm, or the user's own code by import path.

A config names it by ``type``: ``torchvision.resnet18``, ``timm.mobilenetv3_small_100`` or ``package.module.Net``; all
other keys are arguments of what it names. timm and torchvision are imported where they are used.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine.model import BaseModel
from mmengine.registry import MODELS as ENGINE_MODELS
from mmengine.registry import Registry
from torch import nn

from mmrazor_lite.errors import UserError, nearest, reason
from mmrazor_lite.registry import SCOPE

WRAPPER = f"{SCOPE}.PlainClassifier"
LIBRARIES = ("torchvision", "timm")
# What PlainClassifier takes out of the short form; the rest are arguments of the network.
AROUND = ("loss", "neck", "head", "aux_weight", "topk", "cal_acc", "train_cfg", "data_preprocessor", "init_cfg")
# Arguments of torchvision's and timm's builders with which they fetch or read a file.
FETCHING = frozenset(
    "weights weights_backbone pretrained pretrained_cfg pretrained_cfg_overlay pretrained_strict checkpoint_path "
    "cache_dir progress".split()
)
# What torchvision's pretrained weights change in the network itself.
_BY_WEIGHTS = {
    "googlenet": {"transform_input": True, "aux_logits": False},
    "inception_v3": {"transform_input": True},
}
_TASKS = {"torchvision": ("segmentation", "detection", "video", "optical flow", "quantization")}
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
    package, name = _library_name(kind)
    if package == "torchvision" and "." not in name:
        return "torchvision"
    if package == "timm" and name.split(".")[0] not in ("models", "layers"):
        return "timm"
    return "own"


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
            f"{where}: '{both[0]}' is an argument of {_title(kind)} and of PlainClassifier; write "
            f"dict(type='PlainClassifier', net=dict(type={_title(kind)!r}, ...), {both[0]}=...) to say which"
        )
    return explicit(config)


def offline(config: Any) -> Any:
    """Return the config of the same network without what would fetch weights; None and other models as they are."""
    if not isinstance(config, Mapping):
        return config
    config = explicit(config)
    net = config.get("net")
    if is_wrapper(config) and isinstance(net, Mapping) and source_of(net.get("type")) in LIBRARIES:
        implied = _BY_WEIGHTS.get(_library_name(net["type"])[1], {}) if net.get("weights") else {}
        # A dict of pretrained_cfg can set widths too, so it stays and is refused when the file is read.
        drop = FETCHING - {"pretrained_cfg", "pretrained_cfg_overlay"}
        config["net"] = {**implied, **{key: value for key, value in net.items() if key not in drop}}
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
    net = _call(find_builder(kind, where), kind, arguments, where)
    if not isinstance(net, nn.Module):
        raise UserError(f"{where}: {_title(kind)} returned a {type(net).__name__}, not a torch.nn.Module")
    return net


def find_builder(kind: Any, where: str) -> Callable[..., nn.Module]:
    """Return what builds the network that ``kind`` names; see :func:`build_net` for errors.

    An import path is searched as ``python -m`` does it: the current directory first, which stays on ``sys.path``.
    """
    if not isinstance(kind, str):
        return kind
    name, source = _library_name(kind)[1], source_of(kind)
    if source == "own":
        return _own_builder(kind, where)
    check_library_name(kind, where)
    if source == "torchvision":
        from torchvision.models import get_model_builder

        return get_model_builder(name)
    from timm import create_model

    return lambda **arguments: create_model(name, **arguments)


def check_library_name(kind: str, where: str) -> None:
    """Raise ``UserError`` when torchvision or timm has no classifier of this name, or timm is missing."""
    package, name = _library_name(kind)
    known = library_names(package)
    if name not in known:
        task = _TASKS.get(package) and _task_of(name)
        if task:
            python = (
                "; in Python, OneShotChannelMutator().prepare(NETWORK, (3, H, W)) makes its widths a choice, where "
                f"NETWORK is torchvision.models.segmentation.{name}()"
            )
            raise UserError(
                f"{where}.type={kind!r} is a network for {task}, configs train classifiers of images: allowed are the "
                "names of torchvision.models.list_models(module=torchvision.models)"
                f"{python if task == 'segmentation' else ''}"
            )
        hint = nearest(name, known)
        listed = "torchvision.models.list_models(module=torchvision.models)"
        how = hint or f"; {listed if package == 'torchvision' else 'timm.list_models()'} shows the names"
        raise UserError(f"{where}.type={kind!r}: {package} has no model '{name}'{how}")


def _task_of(name: str) -> str | None:
    """Return the task of torchvision's model of this name, where it is another than the classification of images."""
    import torchvision

    for task in _TASKS["torchvision"]:
        module = getattr(torchvision.models, task.replace(" ", "_"))
        if name in torchvision.models.list_models(module=module):
            return task
    return None


def library_names(package: str) -> frozenset[str]:
    """Return the names of all classifiers of ``torchvision`` or ``timm``; timm's also with the tag of their weights."""
    if package == "torchvision":
        import torchvision

        return frozenset(torchvision.models.list_models(module=torchvision.models))
    try:
        import timm
    except ImportError:
        raise UserError("models of timm need the package 'timm': pip install 'mmrazor_lite[timm]'") from None
    return frozenset(timm.list_models()) | frozenset(timm.list_models(pretrained=True))


def argument_names(kind: Any, where: str) -> frozenset[str] | None:
    """Return the arguments that a network takes, or None where any name may be one (timm, ``**kwargs``)."""
    source = source_of(kind)
    if source == "timm":
        check_library_name(kind, where)
        return None
    builder = find_builder(kind, where)
    own = _parameters(builder)
    if source != "torchvision" or own is not None:
        return own
    signature = inspect.signature(builder, eval_str=True)  # its **kwargs go to the class it says it returns
    passed_on = _parameters(signature.return_annotation) if inspect.isclass(signature.return_annotation) else None
    return None if passed_on is None else passed_on | {"weights", "progress"}


def import_from_current_directory(path: str) -> str:
    """Let the import path of a config find its module there, first, as ``python -m`` does; return the directory.

    Nothing changes where the directory has no such module: folders in it that are called as packages would else be
    imported in their place by whatever imports those later.
    """
    folder = os.getcwd()
    top = os.path.join(folder, path.partition(".")[0])
    if not os.path.isdir(top) and not os.path.isfile(f"{top}.py"):
        return folder
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    return folder


def _own_builder(kind: str, where: str) -> Callable[..., nn.Module]:
    module_name, _, name = kind.rpartition(".")
    folder = import_from_current_directory(kind)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UserError(
                f"{where}.type={kind!r} is not registered, and there is no module '{error.name}' in the current "
                f"directory ({folder}) or among the installed packages"
            ) from None
        raise UserError(f"{where}.type={kind!r}: importing '{module_name}' failed: {reason(error)}") from error
    except Exception as error:  # whatever the user's module raises
        raise UserError(f"{where}.type={kind!r}: importing '{module_name}' failed: {reason(error)}") from error
    if not hasattr(module, name):
        raise UserError(f"{where}.type={kind!r}: module '{module_name}' has no '{name}'{nearest(name, vars(module))}")
    found = getattr(module, name)
    if not callable(found) or (inspect.isclass(found) and not issubclass(found, nn.Module)):
        what = f"the class {found.__name__}" if inspect.isclass(found) else f"a {type(found).__name__}"
        raise UserError(
            f"{where}.type={kind!r} is {what}; give a subclass of torch.nn.Module or a function that returns a module"
        )
    return found


def _call(builder: Callable, kind: Any, arguments: dict[str, Any], where: str) -> Any:
    if source_of(kind) == "timm" and arguments.get("checkpoint_path"):
        raise UserError(
            f"{where}.checkpoint_path: give init_cfg=dict(type='Pretrained', checkpoint=FILE) instead; it is read "
            "without running anything in the file, and strictly"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torchvision announces another way to draw first weights
            return builder(**arguments)
    except UserError:
        raise
    except Exception as error:  # whatever a constructor raises for arguments it does not take
        raise UserError(f"{where}: {_title(kind)} cannot be built ({reason(error)})") from error


def _parameters(builder: Callable) -> frozenset[str] | None:
    """Return the names of the parameters of a class or function; None where it takes any or does not say."""
    try:
        parameters = inspect.signature(builder).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def _library_name(kind: str) -> tuple[str, str]:
    """Split ``torchvision.resnet18`` (or ``torchvision.models.resnet18``) into package and name of the model."""
    package, _, name = kind.partition(".")
    if name.startswith("models.") and name.count(".") == 1:
        name = name.removeprefix("models.")
    return package, name


def _family(registry: Registry) -> Iterator[Registry]:
    yield registry
    for child in registry.children.values():
        yield from _family(child)


def _title(kind: Any) -> str:
    return kind if isinstance(kind, str) else getattr(kind, "__qualname__", type(kind).__name__)
