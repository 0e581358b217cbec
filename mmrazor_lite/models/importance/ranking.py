"""Rankings of the units of every group, by any measure of importance."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .definition import Batches, Importance, Ranking, Widths, build
from .moments import Moments, gather
from .reconstruction import by_scores, rank_by_reconstruction, reconstruction


def rank(
    network: Widths,
    batches: Batches,
    importance: str | Importance,
    loss: Callable | None = None,
    moments: Mapping[str, Moments] | None = None,
) -> dict[str, Ranking]:
    """Order the units of every width group, and say what is lost where the best w of them stay.

    Of 'reconstruction' that is the part of the outputs of the group's readers; of any other measure the sum of the
    scores of the units that go.

    Args:
        network: A width mutator; it is not changed.
        batches: (images (N, C, H, W), targets) of which the targets may be None.
        importance: Name of a measure, or a function, see :class:`Importance`.
        loss: Of (outputs, targets), for measures that take one.
        moments: Of what the readers read, where they are there already.

    Raises:
        UserError: There is no such measure, or no image for one that needs them.
    """
    measure = build(importance)
    if measure is reconstruction:
        return rank_by_reconstruction(network, gather(network, batches) if moments is None else moments)[0]
    return {name: by_scores(scores) for name, scores in measure(network, batches, loss).items()}


def unranked(network: Widths, moments: Mapping[str, Moments]) -> list[str]:
    """Groups none of whose readers can be seen: 'reconstruction' orders them by the size of their weights."""
    read = {index for found in moments.values() for index in found.reader.side.counts}
    return [name for index, name in enumerate(network.unit_counts) if index not in read]
