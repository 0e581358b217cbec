"""Distilled: one subnet learns to give what its original gives, from the labels too where there are any."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from mmrazor_lite.errors import UserError, check_number
from mmrazor_lite.models.algorithms.assumptions import check_distillation
from mmrazor_lite.models.algorithms.base import Algorithm, Pass, inputs_of, resized
from mmrazor_lite.models.algorithms.construct import build_part
from mmrazor_lite.models.algorithms.identity import CHANNEL_CFG, CheckpointIdentity
from mmrazor_lite.models.algorithms.loading import Whole, load_pretrained
from mmrazor_lite.models.algorithms.pretrained import has_pretrained
from mmrazor_lite.models.algorithms.widths import is_width, subnet_of
from mmrazor_lite.models.classifiers import PlainClassifier, WithLoss, main_logits
from mmrazor_lite.registry import DISTILLERS, MODELS
from mmrazor_lite.subnet import SearchSpace, Subnet


@MODELS.register_module()
class Distilled(Algorithm):
    """Trains one subnet, as a plain network, on the outputs of the frozen network that it was cut from.

    In a config, ``architecture`` is the original, ``channel_cfg`` says the subnet and ``teacher`` where the weights of
    the original are. The subnet starts from its part of them, or from those of ``init_cfg``. In Python, both networks
    may be given as modules: any two that give outputs of one structure, which may be several tensors.

    Source: arXiv:1503.02531.

    Args:
        architecture: As for :class:`Algorithm`; or the network to train, where ``teacher`` is one.
        mutator: Config of the ``OneShotChannelMutator``; none for modules.
        channel_cfg: The subnet, a file or a uniform width, as for :class:`AutoSlim`; none for modules.
        teacher: File of the original's weights; or the network, of which a copy is kept.
        soft_weight: Weight of the distance from the original's outputs.
        label_weight: Weight of the loss against the labels; 0 needs none.
        distiller: Loss between the outputs. ``KLDivergence`` by default; for modules ``OutputDistance``, which takes
            outputs of any structure.
        data_preprocessor: As for :class:`Algorithm`.
        input_shape: As for :class:`Algorithm`.
        init_cfg: As for :class:`Algorithm`.

    Raises:
        UserError: Options contradict each other, or a file is missing or does not fit.
    """

    kinds = frozenset({"subnet"})
    subnet_option = CHANNEL_CFG

    def __init__(
        self,
        architecture: Mapping | nn.Module,
        mutator: Any = None,
        channel_cfg: str | float | None = None,
        teacher: str | nn.Module | None = None,
        soft_weight: float = 1.0,
        label_weight: float = 1.0,
        distiller: Mapping | nn.Module | None = None,
        data_preprocessor: Mapping | nn.Module | None = None,
        input_shape: Sequence[int] = (3, 224, 224),
        init_cfg: Any = None,
    ) -> None:
        check_number("algorithm.soft_weight", soft_weight, 0, above=True)
        check_number("algorithm.label_weight", label_weight, 0)
        are_modules = isinstance(teacher, nn.Module)
        _check_options(mutator, channel_cfg, teacher)
        super().__init__(architecture, mutator, data_preprocessor, input_shape, init_cfg)
        self.soft_weight, self.label_weight = soft_weight, label_weight
        self._teacher_file = None if are_modules else teacher
        default = {"type": "OutputDistance" if are_modules else "KLDivergence"}
        self.distiller = build_part(DISTILLERS, distiller or default, "algorithm.distiller")
        if are_modules:
            self.any_outputs = True
            self.search_space, self.subnets, self.kind = SearchSpace([]), [Subnet({})], "subnet"
            self._teacher = (_frozen(WithLoss(copy.deepcopy(teacher))),)
        else:
            self._cut(channel_cfg)

    def _cut(self, channel_cfg: str | float) -> None:
        """Keep the subnet, and the original as the teacher that will get its weights."""
        check_distillation(self.architecture, self.distiller, self.input_shape)
        self.mutator.prepare(self.architecture, self.input_shape, any_width=True)
        self.search_space, self.cost_model = self.mutator.search_space, self.mutator.cost_model
        subnet = subnet_of(channel_cfg, self.mutator)
        self._original = (self.mutator.export(self.search_space.max()),)
        whole = Whole(self.architecture, self.mutator, subnet)
        self._become_static(subnet)
        self._whole = whole

    def passes(self, step: int) -> list[Pass]:
        """The network as it is: what the teacher gives, and the labels."""
        return [Pass(None, label=self.label_weight, soft=self.soft_weight, teacher="frozen")]

    def named_subnets(self) -> dict[str, Subnet]:
        """Nothing to switch."""
        return {}

    @cached_property
    def identity(self) -> CheckpointIdentity:
        """As of :class:`Algorithm`; what modules cost is not known."""
        resources = [self.cost_model.of(subnet) for subnet in self.subnets] if self._teacher_file else [{}]
        return CheckpointIdentity(self.kind, self.search_space, self.subnets, resources, self.subnet_option)

    def resources(self) -> dict[str, dict[str, int]]:
        """As of :class:`Algorithm`; what modules cost is not known."""
        return super().resources() if self._teacher_file else {}

    @property
    def logits_module(self) -> nn.Module:
        """As of :class:`Algorithm`; a network with outputs of any kind gives them itself."""
        return self.architecture.net if isinstance(self.architecture, WithLoss) else super().logits_module

    def init_weights(self) -> None:
        """Start from the weights of ``init_cfg``, or from the subnet's part of the teacher's."""
        whole, is_given = self._whole, has_pretrained(self)
        super().init_weights()
        if self._teacher_file and not is_given:
            load_pretrained(self.architecture, {"checkpoint": self._teacher_file}, self.computation, None, whole)

    @torch.no_grad()
    def teacher_outputs(self, batch: Any, subnet: Subnet | None) -> Any:
        """What the original gives for the images, in eval mode."""
        device = next(self.parameters()).device
        inputs = resized(inputs_of(batch), self.resolution)
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        outputs = self._teacher[0].to(device)(inputs, mode="tensor")
        return main_logits(outputs) if isinstance(self._teacher[0], PlainClassifier) else outputs

    @cached_property
    def _teacher(self) -> tuple[nn.Module]:
        """The frozen network; in a tuple, so that it is no part of this model."""
        load_pretrained(self._original[0], {"checkpoint": self._teacher_file}, self.computation)
        return (_frozen(self._original[0]),)


def _frozen(network: nn.Module) -> nn.Module:
    return network.requires_grad_(False).eval()


def _check_options(mutator: Any, channel_cfg: Any, teacher: Any) -> None:
    """Of modules there is nothing to cut, of a config there are a subnet and a file."""
    if isinstance(teacher, nn.Module):
        for key, value in (("mutator", mutator), ("channel_cfg", channel_cfg)):
            if value is not None:
                raise UserError(f"algorithm.{key} is not read where the teacher is a network; remove it")
        return
    if not isinstance(teacher, str) or not teacher:
        raise UserError("algorithm.teacher is missing: give the file of the original's weights")
    if mutator is None:
        raise UserError("algorithm.mutator is missing: give dict(type='OneShotChannelMutator', ...)")
    if not (is_width(channel_cfg) or (isinstance(channel_cfg, str) and channel_cfg.strip())):
        raise UserError(
            f"algorithm.channel_cfg={channel_cfg!r}: give one subnet file, or a uniform width above 0 and at most 1"
        )
