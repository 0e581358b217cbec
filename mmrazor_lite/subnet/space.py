"""The ordered set of choices of one prepared architecture, and vectorised operations on its subnets.

Shapes: n rows, D choices, V the sum of the numbers of candidates. A row holds one candidate index per choice, in the
order of the space; arrays of rows are int64 of shape (n, D).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.subnet.choice import Choice, LayerWidth, Stage, at
from mmrazor_lite.subnet.subnet import Subnet

_LISTED = 5  # names listed in an error


class SearchSpace(Mapping[str, Choice]):
    """Mapping from name to :class:`Choice`, in order.

    A choice that is not active (see ``Choice.active_if``) cannot matter. Its canonical candidate is the first one
    (index 0); everything that returns rows or subnets returns them canonical, so equal networks are equal subnets.

    Args:
        choices: The choices; parents may come before or after the choices that depend on them.
        layers: For every layer whose width is known, the choice that sets it. Needed to read channel files that list
            widths layer by layer.
        aliases: Other names of choices, as the files of other tools have them.
        stages: The stages of the network, in order: which block is where is said here, and in no name.

    Raises:
        UserError: A name is given twice, ``active_if`` names an unknown choice or value or goes in a circle, or a
            layer or an alias names an unknown choice.
    """

    def __init__(
        self,
        choices: Iterable[Choice],
        layers: Mapping[str, LayerWidth] | None = None,
        aliases: Mapping[str, str] | None = None,
        stages: Sequence[Stage] = (),
    ) -> None:
        self._choices: dict[str, Choice] = {}
        for choice in choices:
            if choice.name in self._choices:
                raise UserError(f"choice '{choice.name}' is given twice")
            self._choices[choice.name] = choice
        self._names = tuple(self._choices)
        self._order = _parents_first(self._choices)
        self._rules = _rules(self._choices, self._order)
        self._sizes = np.array([len(choice.candidates) for choice in self._choices.values()], dtype=np.int64)
        self.layers: Mapping[str, LayerWidth] = MappingProxyType(dict(layers or {}))
        for layer, width in self.layers.items():
            if width.choice is not None and getattr(self.get(width.choice), "kind", None) != "width":
                raise UserError(f"layer '{layer}': '{width.choice}' is not a width choice of the space")
        self.stages = tuple(stages)
        self.aliases: Mapping[str, str] = MappingProxyType(dict(aliases or {}))
        for alias, name in self.aliases.items():
            if name not in self._choices or alias in self._choices:
                raise UserError(f"alias '{alias}': '{name}' is not a choice of the space, or the alias is one itself")

    def __getitem__(self, name: str) -> Choice:
        return self._choices[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)

    def __repr__(self) -> str:
        return f"SearchSpace({len(self)} choices, about 10^{math.log10(self.size):.0f} subnets, {self.fingerprint})"

    def __reduce__(self) -> tuple:
        # The read-only views cannot be copied or pickled, so a copy is built anew.
        return SearchSpace, (list(self._choices.values()), dict(self.layers), dict(self.aliases), self.stages)

    def renamed(self, rename: Callable[[str], str]) -> SearchSpace:
        """The same space where choices and layers have other names."""
        choices = [
            replace(
                choice,
                name=rename(name),
                active_if=choice.active_if and (rename(choice.active_if[0]), choice.active_if[1]),
            )
            for name, choice in self.items()
        ]
        layers = {
            rename(layer): replace(width, choice=None if width.choice is None else rename(width.choice))
            for layer, width in self.layers.items()
        }
        return SearchSpace(choices, layers, {alias: rename(name) for alias, name in self.aliases.items()}, self.stages)

    # -- identity ------------------------------------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> str:
        """``sha256:<16 hex>`` of what a subnet means: names, kinds, conditions, candidates; of widths the full one.

        Independent of the order, so two candidate grids over one network share it and can read each other's files.
        """
        return _digest([self._identity(name, full_only=True) for name in sorted(self._names)])

    @cached_property
    def grid(self) -> str:
        """Like :attr:`fingerprint`, of all candidates and their order: rows mean the same where it is equal."""
        return _digest([self._identity(name, full_only=False) for name in self._names])

    @cached_property
    def size(self) -> int:
        """Number of different subnets."""
        children: dict[str, list[str]] = {name: [] for name in self._names}
        for name in self._order:
            rule = self._choices[name].active_if
            if rule is not None:
                children[rule[0]].append(name)
        counts: dict[str, int] = {}
        for name in reversed(self._order):  # a choice has one parent at most, so the conditions are a forest
            counts[name] = sum(
                math.prod(counts[child] for child in children[name] if value in self._choices[child].active_if[1])
                for value in self._choices[name].candidates
            )
        return math.prod(counts[name] for name in self._names if self._choices[name].active_if is None)

    # -- rows ----------------------------------------------------------------------------------------------------

    def sample_indices(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draw (n, D) canonical rows, every choice uniformly and independently."""
        return self._canonical(self._draw(rng, n))

    def mutate(self, rng: np.random.Generator, indices: np.ndarray, prob: float) -> np.ndarray:
        """Draw each choice anew with probability ``prob`` (the same value may come); (n, D) to (n, D), canonical.

        A choice that becomes active by the mutation of its parent is drawn, not left at its canonical candidate.
        """
        rows = self._rows(indices)
        fresh = (rng.random(rows.shape) * self._sizes).astype(np.int64)  # ten times as fast as integers of many ranges
        anew = rng.random(rows.shape) < prob
        return self._canonical(np.where(anew | ~self._active(rows), fresh, rows))

    def crossover(self, rng: np.random.Generator, a: np.ndarray, b: np.ndarray, prob: float = 0.5) -> np.ndarray:
        """Take each choice from ``b`` with probability ``prob``, else from ``a``; (n, D) each, canonical.

        Where a choice is active in one parent only, it comes from that one.
        """
        a, b = self._rows(a), self._rows(b)
        if a.shape != b.shape:
            raise ValueError(f"crossover needs as many rows on both sides, got {len(a)} and {len(b)}")
        in_a, in_b = self._active(a), self._active(b)
        from_b = np.where(in_a == in_b, rng.random(a.shape) < prob, in_b)
        return self._canonical(np.where(from_b, b, a))

    def active(self, indices: np.ndarray) -> np.ndarray:
        """Tell which choices matter; (n, D) bool."""
        return self._active(self._rows(indices))

    def canonical(self, indices: np.ndarray) -> np.ndarray:
        """Put every choice that does not matter at index 0; (n, D). Applying it twice changes nothing more."""
        return self._canonical(self._rows(indices))

    def numeric(self, indices: np.ndarray) -> np.ndarray:
        """Candidate values, (n, D): int64, or float64 when any candidate is a float. A name counts as its index."""
        rows = self._rows(indices)
        return self._table.take(rows + np.arange(len(self)) * self._table.shape[1])

    def one_hot(self, indices: np.ndarray) -> np.ndarray:
        """Encode rows as (n, V) float32: one 1 in the block of each active choice, zeros in that of the others."""
        rows = self._rows(indices)
        encoded = np.zeros((len(rows), int(self._sizes.sum())), dtype=np.float32)
        starts = np.cumsum(self._sizes) - self._sizes
        np.put_along_axis(encoded, starts + rows, self._active(rows).astype(np.float32), axis=1)
        return encoded

    # -- subnets -------------------------------------------------------------------------------------------------

    def max(self) -> Subnet:
        """The subnet of all last candidates."""
        return self.subnet(self._sizes - 1)

    def min(self) -> Subnet:
        """The subnet of all first candidates."""
        return self.subnet(np.zeros(len(self), dtype=np.int64))

    def sample(self, rng: np.random.Generator) -> Subnet:
        """Draw one subnet, every choice uniformly."""
        return self.subnet(self.sample_indices(rng, 1)[0])

    def subnet(self, row: np.ndarray) -> Subnet:
        """Turn one row (D,) into the canonical subnet it stands for."""
        row = self.canonical(np.asarray(row)[None])[0]
        return Subnet(
            {name: choice.candidates[i] for (name, choice), i in zip(self.items(), row.tolist(), strict=True)}
        )

    def index(self, subnet: Mapping[str, Any], where: str = "") -> np.ndarray:
        """Turn a subnet into its canonical row (D,). Choices that do not matter may be left out.

        A width that does not matter may be one of another grid of the same network.

        Raises:
            UserError: As :meth:`validate`.
        """
        for name in subnet:
            if name not in self._choices:
                raise UserError(f"{at(where)}unknown choice {short(name)}{nearest(str(name)[:200], self._names)}")
        row, judged_later = np.zeros(len(self), dtype=np.int64), []
        for column, (name, choice) in enumerate(self.items()):
            if name in subnet and choice.kind == "width" and subnet[name] not in choice.candidates:
                judged_later.append(column)  # another grid's, and only wrong where it matters
            elif name in subnet:
                row[column] = choice.index(subnet[name], where)
        active = self.active(row[None])[0]
        for column in judged_later:
            if active[column]:
                self[self._names[column]].index(subnet[self._names[column]], where)
        missing = [name for name, on in zip(self._names, active, strict=True) if on and name not in subnet]
        if missing:
            raise UserError(f"{at(where)}{len(missing)} of {len(self)} choices missing: {listed(missing)}")
        return np.where(active, row, 0)

    def validate(self, subnet: Mapping[str, Any], where: str = "") -> None:
        """Check that ``subnet`` is one of this space.

        Args:
            subnet: Name of a choice to value.
            where: The beginning of the message, such as the file it comes from.

        Raises:
            UserError: An unknown choice, a missing one, a value above the maximum or not among the candidates.
        """
        self.index(subnet, where)

    # -- inside --------------------------------------------------------------------------------------------------

    @cached_property
    def _table(self) -> np.ndarray:
        columns = [
            list(range(len(choice.candidates))) if isinstance(choice.candidates[0], str) else list(choice.candidates)
            for choice in self.values()
        ]
        floats = any(isinstance(value, float) for column in columns for value in column)
        table = np.zeros((len(self), max(map(len, columns), default=0)), dtype=np.float64 if floats else np.int64)
        for line, column in zip(table, columns, strict=True):
            line[: len(column)] = column
        return table

    def _active(self, rows: np.ndarray) -> np.ndarray:
        active = np.ones(rows.shape, dtype=bool)
        for columns, parents, starts, enables in self._rules:
            active[:, columns] = active[:, parents] & enables[rows[:, parents] + starts]
        return active

    def _canonical(self, rows: np.ndarray) -> np.ndarray:
        return np.where(self._active(rows), rows, 0) if self._rules else rows.copy()

    def _draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.integers(0, self._sizes, size=(n, len(self)), dtype=np.int64)

    def _rows(self, indices: np.ndarray) -> np.ndarray:
        rows = np.asarray(indices)
        if rows.ndim != 2 or rows.shape[1] != len(self) or rows.dtype.kind not in "iu":
            raise ValueError(f"rows must be integers of shape (n, {len(self)}), got {rows.dtype} {rows.shape}")
        rows = rows.astype(np.int64, copy=False)
        if (rows.view(np.uint64) >= self._sizes.view(np.uint64)).any():  # unsigned: what is below 0 is far above
            raise ValueError("a candidate index lies outside of its choice")
        return rows

    def _identity(self, name: str, full_only: bool) -> dict[str, Any]:
        choice = self._choices[name]
        rule = None
        if choice.active_if is not None:
            parent, values = choice.active_if
            rule = [parent, [value for value in self._choices[parent].candidates if value in values]]
        only_full = full_only and choice.kind == "width"
        candidates = [choice.candidates[-1]] if only_full else list(choice.candidates)
        return {"name": name, "kind": choice.kind, "active_if": rule, "candidates": candidates}


def listed(names: Sequence[str]) -> str:
    """The first five names, quoted, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(f"'{name}'" for name in names[:_LISTED]) + more


def _digest(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def _parents_first(choices: Mapping[str, Choice]) -> list[str]:
    depth: dict[str, int] = {}
    for name, choice in choices.items():
        seen = [name]
        while choice.active_if is not None:
            parent = choice.active_if[0]
            if parent not in choices:
                raise UserError(f"choice '{choice.name}': active_if names '{parent}', not a choice of the space")
            if parent in seen:
                raise UserError(f"choice '{name}': active_if goes in a circle: {' -> '.join([*seen, parent])}")
            seen.append(parent)
            choice = choices[parent]
        depth[name] = len(seen)
    return sorted(choices, key=depth.__getitem__)


def _rules(
    choices: Mapping[str, Choice], order: list[str]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """What makes choices matter, generation by generation, so that one step settles all of equally many ancestors.

    Each is the columns of the choices, those of their parents, and where in the last array begins what says for each
    candidate of the parent whether the choice matters with it.
    """
    position = {name: column for column, name in enumerate(choices)}
    generation: dict[str, int] = {}
    members: dict[int, list[tuple[int, int, np.ndarray]]] = {}
    for name in order:
        rule = choices[name].active_if
        generation[name] = 0 if rule is None else generation[rule[0]] + 1
        if rule is not None:
            enables = np.zeros(len(choices[rule[0]].candidates), dtype=bool)
            for value in rule[1]:
                enables[choices[rule[0]].index(value, f"choice '{name}': active_if")] = True
            members.setdefault(generation[name], []).append((position[name], position[rule[0]], enables))
    rules = []
    for level in members.values():
        columns, parents, enables = zip(*level, strict=True)
        starts = np.cumsum([0, *map(len, enables[:-1])])
        rules.append((np.array(columns), np.array(parents), starts, np.concatenate(enables)))
    return rules
