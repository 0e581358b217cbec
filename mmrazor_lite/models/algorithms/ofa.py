"""OFA: one elastic supernet whose subnets need no retraining."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmrazor_lite.errors import UserError, check_number
from mmrazor_lite.models.algorithms.assumptions import check_distillation
from mmrazor_lite.models.algorithms.base import Algorithm, Pass, inputs_of, resized
from mmrazor_lite.models.algorithms.construct import at_width, build_part
from mmrazor_lite.models.algorithms.loading import load_checked, log_loaded
from mmrazor_lite.models.algorithms.phases import EXPAND, TEACHER, Phase, phases_of
from mmrazor_lite.models.algorithms.pretrained import read_pretrained
from mmrazor_lite.models.backbones.ofa_networks import OFABackbone
from mmrazor_lite.models.classifiers import main_logits
from mmrazor_lite.models.mutables import ElasticBlock
from mmrazor_lite.registry import DISTILLERS, MODELS
from mmrazor_lite.subnet import Subnet

TRAINING = ("progressive_shrinking", "sandwich")


@MODELS.register_module(name=["OFA", "BigNAS"])
class OFA(Algorithm):
    """Trains all subnets of an elastic space at once, so that any of them works without retraining.

    - ``progressive_shrinking``: one run per phase, see :class:`Phase`. Each step trains a few subnets of the phase at
      one resolution, on the labels and on the soft labels of the frozen full network (Once-for-All, arXiv:1908.09791,
      section 3.3 and appendix A; ``progressive_shrinking.py`` of its authors). Before the first step of an expand
      phase, the channels inside every block are sorted by importance; those of ratios already trained stay in front.
    - ``sandwich``: the max subnet learns from the labels; the min subnet and ``num_random_samples`` random ones from
      its output (BigNAS, arXiv:2003.11142, section 3.1).

    Source: arXiv:1908.09791.

    Args:
        architecture: As for :class:`Algorithm`, with an elastic backbone such as ``OFAMobileNetV3``.
        mutator: Config of the ``NasMutator``, which also says the resolutions.
        training: One of :data:`TRAINING`; progressive shrinking where ``phase`` is given, else the sandwich.
        phase: Of progressive shrinking: ``teacher``, ``kernel``, ``depth_1``, ``depth_2``, ``expand_1``, ``expand_2``.
        num_subnets: Subnets per step of a phase; by default 1, 1, 2, 2, 4, 4.
        num_random_samples: Random subnets per step of the sandwich; 2 by default.
        kd_ratio: Weight of the soft labels beside the labels, in a phase.
        teacher: Checkpoint of the phase ``teacher``; its network gives the soft labels. Its batch norms use the
            statistics of the batch, as its authors' do.
        distiller: Loss against soft labels; ``KLDivergence`` by default.
        drop_path_rate: Of the sandwich: how likely an image goes around the last block while the max subnet is trained
            (BigNAS, section 3.1); less by less towards the first one, as many blocks are before it. 0 by default.
        drop_path_stages: The stages that this is for, from 1, the first block being stage 1; all by default.
        width_mult: Overrides that of the backbone, and the width of the head with it.
        data_preprocessor: As for :class:`Algorithm`.
        input_shape: As for :class:`Algorithm`; at the largest resolution.
        init_cfg: As for :class:`Algorithm`.

    Raises:
        UserError: The architecture declares no choice, or options contradict each other.
    """

    def __init__(
        self,
        architecture: Mapping | nn.Module,
        mutator: Any = None,
        training: str | None = None,
        phase: str | None = None,
        num_subnets: int | None = None,
        num_random_samples: int | None = None,
        kd_ratio: float = 1.0,
        teacher: str | None = None,
        distiller: Mapping | nn.Module | None = None,
        drop_path_rate: float = 0.0,
        drop_path_stages: Sequence[int] | None = None,
        width_mult: float | None = None,
        data_preprocessor: Mapping | nn.Module | None = None,
        input_shape: Sequence[int] = (3, 224, 224),
        init_cfg: Any = None,
    ) -> None:
        _check_options(training, phase, num_subnets, num_random_samples, kd_ratio)
        _check_used(phase, num_subnets, num_random_samples, kd_ratio, teacher, distiller)
        architecture = at_width(architecture, width_mult)
        super().__init__(architecture, mutator or {"type": "NasMutator"}, data_preprocessor, input_shape, init_cfg)
        self.mutator.prepare(self.architecture, self.input_shape)
        self.search_space, self.cost_model = self.mutator.search_space, self.mutator.cost_model
        self.phase = None if phase is None else Phase(phase, self.search_space)
        self.num_subnets = num_subnets or (self.phase.subnets_per_step if self.phase else 0)
        self.num_random_samples = 2 if num_random_samples is None else num_random_samples
        self.kd_ratio, self._teacher_file = kd_ratio, teacher
        self.distiller = build_part(DISTILLERS, distiller or {"type": "KLDivergence"}, "algorithm.distiller")
        if kd_ratio and phase != TEACHER:
            check_distillation(self.architecture, self.distiller, self.input_shape)
        self._drop_paths = _drop_paths(self.architecture, drop_path_rate, drop_path_stages, phase)
        self._has_start = False  # whether a checkpoint of the phase before was loaded
        self._is_sorted = False  # or one of this phase, whose channels are in order

    def passes(self, step: int) -> list[Pass]:
        """The subnets of the phase, or the sandwich; all at one resolution."""
        resolution = self._resolution(step)
        if self.phase is None:
            return self._sandwich(step, resolution)
        if self.phase.name == TEACHER:
            return [Pass(self._at(self.search_space.max(), resolution))]
        soft = {"soft": self.kd_ratio, "teacher": "frozen"} if self.kd_ratio else {}
        draws = [self.phase.sample(self.rng(step, k), resolution) for k in range(self.num_subnets)]
        return [Pass(subnet, **soft, name=f"random{k}_subnet") for k, subnet in enumerate(draws)]

    def _sandwich(self, step: int, resolution: int | None) -> list[Pass]:
        draws = [self.search_space.sample(self.rng(step, k)) for k in range(self.num_random_samples)]
        names = ["min_subnet", *(f"random{k}_subnet" for k in range(len(draws)))]
        others = [
            Pass(self._at(subnet, resolution), label=0.0, soft=1.0, teacher="max", name=name)
            for name, subnet in zip(names, [self.search_space.min(), *draws], strict=True)
        ]
        return [Pass(self._at(self.search_space.max(), resolution), name="max_subnet"), *others]

    @contextmanager
    def regularised(self, item: Pass) -> Iterator[None]:
        """As of :class:`Algorithm`: images go around blocks where the max subnet is trained on labels."""
        rates = self._drop_paths if item.label and item.name == "max_subnet" else {}
        for block, rate in rates.items():
            block.drop_path_rate = rate
        try:
            yield
        finally:
            for block in rates:
                block.drop_path_rate = 0.0

    def _resolution(self, step: int) -> int | None:
        resolutions = self.mutator.resolutions
        return None if resolutions is None else int(self.rng(step, 1 << 16).choice(resolutions))

    def _at(self, subnet: Subnet, resolution: int | None) -> Subnet:
        return subnet if resolution is None else Subnet({**subnet, "resolution": resolution})

    def named_subnets(self) -> dict[str, Subnet]:
        """The largest and the smallest subnet that are trained, and one drawn with the seed of the run."""
        return self._named

    @cached_property
    def _named(self) -> dict[str, Subnet]:
        space = self.phase or self.search_space
        drawn = space.sample(np.random.default_rng(self.seed))
        return {"max_subnet": space.max(), "min_subnet": space.min(), "random0_subnet": drawn}

    # phases ---------------------------------------------------------------------------------------------------

    def checkpoint_meta(self) -> dict[str, Any]:
        """As of :class:`Algorithm`, with the phase."""
        meta = super().checkpoint_meta()
        return meta if self.phase is None else {**meta, "phase": self.phase.name}

    def check_meta(self, meta: Mapping[str, Any] | None, where: str = "checkpoint") -> None:
        """As of :class:`Algorithm`; a phase goes on with its own checkpoint, or starts from one of the phase before."""
        super().check_meta(meta, where)
        found = (meta or {}).get("phase")
        if self.phase is not None and found not in (None, self.phase.name, self.phase.before):
            raise UserError(
                f"{where} was trained up to phase '{found}', algorithm.phase='{self.phase.name}' starts from a "
                f"checkpoint of {self._expected}; the order is: {', '.join(phases_of(self.search_space))}"
            )
        if self.phase is not None and found is None and self.phase.before:
            print_log(
                f"{where} does not say up to which phase it was trained; phase '{self.phase.name}' starts from it as "
                f"from a checkpoint of {self._expected}",
                logger="current",
                level=logging.WARNING,
            )
        *_, last = phases_of(self.search_space)
        if self.phase is None and not self._teacher_file and found not in (None, last):
            print_log(
                f"{where} was trained up to phase '{found}' of {', '.join(phases_of(self.search_space))}: what later "
                "phases train is untrained in it",
                logger="current",
                level=logging.WARNING,
            )
        self._has_start = True
        self._is_sorted = self.phase is not None and found == self.phase.name

    def check_resumed(self, meta: Mapping[str, Any] | None, where: str = "checkpoint") -> None:
        """Raise ``UserError`` unless a run that goes on from a checkpoint is one of the same phase."""
        found = (meta or {}).get("phase")
        if self.phase is not None and found != self.phase.name:
            raise UserError(
                f"{where} is of {f'phase {found!r}' if found else 'no phase'}, it cannot be resumed by "
                f"algorithm.phase='{self.phase.name}': start the phase from it with --cfg-options load_from=FILE and "
                "another --work-dir"
            )

    @property
    def _expected(self) -> str:
        return f"phase '{self.phase.before}'" if self.phase.before else "no other phase"

    def before_first_step(self) -> None:
        """Check that the phase has what it starts from; order the channels before an expand phase."""
        if self.phase is None or self.phase.name == TEACHER:
            return
        if not self._has_start:
            raise UserError(
                f"algorithm.phase='{self.phase.name}' starts from a checkpoint of {self._expected}: set load_from=FILE"
            )
        if self.phase.kind == EXPAND and not self._is_sorted:
            self.sort_channels()

    def sort_channels(self) -> None:
        """Order the channels inside every block by importance; what the full network computes stays the same."""
        blocks = {
            name: block
            for name, block in self.architecture.named_modules()
            if isinstance(block, ElasticBlock) and len(block.expand_ratios) > 1
        }
        for place in range(max((len(block.inner_groups) for block in blocks.values()), default=0)):
            found = [(n, block) for n, block in blocks.items() if place < len(block.inner_groups)]
            scores = {self.mutator.inner_groups[n][place]: self._importance(n, block, place) for n, block in found}
            self.mutator.sort_channels(scores)
        print_log("sorted the channels inside every block by importance", logger="current")

    def _importance(self, name: str, block: ElasticBlock, place: int) -> Tensor:
        """How important the channels of a group are, as ranks: those of ratios already trained before all others.

        A channel is as important as the weights of the group's last reader that read it, in absolute sum.
        """
        reader = block.get_submodule(block.inner_groups[place]["into"][-1])
        importance = reader._parameters["weight"].detach().abs().sum((0, 2, 3))
        segment = torch.zeros_like(importance, dtype=torch.long)  # 0 for what the narrowest trained width holds
        for ratio in self.phase.trained(".expand_ratio").get(f"{name}.expand_ratio", ()) if self.phase else ():
            segment[block.inner_widths(ratio)[place] :] += 1
        order = importance.argsort(descending=True, stable=True)
        order = order[segment[order].argsort(stable=True)]
        return -order.argsort().double()

    @torch.no_grad()
    def teacher_outputs(self, batch: Any, subnet: Subnet) -> Tensor:
        """Soft labels of the frozen full network, at the resolution of ``subnet``."""
        device = next(self.parameters()).device
        network = self._teacher[0].to(device)
        return main_logits(network(resized(inputs_of(batch), subnet.get("resolution")), mode="tensor"))

    @cached_property
    def _teacher(self) -> tuple[nn.Module]:
        """The frozen network; in a tuple, so that it is no part of this model."""
        if not self._teacher_file:
            raise UserError(
                f"algorithm.phase='{self.phase.name}' learns from the frozen full network: set algorithm.teacher to a "
                "checkpoint of phase 'teacher', or algorithm.kd_ratio=0 to learn from the labels alone"
            )
        own = copy.deepcopy(self.state_dict())
        checkpoint = read_pretrained({"checkpoint": self._teacher_file}, "the teacher")
        phase, self.phase = self.phase, None  # any phase may give the teacher
        started = self._has_start
        try:
            load_checked(self, checkpoint, str(self._teacher_file))
            network = self.mutator.export(self.search_space.max())
        finally:
            self.load_state_dict(own)
            self.phase, self._has_start = phase, started
        log_loaded(network, self._teacher_file)
        network.requires_grad_(False).train()
        for module in network.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        return (network,)


def _drop_paths(
    architecture: nn.Module, rate: float, stages: Sequence[int] | None, phase: str | None
) -> dict[nn.Module, float]:
    """How likely an image goes around each block of some stages, by the blocks before it; none where the rate is 0.

    Raises:
        UserError: A rate or a stage that is none; a phase, whose steps have no sandwich; a network of other blocks.
    """
    check_number("algorithm.drop_path_rate", rate, 0, 0.9)
    numbers = [] if stages is None else list(stages)
    for number in numbers:
        check_number("algorithm.drop_path_stages", number, 1, whole=True)
    if not rate:
        if numbers:
            raise UserError("algorithm.drop_path_stages is read with algorithm.drop_path_rate above 0; remove it")
        return {}
    if phase is not None:
        raise UserError(f"algorithm.drop_path_rate is of the sandwich, not of phase {phase!r}; remove it")
    backbone = next((module for module in architecture.modules() if isinstance(module, OFABackbone)), None)
    if backbone is None:
        raise UserError("algorithm.drop_path_rate needs a backbone of Once-for-All, such as OFAMobileNetV3; remove it")
    last = len(backbone.layers)
    if any(number > last for number in numbers):
        raise UserError(f"algorithm.drop_path_stages: there is no stage {max(numbers)}, the last one is {last}")
    blocks = [(number, block) for number, stage in enumerate(backbone.layers, 1) for block in stage]
    return {
        block: rate * index / len(blocks)
        for index, (stage, block) in enumerate(blocks)
        if stages is None or stage in numbers
    }


def _check_options(
    training: str | None, phase: str | None, num_subnets: int | None, samples: int | None, kd_ratio: float
) -> None:
    if training is not None and training not in TRAINING:
        raise UserError(f"algorithm.training={training!r} is unknown (allowed: {', '.join(TRAINING)})")
    if training == "progressive_shrinking" and phase is None:
        raise UserError("algorithm.training='progressive_shrinking' needs algorithm.phase, such as 'teacher'")
    if training == "sandwich" and phase is not None:
        raise UserError(f"algorithm.phase={phase!r} is of progressive shrinking; remove it, or algorithm.training")
    for key, value, least in (("num_subnets", num_subnets, 1), ("num_random_samples", samples, 0)):
        check_number(f"algorithm.{key}", value, least, 1000, whole=True, optional=True)
    check_number("algorithm.kd_ratio", kd_ratio, 0)


def _check_used(
    phase: str | None,
    num_subnets: int | None,
    samples: int | None,
    kd_ratio: float,
    teacher: str | None,
    distiller: Any,
) -> None:
    if samples is not None and phase is not None:
        raise UserError(f"algorithm.num_random_samples is of the sandwich, not of phase {phase!r}; remove it")
    if phase not in (None, TEACHER):
        if teacher and kd_ratio == 0:
            raise UserError("algorithm.teacher is not read with algorithm.kd_ratio=0; remove one of them")
        if distiller is not None and kd_ratio == 0:
            raise UserError("algorithm.distiller is not read with algorithm.kd_ratio=0; remove one of them")
        return
    if phase == TEACHER and distiller is not None:
        raise UserError(f"algorithm.distiller is of the phases after 'teacher', not of phase {phase!r}; remove it")
    for key, is_given in (("num_subnets", num_subnets), ("kd_ratio", kd_ratio != 1), ("teacher", teacher)):
        if is_given:
            what = "the sandwich" if phase is None else f"phase {phase!r}"
            raise UserError(f"algorithm.{key} is of the phases after 'teacher', not of {what}; remove it")
