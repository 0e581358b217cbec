"""The mutator of declared choices: operators and the widths inside them, elastic depth, kernel, width, resolution."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators import CostModel
from mmrazor_lite.estimators.cells import Axis, Cell
from mmrazor_lite.graph import FixedLayer, LayerTable, Side, TracedModel, WidthGroup, layer_table, trace
from mmrazor_lite.graph.computation import document, lines_of, note, placed
from mmrazor_lite.graph.opaque import OPAQUE
from mmrazor_lite.graph.trace import BATCH, shape_of
from mmrazor_lite.models.mutables import (
    CANDIDATES,
    ChannelSlice,
    ElasticBlock,
    MutableChannel,
    MutableDepth,
    MutableOP,
)
from mmrazor_lite.models.ops import export, make_dynamic
from mmrazor_lite.registry import MUTATORS
from mmrazor_lite.shapes import image_shape
from mmrazor_lite.subnet import Choice, LayerWidth, SearchSpace, Subnet

from .check import probe_images, untouched
from .choice_costs import Maps, always_cell, block_cell, operator_cell, resolutions_of
from .given import as_subnet
from .once import hold, preparation
from .part_trace import NO_WIDTHS, PartTrace, trace_alone
from .standalone import check_standalone, copied

WIDTH = "mid_channels"  # the width choice of an operator choice NAME: NAME.mid_channels, or NAME.CANDIDATE.mid_channels
RESOLUTION, DEPTH, KERNEL, RATIO = "resolution", "depth", "kernel_size", "expand_ratio"  # of NAME: NAME.depth ...


@MUTATORS.register_module()
class NasMutator:
    """Collects the choices that an architecture declares.

    A choice has the name of its module, such as ``backbone.layers.0.0`` for a ``MutableOP``; where that offers
    ``inner_widths``, the choice ``backbone.layers.0.0.mid_channels`` sets them in whichever candidate is chosen; where
    a candidate has ``mid_widths`` of its own, ``backbone.layers.0.0.CANDIDATE.mid_channels`` sets its width alone. A
    ``MutableDepth`` gives ``NAME.depth``, an ``ElasticBlock`` ``NAME.kernel_size`` and ``NAME.expand_ratio``; choices
    of a block matter only while it runs.

    Source: Single Path One-Shot, arXiv:1904.00420; Once-for-All, arXiv:1908.09791.

    Args:
        custom_groups: MMRazor's way to let several modules share a choice; not supported, ``None`` only.
        resolutions: Heights, which are also the widths, of the images that the network may be run on, ascending; the
            choice ``resolution``. The last one is that of ``input_shape``. ``None``: there is no such choice.
    """

    def __init__(self, custom_groups: Sequence | None = None, resolutions: Sequence[int] | None = None) -> None:
        if custom_groups:
            raise UserError("mutator.custom_groups is not supported: every operator has a choice of its own; remove it")
        self.resolutions = None if resolutions is None else resolutions_of(resolutions)

    def prepare(
        self, architecture: nn.Module, input_shape: Sequence[int] = (3, 224, 224), any_width: bool = False
    ) -> None:
        """Find the choices of ``architecture`` and what each candidate costs; parameters stay the same tensors.

        Args:
            architecture: A model with at least one ``MutableOP`` or ``ElasticBlock``.
            input_shape: (C, H, W) of one image.
            any_width: Offer every inner width instead of the declared ones (for subnets from files).

        Raises:
            UserError: Nothing to choose, a candidate that does not fit its place, or a network that is prepared
                already; it is left as it was.
        """
        self.architecture, self.input_shape = architecture, image_shape(input_shape)
        self._any_width = any_width
        self._replaced: list[tuple[nn.Module, str, nn.Module]] = []  # (holder, child, the layer before)
        with preparation(architecture, self._restore):
            self._prepare()
        hold([architecture, *self._operators.values(), *self._blocks.values(), *self._stages.values()])
        del self._replaced

    def _restore(self) -> None:
        for holder, child, plain in reversed(self._replaced):
            holder._modules[child] = plain

    def _prepare(self) -> None:
        architecture = self.architecture
        modules = dict(architecture.named_modules())
        self._operators = {name: module for name, module in modules.items() if isinstance(module, MutableOP)}
        self._blocks = {n: m for n, m in modules.items() if isinstance(m, ElasticBlock) and m.is_elastic}
        self._stages = {n: m for n, m in modules.items() if isinstance(m, MutableDepth) and len(m.depths) > 1}
        if self._stages and not self._operators and not self._blocks:
            raise UserError(
                f"NasMutator: {type(architecture).__name__} offers depths and nothing else, which is not supported; "
                "give its blocks several kernel_sizes or expand_ratios, or one depth"
            )
        if not self._operators and not self._blocks:
            raise UserError(
                f"NasMutator: {type(architecture).__name__} declares no choice; use a backbone with MutableOP modules, "
                "such as SearchableShuffleNetV2, or an elastic one, such as OFAMobileNetV3 (widths of a plain network: "
                "OneShotChannelMutator)"
            )
        self._check_resolutions()
        self.mutables: list[MutableChannel] = []
        self._slices: dict[tuple, ChannelSlice] = {}
        self._widths: list[str] = []  # choice of the first groups, those inside operators
        self._inner: dict[str, list[MutableChannel]] = {}  # elastic block -> its mutables
        self._publish(*self._costs())
        self.computation = document(self._lines, self.input_shape)
        del self._lines
        self._check_exports()

    def _check_exports(self) -> None:
        """The largest and the smallest subnet stand alone."""
        images, largest = probe_images(self.architecture, self.input_shape), self.active
        self.activate(self.search_space.min())
        check_standalone(self.architecture, images)
        self.activate(largest)
        check_standalone(self.architecture, images, quick=True)

    def _check_resolutions(self) -> None:
        if self.resolutions is not None and self.input_shape[1:] != (self.resolutions[-1],) * 2:
            raise UserError(
                f"mutator.resolutions end at {self.resolutions[-1]}, algorithm.input_shape is {self.input_shape}; the "
                f"largest resolution must be that of input_shape: [3, {self.resolutions[-1]}, {self.resolutions[-1]}]"
            )

    @property
    def operators(self) -> Mapping[str, MutableOP]:
        """The operator choices by name, in order."""
        return self._operators

    @property
    def stages(self) -> Mapping[str, MutableDepth]:
        """The stages whose depth is a choice by name, in order."""
        return self._stages

    def activate_widths(self, widths: Mapping[str, int]) -> None:
        """Give every candidate a width of its own, whether it is chosen or not, for a mixture of all of them.

        Args:
            widths: Width choice -> width, of all candidates that have one.
        """
        for mutable, choice in zip(self.mutables, self._widths, strict=False):
            mutable.width = widths[choice]
        for channels in self._slices.values():
            channels.refresh()
        self.active = None

    # costs ----------------------------------------------------------------------------------------------------

    def _costs(self) -> tuple[LayerTable, list[Cell]]:
        """What is in every subnet, from one trace of the network; what each candidate adds, from a trace of it alone.

        The trace of the network does not look into the choices; candidates that are built alike are traced once.
        """
        traced = trace(self._skeleton(), self.input_shape, eval_only=True)
        self._lines = lines_of(traced)
        whole = layer_table(traced, NO_WIDTHS)
        sizes, held = self._surroundings(traced, whole)
        tables = {name: self._operator_tables(name, sizes[name], held[name]) for name in self._operators}
        parts = {name: self._elastic_part(name, sizes[name], held[name]) for name in self._blocks}
        self._shrink()
        maps = Maps(self.architecture, self.input_shape, self.resolutions)
        cells = [self._operator_cell(name, tables[name], maps) for name in self._operators]
        cells += [self._block_cell(name, parts[name], held[name], maps) for name in self._blocks]
        always = whole.outside((*self._operators, *self._blocks))
        if self.resolutions:
            cells.append(always_cell(always, maps, RESOLUTION))
        return always, cells

    def _operator_tables(
        self, name: str, size: tuple[int, ...], held: int
    ) -> list[tuple[LayerTable, Sequence[WidthGroup]]]:
        """Make the inner widths of one operator choice dynamic; return layers and width groups of its candidates."""
        module, found = self._operators[name], []
        for candidate in module.names:
            place, widths = _place(name, candidate), module.widths_of(candidate)
            part = trace_alone(module.candidate(candidate), size, bool(widths))
            self._lines += placed(part.lines, place)
            found.append((part.table.placed(place, 0, held), part.groups))
            for group in part.groups:
                if group.full != widths[-1] or group.unit != 1:
                    raise UserError(
                        f"{place}.{group.name}: has {group.full} channels, the inner widths of '{name}' end at "
                        f"{widths[-1]}; build the candidates at the largest inner width"
                    )
                self._widths.append(_width_choice(name, module, candidate))
            self._make_dynamic(place, part, [self._offered(widths)] * len(part.groups))
        return found

    def _operator_cell(
        self, name: str, candidates: Sequence[tuple[LayerTable, Sequence[WidthGroup]]], maps: Maps
    ) -> Cell:
        module = self._operators[name]
        before, runs = self._depth_of(name)
        choices: list[Axis] = [*maps.choices(RESOLUTION), *before, name]
        names = [_width_choice(name, module, candidate) for candidate in module.names if module.widths_of(candidate)]
        if names:
            choices.append(names[0] if module.inner_widths else tuple(names))
        widths = [self._offered(module.widths_of(candidate)) for candidate in module.names]
        return operator_cell(name, choices, candidates, widths, runs, maps)

    def _elastic_part(self, name: str, size: tuple[int, ...], held: int) -> PartTrace:
        """Make one elastic block dynamic; return what a trace of it found."""
        block = self._blocks[name]
        if held and self.resolutions:
            raise UserError(f"mutator.resolutions: something else is alive while '{name}' runs; remove it")
        part = trace_alone(block, size, with_widths=True)
        self._lines += placed(part.lines, name)
        inner = {f"ratio_{ratio:g}": block.inner_widths(ratio) for ratio in block.expand_ratios}
        self._lines.append(note(name, "widths", **inner))
        first = len(self.mutables)
        widths = zip(*(block.inner_widths(ratio) for ratio in block.expand_ratios), strict=True)
        self._make_dynamic(name, part, list(widths))
        self._inner[name] = self.mutables[first:]
        return part

    def _block_cell(self, name: str, part: PartTrace, held: int, maps: Maps) -> Cell:
        before, runs = self._depth_of(name)
        choices = [*maps.choices(RESOLUTION), *before, f"{name}.{KERNEL}", f"{name}.{RATIO}"]
        return block_cell(name, choices, self._blocks[name], part, part.table.placed(name, 0, held), runs, maps)

    def _shrink(self) -> None:
        """Activate as little as possible, for runs that ask about the size of maps only."""
        for stage in self._stages.values():
            stage.active_depth = stage.depths[0]
        for block in self._blocks.values():
            block.activate_kernel(block.kernel_sizes[0])
        for mutable in self.mutables:
            mutable.width = mutable.candidates[0]
        for channels in self._slices.values():
            channels.refresh()

    def _stage_of(self, name: str) -> tuple[MutableDepth | None, int]:
        """The stage of elastic depth that a module belongs to, and its position there."""
        parent, _, position = name.rpartition(".")
        stage = self._stages.get(parent)
        return stage, int(position) if stage is not None else 0

    def _depth_of(self, name: str) -> tuple[list[str], list[bool] | None]:
        """The depth choice of a module, in a list, and whether it runs at each depth; none where it always runs."""
        stage, position = self._stage_of(name)
        if stage is None or position < stage.depths[0]:
            return [], None
        return [f"{name.rpartition('.')[0]}.{DEPTH}"], [position < depth for depth in stage.depths]

    def _skeleton(self) -> nn.Module:
        """A copy with one op in the place of each choice: the time of a trace grows with the ops and tensors in it."""
        places: dict[int, nn.Module] = {}

        def record(module: nn.Module, args: tuple, output: Tensor) -> None:
            places[id(module)] = _Place(tuple(output.shape))

        opaque = [*self._operators.values(), *self._blocks.values()]
        handles = [module.register_forward_hook(record) for module in opaque]
        parameter = next(self.architecture.parameters())
        try:
            with untouched(self.architecture), torch.no_grad():
                self.architecture.eval()
                self.architecture(torch.zeros((BATCH, *self.input_shape)).to(parameter))
        finally:
            for handle in handles:
                handle.remove()
        return copied(self.architecture, lambda model: copy.deepcopy(model, places))

    def _surroundings(
        self, traced: TracedModel, whole: LayerTable
    ) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
        """The (C, H, W) that each choice reads, and the sizes in bytes of what is alive beside its input and output."""
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
        silent = [name for name in (*self._operators, *self._blocks) if name not in sizes]
        if silent:
            raise UserError(f"NasMutator: '{silent[0]}' is not reached by a forward pass; remove it from the network")
        return sizes, held

    # the search space -----------------------------------------------------------------------------------------

    def _make_dynamic(self, place: str, part: PartTrace, offered: Sequence[Sequence[int]]) -> None:
        """Make the layers of one part that have an inner width dynamic."""
        offset = len(self.mutables)
        for group, widths in zip(part.groups, offered, strict=True):
            self.mutables.append(MutableChannel(replace(group, name=f"{place}.{group.name}"), widths))
        module = self.architecture.get_submodule(place)
        for layer, sides in part.layers.items():
            if all(side.is_fixed for side in sides):
                continue
            parent, _, child = layer.rpartition(".")
            holder = module.get_submodule(parent)
            slices = [self._slice(side.renumbered(offset)) for side in sides]
            self._replaced.append((holder, child, holder._modules[child]))
            holder._modules[child] = make_dynamic(holder._modules[child], *slices)

    def _offered(self, widths: Sequence[int] | None) -> Sequence[int] | None:
        return widths if widths is None or not self._any_width else range(1, widths[-1] + 1)

    def _slice(self, side: Side) -> ChannelSlice:
        return self._slices.setdefault(side.key(), ChannelSlice(side, self.mutables))

    def _publish(self, always: LayerTable, cells: Sequence[Cell]) -> None:
        choices = [] if self.resolutions is None else [Choice(RESOLUTION, self.resolutions, kind="resolution")]
        for name, module in self._operators.items():
            choices.append(Choice(name, module.names, kind="operator", active_if=self._rule(name)))
            if module.inner_widths is not None:
                choices.append(
                    Choice(f"{name}.{WIDTH}", self._offered(module.inner_widths), active_if=self._rule(name))
                )
            for candidate in filter(module.has_own_width, module.names):
                offered = self._offered(module.widths_of(candidate))
                choice = _width_choice(name, module, candidate)
                choices.append(Choice(choice, offered, active_if=(name, (candidate,))))
        for name, stage in self._stages.items():
            choices.append(Choice(f"{name}.{DEPTH}", stage.depths, kind="depth"))
        for name, block in self._blocks.items():
            rule = self._rule(name)
            choices.append(Choice(f"{name}.{KERNEL}", block.kernel_sizes, kind="value", active_if=rule))
            choices.append(Choice(f"{name}.{RATIO}", block.expand_ratios, kind="value", active_if=rule))
        aliases = {module.alias: name for name, module in self._operators.items() if module.alias}
        layers = {  # a file says the outputs of blocks; that of another width is refused
            name.rpartition(".")[0]: LayerWidth(None, block.out_channels)
            for name, block in self._blocks.items()
            if hasattr(block, "out_channels")
        }
        layers |= {
            name.rpartition(".")[0]: LayerWidth(None, module.chosen.out_channels)
            for name, module in self._operators.items()
            if module.has_own_width(module.active)
        }
        self.search_space = SearchSpace(choices, layers, aliases)
        self.cost_model = CostModel(self.search_space, always, cells=cells, in_cells=self.resolutions is not None)
        self.fixed: list[FixedLayer] = []  # nothing was asked to change and could not
        self.active: Subnet | None = None
        self.activate(self.search_space.max())

    def _rule(self, name: str) -> tuple[str, tuple[int, ...]] | None:
        """When the choices of a module matter: the depth choice and the depths at which it runs."""
        before, runs = self._depth_of(name)
        if runs is None:
            return None
        depths = self._stage_of(name)[0].depths
        return before[0], tuple(depth for depth, run in zip(depths, runs, strict=True) if run)

    # subnets --------------------------------------------------------------------------------------------------

    @property
    def resolution(self) -> int | None:
        """Height and width of the images that the active subnet is meant for; None where it is no choice."""
        return None if self.resolutions is None else self.active[RESOLUTION]

    def activate(self, subnet: Mapping[str, int | float | str]) -> None:
        """Make ``subnet`` the one that runs. No weight is copied.

        Raises:
            UserError: It is none of the search space.
        """
        if subnet is self.active:
            return
        subnet = as_subnet(subnet)
        self.search_space.validate(subnet)
        for name, module in self._operators.items():
            module.active = subnet.get(name, module.names[0])  # past the active depth, it may be left out
        for name, stage in self._stages.items():
            stage.active_depth = subnet[f"{name}.{DEPTH}"]
        for mutable, choice in zip(self.mutables, self._widths, strict=False):
            mutable.width = subnet.get(choice, mutable.width)
        for name, block in self._blocks.items():
            block.activate_kernel(subnet.get(f"{name}.{KERNEL}", block.kernel_sizes[0]))
            widths = block.inner_widths(subnet.get(f"{name}.{RATIO}", block.expand_ratios[0]))
            for mutable, width in zip(self._inner[name], widths, strict=True):
                mutable.width = width
        for channels in self._slices.values():
            channels.refresh()
        self.active = subnet

    def export(self, subnet: Mapping[str, int | float | str]) -> nn.Module:
        """The subnet as a module of its own: the chosen operators in the place of the choices, the same output.

        Raises:
            UserError: As :meth:`activate`.
        """
        before = self.active
        self.activate(subnet)
        try:
            return export(self.architecture)
        finally:
            self.activate(before)

    def part(self, name: str, subnet: Mapping[str, int | float | str]) -> nn.Module:
        """The module ``name`` as it is in a subnet: plain, with tensors of its own; of a choice, the chosen module."""
        before = self.active
        self.activate(subnet)
        try:
            module = self.architecture.get_submodule(name)
            return export(module.chosen if isinstance(module, MutableOP) else module)
        finally:
            self.activate(before)


class _Place(nn.Module):
    """Where one of several modules would run: an op that is not looked into, with an output of ``shape``."""

    is_choice = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mmrazor_lite.opaque([x], [], list(self.shape), x.dtype, x.device, 0, 0)


def _width_choice(name: str, module: MutableOP, candidate: str) -> str:
    """The choice that sets the inner width of a candidate: its own, or the one that all of them share."""
    return f"{name}.{candidate}.{WIDTH}" if module.has_own_width(candidate) else f"{name}.{WIDTH}"


def _place(name: str, candidate: str) -> str:
    return f"{name}.{CANDIDATES}.{candidate}"
