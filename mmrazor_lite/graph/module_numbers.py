"""Numbers that modules hold and that are widths: ``num_heads``, a list of the sizes of a split.

A graph does not show whether a reshape took its size from a number or from a shape; the check of small subnets tells.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import nn

from .channels import Side
from .propagate import Propagation
from .reshaping import SPLIT
from .trace import Op
from .units import Units


def numbers_of_modules(flow: Propagation, units: Units) -> dict[str, dict[str, Side | tuple[Side, ...]]]:
    """Plain integers of modules that are the size of a side in one of their reshapes; lists of a split's sizes."""
    found: dict[str, dict[str, Side | tuple[Side, ...]]] = {}
    clashes: set[tuple[str, str]] = set()
    model = flow.traced.model
    first_name = {module: name for name, module in model.named_modules()}
    modules = dict(model.named_modules(remove_duplicate=False))
    for op in flow.sites:
        module = modules.get(op.module_path.split("@")[0])
        if not first_name.get(module):  # the model itself cannot be replaced
            continue
        own = found.setdefault(first_name[module], {})
        integers = {k: v for k, v in vars(module).items() if type(v) is int and v > 1}
        for side in _site_sides(flow, op, units, set(integers.values())):
            for name in [name for name, value in integers.items() if value == len(side)]:
                known = own.setdefault(name, side)
                if (known.counts, known.constant) != (side.counts, side.constant):
                    clashes.add((first_name[module], name))
        for name, parts in _site_lists(flow, op, units, module):
            own.setdefault(name, parts)
    for module, name in clashes:
        del found[module][name]
    return {module: names for module, names in found.items() if names}


def _site_lists(flow: Propagation, op: Op, units: Units, module: nn.Module) -> Iterator[tuple[str, tuple[Side, ...]]]:
    """Lists that a module holds of the sizes of the parts of a split along the channels."""
    parts = flow.nodes.get(op.node)
    if op.kind not in SPLIT or not isinstance(parts, list) or not all(isinstance(p, torch.Tensor) for p in parts):
        return
    dim = int(op.argument("dim", 0)) % parts[0].dim()
    sizes = [part.shape[dim] for part in parts]
    for name, value in vars(module).items():
        if isinstance(value, (list, tuple)) and list(value) == sizes and all(type(size) is int for size in value):
            yield name, tuple(units.side_along(part, dim) for part in parts)


def _site_sides(flow: Propagation, op: Op, units: Units, sizes: Collection[int]) -> Iterator[Side]:
    """Sides, of one of ``sizes``, of the tensors that an op takes or gives, and of the part up to a cut."""
    source = flow.nodes.get(op.node.all_input_nodes[0])
    results = flow.nodes.get(op.node)
    tensors = [source, *(results if isinstance(results, list) else [results])]
    if op.kind in ("slice", "narrow") and isinstance(source, torch.Tensor):
        dim = int(op.argument("dim", 0)) % source.dim()
        cuts = {int(op.argument(key) or 0) % (source.shape[dim] + 1) for key in ("start", "end") if op.argument(key)}
        tensors += [source.narrow(dim, 0, cut) for cut in cuts if 1 < cut <= source.shape[dim]]
    for ids in tensors:
        if not isinstance(ids, torch.Tensor):
            continue
        for dim, size in enumerate(ids.shape):
            if size not in sizes:
                continue
            side = units.side_along(ids, dim)
            if not side.is_fixed and len({*zip(side.group, side.unit, strict=True)}) > 1:
                yield side
