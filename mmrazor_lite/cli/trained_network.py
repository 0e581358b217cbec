"""The trained network of a command: by its name in torchvision, timm or code of one's own, or of a config.

A network by its name needs no config, and neither mmengine nor mmpretrain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmrazor_lite.errors import UserError

if TYPE_CHECKING:
    from torch import nn

_OPTION = "--cfg-options model."
_JOINT = "split it first (tools/model_converters/split_checkpoint.py) and give one of its parts"
_CHOICES = "search it, and give the file of one of its subnets as --weights"


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with its weights.

    Attributes:
        module: A plain module in eval mode.
        title: What it is called, for people.
        name: Its name in torchvision or timm, which says how it reads images; None of other networks.
        architecture: Config that builds it at full width, for the files of the result; None of code of the user's own,
            which no file may name, and of a subnet.
        preprocessor: Config of the data preprocessor of its config; None without one.
        cfg: Its config; None of a network by its name.
        notes: What is to be said of it, a line each.
        of_supernet: Whether its batch norms hold statistics of all subnets that were trained, not its own.
    """

    module: nn.Module
    title: str
    name: str | None = None
    architecture: Mapping[str, Any] | None = None
    preprocessor: Mapping[str, Any] | None = None
    cfg: Any = None
    notes: list[str] = field(default_factory=list)
    of_supernet: bool = False


def by_name(name: str, weights: str | None, options: Sequence[str], seed: int) -> TrainedNetwork:
    """A network of torchvision (``torchvision.NAME``) or timm (``timm.NAME``), or of an import path.

    Args:
        name: As above.
        weights: File of its weights; without one it has those that its code gives it.
        options: ``model.KEY=VALUE``: arguments of what builds it.
        seed: Of weights that are drawn.

    Raises:
        UserError: There is none of this name, it does not take the arguments, or the weights are of another network.
    """
    from mmrazor_lite.network_names import call_builder, find_builder, library_of, require_module
    from mmrazor_lite.randomness import seeded

    builder, arguments = find_builder(name, "--model"), _arguments(options)
    with seeded(seed):
        module = require_module(call_builder(builder, name, arguments, "--model"), name, "--model")
    notes = []
    if weights is not None:
        _load(module, weights, numbered="num_classes")
    elif not any(arguments.get(key) for key in ("weights", "pretrained")):
        notes.append(f"no --weights: {name} has the weights that its own code gives it")
    own = not library_of(name)
    return TrainedNetwork(
        module.eval(), name, None if own else name, None if own else {"type": name, **arguments}, notes=notes
    )


def of_config(config: str, weights: str | None, options: Sequence[str]) -> TrainedNetwork:
    """The architecture of a config of ours, or the model of a plain one; or the subnet that a file of ours is of.

    Args:
        config: File.
        weights: File of the weights: of the network, of a supernet whose widths alone are choices, or of one subnet.
            By default what ``load_from`` or ``init_cfg`` of the config say.
        options: ``KEY=VALUE`` of the config.

    Raises:
        UserError: It has no model, or one of choices that are none of widths; the weights are of another network.
    """
    from mmrazor_lite.checkpoints import read_checkpoint
    from mmrazor_lite.config import load_config

    cfg = load_config(config, options)
    from mmengine.registry import init_default_scope

    from mmrazor_lite.models.algorithms.construct import build_architecture
    from mmrazor_lite.models.classifiers import source_of
    from mmrazor_lite.models.said import said_by
    from mmrazor_lite.plain_data import plain

    from . import purpose, subnets

    purpose.require(cfg, config, "slimming")
    init_default_scope(cfg.get("default_scope", "mmpretrain"))
    weights = weights or cfg.get("load_from")
    section = cfg.model
    architecture = section.get("architecture", section)
    inner = (section.get("cfg") or {}) if subnets.is_sub_model(section) else section
    preprocessor = _preprocessor(inner, cfg)
    kind = said_by(read_checkpoint(weights)).get("kind") if weights else None
    if kind == "subnet":
        from mmrazor_lite.export import load_subnet

        return TrainedNetwork(
            load_subnet(weights).eval(), f"the subnet of {weights}", preprocessor=preprocessor, cfg=cfg
        )
    if kind == "joint":
        raise UserError(f"--weights {weights}: holds a joint model of several subnets: {_JOINT}")
    if subnets.is_sub_model(section):
        raise UserError(f"'{config}' is of one subnet: give --weights, a file that its training wrote")
    mutator = str((section.get("mutator") or {}).get("type", "OneShotChannelMutator")).rpartition(".")[2]
    if mutator != "OneShotChannelMutator":
        raise UserError(f"'{config}' is of a supernet of choices that are not widths ({mutator}): {_CHOICES}")
    model = build_architecture(architecture, None)
    notes = []
    if weights:
        _load(model, weights)
    else:
        _init_weights(model)
        notes.append(f"no --weights: the network has the weights that '{config}' gives it")
    module, title, name = _plain(model, architecture)
    own = source_of(_net(architecture).get("type")) == "own"
    return TrainedNetwork(
        module, title, name, None if own else plain(architecture), preprocessor, cfg, notes, kind == "supernet"
    )


def _plain(model: nn.Module, architecture: Mapping) -> tuple[nn.Module, str, str | None]:
    """The network itself, what it is called, and its name in a library."""
    from mmrazor_lite.models.classifiers import plain_module, source_of
    from mmrazor_lite.network_names import LIBRARIES
    from mmrazor_lite.walk import kind_of

    module = plain_module(model)
    module.eval()  # some backbones return None from it
    kind = _net(architecture).get("type")
    name = kind if source_of(kind) in LIBRARIES else None
    parts = (kind_of(part) for part in (architecture, architecture.get("backbone")))
    return module, name or " of ".join(filter(None, parts)), name


def _net(architecture: Mapping) -> Mapping:
    """The config of the network itself: what a classifier is put around, where that is all."""
    net = architecture.get("net")
    return net if isinstance(net, Mapping) else architecture


def _preprocessor(section: Mapping, cfg: Any) -> Mapping[str, Any] | None:
    architecture = section.get("architecture")
    places = (section, architecture if isinstance(architecture, Mapping) else {}, cfg)
    return next((place["data_preprocessor"] for place in places if place.get("data_preprocessor")), None)


def _init_weights(model: nn.Module) -> None:
    """Load what ``init_cfg`` names, or draw."""
    from mmengine.model import BaseModule

    from mmrazor_lite.randomness import seeded

    if isinstance(model, BaseModule):
        with seeded(0):
            model.init_weights()


def _load(module: nn.Module, path: str, numbered: str | None = None) -> None:
    """Load the weights of a file; ``numbered`` is the argument that says the number of classes."""
    from mmrazor_lite.checkpoints import MisfitError, load_weights, read_checkpoint

    checkpoint = read_checkpoint(path)
    try:
        load_weights(module, checkpoint, f"--weights {path}")
    except MisfitError as error:
        if error.classifier:
            option = f"{_OPTION}{numbered}=N" if numbered else "--cfg-options, the number of classes of its head"
            raise UserError(f"{error.problem}; all but the classifier fits: give {option}") from None
        if "init_cfg" in str(error):
            raise UserError(f"{error.problem}; save those of this network alone in a file") from None
        raise


def _arguments(options: Sequence[str]) -> dict[str, Any]:
    if not options:
        return {}
    from mmrazor_lite.config import overrides

    found = overrides.parse(options)
    for key in found:
        name = key.removeprefix("model.")
        if not key.startswith("model.") or "." in name:
            raise UserError(f"--cfg-options {key}: with --model give arguments of the network, such as model.width=2")
        if name == "checkpoint_path":
            raise UserError(f"{_OPTION}checkpoint_path: give --weights FILE, which is read without running anything")
    return {key.removeprefix("model."): value for key, value in found.items()}
