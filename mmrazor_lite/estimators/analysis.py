"""What of a prepared model can be slimmed: its width groups, what stays and why, and the cost of each layer.

Costs of layers are read from the same rows as the cost model, so they add up to its numbers exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
from torch import nn

from mmrazor_lite.graph import FixedLayer, LayerRow, Side, WidthGroup
from mmrazor_lite.subnet import SearchSpace

from .cost_model import RESOURCES, CostModel


class Choosable(Protocol):
    """A choice of a mutator: a width group and the widths it may take."""

    name: str
    candidates: Sequence[int]
    group: WidthGroup


class Searchable(Protocol):
    """A mutator after ``prepare``."""

    mutables: Sequence[Choosable]
    fixed: Sequence[FixedLayer]
    search_space: SearchSpace
    cost_model: CostModel


@dataclass(frozen=True)
class Extent:
    """A number of the largest subnet and of the smallest."""

    max: int
    min: int

    @property
    def ratio(self) -> float:
        """Smallest over largest; 1.0 for nothing at all."""
        return self.min / self.max if self.max else 1.0

    def __add__(self, other: Extent) -> Extent:
        return Extent(self.max + other.max, self.min + other.min)

    def __sub__(self, other: Extent) -> Extent:
        return Extent(self.max - other.max, self.min - other.min)


@dataclass(frozen=True)
class GroupReport:
    """A width group; ``producers`` make its channels, ``members`` only pass them on."""

    name: str
    full: int
    unit: int
    candidates: tuple[int, ...]
    producers: tuple[str, ...]
    members: tuple[str, ...]


@dataclass(frozen=True)
class LayerCost:
    """A conv, linear or product of activations: what it costs for one image, and which groups set its two sides.

    ``calls`` is how often one image passes through it; ``inputs`` and ``outputs`` count channels, ``inputs`` of a group
    conv those that one output reads.
    """

    name: str
    kind: str
    calls: int
    macs: Extent
    params: Extent
    inputs: Extent
    outputs: Extent
    input_groups: tuple[str, ...]
    output_groups: tuple[str, ...]

    @property
    def searchable(self) -> bool:
        return bool(self.input_groups or self.output_groups)


@dataclass(frozen=True)
class Analysis:
    """Everything ``analyze`` prints.

    Attributes:
        choices, size_log10: the number of choices, and of subnets as a power of ten.
        shared: modules in several places, first name -> the other names.
        fixed: reason -> layers whose width stays.
        layers: in network order; their macs add up to those of ``resources``.
        rest: params and flops of everything else (norms, activations, pools, biases' adds).
        untrainable: why the backward pass of the network itself fails; None where it runs.
        resources: each of ``RESOURCES`` of the largest and the smallest subnet.
        searchable_share: share of the macs in layers with a width that is a choice.
    """

    model: str
    input_shape: tuple[int, ...]
    choices: int
    size_log10: float
    groups: tuple[GroupReport, ...]
    shared: dict[str, tuple[str, ...]]
    fixed: dict[str, tuple[str, ...]]
    layers: tuple[LayerCost, ...]
    rest: dict[str, Extent]
    resources: dict[str, Extent]
    untrainable: str | None = None

    @property
    def searchable_share(self) -> float:
        total = self.resources["macs"].max
        return sum(layer.macs.max for layer in self.layers if layer.searchable) / total if total else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, numbers unscaled; with each layer's share of the macs and each ratio."""
        data = asdict(self)
        total = self.resources["macs"].max
        for entry, layer in zip(data["layers"], self.layers, strict=True):
            entry |= {"searchable": layer.searchable, "share": layer.macs.max / total if total else 0.0}
        for name, extent in self.resources.items():
            data["resources"][name]["ratio"] = extent.ratio
        return data | {"searchable_share": self.searchable_share}


def analyse(mutator: Searchable, model: nn.Module, input_shape: Sequence[int], label: str = "") -> Analysis:
    """Describe ``model`` as ``mutator`` has prepared it for images of ``input_shape`` = (C, H, W).

    ``label`` names the model; by default its class does.
    """
    groups = [mutable.group for mutable in mutator.mutables]
    layers, rest_params = _layers(mutator.cost_model, groups, mutator.search_space.min(), model)
    largest, smallest = mutator.cost_model.max(), mutator.cost_model.min()
    resources = {name: Extent(largest[name], smallest[name]) for name in RESOURCES}
    fixed: dict[str, tuple[str, ...]] = {}
    for layer in mutator.fixed:
        fixed[layer.reason] = (*fixed.get(layer.reason, ()), layer.layer)
    return Analysis(
        model=label or type(model).__name__,
        input_shape=tuple(input_shape),
        choices=len(mutator.mutables),
        size_log10=sum(math.log10(len(mutable.candidates)) for mutable in mutator.mutables),
        groups=tuple(_group(mutable) for mutable in mutator.mutables),
        shared=_shared(model),
        fixed=fixed,
        layers=tuple(layers),
        rest={"params": rest_params, "flops": resources["flops"] - resources["macs"]},
        resources=resources,
        untrainable=getattr(mutator, "untrainable", None),
    )


def _group(mutable: Choosable) -> GroupReport:
    group = mutable.group
    return GroupReport(
        mutable.name, group.full, group.unit, tuple(map(int, mutable.candidates)), group.producers, group.members
    )


def _shared(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Modules with weights of their own that have more than one name."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if any(parameter is not None for parameter in module._parameters.values()):
            names.setdefault(module, []).append(name)
    return {first: tuple(others) for first, *others in names.values() if others}


def _layers(
    cost_model: CostModel, groups: Sequence[WidthGroup], smallest: Mapping[str, int], model: nn.Module
) -> tuple[list[LayerCost], Extent]:
    """The layers in network order, and the params that belong to none of them."""
    full = np.array([group.units for group in groups], np.int64)
    kept = np.array([smallest[group.name] // group.unit for group in groups], np.int64)

    def width(side: Side) -> Extent:
        return Extent(
            *(side.constant + sum(n * int(units[i]) for i, n in side.counts.items()) for units in (full, kept))
        )

    def amount(row: LayerRow) -> Extent:
        inputs, outputs, scale = width(row.inputs), width(row.outputs), row.positions * row.kernel
        return Extent(scale * inputs.max * outputs.max, scale * inputs.min * outputs.min)

    modules = dict(model.named_modules())
    layers: dict[tuple, LayerCost] = {}
    for row in cost_model.table.rows:
        if not row.macs or not row.positions:  # a second tensor of an opaque call costs nothing more
            continue
        name = row.name.split("@")[0]
        key = (name, row.kind, row.inputs.key(), row.outputs.key())
        known = layers.get(key)
        if known:
            layers[key] = replace(known, calls=known.calls + 1, macs=known.macs + amount(row))
            continue
        set_by = [tuple(groups[index].name for index in side.counts) for side in (row.inputs, row.outputs)]
        sides = width(row.inputs), width(row.outputs)
        grouped = row.kind == "conv" and getattr(modules.get(name), "groups", 1) > 1
        kind = "group conv" if grouped else row.kind
        layers[key] = LayerCost(name, kind, 1, amount(row), Extent(0, 0), *sides, *set_by)
    first = {key[0]: key for key in reversed(layers)}
    opaque = {name for name, key in first.items() if layers[key].kind == "opaque"}
    rest = Extent(0, 0)
    for row in cost_model.table.weights:
        owner = next((name for name in _owners(row.name, opaque) if name in first), None)
        if owner is None:
            rest += amount(row)
        else:
            layers[first[owner]] = replace(layers[first[owner]], params=layers[first[owner]].params + amount(row))
    return list(layers.values()), rest


def _owners(parameter: str, opaque: set[str]) -> Iterator[str]:
    """The layer that holds a parameter, or the opaque module around it."""
    owner = parameter.rpartition(".")[0]
    yield owner
    while owner:
        owner = owner.rpartition(".")[0]
        if owner in opaque:
            yield owner
