"""Slimming step by step: for notebooks, and for training loops of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from mmrazor_lite.errors import UserError, check_number, failing, short
from mmrazor_lite.estimators import CostModel
from mmrazor_lite.estimators.latency_reading import read_table
from mmrazor_lite.estimators.latency_table import CostWithLatency
from mmrazor_lite.fileio import as_path
from mmrazor_lite.graph import FixedLayer, evaluating
from mmrazor_lite.models.importance import Importance, Ranking, build
from mmrazor_lite.models.mutators.given import as_subnet
from mmrazor_lite.randomness import seed_from
from mmrazor_lite.search import Cost, EvolutionSearcher
from mmrazor_lite.search.offered import OfferedCost, offered
from mmrazor_lite.search.protocols import run
from mmrazor_lite.shapes import image_shape
from mmrazor_lite.subnet import SearchSpace, Subnet, read_subnet, write_subnet

from .allocation import Divisor, Widths, allocate, by_table
from .asked import check_data, check_kinds, check_network, texts
from .budgets import MEASURED, Budget, read_goal
from .images import read_images
from .judging import Judge
from .output_kinds import check_value_names, value_outputs
from .prepared import prepare
from .ranked import Ranked, ranked
from .repair import repair


class Slimmer:
    """A copy of a trained network whose widths can be chosen.

    ``model`` is that copy: it runs, and trains, the subnet that is active, which at first is the full network. The
    network that was passed in stays as it is, so that a cell that makes a slimmer may run again. What one slimmer has
    made of a network may be passed to the next one: it takes over the weights.

    Without a training of one's own::

        slimmer = Slimmer(model, (3, 32, 32))
        slimmer.rank(images)
        small = slimmer.export(slimmer.search("50%"), data=images)

    With one, of all subnets at once, and a search by what they reach::

        for images, labels in loader:
            optimizer.zero_grad()  # of slimmer.model.parameters()
            for subnet in slimmer.passes():
                loss(slimmer.model(images), labels).backward()
            optimizer.step()
        best = slimmer.search("50%", score=accuracy)  # accuracy(network) -> float

    Args:
        model: Any module that ``torch.export`` traces.
        input_shape: (C, H, W) of one image.
        divisor: Widths are multiples of it; ``'auto'`` is 1 to 8, by the width of the group, or what a
            latency table says that pays, up to 32.
        keep: Patterns of layers, or of parts of the network, that keep their width.
        limits: Pattern of layers -> the least that stays, as a share (0.5) or a number of channels.
        opaque, groups: See :class:`OneShotChannelMutator`.
        seed: Of what is drawn.
        values: Which outputs hold values and no class scores, as for :func:`mmrazor_lite.slim`.

    Raises:
        UserError: The network cannot be copied or traced, has no width to choose, or a pattern names nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        input_shape: Sequence[int] = (3, 224, 224),
        *,
        divisor: int | str = "auto",
        keep: Sequence[str] = (),
        limits: Mapping[str, int | float] | None = None,
        opaque: Sequence[str] = (),
        groups: Sequence[Mapping] = (),
        seed: int = 0,
        values: bool | Sequence[int | str] | None = None,
    ) -> None:
        check_number("seed", seed, 0, whole=True)
        check_value_names(values)
        check_network(model)
        check_kinds(limits=limits, groups=groups)
        keep, opaque = texts("keep", keep), texts("opaque", opaque)
        self._prepared = prepare(model, image_shape(input_shape), keep, limits, opaque, groups)
        self._divisor, self._seed, self._draws, self._values = divisor, seed, 0, values
        self._ranked: Ranked | None = None
        self._mutator = self._prepared.mutator
        self._offered = self._space_of(divisor)

    def _space_of(self, divisor: Divisor) -> SearchSpace:
        """The widths that are multiples of it."""
        nothing_lost = {name: np.zeros(units + 1) for name, units in self._mutator.unit_counts.items()}
        every = self._mutator.search_space
        widths = Widths(nothing_lost, self._mutator.cost_model, every, divisor, self._prepared.least)
        return offered(every, widths.indices)

    @property
    def model(self) -> nn.Module:
        """The network whose active subnet runs; its parameters are those to train."""
        return self._prepared.network

    @property
    def space(self) -> SearchSpace:
        """Every subnet that there is: any width of every group."""
        return self._mutator.search_space

    @property
    def cost(self) -> CostModel:
        """What subnets cost: ``cost.of(subnet)``."""
        return self._mutator.cost_model

    @property
    def fixed(self) -> list[FixedLayer]:
        """The layers that keep their width, and why."""
        return self._mutator.fixed

    @property
    def active(self) -> Subnet:
        """The subnet that runs."""
        return self._mutator.active

    def activate(self, subnet: Mapping[str, int]) -> None:
        """Make a subnet the one that runs. No weight is copied."""
        self._mutator.activate(as_subnet(subnet))

    # channels -------------------------------------------------------------------------------------------------

    def rank(
        self,
        data: Any,
        importance: str | Importance = "reconstruction",
        loss: Callable | None = None,
        images: int = 500,
    ) -> dict[str, Ranking]:
        """Rank the units of every group, and sort the channels of ``model`` so that subnets keep the best.

        The full network computes the same afterwards. An optimizer that has run holds states in the old order.

        Args:
            data: See :func:`read_images`.
            importance: Name of a measure, or a function of (network, images, loss) that gives scores by group.
            loss: Of (outputs as the network returns them, targets), for measures that take one; cross entropy where
                targets are class numbers.
            images: How many are looked at.

        Returns:
            Of each group: its units as they were numbered before, the best first, and what is lost without them.

        Raises:
            UserError: As :func:`read_images`; or the measure tells no two units apart.
        """
        check_data(data)
        check_kinds(loss=loss)
        build(importance)
        found = read_images(data, self.model, images, self._mutator.input_shape, self._seed)
        batch, targets = found.seen[0]
        with torch.no_grad(), evaluating(self.model):
            values = value_outputs(self.model(batch), targets, self._values)
        order = ranked(self._prepared, found, importance, loss, values=values)
        self._mutator.sort_channels(order.scores)
        self._ranked = order
        return dict(order.rankings)

    # subnets --------------------------------------------------------------------------------------------------

    def search(
        self,
        budget: Any,
        score: Callable[[nn.Module], float] | None = None,
        table: str | os.PathLike | None = None,
        **options: Any,
    ) -> Subnet:
        """The best subnet within a budget; it is not made active.

        Without a score, what :meth:`rank` measured decides: the subnet that loses least. With one, an evolution that
        begins with that subnet, where channels are ranked.

        Args:
            budget: ``'50%'`` of the macs, ``'0.3G'``, ``dict(params='2M', memory='40MB')``; it is met exactly.
            table: File of a latency table of this network, for a budget in milliseconds, as the table predicts them.
            score: Called with ``model`` in eval mode and the subnet active; the higher the better.
            options: Of the evolution, see :class:`EvolutionSearcher`: ``max_epochs``, ``num_candidates`` ...

        Raises:
            UserError: The budget is none, or out of reach; no score and no ranking; a score that is no finite number.
        """
        check_kinds(score=score)
        goal = read_goal(budget, None, None, self.cost.of(self.space.max()))
        if (goal.latency is None) != (table is None):
            need = "needs table=, a latency table" if table is None else "is counted: table= is for milliseconds"
            raise UserError(f"search: budget {short(budget)} {need}")
        cost, goal, divisor = self._limited(goal, table)
        if score is None:
            if options:
                raise UserError(f"search: {short(next(iter(options)))} is for a search with a score; give score=")
            return self._allocated(goal, cost, divisor)
        if self._ranked is not None:
            options.setdefault("init_candidates", [self._allocated(goal, cost, divisor)])
        limits = [(name, 0.0, limit) for name, limit in goal.counted.items()]
        space = self._offered if divisor == self._divisor else self._space_of(divisor)
        cost = OfferedCost(space, cost, self.space)
        try:
            searcher = EvolutionSearcher(space, cost, limits, **{"seed": self._seed, **options})
        except TypeError as error:
            raise UserError(f"search: {error}; see EvolutionSearcher") from None
        before = self.active
        try:
            with evaluating(self.model):
                results = run(searcher, lambda row: self._scored(space.subnet(row), score))
        finally:
            self.activate(before)
        return space.subnet(results[0].row)

    def _scored(self, subnet: Subnet, score: Callable[[nn.Module], float]) -> float:
        self.activate(subnet)
        with failing("search: the score cannot be computed"):
            found = score(self.model)
        try:
            return float(found)
        except (TypeError, ValueError):
            raise UserError(f"search: score must give a number, got {short(found)}") from None

    def _limited(self, goal: Budget, table: str | os.PathLike | None) -> tuple[Cost, Budget, Divisor]:
        """What subnets cost, all limits on that (of the latency, in milliseconds of the table), and what widths are
        multiples of."""
        if table is None:
            return self.cost, goal, self._divisor
        found = read_table(as_path(table, "search: table"), self._mutator)
        limit = goal.milliseconds(found.of_largest())
        cost, goal = CostWithLatency(self.cost, found), replace(goal, counted={**goal.counted, MEASURED: limit})
        return cost, goal, by_table(self._divisor, found.steps)

    def _allocated(self, goal: Budget, cost: Cost, divisor: Divisor) -> Subnet:
        if self._ranked is None:
            raise UserError("search: nothing says what channels are worth; call rank(data) before, or give score=")
        row = allocate(self._ranked.curves, cost, self.space, goal.counted, divisor, self._prepared.least)
        return self.space.subnet(row)

    def passes(self, randoms: int = 2) -> Iterator[Subnet]:
        """The passes of one step of a sandwich: the largest subnet, the smallest and random ones, each made active.

        Every pass is a forward and a backward of ``model`` on the same images; the optimizer steps once, after the
        last. Then the largest is active again. (Universally Slimmable Networks, arXiv:1903.05134, section 3.2.)
        """
        check_number("randoms", randoms, 0, whole=True)
        rng = np.random.default_rng(seed_from(self._seed, self._draws))
        self._draws += 1
        largest, smallest = self._offered.max(), self._offered.min()
        try:
            for subnet in (largest, smallest, *(self._offered.sample(rng) for _ in range(randoms))):
                self.activate(subnet)
                yield subnet
        finally:
            self.activate(largest)

    # files ----------------------------------------------------------------------------------------------------

    def export(self, subnet: Mapping[str, int] | None = None, data: Any = None, images: int = 500) -> nn.Module:
        """A subnet as a plain module of the network's class, with tensors of its own, in eval mode.

        Args:
            subnet: The active one by default.
            data: Images that its weights are refitted with, so that it computes what the full network does, as far as
                it can; see :func:`read_images`. Without it, the weights are those of ``model``.
            images: How many.
        """
        subnet = self.active if subnet is None else as_subnet(subnet)
        if data is None:
            return self._mutator.export(subnet).eval()
        check_data(data)
        found = read_images(data, self.model, images, self._mutator.input_shape, self._seed)
        before = self.active
        self.activate(self.space.max())
        try:
            judge = Judge(self.model, found.held_out, values=self._values)
            return repair(self._prepared, subnet, found.seen, judge).network
        finally:
            self.activate(before)

    def save(self, path: str | os.PathLike, subnet: Mapping[str, int] | None = None) -> None:
        """Write a subnet, by default the active one, and what it costs to a YAML file."""
        subnet = self.active if subnet is None else as_subnet(subnet)
        write_subnet(as_path(path, "save: path"), subnet, self.space, self.cost.of(subnet), made_by={"tool": "slim"})

    def load_subnet(self, path: str | os.PathLike) -> Subnet:
        """The subnet of a file, which is made active.

        Raises:
            UserError: It is no subnet of this network.
        """
        subnet = read_subnet(as_path(path, "load_subnet: path"), self.space).subnet
        self.activate(subnet)
        return subnet
