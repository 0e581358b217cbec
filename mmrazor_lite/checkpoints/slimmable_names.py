"""How JiahuiYu/slimmable_networks names the weights of slimmable, universally slimmable and AutoSlim networks.

Layers are numbered (``features.3.body.0``), and a batch norm stands for every width in ``bn.N``; universally slimmable
ones have their weights and biases in common. A layer is as wide as the widest of the subnets that were trained.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from .norm_sets import Shapes, by_widths, sets_of, widths_of

Reading = dict[str, str]

_LAYER = re.compile(r"features\.\d+\.(?:(?:body|shortcut)\.)?\d+\.(?:bn\.\d+\.)?\w+$")
_CLASSIFIER = re.compile(r"classifier\.\d+\.\w+$")
_OF_WIDTH = re.compile(r"\.bn\.(\d+)(?=\.\w+$)")
_SUBNET = re.compile(r"^(?P<norm>.+)\.bns\.(?P<which>\d+)(?=\.\w+$)")


def slimmable(given: Reading, shapes: Shapes, state: Mapping[str, Tensor], where: str) -> Reading | None:
    """Our names of such a file, or None where it is none.

    Their layers stand in the order of ours, and nowhere else do the names say what is what: layer by layer, the
    tensors must have the shapes of the model's. Which norms are those of which subnet, their widths tell; where the
    model has one at each place, it is the widest.
    """
    if not are_slimmable(given):
        return None
    theirs = list(dict.fromkeys(_OF_WIDTH.sub("", key).rpartition(".")[0] for key in given))
    ours = list(dict.fromkeys(_SUBNET.sub(r"\g<norm>", name).rpartition(".")[0] for name in shapes))
    if len(theirs) != len(ours):
        return None
    theirs = [layer for at in dict.fromkeys(map(_block_of, theirs)) for layer in _ordered(theirs, at)]
    place = dict(zip(theirs, ours, strict=True))
    means = [
        (place[key[: found.start()]], found[1], len(state[name]))
        for key, name in given.items()
        if (found := _OF_WIDTH.search(key)) and key.endswith(".running_mean")
    ]
    subnets = sets_of(shapes, _SUBNET)
    chosen = _chosen(widths_of(means), subnets)
    result = {}
    for key, name in given.items():
        found, (layer, _, tensor) = _OF_WIDTH.search(key), _OF_WIDTH.sub("", key).rpartition(".")
        if found is None:
            result[f"{place[layer]}.{tensor}"] = name
        for number in chosen.get((place[layer], found[1]), ()) if found else ():
            result[f"{place[layer]}{number}.{tensor}"] = name
    return result


def are_slimmable(names: Iterable[str]) -> bool:
    """Whether names of a file, without prefixes, are those of such a network."""
    names = list(names)
    numbered = all(_LAYER.match(name) or _CLASSIFIER.match(name) for name in names)
    return numbered and any(_OF_WIDTH.search(name) for name in names)


def network_told(names: Iterable[str]) -> str:
    """What to do with a file that holds such a network and does not fit; or nothing."""
    names = list(names)
    if not any(_LAYER.match(name) for name in names) or not any(_OF_WIDTH.search(name) for name in names):
        return ""
    if not are_slimmable(names):
        return (
            "these are names of slimmable_networks, whose MobileNet v1 and v2, MNasNet and ResNet are read; this is "
            "another network"
        )
    return (
        "these are names of slimmable_networks: algorithm.channel_cfg must list the widths, or subnets, that it "
        "was trained with"
    )


def _chosen(
    theirs: Mapping[str, Mapping[str, int]], subnets: Mapping[str, Mapping[str, int]]
) -> dict[tuple[str, str], list[str]]:
    """Which norms go where: of each (place, set of theirs), the endings of ours, such as ``.bns.1``."""
    places = dict.fromkeys(place for widths in theirs.values() for place in widths)
    if not subnets:  # one norm at each place
        widest = {at: max((which for which in theirs if at in theirs[which]), key=lambda w: theirs[w][at])
                  for at in places}  # fmt: skip
        return {(at, which): [""] for at, which in widest.items()}
    order = by_widths(theirs, subnets) or {which: which for which in theirs}
    chosen: dict[tuple[str, str], list[str]] = {}
    for subnet, which in order.items():
        for at in places:
            chosen.setdefault((at, which), []).append(f".bns.{subnet}")
    return chosen


def _block_of(layer: str) -> str:
    return ".".join(layer.split(".")[:2])


def _ordered(layers: Iterable[str], block: str) -> list[str]:
    """The layers of a block; those of the shortcut last, as in ours."""
    return sorted((layer for layer in layers if _block_of(layer) == block), key=lambda layer: ".shortcut." in layer)
