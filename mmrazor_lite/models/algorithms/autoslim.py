"""AutoSlim: train a slimmable supernet, search it greedily, retrain the subnets it finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms.base import Algorithm, Pass
from mmrazor_lite.models.algorithms.construct import build_part
from mmrazor_lite.models.algorithms.identity import CHANNEL_CFG
from mmrazor_lite.registry import DISTILLERS, MODELS
from mmrazor_lite.subnet import Subnet, read_subnet


@MODELS.register_module()
class AutoSlim(Algorithm):
    """Slims the width of every layer with one trained supernet and no architecture search by training.

    What is trained depends on ``channel_cfg``:

    - ``None``: the supernet, by the sandwich rule with in-place distillation (Universally Slimmable Networks, section
      3.3, and the authors' code, ``slimmable_networks/train.py``): the max subnet learns from the labels; the min
      subnet and ``num_random_samples`` random ones learn from its detached output alone; gradients sum, one update.
    - a list of subnet files: these subnets together, sharing weights, each with its own batch norms (Slimmable
      Networks, section 3.3) and each learning from the labels.
    - one subnet file: that subnet alone, as a plain network without anything of ours in it.

    Args:
        architecture: As for :class:`Algorithm`.
        mutator: Config of the ``OneShotChannelMutator``.
        num_random_samples: Random subnets per step of the supernet; 2 by default.
        distiller: Loss of the subnets against the max subnet; ``KLDivergence`` by default. Only for the supernet.
        channel_cfg: Subnet file or list of them, in any format that :func:`mmrazor_lite.subnet.read_subnet` knows.
        retraining: MMRazor 0.x's switch. ``True`` demands ``channel_cfg``, ``False`` forbids it.
        data_preprocessor: As for :class:`Algorithm`.
        input_shape: As for :class:`Algorithm`.
        init_cfg: As for :class:`Algorithm`.

    Raises:
        UserError: A subnet file is missing or does not fit, or options contradict each other.
    """

    paper = "https://arxiv.org/abs/1903.11728"
    subnet_option = CHANNEL_CFG

    def __init__(
        self,
        architecture: Mapping | nn.Module,
        mutator: Any,
        num_random_samples: int | None = None,
        distiller: Mapping | nn.Module | None = None,
        channel_cfg: str | Sequence[str] | None = None,
        retraining: bool | None = None,
        data_preprocessor: Mapping | nn.Module | None = None,
        input_shape: Sequence[int] = (3, 224, 224),
        init_cfg: Any = None,
    ) -> None:
        _check_options(channel_cfg, retraining, num_random_samples, distiller)
        super().__init__(architecture, mutator, data_preprocessor, input_shape, init_cfg)
        self.mutator.prepare(self.architecture, self.input_shape, any_width=channel_cfg is not None)
        self.search_space = self.mutator.search_space
        self.cost_model = self.mutator.cost_model
        if channel_cfg is None:
            self.kind = "supernet"
            self.num_random_samples = 2 if num_random_samples is None else num_random_samples
            self.distiller = build_part(DISTILLERS, distiller or {"type": "KLDivergence"}, "algorithm.distiller")
        elif isinstance(channel_cfg, str):
            self._become_static(read_subnet(channel_cfg, self.search_space).subnet)
        else:
            self.kind = "joint"
            self.subnets = [read_subnet(path, self.search_space).subnet for path in channel_cfg]
            _check_distinct(self.subnets, channel_cfg)
            self.mutator.make_switchable(self.subnets)
            self.mutator.activate(self.subnets[0])

    def passes(self, step: int) -> list[Pass]:
        """The sandwich for a supernet; every subnet with its labels otherwise."""
        if self.kind == "subnet":
            return [Pass(None)]
        if self.kind == "joint":
            return [Pass(subnet, name=name) for name, subnet in self.named_subnets().items()]
        largest, smallest = self._bounds
        draws = [self.search_space.sample(self.rng(step, k)) for k in range(self.num_random_samples)]
        soft = [("min_subnet", smallest), *((f"random{k}_subnet", subnet) for k, subnet in enumerate(draws))]
        return [
            Pass(largest, name="max_subnet"),
            *(Pass(subnet, label=0.0, soft=1.0, teacher="max", name=name) for name, subnet in soft),
        ]

    def named_subnets(self) -> dict[str, Subnet]:
        """Max and min of a supernet, ``subnet_1`` ... of a joint model; of a plain subnet nothing to switch."""
        if self.kind == "supernet":
            return dict(zip(("max_subnet", "min_subnet"), self._bounds, strict=True))
        if self.kind == "joint":
            return {f"subnet_{number}": subnet for number, subnet in enumerate(self.subnets, start=1)}
        return {}

    @cached_property
    def _bounds(self) -> tuple[Subnet, Subnet]:
        return self.search_space.max(), self.search_space.min()


def _check_options(channel_cfg: Any, retraining: bool | None, num_random_samples: int | None, distiller: Any) -> None:
    if channel_cfg is not None and not isinstance(channel_cfg, str):
        paths = list(channel_cfg) if isinstance(channel_cfg, (list, tuple)) else []
        if not paths or not all(isinstance(path, str) for path in paths):
            raise UserError(f"algorithm.channel_cfg={channel_cfg!r}: give a subnet file, a list of them, or None")
    if retraining is True and channel_cfg is None:
        raise UserError("algorithm.retraining=True needs algorithm.channel_cfg: a subnet file or a list of them")
    if retraining is False and channel_cfg is not None:
        raise UserError("algorithm.retraining=False trains the supernet; remove it, or algorithm.channel_cfg")
    if num_random_samples is not None and (not isinstance(num_random_samples, int) or num_random_samples < 0):
        raise UserError(f"algorithm.num_random_samples={num_random_samples!r} must be an integer, 0 or more")
    if channel_cfg is not None:
        for key, value in (("distiller", distiller), ("num_random_samples", num_random_samples)):
            if value is not None:
                raise UserError(f"algorithm.{key} is for the supernet; with algorithm.channel_cfg set it to None")


def _check_distinct(subnets: Sequence[Subnet], paths: Sequence[str]) -> None:
    for second, subnet in enumerate(subnets):
        first = subnets.index(subnet)
        if first < second:
            raise UserError(f"algorithm.channel_cfg: {paths[first]} and {paths[second]} hold the same subnet; keep one")
