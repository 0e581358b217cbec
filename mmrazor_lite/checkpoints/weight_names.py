"""How others name the weights: each reading of a file's names is tried against those of the model.

A reading maps names as the model has them to names of the file. None of them guesses: a reading counts where it fits
exactly. Sources of the layouts: MMRazor 0.x and 1.x (:mod:`.mmrazor_names`), Once-for-All of mit-han-lab
(:mod:`.ofa_names`), slimmable_networks of JiahuiYu (:mod:`.slimmable_names`), SinglePathOneShot of megvii-model;
torch.compile, FSDP, activation checkpoints and averaged models of torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

from mmrazor_lite.errors import UserError, short

from . import mmrazor_names, slimmable_names
from .norm_sets import Shapes, norms_in_one_place
from .ofa_names import are_official, network_of, official_reading

Reading = dict[str, str]

_PREFIXES = ("module.", "architecture.")
PREFIXES = ("module.", "architecture.model.", "architecture.")  # ignored in every file; 0.x has one more level
# What wrappers of torch put into names, at any depth.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
COUNTER = ".num_batches_tracked"
# An operator choice and what runs there: MMRazor 1.x, and ours; and 0.x.
_OPERATOR = re.compile(r"^(?P<choice>.+?)\._candidates\.(?P<name>[^.]+)\.")
_CHOICES_0X = re.compile(r"\.choices\.(?=[^.]+\.)")
_MOST_PREFIXES = 20
_MOST_LEVELS = 4  # of a prefix that all names share


def readings(state: Mapping[str, Tensor], shapes: Shapes, where: str) -> Iterator[tuple[Reading, str]]:
    """Every way to read the names of a file, the most literal one first, each with the project whose names they are.

    Args:
        state: Name to tensor, of the file.
        shapes: Those of the model, by its names without prefixes, as :func:`short_names` gives them, in order.
        where: Names the file in errors.

    Raises:
        UserError: Two names of the file stand for one.
    """
    useful = [short_weights(state, where, prefixes) for prefixes in (_PREFIXES, PREFIXES)]
    beside = mmrazor_names.beside_the_network(state)
    for prefixes, given in zip((_PREFIXES, PREFIXES), useful, strict=True) if beside else ():
        yield {**{_short(name, prefixes): name for name in beside}, **given}, ""
    for given in [*useful, *map(_by_operator, useful), *_other_prefixes(useful[0], shapes)]:
        yield given, ""
    for layout, project in _LAYOUTS.items():
        for given in useful:
            found = layout(given, shapes, state, where)
            if found:
                yield found, project


def short_names(keys: Iterable[str], where: str, prefixes: tuple[str, ...] = _PREFIXES) -> Reading:
    """Map each name without prefixes and wrappers to the name itself.

    Raises:
        UserError: Two of them are the same then; ``where`` says of what.
    """
    result: Reading = {}
    for key in keys:
        name = _short(key, prefixes)
        if name in result:
            raise UserError(f"{where}: both {short(result[name])} and {short(key)} stand for the weight {short(name)}")
        result[name] = key
    return result


def short_weights(state: Iterable[str], where: str, prefixes: tuple[str, ...] = _PREFIXES) -> Reading:
    """As :func:`short_names`, of the weights of a network alone, without what MMRazor keeps beside them."""
    names = list(state)
    beside = mmrazor_names.beside_the_network(names)
    return short_names((name for name in names if name not in beside), where, prefixes)


def _short(name: str, prefixes: tuple[str, ...]) -> str:
    name = _WRAPPERS.sub("", name)
    for prefix in prefixes:
        name = name.removeprefix(prefix)
    return name


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


def way_out(state: Mapping[str, Tensor], names: Iterable[str]) -> str:
    """What to do with a file of a known layout that does not fit a model of these ``names``; or nothing."""
    keys = {_WRAPPERS.sub("", key).removeprefix("module."): tensor for key, tensor in state.items()}
    if are_official(keys):
        return _network_of_ofa(keys)
    if any(_SPOS.match(key) for key in keys):
        return (
            "these are names of SinglePathOneShot: its network is SearchableShuffleNetV2 with block_style='official', "
            "head.type='BiasFreeLinearClsHead' and, of a supernet, norm_cfg=dict(type='BN', affine=False)"
        )
    theirs, ours = norms_in_one_place(state), norms_in_one_place(names)
    told = mmrazor_names.network_told(keys) or slimmable_names.network_told(keys)
    if theirs and not ours and not told.endswith("another network"):
        return (
            f"it holds the batch norms of {theirs} subnets that were trained together: tools/model_converters/"
            "split_checkpoint.py CONFIG FILE --channel-cfgs SUBNET ... writes each as a file of its own"
        )
    if theirs > ours and not told:
        return (
            f"it holds the batch norms of {theirs} subnets, the config names {ours}: list all of them in "
            "algorithm.channel_cfg, in the order of their training"
        )
    return told


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


def _other_prefixes(given: Reading, names: Iterable[str]) -> Iterator[Reading]:
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


def _spos(given: Reading, shapes: Shapes, state: Mapping[str, Tensor], where: str) -> Reading | None:
    """The ShuffleNetV2 of SPOS: a flat list of places, and in a supernet four numbered candidates at each."""
    matches = {key: found for key in given if (found := _SPOS.match(key))}
    places = sorted(
        {tuple(map(int, at)) for name in shapes for at in re.findall(r"^backbone\.layers\.(\d+)\.(\d+)\.", name)}
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


def _once_for_all(given: Reading, shapes: Shapes, state: Mapping[str, Tensor], where: str) -> Reading | None:
    """The names of the authors of Once-for-All."""
    return official_reading(given, shapes, where)


_LAYOUTS = {
    mmrazor_names.norms_by_width: "MMRazor 1.x",
    mmrazor_names.norms_in_another_order: "MMRazor 1.x",
    mmrazor_names.once_for_all: "MMRazor 1.x",
    _once_for_all: "mit-han-lab/once-for-all",
    _spos: "megvii-model/SinglePathOneShot",
    slimmable_names.slimmable: "JiahuiYu/slimmable_networks",
}
