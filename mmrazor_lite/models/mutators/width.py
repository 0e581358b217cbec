"""The width mutator: traced width groups become choices, the layers around them dynamic ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from glob import escape
from types import MethodType
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.estimators import CostModel
from mmrazor_lite.graph import (
    LAYER_KINDS,
    FixedLayer,
    Side,
    TracedModel,
    WidthGraph,
    evaluating,
    find_width_groups,
    kind_of,
    layer_table,
    op_calls,
    trace,
)
from mmrazor_lite.graph.computation import document, lines_of
from mmrazor_lite.models.calibration import activated
from mmrazor_lite.models.mutables import ChannelSlice, MutableChannel
from mmrazor_lite.models.ops import SwitchableBatchNorm, active_of, export, make_dynamic
from mmrazor_lite.plain_data import plain
from mmrazor_lite.shapes import image_shape
from mmrazor_lite.subnet import Choice, LayerWidth, SearchSpace, Subnet

from .candidates import TWELFTHS, CandidateRule, any_width, rule_for
from .channel_order import Member, members, sort_groups
from .check import (
    backward_error,
    can_mask,
    failure,
    masked_inputs,
    number_variants,
    on_active_channels,
    probe_images,
    tensors_of,
)
from .given import as_subnet, check_widths
from .once import hold, preparation
from .standalone import check_standalone

CHECK_FAILED = "the check of a small subnet failed"


def _is_of_a_subnet(module: nn.Module) -> bool:
    """Whether a module is a norm whose statistics are those of the subnet that ran: of a batch, or kept of images."""
    return isinstance(module, _BatchNorm) or (isinstance(module, _NormBase) and module.running_mean is not None)


class OneShotChannelMutator:
    """Makes the widths of a plain network choices: one per group of layers that must agree.

    After :meth:`prepare`, ``untrainable`` says why the backward pass of the network itself fails, None where it runs;
    ``calls`` are the ops whose sizes follow the widths.

    Source: AutoSlim, arXiv:1903.11728.

    Args:
        candidate_choices, choice_mode, divisor, min_value, min_ratio: the widths offered, see :class:`CandidateRule`.
        units: overrides of these for some groups, ``{pattern of group names: dict(...)}``; the first match counts.
        groups: width groups by hand, each ``dict(out=[layers], into=[layers])`` of names or patterns; the rest stays.
        include, exclude: patterns (``fnmatch``) of layer names that may, or may not, change their width.
        opaque: patterns of module names that the trace does not look into: data-dependent code. What they touch stays.
        importance: measure of the weights (``l1``, ``l2``, ``bn`` ...) by which the channels of a network that is
            trained already are sorted before its first step as a supernet, so that subnets begin with the best.
    """

    def __init__(
        self,
        candidate_choices: Sequence[float] = TWELFTHS,
        choice_mode: str = "ratio",
        divisor: int = 8,
        min_value: int = 1,
        min_ratio: float = 0.9,
        units: Mapping[str, Mapping] | None = None,
        groups: Sequence[Mapping] = (),
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        opaque: Sequence[str] = (),
        importance: str | None = None,
    ) -> None:
        self._rule = CandidateRule(tuple(candidate_choices), choice_mode, divisor, min_value, min_ratio)
        self._units = {pattern: dict(options) for pattern, options in (units or {}).items()}
        self._by_hand = tuple(groups)
        self._include, self._exclude, self._opaque = (_patterns(given) for given in (include, exclude, opaque))
        self.importance = importance

    # prepare --------------------------------------------------------------------------------------------------

    def prepare(
        self, architecture: nn.Module, input_shape: Sequence[int] = (3, 224, 224), any_width: bool = False
    ) -> None:
        """Make the widths of ``architecture`` choices, in place.

        Parameters and buffers stay the same tensors, and the full network computes the same bits as before. Ends with
        a check of small subnets; a group that fails it stays at full width and is named in :attr:`fixed`.

        Args:
            input_shape: (C, H, W) of one image.
            any_width: offer every width instead of the configured candidates (for subnets from files).

        Raises:
            UserError: The network cannot be traced or is prepared already, or a pattern names nothing; it is left as it
                was.
        """
        self.architecture, self.input_shape = architecture, image_shape(input_shape)
        self._dynamic, self._plain = {}, {}
        self.untrainable: str | None = None  # why the backward pass of the network itself fails
        with preparation(architecture, self._restore):
            self._prepare(any_width)
        hold([architecture])

    def _prepare(self, any_width: bool) -> None:
        architecture = self.architecture
        traced = trace(architecture, self.input_shape, self._opaque)
        self.computation = document(lines_of(traced), self.input_shape)
        plain = traced.modules()
        self._images = probe_images(architecture, self.input_shape)
        keep: dict[str, str] = {}
        while True:
            graph = find_width_groups(traced, LAYER_KINDS, keep, self._include, self._exclude, self._by_hand)
            problem = self._try(graph, any_width)
            if problem is None:
                break
            keep.update(self._failing(problem))
            self._restore()
        self._check_patterns([name for name, module in plain.items() if kind_of(module)], graph)
        self._check_rules(graph)
        self.fixed: list[FixedLayer] = graph.fixed
        self._publish(traced, graph)
        self._check_exports()
        del self._images
        for nodes in (graph.nodes, graph.along):
            nodes.clear()  # they hold the whole traced program, which cannot be copied with the mutator

    def _check_patterns(self, layers: Sequence[str], graph: WidthGraph) -> None:
        """Refuse a pattern that names nothing: it is a typo, and would be ignored."""
        names = [*layers, *(group.name for group in graph.groups)]
        for option, patterns in (("include", self._include), ("exclude", self._exclude), ("units", self._units)):
            for pattern in patterns:
                if not any(fnmatchcase(name, pattern) for name in names):
                    raise UserError(
                        f"mutator.{option}: '{pattern}' matches no layer of {type(self.architecture).__name__}, like "
                        f"'{layers[0] if layers else ''}'{nearest(pattern, names)}"
                    )

    def _check_rules(self, graph: WidthGraph) -> None:
        """Refuse a divisor, or a least width, that is above every width it is for."""
        for pattern, options in {"*": {}, **self._units}.items():
            widths = [group.full for group in graph.groups if fnmatchcase(group.name, pattern)]
            where = f"mutator.units['{pattern}']" if options else "mutator"
            if widths:
                self._rule.with_options(options).check_widest(max(widths), where)

    def _try(self, graph: WidthGraph, every: bool) -> str | None:
        """Build dynamic layers and run small subnets; if that fails, once more with the numbers that modules hold."""
        numbers = [{}, *number_variants(graph.numbers)]
        for attempt in numbers:
            self._build(graph, every, attempt)
            problem = self._problem_of_small_subnets()
            if problem is not None and self.untrainable is None:
                self.untrainable = backward_error(self.architecture, self._images)  # of the full network
                problem = problem if self.untrainable is None else self._problem_of_small_subnets()
            if problem is None or attempt is numbers[-1]:
                return problem
            self._restore()
        raise AssertionError("unreachable")

    def _build(self, graph: WidthGraph, every: bool, numbers: Mapping[str, Mapping[str, Side]]) -> None:
        self._graph = graph
        self.mutables = [
            MutableChannel(group, any_width(group) if every else rule_for(group, self._rule, self._units).widths(group))
            for group in graph.groups
        ]
        self._by_name = {mutable.name: mutable for mutable in self.mutables}
        self._slices: dict[tuple, ChannelSlice] = {}
        self._dynamic: dict[str, nn.Module] = {}
        self._plain: dict[str, nn.Module] = {}
        new: dict[nn.Module, nn.Module] = {}
        for name, module in self.architecture.named_modules():
            sides = graph.layers.get(name)
            sliced = sides is not None and not (sides[0].is_fixed and sides[1].is_fixed)
            held = graph.held.get(name, {})
            counts = numbers.get(name, {})
            if not (sliced or held or counts):
                continue
            self._plain[name] = module
            new[module] = self._dynamic[name] = make_dynamic(
                module,
                *([self._slice(side) for side in sides] if sliced else []),
                held={key: (dim, self._slice(side)) for key, (dim, side) in held.items()},
                numbers={key: self._slices_of(sides) for key, sides in counts.items()},
            )
        _swap(self.architecture, new)
        self._norms: list[SwitchableBatchNorm] = []
        self._sets: dict[Subnet, int] = {}

    def _slices_of(self, sides: Side | tuple[Side, ...]) -> ChannelSlice | tuple[ChannelSlice, ...]:
        return self._slice(sides) if isinstance(sides, Side) else tuple(self._slice(side) for side in sides)

    def _slice(self, side: Side) -> ChannelSlice:
        return self._slices.setdefault(side.key(), ChannelSlice(side, self.mutables))

    def _restore(self) -> None:
        _swap(self.architecture, {self._dynamic[name]: self._plain[name] for name in self._dynamic})

    def _problem_of_small_subnets(self) -> str | None:
        """What happens to the smallest subnet or a mixed one, None when all is well."""
        if not self.mutables:
            return None
        rng = np.random.default_rng(0)
        mixed = {m.name: m.candidates[int(rng.integers(len(m.candidates)))] for m in self.mutables}
        return self._problem({m.name: m.candidates[0] for m in self.mutables}) or self._problem(mixed, train=False)

    def _failing(self, problem: str) -> dict[str, str]:
        """Groups with which small subnets do not run, or not right, and what happens."""
        found: dict[str, str] = {}
        names = list(self._by_name)
        assumed = [name for name in names if name in self._graph.assumed]
        for raises in (True, False):  # what raises shows in one forward; what differs takes the whole check
            for suspects in (assumed, names):
                if suspects and not found:
                    self._isolate(suspects, found, raises)
        return found or dict.fromkeys(names, f"{CHECK_FAILED}: {problem}")

    def _isolate(self, suspects: list[str], found: dict[str, str], raises: bool) -> None:
        """Halve the suspects until each one that fails stands alone."""
        full = {mutable.name: mutable.group.full for mutable in self.mutables}
        offered = {name: self._by_name[name].candidates for name in suspects}
        smallest = {**full, **{name: widths[0] for name, widths in offered.items()}}
        middle = {**full, **{name: widths[(len(widths) - 1) // 2] for name, widths in offered.items()}}
        problem = self._problem(smallest, train=not raises, compare=not raises)
        if problem is None and not raises:  # of very few channels, all may be zero by chance
            problem = self._problem(middle, train=False)
        if problem is None:
            return
        if len(suspects) == 1:
            found[suspects[0]] = f"{CHECK_FAILED}: {problem}"
            return
        before, half = len(found), len(suspects) // 2
        self._isolate(suspects[:half], found, raises)
        self._isolate(suspects[half:], found, raises)
        if len(found) == before:  # only together
            found.update(dict.fromkeys(suspects, f"{CHECK_FAILED}: {problem}"))

    def _problem(self, widths: dict[str, int], train: bool = True, compare: bool = True) -> str | None:
        """What happens to a subnet in one step of training, and in eval mode beside the masked full network."""
        train = train and self.untrainable is None
        self._set_widths(widths)
        kept = np.array([mutable.kept for mutable in self.mutables])

        def masked(images: Tensor) -> object:
            parts = {name: export(self.architecture.get_submodule(name)) for name in self._graph.alone}
            self._set_widths({mutable.name: mutable.group.full for mutable in self.mutables})
            with (
                masked_inputs(self._dynamic, self._graph.layers, kept),
                on_active_channels(self.architecture, self._graph.alone, parts, kept),
            ):
                return self.architecture(images)

        against = masked if compare and can_mask(self._dynamic) else None
        problem = failure(self.architecture, self._images, against, train)
        self._set_widths({mutable.name: mutable.group.full for mutable in self.mutables})
        return problem

    def _check_exports(self) -> None:
        """The largest and the smallest subnet stand alone."""
        replaced = list(self._plain.values())
        self._set_widths(self.search_space.min())
        check_standalone(self.architecture, self._images, replaced)
        self._set_widths(self.search_space.max())
        check_standalone(self.architecture, self._images, replaced, quick=True)

    def _publish(self, traced: TracedModel, graph: WidthGraph) -> None:
        choices = [Choice(mutable.name, _plain(mutable.candidates)) for mutable in self.mutables]
        by_index = dict(enumerate(self.mutables))
        layers = {}
        for name, (_, outputs) in graph.layers.items():
            single = list(outputs.counts) if outputs.constant == 0 and len(outputs.counts) == 1 else []
            mutable = (
                by_index[single[0]] if single and outputs.counts[single[0]] == by_index[single[0]].group.unit else None
            )
            if mutable is not None or outputs.is_fixed:
                layers[name] = LayerWidth(mutable.name if mutable else None, len(outputs))
        self.search_space = SearchSpace(choices, layers)
        self.cost_model = CostModel(self.search_space, layer_table(traced, graph), graph.groups)
        self.calls = op_calls(traced.eval, graph, traced.modules())
        self.active = self.search_space.max()

    # subnets --------------------------------------------------------------------------------------------------

    def activate(self, subnet: Mapping[str, int]) -> None:
        """Make ``subnet`` the one that runs. No weight is copied.

        Any width that a group can have is taken, whether it is a candidate or not.

        Raises:
            UserError: A width is missing, unknown or impossible; or a joint model was not trained for the subnet.
        """
        if subnet is self.active:
            return
        subnet = as_subnet(subnet)
        if self._sets:
            index = self._sets.get(subnet)
            if index is None:
                raise UserError(
                    f"this joint model was trained for {len(self._sets)} subnets; the one asked for is none of them"
                )
            for norm in self._norms:
                norm.index = index
        else:
            check_widths(subnet, self._by_name)
        self._set_widths(subnet)
        self.active = subnet

    def _set_widths(self, widths: Mapping[str, int]) -> None:
        for mutable in self.mutables:
            mutable.width = widths[mutable.name]
        for channels in self._slices.values():
            channels.refresh()

    def uniform(self, share: float) -> Subnet:
        """The subnet of the space in which every group keeps ``share`` of its full width, as near as it can.

        The width is rounded as the candidates are; where that is none of them, it is the nearest, the wider one of two.
        """
        widths = {}
        for mutable in self.mutables:
            group = mutable.group
            width = rule_for(group, self._rule, self._units).nearest(group, share * group.full)
            widths[group.name] = min(mutable.candidates, key=lambda candidate: (abs(candidate - width), -candidate))
        return Subnet(widths)

    def export(self, subnet: Mapping[str, int]) -> nn.Module:
        """The subnet as a plain module: torch and mmcv layers only, tensors of its own, the same output.

        Raises:
            UserError: As :meth:`activate`.
        """
        with activated(self, as_subnet(subnet)):
            return export(self.architecture)

    @property
    def restrictions(self) -> dict[str, Any]:
        """Arguments by which another mutator finds the same groups in this network, whatever its weights: plain data.

        Which groups are, depends on them and on the network alone; but a check of small subnets runs with the weights
        of the network, so what it has found is named.
        """
        checked = [layer.layer for layer in self.fixed if layer.reason.startswith(CHECK_FAILED)]
        exclude = [*self._exclude, *(escape(layer) for layer in checked)]
        found = {"include": self._include, "exclude": exclude, "opaque": self._opaque}
        given = {key: list(patterns) for key, patterns in found.items() if patterns}
        return {**given, **({"groups": plain(self._by_hand)} if self._by_hand else {})}

    # order ----------------------------------------------------------------------------------------------------

    @property
    def unit_counts(self) -> dict[str, int]:
        """Units of every group, in the order of their indices."""
        return {mutable.name: mutable.group.units for mutable in self.mutables}

    @property
    def members(self) -> list[Member]:
        """What follows the groups: every such dimension of a parameter or buffer."""
        return list(members(self._dynamic))

    def outputs(self, images: Tensor) -> list[Any]:
        """What the full network gives for images (N, C, H, W) in eval mode, as it returns it; of its one run."""
        with activated(self, self.search_space.max()), evaluating(self.architecture):
            return [self.architecture(images)]

    def run(self, images: Tensor) -> list[Tensor]:
        """All tensors of :meth:`outputs`."""
        return tensors_of(self.outputs(images))

    def sort_channels(self, scores: Mapping[str, Sequence[float]]) -> list[str]:
        """Order the units of groups by falling score, so that subnets keep the best; equal ones stay as they are.

        In place. The full network computes the same: what an order would change is found on a copy in double precision
        before, and such a group stays. Optimizers that have run hold states in the old order.

        Args:
            scores: Group -> a score for each of its units; groups that are not named stay.

        Returns:
            Groups that stay, since what the network computes depends on the order of their channels.

        Raises:
            UserError: A group is unknown, or its scores are not one finite number for each unit; or the network is a
                joint model.
        """
        if self._sets:
            raise UserError("sort_channels: this network holds norms of several subnets; sort it before")
        return sort_groups(self, scores)

    def make_switchable(self, subnets: Sequence[Subnet]) -> None:
        """Give every jointly trained subnet batch norms of its own, each a copy of the slice it used so far."""
        if len(set(subnets)) != len(subnets):
            raise UserError("the same subnet is given twice for joint training")
        norms: dict[nn.Module, list] = {m: [] for m in self.architecture.modules() if _is_of_a_subnet(m)}
        for subnet in subnets:
            self.activate(subnet)
            for norm, copies in norms.items():
                copies.append((export(norm, keep_sync=True), _pieces(norm)))
        new = {
            norm: SwitchableBatchNorm([copy for copy, _ in copies], [pieces for _, pieces in copies])
            for norm, copies in norms.items()
        }
        _swap(self.architecture, new)
        self._norms = list(new.values())
        self._dynamic = {name: layer for name, layer in self._dynamic.items() if layer not in new}
        self._sets = {subnet: index for index, subnet in enumerate(subnets)}
        self.active = None
        self.activate(subnets[0])


def _pieces(norm: nn.Module) -> tuple[tuple[int, int], ...] | None:
    """Where the active channels of a norm are among all of them, as (start, length); None for all."""
    active = active_of(norm)
    outputs = None if active is None else active.outputs
    return None if outputs is None or outputs.full else outputs.pieces


def _plain(candidates: Sequence[int]) -> tuple[int, ...] | range:
    return candidates if isinstance(candidates, range) else tuple(candidates)


def _swap(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    """Put ``new[module]`` wherever ``module`` is: as a child, shared ones in every place, in plain lists and
    dictionaries of a module, and behind its methods that are kept as attributes."""
    for parent in [*model.modules(), *new.values()]:  # a new parent has its own list of children
        for name, child in parent._modules.items():
            if child in new:
                parent._modules[name] = new[child]
        for key, value in vars(parent).items():
            if isinstance(value, (list, dict)) and not key.startswith("_"):
                for place, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
                    value[place] = _follow(item, new)
            elif isinstance(value, (MethodType, tuple)):
                vars(parent)[key] = _follow(value, new)


def _follow(value: Any, new: Mapping[nn.Module, nn.Module]) -> Any:
    """``value`` where modules of ``new`` have others in their place."""
    if isinstance(value, nn.Module):
        return new.get(value, value)
    if isinstance(value, MethodType) and isinstance(value.__self__, nn.Module) and value.__self__ in new:
        return MethodType(value.__func__, new[value.__self__])
    if type(value) is tuple and any(isinstance(item, nn.Module) for item in value):
        return tuple(_follow(item, new) for item in value)
    return value


def _patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    """Patterns; one text is one of them."""
    return (given,) if isinstance(given, str) else tuple(given)
