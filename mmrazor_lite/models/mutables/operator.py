"""Operator choices inside a model: one of several modules in the same place."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import MODELS
from mmrazor_lite.subnet import Choice
from mmrazor_lite.subnet.choice import Value

from .choice_module import ITSELF, InnerWidths, Offer

CANDIDATES = "_candidates"  # the name in MMRazor 1.x's checkpoints
WIDTH = "mid_channels"


@runtime_checkable
class HasInnerGroups(Protocol):
    """A candidate that says which of its layers have the inner width."""

    inner_groups: Sequence[Mapping[str, Sequence[str]]]


@runtime_checkable
class HasOwnWidths(HasInnerGroups, Protocol):
    """A candidate whose inner width is a choice of its own."""

    mid_widths: Sequence[int]


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

    def width_of(self, name: str) -> str | None:
        """The choice, by its name inside the module, of the inner width of one candidate; None where it has none."""
        if isinstance(self._candidates[name], HasOwnWidths):
            return f"{name}.{WIDTH}"
        return None if self.inner_widths is None else WIDTH

    def offer(self) -> Offer:
        """See :class:`ChoiceModule`: which candidate runs, and its inner width."""
        choices, inner = [Choice(ITSELF, self.names, kind="operator")], {}
        if self.inner_widths is not None:
            choices.append(Choice(WIDTH, self.inner_widths))
        for name, module in self._candidates.items():
            if isinstance(module, HasOwnWidths):
                choices.append(Choice(self.width_of(name), module.mid_widths, active_if=(ITSELF, (name,))))
            width = self.width_of(name)
            if width is not None:
                groups = module.inner_groups if isinstance(module, HasInnerGroups) else ()
                inner[f"{CANDIDATES}.{name}"] = InnerWidths(width, groups)
        first = next(iter(self._candidates.values()))
        out_channels = first.out_channels if isinstance(first, HasOwnWidths) else None
        return Offer(choices, inner, out_channels=out_channels, alias=self.alias)

    def activate(self, values: Mapping[str, Value]) -> None:
        """See :class:`ChoiceModule`."""
        self.active = values[ITSELF]

    def settled(self) -> nn.Module:
        """The candidate that runs."""
        return self.chosen

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
