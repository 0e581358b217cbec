"""Layers whose width is a choice: the layer itself, seen through its active part.

A dynamic layer is of a subclass of the layer it replaces and holds the same parameters and buffers. Reading ``weight``
gives the slice of the active channels, reading ``out_channels`` their number; the layer's own forward does the rest,
whatever it is. The same holds for any module with a parameter that follows the channels, such as layer scale.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmrazor_lite.graph import kind_of
from mmrazor_lite.models.mutables import ChannelSlice, RunsOnePart, has_static_form

from .closures import rebind

KEY = "_mmrazor"  # attribute of a dynamic layer that holds its Active


@dataclass
class Number:
    """A number of a layer that follows its sides; plain data, so that a copy of the layer has one of its own."""

    rule: Callable[[Mapping[str, Any], int, int], Any]
    full: Mapping[str, Any]
    inputs: ChannelSlice
    outputs: ChannelSlice

    def __call__(self) -> Any:
        return self.rule(self.full, self.inputs.width, self.outputs.width)


@dataclass
class Count:
    """A number of a module that is the width of some channels, or a list of such numbers."""

    channels: ChannelSlice | tuple[ChannelSlice, ...]

    def __call__(self) -> int | list[int]:
        parts = self.channels
        return [part.width for part in parts] if isinstance(parts, tuple) else parts.width


@dataclass
class Active:
    """What of a module is active now.

    Attributes:
        inputs, outputs: sides of a layer; None for another module.
        tensors: parameter or buffer -> the (dimension, channels) it follows.
        numbers: plain attribute -> its value now.
        plain: class of the module that was replaced.
    """

    inputs: ChannelSlice | None
    outputs: ChannelSlice | None
    tensors: dict[str, tuple[tuple[int, ChannelSlice], ...]]
    numbers: dict[str, Number | Count]
    plain: type[nn.Module]
    running: bool = field(default=False)  # inside the forward of a norm with statistics
    copies: dict[str, Tensor] = field(default_factory=dict)  # its statistics, where they are no view

    def slices(self) -> Iterator[ChannelSlice]:
        """The channels that anything of the module follows."""
        yield from (part for part in (self.inputs, self.outputs) if part is not None)
        yield from (channels for where in self.tensors.values() for _, channels in where)
        for number in self.numbers.values():
            parts = (number.inputs, number.outputs) if isinstance(number, Number) else number.channels
            yield from parts if isinstance(parts, tuple) else (parts,)


def take(tensor: Tensor | None, where: Iterable[tuple[int, ChannelSlice]]) -> Tensor | None:
    """The active part of a tensor: a view where it is one piece along every dimension."""
    if tensor is not None:
        for dim, channels in where:
            tensor = channels.take(tensor, dim)
    return tensor


def make_dynamic(
    static: nn.Module,
    inputs: ChannelSlice | None = None,
    outputs: ChannelSlice | None = None,
    held: Mapping[str, tuple[int, ChannelSlice]] | None = None,
    numbers: Mapping[str, ChannelSlice | tuple[ChannelSlice, ...]] | None = None,
) -> nn.Module:
    """The module to put in place of ``static``: the same tensors, hooks, mode and attributes.

    Args:
        inputs, outputs: sides of a layer of a known kind.
        held: further parameters and buffers -> the dimension and the channels they follow.
        numbers: plain integers that are the width of some channels, and lists of such integers.
    """
    kind = kind_of(static) if outputs is not None else None
    tensors = {name: (where,) for name, where in (held or {}).items()}
    values: dict[str, Number | Count] = {name: Count(channels) for name, channels in (numbers or {}).items()}
    if kind is not None:
        sides = {"inputs": inputs, "outputs": outputs}
        for name, follows in kind.sides(static).items():
            tensors[name] = tuple((dim, sides[side]) for dim, side in follows)
        full = {name: getattr(static, name) for name in kind.numbers}
        values.update({name: Number(rule, full, inputs, outputs) for name, rule in kind.numbers.items()})
    cls = _dynamic_class(
        type(static), tuple(sorted(tensors)), tuple(sorted(values)), bool(kind and kind.has_statistics)
    )
    layer = cls.__new__(cls)
    vars(layer).update({name: _own(value, static, layer) for name, value in vars(static).items()})
    vars(layer)[KEY] = Active(inputs, outputs, tensors, values, type(static))
    return layer


def _own(value: Any, static: nn.Module, layer: nn.Module) -> Any:
    """An attribute of ``static`` for ``layer``: dictionaries of its own, and methods bound to it."""
    if isinstance(value, MethodType) and value.__self__ is static:
        return MethodType(value.__func__, layer)
    return copy.copy(value) if isinstance(value, dict) else value


@cache
def _dynamic_class(cls: type, tensors: tuple[str, ...], numbers: tuple[str, ...], statistics: bool) -> type:
    members: dict[str, Any] = {"__doc__": f"``{cls.__name__}`` on its active channels.", "__module__": __name__}
    members |= {
        name: _statistic(name) if statistics and name.startswith("running_") else _tensor(name) for name in tensors
    }
    members |= {name: _number(name, statistics) for name in numbers}
    if statistics:
        members["forward"] = _forward_with_statistics(cls)
    # Initialisers by name look at direct base classes: those of the layer itself stay among them.
    bases = (cls, *(base for base in cls.__bases__ if base is not object))
    return type(f"Dynamic{cls.__name__}", bases, members)


def _tensor(name: str) -> property:
    def active_part(self: nn.Module) -> Tensor | None:
        own = vars(self)
        parameters = own["_parameters"]
        tensor = parameters[name] if name in parameters else own["_buffers"][name]
        return take(tensor, own[KEY].tensors[name])

    return property(active_part)


def _number(name: str, statistics: bool) -> property:
    def number(self: nn.Module) -> Any:
        active = vars(self)[KEY]
        return vars(self)[name] if statistics and not active.running else active.numbers[name]()

    return property(number)


def _statistic(name: str) -> property:
    """The active part inside the layer's own forward; for everybody else the whole, which may be reset or read."""

    def statistic(self: nn.Module) -> Tensor | None:
        active, tensor = vars(self)[KEY], self._buffers[name]
        if tensor is None or not active.running:
            return tensor
        if name not in active.copies:
            active.copies[name] = take(tensor, active.tensors[name])
        return active.copies[name]

    return property(statistic)


def _forward_with_statistics(cls: type) -> Callable:
    """Statistics of the active channels are updated where they lie; those of the others stay as they are."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        active = vars(self)[KEY]
        active.running = True
        try:
            result = cls.forward(self, *args, **kwargs)
            if self.training and len(active.outputs.pieces) > 1:
                with torch.no_grad():
                    for name, part in active.copies.items():
                        active.outputs.put(self._buffers[name], part)
        finally:
            active.running = False
            active.copies.clear()
        return result

    return forward


# the way back -------------------------------------------------------------------------------------------------------


def active_of(module: nn.Module) -> Active | None:
    """What is active of a dynamic layer; None for a plain module."""
    return vars(module).get(KEY)


def export(model: nn.Module, keep_sync: bool = False) -> nn.Module:
    """A copy of ``model`` with tensors of its own and a plain layer of the active channels for every dynamic one.

    A choice of several modules becomes the one that is active, an elastic stage or kernel a plain one. A synchronised
    batch norm becomes an ordinary one, which runs on any device, unless ``keep_sync``.
    """
    return settle(_copied(model, keep_sync))


def settle(model: nn.Module) -> nn.Module:
    """Put the static form of every elastic stage, kernel ... of ``model`` in its place, as they are active now."""
    if has_static_form(model):
        model = model.settled()
    for name, child in model._modules.items():
        if child is not None:
            model._modules[name] = settle(child)
    return model


def _copied(model: nn.Module, keep_sync: bool) -> nn.Module:
    """A copy with plain layers of the active channels, and the chosen module of every choice."""
    memo: dict[int, Any] = {id(tensor): tensor.detach().clone() for tensor in _computed(model)}
    shells: list[tuple[nn.Module, nn.Module]] = []
    modules = list(model.modules())
    hidden: set[int] = set()  # what stands behind a choice of modules
    for module in modules:
        if has_static_form(module) and isinstance(module, RunsOnePart) and id(module) not in hidden:
            memo[id(module)] = _copied(module.chosen, keep_sync)
            hidden |= {id(part) for part in module.modules()}
    for module in modules:
        active = active_of(module)
        plain = type(module) if active is None else active.plain
        kind = kind_of(module)
        if kind is not None and not keep_sync:
            plain = kind.exports_as.get(plain, plain)
        if plain is type(module) or id(module) in hidden:
            continue
        shells.append((module, plain.__new__(plain)))
        memo[id(module)] = shells[-1][1]
        if active is not None:
            _slice_tensors(module, active, memo)
    for module, shell in shells:  # what else the module holds may lead to the other shells
        active = active_of(module)
        group = vars(module).get("process_group")
        memo[id(group)] = group  # a process group cannot be copied
        vars(shell).update(copy.deepcopy({k: v for k, v in vars(module).items() if k != KEY}, memo))
        if type(shell) is nn.BatchNorm2d:
            vars(shell).pop("process_group", None)
        if active is not None:
            vars(shell).update({name: number() for name, number in active.numbers.items()})
    clone = copy.deepcopy(model, memo)
    rebind(clone, memo)
    return clone


_OF_LEAVES = ("_modules", "_parameters", "_buffers")  # attributes in which nothing was computed, or modules are
_WITHOUT = (bool, int, float, str, type(None))  # values in which there are no tensors


def _computed(model: nn.Module) -> Iterator[Tensor]:
    """Tensors with a history among the attributes of modules, such as features that a hook has kept or the weight of
    an old weight norm: torch refuses to copy them, and their history is of no use to a copy."""
    for module in model.modules():
        for key, value in vars(module).items():
            if key in _OF_LEAVES or isinstance(value, _WITHOUT) or (isinstance(value, (dict, list)) and not value):
                continue
            for leaf in [value] if isinstance(value, Tensor) else tree_leaves(value):
                if isinstance(leaf, Tensor) and not leaf.is_leaf:
                    yield leaf


def _slice_tensors(module: nn.Module, active: Active, memo: dict[int, Any]) -> None:
    """Tell deepcopy that the copy of a sliced tensor is its active part, with storage of its own."""
    for name, where in active.tensors.items():
        tensor = module._parameters.get(name)
        tensor = module._buffers.get(name) if tensor is None else tensor
        if tensor is None:
            continue
        part = take(tensor, where).detach().clone(memory_format=torch.preserve_format)
        memo[id(tensor)] = nn.Parameter(part, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else part
