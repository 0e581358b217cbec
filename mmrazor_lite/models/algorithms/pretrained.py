"""``init_cfg=dict(type='Pretrained', ...)`` through our reader: mmengine's would unpickle whatever the file holds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log
from mmengine.model.weight_init import PretrainedInit
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms.identity import check_computation
from mmrazor_lite.models.algorithms.preprocessing import otherwise, preprocessing
from mmrazor_lite.registry import SCOPE
from mmrazor_lite.subnet import Subnet

FROM_SUPERNET = "model.init_weight_from_supernet"
_KEYS = ("type", "checkpoint", "prefix", "weights", "reset_head", "map_location", "_scope_")


def take_pretrained(model: nn.Module) -> list[tuple[nn.Module, dict[str, Any]]]:
    """Remove the ``Pretrained`` entries from the ``init_cfg`` of every module, and return them, innermost first."""
    taken = []
    for module in model.modules():
        entries = _entries(getattr(module, "init_cfg", None))
        pretrained = [entry for entry in entries if is_pretrained(entry)]
        if pretrained:
            module.init_cfg = [entry for entry in entries if not is_pretrained(entry)]
            taken += [(module, dict(entry)) for entry in pretrained]
    return taken[::-1]


def is_pretrained(config: Any) -> bool:
    """Whether an ``init_cfg`` entry names a checkpoint file."""
    kind = config.get("type") if isinstance(config, Mapping) else None
    return kind is PretrainedInit or str(kind).rsplit(".", 1)[-1] == "Pretrained"


def has_pretrained(model: nn.Module) -> bool:
    """Whether :meth:`init_weights` of ``model`` reads a checkpoint file."""
    configs = (getattr(module, "init_cfg", None) for module in model.modules())
    return any(is_pretrained(entry) for config in configs for entry in _entries(config))


@dataclass(frozen=True)
class Whole:
    """The network of full width that a subnet was taken out of, kept until the subnet has its weights.

    Attributes:
        architecture: Prepared by ``mutator``.
        mutator: Cuts the subnet out of it.
        subnet: The one.
    """

    architecture: nn.Module
    mutator: Any
    subnet: Subnet

    def load(self, path: str, checkpoint: Mapping[str, Any], where: str, reset_head: bool) -> dict[str, Tensor]:
        """Load weights of full width into the module ``path`` of the network; return those of the subnet's.

        Raises:
            UserError: They are of something else, or hold batch norms of several widths.
        """
        from mmrazor_lite.export.checkpoint import load_weights

        if reset_head:  # the subnet's classifier is a part of a new one
            take_pretrained(self.architecture)
            getattr(self.architecture, "init_weights", lambda: None)()
        refuse_several_widths(self.architecture, checkpoint, where)
        load_weights(self.architecture.get_submodule(path), checkpoint, where, reset_head)
        return self.mutator.export(self.subnet).get_submodule(path).state_dict()


def refuse_several_widths(model: nn.Module, checkpoint: Mapping[str, Any], where: str) -> None:
    """Refuse to slice a file that holds batch norms of several widths, unlike ``model``: those of one fit no other.

    Raises:
        UserError: It does; ``where`` names it.
    """
    from mmrazor_lite.export.checkpoint import state_dict_of
    from mmrazor_lite.export.layouts import of_several_widths

    if of_several_widths(state_dict_of(checkpoint, where)) and not of_several_widths(model.state_dict()):
        raise UserError(
            f"{where}: holds batch norms of several widths; list them as algorithm.channel_cfg=[...], and split"
        )


@contextmanager
def or_else(problem: UserError | None) -> Iterator[None]:
    """Of a file that fits neither the full width, see ``problem``, nor the subnet, tell the shorter story."""
    try:
        yield
    except UserError as error:
        if problem is not None and len(str(problem)) < len(str(error)):
            raise problem from None
        raise


def load_pretrained(
    module: nn.Module,
    config: Mapping[str, Any],
    computation: Mapping[str, Any] | None = None,
    part: str | None = None,
    whole: Whole | None = None,
) -> None:
    """Load the file of a ``Pretrained`` entry into ``module``, strictly.

    Args:
        module: A network, or a part of one.
        config: The entry.
        computation: What the network computes; a file that says its own is compared.
        part: Name of ``module`` in the network, where it is a part.
        whole: Where the network is one subnet of another: weights of the full width fit too, and are sliced.

    Raises:
        UserError: An unknown key, no file, or one that does not fit.
    """
    from mmrazor_lite.export.checkpoint import load_weights, state_dict_of
    from mmrazor_lite.export.fitting import fit

    path, content = config["checkpoint"], read_pretrained(config, type(module).__name__)
    ours = content["meta"].get(SCOPE)
    taken = str(config.get("prefix") or "").rstrip(".").removeprefix("architecture.")
    if isinstance(ours, Mapping) and taken in ("", part):
        if whole is None:  # other names and shapes say more
            fit(module, state_dict_of(content, path), str(path), bool(config.get("reset_head")))
        check_computation(ours.get("computation"), computation, str(path), part)
    reset_head, problem = bool(config.get("reset_head")), None
    if whole is not None:
        try:
            state = whole.load(part or "", content, path, reset_head)
            load_weights(module, {"state_dict": state}, path)
            print_log(f"{path}: of the full width; the subnet has its part of it", logger="current")
        except UserError as error:
            problem = error
    if whole is None or problem is not None:
        with or_else(problem):
            load_weights(module, content, path, reset_head)
    log_loaded(module, path)


def read_pretrained(config: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Read the file of a ``Pretrained`` entry: ``state_dict``, of ``prefix`` where one is given, and ``meta``.

    Args:
        config: The entry: ``checkpoint``; ``weights``, the entry of the file that holds them, where it has several;
            ``prefix``, where it holds more than this module; ``reset_head=True`` to leave out the classifier.
        owner: Whose ``init_cfg`` it is, for errors.

    Raises:
        UserError: An unknown key, no file, or no weight with the prefix.
    """
    from mmrazor_lite.export.checkpoint import log_taken, read_checkpoint, state_dict_of
    from mmrazor_lite.export.layouts import PREFIXES, short_names

    _check_entry(config, owner)
    path = config["checkpoint"]
    checkpoint = read_checkpoint(path)
    state = state_dict_of(checkpoint, path, config.get("weights"))
    log_taken(checkpoint, path, config.get("weights"))
    prefix = config.get("prefix")
    if prefix:
        prefix = prefix.rstrip(".") + "."
        for names in ({key: key for key in state}, short_names(state, str(path), ("module.",))):
            part = {key.removeprefix(prefix): state[name] for key, name in names.items() if key.startswith(prefix)}
            if part:
                break
        if not part and prefix not in PREFIXES:  # those are ignored anyway, so a plain file may lack them
            raise UserError(f"{path}: no weight starts with init_cfg.prefix={config['prefix']!r}")
        state = part or state
    meta = checkpoint.get("meta")
    return {"state_dict": state, "meta": meta if isinstance(meta, Mapping) else {}}


def _check_entry(config: Mapping[str, Any], owner: str) -> None:
    unknown = [key for key in config if key not in _KEYS]
    if unknown or not config.get("checkpoint"):
        what = f"unknown key {unknown[0]!r}" if unknown else "no checkpoint"
        raise UserError(f"init_cfg of {owner}: {what}; allowed are {', '.join(_KEYS[:5])}")
    for key, kind, name in (("checkpoint", str | os.PathLike, "a path"), ("prefix", str, "text"),
                            ("weights", str, "text"), ("reset_head", bool, "True or False")):  # fmt: skip
        if config.get(key) is not None and not isinstance(config[key], kind):
            raise UserError(f"init_cfg of {owner}: {key}={str(config[key])[:80]!r} must be {name}")


def load_checked(algorithm: Any, checkpoint: Mapping[str, Any], where: str, reset_head: bool = False) -> None:
    """Load a checkpoint into an algorithm after a look at what it says it holds; ``where`` names it.

    Args:
        algorithm: What the weights are for.
        checkpoint: What a file holds.
        where: Names it.
        reset_head: Leave out the classifier.

    Raises:
        UserError: It holds something else, or does not fit; the algorithm is as it was.
    """
    from mmrazor_lite.export.checkpoint import check_space, load_weights

    meta = checkpoint.get("meta")
    if isinstance(meta, Mapping):
        identity = algorithm.identity
        check_space(algorithm, checkpoint, where, identity.kind, identity.space.fingerprint)
        algorithm.check_meta(meta.get(SCOPE), where)
    else:
        algorithm.check_meta(None, where)
    algorithm.prepared_otherwise = _prepared_otherwise(algorithm, meta, where)
    try:
        load_weights(algorithm, checkpoint, where, reset_head)
    except UserError:
        _check_operators(algorithm, checkpoint, where)
        raise
    algorithm.data = data_of(checkpoint)


def data_of(checkpoint: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a checkpoint says of the images that its weights were trained on."""
    meta = checkpoint.get("meta")
    ours = meta.get(SCOPE) if isinstance(meta, Mapping) else None
    return ours.get("data") if isinstance(ours, Mapping) else None


def _prepared_otherwise(algorithm: Any, meta: Any, where: str) -> str | None:
    """What to say where a file's network saw images that were prepared in another way than the config says."""
    ours = meta.get(SCOPE) if isinstance(meta, Mapping) else None
    if not isinstance(ours, Mapping):
        return None
    said = ours.get("preprocessing") or ours.get("data_preprocessor")  # files of before have the config alone
    found = otherwise(said, preprocessing(getattr(algorithm, "data_preprocessor", None)))
    return found and f"{where}: its network was trained on images that were prepared otherwise: {found}"


def _check_operators(algorithm: Any, checkpoint: Mapping[str, Any], where: str) -> None:
    """Tell a supernet of operators from a subnet by its weights, which do not fit: others do not say what they hold."""
    from mmrazor_lite.export.checkpoint import state_dict_of
    from mmrazor_lite.export.layouts import operators

    def is_supernet(state: Mapping[str, Any]) -> bool:
        return any(len(names) > 1 for names in operators(state).values())

    found, wanted = is_supernet(state_dict_of(checkpoint, where)), is_supernet(algorithm.state_dict())
    says = checkpoint.get("meta")
    if found == wanted or (isinstance(says, Mapping) and says.get(SCOPE)):
        return  # or its meta is checked, and tells more
    if found:
        raise UserError(
            f"{where} holds a supernet (several operators for a choice), the config asks for one subnet; give it as "
            f"model.init_cfg.checkpoint with {FROM_SUPERNET}=True, which takes the subnet's part of it"
        )
    raise UserError(
        f"{where} holds one subnet, the config asks for a supernet (several operators for a choice); it is for a "
        f"subnet's config (model.type='sub_model'), with {FROM_SUPERNET}=False"
    )


def log_loaded(module: nn.Module, path: str) -> None:
    """Log which file was loaded, with its hash."""
    from mmrazor_lite.export.checkpoint import checkpoint_hash

    print_log(f"loaded {path} (sha256 {checkpoint_hash(path)}) into {type(module).__name__}", logger="current")


def _entries(configs: Any) -> list:
    return [configs] if isinstance(configs, Mapping) else list(configs or ())
