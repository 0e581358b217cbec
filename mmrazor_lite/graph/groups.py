"""From channel ids to width groups: which layers share one width, in which order, and what stays at full width."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import fx, nn

from mmrazor_lite.errors import UserError, nearest

from .channels import FIXED, Side, WidthGroup
from .ids import CONSTANT
from .layers.record import LAYER_KINDS, LayerKinds
from .propagate import Propagation
from .reshaping import SPLIT
from .trace import Op, TracedModel

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
    dimensions they vary in; ``held`` a module to the dimension and side of each of its other parameters and buffers;
    ``numbers`` a module to those of its plain integers, and lists of them, that are sizes of sides, as far as its
    reshapes and splits tell.
    ``assumed`` names the groups that rest on something the graph does not show.
    """

    groups: list[WidthGroup]
    layers: dict[str, tuple[Side, Side]]
    nodes: dict[fx.Node, Side]
    held: dict[str, dict[str, tuple[int, Side]]]
    numbers: dict[str, dict[str, Side | tuple[Side, ...]]]
    fixed: list[FixedLayer]
    assumed: frozenset[str]


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
        exclude: patterns of layer names; a group with a matching producer stays at full width.
        by_hand: groups given by the user, each ``dict(out=[producing layers and norms], into=[reading layers])``, by
            name or pattern; all other layers then stay at full width.
    """
    flow = Propagation(traced, kinds)
    by_hand = _named(flow, by_hand)
    _tie_by_hand(flow, by_hand)
    return _Builder(flow, keep or {}, include, exclude, by_hand).build()


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
        self._fix_embeddings()

    def _components(self, ids: torch.Tensor) -> np.ndarray:
        """Component of each id, -1 for constants."""
        numbers = ids.numpy()
        return np.where(numbers == CONSTANT, -1, self.component[numbers])

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
        reasons = self._fixed_components()
        groups, place, why = self._form_groups(reasons)
        # A side that holds only some units of a group, or some more often than others, has no width as a rule.
        for _ in range(2 * len(groups) + 2):
            table = self._table(place)
            side_of = self._sides(table)
            sides = {name: tuple(side_of(ids) for ids in pair) for name, pair in self.flow.layers.items()}
            nodes = {n: side_of(ids) for n, ids in self.flow.nodes.items() if isinstance(ids, torch.Tensor)}
            held, crossed = self._held(table)
            every = [side for pair in sides.values() for side in pair]
            every += [*nodes.values(), *(side for tensors in held.values() for _, side in tensors.values())]
            uneven = self._uneven(every, groups)
            if not (uneven or crossed):
                break
            parts = {index: self._classes(index, groups[index].units, every) for index in uneven - crossed}
            split = {index: kinds for index, kinds in parts.items() if max(kinds) < MAX_PARTS}
            if split:
                groups, place = self._split(groups, place, split)
                continue
            for index in uneven | crossed:
                for producer in groups[index].producers:
                    why[producer] = "a reader takes some of its channels only"
            dropped = {groups[index].name for index in uneven | crossed}
            groups, place = self._without(groups, place, dropped)
        assumed = {
            groups[place[c][0]].name
            for ids in self.flow.book.assumptions
            for c in np.unique(self._components(ids)).tolist()
            if c in place
        }
        produced = {name for group in groups for name in group.producers}
        fixed = [
            FixedLayer(name, why.get(name, "nothing can be dropped")) for name in self.producers if name not in produced
        ]
        for name in self.flow.passes_through:
            if name in sides and sides[name][1].is_fixed and self.flow.kind(self.flow.modules[name]).makes_channels:
                first = int(self._components(self.flow.layers[name][1][:1])[0])
                maker = next((why[p] for p in self.producers if first in self.outputs[p] and p in why), None)
                fixed.append(FixedLayer(name, maker or reasons.get(first, "it reads channels that stay")))
        others = {**self.flow.other_layers(), **self.flow.unreached(), **self.flow.refused}
        moving = {*self.outputs, *held}  # tensors of a module of its own may follow a group
        fixed += [FixedLayer(name, reason) for name, reason in others.items() if name not in moving]
        return WidthGraph(groups, sides, nodes, held, self._numbers(self._table(place)), fixed, frozenset(assumed))

    def _fixed_components(self) -> dict[int, str]:
        reasons: dict[int, str] = {}
        if self.hand_layers:
            free = {c for name in self.hand_layers for c in self._components(self.flow.layers[name][1])}
            for name, outputs in self.outputs.items():
                for c in outputs:
                    if c not in free:
                        reasons.setdefault(int(c), f"{name} is in no group given by hand")
            return reasons
        if not self.outputs:
            return reasons
        first = np.full(self.component.max() + 2, -1)  # of each component, the number of its first fix
        for number, (ids, _) in enumerate(self.flow.book.fixes):
            found = self._components(ids)
            first[found[first[found] == -1]] = number
        for c in np.unique(np.concatenate([*self.outputs.values(), *self._passed()])).tolist():
            if c != -1 and first[c] != -1:
                reasons[c] = self.flow.book.fixes[first[c]][1]
        return reasons

    def _passed(self) -> list[np.ndarray]:
        """Components of what passes through norms and depthwise convs."""
        return [self._components(self.flow.layers[name][1]) for name in self.flow.passes_through]

    def _form_groups(
        self, reasons: dict[int, str]
    ) -> tuple[list[WidthGroup], dict[int, tuple[int, int]], dict[str, str]]:
        """Groups, component -> (group, unit), and layer -> why it stays."""
        made_by: dict[int, list[str]] = {}
        for name, outputs in self.outputs.items():
            for c in dict.fromkeys(outputs.tolist()):
                made_by.setdefault(c, []).append(name)
        rows: dict[tuple[str, ...], list[int]] = {}
        for c, names in made_by.items():
            if c not in reasons and c != -1:
                rows.setdefault(tuple(names), []).append(c)
        why = {name: reasons[int(c)] for name, outputs in self.outputs.items() for c in outputs if int(c) in reasons}
        groups: list[WidthGroup] = []
        place: dict[int, tuple[int, int]] = {}
        members = self._members()
        for names, row in rows.items():
            reason = self._refusal(names, row)
            if reason:
                why.update(dict.fromkeys(names, reason))
                continue
            passing = tuple(dict.fromkeys(m for c in row for m in members.get(c, ())))
            for unit, c in enumerate(row):
                place[c] = (len(groups), unit)
            unit_size = int((self.outputs[names[0]] == row[0]).sum())
            groups.append(WidthGroup(self._name(names, groups), len(row), unit_size, names, passing))
        return groups, place, why

    def _name(self, names: tuple[str, ...], groups: list[WidthGroup]) -> str:
        taken = {group.name for group in groups}
        name, number = names[0], 1
        while name in taken:  # one layer may feed several groups
            number += 1
            name = f"{names[0]}#{number}"
        return name

    def _members(self) -> dict[int, list[str]]:
        members: dict[int, list[str]] = {}
        for name in self.flow.passes_through:
            for c in np.unique(self._components(self.flow.layers[name][1])):
                members.setdefault(int(c), []).append(name)
        order = {name: index for index, name in enumerate(self.flow.layers)}
        return {c: sorted(names, key=order.__getitem__) for c, names in members.items()}

    def _refusal(self, names: tuple[str, ...], row: list[int]) -> str | None:
        if len(row) < 2:
            return "its channels are one unit"
        if names[0] in self.keep:
            return self.keep[names[0]]
        if self.include and not any(fnmatchcase(name, p) for name in names for p in self.include):
            return "not in include"
        for pattern in self.exclude:
            if any(fnmatchcase(name, pattern) for name in names):
                return f"excluded by '{pattern}'"
        rank = {c: unit for unit, c in enumerate(row)}
        for name in names:
            own = [rank[c] for c in dict.fromkeys(self.outputs[name].tolist()) if c in rank]
            if own != list(range(len(row))):
                return f"{names[0]} and {name} order its channels differently"
        return None

    def _sides(self, table: np.ndarray) -> Callable[[torch.Tensor], Side]:
        """Side of an id vector; vectors that are one tensor (a layer's output and all that pass it on) share it."""
        known: dict[int, Side] = {}

        def side(ids: torch.Tensor) -> Side:
            if id(ids) not in known:
                known[id(ids)] = self._side(ids, table)
            return known[id(ids)]

        return side

    def _table(self, place: dict[int, tuple[int, int]]) -> np.ndarray:
        """(group, unit) of every component; the last row answers for constants (-1)."""
        table = np.full((self.component.max() + 2, 2), [FIXED, 0], np.int64)
        if place:
            keys = np.fromiter(place, np.int64, len(place))
            table[keys] = np.array(list(place.values()), np.int64)
        return table

    def _entries(self, ids: torch.Tensor, table: np.ndarray) -> np.ndarray:
        """(group, unit) of every id, (*shape, 2)."""
        return table[self._components(ids)]

    def _side(self, ids: torch.Tensor, table: np.ndarray) -> Side:
        entries = self._entries(ids.reshape(-1), table)
        return Side(entries[:, 0].copy(), entries[:, 1].copy())

    def _held(self, table: np.ndarray) -> tuple[dict[str, dict[str, tuple[int, Side]]], set[int]]:
        """Sides of the tensors that modules hold, and the groups that such a tensor does not hold along one dim."""
        held: dict[str, dict[str, tuple[int, Side]]] = {}
        crossed: set[int] = set()
        alone = np.append(np.bincount(self.component) == 1, False)  # elements that nothing was tied to; last: constants
        for (module, name), ids in self.flow.held.items():
            entries = self._entries(ids, table)
            found = set(np.unique(entries[..., 0]).tolist()) - {FIXED}
            if not found:
                continue
            untouched = alone[self._components(ids)]
            lines = {dim: _line(entries, untouched, dim) for dim in range(ids.dim())}
            fitting = [dim for dim, line in lines.items() if line is not None]
            if len(fitting) == 1:
                line = lines[fitting[0]]
                held.setdefault(module, {})[name] = (fitting[0], Side(line[:, 0].copy(), line[:, 1].copy()))
            else:
                crossed |= found
        return held, crossed

    def _numbers(self, table: np.ndarray) -> dict[str, dict[str, Side | tuple[Side, ...]]]:
        """Plain integers of modules that are the size of a side in one of their reshapes; lists of a split's sizes."""
        found: dict[str, dict[str, Side | tuple[Side, ...]]] = {}
        clashes: set[tuple[str, str]] = set()
        model = self.flow.traced.model
        first_name = {module: name for name, module in model.named_modules()}
        modules = dict(model.named_modules(remove_duplicate=False))
        for op in self.flow.sites:
            module = modules.get(op.module_path.split("@")[0])
            if not first_name.get(module):  # the model itself cannot be replaced
                continue
            own = found.setdefault(first_name[module], {})
            integers = {k: v for k, v in vars(module).items() if type(v) is int and v > 1}
            for side in self._site_sides(op, table, set(integers.values())):
                for name in [name for name, value in integers.items() if value == len(side)]:
                    known = own.setdefault(name, side)
                    if (known.counts, known.constant) != (side.counts, side.constant):
                        clashes.add((first_name[module], name))
            for name, parts in self._site_lists(op, table, module):
                own.setdefault(name, parts)
        for module, name in clashes:
            del found[module][name]
        return {module: names for module, names in found.items() if names}

    def _site_lists(self, op: Op, table: np.ndarray, module: nn.Module) -> Iterator[tuple[str, tuple[Side, ...]]]:
        """Lists that a module holds of the sizes of the parts of a split along the channels."""
        parts = self.flow.nodes.get(op.node)
        if op.kind not in SPLIT or not isinstance(parts, list) or not all(isinstance(p, torch.Tensor) for p in parts):
            return
        dim = int(op.argument("dim", 0)) % parts[0].dim()
        sizes = [part.shape[dim] for part in parts]
        for name, value in vars(module).items():
            if isinstance(value, (list, tuple)) and list(value) == sizes and all(type(size) is int for size in value):
                yield name, tuple(self._line_side(part, dim, table) for part in parts)

    def _line_side(self, ids: torch.Tensor, dim: int, table: np.ndarray) -> Side:
        line = self._entries(ids.movedim(dim, 0).reshape(ids.shape[dim], -1)[:, 0], table)
        return Side(line[:, 0].copy(), line[:, 1].copy())

    def _site_sides(self, op: Op, table: np.ndarray, sizes: Collection[int]) -> Iterator[Side]:
        """Sides, of one of ``sizes``, of the tensors that an op takes or gives, and of the part up to a cut."""
        source = self.flow.nodes.get(op.node.all_input_nodes[0])
        results = self.flow.nodes.get(op.node)
        tensors = [source, *(results if isinstance(results, list) else [results])]
        if op.kind in ("slice", "narrow") and isinstance(source, torch.Tensor):
            dim = int(op.argument("dim", 0)) % source.dim()
            cuts = {
                int(op.argument(key) or 0) % (source.shape[dim] + 1) for key in ("start", "end") if op.argument(key)
            }
            tensors += [source.narrow(dim, 0, cut) for cut in cuts if 1 < cut <= source.shape[dim]]
        for ids in tensors:
            if not isinstance(ids, torch.Tensor):
                continue
            for dim, size in enumerate(ids.shape):
                if size not in sizes:
                    continue
                side = self._line_side(ids, dim, table)
                if not side.is_fixed and len({*zip(side.group, side.unit, strict=True)}) > 1:
                    yield side

    @staticmethod
    def _uneven(sides: list[Side], groups: list[WidthGroup]) -> set[int]:
        bad: set[int] = set()
        for side in {side.key(): side for side in sides}.values():
            for index in side.counts:
                found = np.bincount(side.unit[side.group == index], minlength=groups[index].units)
                if len(set(found.tolist())) > 1:
                    bad.add(index)
        return bad

    @staticmethod
    def _classes(index: int, units: int, sides: list[Side]) -> list[int]:
        """Class of each unit of a group, from 0: units that every side takes equally often are of one class."""
        signatures: list[tuple[int, ...]] = [()] * units
        for side in {side.key(): side for side in sides}.values():
            if index in side.counts:
                found = np.bincount(side.unit[side.group == index], minlength=units)
                signatures = [(*old, int(new)) for old, new in zip(signatures, found, strict=True)]
        order = {signature: number for number, signature in enumerate(dict.fromkeys(signatures))}
        return [order[signature] for signature in signatures]

    def _split(
        self, groups: list[WidthGroup], place: dict[int, tuple[int, int]], parts: Mapping[int, list[int]]
    ) -> tuple[list[WidthGroup], dict[int, tuple[int, int]]]:
        """Groups of the classes of their units; a class of one unit has no choice and gets none."""
        made: list[WidthGroup] = []
        moved: dict[tuple[int, int], tuple[int, int]] = {}
        for index, group in enumerate(groups):
            classes = parts.get(index, [0] * group.units)
            for number in range(max(classes) + 1):
                row = [unit for unit, kind in enumerate(classes) if kind == number]
                if len(row) < 2:
                    continue
                moved.update({(index, unit): (len(made), rank) for rank, unit in enumerate(row)})
                first = next(c for c, (g, u) in place.items() if (g, u) == (index, row[0]))
                unit = int((self.outputs[group.producers[0]] == first).sum())
                name = group.name if index not in parts else self._name(group.producers, made)
                made.append(WidthGroup(name, len(row), unit, group.producers, group.members))
        return made, {c: moved[at] for c, at in place.items() if at in moved}

    @staticmethod
    def _without(
        groups: list[WidthGroup], place: dict[int, tuple[int, int]], dropped: set[str]
    ) -> tuple[list[WidthGroup], dict[int, tuple[int, int]]]:
        kept = [index for index, group in enumerate(groups) if group.name not in dropped]
        moved = {old: new for new, old in enumerate(kept)}
        return [groups[i] for i in kept], {c: (moved[g], u) for c, (g, u) in place.items() if g in moved}


def _line(entries: np.ndarray, untouched: np.ndarray, dim: int) -> np.ndarray | None:
    """(group, unit) along one dimension of a tensor (*shape, 2), None where it also varies along another.

    Elements that no op touched, such as rows of a table that no index names, may be of any channel.
    """
    rows = np.moveaxis(entries, dim, 0).reshape(entries.shape[dim], -1, 2)
    free = np.moveaxis(untouched, dim, 0).reshape(entries.shape[dim], -1)
    first = np.argmin(free, axis=1)  # the first element that counts, or the first one
    line = rows[np.arange(len(rows)), first]
    return line if ((rows == line[:, None]).all(-1) | free).all() else None


def _named(flow: Propagation, by_hand: Sequence[Mapping]) -> list[dict[str, list[str]]]:
    """Groups given by hand with their patterns replaced by the names of layers, in network order."""
    named = []
    for number, group in enumerate(by_hand):
        unknown = set(group) - {"out", "into"}
        if unknown or "out" not in group or not group["out"]:
            raise UserError(f"groups[{number}]: expected dict(out=[layers], into=[layers]), got keys {sorted(group)}")
        named.append({})
        for key, patterns in group.items():
            for pattern in patterns:
                found = [name for name in flow.layers if name == pattern or fnmatchcase(name, pattern)]
                if not found:
                    raise UserError(
                        f"groups[{number}]: no conv, linear or norm named '{pattern}' was reached in the traced model"
                        f"{nearest(pattern, flow.layers)}"
                    )
                named[-1][key] = list(dict.fromkeys([*named[-1].get(key, []), *found]))
    return named


def _tie_by_hand(flow: Propagation, by_hand: Sequence[Mapping]) -> None:
    for number, group in enumerate(by_hand):
        first = flow.layers[group["out"][0]][1]
        for name in group["out"][1:]:
            other = flow.layers[name][1]
            if len(other) != len(first):
                raise UserError(
                    f"groups[{number}]: '{name}' has {len(other)} channels, '{group['out'][0]}' has {len(first)}; "
                    "layers of one group must have the same width"
                )
            flow.book.join(first, other, "given by hand")
        for name in group.get("into", ()):
            inputs, outputs = flow.layers[name]
            if (inputs == CONSTANT).all() and len(inputs) % len(first) == 0:
                flow.layers[name] = (first.repeat_interleave(len(inputs) // len(first)), outputs)
            elif len(inputs) == len(first):
                flow.book.join(first, inputs, "given by hand")
            else:
                raise UserError(f"groups[{number}]: '{name}' reads {len(inputs)} channels, the group has {len(first)}")
