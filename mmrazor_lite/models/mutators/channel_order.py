"""The order of channels: what of a network follows its width groups, and putting the units of a group in another order.

A subnet keeps the first units of a group, so which ones these are is decided before: by one permutation of every tensor
that the channels of the group run through.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.graph import LayerKind, Side, kind_of
from mmrazor_lite.models.ops import active_of

from .check import probe_images

EXACT = 1e-10  # of the largest output, in double precision: more than another order of summation changes

Role = Literal["inputs", "outputs", "held"]


@dataclass(frozen=True, eq=False)
class Member:
    """One dimension of a tensor that follows width groups.

    Attributes:
        layer: Name of the module that holds it.
        kind: Of the layer; None for another module.
        name: Of the parameter or buffer.
        tensor: All of it, whatever is active.
        dim: The dimension that follows.
        role: Whether these are the channels that the layer reads or makes; ``'held'`` of another tensor of a module.
        side: The channels along the dimension.
    """

    layer: str
    kind: LayerKind | None
    name: str
    tensor: Tensor
    dim: int
    role: Role
    side: Side

    def by_unit(self, values: Tensor, group: int, units: int) -> Tensor:
        """Sum values (..., C) of the channels over those of each unit of a group: (..., units)."""
        mask = self.side.group == group
        index = torch.as_tensor(self.side.unit[mask], device=values.device)
        total = values.new_zeros((*values.shape[:-1], units))
        return total.index_add_(-1, index, values[..., torch.as_tensor(mask, device=values.device)])

    def places(self, group: int) -> np.ndarray:
        """Positions along the dimension of each unit of a group that it follows: (units, channels of a unit)."""
        return _places(self.side, group)


def members(layers: Mapping[str, nn.Module]) -> Iterator[Member]:
    """What follows the width groups in dynamic layers; a tensor that several modules share comes once."""
    seen: set[int] = set()
    for layer, module in layers.items():
        kind, active = kind_of(module), active_of(module)
        roles = kind.sides(module) if kind is not None else {}
        for name, where in active.tensors.items():
            tensor = module._parameters.get(name)
            tensor = module._buffers.get(name) if tensor is None else tensor
            if tensor is None or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            for dim, channels in where:
                role = dict(roles.get(name, ())).get(dim, "held")
                yield Member(layer, kind, name, tensor, dim, role, channels.side)


@torch.no_grad()
def reorder(followers: list[Member], orders: Mapping[int, np.ndarray]) -> None:
    """Put the units of groups in another order, in place: ``orders[group][rank]`` is the unit that gets this rank."""
    for member in followers:
        index = np.arange(len(member.side))
        for group in set(orders) & set(member.side.counts):
            places = _places(member.side, group)
            index[places] = places[orders[group]]
        if not np.array_equal(index, np.arange(len(index))):
            moved = member.tensor.index_select(member.dim, torch.as_tensor(index, device=member.tensor.device))
            member.tensor.copy_(moved)


def orders_of(scores: Mapping[str, Sequence[float]], units: Mapping[str, int]) -> dict[int, np.ndarray]:
    """Group index -> its units by falling score, equal ones in the order they have.

    Args:
        scores: Group -> a score for each of its units.
        units: Group -> its number of units, of all groups in the order of their indices.

    Raises:
        UserError: A group is unknown, or its scores are not one finite number for each unit.
    """
    if not isinstance(scores, Mapping):
        raise UserError(f"sort_channels takes scores by group, {{name: scores of its units}}, got {short(scores)}")
    orders = {}
    for name, values in scores.items():
        if name not in units:
            raise UserError(f"sort_channels: '{name}' is no width group{nearest(name, units)}")
        try:
            values = values.detach().double().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values, float)
        except (TypeError, ValueError):
            raise UserError(f"sort_channels: '{name}' needs {units[name]} numbers, got {short(values)}") from None
        if values.shape != (units[name],) or not np.isfinite(values).all():
            found = f"{values.shape} with {int((~np.isfinite(values)).sum())} that are not finite"
            raise UserError(f"sort_channels: '{name}' needs {units[name]} finite scores, got {found}")
        orders[list(units).index(name)] = np.argsort(-values, kind="stable")
    return orders


class HasOrder(Protocol):
    """A mutator whose groups may be sorted."""

    architecture: nn.Module
    input_shape: tuple[int, ...]

    @property
    def unit_counts(self) -> Mapping[str, int]: ...  # group -> its units, in the order of their indices

    @property
    def members(self) -> list[Member]: ...

    def run(self, images: Tensor) -> list[Tensor]: ...  # what must stay the same


def sort_groups(network: HasOrder, scores: Mapping[str, Sequence[float]]) -> list[str]:
    """Order the units of groups by falling score, in place; equal ones stay as they are.

    What an order would change is found on a copy in double precision before, and such a group stays.

    Returns:
        Groups that stay.

    Raises:
        UserError: A group is unknown, or its scores are not one finite number for each unit.
    """
    names = list(network.unit_counts)
    orders = orders_of(scores, network.unit_counts)
    twin = copy.deepcopy(network)
    twin.architecture.double()
    images = probe_images(network.architecture, network.input_shape).double()
    stay = sort_what_may(twin.members, orders, lambda: twin.run(images))
    reorder(network.members, {index: order for index, order in orders.items() if index not in stay})
    return [names[index] for index in stay]


@torch.no_grad()
def sort_what_may(
    followers: list[Member], orders: Mapping[int, np.ndarray], run: Callable[[], list[Tensor]]
) -> list[int]:
    """Sort the groups whose order does not change what ``run`` gives, in place; return the others, which stay."""
    return _sort_what_may(followers, orders, run, run())


def _sort_what_may(
    followers: list[Member], orders: Mapping[int, np.ndarray], run: Callable[[], list[Tensor]], expected: list[Tensor]
) -> list[int]:
    reorder(followers, orders)
    limit = EXACT * max((float(tensor.abs().max()) for tensor in expected), default=0.0)
    if all(float((a - b).abs().max()) <= limit for a, b in zip(run(), expected, strict=True)):
        return []
    reorder(followers, {index: np.argsort(order) for index, order in orders.items()})
    if len(orders) == 1:
        return list(orders)
    half, items = len(orders) // 2, list(orders.items())
    return [
        index for part in (items[:half], items[half:]) for index in _sort_what_may(followers, dict(part), run, expected)
    ]


def _places(side: Side, group: int) -> np.ndarray:
    """Positions of the channels of each unit, in order, (units, channels of a unit)."""
    mine = np.flatnonzero(side.group == group)
    ranked = mine[np.argsort(side.unit[mine], kind="stable")]
    return ranked.reshape(int(side.unit[mine].max()) + 1, -1)
