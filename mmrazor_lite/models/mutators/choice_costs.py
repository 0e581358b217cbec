"""What the choices of a network cost: each form of a choice module traced alone, each part a table of what it spans."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.cells import Axis, Cell, names_of
from mmrazor_lite.estimators.cost_model import PartCosts
from mmrazor_lite.graph import LayerTable, TracedModel, layer_table, trace
from mmrazor_lite.graph.computation import lines_of, note, placed
from mmrazor_lite.graph.opaque import OPAQUE
from mmrazor_lite.graph.trace import BATCH, shape_of
from mmrazor_lite.models.mutables import ITSELF, InnerWidths, has_static_form
from mmrazor_lite.models.ops import settle

from .check import untouched
from .part_trace import NO_WIDTHS, PartTrace, build_of, trace_alone
from .places import Gate, Place, within
from .standalone import copied

RESOLUTION = "resolution"


@dataclass(frozen=True)
class Form:
    """One static form of a choice module: where it is in the network, its inner widths (None: no choice), its trace."""

    name: str
    inner: InnerWidths | None
    part: PartTrace


class ChoiceCosts:
    """What a network with choices costs and computes: a trace of it, and one of each form of each choice module.

    The trace of the network does not look into the choices; forms that are built alike are traced once. Whatever is
    chosen in a place, it gives tensors of one shape, so costs add up over the places.

    Args:
        architecture: The network.
        input_shape: (C, H, W) at the largest resolution.
        places: Its choice modules.

    Attributes:
        forms: Name of a choice module -> its forms, over the candidates of the choices that decide about them.
        lines: What the network computes.
        always: The layers that are in every subnet.

    Raises:
        UserError: A choice module does not run, or twice, or its inner widths do not fit.
    """

    def __init__(self, architecture: nn.Module, input_shape: Sequence[int], places: Sequence[Place]) -> None:
        self._parts = {place.name: place for place in places if not place.offer.stage}
        traced = trace(_skeleton(architecture, input_shape, self._parts), input_shape, eval_only=True)
        self.lines, self._whole = lines_of(traced), layer_table(traced, NO_WIDTHS)
        sizes, self._held = _surroundings(traced, self._whole, self._parts)
        traced_here: set[tuple] = set()
        self.forms = {name: _forms(place, sizes[name], traced_here) for name, place in self._parts.items()}
        for forms in self.forms.values():
            self.lines += _lines(forms)
        runs = [(place, child, gate) for place in places for child, gate in place.children.items()]
        self._plain = {n: (*place.gates, gate) for place, n, gate in runs if n not in self._parts}
        self.always = self._whole.outside((*self._parts, *self._plain))

    def cells(self, maps: Maps) -> list[Cell]:
        """The cost of each part, over all choices that it depends on.

        Args:
            maps: Of the network with as little active as possible.
        """
        if maps.resolutions is not None and any(self._held.values()):
            name = next(name for name, held in self._held.items() if held)
            raise UserError(f"mutator.resolutions: something else is alive while '{name}' runs; remove it")
        found = [self._cell(place, maps) for place in self._parts.values()]
        for name, gates in self._plain.items():
            inside = [part for part in (*self._parts, *self._plain) if part.startswith(f"{name}.")]
            found.append(_cell(name, (), _fixed(self._whole.inside(name).outside(inside), maps, name), gates, maps))
        return found if maps.resolutions is None else [*found, _cell("", (), _fixed(self.always, maps), (), maps)]

    def _cell(self, place: Place, maps: Maps) -> Cell:
        widths, deciding = place.width_axes(), [place.choices[own] for own in place.deciding]
        costs = np.stack([self._costs(place, form, widths, maps) for form in self.forms[place.name]], axis=1)
        values = costs.reshape(len(costs), *(len(choice.candidates) for choice in deciding), *costs.shape[2:])
        return _cell(place.name, [*(choice.name for choice in deciding), *widths], values, place.gates, maps)

    def _costs(self, place: Place, form: Form, axes: Sequence[Axis], maps: Maps) -> np.ndarray:
        """Costs (R, length of each of ``axes``..., M) of one form at every resolution."""
        sizes = {choice.name: len(choice.candidates) for choice in place.choices.values()}
        lengths = [max(sizes[name] for name in names_of(axis)) for axis in axes]
        tables = maps.tables(form.part.table.beside(self._held[place.name]), form.name)
        units, shape = np.zeros((1, 0)), [1] * len(axes)
        if form.inner is not None:
            groups, choice = form.part.groups, place.choices[form.inner.choice]
            at = next(index for index, axis in enumerate(axes) if choice.name in names_of(axis))
            shape[at] = lengths[at]
            units = np.zeros((lengths[at], len(groups)))  # beyond the last width, nothing is ever looked up
            rows = np.array([form.inner.at(value, len(groups)) for value in choice.candidates], np.float64)
            units[: len(rows)] = rows / np.array([group.unit for group in groups])
        costs = np.stack([PartCosts(table, units.shape[1])(units) for table in tables])
        return np.broadcast_to(costs.reshape(len(tables), *shape, -1), (len(tables), *lengths, costs.shape[-1]))


def _cell(name: str, axes: Sequence[Axis], costs: np.ndarray, gates: Sequence[Gate], maps: Maps) -> Cell:
    """A cell of ``costs`` (R, length of each of ``axes``..., M), which are none where a gate is closed."""
    for choice, values in reversed(gates):
        costs = np.stack([costs * (value in values) for value in choice.candidates], axis=1)
    names = [choice.name for choice, _ in gates]
    return Cell(name, (*maps.choices, *names, *axes), costs if maps.choices else costs[0])


def _fixed(table: LayerTable, maps: Maps, name: str = "") -> np.ndarray:
    """Costs (R, M) of layers that have no choice of their own."""
    return np.concatenate([PartCosts(at, 0)(np.zeros((1, 0))) for at in maps.tables(table, name)])


def _forms(place: Place, size: tuple[int, ...], before: set[tuple]) -> list[Form]:
    """Every form of a choice module that reads images of ``size`` (C, H, W).

    New layers draw weights. Those of a form that is the first of its build in the network, which ``before`` tells, do
    so for good: what is drawn next depends on the network alone, and not on what the process has traced.
    """
    twin, found = _twin(place.module), []
    inside = {id(part): name or ITSELF for name, part in twin.named_modules()}
    for values in reversed(list(place.form_values())):
        twin.activate(values)
        drawn = torch.get_rng_state()
        static = twin.settled()
        own = inside.get(id(static), ITSELF)
        static = _plain(static)
        inner, name = place.offer.inner.get(own), within(place.name, own)
        groups = () if inner is None else _present(inner.groups, twin if own == ITSELF else static, static)
        build = build_of(static, size, groups)
        if build in before:
            torch.set_rng_state(drawn)
        before.add(build)
        found.append(Form(name, inner, trace_alone(static, size, groups)))
        if inner is not None:
            _check_widths(place, found[-1])
    return found[::-1]


def _check_widths(place: Place, form: Form) -> None:
    """Check that the layers inside a form are built at the largest width."""
    choice, groups = place.choices[form.inner.choice], form.part.groups
    for group, full in zip(groups, form.inner.at(choice.candidates[-1], len(groups)), strict=True):
        if group.full != full or (group.unit != 1 and not form.inner.widths):
            raise UserError(
                f"{form.name}.{group.name}: has {group.full} channels, the inner widths of '{place.name}' end at "
                f"{full}; build the candidates at the largest inner width"
            )


def _present(groups: Sequence[Mapping], module: nn.Module, static: nn.Module) -> list[dict[str, list[str]]]:
    """The groups of a module without those of its layers that one of its forms does not have."""
    gone = {name for name, _ in module.named_modules()} - {name for name, _ in static.named_modules()}
    return [{key: [layer for layer in layers if layer not in gone] for key, layers in g.items()} for g in groups]


def _twin(module: nn.Module) -> nn.Module:
    """A copy with the same tensors, so that the choices of the module itself stay as they are."""
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copied(module, lambda module: copy.deepcopy(module, tensors))


def _plain(static: nn.Module) -> nn.Module:
    """``static`` without anything to choose inside."""
    elastic = any(map(has_static_form, static.modules()))
    return settle(_twin(static)) if elastic else static


def _lines(forms: Sequence[Form]) -> Iterator[str]:
    """What the forms of one choice module compute; of several in one place, the last one speaks."""
    for form in {form.name: form for form in forms}.values():
        yield from placed(form.part.lines, form.name)
        if form.inner is not None and form.inner.widths:
            label = form.inner.choice.rpartition("_")[2]
            yield note(form.name, "widths", **{f"{label}_{value:g}": w for value, w in form.inner.widths.items()})


def _skeleton(architecture: nn.Module, input_shape: Sequence[int], parts: Mapping[str, Place]) -> nn.Module:
    """A copy with one op in the place of each choice: the time of a trace grows with the ops and tensors in it."""
    shown: dict[int, nn.Module] = {}

    def record(module: nn.Module, args: tuple, output: object) -> None:
        if not isinstance(output, Tensor) or len(args) != 1:
            name = next(name for name, place in parts.items() if place.module is module)
            raise UserError(f"NasMutator: '{name}' ({type(module).__name__}) must take one tensor and give one")
        shown[id(module)] = _Opaque(tuple(output.shape))

    handles = [place.module.register_forward_hook(record) for place in parts.values()]
    parameter = next(architecture.parameters())
    try:
        with untouched(architecture), torch.no_grad():
            architecture.eval()
            architecture(torch.zeros((BATCH, *input_shape)).to(parameter))
    finally:
        for handle in handles:
            handle.remove()
    return copied(architecture, lambda model: copy.deepcopy(model, shown))


def _surroundings(
    traced: TracedModel, whole: LayerTable, parts: Mapping[str, Place]
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """The (C, H, W) that each choice reads, and the sizes in bytes of what is alive beside its input and output."""
    sizes: dict[str, tuple[int, ...]] = {}
    held: dict[str, int] = {}
    for op, alive in zip(traced.eval, whole.alive, strict=True):
        name = op.module_path.split("@")[0]
        if op.kind != OPAQUE or name not in parts:
            continue
        if name in sizes:
            raise UserError(f"NasMutator: '{name}' runs twice in one forward pass; give each place its own")
        source = op.argument("inputs")[0]
        sizes[name] = shape_of(source)[1:]
        own = sum(node.meta["val"].nbytes for node in (source, op.node)) // len(source.meta["val"])
        held[name] = sum(size * len(side) for size, side in alive) - own
    for name in parts:
        outer = next((other for other in parts if name.startswith(f"{other}.")), None)
        if outer is not None:
            raise UserError(
                f"NasMutator: the choice '{name}' lies inside of the choice '{outer}': take one of them away"
            )
        if name not in sizes:
            raise UserError(f"NasMutator: '{name}' is not reached by a forward pass; remove it from the network")
    return sizes, held


class _Opaque(nn.Module):
    """Stands for a choice module: an op that is not looked into, with an output of ``shape``."""

    is_choice = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mmrazor_lite.opaque([x], [], list(self.shape), x.dtype, x.device, 0, 0)


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

    def tables(self, table: LayerTable, name: str) -> list[LayerTable]:
        """The table of the module ``name`` at every resolution; the one there is, where there is no choice."""
        try:
            return [table if positions is None else table.resized(positions) for positions in self._positions]
        except (KeyError, ValueError) as error:
            place = f"{error} in '{name}'" if name else error
            raise UserError(
                f"mutator.resolutions: the cost at other sizes does not follow from the map of {place}; remove it"
            ) from None

    @property
    def choices(self) -> tuple[str, ...]:
        """The choice of resolution, where it is one."""
        return () if self.resolutions is None else (RESOLUTION,)


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
