"""A copy of a network whose widths can be chosen: the network that was passed in stays as it is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from mmrazor_lite.errors import UserError, failing, nearest, short
from mmrazor_lite.graph import kind_of
from mmrazor_lite.models.mutators import OneShotChannelMutator
from mmrazor_lite.models.ops import whole_copy

from .budgets import plain_number

SHOWN = 3  # layers that a line names


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network whose widths can be chosen.

    Attributes:
        mutator: Has every width that there can be; its ``architecture`` is the copy.
        least: Group -> channels that must stay.
        notes: Which layers keep their width, and why.
    """

    mutator: OneShotChannelMutator
    least: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def network(self) -> nn.Module:
        return self.mutator.architecture


def prepare(
    model: nn.Module,
    input_shape: Sequence[int],
    keep: Sequence[str] = (),
    limits: Mapping[str, int | float] | None = None,
    opaque: Sequence[str] = (),
    groups: Sequence[Mapping] = (),
) -> Prepared:
    """Copy a network and make its widths choices.

    Args:
        model: Any module; it is not changed. One that was made here before, such as by a cell of a notebook that runs
            again, is taken with its weights and at its full widths.
        input_shape: (C, H, W) of one image.
        keep: Patterns of layers, or of parts that hold layers, that keep their width. One that names only what makes no
            channels, such as norms, is for the layers whose channels go through them.
        limits: Pattern of groups or layers -> the least that stays: a share up to 1.0, or a number of channels. Layers
            that are added to each other have one width: the most that any pattern asks of it.
        opaque, groups: See :class:`OneShotChannelMutator`.

    Raises:
        UserError: The network cannot be copied or traced, has no width to choose, or a pattern names nothing.
    """
    tensors = itertools.chain(model.parameters(), model.buffers())
    if torch.is_inference_mode_enabled() or any(tensor.is_inference() for tensor in tensors):
        raise UserError(
            "slimming takes derivatives, which torch.inference_mode() forbids: make the network and slim it outside of "
            "it; torch.no_grad() does no harm"
        )
    patterns = _kept_layers(model, keep)
    with failing(f"{type(model).__name__} cannot be copied"):
        network = whole_copy(model)
    mutator = OneShotChannelMutator(exclude=patterns, opaque=tuple(opaque), groups=tuple(groups))
    mutator.prepare(network, input_shape, any_width=True)
    if all(choice.fixed for choice in mutator.search_space.values()):
        reasons = "; ".join(f"'{layer.layer}': {layer.reason}" for layer in mutator.fixed[:SHOWN])
        raise UserError(f"{type(model).__name__} has no width that can be chosen ({reasons or 'it has no layers'})")
    kept = by_reason((layer.layer, layer.reason) for layer in mutator.fixed)
    notes = tuple(f"{names} {'keep their' if several else 'keeps its'} width: {why}" for names, several, why in kept)
    return Prepared(mutator, _least(mutator, limits or {}), (*notes, *_following(mutator, patterns)))


def _following(mutator: OneShotChannelMutator, patterns: Sequence[str]) -> Iterator[str]:
    """What patterns name beside layers that keep their width, and that makes no channels of its own."""
    for name, width in mutator.search_space.layers.items():
        pattern = next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)
        if pattern is not None and width.choice is not None:
            yield f"keep: of '{pattern}', '{name}' makes no channels; the width of '{width.choice}' is free"


def by_reason(found: Iterable[tuple[str, str]]) -> Iterator[tuple[str, bool, str]]:
    """Names that have one reason in common, in words; whether they are several; the reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in found:
        reasons.setdefault(reason, []).append(f"'{name}'")
    for reason, names in reasons.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield ", ".join(names[:SHOWN]) + more, len(names) > 1, reason


def _kept_layers(model: nn.Module, keep: Sequence[str]) -> tuple[str, ...]:
    """Patterns of layers, from those of layers or of what holds them."""
    if isinstance(keep, str):
        keep = (keep,)
    layers = [name for name, module in model.named_modules() if kind_of(module) is not None]
    found = []
    for pattern in keep:
        options = [p for p in (pattern, f"{pattern}.*") if any(fnmatchcase(name, p) for name in layers)]
        if not options:
            raise UserError(f"keep: '{pattern}' matches no layer of {type(model).__name__}{nearest(pattern, layers)}")
        found += options
    return tuple(found)


def _least(mutator: OneShotChannelMutator, limits: Mapping[str, Any]) -> dict[str, int]:
    """Channels that groups must keep, by their names."""
    space = mutator.search_space
    layers: dict[str, list[str]] = {name: [name] for name in space}
    for layer, width in space.layers.items():
        if width.choice is not None:
            layers[width.choice].append(layer)
    found: dict[str, int] = {}
    for pattern, value in limits.items():
        value = plain_number(value)
        share = type(value) is float
        if type(value) not in (int, float) or not 0 < value <= (1 if share else math.inf):
            raise UserError(f"limits['{pattern}']={short(value)}: give a share such as 0.5, or a number of channels")
        groups = [name for name, members in layers.items() if any(fnmatchcase(layer, pattern) for layer in members)]
        if not groups and not any(fnmatchcase(layer, pattern) for layer in space.layers):
            raise UserError(f"limits: '{pattern}' matches no layer{nearest(pattern, space.layers)}")
        for name in groups:
            full = space[name].candidates[-1]
            asked = min(full, math.ceil(value * full) if share else value)
            found[name] = max(found.get(name, 1), asked)
    return found
