"""What comes of slimming: a plain network, which subnet it is, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mmrazor_lite.models.mutators import OneShotChannelMutator
from mmrazor_lite.subnet import Subnet

from .report import Report


@dataclass(frozen=True, eq=False)
class Slimmed:
    """A network that was slimmed.

    Attributes:
        model: A plain module of the original's class, in eval mode, with tensors of its own.
        subnet: Group -> channels that stayed.
        report: Everything that is told of it.
        mutator: Of the original, its channels sorted: what space the subnet is of, and what subnets cost.
    """

    model: nn.Module
    subnet: Subnet
    report: Report
    mutator: OneShotChannelMutator
