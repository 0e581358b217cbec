"""What MMRazor writes: beside the weights of a network, and under other names than ours.

Key names: of branch 0.x (``models/pruners``, ``models/distillers``), and of 1.0.0 and its release candidates
(``models/mutables``, ``models/architectures/dynamic_ops``, ``models/architectures/backbones``); of averaged models,
those of mmcv's ``EMAHook``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from torch import Tensor

from .norm_sets import Shapes, by_widths, norms_in_one_place, sets_of

Reading = dict[str, str]

# What is no weight of the network. Masks: 0.x keeps two in every layer, 1.x one in each unit of its mutator and, of
# Once-for-All, in the backbone.
_MASK = re.compile(r"(?:^|\.)(?:in_mask|out_mask)$|(?:^|\.)\w*mutable_\w+\.(?:.+\.)?mask$|(?:^|\.)mutable_attrs\.")
_COUNT = re.compile(r"(?:^|\.)(?:total_ops|total_params)$|^(?:n_averaged|steps)$")  # of thop, and of averaged models
_IMAGES = re.compile(r"^(?:architecture\.)?data_preprocessor\.(?:mean|std)$")
_BESIDE = re.compile(r"^(mutator|distiller|teacher|align_modules|losses)\.")  # of an algorithm
_EMA = "ema_"


def beside_the_network(names: Iterable[str]) -> dict[str, str]:
    """Return the names of a file that are those of no weight of its network, each with what it is."""
    plain = {name.removeprefix("module."): name for name in names}
    of_algorithm = any(name.startswith("architecture.") for name in plain)
    averaged = {name.replace(".", "_") for name in plain} if any(name.startswith(_EMA) for name in plain) else set()
    found = {}
    for name, raw in plain.items():
        beside = _BESIDE.match(name) if of_algorithm else None
        if _MASK.search(name):
            found[raw] = "masks of channels"
        elif beside:
            found[raw] = f"of its {beside[1]}"
        elif _IMAGES.match(name):
            found[raw] = "of how images were normalised"
        elif _COUNT.search(name):
            found[raw] = "counts"
        elif name.startswith(_EMA) and "." not in name and name.removeprefix(_EMA) in averaged:
            found[raw] = "from before the averages, which are read"
    return found


def image_buffers(state: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Return ``mean`` and ``std`` of images, by channel, where a file has the buffers of a preprocessor."""
    found = {name.rpartition(".")[2]: tensor for name, tensor in state.items()
             if _IMAGES.match(name.removeprefix("module."))}  # fmt: skip
    return {key: [float(value) for value in tensor.flatten()[:16]] for key, tensor in found.items()}


def told_left_out(names: Iterable[str], beside: Mapping[str, str]) -> str | None:
    """Say what of a file is not read, for the log: ``names``, of which some are ``beside`` the network."""
    names = sorted(names)
    kinds = Counter(
        beside.get(name) or ("of norms of other widths" if norms_in_one_place([name]) else "") for name in names
    )
    others = kinds.pop("", 0)
    parts = [f"{count} {kind}" for kind, count in kinds.items()]
    if others:
        first = next(name for name in names if name not in beside and not norms_in_one_place([name]))
        parts.append(f"{others} others, such as {first}")
    return f"not read of it: {', '.join(parts)}" if parts else None


# Batch norms of several subnets -------------------------------------------------------------------------------------

_CANDIDATE = re.compile(r"^(?P<norm>.+)\.candidate_bn\.(?P<which>\d+)\.(?P<tensor>\w+)$")
_NUMBERED = re.compile(r"^(?P<norm>.+)\.bns\.(?P<which>\d+)\.(?P<tensor>\w+)$")


def norms_by_width(given: Reading, shapes: Shapes, state: Mapping[str, Tensor], where: str) -> Reading | None:
    """1.x: a norm for each width at a place, which subnets of that width share; that of the full width is its own."""
    norms = {match["norm"] for key in given if (match := _CANDIDATE.match(key))}
    if not norms or not any(_NUMBERED.match(key) for key in shapes):
        return None
    result = {key: name for key, name in given.items() if not any(part in norms for part in _owners(key))}
    for key in shapes:
        ours = _NUMBERED.match(key)
        if ours is None or ours["norm"] not in norms:
            continue
        norm, tensor = ours["norm"], ours["tensor"]
        width, mean = shapes[f"{norm}.bns.{ours['which']}.running_mean"][0], given.get(f"{norm}.running_mean")
        is_full = mean is not None and len(state[mean]) == width
        source = given.get(f"{norm}.{tensor}" if is_full else f"{norm}.candidate_bn.{width}.{tensor}")
        if source is not None:
            result[key] = source
    return result


_FIRST_MASK = ".bns.0.out_mask"


def order_in_doubt(shapes: Shapes, state: Mapping[str, Tensor]) -> str | None:
    """Say where the masks of a joint model of 0.x are those of a subnet that is not the last of the list here.

    Which norm is of which subnet, such a file does not say; its masks are those of the subnet that was trained last.
    """
    masks = {_within(key): int(mask.sum()) for key, mask in state.items() if key.endswith(_FIRST_MASK)}
    subnets = sets_of(shapes, _NUMBERED)
    last = [which for which, widths in subnets.items() if {norm: widths.get(norm) for norm in masks} == masks]
    if not masks or len(last) != 1 or int(last[0]) == len(subnets) - 1:
        return None
    return (
        f"its masks are those of the subnet that was trained last, which is number {int(last[0]) + 1} of "
        f"{len(subnets)} in algorithm.channel_cfg: list the subnets in the order of the training"
    )


def _within(key: str) -> str:
    for prefix in ("module.", "architecture.", "model."):
        key = key.removeprefix(prefix)
    return key.removesuffix(_FIRST_MASK)


def _owners(key: str) -> tuple[str, str]:
    """The norm that a tensor may be of: as its own, or as that of one of several widths."""
    return key.rpartition(".")[0], key.rpartition(".candidate_bn.")[0]


def norms_in_another_order(given: Reading, shapes: Shapes, state: Mapping[str, Tensor], where: str) -> Reading | None:
    """The first release candidate of 1.x: numbered norms, each as wide as its subnet, which tells which one it is."""
    theirs = sets_of({key: state[name].shape for key, name in given.items()}, _NUMBERED)
    order = by_widths(theirs, sets_of(shapes, _NUMBERED)) if theirs else None
    if order is None or all(subnet == which for subnet, which in order.items()):
        return None
    result = {key: name for key, name in given.items() if not _NUMBERED.match(key)}
    for key in shapes:
        ours = _NUMBERED.match(key)
        source = ours and given.get(f"{ours['norm']}.bns.{order[ours['which']]}.{ours['tensor']}")
        if source:
            result[key] = source
    return result


# Once-for-All, 1.x --------------------------------------------------------------------------------------------------

_OFA = (
    (re.compile(r"^backbone\.layer(\d+)\.(?=\d+\.)"), lambda match: f"backbone.layers.{int(match[1]) - 1}."),
    (re.compile(r"\.expand_conv\."), ".inverted_bottleneck."),
    (re.compile(r"\.depthwise_conv\."), ".depth_conv."),
    (re.compile(r"\.linear_conv\."), ".point_linear."),
    (re.compile(r"\.se\.conv1\.conv\."), ".depth_conv.se.reduce."),
    (re.compile(r"\.se\.conv2\.conv\."), ".depth_conv.se.expand."),
    (re.compile(r"\.trans_matrix_(?=\d+to\d+$)"), ".transform_"),
    (re.compile(r"^backbone\.last_conv\."), "backbone."),
)
_OFA_TAIL = "backbone.last_conv."
_ATTENTIVE = re.compile(r"^backbone\.layer\d+\.\d+\.shortcut\.conv\.")


def once_for_all(given: Reading, shapes: Shapes, state: Mapping[str, Tensor], where: str) -> Reading | None:
    """The names that 1.x gives the weights of Once-for-All, a supernet or one subnet."""
    if not any(key.startswith(_OFA_TAIL) for key in given):
        return None
    result = {}
    for key, name in given.items():
        for pattern, new in _OFA:
            key = pattern.sub(new, key)
        result[key] = name
    return result


def network_told(names: Iterable[str]) -> str:
    """What network of 1.x the names of a file are of, where they tell and do not fit; or nothing."""
    plain = [name.removeprefix("module.").removeprefix("architecture.") for name in names]
    if any(_ATTENTIVE.match(name) for name in plain):
        return (
            "these are names of MMRazor's BigNAS, an AttentiveMobileNetV3 with shortcuts of AttentiveNAS, which is not "
            "carried; with with_attentive_shortcut=False it is the network of Once-for-All, which is"
        )
    if any(name.startswith(_OFA_TAIL) for name in plain):
        return "these are names of MMRazor's Once-for-All: the network is OFAMobileNetV3 (configs/nas/mmcls/onceforall)"
    return ""
