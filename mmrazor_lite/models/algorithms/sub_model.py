"""One fixed subnet of a searchable architecture, as a plain network: for retraining and for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import nn

from mmrazor_lite.errors import SubnetError, UserError
from mmrazor_lite.models.algorithms.base import Algorithm, Pass
from mmrazor_lite.models.algorithms.construct import at_width, plain_config
from mmrazor_lite.models.algorithms.identity import FIX_SUBNET
from mmrazor_lite.models.algorithms.loading import (
    FROM_SUPERNET,
    load_checked,
    log_loaded,
    or_else,
    refuse_several_widths,
)
from mmrazor_lite.models.algorithms.pretrained import is_pretrained, read_pretrained
from mmrazor_lite.models.algorithms.published import check_net_config
from mmrazor_lite.models.said import check_found, said_by
from mmrazor_lite.registry import MODELS
from mmrazor_lite.subnet import Subnet, SubnetFile, parse_document
from mmrazor_lite.subnet.yamlio import load_yaml

_DEFAULTS = {"mutator": {"type": "NasMutator"}, "input_shape": (3, 224, 224)}


@MODELS.register_module(name=["SubModel", "sub_model"])
class SubModel(Algorithm):
    """Trains or tests one subnet as a plain network: no choice, mask or dynamic layer is left.

    The weights of ``init_cfg`` are loaded when the model is built, strictly and once, so that a test without
    ``init_weights()`` tests them, and training starts from them.

    Args:
        cfg: Config of the architecture, or of an algorithm around it, which also says mutator, input shape and data
            preprocessor; or the architecture as a module.
        fix_subnet: Subnet file in any format that :func:`mmrazor_lite.subnet.read_subnet` knows, or its content.
        mutator: Config of the mutator that makes the architecture searchable; ``NasMutator`` by default.
        input_shape: As for :class:`Algorithm`; (3, 224, 224) by default.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)``, with an empty name for nothing to load, and ``prefix``
            where the file holds more than this model; or mmengine's initialisation.
        init_weight_from_supernet: The file of ``init_cfg`` is a supernet's; the subnet's part of it is taken.
        data_preprocessor: As for :class:`Algorithm`.
        width_mult: Overrides that of an elastic backbone, and the width of the head with it.
        mode: MMRazor's; only ``'mutable'``, the choices by name.
        prefix: What the names of choices here have in front of those in ``fix_subnet``.
        extra_prefix: What the names of choices in ``fix_subnet`` have in front of those here.

    Raises:
        UserError: The subnet file is missing or does not fit, or the weights are of something else.
    """

    kinds = frozenset({"subnet"})

    def __init__(
        self,
        cfg: Mapping | nn.Module,
        fix_subnet: str | os.PathLike | Mapping[str, Any] | None = None,
        mutator: Any = None,
        input_shape: Sequence[int] | None = None,
        init_cfg: Any = None,
        init_weight_from_supernet: bool = False,
        data_preprocessor: Mapping | nn.Module | None = None,
        width_mult: float | None = None,
        mode: str = "mutable",
        prefix: str = "",
        extra_prefix: str = "",
    ) -> None:
        if fix_subnet is None:
            raise UserError(f"{FIX_SUBNET} is missing: give a subnet file, or a checkpoint that carries its subnet")
        if mode != "mutable":
            raise UserError(f"model.mode={mode!r}: only 'mutable' is known, the choices by name; remove it")
        if prefix and extra_prefix:
            raise UserError("model.prefix and model.extra_prefix contradict each other; keep one")
        pretrained, rest = split_init_cfg(init_cfg)
        if init_weight_from_supernet and pretrained is None:
            raise UserError(f"{FROM_SUPERNET}=True needs model.init_cfg=dict(type='Pretrained', checkpoint=SUPERNET)")
        given = {"mutator": mutator, "input_shape": input_shape, "data_preprocessor": data_preprocessor}
        parts = _parts(cfg, given)
        inner = cfg.get("width_mult") if isinstance(cfg, Mapping) and "architecture" in cfg else None
        parts["architecture"] = at_width(parts["architecture"], inner if width_mult is None else width_mult)
        super().__init__(**parts, init_cfg=rest)
        self.mutator.prepare(self.architecture, self.input_shape, any_width=True)
        self.search_space, self.cost_model = self.mutator.search_space, self.mutator.cost_model
        where = FIX_SUBNET if isinstance(fix_subnet, Mapping) else str(fix_subnet)
        with _fitting(fix_subnet):
            document, found = _read(fix_subnet, self.search_space, prefix, extra_prefix)
            check_found(found, self.mutator, where)
        named = isinstance(fix_subnet, (str, os.PathLike))
        self.subnet_option = f"{FIX_SUBNET} ({fix_subnet})" if named else FIX_SUBNET
        self._has_weights = False
        if init_weight_from_supernet:
            self._load(pretrained)
            del self.identity  # that of a supernet
        problem = None
        if pretrained is not None and not init_weight_from_supernet:
            problem = self._load_whole(pretrained)
        self._become_static(found.subnet)
        with _fitting(fix_subnet):
            check_net_config(document, self.architecture, where)
        if pretrained is not None and not self._has_weights:
            with or_else(problem):
                self._load(pretrained)

    def passes(self, step: int) -> list[Pass]:
        """The network as it is, with the labels."""
        return [Pass(None)]

    def named_subnets(self) -> dict[str, Subnet]:
        """Nothing to switch."""
        return {}

    def init_weights(self) -> None:
        """Initialise the weights, unless they were loaded when the model was built."""
        if not self._has_weights:
            super().init_weights()

    def _load_whole(self, config: Mapping[str, Any]) -> UserError | None:
        """Load a plain file that fits the network at full width, of which the subnet then takes its part.

        Not where there are other choices than widths: that network is a supernet, which the config says.

        Returns:
            Why it does not fit, if that was tried.
        """
        if any(choice.kind != "width" for choice in self.search_space.values()):
            return None
        checkpoint, path = read_pretrained(config, type(self).__name__), str(config["checkpoint"])
        if said_by(checkpoint):
            return None  # it says what it is of
        try:
            refuse_several_widths(self, checkpoint, path)
            self._take(config, checkpoint, path)
        except UserError as error:
            return error
        finally:
            vars(self).pop("identity", None)  # that of a supernet
        print_log(f"{path}: of the full width; the subnet has its part of it", logger="current")
        return None

    def _load(self, config: Mapping[str, Any]) -> None:
        checkpoint, path = read_pretrained(config, type(self).__name__), config["checkpoint"]
        self._take(config, checkpoint, str(path))

    def _take(self, config: Mapping[str, Any], checkpoint: Mapping[str, Any], path: str) -> None:
        reset_head = bool(config.get("reset_head"))
        if reset_head:
            super().init_weights()
        load_checked(self, checkpoint, path, reset_head)
        log_loaded(self.architecture, path)
        self._has_weights = self.is_init = True  # mmengine's init_weights() would load or draw others over them


@contextmanager
def _fitting(fix_subnet: Any) -> Iterator[None]:
    """Tell errors of a subnet that has no file as :class:`SubnetError`."""
    try:
        yield
    except UserError as error:
        if isinstance(fix_subnet, Mapping):
            raise SubnetError(*error.args) from error
        raise


def split_init_cfg(init_cfg: Any) -> tuple[dict[str, Any] | None, list | None]:
    """Return the ``Pretrained`` entry that names a file, or None, and the other entries."""
    entries = [init_cfg] if isinstance(init_cfg, Mapping) else list(init_cfg or ())
    pretrained = [dict(entry) for entry in entries if is_pretrained(entry) and entry.get("checkpoint")]
    if len(pretrained) > 1:
        raise UserError(f"model.init_cfg names {len(pretrained)} checkpoints; keep one")
    rest = [entry for entry in entries if not is_pretrained(entry)]
    return (pretrained[0] if pretrained else None), rest or None


def _parts(cfg: Mapping | nn.Module, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of :class:`Algorithm`: those given, then those of an algorithm's config, then the defaults.

    Raises:
        UserError: ``cfg`` is the config of a subnet itself.
    """
    inner = cfg if isinstance(cfg, Mapping) and "architecture" in cfg else {}
    if isinstance(cfg, Mapping) and "cfg" in cfg:
        raise UserError("model.cfg is itself the config of a subnet; give its architecture, or the supernet's config")
    found = {"architecture": inner["architecture"] if inner else cfg}
    for key, value in given.items():
        values = (value, inner.get(key), _DEFAULTS.get(key))
        found[key] = next((item for item in values if item is not None), None)
    return found


def _read(source: Any, space: Any, prefix: str, extra_prefix: str) -> tuple[Any, SubnetFile]:
    """Read a subnet from a file or from its content, with the prefixes of names that MMRazor's loader knows.

    Returns:
        The plain data, and the subnet.
    """
    path = None if isinstance(source, Mapping) else Path(source)
    where = FIX_SUBNET if path is None else str(source)
    document = plain_config(source) if path is None else load_yaml(path)
    if (prefix or extra_prefix) and isinstance(document, Mapping) and "format" not in document:
        document = {f"{prefix}{str(key).removeprefix(extra_prefix)}": entry for key, entry in document.items()}
    return document, parse_document(document, space, where=where, path=path)
