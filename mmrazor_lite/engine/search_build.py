"""From a ``search_cfg``, under our names or MMRazor's, to a search."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mmrazor_lite.engine.evaluator import ScoringSettings
from mmrazor_lite.engine.mmrazor_search import MMRazorEvolution
from mmrazor_lite.engine.search_loop import SearchLoop
from mmrazor_lite.engine.search_settings import SearchSettings
from mmrazor_lite.engine.searchers import check_arguments
from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.registry import LOOPS


def build_search_loop(
    search_cfg: Mapping[str, Any],
    algorithm: nn.Module,
    work_dir: str | Path = ".",
    checkpoint: str | Path | None = None,
    config: str | None = None,
    seed: int = 0,
    command: str = "",
) -> SearchLoop:
    """Build the loop of a ``search_cfg``; see :func:`read_settings` and :class:`SearchLoop`.

    Raises:
        UserError: What these two refuse.
    """
    return SearchLoop(algorithm, read_settings(search_cfg, algorithm, seed), work_dir, checkpoint, config, command)


def read_settings(search_cfg: Mapping[str, Any], algorithm: nn.Module, seed: int = 0) -> SearchSettings:
    """The settings of a ``search_cfg``.

    Args:
        search_cfg: ``type``, the name of a record, and its fields: :class:`SearchSettings` (``SearchLoop``, also under
            MMRazor's name ``AutoSlimGreedySearchLoop``), or :class:`MMRazorEvolution` (``EvolutionSearchLoop``).
        algorithm: The supernet, whose images MMRazor's estimators must be for.
        seed: Where the config says none.

    Raises:
        UserError: An unknown key or type, with the nearest one; a missing key; one of MMRazor's that is not supported.
    """
    config = {"seed": seed, **search_cfg}
    kind = config.pop("type", "SearchLoop")
    record = LOOPS.get(kind) if isinstance(kind, str) and kind.split(".")[-1] in LOOPS.module_dict else None
    if record is None:
        raise UserError(f"search_cfg: unknown type {kind!r}{nearest(str(kind), LOOPS.module_dict)}")
    check_arguments(record, config, "search_cfg")
    settings = record(**config)
    return settings.ours(algorithm.input_shape) if isinstance(settings, MMRazorEvolution) else settings


def is_search_loop(kind: Any) -> bool:
    """Whether what a config's ``type`` names is the search loop, under whichever name."""
    return inspect.isclass(kind) and issubclass(kind, ScoringSettings)
