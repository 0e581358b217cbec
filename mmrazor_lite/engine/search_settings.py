"""What a ``search_cfg`` may say: the settings of a search, as one record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrazor_lite.engine.evaluator import ScoringSettings
from mmrazor_lite.registry import LOOPS

Target = float | str | Sequence[float | str] | None


@LOOPS.register_module(name=["SearchLoop", "AutoSlimGreedySearchLoop"])
@dataclass(frozen=True, kw_only=True)
class SearchSettings(ScoringSettings):
    """The settings of a :class:`SearchLoop`; those of the scores are :class:`ScoringSettings`.

    Attributes:
        searcher: Config of the searcher; by default the greedy one, or the evolution where constraints are given.
        target_flops: One budget or several; a bare number is in millions, ``'50%'`` is of the max subnet.
        target_macs: Likewise.
        target_params: Likewise.
        target_memory: Likewise, in MB.
        target_latency: Likewise, in milliseconds; needs ``latency_table``.
        constraints_range: Resource -> ``(low, high)``, both included, in the same units (milliseconds for latency);
            ``None`` is no bound, one value is the upper one. For the evolution, which takes no ``target_*``.
        latency_table: File that says what each candidate takes, see :class:`LatencyTable`; makes latency a resource.
        divisor: ``'auto'``: of widths that take as long as the next larger ones by the latency table (its steps of 8,
            16 or 32 channels), the largest is offered alone. ``None``: all widths of the space are.
        predictor: File of an :class:`AccuracyPredictor`; it scores the candidates, all at once, and only what was found
            is evaluated. The state is on disk every few seconds then, and after the last step. ``dict(samples=500)``
            fits one first, to so many subnets within the limits that are evaluated.
    """

    searcher: Mapping[str, Any] | None = None
    target_flops: Target = None
    target_macs: Target = None
    target_params: Target = None
    target_memory: Target = None
    target_latency: Target = None
    constraints_range: Mapping[str, Any] | None = None
    latency_table: str | Path | None = None
    divisor: str | None = None
    predictor: str | Path | Mapping[str, int] | None = None

    @property
    def targets(self) -> dict[str, Target]:
        """Resource -> its budgets; latency only where it has some."""
        targets = {key: getattr(self, f"target_{key}") for key in ("flops", "macs", "params", "memory")}
        return targets if self.target_latency is None else {**targets, "latency": self.target_latency}

    @property
    def searcher_config(self) -> dict[str, Any]:
        """``searcher``, with its type."""
        default = "GreedySearcher" if self.constraints_range is None else "EvolutionSearcher"
        return {"type": default, **(self.searcher or {})}
