"""From config dicts to the parts of an algorithm."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import is_distributed
from mmengine.model import BaseModel
from mmengine.registry import Registry
from torch import nn

from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.models.classifiers import as_classifier
from mmrazor_lite.models.classifiers.nets import expand
from mmrazor_lite.plain_data import plain
from mmrazor_lite.registry import SCOPE


def plain_config(value: Any) -> Any:
    """Return a copy of a config value made of plain dicts, lists and scalars; classes become their import paths."""

    def settled(part: Any) -> Any:
        named = inspect.isclass(part) or inspect.isfunction(part)
        return f"{part.__module__}.{part.__qualname__}" if named else copy.deepcopy(part)

    return plain(value, settled)


def build_part(registry: Registry, value: Any, key: str) -> Any:
    """Build ``value`` from one of our registries; an object that is built already is returned as it is.

    Raises:
        UserError: No type, or one that is not registered; ``key`` names the config entry.
    """
    if not isinstance(value, Mapping):
        return value
    registry.import_from_location()
    config = copy.deepcopy(dict(value))
    name = config.get("type")
    if isinstance(name, str) and name.removeprefix(f"{SCOPE}.") not in registry.module_dict:
        names = sorted(registry.module_dict)
        raise UserError(f"{key}.type={name!r} is not registered; known: {', '.join(names)}{nearest(name, names)}")
    if name is None:
        raise UserError(f"{key} has no 'type'; known: {', '.join(sorted(registry.module_dict))}")
    return registry.build({**config, "_scope_": SCOPE})


def build_architecture(architecture: Mapping | nn.Module, data_preprocessor: Mapping | nn.Module | None) -> nn.Module:
    """Build the plain model that an algorithm wraps.

    A classifier merges its ``train_cfg`` (mixup, cutmix) into its data preprocessor, so the preprocessor goes into the
    model's config, and the algorithm uses the one the model made of it.

    Args:
        architecture: Config of a model in mmpretrain's registry; ``torchvision.NAME``, ``timm.NAME`` or the import
            path of the user's own network as ``type``, with its arguments and those of ``PlainClassifier``; or a
            module, around which a ``PlainClassifier`` is put unless it has losses of its own.
        data_preprocessor: Preprocessor of the algorithm's config.

    Raises:
        UserError: The name is unknown or its arguments do not fit.
    """
    if isinstance(architecture, nn.Module):
        return _without_sync_batchnorm(as_classifier(architecture, data_preprocessor))
    from mmpretrain.registry import MODELS  # slow to import

    config = expand(copy.deepcopy(dict(architecture)), "algorithm.architecture")
    name = config.get("type")
    kind = MODELS.get(name) if isinstance(name, str) else name
    if kind is None:
        names = MODELS.module_dict
        raise UserError(f"algorithm.architecture.type={name!r} is not registered{nearest(str(name), names)}")
    if isinstance(kind, type) and issubclass(kind, BaseModel) and data_preprocessor is not None:
        own = config.get("data_preprocessor")
        if own is not None and own != data_preprocessor:
            raise UserError("data_preprocessor is given twice, for the algorithm and for its architecture; keep one")
        config["data_preprocessor"] = copy.deepcopy(data_preprocessor)
    return _without_sync_batchnorm(MODELS.build(config))


def at_width(architecture: Mapping | nn.Module, width_mult: float | None) -> Mapping | nn.Module:
    """The config of an architecture with another ``width_mult``, and a head of the width that comes with it.

    Raises:
        UserError: It is no config, or its backbone has no ``width_mult``.
    """
    if width_mult is None:
        return architecture
    from mmpretrain.registry import MODELS  # slow to import

    backbone = architecture.get("backbone", {}) if isinstance(architecture, Mapping) else {}
    kind = MODELS.get(backbone["type"]) if isinstance(backbone.get("type"), str) else None
    if not hasattr(kind, "features_at"):
        raise UserError("width_mult needs a config whose backbone has one, such as OFAMobileNetV3; remove it")
    result = {**architecture, "backbone": {**backbone, "width_mult": width_mult}}
    if "in_channels" in architecture.get("head", {}):
        result["head"] = {**architecture["head"], "in_channels": kind.features_at(**result["backbone"])}
    return result


def _without_sync_batchnorm(model: nn.Module) -> nn.Module:
    """Replace synchronised batch norms where they cannot run: in one process, or on CPU tensors.

    By exactly ``BatchNorm2d``: mmengine's own replacement is a class of its own, which no mutator knows.
    """
    if is_distributed() and torch.cuda.is_available():
        return model
    plain_norms = {
        module: _plain_batch_norm(module) for module in model.modules() if isinstance(module, nn.SyncBatchNorm)
    }
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child in plain_norms:
                setattr(parent, name, plain_norms[child])
    return plain_norms.get(model, model)


def _plain_batch_norm(norm: nn.SyncBatchNorm) -> nn.BatchNorm2d:
    """Return the same norm on the same tensors, for one process."""
    options = (norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    result = nn.BatchNorm2d(*options)
    result._parameters = norm._parameters
    result._buffers = norm._buffers
    return result.train(norm.training)
