"""How the authors of Once-for-All name the weights of its networks.

The networks are ``OFAMobileNetV3`` and ``OFAProxylessNASNets`` of mit-han-lab/once-for-all (arXiv:1908.09791), and the
plain ones that they specialise. Their block i is block B of stage S of ours, counted through; a kernel matrix
``7to5_matrix`` is our ``transform_7to5``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet.space import listed

_BLOCK = re.compile(r"backbone\.layers\.(\d+)\.(\d+)\.(.+)")
_MATRIX = re.compile(r"transform_(\d+)to(\d+)$")
# Names of older files: where the first is found in a name, the second stands in its place. The first that applies.
_OLDER = (
    (".bn.bn.", ".bn."),
    (".conv.conv.weight", ".conv.weight"),
    (".linear.linear.", ".linear."),
    (".linear.", ".linear.linear."),
    ("bn.", "bn.bn."),
    ("conv.weight", "conv.conv.weight"),
)
_FEATURES = 1280  # at width 1.0, of both networks


def are_official(names: Iterable[str]) -> bool:
    """Whether names of a file, without wrappers, are those of a network of Once-for-All."""
    return any(re.match(r"blocks\.\d+\.(?:mobile_inverted_conv|conv)\.", name) for name in names)


def official_names(names: Iterable[str]) -> dict[str, str | None]:
    """Map names of one of our networks, without prefixes, to the official ones; None where there is none."""
    blocks = {name: match for name in names if (match := _BLOCK.fullmatch(name))}
    places = sorted({tuple(map(int, match.groups()[:2])) for match in blocks.values()})
    number = {place: index for index, place in enumerate(places)}
    elastic = {match.groups()[:2] for match in blocks.values() if _MATRIX.search(match[3])}
    return {
        name: _of_block(blocks[name], number, elastic) if name in blocks else _outside(name) for name in names
    }  # fmt: skip


def official_reading(given: Mapping[str, str], names: Iterable[str], where: str) -> dict[str, str] | None:
    """Map our names to those of an official file, with the newer or the older names; None where it is none.

    Args:
        given: Names of the file, without wrappers, to the names themselves.
        names: Those of the model, without prefixes.
        where: Names the file in errors.

    Raises:
        UserError: Two names of the file stand for one.
    """
    if not are_official(given):
        return None
    wanted = {official: name for name, official in official_names(names).items() if official}
    found: dict[str, str] = {}
    for plain, key in given.items():
        official = plain.replace(".mobile_inverted_conv.", ".conv.")
        if official not in wanted:
            old, new = next((pair for pair in _OLDER if pair[0] in official), ("", ""))
            official = official.replace(old, new) if old else official
        name = wanted.get(official, plain)
        if name in found:
            raise UserError(f"{where}: both '{found[name]}' and '{key}' stand for the weight '{official}'")
        found[name] = key
    return found


def network_of(state: Mapping[str, Tensor], where: str) -> tuple[str, float]:
    """Tell the backbone class and the width of an official supernet by its names and shapes.

    Raises:
        UserError: It is no such file.
    """
    names = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    features = next(
        (
            tensor.shape[-1]
            for name, tensor in names.items()
            if name.startswith("classifier.") and name.endswith("linear.weight")
        ),
        None,
    )
    if features is None or not are_official(names):
        raise UserError(
            f"{where}: not a checkpoint of Once-for-All: expected names such as 'blocks.1. ...' and "
            f"'classifier.linear.weight', found {listed(list(names))}"
        )
    if any(name.startswith(("input_stem.", "max_pooling.")) for name in names):
        raise UserError(f"{where}: a ResNet of Once-for-All; only its MobileNetV3 and ProxylessNAS networks are read")
    mobile = any(name.startswith("final_expand_layer.") for name in names)
    return "OFAMobileNetV3" if mobile else "OFAProxylessNAS", round(features / _FEATURES, 3)


def _outside(name: str) -> str | None:
    if name.startswith("head.fc."):
        return name.replace("head.fc.", "classifier.linear.")
    tail = name.removeprefix("backbone.")
    return tail if tail.startswith(("first_conv.", "final_expand_layer.", "feature_mix_layer.")) else None


def _of_block(
    match: re.Match[str], number: Mapping[tuple[int, ...], int], elastic: Iterable[tuple[str, ...]]
) -> str | None:
    stage, index, rest = match.groups()
    layer, _, part = rest.partition(".")
    if layer not in ("inverted_bottleneck", "depth_conv", "point_linear"):
        return None
    matrix = _MATRIX.search(part)
    if matrix:
        part = f"conv.{matrix[1]}to{matrix[2]}_matrix"
    elif part.startswith("se."):
        part = part.replace("se.", "se.fc.", 1)
    elif (stage, index) in elastic:  # a dynamic layer holds the plain one
        kind, _, tensor = part.partition(".")
        part = f"{kind}.{kind}.{tensor}"
    return f"blocks.{number[int(stage), int(index)]}.conv.{layer}.{part}"
