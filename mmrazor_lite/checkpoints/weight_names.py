"""How others name the weights: each reading of a file's names is tried against those of the model.

A reading maps names as the model has them to names of the file. None of them guesses: a reading counts where it fits
exactly. Sources of the layouts: MMRazor 0.x and 1.x (its converter of Once-for-All's files), Once-for-All of
mit-han-lab (:mod:`.ofa_names`), SinglePathOneShot of megvii-model, slimmable_networks of JiahuiYu; torch.compile, FSDP,
activation checkpoints and averaged models of torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

from mmrazor_lite.errors import UserError, short

from .ofa_names import are_official, network_of, official_reading

Reading = dict[str, str]

_PREFIXES = ("module.", "architecture.")
PREFIXES = ("module.", "architecture.model.", "architecture.")  # ignored in every file; 0.x has one more level
# What wrappers of torch put into names, at any depth.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Counts of averaged models and of thop, masks of MMRazor 0.x (all ones in a trained supernet): no weights.
_BOOKKEEPING = re.compile(r"(?:^|\.)(?:in_mask|out_mask|total_ops|total_params)$|^(?:n_averaged|steps)$")
COUNTER = ".num_batches_tracked"
# An operator choice and what runs there: MMRazor 1.x, and ours; and 0.x.
_OPERATOR = re.compile(r"^(?P<choice>.+?)\._candidates\.(?P<name>[^.]+)\.")
_CHOICES_0X = re.compile(r"\.choices\.(?=[^.]+\.)")
_MOST_PREFIXES = 20
_MOST_LEVELS = 4  # of a prefix that all names share


def readings(state: Mapping[str, Tensor], names: Mapping[str, str], where: str) -> Iterator[tuple[Reading, str]]:
    """Every way to read the names of a file, the most literal one first, each with the project whose names they are.

    Args:
        state: Name to tensor, of the file.
        names: The names of the model without prefixes, as :func:`short_names` gives them, in order.
        where: Names the file in errors.

    Raises:
        UserError: Two names of the file stand for one.
    """
    plain = short_names(state, where)
    yield plain, ""
    older = short_names(state, where, PREFIXES)
    yield older, ""
    useful = [{key: name for key, name in given.items() if not _BOOKKEEPING.search(key)} for given in (plain, older)]
    for given in [*useful, *map(_by_operator, useful), *_other_prefixes(useful[0], names)]:
        yield given, ""
    for layout, project in _LAYOUTS.items():
        found = layout(useful[0], names, state, where)
        if found:
            yield found, project


def short_names(keys: Iterable[str], where: str, prefixes: tuple[str, ...] = _PREFIXES) -> Reading:
    """Map each name without prefixes and wrappers to the name itself.

    Raises:
        UserError: Two of them are the same then; ``where`` says of what.
    """
    result: Reading = {}
    for key in keys:
        name = _WRAPPERS.sub("", key)
        for prefix in prefixes:
            name = name.removeprefix(prefix)
        if name in result:
            raise UserError(f"{where}: both {short(result[name])} and {short(key)} stand for the weight {short(name)}")
        result[name] = key
    return result


def operators(state: Iterable[str]) -> dict[str, set[str]]:
    """Return the operators whose weights a state dict holds, by choice: several of one choice make a supernet."""
    found: dict[str, set[str]] = {}
    for key in state:
        match = _OPERATOR.match(_CHOICES_0X.sub("._candidates.", key))
        if match:
            found.setdefault(match["choice"], set()).add(match["name"])
        official = _SPOS.search(key)
        if official and official["choice"]:
            found.setdefault(f"features.{official['place']}", set()).add(official["choice"])
    return found


def under(given: Mapping[str, str], names: Iterable[str]) -> str | None:
    """Return the prefix under which ``given`` holds exactly ``names`` and more beside it, if there is one."""
    wanted = {name for name in names if not name.endswith(COUNTER)}
    first = next(iter(wanted), "")
    ending = [key for key in given if first and key.endswith(f".{first}")]
    for prefix in (key.removesuffix(first) for key in ending[:_MOST_PREFIXES]):
        part = {name.removeprefix(prefix) for name in given if name.startswith(prefix)}
        if {name for name in part if not name.endswith(COUNTER)} == wanted:
            return prefix.removesuffix(".")
    return None


def of_several_widths(state: Iterable[str]) -> bool:
    """Whether there are batch norms of several widths, or subnets, in one place."""
    return any(re.search(r"\.bns?\.[1-9]\d*\.\w+$", key) for key in state)


def way_out(state: Mapping[str, Tensor]) -> str:
    """What to do with a file whose names are of a known layout, for the error when it does not fit; or nothing."""
    keys = {_WRAPPERS.sub("", key).removeprefix("module."): tensor for key, tensor in state.items()}
    if are_official(keys):
        return _network_of_ofa(keys)
    if any(_SPOS.match(key) for key in keys):
        return (
            "these are names of SinglePathOneShot: its network is SearchableShuffleNetV2 with block_style='official', "
            "head.type='BiasFreeLinearClsHead' and, of a supernet, norm_cfg=dict(type='BN', affine=False)"
        )
    if any(_SLIMMABLE.match(key) for key in keys):
        return (
            "these are names of slimmable_networks: algorithm.channel_cfg must list the widths, or subnets, that it "
            "was trained with, in that order"
        )
    return ""


def _network_of_ofa(state: Mapping[str, Tensor]) -> str:
    try:
        backbone, width = network_of(state, "")
    except UserError:
        return "these look like names of Once-for-All, whose MobileNetV3 and ProxylessNAS networks are read"
    return (
        f"these are names of Once-for-All: the network of its supernet is {backbone} with width_mult={width} "
        "(model.width_mult in the configs)"
    )


def _by_operator(given: Reading) -> Reading:
    """Name the weights of operators as we do: in a supernet under ``_candidates``, in a subnet as the plain model."""
    named = {_CHOICES_0X.sub("._candidates.", key): name for key, name in given.items()}
    chosen = operators(named)
    if not chosen or any(len(names) > 1 for names in chosen.values()):
        return named
    return {_OPERATOR.sub(r"\g<choice>.", key): name for key, name in named.items()}


def _other_prefixes(given: Reading, names: Mapping[str, str]) -> Iterator[Reading]:
    """Without a prefix that all names of the file share, and with one that all names of the model do."""
    theirs, ours = _shared(given), _shared(names)
    for cut in range(len(theirs) + 1):
        for put in range(len(ours) + 1):
            if cut or put:
                old, new = "".join(theirs[:cut]), "".join(ours[:put])
                yield {new + key.removeprefix(old): name for key, name in given.items()}


def _shared(names: Iterable[str]) -> list[str]:
    """The first parts, such as ``['model.', 'net.']``, that all names have before their own."""
    shared: list[str] | None = None
    for name in names:
        parts = [f"{part}." for part in name.split(".")[:-1][:_MOST_LEVELS]]
        if shared is None:
            shared = parts
        while shared != parts[: len(shared)]:
            shared.pop()
        if not shared:
            break
    return shared or []


# MMRazor 1.x: Once-for-All ------------------------------------------------------------------------------------------

_MMRAZOR_OFA = (
    (re.compile(r"^backbone\.layer(\d+)\.(?=\d+\.)"), lambda match: f"backbone.layers.{int(match[1]) - 1}."),
    (re.compile(r"\.expand_conv\."), ".inverted_bottleneck."),
    (re.compile(r"\.depthwise_conv\."), ".depth_conv."),
    (re.compile(r"\.linear_conv\."), ".point_linear."),
    (re.compile(r"\.se\.conv1\.conv\."), ".depth_conv.se.reduce."),
    (re.compile(r"\.se\.conv2\.conv\."), ".depth_conv.se.expand."),
    (re.compile(r"\.trans_matrix_(?=\d+to\d+$)"), ".transform_"),
    (re.compile(r"^backbone\.last_conv\."), "backbone."),
)


def _mmrazor_ofa(given: Reading, names: Mapping[str, str], state: Mapping[str, Tensor], where: str) -> Reading | None:
    """The names that MMRazor 1.x gives the weights of Once-for-All."""
    if not any(key.startswith("backbone.last_conv.") for key in given):
        return None
    result = {}
    for key, name in given.items():
        for pattern, new in _MMRAZOR_OFA:
            key = pattern.sub(new, key)
        result[key] = name
    return result


# megvii-model/SinglePathOneShot -------------------------------------------------------------------------------------

_SPOS = re.compile(r"features\.(?P<place>\d+)\.(?:(?P<choice>[0-3])\.)?branch_(?P<branch>main|proj)\.(?P<layer>\d+)\.")
_SPOS_NAMES = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception")
_SPOS_ENDS = {
    "first_conv.0.": "backbone.conv1.conv.",
    "first_conv.1.": "backbone.conv1.bn.",
    "classifier.0.": "head.fc.",
}
_SEPARABLE = ("depthwise_conv.conv", "depthwise_conv.bn", "pointwise_conv.conv", "pointwise_conv.bn")
_PLAIN = {index: f"{at}.{kind}" for index, (at, kind) in zip(
    (0, 1, 3, 4, 5, 6), ((at, kind) for at in range(3) for kind in ("conv", "bn")), strict=True)}  # fmt: skip
_XCEPTION = {5 * at + index: f"{at}.{part}" for at in range(3) for index, part in enumerate(_SEPARABLE)}


def _spos(given: Reading, names: Mapping[str, str], state: Mapping[str, Tensor], where: str) -> Reading | None:
    """The ShuffleNetV2 of SPOS: a flat list of places, and in a supernet four numbered candidates at each."""
    matches = {key: found for key in given if (found := _SPOS.match(key))}
    places = sorted(
        {tuple(map(int, at)) for name in names for at in re.findall(r"^backbone\.layers\.(\d+)\.(\d+)\.", name)}
    )
    if not matches or not places:
        return None
    last = f"backbone.layers.{places[-1][0] + 1}."
    ends = {**_SPOS_ENDS, "conv_last.0.": f"{last}conv.", "conv_last.1.": f"{last}bn."}
    xception = {(m["place"], m["choice"]) for m in matches.values() if m["branch"] == "main" and int(m["layer"]) > 6}
    result = {}
    for key, name in given.items():
        match = matches.get(key)
        if match is None:
            start = next((start for start in ends if key.startswith(start)), None)
            result[key if start is None else ends[start] + key.removeprefix(start)] = name
            continue
        if int(match["place"]) >= len(places):
            return None
        stage, block = places[int(match["place"])]
        layers = _XCEPTION if (match["place"], match["choice"]) in xception else _PLAIN
        if match["branch"] == "proj":
            layers = dict(enumerate(("0.conv", "0.bn", "1.conv", "1.bn")))
        layer = layers.get(int(match["layer"]))
        if layer is None:
            return None
        which = "" if match["choice"] is None else f"_candidates.{_SPOS_NAMES[int(match['choice'])]}."
        branch = "branch2" if match["branch"] == "main" else "branch1"
        result[f"backbone.layers.{stage}.{block}.{which}{branch}.{layer}.{key[match.end() :]}"] = name
    return result


# JiahuiYu/slimmable_networks ----------------------------------------------------------------------------------------

_SLIMMABLE = re.compile(r"features\.\d+\.(?:(?:body|shortcut)\.)?\d+\.(?:bn\.\d+\.)?\w+$")
_OF_WIDTH = re.compile(r"\.bn\.(\d+)(?=\.\w+$)")
_SUBNET = re.compile(r"\.bns\.\d+(?=\.\w+$)")


def _slimmable(given: Reading, names: Mapping[str, str], state: Mapping[str, Tensor], where: str) -> Reading | None:
    """Slimmable, universally slimmable and AutoSlim networks: a batch norm for each width, in ``bn.N``.

    Their layers stand in the order of ours, and nowhere else do the names say what is what: layer by layer, the
    tensors must have the shapes of the model's.
    """
    numbered = all(_SLIMMABLE.match(key) or re.match(r"classifier\.\d+\.\w+$", key) for key in given)
    if not numbered or not any(_OF_WIDTH.search(key) for key in given):
        return None
    theirs = list(dict.fromkeys(_OF_WIDTH.sub("", key).rpartition(".")[0] for key in given))
    ours = list(dict.fromkeys(_SUBNET.sub("", name).rpartition(".")[0] for name in names))
    if len(theirs) != len(ours):
        return None
    theirs = [layer for at in dict.fromkeys(map(_block_of, theirs)) for layer in _ordered(theirs, at)]
    place = dict(zip(theirs, ours, strict=True))
    joint = any(_SUBNET.search(name) for name in names)
    largest: dict[str, str] = {}  # of a layer with several batch norms, the number of the widest, for a plain model
    for key in given:
        found = _OF_WIDTH.search(key)
        if found and key.endswith(".running_mean"):
            layer = key[: found.start()]
            best = largest.get(layer)
            size = len(state[given[key]])
            if best is None or size > len(state[given[f"{layer}.bn.{best}.running_mean"]]):
                largest[layer] = found[1]
    result = {}
    for key, name in given.items():
        found, (layer, _, tensor) = _OF_WIDTH.search(key), _OF_WIDTH.sub("", key).rpartition(".")
        if found and not joint and found[1] != largest.get(layer):
            continue
        number = f".bns.{found[1]}" if found and joint else ""
        result[f"{place[layer]}{number}.{tensor}"] = name
    return result


def _block_of(layer: str) -> str:
    return ".".join(layer.split(".")[:2])


def _ordered(layers: Iterable[str], block: str) -> list[str]:
    """The layers of a block; those of the shortcut last, as in ours."""
    return sorted((layer for layer in layers if _block_of(layer) == block), key=lambda layer: ".shortcut." in layer)


def _once_for_all(given: Reading, names: Mapping[str, str], state: Mapping[str, Tensor], where: str) -> Reading | None:
    """The names of the authors of Once-for-All."""
    return official_reading(given, names, where)


_LAYOUTS = {
    _mmrazor_ofa: "MMRazor 1.x",
    _once_for_all: "mit-han-lab/once-for-all",
    _spos: "megvii-model/SinglePathOneShot",
    _slimmable: "JiahuiYu/slimmable_networks",
}
