"""Operator choices inside a model: one of several modules in the same place."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import MODELS

CANDIDATES = "_candidates"  # the name in MMRazor 1.x's checkpoints


@MODELS.register_module(name=["MutableOP", "OneShotMutableOP"])
class MutableOP(BaseModule):
    """Runs one of several modules; the others cost nothing and get no gradient.

    With :attr:`mixture` set, all of them run and the output is their weighted sum, for a differentiable search.

    Args:
        candidates: Name -> config of a module in our registry, or the module. All take and give the same shapes.
        module_kwargs: Arguments that every candidate built from a config gets beside its own.
        alias: MMRazor 0.x's name for the choice (``stage_0_block_0``), so that its files can be read.
        inner_widths: Widths that the layers inside the chosen candidate may have, ascending; the last one is full.
            Each candidate says in ``inner_groups`` which layers those are, as groups of a width mutator
            (``dict(out=[...], into=[...])`` with names inside the candidate). A candidate that has ``mid_widths``
            and ``inner_groups`` of its own gets a width of its own instead.
        init_cfg: mmengine's initialisation.

    Raises:
        UserError: No candidate, or one that is neither a config nor a module.
    """

    def __init__(
        self,
        candidates: Mapping[str, Any],
        module_kwargs: Mapping[str, Any] | None = None,
        alias: str | None = None,
        inner_widths: Sequence[int] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        if not isinstance(candidates, Mapping) or not candidates:
            raise UserError(f"MutableOP: candidates must map at least one name to a module, got {candidates!r}")
        self._candidates = nn.ModuleDict(
            {name: _build(name, value, module_kwargs or {}) for name, value in candidates.items()}
        )
        self.alias = alias
        self.inner_widths = None if inner_widths is None else tuple(inner_widths)
        self.active = next(iter(self._candidates))
        self.mixture: Tensor | None = None  # (candidates,), while a differentiable search sets it

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates, in the order in which they were given."""
        return tuple(self._candidates)

    def candidate(self, name: str) -> nn.Module:
        """The module of one candidate."""
        return self._candidates[name]

    def widths_of(self, name: str) -> Sequence[int] | None:
        """The inner widths that one candidate may have; None where it has no choice."""
        return getattr(self._candidates[name], "mid_widths", self.inner_widths)

    def has_own_width(self, name: str) -> bool:
        """Whether the inner width of one candidate is a choice of its own."""
        return hasattr(self._candidates[name], "mid_widths")

    @property
    def chosen(self) -> nn.Module:
        """The module that runs now."""
        return self._candidates[self.active]

    def forward(self, x: Tensor) -> Tensor:
        """Run the active candidate, or mix all of them."""
        if self.mixture is None:
            return self._candidates[self.active](x)
        modules = self._candidates.values()
        return sum(weight * module(x) for weight, module in zip(self.mixture, modules, strict=True))


def _build(name: str, value: Any, module_kwargs: Mapping[str, Any]) -> nn.Module:
    if isinstance(value, nn.Module):
        return value
    if not isinstance(value, Mapping) or "type" not in value:
        raise UserError(f"MutableOP: candidate '{name}' must be a config with a type or a module, got {value!r}")
    return MODELS.build({**copy.deepcopy(dict(value)), **module_kwargs})
