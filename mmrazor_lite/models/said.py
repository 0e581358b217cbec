"""What a checkpoint or a subnet's file says of its network, compared with the network that is here."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph.compared import difference
from mmrazor_lite.graph.computation import digest, held, inside, is_digest_of
from mmrazor_lite.note import note
from mmrazor_lite.subnet import NET, SubnetFile

ENTRY = "mmrazor_lite"  # of the meta of a checkpoint


def said_by(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a checkpoint says about itself, its ``meta['mmrazor_lite']``; empty for files of others."""
    meta = checkpoint.get("meta")
    said = meta.get(ENTRY) if isinstance(meta, Mapping) else None
    return said if isinstance(said, Mapping) else {}


def check_computation(
    theirs: Any, mine: Mapping[str, Any] | None, where: str, part: str | None = None, other_classes: bool = False
) -> None:
    """Compare what a file's network computes with what the one of the config does.

    Args:
        theirs: ``computation`` of the file's meta; None in files of before, and in those of others.
        mine: ``computation`` of the mutator.
        where: Names the file.
        part: Compare what is in this module only.
        other_classes: They may tell other numbers of classes apart.

    Raises:
        UserError: They are not the same; says the first layer that differs, and in what.
    """
    if theirs is None or mine is None:
        return
    found = difference(theirs, mine, where, part, other_classes)
    if found:
        raise UserError(
            f"{where} is of another network, with weights of the same names and shapes: {found}; use the architecture "
            "it was trained with"
        )


def check_resources(
    said: Any, costs: Mapping[str, int], where: str, input_shape: Any = None, own_shape: Sequence[int] = ()
) -> None:
    """Compare the costs that a file says with those of its subnet here: other ones are of another network.

    What depends on the size of images is compared strictly where the file says that its size is the same, and else
    told. So are other params where the macs are equal: norms of a search may have no weights of their own. Files that
    say no costs are fine.

    Args:
        said: ``resources`` of the file.
        costs: Of the same subnet, by the cost model.
        where: Names the file.
        input_shape: What the file's costs are counted at; None where it does not say.
        own_shape: What those here are counted at.

    Raises:
        UserError: Says both figures.
    """
    same = isinstance(input_shape, (list, tuple)) and list(input_shape) == list(own_shape)
    there = {key: value for key, value in dict(said or {}).items() if type(value) in (int, float) and key in costs}
    equal = there.get("macs") == costs.get("macs")
    for key in [key for key in ("params", "macs") if key in there and there[key] != costs[key]]:
        text = f"{where} says {there[key]:,} {key} of its subnet, which has {costs[key]:,} here"
        if same if key == "macs" else not equal:
            raise UserError(f"{text}: it is of another network; use the architecture it was made with")
        sizes = f"images of {input_shape}, here of {list(own_shape)}" if input_shape else "images of another size?"
        why = f"counted for {sizes}" if key == "macs" else "its norms or biases are others, its macs are the same"
        note(f"{text}: {why}", logging.WARNING)


def origin(mutator: Any) -> dict[str, Any]:
    """What a subnet file says of the network that its subnet was found for, in its ``made_by``."""
    told = {"input_shape": list(mutator.input_shape)}  # what the costs are counted at
    return told if mutator.computation is None else {**told, "computation": digest(mutator.computation)}


def check_found(found: SubnetFile, mutator: Any, where: str) -> None:
    """Compare what a subnet file says of its subnet with this network: its costs, and what is computed.

    Another computation of the same costs (other activations or shortcuts) is told: it may be meant.

    Args:
        found: The file, read in the space of ``mutator``.
        mutator: Has prepared the network.
        where: Names the file.

    Raises:
        UserError: As :func:`check_resources`.
    """
    made_by, mine = found.made_by or {}, origin(mutator)
    shape, theirs = made_by.get("input_shape"), made_by.get("computation")
    check_resources(found.resources, mutator.cost_model.of(found.subnet), where, shape, mutator.input_shape)
    if not isinstance(theirs, str) or "computation" not in mine or shape != mine["input_shape"]:
        return
    # The file may be of a classifier around this network, or of the network inside this one.
    others = (moved(mutator.computation, NET.rstrip(".")) for moved in (inside, held))
    if not any(is_digest_of(theirs, own) for own in (mutator.computation, *others)):
        note(
            f"{where} was found for a network that computes something else (activations, shortcuts, strides, the eps "
            "of norms ...), though its layers are as wide: how good its subnet is here was not searched",
            logging.WARNING,
        )
