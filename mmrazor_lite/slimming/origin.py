"""What files say of the network that was slimmed, so that it is found again from its class or its config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from mmrazor_lite import __version__
from mmrazor_lite.export.own_network import ALONE, MUTATOR, around, held_by
from mmrazor_lite.graph.computation import inside
from mmrazor_lite.models.mutators.channel_order import Member
from mmrazor_lite.models.said import ENTRY, origin
from mmrazor_lite.network_names import library_of, without_fetching
from mmrazor_lite.plain_data import plain
from mmrazor_lite.subnet import NET, SearchSpace, Subnet, subnet_document

_TRAINING = ("init_cfg", "train_cfg", "batch_augments", "data_preprocessor")  # of a config; the weights are given


class WidthMutator(Protocol):
    """What is read of a mutator that has prepared the network."""

    @property
    def architecture(self) -> nn.Module: ...
    @property
    def input_shape(self) -> tuple[int, ...]: ...
    @property
    def search_space(self) -> SearchSpace: ...
    @property
    def computation(self) -> Mapping[str, Any]: ...
    @property
    def restrictions(self) -> Mapping[str, Any]: ...
    @property
    def members(self) -> Sequence[Member]: ...


@dataclass(frozen=True)
class Origin:
    """The network of full size, as far as files say it.

    Attributes:
        input_shape: (C, H, W) of one image.
        space: Of its widths.
        computation: What it computes, line by line.
        restrictions: Options of the mutator that finds the same widths.
        alone: Whether the network itself was prepared, not what holds it. Files name its layers as a classifier around
            it does.
        constants: Buffers that follow the channels and are not in the weights that the network saves.
        told: What subnet files say of it.
    """

    input_shape: tuple[int, ...]
    space: SearchSpace
    computation: Mapping[str, Any]
    restrictions: Mapping[str, Any]
    alone: bool
    constants: tuple[str, ...]
    told: Mapping[str, Any]

    @staticmethod
    def of(mutator: WidthMutator) -> Origin:
        """Of the network that ``mutator`` has prepared."""
        saved = mutator.architecture.state_dict().keys()
        followers = {".".join(filter(None, (member.layer, member.name))) for member in mutator.members}
        inner = "" if held_by(mutator.architecture) is mutator.architecture else NET
        return Origin(
            input_shape=tuple(mutator.input_shape),
            space=mutator.search_space,
            computation=mutator.computation,
            restrictions=mutator.restrictions,
            alone=around(mutator.architecture) is not mutator.architecture,
            constants=tuple(sorted(name.removeprefix(inner) for name in followers - saved)),
            told=origin(mutator),
        )

    def document(
        self, subnet: Subnet, costs: Mapping[str, int], score: Mapping[str, float], made_by: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The plain data of the subnet's own file."""
        return subnet_document(subnet, self.space, costs, score, {**made_by, **self.told})

    def meta(
        self, subnet: Subnet, costs: Mapping[str, int], module: nn.Module, architecture: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """What the file of the weights says of itself, in the form of every other file of a subnet."""
        named, computation, restrictions = subnet, self.computation, dict(self.restrictions)
        space = self.space
        if self.alone:
            named = Subnet({NET + name: width for name, width in subnet.items()})
            space = space.renamed(lambda name: NET + name)
            computation, restrictions = inside(computation, NET.rstrip(".")), _inside(restrictions)
        buffers = dict(module.named_buffers())
        constants: dict[str, Tensor] = {name: buffers[name] for name in self.constants if name in buffers}
        return {
            ENTRY: {
                "version": __version__,
                "kind": "subnet",
                "space": space.fingerprint,
                "subnet": subnet_document(named, space, costs),
                "resources": dict(costs),
                "architecture": architecture,
                "mutator": {"type": MUTATOR, **restrictions},
                "data_preprocessor": None,
                "input_shape": list(self.input_shape),
                "computation": dict(computation),
                **({"constants": constants} if constants else {}),
                **({ALONE: True} if self.alone else {}),
            }
        }


def carried_architecture(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The config of a network as files carry it: ``torchvision.NAME``, ``timm.NAME`` or a registered model.

    None of code of the user's own, which is never imported from a file.
    """
    if config is None:
        return None
    config = plain(config, without=_TRAINING)
    kind, net = config.get("type"), config.get("net")
    if isinstance(net, Mapping) and library_of(str(net.get("type"))):
        return {**config, "net": without_fetching(net)}
    if isinstance(kind, str) and library_of(kind):
        return {"type": f"{ENTRY}.PlainClassifier", "net": without_fetching(config)}
    return config


def _inside(restrictions: Mapping[str, Any]) -> dict[str, Any]:
    """Patterns of names of the network, as patterns of names in what is around it."""

    def moved(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: moved(part) for key, part in value.items()}
        return [NET + part if isinstance(part, str) else moved(part) for part in value]

    return {key: moved(value) for key, value in restrictions.items()}
