"""Cost cells of the parts that a space chooses about: each combination of the choices that a part depends on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.cells import Axis, Cell
from mmrazor_lite.estimators.cost_model import PartCosts
from mmrazor_lite.graph import LayerTable, WidthGroup
from mmrazor_lite.models.mutables import ElasticBlock

from .check import untouched
from .part_trace import PartTrace


class Maps:
    """How the sizes of all maps change with the size of the image.

    Args:
        architecture: The network, with as little active as possible.
        input_shape: (C, H, W) at the largest resolution.
        resolutions: Ascending, or None where there is no choice.

    Raises:
        UserError: Two maps of one size do not change alike, or the network does not run at a resolution.
    """

    def __init__(self, architecture: nn.Module, input_shape: Sequence[int], resolutions: Sequence[int] | None) -> None:
        self.resolutions = resolutions
        self._positions: list[dict[int, int] | None] = [None]
        if resolutions is not None:
            with untouched(architecture):
                architecture.eval()
                full = _places(architecture, input_shape)
                self._positions = [
                    _mapping(full, _places(architecture, (input_shape[0], r, r)), r) for r in resolutions
                ]

    def tables(self, table: LayerTable) -> list[LayerTable]:
        """The table at every resolution; the one there is, where there is no choice."""
        try:
            return [table if positions is None else table.resized(positions) for positions in self._positions]
        except (KeyError, ValueError) as error:
            raise UserError(
                f"mutator.resolutions: the cost at other sizes does not follow from the map of {error}; remove it"
            ) from None

    def choices(self, name: str) -> tuple[str, ...]:
        """``name`` where there is a choice."""
        return () if self.resolutions is None else (name,)


def _places(network: nn.Module, shape: Sequence[int]) -> list[int]:
    """Places in the map that each module gives, in the order of the calls; those of the image first."""
    found = [shape[-2] * shape[-1]]

    def record(module: nn.Module, args: tuple, output: object) -> None:
        if isinstance(output, Tensor):
            found.append(output.shape[2:].numel())

    handles = [module.register_forward_hook(record) for module in network.modules()]
    try:
        with torch.no_grad():
            network(torch.zeros((1, *shape)).to(next(network.parameters())))
    except (RuntimeError, ValueError) as error:
        problem = str(error).strip().splitlines()[0]
        raise UserError(f"mutator.resolutions: the network does not run on images of {shape[-1]}: {problem}") from None
    finally:
        for handle in handles:
            handle.remove()
    return found


def _mapping(full: Sequence[int], small: Sequence[int], resolution: int) -> dict[int, int]:
    mapping = {1: 1}
    for a, b in zip(full, small, strict=True):
        if mapping.setdefault(a, b) != b:
            raise UserError(
                f"mutator.resolutions: at {resolution}, maps of {a} places become {mapping[a]} and {b} places; "
                "choose resolutions that every stride divides"
            )
    return mapping


def always_cell(table: LayerTable, maps: Maps, resolution: str) -> Cell:
    """What is in every subnet, at every resolution."""
    units = np.zeros((1, 0))
    return Cell("", (resolution,), np.concatenate([PartCosts(part, 0)(units) for part in maps.tables(table)]))


def operator_cell(
    name: str,
    choices: Sequence[Axis],
    candidates: Sequence[tuple[LayerTable, Sequence[WidthGroup]]],
    widths: Sequence[Sequence[int] | None],
    runs: Sequence[bool] | None,
    maps: Maps,
) -> Cell:
    """One operator choice.

    Args:
        name: Its module.
        choices: Names of the resolution, where it is one, of the depth, where it matters, of the operator choice, and
            of the inner widths, where there are any.
        candidates: Layers and width groups of each candidate.
        widths: What the inner width of each candidate may be.
        runs: Whether the choice runs at each depth; None where it always does.
    """
    longest, values = max(len(offered or (0,)) for offered in widths), []
    for index in range(len(maps.tables(candidates[0][0]))):
        for (table, groups), offered in zip(candidates, widths, strict=True):
            # A candidate without a width costs the same at each; beyond the last width, nothing is ever looked up.
            padded = [*(offered or (0,) * longest), *(0,) * longest][:longest]
            units = np.array(padded, np.float64)[:, None] / np.array([group.unit for group in groups])
            values.append(PartCosts(maps.tables(table)[index], len(groups))(units))
    shape = (*_sizes(maps), len(candidates), *((longest,) if any(widths) else ()))
    costs = np.stack(values).reshape(*shape, -1)
    if runs is not None:
        costs = np.stack([costs * run for run in runs], axis=len(_sizes(maps)))
    return Cell(name, tuple(choices), costs)


def block_cell(
    name: str,
    choices: Sequence[str],
    block: ElasticBlock,
    part: PartTrace,
    table: LayerTable,
    runs: Sequence[bool] | None,
    maps: Maps,
) -> Cell:
    """One elastic block.

    Args:
        choices: Names of the resolution, where it is one, of the depth, where it matters, of the kernel and the ratio.
        part: Its trace, and ``table`` its layers in their place.
        runs: Whether the block runs at each depth; None where it always does.
    """
    full, kernels = block.kernel_sizes[-1] ** 2, [f"{name}.{layer}" for layer in part.kernels]
    widths = np.array([block.inner_widths(ratio) for ratio in block.expand_ratios], np.float64)
    units = widths / np.array([group.unit for group in part.groups])
    values = [
        PartCosts(at.with_kernel(kernels, full, size**2), len(part.groups))(units)
        for at in maps.tables(table)
        for size in block.kernel_sizes
    ]
    costs = np.stack(values).reshape(*_sizes(maps), len(block.kernel_sizes), len(units), -1)
    if runs is not None:
        costs = np.stack([costs * run for run in runs], axis=len(_sizes(maps)))
    return Cell(name, tuple(choices), costs)


def _sizes(maps: Maps) -> tuple[int, ...]:
    return () if maps.resolutions is None else (len(maps.resolutions),)


def resolutions_of(values: Sequence[int]) -> tuple[int, ...]:
    """Check ``mutator.resolutions``.

    Raises:
        UserError: They are no ascending positive whole numbers.
    """
    values = tuple(values) if isinstance(values, Sequence | range) and not isinstance(values, str) else (values,)
    good = values and all(type(value) is int and value > 0 for value in values) and list(values) == sorted(set(values))
    if not good:
        raise UserError(f"mutator.resolutions={list(values)} must be ascending whole numbers, such as [128, 160, 192]")
    return values
