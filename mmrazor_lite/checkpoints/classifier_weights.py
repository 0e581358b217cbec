"""The classifier of a network: what a file of other classes cannot give."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mmrazor_lite.errors import UserError

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def classifier_of(
    model: nn.Module, given: Mapping[str, Tensor | None], names: Mapping[str, str], where: str
) -> set[str]:
    """Return the names (keys of ``names``) of the weights of the classifier of ``model``.

    Where layers have another number of outputs in the file and all else of them is equal, they are the classifier,
    auxiliary ones included, if that is one and the same number of classes; otherwise it is the layer that the network
    itself calls so, or its last one.

    Args:
        model: A network, or an algorithm around it.
        given: The tensors of the file; None for what it lacks.
        names: The names of the model without prefixes, to its own.
        where: Names the file in errors.

    Raises:
        UserError: The module has no classifier: it is a backbone.
    """
    modules = dict(model.named_modules())
    target = model.state_dict()
    owner = _owners(modules)
    owned: dict[str, list[str]] = {}  # layer -> keys of its weights
    for key, name in names.items():
        layer = owner.get(target[name].data_ptr())
        if layer is not None:
            owned.setdefault(layer, []).append(key)
    classes = {}
    for layer, keys in owned.items():
        pairs = [(given[key], target[names[key]]) for key in keys]
        if all(theirs is not None and _differs_in_outputs(theirs, ours) for theirs, ours in pairs):
            classes[layer] = (len(pairs[0][0]), len(pairs[0][1]))  # type: ignore[arg-type]
    found = {key for layer in classes for key in owned[layer]}
    others = [k for k, name in names.items() if given[k] is not None and given[k].shape != target[name].shape]
    if len(set(classes.values())) == 1 and found.issuperset(others):
        return found
    layers = _own_word(modules) or _last(model, owned)
    if not layers or not owned.keys() >= set(layers):
        raise UserError(
            f"{where}: reset_head=True, but {type(model).__name__} has no classifier; give the option where the whole "
            "network is loaded"
        )
    return {key for layer in layers for key in owned[layer]}


def _owners(modules: Mapping[str, nn.Module]) -> dict[int, str]:
    """Map where a weight lies in memory to its layer: names in a state dict need not be those of modules."""
    layers = ((name, module) for name, module in modules.items() if isinstance(module, _LAYERS))
    return {
        parameter.data_ptr(): name
        for name, module in layers
        for parameter in module._parameters.values()
        if parameter is not None
    }


def _differs_in_outputs(theirs: Tensor, ours: Tensor) -> bool:
    return theirs.ndim == ours.ndim and len(theirs) != len(ours) and theirs.shape[1:] == ours.shape[1:]


def _own_word(modules: Mapping[str, nn.Module]) -> list[str]:
    """What a network of timm calls its classifiers, and the last layer of the head of one of mmpretrain."""
    for name, module in modules.items():
        if (
            name.rpartition(".")[2] == "head"
            and not isinstance(module, _LAYERS)
            and "backbone" in _siblings(modules, name)
        ):
            layers = [at for at, part in modules.items() if at.startswith(f"{name}.") and isinstance(part, _LAYERS)]
            return layers[-1:]
        if callable(getattr(module, "get_classifier", None)):
            found = module.get_classifier()
            classifiers = found if isinstance(found, tuple | list) else [found]
            return [at for at, part in modules.items() if any(part is one for one in classifiers)]
    return []


def _siblings(modules: Mapping[str, nn.Module], name: str) -> set[str]:
    return {child for child, _ in modules[name.rpartition(".")[0]].named_children()}


def _last(model: nn.Module, owned: Mapping[str, list[str]]) -> list[str]:
    """The last layer; none of a backbone, whose last one gives features."""
    from mmengine.model import BaseModule
    from mmpretrain.models.backbones.base_backbone import BaseBackbone

    is_backbone = isinstance(model, BaseBackbone) or (
        isinstance(model, BaseModule) and not hasattr(model, "data_preprocessor")
    )
    return [] if is_backbone else list(owned)[-1:]
