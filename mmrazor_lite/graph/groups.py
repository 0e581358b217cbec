"""From channel ids to width groups: which layers share one width, in which order, and what stays at full width."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import fx

from .by_hand import named_groups, tie_groups
from .channels import Side, WidthGroup
from .draft import Draft, free_name
from .layers.record import LAYER_KINDS, LayerKinds
from .module_numbers import numbers_of_modules
from .propagate import Propagation
from .trace import TracedModel
from .units import Units, components_of

MAX_PARTS = 4  # a group whose units are read in more ways than this stays at full width


@dataclass(frozen=True)
class FixedLayer:
    """A layer whose output stays at full width, and why."""

    layer: str
    reason: str


@dataclass
class WidthGraph:
    """Width groups of a model, and how each layer and each tensor of its graphs is made of them.

    ``layers`` maps a layer to its (input, output) sides; ``nodes`` a graph node to the side of its channels, of all
    dimensions they vary in, and ``along`` to that of each dimension that varies in size; ``held`` a module to the
    dimension and side of each of its other parameters and buffers;
    ``numbers`` a module to those of its plain integers, and lists of them, that are sizes of sides, as far as its
    reshapes and splits tell.
    ``assumed`` names the groups that rest on something the graph does not show. ``alone`` maps a layer whose outputs
    depend in a way of their own on which inputs are active to the dimension of its channels and its two sides.
    """

    groups: list[WidthGroup]
    layers: dict[str, tuple[Side, Side]]
    nodes: dict[fx.Node, Side]
    held: dict[str, dict[str, tuple[int, Side]]]
    numbers: dict[str, dict[str, Side | tuple[Side, ...]]]
    fixed: list[FixedLayer]
    assumed: frozenset[str]
    alone: dict[str, tuple[int, Side, Side]] = field(default_factory=dict)
    along: dict[fx.Node, dict[int, Side]] = field(default_factory=dict)


def find_width_groups(
    traced: TracedModel,
    kinds: LayerKinds = LAYER_KINDS,
    keep: Mapping[str, str] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    by_hand: Sequence[Mapping] = (),
) -> WidthGraph:
    """Find the width groups of a traced model.

    Args:
        kinds: Those that have a dynamic form; layers of others stay at full width.
        keep: group names that must stay at full width -> why (they failed a check).
        include: patterns (``fnmatch``) of layer names; if given, only groups with a matching producer are kept.
        exclude: patterns of layer names; a group with a matching producer stays at full width. A pattern that names
            only layers that make no channels, norms and depthwise convs, is for the groups that go through them.
        by_hand: groups given by the user, each ``dict(out=[producing layers and norms], into=[reading layers])``, by
            name or pattern; all other layers then stay at full width.
    """
    flow = Propagation(traced, kinds)
    by_hand = named_groups(flow, by_hand)
    tie_groups(flow, by_hand)
    return _Builder(flow, keep or {}, include, exclude, by_hand).build()


@dataclass
class _Sides:
    """What the layers, tensors and modules of a network have of a draft's groups."""

    layers: dict[str, tuple[Side, Side]]
    nodes: dict[fx.Node, Side]
    held: dict[str, dict[str, tuple[int, Side]]]
    crossed: set[int]  # groups that a tensor of a module does not hold along one dimension

    def distinct(self) -> list[Side]:
        """Every side once."""
        every = [side for pair in self.layers.values() for side in pair]
        every += [*self.nodes.values(), *(side for tensors in self.held.values() for _, side in tensors.values())]
        return list({side.key(): side for side in every}.values())


class _Builder:
    def __init__(
        self,
        flow: Propagation,
        keep: Mapping[str, str],
        include: Sequence[str],
        exclude: Sequence[str],
        by_hand: Sequence[Mapping],
    ) -> None:
        self.flow = flow
        self.keep, self.include, self.exclude = dict(keep), include, exclude
        self.hand_layers = {name for group in by_hand for name in group["out"]}
        self.producers = [name for name in flow.layers if name not in flow.passes_through]
        self.component = flow.book.components()
        self.outputs = {name: self._components(flow.layers[name][1]) for name in self.producers}
        self._carrying = {  # patterns that name no layer that makes channels
            pattern for pattern in exclude if not any(fnmatchcase(name, pattern) for name in self.producers)
        }
        self._fix_embeddings()
        self.reasons = self._fixed_components()
        self.why: dict[str, str] = {}  # producer -> why its width stays

    def _components(self, ids: torch.Tensor) -> np.ndarray:
        return components_of(ids, self.component)

    def _fix_embeddings(self) -> None:
        """What queries, keys and values are projected from stays: heads are dropped, not the embedding."""
        made_by: dict[int, str] = {}
        for ids, where in self.flow.attended:
            made_by.update(dict.fromkeys(np.unique(self._components(ids.reshape(-1))).tolist(), where))
        for name, outputs in self.outputs.items():
            where = made_by.get(int(outputs[0]))
            if where and outputs[0] != -1 and "linear" in self.flow.kind(self.flow.modules[name]).ops:
                self.flow.book.fix(self.flow.layers[name][0], f"the embedding that {where} reads")

    def build(self) -> WidthGraph:
        draft, sides = self._settled(self._formed())
        units = Units(self.component, draft.place)
        numbers = numbers_of_modules(self.flow, units)
        alone = {name: (dim, *map(units.side, pair)) for name, (dim, *pair) in self.flow.alone.items()}
        fixed = [*self._fixed_layers(draft, sides), *self._without_dynamic_form(sides)]
        along = {node: units.varying(ids) for node, ids in self.flow.nodes.items() if isinstance(ids, torch.Tensor)}
        return WidthGraph(
            draft.groups, sides.layers, sides.nodes, sides.held, numbers, fixed, self._assumed(draft), alone, along
        )

    def _settled(self, draft: Draft) -> tuple[Draft, _Sides]:
        """Split or drop groups until every side has all units of a group equally often, or none: else it has no width
        as a rule."""
        while True:
            sides = self._sides(Units(self.component, draft.place))
            distinct = sides.distinct()
            uneven = draft.uneven(distinct)
            if not (uneven or sides.crossed):
                return draft, sides
            parts = {index: draft.classes(index, distinct) for index in uneven - sides.crossed}
            parts = {index: classes for index, classes in parts.items() if max(classes) < MAX_PARTS}
            if parts:
                draft = draft.split(parts, self.outputs)
                continue
            for index in uneven | sides.crossed:
                reason = "a reader takes some of its channels only"
                self.why.update(dict.fromkeys(draft.groups[index].producers, reason))
            draft = draft.without(uneven | sides.crossed)

    def _sides(self, units: Units) -> _Sides:
        layers = {name: tuple(units.side(ids) for ids in pair) for name, pair in self.flow.layers.items()}
        nodes = {n: units.side(ids) for n, ids in self.flow.nodes.items() if isinstance(ids, torch.Tensor)}
        return _Sides(layers, nodes, *units.held(self.flow.held))

    def _assumed(self, draft: Draft) -> frozenset[str]:
        """Groups that rest on something the graph does not show."""
        found = {c for ids in self.flow.book.assumptions for c in np.unique(self._components(ids)).tolist()}
        return frozenset(draft.groups[draft.place[c][0]].name for c in found if c in draft.place)

    def _fixed_layers(self, draft: Draft, sides: _Sides) -> Iterator[FixedLayer]:
        """Layers that make channels, or pass them on one by one, and stay."""
        free = {name for group in draft.groups for name in group.producers}
        for name in self.producers:
            if name not in free:
                yield FixedLayer(name, self.why.get(name, "nothing can be dropped"))
        for name in self.flow.passes_through:
            if sides.layers[name][1].is_fixed and self.flow.kind(self.flow.modules[name]).makes_channels:
                first = int(self._components(self.flow.layers[name][1][:1])[0])
                maker = next((self.why[p] for p in self.producers if first in self.outputs[p] and p in self.why), None)
                yield FixedLayer(name, maker or self.reasons.get(first, "it reads channels that stay"))

    def _without_dynamic_form(self, sides: _Sides) -> Iterator[FixedLayer]:
        others = {**self.flow.other_layers(), **self.flow.unreached(), **self.flow.refused}
        moving = {*self.outputs, *sides.held}  # tensors of a module of its own may follow a group
        return (FixedLayer(name, reason) for name, reason in others.items() if name not in moving)

    def _fixed_components(self) -> dict[int, str]:
        """Component -> why it stays: the first thing that was said about it."""
        if self.hand_layers:
            return self._not_given_by_hand()
        if not self.outputs:
            return {}
        first = np.full(self.component.max() + 2, -1)  # of each component, the number of its first fix
        for number, (ids, _) in enumerate(self.flow.book.fixes):
            found = self._components(ids)
            first[found[first[found] == -1]] = number
        reached = np.unique(np.concatenate([*self.outputs.values(), *self._passed()])).tolist()
        return {c: self.flow.book.fixes[first[c]][1] for c in reached if c != -1 and first[c] != -1}

    def _not_given_by_hand(self) -> dict[int, str]:
        free = {c for name in self.hand_layers for c in self._components(self.flow.layers[name][1])}
        reasons: dict[int, str] = {}
        for name, outputs in self.outputs.items():
            for c in outputs.tolist():
                if c not in free:
                    reasons.setdefault(c, f"{name} is in no group given by hand")
        return reasons

    def _passed(self) -> list[np.ndarray]:
        """Components of what passes through norms and depthwise convs."""
        return [self._components(self.flow.layers[name][1]) for name in self.flow.passes_through]

    def _formed(self) -> Draft:
        """A group for all components that the same layers make."""
        for name, outputs in self.outputs.items():
            self.why.update((name, self.reasons[c]) for c in outputs.tolist() if c in self.reasons)
        draft, members = Draft([], {}), self._members()
        for names, row in self._rows().items():
            reason = self._refusal(names, row, {member for c in row for member in members.get(c, ())})
            if reason:
                self.why.update(dict.fromkeys(names, reason))
                continue
            passing = tuple(dict.fromkeys(m for c in row for m in members.get(c, ())))
            unit_size = int((self.outputs[names[0]] == row[0]).sum())
            draft.place.update({c: (len(draft.groups), unit) for unit, c in enumerate(row)})
            draft.groups.append(WidthGroup(free_name(names, draft.groups), len(row), unit_size, names, passing))
        return draft

    def _rows(self) -> dict[tuple[str, ...], list[int]]:
        """Producers -> the components that exactly these make and that may be dropped, in the order of the first."""
        made_by: dict[int, list[str]] = {}
        for name, outputs in self.outputs.items():
            for c in dict.fromkeys(outputs.tolist()):
                made_by.setdefault(c, []).append(name)
        rows: dict[tuple[str, ...], list[int]] = {}
        for c, names in made_by.items():
            if c not in self.reasons and c != -1:
                rows.setdefault(tuple(names), []).append(c)
        return rows

    def _members(self) -> dict[int, list[str]]:
        members: dict[int, list[str]] = {}
        for name in self.flow.passes_through:
            for c in np.unique(self._components(self.flow.layers[name][1])):
                members.setdefault(int(c), []).append(name)
        order = {name: index for index, name in enumerate(self.flow.layers)}
        return {c: sorted(names, key=order.__getitem__) for c, names in members.items()}

    def _refusal(self, names: tuple[str, ...], row: list[int], members: Collection[str]) -> str | None:
        if len(row) < 2:
            return "its channels are one unit"
        if names[0] in self.keep:
            return self.keep[names[0]]
        if self.include and not any(fnmatchcase(name, p) for name in names for p in self.include):
            return "not in include"
        for pattern in self.exclude:
            named = members if pattern in self._carrying else names
            if any(fnmatchcase(name, pattern) for name in named):
                return f"excluded by '{pattern}'"
        rank = {c: unit for unit, c in enumerate(row)}
        for name in names:
            own = [rank[c] for c in dict.fromkeys(self.outputs[name].tolist()) if c in rank]
            if own != list(range(len(row))):
                return f"{names[0]} and {name} order its channels differently"
        return None
