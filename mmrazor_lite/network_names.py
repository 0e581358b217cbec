"""Networks by name: torchvision's, timm's, or the user's own code by import path.

Needs torch alone, and timm or torchvision where they are asked for. What else a config may name is known by
:mod:`mmrazor_lite.models.classifiers.nets`.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from mmrazor_lite import shipped
from mmrazor_lite.errors import UserError, nearest, reason

LIBRARIES = ("torchvision", "timm")
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


def library_of(kind: str) -> str | None:
    """Say which of the libraries a name such as ``timm.resnet18`` is of; None of an import path of other code."""
    package, name = library_name(kind)
    if package == "torchvision" and "." not in name:
        return package
    return package if package == "timm" and name.split(".")[0] not in ("models", "layers") else None


def library_name(kind: str) -> tuple[str, str]:
    """Split ``torchvision.resnet18`` (or ``torchvision.models.resnet18``) into package and name of the model."""
    package, _, name = kind.partition(".")
    if name.startswith("models.") and name.count(".") == 1:
        name = name.removeprefix("models.")
    return package, name


def without_fetching(net: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the same network of a library, without what would fetch its weights."""
    implied = _BY_WEIGHTS.get(library_name(net["type"])[1], {}) if net.get("weights") else {}
    # A dict of pretrained_cfg can set widths too, so it stays and is refused when the file is read.
    drop = FETCHING - {"pretrained_cfg", "pretrained_cfg_overlay"}
    return {**implied, **{key: value for key, value in net.items() if key not in drop}}


def find_builder(kind: str, where: str) -> Callable[..., nn.Module]:
    """Return what builds the network of this name.

    An import path is searched as ``python -m`` does it: the current directory first, which stays on ``sys.path``.

    Args:
        kind: ``torchvision.NAME``, ``timm.NAME`` or ``package.module.NAME``.
        where: Says in errors where the name is given, such as ``--model`` or ``model.type``.

    Raises:
        UserError: The name is unknown, or a package is missing.
    """
    library, name = library_of(kind), library_name(kind)[1]
    if library is None:
        return own_builder(kind, where)
    check_library_name(kind, where)
    if library == "torchvision":
        from torchvision.models import get_model_builder

        return get_model_builder(name)
    from timm import create_model

    return lambda **arguments: create_model(name, **arguments)


def call_builder(builder: Callable, kind: Any, arguments: dict[str, Any], where: str) -> Any:
    """Call what builds a network, and tell what it raises as a :class:`UserError` that names ``kind``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torchvision announces another way to draw first weights
            return builder(**arguments)
    except UserError:
        raise
    except Exception as error:  # whatever a constructor raises for arguments it does not take
        raise UserError(f"{where}: {title(kind)} cannot be built ({reason(error)})") from error


def require_module(net: Any, kind: Any, where: str) -> nn.Module:
    """Return ``net``, which ``kind`` has built; raise :class:`UserError` where it is no module."""
    if not isinstance(net, nn.Module):
        raise UserError(f"{where}: {title(kind)} returned a {type(net).__name__}, not a torch.nn.Module")
    return net


def check_library_name(kind: str, where: str) -> None:
    """Raise ``UserError`` when torchvision or timm has no classifier of this name, or timm is missing."""
    package, name = library_name(kind)
    known = library_names(package)
    if name not in known:
        task = _TASKS.get(package) and _task_of(name)
        if task:
            python = (
                "; in Python, OneShotChannelMutator().prepare(NETWORK, (3, H, W)) makes its widths a choice, where "
                f"NETWORK is torchvision.models.segmentation.{name}()"
            )
            raise UserError(
                f"{where}={kind!r} is a network for {task}, configs train classifiers of images: allowed are the "
                "names of torchvision.models.list_models(module=torchvision.models)"
                f"{python if task == 'segmentation' else ''}"
            )
        hint = nearest(name, known)
        listed = "torchvision.models.list_models(module=torchvision.models)"
        how = hint or f"; {listed if package == 'torchvision' else 'timm.list_models()'} shows the names"
        raise UserError(f"{where}={kind!r}: {package} has no model '{name}'{how}")


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


def own_builder(kind: str, where: str) -> Callable[..., nn.Module]:
    """Import the class or function of an import path; see :func:`find_builder` for arguments and errors."""
    module_name, _, name = kind.rpartition(".")
    if not module_name:
        raise UserError(f"{where}={kind!r}: give torchvision.NAME, timm.NAME or an import path such as my_net.MyNet")
    folder = import_from_current_directory(kind)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UserError(
                f"{where}={kind!r} is not registered, and there is no module '{error.name}' in the current "
                f"directory ({folder}) or among the installed packages{_copied(module_name)}"
            ) from None
        raise UserError(f"{where}={kind!r}: importing '{module_name}' failed: {reason(error)}") from error
    except Exception as error:  # whatever the user's module raises
        raise UserError(f"{where}={kind!r}: importing '{module_name}' failed: {reason(error)}") from error
    if not hasattr(module, name):
        raise UserError(f"{where}={kind!r}: module '{module_name}' has no '{name}'{nearest(name, vars(module))}")
    found = getattr(module, name)
    if not callable(found) or (inspect.isclass(found) and not issubclass(found, nn.Module)):
        what = f"the class {found.__name__}" if inspect.isclass(found) else f"a {type(found).__name__}"
        raise UserError(
            f"{where}={kind!r} is {what}; give a subclass of torch.nn.Module or a function that returns a module"
        )
    return found


def _copied(module: str) -> str:
    """The hint for a module of the example configs, which is found beside a copy of them."""
    name = shipped.offered(f"{module.replace('.', '/')}.py") if module.startswith("configs.") else None
    return f": 'mmrazor-lite configs copy {name} configs' brings it" if name else ""


def title(kind: Any) -> str:
    """What people call the network that ``kind`` names or builds."""
    return kind if isinstance(kind, str) else getattr(kind, "__qualname__", type(kind).__name__)
