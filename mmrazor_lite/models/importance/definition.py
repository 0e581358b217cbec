"""What a measure of importance is, and sums of what it finds over all that shares the channels of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError, failing, nearest, short
from mmrazor_lite.models.mutators.channel_order import Member

Batches = Iterable[tuple[Tensor, Tensor | None]]  # images (N, C, H, W), and targets where there are any
Scores = dict[str, np.ndarray]  # group -> score (units,) of each unit, the higher the better


@dataclass(frozen=True, eq=False)
class Ranking:
    """The units of a width group by worth.

    Attributes:
        order: ``order[r]`` is the unit that is kept as the r-th, (units,).
        errors: ``errors[w]`` is what is lost where the w best units stay, (units + 1,): falling, 0 at the end.
    """

    order: np.ndarray
    errors: np.ndarray


class Widths(Protocol):
    """What a measure sees of a network: its width mutator, see :class:`OneShotChannelMutator`."""

    @property
    def unit_counts(self) -> Mapping[str, int]: ...  # group -> its units, in the order of their indices

    @property
    def architecture(self) -> nn.Module: ...

    @property
    def members(self) -> list[Member]: ...

    def outputs(self, images: Tensor) -> list[Any]: ...  # of the full network in eval mode, of each of its runs

    def run(self, images: Tensor) -> list[Tensor]: ...  # every tensor of them


class Importance(Protocol):
    """A measure: called with the mutator of the network, batches and a loss, it scores each unit of each group.

    ``needs`` says what it looks at: the weights alone, or images too. ``loss`` takes (outputs as the network returns
    them, targets); where it, or the targets, are missing, a measure that needs a loss takes the distance between
    outputs.
    """

    needs: Literal["weights", "images"]

    def __call__(self, network: Widths, batches: Batches, loss: Callable[..., Tensor] | None = None) -> Scores: ...


IMPORTANCES: dict[str, Importance] = {}  # by name


def measure(needs: Literal["weights", "images"]) -> Callable:
    """Register a function as a measure of importance under its own name; written anew, it takes its own place.

    Raises:
        UserError: Another one has the name.
    """

    def register(function: Importance) -> Importance:
        function.needs = needs
        name, held = function.__name__, IMPORTANCES.get(function.__name__)
        if held is not None and (held.__module__, held.__qualname__) != (function.__module__, function.__qualname__):
            raise UserError(f"importance '{name}' is taken by {held.__module__}.{held.__qualname__}: take another name")
        IMPORTANCES[name] = function
        return function

    return register


def build(name: str | Importance, where: str = "importance") -> Importance:
    """The measure of this name, or a function of the caller's own, whose scores are checked.

    Raises:
        UserError: There is none.
    """
    if callable(name):
        return name if name in IMPORTANCES.values() else _checked(name, where)
    found = IMPORTANCES.get(name) if isinstance(name, str) else None
    if found is None:
        names = sorted(IMPORTANCES)
        raise UserError(f"{where}={name!r}: allowed are {', '.join(names)}{nearest(str(name), names)}")
    return found


def _checked(function: Callable, where: str) -> Importance:
    """A function as a measure that gives a finite score for each unit of each group."""

    def measured(network: Widths, batches: Batches, loss: Callable[..., Tensor] | None = None) -> Scores:
        with failing(f"{where}: the function cannot score the network"):
            given = function(network, batches, loss)
        scores = {}
        for group, units in network.unit_counts.items():
            found = given.get(group) if isinstance(given, Mapping) else None
            try:
                found = found.detach().cpu() if isinstance(found, Tensor) else found
                scores[group] = np.asarray(found, np.float64)
            except (TypeError, ValueError):
                scores[group] = np.empty(0)
            if scores[group].shape != (units,) or not np.isfinite(scores[group]).all():
                raise UserError(
                    f"{where}: the function must give {{group: scores}}, {units} finite numbers for '{group}', got "
                    f"{short(found)}"
                )
        return scores

    measured.needs = "images"
    return measured


def total(network: Widths, values: Iterable[tuple[Member, Tensor]]) -> Scores:
    """Scores of each group: sums of values (..., C) of the channels of its members, over all but the units."""
    scores = {name: torch.zeros(units, dtype=torch.float64) for name, units in network.unit_counts.items()}
    for member, channels in values:
        channels = channels.detach().double().cpu().reshape(-1, channels.shape[-1]).sum(0)
        for index, (name, units) in enumerate(network.unit_counts.items()):
            if index in member.side.counts:
                scores[name] += member.by_unit(channels, index, units)
    return {name: score.numpy() for name, score in scores.items()}
