"""What a checkpoint holds, said in the file, so that one kind is never taken for another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmrazor_lite import __version__
from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet import SearchSpace, Subnet, parse_document, subnet_document

RESOLUTION = "resolution"
CHANNEL_CFG, FIX_SUBNET = "algorithm.channel_cfg", "model.fix_subnet"

_TITLES = {"supernet": "a supernet", "joint": "a joint model of {n} subnets", "subnet": "one subnet"}
_FIXES = {
    CHANNEL_CFG: {
        "supernet": "load it with algorithm.channel_cfg=None, or search it",
        "joint": "split it, or give algorithm.channel_cfg the list it was trained with",
        "subnet": "a search takes a supernet; to train or test it, give algorithm.channel_cfg its one file or width",
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
