"""What a checkpoint holds, said in the file, so that one kind is never taken for another."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmengine.logging import print_log

from mmrazor_lite import __version__
from mmrazor_lite.errors import UserError
from mmrazor_lite.graph.computation import difference, digest, same_digest
from mmrazor_lite.registry import SCOPE
from mmrazor_lite.subnet import SearchSpace, Subnet, SubnetFile, parse_document, subnet_document

RESOLUTION = "resolution"
CHANNEL_CFG, FIX_SUBNET = "algorithm.channel_cfg", "model.fix_subnet"

_TITLES = {"supernet": "a supernet", "joint": "a joint model of {n} subnets", "subnet": "one subnet"}
_FIXES = {
    CHANNEL_CFG: {
        "supernet": "load it with algorithm.channel_cfg=None, or search it",
        "joint": "split it, or give algorithm.channel_cfg the list it was trained with",
        "subnet": "give algorithm.channel_cfg its one file or width, not a list",
    },
    FIX_SUBNET: {
        "supernet": "search it, or take the subnet's weights out of it: model.init_cfg=dict(type='Pretrained', "
        "checkpoint=FILE) with model.init_weight_from_supernet=True",
        "joint": "split it first (tools/model_converters/split_checkpoint.py)",
        "subnet": "it is for a subnet's config (model.type='sub_model'), without model.init_weight_from_supernet",
    },
}
_SAME_SUBNET = {
    CHANNEL_CFG: "give the subnet file, or the width, it was made from",
    FIX_SUBNET: "leave out model.fix_subnet, the checkpoint says its own; or give the checkpoint of that subnet",
}


@dataclass(frozen=True)
class CheckpointIdentity:
    """Kind, search space and subnets of an algorithm.

    Attributes:
        kind: ``supernet``, ``joint`` (several subnets that share weights) or ``subnet`` (one plain network).
        space: The search space.
        subnets: Those of a joint model, in the order of their batch norms, or the one of a subnet.
        resources: macs, flops, params and memory of each, unscaled.
        option: What in the config says the subnets, for errors; a file's name may follow.
    """

    kind: str
    space: SearchSpace
    subnets: Sequence[Subnet] = ()
    resources: Sequence[Mapping[str, int]] = field(default=())
    option: str = FIX_SUBNET

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        documents = [
            subnet_document(subnet, self.space, dict(resources))
            for subnet, resources in zip(self.subnets, self.resources, strict=True)
        ]
        result: dict[str, Any] = {"version": __version__, "kind": self.kind, "space": self.space.fingerprint}
        if RESOLUTION in self.space:
            result["space_of_weights"] = self._of_weights
        if self.kind == "subnet":
            return {**result, "subnet": documents[0], "resources": dict(self.resources[0])}
        return {**result, "subnets": documents}

    def check(self, meta: Mapping[str, Any], where: str) -> None:
        """Compare with the ``meta['mmrazor_lite']`` of a file.

        Raises:
            UserError: Another kind, search space or subnet; ``where`` names the file.
        """
        found = meta.get("kind")
        documents = [meta["subnet"]] if "subnet" in meta else list(meta.get("subnets", ()))
        if found != self.kind:
            title = _TITLES.get(str(found), f"{found!r}, written by a newer version").format(n=len(documents))
            fix = _FIXES[self._key].get(str(found), "update mmrazor_lite")
            wanted = _TITLES[self.kind].format(n=len(self.subnets))
            raise UserError(f"{where} holds {title}, the config asks for {wanted}; {fix}")
        space = meta.get("space") or (documents[0].get("space") if documents else None)
        same = self.kind == "supernet" and meta.get("space_of_weights") == self._of_weights  # at other resolutions
        if space is not None and space != self.space.fingerprint and not same:
            raise UserError(
                f"{where} belongs to another search space ({space}, the config makes {self.space.fingerprint}); "
                "use the architecture and mutator it was trained with"
            )
        self._check_subnets([parse_document(document, self.space, where).subnet for document in documents], where)

    def _check_subnets(self, found: list[Subnet], where: str) -> None:
        wanted = list(self.subnets)
        if found == wanted or self.kind == "supernet":
            return
        if len(found) != len(wanted):
            raise UserError(f"{where} holds {len(found)} subnets, {self.option} lists {len(wanted)}")
        if len(wanted) > 1 and set(found) == set(wanted):
            order = ", ".join(str(found.index(subnet) + 1) for subnet in wanted)
            raise UserError(
                f"{where} holds the subnets of {self.option} in another order ({order}); list them as trained"
            )
        for number, (mine, theirs) in enumerate(zip(wanted, found, strict=True), start=1):
            for name in mine:
                if mine[name] != theirs[name]:
                    which = f"subnet {number} of {self.option}" if len(wanted) > 1 else self.option
                    raise UserError(
                        f"{where} holds another subnet than {which}: {name} is {theirs[name]} in the checkpoint and "
                        f"{mine[name]} in the config; {_SAME_SUBNET[self._key]}"
                    )

    @property
    def _of_weights(self) -> str:
        """Fingerprint without the resolution, which weights do not depend on."""
        return SearchSpace([choice for name, choice in self.space.items() if name != RESOLUTION]).fingerprint

    @property
    def _key(self) -> str:
        return CHANNEL_CFG if self.option.startswith(CHANNEL_CFG) else FIX_SUBNET


def said_by(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a checkpoint says about itself, its ``meta['mmrazor_lite']``; empty for files of others."""
    meta = checkpoint.get("meta")
    said = meta.get(SCOPE) if isinstance(meta, Mapping) else None
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
        print_log(f"{text}: {why}", logger="current", level=logging.WARNING)


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
    if not same_digest(theirs, mine["computation"]):
        print_log(
            f"{where} was found for a network that computes something else (activations, shortcuts, strides, the eps "
            "of norms ...), though its layers are as wide: how good its subnet is here was not searched",
            logger="current",
            level=logging.WARNING,
        )
