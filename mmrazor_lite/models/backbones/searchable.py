"""What the searchable backbones share: a stem, stages of operator choices, and which outputs to give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.mutables import MutableOP
from mmrazor_lite.registry import MODELS, SCOPE


class SearchableBackbone(BaseModule):
    """Runs ``conv1`` and the stages that a subclass names; (N, 3, H, W) to a tuple of (N, C, H', W').

    Args:
        out_indices: Stages whose outputs to give; the last one where it is not given.
        frozen_stages: Nothing is frozen with -1, the stem with 0, the first k stages too with k.
        norm_eval: Whether batch norm keeps its statistics in training.
        init_cfg: mmengine's initialisation.
    """

    conv1: ConvModule

    def __init__(
        self, out_indices: Sequence[int] | None, frozen_stages: int, norm_eval: bool, init_cfg: Any = None
    ) -> None:
        super().__init__(init_cfg)
        self.out_indices, self.frozen_stages, self.norm_eval = out_indices, frozen_stages, norm_eval

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The parts after the stem, in the order in which they run."""
        raise NotImplementedError

    def check_stages(self) -> None:
        """Judge the options that name a stage, once all are there.

        Raises:
            UserError: There is no such stage.
        """
        name, last = type(self).__name__, len(self.stages) - 1
        self.out_indices = (last,) if self.out_indices is None else tuple(self.out_indices)
        if not self.out_indices or any(index not in range(last + 1) for index in self.out_indices):
            raise UserError(f"{name}: out_indices {self.out_indices} must be of the stages 0..{last}")
        if self.frozen_stages not in range(-1, last + 1):
            raise UserError(f"{name}: frozen_stages must be -1..{last}, got {self.frozen_stages!r}")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Run stem and stages."""
        x = self.conv1(x)
        outs = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> nn.Module:
        """Set the mode; what is frozen stays in evaluation."""
        super().train(mode)
        if self.frozen_stages >= 0:
            for module in (self.conv1, *self.stages[: self.frozen_stages]):
                module.eval().requires_grad_(False)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def settings_of(
    rows: Any, numbers: Sequence[str], where: str, default: Mapping, first: Mapping | None = None
) -> list[tuple]:
    """Rows of an ``arch_setting``: positive integers called ``numbers``, then the config of the choice.

    A row without a config has ``default``, the first one ``first``.

    Raises:
        UserError: A row that is none.
    """
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise UserError(f"{where}: arch_setting must list at least one stage, got {rows!r}")
    checked = []
    for number, row in enumerate(rows):
        row = list(row) if isinstance(row, Sequence) else [row]
        head, rest = row[: len(numbers)], row[len(numbers) :] or [default if number else first or default]
        whole = len(head) == len(numbers) and all(type(value) is int and value > 0 for value in head)
        if not whole or len(rest) != 1 or not isinstance(rest[0], Mapping) or "candidates" not in rest[0]:
            raise UserError(
                f"{where}: arch_setting has the row {str(row)[:80]}; each is [{', '.join(numbers)}], and after them "
                "dict(type='OneShotMutableOP', candidates=dict(...)) where it is not the published choice"
            )
        checked.append((*head, rest[0]))
    return checked


def operator_choice(config: Mapping, alias: str, module_kwargs: Mapping, **options: Any) -> MutableOP:
    """The choice of one block: ``config`` for its shape."""
    module_kwargs = {**(config.get("module_kwargs") or {}), **module_kwargs}
    own = {"alias": alias, "module_kwargs": module_kwargs, "_scope_": SCOPE, **options}
    return MODELS.build({"type": "MutableOP", **config, **own})
