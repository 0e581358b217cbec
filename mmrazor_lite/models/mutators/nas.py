"""The mutator of declared choices: operators and the widths inside them, elastic depth, kernel, width, resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators import CostModel
from mmrazor_lite.estimators.cells import Cell
from mmrazor_lite.graph import FixedLayer, LayerTable, Side, evaluating
from mmrazor_lite.graph.computation import document
from mmrazor_lite.models.calibration import activated
from mmrazor_lite.models.mutables import ChannelSlice, ChoiceModule, InnerWidths, MutableChannel
from mmrazor_lite.models.ops import export, make_dynamic
from mmrazor_lite.shapes import image_shape
from mmrazor_lite.subnet import Choice, LayerWidth, SearchSpace, Subnet

from .channel_order import Member, members, sort_groups
from .check import probe_images, tensors_of
from .choice_costs import RESOLUTION, ChoiceCosts, Form, Maps, resolutions_of
from .given import as_subnet
from .once import hold, preparation
from .places import places_in, stages_in, within
from .standalone import check_forms, check_standalone


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
        self._states: dict[nn.Module, dict[str, Any]] = {}  # plain attributes of the modules that are activated
        with preparation(architecture, self._restore):
            self._prepare()
        hold([architecture, *self.modules.values()])
        del self._replaced, self._states

    def _restore(self) -> None:
        for holder, child, plain in reversed(self._replaced):
            holder._modules[child] = plain
        for module, state in self._states.items():
            vars(module).update(state)

    def _prepare(self) -> None:
        architecture = self.architecture
        self._places = places_in(architecture, self._any_width)
        if not self._places:
            raise UserError(
                f"NasMutator: {type(architecture).__name__} declares no choice; use a backbone with MutableOP modules, "
                "such as SearchableShuffleNetV2, or an elastic one, such as OFAMobileNetV3 (widths of a plain network: "
                "OneShotChannelMutator)"
            )
        self._check_resolutions()
        for module in (part for place in self._places for part in place.module.modules()):
            self._states[module] = {key: value for key, value in vars(module).items() if not key.startswith("_")}
        costs = ChoiceCosts(architecture, self.input_shape, self._places)
        self.mutables: list[MutableChannel] = []
        self._slices: dict[tuple, ChannelSlice] = {}
        self._dynamic: dict[str, nn.Module] = {}
        self._inner: dict[str, tuple[Choice, InnerWidths, list[MutableChannel]]] = {}  # by the name of the form
        for place in self._places:
            for name, inner in place.offer.inner.items():
                forms = [form for form in costs.forms[place.name] if form.name == within(place.name, name)]
                self._make_dynamic(forms, place.choices[inner.choice])
        self._set({})
        cells = costs.cells(Maps(architecture, self.input_shape, self.resolutions))
        self._publish(costs.always, cells)
        self.computation = document(costs.lines, self.input_shape)
        self._check_exports()

    def _check_exports(self) -> None:
        """The largest and the smallest subnet stand alone, and so does every form of each choice module."""
        images, largest = probe_images(self.architecture, self.input_shape), self.active
        self.activate(self.search_space.min())
        check_standalone(self.architecture, images)
        self.activate(largest)
        check_standalone(self.architecture, images, quick=True)
        forms = {place.name: (place.module, list(place.form_values())) for place in self._places}
        try:
            check_forms(self.architecture, images, forms)
        finally:
            self._set(largest)

    def _check_resolutions(self) -> None:
        if self.resolutions is not None and self.input_shape[1:] != (self.resolutions[-1],) * 2:
            raise UserError(
                f"mutator.resolutions end at {self.resolutions[-1]}, algorithm.input_shape is {self.input_shape}; the "
                f"largest resolution must be that of input_shape: [3, {self.resolutions[-1]}, {self.resolutions[-1]}]"
            )

    # the search space -----------------------------------------------------------------------------------------

    def _make_dynamic(self, forms: Sequence[Form], choice: Choice) -> None:
        """Make the layers dynamic whose width the choice sets, of all forms in one place."""
        form, layers = forms[-1], {}
        for each in forms:
            layers |= each.part.layers
        offset, groups = len(self.mutables), form.part.groups
        candidates = [
            [widths[index] for widths in form.inner.widths.values()] if form.inner.widths else choice.candidates
            for index in range(len(groups))
        ]
        for group, offered in zip(groups, candidates, strict=True):
            self.mutables.append(MutableChannel(replace(group, name=f"{form.name}.{group.name}"), offered))
        self._inner[form.name] = choice, form.inner, self.mutables[offset:]
        module = self.architecture.get_submodule(form.name)
        for layer, sides in layers.items():
            if all(side.is_fixed for side in sides):
                continue
            parent, _, child = layer.rpartition(".")
            holder = module.get_submodule(parent)
            slices = [self._slice(side.renumbered(offset)) for side in sides]
            self._replaced.append((holder, child, holder._modules[child]))
            dynamic = make_dynamic(holder._modules[child], *slices)
            holder._modules[child] = self._dynamic[f"{form.name}.{layer}"] = dynamic

    def _slice(self, side: Side) -> ChannelSlice:
        return self._slices.setdefault(side.key(), ChannelSlice(side, self.mutables))

    def _publish(self, always: LayerTable, cells: Sequence[Cell]) -> None:
        choices = [] if self.resolutions is None else [Choice(RESOLUTION, self.resolutions, kind="resolution")]
        choices += [choice for place in self._places for choice in place.choices.values()]
        aliases = {p.offer.alias: next(iter(p.choices.values())).name for p in self._places if p.offer.alias}
        outputs, stages = {p.name: p.offer.out_channels for p in self._places}, stages_in(self.architecture)
        # A file says what stages give; that of another width is refused.
        layers = {s.name: LayerWidth(None, outputs[b]) for s in stages for b in s.blocks if outputs.get(b) is not None}
        self.search_space = SearchSpace(choices, layers, aliases, stages)
        self.cost_model = CostModel(self.search_space, always, cells=cells, in_cells=self.resolutions is not None)
        self.fixed: list[FixedLayer] = []  # nothing was asked to change and could not
        self.active: Subnet | None = None
        self.activate(self.search_space.max())

    # subnets --------------------------------------------------------------------------------------------------

    @property
    def modules(self) -> Mapping[str, ChoiceModule]:
        """The modules with something to choose by name, in the order of their choices in the space."""
        return {place.name: place.module for place in self._places}

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
        self._set(subnet)
        self.active = subnet

    def activate_widths(self, widths: Mapping[str, int]) -> None:
        """Set inner widths, whether the module that has them runs or not, for a mixture of all of them.

        Args:
            widths: Width choice -> width, of all that there are.
        """
        self._set_widths(widths)
        self.active = None

    def _set(self, subnet: Mapping[str, int | float | str]) -> None:
        """Let all modules run as in ``subnet``; what it leaves out has its first candidate."""
        for place in self._places:
            place.activate(subnet)
        self._set_widths(subnet)

    def _set_widths(self, subnet: Mapping[str, int | float | str]) -> None:
        for choice, inner, mutables in self._inner.values():
            widths = inner.at(subnet.get(choice.name, choice.candidates[0]), len(mutables))
            for mutable, width in zip(mutables, widths, strict=True):
                mutable.width = width
        for channels in self._slices.values():
            channels.refresh()

    def export(self, subnet: Mapping[str, int | float | str]) -> nn.Module:
        """The subnet as a module of its own: static forms in the place of the choices, the same output.

        Raises:
            UserError: As :meth:`activate`.
        """
        return self.part("", subnet)

    def part(self, name: str, subnet: Mapping[str, int | float | str]) -> nn.Module:
        """The module ``name`` as it is in a subnet: plain, with tensors of its own; of a choice, its static form."""
        before = self.active
        self.activate(subnet)
        try:
            return export(self.architecture.get_submodule(name))
        finally:
            self.activate(before)

    # order ----------------------------------------------------------------------------------------------------

    @property
    def unit_counts(self) -> dict[str, int]:
        """Units of every group of inner widths, in the order of their indices."""
        return {mutable.name: mutable.group.units for mutable in self.mutables}

    @property
    def members(self) -> list[Member]:
        """What follows the groups: every such dimension of a parameter or buffer."""
        return list(members(self._dynamic))

    @property
    def inner_groups(self) -> dict[str, list[str]]:
        """Name of each form with inner widths, where it is in the network -> its groups, as it declares them."""
        return {name: [mutable.name for mutable in mutables] for name, (_, _, mutables) in self._inner.items()}

    def outputs(self, images: Tensor) -> list[Any]:
        """What the network gives for images (N, C, H, W) in eval mode with all widths full, run by run.

        It runs several times, so that each candidate that sets no width is chosen once; depths stay whole.
        """
        deciding = [place.choices[own] for place in self._places if not place.offer.stage for own in place.deciding]
        found = []
        for back in range(max((len(choice.candidates) for choice in deciding), default=1)):
            row = np.array([len(choice.candidates) - 1 for choice in self.search_space.values()])
            for choice in deciding:
                at = list(self.search_space).index(choice.name)
                row[at] = max(row[at] - back, 0)
            with activated(self, self.search_space.subnet(row)), evaluating(self.architecture):
                found.append(self.architecture(images))
        return found

    def run(self, images: Tensor) -> list[Tensor]:
        """All tensors of :meth:`outputs`."""
        return tensors_of(self.outputs(images))

    def sort_channels(self, scores: Mapping[str, Sequence[float]]) -> list[str]:
        """Order the units of groups of inner widths by falling score, see :meth:`OneShotChannelMutator.sort_channels`.

        In place; with all widths full, every candidate computes the same as before.

        Returns:
            Groups that stay, since what the network computes depends on the order of their channels.

        Raises:
            UserError: A group is unknown, or its scores are not one finite number for each unit.
        """
        return sort_groups(self, scores)
