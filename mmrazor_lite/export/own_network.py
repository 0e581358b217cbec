"""A network of the user's own, given as a module: what a file is of is found in it, without a registry or a config."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.mutators import OneShotChannelMutator
from mmrazor_lite.subnet import NET

from .carried_data import check_plain

MUTATOR = "OneShotChannelMutator"
ALONE = "alone"  # of a file's meta: its widths are those of the network itself, which holds no more than layers do
_SHOWN = 3  # names in an error


class Around(nn.Module):
    """Holds a network as a classifier around it does, so that layers have the names that are in files."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor) -> Any:
        return self.net(inputs)


def has_losses(network: nn.Module) -> bool:
    """Whether it is a classifier itself, of mmengine's kind: it is called with a mode."""
    return "mode" in inspect.signature(network.forward).parameters


def around(network: nn.Module) -> nn.Module:
    """The network as files name its layers."""
    return network if isinstance(network, Around) or has_losses(network) else Around(network)


def held_by(module: nn.Module) -> nn.Module:
    """Undo :func:`around`."""
    return module.net if isinstance(module, Around) else module


def needs_a_head(architecture: Any) -> bool:
    """Whether the config of a file puts more around a network than a loss without weights."""
    return isinstance(architecture, Mapping) and bool(set(architecture) - {"type", "net"})


def own_mutator(config: Any, where: str) -> OneShotChannelMutator | None:
    """The width mutator of a carried config; None where the config is of another one.

    Raises:
        UserError: It is no plain data, or has arguments that the mutator does not take.
    """
    check_plain(config, where, "mutator")
    if not isinstance(config, Mapping) or str(config.get("type")).rpartition(".")[2] != MUTATOR:
        return None
    options = {key: value for key, value in config.items() if key not in ("type", "_scope_")}
    try:
        return OneShotChannelMutator(**options)
    except UserError as error:
        raise UserError(f"{where}: mutator: {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{where}: mutator: cannot be built ({' '.join(str(error).split())[:300]})") from None


def for_the_network(config: Any) -> Any:
    """The config of a mutator for a network by itself, of the one for what holds it."""

    def moved(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: moved(part) for key, part in value.items()}
        return [part.removeprefix(NET) if isinstance(part, str) else moved(part) for part in value]

    if not isinstance(config, Mapping):
        return config
    return {key: moved(value) if isinstance(value, (list, tuple)) else value for key, value in config.items()}


def check_names(weights: Mapping[str, Tensor], network: nn.Module, where: str) -> None:
    """Compare the names in a file with those of a network that shall be cut to it.

    Raises:
        UserError: Some are in one of them only; says the first ones.
    """
    own = network.state_dict().keys()
    parts = [("only in the file: ", weights.keys() - own), ("only in the network: ", own - weights.keys())]
    if any(names for _, names in parts):
        told = "; ".join(label + _listed(names, [*weights, *own]) for label, names in parts if names)
        raise UserError(f"{where} is of another network than {type(network).__name__}: {told}")


def _listed(names: set[str], order: list[str]) -> str:
    found = [name for name in dict.fromkeys(order) if name in names]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
