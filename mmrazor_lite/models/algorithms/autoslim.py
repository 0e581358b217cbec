"""AutoSlim: train a slimmable supernet, search it greedily, retrain the subnets it finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import nn

from mmrazor_lite.errors import UserError, check_number, short
from mmrazor_lite.models.algorithms.assumptions import check_distillation
from mmrazor_lite.models.algorithms.base import Algorithm, Pass
from mmrazor_lite.models.algorithms.construct import build_part
from mmrazor_lite.models.algorithms.identity import CHANNEL_CFG
from mmrazor_lite.models.algorithms.widths import Entry, check_range, check_width, is_width, names_of, subnet_of
from mmrazor_lite.models.importance import build as build_importance
from mmrazor_lite.registry import DISTILLERS, MODELS
from mmrazor_lite.subnet import Subnet


@MODELS.register_module()
class AutoSlim(Algorithm):
    """Slims the width of every layer with one trained supernet and no architecture search by training.

    What is trained depends on ``channel_cfg``:

    - ``None``: the supernet, by the sandwich rule with in-place distillation (Universally Slimmable Networks, section
      3.3, and the authors' code, ``slimmable_networks/train.py``): the max subnet learns from the labels; the min
      subnet and ``num_random_samples`` random ones learn from its detached output alone; gradients sum, one update.
    - a list of subnets: these together, sharing weights, each with its own batch norms (Slimmable Networks, section
      3.3) and each learning from the labels.
    - one subnet: that one alone, as a plain network without anything of ours in it.

    A subnet is a file, the content of one, or a number: 0.75 keeps three quarters of every layer. A list of numbers is
    a slimmable network. With ``width_range`` the supernet is a universally slimmable one: all subnets of the sandwich
    are uniform.

    Source: arXiv:1903.11728.

    Args:
        architecture: As for :class:`Algorithm`.
        mutator: Config of the ``OneShotChannelMutator``.
        num_random_samples: Random subnets per step of the supernet; 2 by default.
        distiller: Loss of the subnets against the max subnet; ``KLDivergence`` by default, ``BinaryKLDivergence`` for
            heads of several labels per image. Only for the supernet.
        channel_cfg: Subnet or list of them: a file in any format that :func:`mmrazor_lite.subnet.read_subnet` knows,
            its content, or a uniform width, above 0 and at most 1. Widths are rounded as the mutator says.
        width_range: Smallest and largest uniform width of a universally slimmable network; the random ones are drawn
            evenly between them. Only for the supernet.
        val_widths: Uniform widths that validation, test and the table of resources show of it; by default the two
            ends of ``width_range``, which it needs.
        retraining: MMRazor 0.x's switch. ``True`` demands ``channel_cfg``, ``False`` forbids it.
        data_preprocessor: As for :class:`Algorithm`.
        input_shape: As for :class:`Algorithm`.
        init_cfg: As for :class:`Algorithm`.

    Raises:
        UserError: A subnet file is missing or does not fit, options contradict each other, or the distiller compares
            something else than the head gives.
    """

    subnet_option = CHANNEL_CFG
    kinds = frozenset({"supernet", "joint", "subnet"})

    def __init__(
        self,
        architecture: Mapping | nn.Module,
        mutator: Any,
        num_random_samples: int | None = None,
        distiller: Mapping | nn.Module | None = None,
        channel_cfg: Entry | Sequence[Entry] | None = None,
        width_range: Sequence[float] | None = None,
        val_widths: Sequence[float] | None = None,
        retraining: bool | None = None,
        data_preprocessor: Mapping | nn.Module | None = None,
        input_shape: Sequence[int] = (3, 224, 224),
        init_cfg: Any = None,
    ) -> None:
        _check_options(channel_cfg, retraining, num_random_samples, distiller)
        _check_width_options(channel_cfg, width_range, val_widths)
        super().__init__(architecture, mutator, data_preprocessor, input_shape, init_cfg)
        any_width = channel_cfg is not None or width_range is not None
        self.mutator.prepare(self.architecture, self.input_shape, any_width=any_width)
        self.search_space = self.mutator.search_space
        self.cost_model = self.mutator.cost_model
        self._is_ordered = False  # whether it started from a supernet, whose first channels are the trained ones
        _check_importance(self.mutator.importance, channel_cfg)
        if channel_cfg is None:
            self.kind = "supernet"
            self.num_random_samples = 2 if num_random_samples is None else num_random_samples
            self.distiller = build_part(DISTILLERS, distiller or {"type": "KLDivergence"}, "algorithm.distiller")
            check_distillation(self.architecture, self.distiller, self.input_shape)
            self.width_range = width_range
            self.val_widths = None if width_range is None else tuple(val_widths or reversed(width_range))
        elif isinstance(channel_cfg, list | tuple):
            self.kind = "joint"
            self.subnets = [subnet_of(entry, self.mutator) for entry in channel_cfg]
            self._names = names_of(channel_cfg)
            _check_distinct(self.subnets, channel_cfg)
            self.mutator.make_switchable(self.subnets)
            self.mutator.activate(self.subnets[0])
        else:
            self._become_static(subnet_of(channel_cfg, self.mutator))

    @property
    def narrowest(self) -> dict[str, int]:
        """As of :class:`Algorithm`; ``width_range`` may end above the candidates."""
        return dict(self._bounds[1])

    @property
    def largest(self) -> Subnet:
        """As of :class:`Algorithm`; that of ``width_range`` where there is one."""
        return self._bounds[0]

    def check_meta(self, meta: Mapping[str, Any] | None, where: str = "checkpoint") -> None:
        """As of :class:`Algorithm`."""
        super().check_meta(meta, where)
        self._is_ordered = bool(meta)

    def before_first_step(self) -> None:
        """Order the channels by ``mutator.importance``, unless the run starts from a supernet."""
        if self.kind != "supernet" or self.mutator.importance is None or self._is_ordered:
            return
        stay = self.mutator.sort_channels(build_importance(self.mutator.importance)(self.mutator))
        told = f", but for {', '.join(stay)}: what is computed depends on their order" if stay else ""
        print_log(f"sorted the channels by importance '{self.mutator.importance}'{told}", logger="current")

    def used_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each weight of a joint model, the largest shape that one of its subnets uses; empty for others.

        Not of those of which a subnet uses other units than the first.
        """
        full, used = self.architecture.state_dict(), {}
        for subnet in self.subnets if self.kind == "joint" else ():
            for name, part in self.mutator.export(subnet).state_dict().items():
                if name not in full:
                    continue  # of a norm, of which every subnet has its own
                first = full[name][tuple(slice(size) for size in part.shape)]
                before = used.get(name, part.shape) if torch.equal(first, part) else None
                used[name] = before and tuple(map(max, before, part.shape))
        return {f"architecture.{name}": shape for name, shape in used.items() if shape is not None}

    def passes(self, step: int) -> list[Pass]:
        """The sandwich for a supernet; every subnet with its labels otherwise."""
        if self.kind == "subnet":
            return [Pass(None)]
        if self.kind == "joint":
            return [Pass(subnet, name=name) for name, subnet in self.named_subnets().items()]
        largest, smallest = self._bounds
        draws = [self._draw(self.rng(step, k)) for k in range(self.num_random_samples)]
        soft = [("min_subnet", smallest), *((f"random{k}_subnet", subnet) for k, subnet in enumerate(draws))]
        return [
            Pass(largest, name="max_subnet"),
            *(Pass(subnet, label=0.0, soft=1.0, teacher="max", name=name) for name, subnet in soft),
        ]

    def named_subnets(self) -> dict[str, Subnet]:
        """Max and min of a supernet, or its ``val_widths``; those of a joint model; none where nothing switches."""
        if self.kind == "subnet":
            return {}
        if self.kind == "joint":
            return dict(zip(self._names, self.subnets, strict=True))
        if self.val_widths is None:
            return dict(zip(("max_subnet", "min_subnet"), self._bounds, strict=True))
        return dict(zip(names_of(self.val_widths), map(self.mutator.uniform, self.val_widths), strict=True))

    def _draw(self, rng: np.random.Generator) -> Subnet:
        if self.width_range is None:
            return self.search_space.sample(rng)
        return self.mutator.uniform(rng.uniform(*self.width_range))

    @cached_property
    def _bounds(self) -> tuple[Subnet, Subnet]:
        if self.width_range is None:
            return self.search_space.max(), self.search_space.min()
        smallest, largest = self.width_range
        return self.mutator.uniform(largest), self.mutator.uniform(smallest)


def _is_entry(entry: Any) -> bool:
    if isinstance(entry, str | Mapping):
        return bool(entry.strip() if isinstance(entry, str) else entry)
    return is_width(entry) and 0 < entry <= 1


def _check_options(channel_cfg: Any, retraining: bool | None, num_random_samples: int | None, distiller: Any) -> None:
    if channel_cfg is not None:
        entries = channel_cfg if isinstance(channel_cfg, list | tuple) else [channel_cfg]
        if not entries or not all(_is_entry(entry) for entry in entries):
            raise UserError(
                f"algorithm.channel_cfg={short(channel_cfg)}: give a subnet file, a list of them, or None; instead of "
                "a file, a number above 0 and at most 1 is the uniform width of that share"
            )
    if retraining is True and channel_cfg is None:
        raise UserError("algorithm.retraining=True needs algorithm.channel_cfg: a subnet file or a list of them")
    if retraining is False and channel_cfg is not None:
        raise UserError("algorithm.retraining=False trains the supernet; remove it, or algorithm.channel_cfg")
    check_number("algorithm.num_random_samples", num_random_samples, 0, 1000, whole=True, optional=True)
    if channel_cfg is not None:
        for key, value in (("distiller", distiller), ("num_random_samples", num_random_samples)):
            if value is not None:
                raise UserError(f"algorithm.{key} is for the supernet; with algorithm.channel_cfg set it to None")


def _check_width_options(channel_cfg: Any, width_range: Any, val_widths: Any) -> None:
    if width_range is not None:
        check_range(width_range, "algorithm.width_range")
        if channel_cfg is not None:
            raise UserError("algorithm.width_range is for the supernet; with algorithm.channel_cfg set it to None")
    if val_widths is not None:
        if width_range is None:
            raise UserError("algorithm.val_widths needs algorithm.width_range, such as (0.25, 1.0); or remove it")
        if not isinstance(val_widths, list | tuple) or not val_widths:
            raise UserError(f"algorithm.val_widths={val_widths!r}: give a list of widths, such as [1.0, 0.5, 0.25]")
        for width in val_widths:
            check_width(width, "algorithm.val_widths")
            if not width_range[0] <= width <= width_range[1]:
                raise UserError(
                    f"algorithm.val_widths: {width!r} is never trained, algorithm.width_range is {tuple(width_range)}"
                )


def _check_distinct(subnets: Sequence[Subnet], entries: Sequence[Entry]) -> None:
    for second, subnet in enumerate(subnets):
        first = subnets.index(subnet)
        if first < second:
            one, other = (f"entry {k}" if isinstance(entries[k], Mapping) else entries[k] for k in (first, second))
            raise UserError(f"algorithm.channel_cfg: {one} and {other} hold the same subnet; keep one")


def _check_importance(name: str | None, channel_cfg: Any) -> None:
    """Raise ``UserError`` where channels cannot be sorted before the first step."""
    if name is None:
        return
    if build_importance(name, "mutator.importance").needs != "weights":
        raise UserError(
            f"mutator.importance='{name}' looks at images, a config has only the weights: take one of weights "
            "(l1, l2, bn), or sort in Python with mutator.sort_channels(scores)"
        )
    if channel_cfg is not None:
        raise UserError("mutator.importance orders the channels of a supernet: leave it out beside channel_cfg")
