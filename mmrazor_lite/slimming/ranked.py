"""The units of a network's width groups in their order of worth, and what is lost by the width of each group.

Letters: U units of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.importance import Importance, Ranking, build, gather, rank, reconstruction, unranked
from mmrazor_lite.models.importance.reconstruction import scores_of

from .class_numbers import cross_entropy_where
from .distance import check_outputs, softened
from .images import Images
from .kept_steps import Steps, lines, numbers
from .prepared import Prepared
from .sensitivity import sensitivity


@dataclass(frozen=True, eq=False)
class Ranked:
    """What was found of a network before its channels were sorted by it.

    Attributes:
        rankings: Of every group.
        curves: Of every group, (U + 1,): what its outputs lose where the best units of it alone stay.
        notes: What is to be said, a line each.
    """

    rankings: Mapping[str, Ranking]
    curves: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """Of every unit, falling along the order."""
        return {name: scores_of(ranking) for name, ranking in self.rankings.items()}


def ranked(
    prepared: Prepared,
    images: Images,
    importance: str | Importance = "reconstruction",
    loss: Callable | None = None,
    steps: Steps | None = None,
    values: Collection[int] = (),
) -> Ranked:
    """Rank the units of every group by a measure, and measure what groups are worth.

    Args:
        importance: Name of a measure, or a function of (network, images, loss) that gives scores by group.
        loss: Of (outputs as the network returns them, targets); cross entropy where the targets are class numbers.
        steps: Where what was found is kept.
        values: Numbers of the outputs that are no class scores.

    Raises:
        UserError: There is no such measure; a loss without targets; or the measure tells no two units apart.
    """
    measure = build(importance)
    if loss is not None and not images.have_targets:
        raise UserError("loss is given, and the data has no targets for it: give (images, targets), or no loss")

    def make() -> dict[str, Any]:
        mutator = prepared.mutator
        with torch.no_grad():
            outputs = mutator.outputs(images.seen[0][0][:1])
        check_outputs(outputs)
        moments = gather(mutator, images.seen)
        used = loss or cross_entropy_where(images.seen, outputs, values)
        rankings = rank(mutator, images.seen, importance, used, moments)
        _refuse_equal(rankings, importance)
        curves = sensitivity(mutator, rankings, moments, images.seen, partial(softened, values=values))
        return {
            "order": {name: ranking.order.tolist() for name, ranking in rankings.items()},
            "errors": {name: ranking.errors.tolist() for name, ranking in rankings.items()},
            "curves": {name: [x if np.isfinite(x) else None for x in curve] for name, curve in curves.items()},
            "unranked": unranked(mutator, moments) if measure is reconstruction else [],
        }

    return (steps or Steps())("rankings", make, lambda found: _read(found, prepared.mutator.unit_counts))


def _read(found: Mapping[str, Any], units: Mapping[str, int]) -> Ranked:
    """What a step has found, from plain data; any error where it is of other groups."""
    if not all(set(found[key]) == set(units) for key in ("order", "errors", "curves")):
        raise ValueError("expected all groups")
    rankings = {}
    for name, count in units.items():
        order = numbers(found["order"][name], count).astype(np.int64)
        if sorted(order.tolist()) != list(range(count)):
            raise ValueError("expected an order")
        rankings[name] = Ranking(order, numbers(found["errors"][name], count + 1))
    return Ranked(
        rankings,
        {name: numbers(found["curves"][name], count + 1) for name, count in units.items()},
        tuple(f"'{name}' is ordered by its weights: what reads it cannot be seen" for name in lines(found["unranked"])),
    )


def _refuse_equal(rankings: Mapping[str, Ranking], importance: str | Importance) -> None:
    losses = [np.diff(ranking.errors) for ranking in rankings.values() if len(ranking.order) > 1]
    if losses and all(np.ptp(part) <= 1e-12 * max(float(np.abs(part).max()), 1e-300) for part in losses):
        name = f"'{importance}'" if isinstance(importance, str) else "the function"
        raise UserError(f"importance: {name} scores all units of every group alike, none is better; take another")
