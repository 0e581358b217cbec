"""The mutator of declared choices: operators, and the widths inside them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators import CostModel
from mmrazor_lite.graph import (
    FixedLayer,
    LayerTable,
    Side,
    TracedModel,
    WidthGraph,
    WidthGroup,
    find_width_groups,
    layer_table,
    trace,
)
from mmrazor_lite.graph.opaque import OPAQUE
from mmrazor_lite.graph.trace import BATCH, shape_of
from mmrazor_lite.models.mutables import CANDIDATES, ChannelSlice, MutableChannel, MutableOP
from mmrazor_lite.models.ops import KIND, export, make_dynamic
from mmrazor_lite.registry import MUTATORS
from mmrazor_lite.subnet import Choice, SearchSpace, Subnet

from .check import untouched

WIDTH = "mid_channels"  # the width choice of an operator choice NAME is NAME.mid_channels
NO_WIDTHS = WidthGraph([], {}, {}, {}, {}, [], frozenset())
MAX_KNOWN = 1024
_KNOWN: dict[tuple, tuple] = {}  # what a trace of a candidate found: a supernet is built several times in one process
PLAIN = (bool, int, float, str, tuple, list, type(None))


@MUTATORS.register_module()
class NasMutator:
    """Collects the choices that an architecture declares: one operator per ``MutableOP``, and its inner width.

    A choice has the name of its module, such as ``backbone.layers.0.0``; where the module offers ``inner_widths``, the
    choice ``backbone.layers.0.0.mid_channels`` sets them in whichever candidate is chosen.

    Args:
        custom_groups: MMRazor's way to let several modules share a choice; not supported, ``None`` only.
    """

    paper = "Single Path One-Shot Neural Architecture Search with Uniform Sampling, arXiv:1904.00420"

    def __init__(self, custom_groups: Sequence | None = None) -> None:
        if custom_groups:
            raise UserError("mutator.custom_groups is not supported: every operator has a choice of its own; remove it")

    def prepare(
        self, architecture: nn.Module, input_shape: Sequence[int] = (3, 224, 224), any_width: bool = False
    ) -> None:
        """Find the choices of ``architecture`` and what each candidate costs; parameters stay the same tensors.

        Args:
            architecture: A model with at least one ``MutableOP``.
            input_shape: (C, H, W) of one image.
            any_width: Offer every inner width instead of the declared ones (for subnets from files).

        Raises:
            UserError: Nothing to choose, or a candidate that does not fit its place.
        """
        self.architecture, self.input_shape = architecture, tuple(input_shape)[-3:]
        self._any_width = any_width
        self._operators = {
            name: module for name, module in architecture.named_modules() if isinstance(module, MutableOP)
        }
        if not self._operators:
            raise UserError(
                f"NasMutator: {type(architecture).__name__} declares no choice; use a backbone with MutableOP modules, "
                "such as SearchableShuffleNetV2 (widths of a plain network: OneShotChannelMutator)"
            )
        self.mutables: list[MutableChannel] = []
        self._slices: dict[tuple, ChannelSlice] = {}
        self._widths: list[str] = []  # group -> its choice
        always, tables = self._costs()
        self._publish(always, tables)

    def _costs(self) -> tuple[LayerTable, dict[tuple[str, str], LayerTable]]:
        """What is in every subnet, from one trace of the network; what each candidate adds, from a trace of it alone.

        The trace of the network does not look into the choices; candidates that are built alike are traced once.
        """
        traced = trace(self._skeleton(), self.input_shape, eval_only=True)
        whole = layer_table(traced, NO_WIDTHS)
        sizes, held = self._surroundings(traced, whole)
        tables: dict[tuple[str, str], LayerTable] = {}
        for name, module in self._operators.items():
            for candidate in module.names:
                table, groups, layers = _alone(module.candidate(candidate), sizes[name], bool(module.inner_widths))
                place = _place(name, candidate)
                tables[name, candidate] = table.placed(place, len(self.mutables), held[name])
                self._add_widths(name, place, groups, layers)
        return whole.outside(tuple(self._operators)), tables

    def _skeleton(self) -> nn.Module:
        """A copy with one op in the place of each choice: the time of a trace grows with the ops and tensors in it."""
        places: dict[int, nn.Module] = {}

        def record(module: nn.Module, args: tuple, output: Tensor) -> None:
            places[id(module)] = _Place(tuple(output.shape))

        handles = [module.register_forward_hook(record) for module in self._operators.values()]
        parameter = next(self.architecture.parameters())
        try:
            with untouched(self.architecture), torch.no_grad():
                self.architecture.eval()
                self.architecture(torch.zeros((BATCH, *self.input_shape)).to(parameter))
        finally:
            for handle in handles:
                handle.remove()
        return copy.deepcopy(self.architecture, places)

    def _surroundings(
        self, traced: TracedModel, whole: LayerTable
    ) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
        """The (C, H, W) that each operator choice reads, and the bytes alive beside its input and output."""
        sizes: dict[str, tuple[int, ...]] = {}
        held: dict[str, int] = {}
        for op, alive in zip(traced.eval, whole.alive, strict=True):
            if op.kind != OPAQUE:
                continue
            name = op.module_path.split("@")[0]
            if name in sizes:
                raise UserError(f"NasMutator: '{name}' runs twice in one forward pass; give each place its own")
            source = op.argument("inputs")[0]
            sizes[name] = shape_of(source)[1:]
            own = sum(node.meta["val"].nbytes for node in (source, op.node)) // len(source.meta["val"])
            held[name] = sum(size * len(side) for size, side in alive) - own
        silent = [name for name in self._operators if name not in sizes]
        if silent:
            raise UserError(f"NasMutator: '{silent[0]}' is not reached by a forward pass; remove it from the network")
        return sizes, held

    def _add_widths(
        self, name: str, place: str, groups: Sequence[WidthGroup], layers: Mapping[str, tuple[Side, Side]]
    ) -> None:
        """Make the layers of one candidate that have an inner width dynamic."""
        offset = len(self.mutables)
        widths = self._operators[name].inner_widths
        for group in groups:
            if group.full != widths[-1] or group.unit != 1:
                raise UserError(
                    f"{place}.{group.name}: has {group.full} channels, inner_widths of '{name}' end at {widths[-1]}; "
                    "build the candidates at the largest inner width"
                )
            group = replace(group, name=f"{place}.{group.name}")
            self.mutables.append(MutableChannel(group, self._offered(self._operators[name])))
            self._widths.append(f"{name}.{WIDTH}")
        candidate = self.architecture.get_submodule(place)
        for layer, sides in layers.items():
            if all(side.is_fixed for side in sides):
                continue
            parent, _, child = layer.rpartition(".")
            holder = candidate.get_submodule(parent)
            slices = [self._slice(side.renumbered(offset)) for side in sides]
            holder._modules[child] = make_dynamic(holder._modules[child], *slices)

    def _offered(self, module: MutableOP) -> Sequence[int]:
        return range(1, module.inner_widths[-1] + 1) if self._any_width else module.inner_widths

    def _slice(self, side: Side) -> ChannelSlice:
        return self._slices.setdefault(side.key(), ChannelSlice(side, self.mutables))

    def _publish(self, always: LayerTable, tables: Mapping[tuple[str, str], LayerTable]) -> None:
        choices: list[Choice] = []
        for name, module in self._operators.items():
            choices.append(Choice(name, module.names, kind="operator"))
            if module.inner_widths is not None:
                full = module.inner_widths[-1]
                choices.append(
                    Choice(f"{name}.{WIDTH}", range(1, full + 1) if self._any_width else module.inner_widths)
                )
        aliases = {module.alias: name for name, module in self._operators.items() if module.alias}
        self.search_space = SearchSpace(choices, aliases=aliases)
        groups = [mutable.group for mutable in self.mutables]
        self.cost_model = CostModel(self.search_space, always, groups, tables, self._widths)
        self.fixed: list[FixedLayer] = []  # nothing was asked to change and could not
        self.active: Subnet | None = None
        self.activate(self.search_space.max())

    # subnets --------------------------------------------------------------------------------------------------

    def activate(self, subnet: Mapping[str, int | str]) -> None:
        """Make ``subnet`` the one that runs. No weight is copied; validation is the caller's, once per subnet."""
        if subnet is self.active:
            return
        for name, module in self._operators.items():
            module.active = subnet[name]
        if self.mutables:
            for mutable, choice in zip(self.mutables, self._widths, strict=True):
                mutable.width = subnet[choice]
            for channels in self._slices.values():
                channels.refresh()
        self.active = subnet if isinstance(subnet, Subnet) else Subnet(subnet)

    def export(self, subnet: Mapping[str, int | str]) -> nn.Module:
        """The subnet as a module of its own: the chosen operators in the place of the choices, the same output."""
        before = self.active
        self.activate(subnet)
        try:
            return export(self.architecture)
        finally:
            self.activate(before)


class _Place(nn.Module):
    """Where one of several modules would run: an op that is not looked into, with an output of ``shape``."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mmrazor_lite.opaque([x], [], list(self.shape), x.dtype, x.device, 0, 0)


def _place(name: str, candidate: str) -> str:
    return f"{name}.{CANDIDATES}.{candidate}"


def _alone(
    module: nn.Module, size: tuple[int, ...], with_widths: bool
) -> tuple[LayerTable, Sequence[WidthGroup], Mapping[str, tuple[Side, Side]]]:
    """The layer table of one candidate, and the width groups and layers inside it as it declares them."""
    key = (size, with_widths, *_structure(module))
    if key not in _KNOWN:
        traced = trace(module, size, eval_only=True)
        by_hand = getattr(module, "inner_groups", ()) if with_widths else ()
        graph = find_width_groups(traced, KIND, by_hand=by_hand) if by_hand else NO_WIDTHS
        if len(_KNOWN) >= MAX_KNOWN:
            _KNOWN.clear()
        _KNOWN[key] = layer_table(traced, graph), graph.groups, graph.layers
    return _KNOWN[key]


def _structure(module: nn.Module) -> tuple:
    """What decides about costs: types, plain attributes and the shapes of parameters, of all modules inside."""
    return tuple(
        (
            name,
            type(part),
            tuple((key, repr(value)) for key, value in vars(part).items() if isinstance(value, PLAIN)),
            tuple((key, None if tensor is None else tuple(tensor.shape)) for key, tensor in part._parameters.items()),
        )
        for name, part in module.named_modules()
    )
