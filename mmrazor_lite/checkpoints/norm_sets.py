"""Several batch norms in one place, one for each width or subnet: which of a file's is that of which subnet here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

Shapes = Mapping[str, Sequence[int]]  # of the weights of a model, by their names without prefixes

# Numbered ones: MMRazor 0.x and ours (``bns.N``), slimmable_networks (``bn.N``); by their width: MMRazor 1.x.
_ONE_OF_SEVERAL = re.compile(r"\.(?:bns?|candidate_bn)\.(?P<which>\d+)\.\w+$")
_MEAN = ".running_mean"


def of_several_widths(state: Iterable[str]) -> bool:
    """Whether there are batch norms of several widths, or subnets, in one place."""
    return any(match["which"] != "0" for key in state if (match := _ONE_OF_SEVERAL.search(key)))


def norms_in_one_place(state: Iterable[str]) -> int:
    """How many batch norms stand in one place at most."""
    places: dict[str, set[str]] = {}
    for key in state:
        match = _ONE_OF_SEVERAL.search(key)
        if match:
            places.setdefault(key[: match.start()], set()).add(match["which"])
    return max(map(len, places.values()), default=0)


def by_widths(theirs: Mapping[str, Mapping[str, int]], ours: Mapping[str, Mapping[str, int]]) -> dict[str, str] | None:
    """Find the set of norms of every subnet here by the widths that it has at all places together.

    Args:
        theirs: Of each set of the file, the width at each place.
        ours: Of each subnet here, the same.

    Returns:
        The set of each subnet; None where one has none. Of equal sets, the first.
    """
    found = {}
    for subnet, widths in ours.items():
        wanted = {place: widths[place] for place in widths if any(place in given for given in theirs.values())}
        found[subnet] = next((name for name, given in theirs.items() if given == wanted), None)
    return None if not found or None in found.values() else found  # type: ignore[return-value]


def widths_of(means: Iterable[tuple[str, str, int]]) -> dict[str, dict[str, int]]:
    """Gather (place, set, width) by set: the argument of :func:`by_widths`."""
    sets: dict[str, dict[str, int]] = {}
    for place, which, width in means:
        sets.setdefault(which, {})[place] = width
    return sets


def sets_of(shapes: Shapes, pattern: re.Pattern[str]) -> dict[str, dict[str, int]]:
    """The widths of the norms that ``pattern`` finds, with groups ``norm`` and ``which``, by set and place."""
    means = ((pattern.match(key), shape) for key, shape in shapes.items() if key.endswith(_MEAN))
    return widths_of((match["norm"], match["which"], shape[0]) for match, shape in means if match)
