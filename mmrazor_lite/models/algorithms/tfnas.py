"""TF-NAS: learn operators, depths and widths of a network by gradients, at a latency that is met."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from mmrazor_lite.errors import UserError, check_number
from mmrazor_lite.estimators.latency_reading import read_table
from mmrazor_lite.estimators.latency_table import CostWithLatency
from mmrazor_lite.models.algorithms.base import Algorithm, Pass, call
from mmrazor_lite.models.algorithms.elasticity_scaling import scale_widths
from mmrazor_lite.models.algorithms.tfnas_parts import ArchParameters, BlockLatency, Current, blocks_of
from mmrazor_lite.models.said import said_by
from mmrazor_lite.registry import MODELS
from mmrazor_lite.subnet import Stage, Subnet, parse_budget, subnet_document

WEIGHTS, ARCH = "architecture", "arch_parameters"  # modules, and the names of their optimizers
TRIED = 2000  # networks whose operators could meet the target, of which one may be found
SEARCHED = "searched"  # in a checkpoint: the network that the search has found so far


@MODELS.register_module()
class TFNAS(Algorithm):
    """Trains a mixture of all operators and depths, and scales its widths to a target latency after every epoch.

    A weight step trains two paths: an operator of each block drawn by its probability, and another one drawn uniformly
    (bi-sampling); the output of a stage is the mean of its depths (sink connections). An architecture step, on other
    images, updates the probabilities through a relaxed sample of all operators, with ``|latency / target - 1|`` beside
    the loss of the labels. After an epoch, the widths of the most probable network are scaled until it meets the
    target (elasticity-scaling). Where they cannot reach it, the next one takes its place, which the authors' code has
    not: there such a search ends beside its target.

    Source: arXiv:2008.05314.

    Args:
        architecture: As for :class:`Algorithm`; a backbone of operator choices with widths of their own.
        mutator: Config of the ``NasMutator``.
        latency_table: File of a table for this space, ours or the authors'; a search needs it.
        target_latency: Milliseconds; a bare number, ``'15ms'`` or a part of the slowest network such as ``'50%'``.
        lambda_lat: Weight of the latency loss.
        tolerance: How far the network found may be from the target, relative.
        epochs_without_arch: Epochs at the beginning that train weights only, on one path.
        temperature: Of the relaxed samples in the first of the other epochs.
        temperature_decay: Factor from epoch to epoch.
        arch_interval: Weight steps per architecture step.
        data_preprocessor: As for :class:`Algorithm`.
        input_shape: As for :class:`Algorithm`.
        init_cfg: As for :class:`Algorithm`.

    Raises:
        UserError: The architecture declares other choices, an option out of range, a table that does not fit, or a
            target that no network of the space meets.
    """

    def __init__(
        self,
        architecture: Mapping | nn.Module,
        mutator: Any = None,
        latency_table: str | os.PathLike | None = None,
        target_latency: float | str = 15.0,
        lambda_lat: float = 0.1,
        tolerance: float = 0.01,
        epochs_without_arch: int = 10,
        temperature: float = 5.0,
        temperature_decay: float = 0.96,
        arch_interval: int = 2,
        data_preprocessor: Mapping | nn.Module | None = None,
        input_shape: Sequence[int] = (3, 224, 224),
        init_cfg: Any = None,
    ) -> None:
        _check_options(locals())
        super().__init__(architecture, mutator or {"type": "NasMutator"}, data_preprocessor, input_shape, init_cfg)
        self.mutator.prepare(self.architecture, self.input_shape)
        self.search_space = self.mutator.search_space
        self.cost_model = self._plain_costs = self.mutator.cost_model
        self._blocks = blocks_of(self.mutator)
        depths = [stage for stage in self.search_space.stages if stage.depth is not None]
        self.arch_parameters = ArchParameters(self._blocks, {s.name: self.mutator.modules[s.name] for s in depths})
        self.register_buffer("widths", torch.tensor(self._initial_widths()))  # (B, O): now, of every operator
        self.lambda_lat, self.tolerance = lambda_lat, tolerance
        self.epochs_without_arch, self.arch_interval = epochs_without_arch, arch_interval
        self._temperatures = (temperature, temperature_decay)
        self.epoch = 0
        self.latency: BlockLatency | None = None
        self.target: float | None = None
        if latency_table:
            table = read_table(latency_table, self.mutator)
            self.latency = BlockLatency(table, self._blocks)
            self.cost_model = CostWithLatency(self.cost_model, table)
            self.target = self._reachable(target_latency, table)
        self._forget()

    # what a training loop asks

    def start_epoch(self, epoch: int) -> None:
        """Tell which epoch runs, from 0.

        Raises:
            UserError: There is no latency table, or an architecture parameter is not finite.
        """
        if self.latency is None:
            raise UserError(
                "model.latency_table is missing: give the file of a table with --cfg-options model.latency_table=FILE "
                "(tools/latency/build_table.py measures one for this machine)"
            )
        self.arch_parameters.check(f"epoch {epoch + 1}")
        self.epoch = epoch
        self._forget()

    def trains_arch(self, epoch: int, index: int) -> bool:
        """Whether the weight step ``index`` of an epoch is followed by an architecture step."""
        return epoch >= self.epochs_without_arch and index % self.arch_interval == 0

    def arch_steps(self, epoch: int, index: int, per_epoch: int) -> int:
        """Architecture steps before the weight step ``index`` of ``epoch``, with ``per_epoch`` weight steps in each."""
        each = -(-per_epoch // self.arch_interval)
        if epoch < self.epochs_without_arch:
            return 0
        return (epoch - self.epochs_without_arch) * each + -(-index // self.arch_interval)

    @property
    def temperature(self) -> float:
        """Of the relaxed samples of this epoch."""
        start, decay = self._temperatures
        return start * decay ** max(self.epoch - self.epochs_without_arch, 0)

    def passes(self, step: int) -> list[Pass]:
        """A path drawn by the probabilities, and one of other operators, each at the widths of now."""
        alphas = self._current.alphas
        first = [int((alpha + noise).argmax()) for alpha, noise in zip(alphas, self._noise(step), strict=True)]
        found = [Pass(self._network(first), name="gumbel_path")]
        if self.epoch >= self.epochs_without_arch:
            rng = self.rng(step, 1)
            count = alphas.shape[1]
            other = [(op + int(rng.integers(1, count))) % count for op in first]
            found.append(Pass(self._network(other), name="random_path"))
        return found

    def train_step(
        self, data: Mapping[str, Any], optim_wrapper: OptimWrapperDict, forward: Callable | None = None
    ) -> dict[str, Tensor]:
        """One weight step, and one architecture step where there are images for it.

        Args:
            data: ``weights``, a batch, and ``arch``, another one or None; see ``PairedTrainLoop``.
            optim_wrapper: Of the architecture's weights and of the architecture parameters, by these names.
            forward: As for :class:`Algorithm`.

        Raises:
            UserError: A loss, or an architecture parameter, is not finite.
        """
        step = optim_wrapper[WEIGHTS].batch_index
        with self.arch_parameters.sinks():
            log = super().train_step(data["weights"], optim_wrapper[WEIGHTS], forward)
        if data.get("arch") is not None:
            log |= self._arch_step(data["arch"], optim_wrapper[ARCH], forward or self, step)
        return log

    def trial_batch(self, data: Mapping[str, Any]) -> Any:
        """As of :class:`Algorithm`: of the weights."""
        return super().trial_batch(data["weights"])

    def trial_step(self, batch: Any, optim_wrapper: OptimWrapperDict) -> Tensor:
        """As of :class:`Algorithm`: a weight step, which is most of the work."""
        with self.arch_parameters.sinks():
            return super().trial_step(batch, optim_wrapper[WEIGHTS])

    def end_epoch(self) -> dict[str, float]:
        """Scale the widths of the most probable network that they bring to the target, and keep its largest channels.

        Where none of the first ``TRIED`` that could meet the target does, it is the most probable one of all.

        Returns:
            ``before`` and ``after``, the latency of the network found; ``target``; ``less_probable``, how many times
            less probable it is than the most probable one, 1 where it is that one.
        """
        if self.epoch < self.epochs_without_arch:
            blocks, chosen = self._running(*self.arch_parameters.most_probable())
            now = self.latency.of_network(blocks, chosen, self._widths_of(blocks, chosen))
            return {"before": now, "after": now, "target": self.target, "less_probable": 1.0}
        behind, blocks, chosen, scaled = self._scaled()
        widths = self._widths_of(blocks, chosen)
        scores = {}
        for block, op, old, new in zip(blocks, chosen, widths, scaled, strict=True):
            if new != old:
                self.widths[block, op] = new
                form, candidate = self._blocks[block].candidate(op)
                (group,) = self.mutator.inner_groups[form]
                scores[group] = candidate.importance
        if scores:
            self.mutator.sort_channels(scores)
        return {
            "before": self.latency.of_network(blocks, chosen, widths),
            "after": self.cost_model.of(self.searched)["latency"],
            "target": self.target,
            "less_probable": float(np.exp(behind)),
        }

    @property
    def searched(self) -> Subnet:
        """The most probable network that meets the target at the widths of now; where none does, the most probable."""
        self._forget()  # a checkpoint may have been loaded
        found = self.arch_parameters.most_probable()
        if self.latency:
            now = self._current.milliseconds
            for _, *network in islice(self.arch_parameters.networks(now, now, self._limits()), TRIED):
                blocks, chosen = self._running(*network)
                if self.meets(self.latency.of_network(blocks, chosen, self._widths_of(blocks, chosen))):
                    found = network
                    break
        return self.search_space.subnet(self.search_space.index(self._network(*found)))

    def meets(self, latency: float) -> bool:
        """Whether milliseconds are within the tolerance of the target."""
        return abs(latency / self.target - 1) <= self.tolerance

    def named_subnets(self) -> dict[str, Subnet]:
        """The network that the search has found so far."""
        return {"searched_subnet": self.searched}

    def resources(self) -> dict[str, dict[str, int]]:
        """Costs of the subnets of most and of fewest macs, and of the one found so far."""
        return {**self._ends, **{name: self.cost_model.of(subnet) for name, subnet in self.named_subnets().items()}}

    @cached_property
    def _ends(self) -> dict[str, dict[str, int]]:
        return {"max_subnet": self._plain_costs.max(), "min_subnet": self._plain_costs.min()}

    def checkpoint_meta(self) -> dict[str, Any]:
        """See :class:`Algorithm`; with the network found so far, so that retraining can start from the file."""
        subnet = self.searched
        return {
            **super().checkpoint_meta(),
            SEARCHED: subnet_document(subnet, self.search_space, self.cost_model.of(subnet)),
        }

    # inside

    def _arch_step(self, data: Any, optim_wrapper: OptimWrapper, forward: Callable, step: int) -> dict[str, Tensor]:
        batch = self.data_preprocessor(data, training=True)
        frozen = [parameter for parameter in self.architecture.parameters() if parameter.requires_grad]
        noise = [torch.from_numpy(block) for block in self._noise(step, k=2)]
        previous = self.mutator.active
        self.mutator.activate_widths(self._width_choices())
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            with self.arch_parameters.mixed(noise, self.temperature) as weights:
                with optim_wrapper.pass_context(forward, last=True), optim_wrapper.forward_context():
                    hard, _ = self.parse_losses(call(forward, batch, mode="loss"))
                latency = self._expected_latency(weights)
                loss = hard + self.lambda_lat * (latency / self.target - 1).abs()
                optim_wrapper.backward(optim_wrapper.scale_loss(loss))
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
            self.mutator.activate(previous)
        bad = (~torch.isfinite(loss.detach())).to(torch.float32)
        all_reduce(bad, "max")
        if bad:
            raise UserError(
                f"step {step}: the loss of the architecture step is {float(loss)}; training stopped before the update "
                "and the checkpoints are kept; lower a learning rate or set clip_grad, then --resume"
            )
        optim_wrapper.end_batch()
        self._current.forget_alphas()
        self.arch_parameters.normalise()
        self.arch_parameters.check(f"step {step}")
        return {"arch.loss": hard.detach(), "arch.latency": latency.detach()}

    def _expected_latency(self, weights: Sequence[Tensor]) -> Tensor:
        """Milliseconds of the mixture: of each stage, the mean over its depths of the sum of the blocks that run."""
        total = torch.as_tensor(self.latency.base, dtype=torch.float32, device=weights[0].device)
        betas = iter(self.arch_parameters.betas)
        sums: dict[Stage, list[Tensor]] = {}
        for block, weight, ms in zip(self._blocks, weights, self._current.milliseconds, strict=True):
            sums.setdefault(block.stage, []).append((weight * weight.new_tensor(ms[: len(weight)])).sum())
        for stage, blocks in sums.items():
            ends = torch.stack(blocks).cumsum(0)
            if stage.depth is None:
                total = total + ends[-1]
                continue
            depths = [depth - 1 for depth in self.search_space[stage.depth].candidates]
            total = total + (next(betas).softmax(0) * ends[depths]).sum()
        return total

    def _noise(self, step: int, k: int = 0) -> list[np.ndarray]:
        """Gumbel noise for each block, equal on all ranks."""
        rng = self.rng(step, k)
        return [rng.gumbel(size=len(block.widths)) for block in self._blocks]

    def _limits(self) -> tuple[float, float]:
        """Milliseconds from and to which the blocks of a network that meets the target take, a hair more than those."""
        low, high = ((1 + side * (self.tolerance + 1e-9)) * self.target for side in (-1, 1))
        return low - self.latency.base, high - self.latency.base

    def _scaled(self) -> tuple[float, list[int], list[int], list[int]]:
        """The network to be found after this epoch: how far behind it is, its blocks, operators and new widths."""
        latency = self.latency
        for behind, *network in islice(
            self.arch_parameters.networks(latency.least, latency.most, self._limits()), TRIED
        ):
            blocks, chosen = self._running(*network)
            scaled = self._scaled_widths(blocks, chosen)
            if self.meets(latency.of_network(blocks, chosen, scaled)):
                return behind, blocks, chosen, scaled
        blocks, chosen = self._running(*self.arch_parameters.most_probable())
        return 0.0, blocks, chosen, self._scaled_widths(blocks, chosen)

    def _scaled_widths(self, blocks: Sequence[int], chosen: Sequence[int]) -> list[int]:
        """Widths of blocks with these operators, scaled towards the target."""
        offered = [self._blocks[block].offered[op] for block, op in zip(blocks, chosen, strict=True)]
        stages = [self._blocks[block].stage for block in blocks]
        return scale_widths(
            self._widths_of(blocks, chosen),
            [(candidates[0], candidates[-1]) for candidates in offered],
            [list(dict.fromkeys(stages)).index(stage) for stage in stages],
            partial(self.latency.of_network, blocks, chosen),
            self.target,
        )

    def _running(self, operators: Sequence[int], depths: Mapping[str, int]) -> tuple[list[int], list[int]]:
        """The blocks that run at ``depths``, and the operator of each."""
        blocks = [index for index, block in enumerate(self._blocks) if block.runs(depths)]
        return blocks, [operators[block] for block in blocks]

    def _widths_of(self, blocks: Sequence[int], operators: Sequence[int]) -> list[int]:
        """Those of now."""
        return [self._current.widths[block][op] for block, op in zip(blocks, operators, strict=True)]

    def _network(self, operators: Sequence[int], depths: Mapping[str, int] | None = None) -> Subnet:
        """One operator in each block that runs at ``depths``, by default all of them, at the widths of now."""
        stages = [stage for stage in self.search_space.stages if stage.depth is not None]
        depths = depths or {stage.name: len(stage.blocks) for stage in stages}
        choices: dict[str, Any] = {stage.depth: depths[stage.name] for stage in stages}
        for block, op, row in zip(self._blocks, operators, self._current.widths, strict=True):
            choices |= block.choices(op, row[op]) if block.runs(depths) else {}
        return Subnet(choices)

    def _width_choices(self) -> dict[str, int]:
        return {
            choice: width
            for block, row in zip(self._blocks, self._current.widths, strict=True)
            for choice, width in zip(block.widths, row, strict=True)
        }

    def _forget(self) -> None:
        """Read the tensors anew when they are asked for."""
        self._current = Current(self)

    def _initial_widths(self) -> list[list[int]]:
        """Three quarters of the most: 3 and 6 times as many channels as come in (models/model_search.py)."""
        return [[offered[-1] * 3 // 4 for offered in block.offered] for block in self._blocks]

    def _reachable(self, target: float | str, table: Any) -> float:
        """The target in milliseconds."""
        low, high = table.extreme(largest=False), table.extreme(largest=True)
        value = parse_budget(target, "latency", high)
        if not low <= value <= high:
            raise UserError(
                f"model.target_latency={target!r}: no network of the space takes {value:g} ms, they take {low:.4f} to "
                f"{high:.4f} ms by the table"
            )
        return value


def searched_in(checkpoint: Mapping[str, Any]) -> dict[str, Any] | None:
    """The document of the network found so far, which a checkpoint carries; None where it is of no such search."""
    document = said_by(checkpoint).get(SEARCHED)
    return dict(document) if isinstance(document, Mapping) else None


def _check_options(options: Mapping[str, Any]) -> None:
    """Check the numbers among the arguments of :class:`TFNAS`."""
    whole = {"epochs_without_arch": 0, "arch_interval": 1}
    for name, low in whole.items():
        check_number(f"model.{name}", options[name], low, whole=True)
    for name in ("lambda_lat", "tolerance", "temperature", "temperature_decay"):
        check_number(f"model.{name}", options[name], 0, above=True)
