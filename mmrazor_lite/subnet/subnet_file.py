"""Subnets as files: one format of our own, and readers that recognise MMRazor's by their content."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.fileio import write_text_atomic
from mmrazor_lite.jsonio import is_number
from mmrazor_lite.plain_data import plain
from mmrazor_lite.subnet.choice import at, plain_scalar
from mmrazor_lite.subnet.elastic_stages import plain_size
from mmrazor_lite.subnet.mmrazor import is_units, read_channels, read_chosen, read_modules, read_units
from mmrazor_lite.subnet.mmrazor_ofa import is_mmrazor_ofa, read_mmrazor_ofa
from mmrazor_lite.subnet.net_config import is_net_config, read_net_config, said_size
from mmrazor_lite.subnet.space import SearchSpace, listed
from mmrazor_lite.subnet.subnet import Subnet
from mmrazor_lite.subnet.tfnas_config import is_tfnas_config, read_tfnas_config
from mmrazor_lite.subnet.yamlio import load_yaml

FORMAT = "mmrazor_lite.subnet/1"
NET = "net."  # begins the names of a network that a classifier is around

_KEYS = ("format", "space", "choices", "resources", "score", "made_by")


@dataclass(frozen=True)
class SubnetFile:
    """What a subnet file says; the parts that its format has no place for are empty or ``None``."""

    subnet: Subnet
    resources: dict[str, int | float] = field(default_factory=dict)
    score: dict[str, int | float] | None = None
    made_by: dict[str, Any] | None = None
    path: Path | None = None


def read_subnet(path: str | os.PathLike, space: SearchSpace) -> SubnetFile:
    """Read a subnet of ``space``: our format, OFA's, TF-NAS's, or MMRazor's (channels, mutables, fix_subnet, units).

    Raises:
        UserError: The file is missing or no YAML, in none of these formats, or does not fit the space; names the file.
    """
    path = Path(path)
    return parse_document(load_yaml(path), space, where=str(path), path=path)


def image_size(path: str | os.PathLike) -> int | None:
    """The image size that the file of a subnet of Once-for-All says, or the ``run.config`` beside it.

    None where it says none, or is a file of this project, which names its resolution among its choices.

    Raises:
        UserError: The file, or the one beside it, cannot be read.
    """
    document = load_yaml(Path(path))
    if not isinstance(document, dict) or "format" in document:
        return None
    if is_net_config(document):
        return said_size(document, Path(path))
    entry = document.get("input_shape")
    value = entry.get("chosen") if isinstance(entry, dict) else None
    return plain_size(value)


def parse_document(document: Any, space: SearchSpace, where: str, path: Path | None = None) -> SubnetFile:
    """Judge the plain data of a subnet file, in any of the formats of :func:`read_subnet`.

    Args:
        document: What the YAML holds.
        space: The space the subnet must belong to.
        where: The beginning of error messages, such as the file's name.
        path: Passed on into the result.

    Raises:
        UserError: As :func:`read_subnet`.
    """
    if not isinstance(document, dict) or not document:
        raise UserError(f"{where}: not a subnet file: expected a mapping, got {short(document)}")
    if not all(isinstance(key, str) for key in document):
        odd = next(key for key in document if not isinstance(key, str))
        raise UserError(f"{where}: the key {short(odd)} is not text")
    if "format" in document or "choices" in document:
        return _parse_ours(document, space, where, path)
    keys = {key for entry in document.values() if isinstance(entry, dict) for key in entry}
    if is_tfnas_config(document):
        choices = read_tfnas_config(document, space, where)
    elif is_net_config(document):
        choices = read_net_config(document, space, where, path)
    elif is_mmrazor_ofa(document, space):
        choices = read_mmrazor_ofa(document, space, where)
    elif is_units(document, space):
        choices = read_units(document, space, where)
    elif "chosen" in keys:
        choices = read_chosen(document, space, where)
    elif "out_channels" in keys:
        choices = read_channels(document, space, where)
    elif "modules" in document:
        choices = read_modules(document, space, where)
    else:
        raise UserError(
            f"{where}: not a subnet file: expected '{FORMAT}', or MMRazor's layers with 'out_channels' (0.x), names "
            f"with 'chosen' (0.x, 1.x) or 'modules' (1.0 rc), units with 'choice' (1.x), or a net.config of "
            f"Once-for-All, or a model.config of TF-NAS; found the keys {listed(list(document))}"
        )
    return SubnetFile(space.subnet(space.index(choices, where)), path=path)


def subnet_document(
    subnet: Mapping[str, Any],
    space: SearchSpace,
    resources: Mapping[str, Any] | None = None,
    score: Mapping[str, Any] | None = None,
    made_by: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The plain data of a subnet file; numpy numbers become plain ones. Parts that are ``None`` are left out.

    Raises:
        UserError: ``subnet`` is not one of ``space``.
        ValueError: A resource or score is not a finite number, or ``made_by`` is not plain data.
    """
    row = space.index(subnet)
    # Not the widths that do not matter: those of every operator that is not chosen.
    shown = [c.kind != "width" or on for c, on in zip(space.values(), space.active(row[None])[0], strict=True)]
    choices = {key: value for (key, value), show in zip(space.subnet(row).items(), shown, strict=True) if show}
    document: dict[str, Any] = {"format": FORMAT, "space": space.fingerprint, "choices": choices}
    for key, part in (("resources", resources), ("score", score), ("made_by", made_by)):
        if part is not None:
            document[key] = plain(part, partial(_written, key=key))
    for key in ("resources", "score"):
        for name, value in document.get(key, {}).items():
            if not is_number(value):
                raise ValueError(f"{key}: {name} must be a finite number, got {value!r}")
    return document


def write_subnet(
    path: str | os.PathLike,
    subnet: Mapping[str, Any],
    space: SearchSpace,
    resources: Mapping[str, Any] | None = None,
    score: Mapping[str, Any] | None = None,
    made_by: Mapping[str, Any] | None = None,
) -> None:
    """Write a subnet file, whole or not at all. Equal arguments give equal bytes.

    Raises:
        UserError, ValueError: As :func:`subnet_document`; a file that is there stays as it is.
    """
    write_document(path, subnet_document(subnet, space, resources, score, made_by))


def write_document(path: str | os.PathLike, document: Mapping[str, Any]) -> None:
    """Write what :func:`subnet_document` gives, whole or not at all."""
    text = yaml.safe_dump(dict(document), sort_keys=False, default_flow_style=False, allow_unicode=True, width=120)
    write_text_atomic(path, text)


def _parse_ours(document: dict[str, Any], space: SearchSpace, where: str, path: Path | None) -> SubnetFile:
    version = document.get("format")
    if version != FORMAT:
        problem = "the key 'format' is missing" if version is None else f"format {short(version)} is not known here"
        raise UserError(f"{where}: {problem} (allowed: {FORMAT})")
    for key in document:
        if key not in _KEYS:
            raise UserError(f"{where}: unknown key '{key}'{nearest(key, _KEYS)} (allowed: {', '.join(_KEYS)})")
    choices = document.get("choices")
    if not isinstance(choices, dict):
        raise UserError(f"{where}: 'choices' must map names to values, got {short(choices)}")
    choices, written = _named_as_here(choices, space)
    if "space" in document and document["space"] != written.fingerprint:
        raise UserError(
            f"{where}: a subnet of another space: the file is of {short(document['space'])}, this model has "
            f"'{space.fingerprint}'{_differences(choices, space)}; give the "
            "network that it was made of, at full size: its config, or a fresh module"
        )
    row = space.index(choices, where)
    return SubnetFile(
        subnet=space.subnet(row),
        resources=_numbers(document, "resources", where) or {},
        score=_numbers(document, "score", where),
        made_by=_mapping(document, "made_by", where),
        path=path,
    )


def _named_as_here(choices: dict[str, Any], space: SearchSpace) -> tuple[dict[str, Any], SearchSpace]:
    """The choices of a file by the names of ``space``, and the space by those of the file.

    A classifier around a network holds it as ``net``: what is found for one of them is of the other, too.
    """
    if set(choices) == set(space):
        return choices, space
    theirs, ours = (all(name.startswith(NET) for name in names) for names in (map(str, choices), space))
    if {f"{NET}{name}" for name in choices} == set(space) or (ours and not theirs):
        return {f"{NET}{name}": value for name, value in choices.items()}, space.renamed(_without_net)
    if {f"{NET}{name}" for name in space} == set(choices) or (theirs and not ours):
        return {_without_net(str(name)): value for name, value in choices.items()}, space.renamed(_with_net)
    return choices, space


def _with_net(name: str) -> str:
    return NET + name


def _without_net(name: str) -> str:
    return name.removeprefix(NET)


def _differences(choices: dict[str, Any], space: SearchSpace) -> str:
    unknown = [str(name) for name in choices if name not in space]
    missing = [name for name in space if name not in choices]
    if unknown or missing:
        parts = [("only in the file: ", unknown), ("only in the model: ", missing)]
        return "; " + "; ".join(label + listed(names) for label, names in parts if names)
    for name, choice in space.items():
        try:
            choice.index(choices[name])
        except UserError as error:
            return f"; {error}"
    return "; same names, but other full widths or candidates"


def _mapping(document: dict[str, Any], key: str, where: str) -> dict[str, Any] | None:
    part = document.get(key)
    if part is not None and not isinstance(part, dict):
        raise UserError(f"{where}: '{key}' must be a mapping, got {short(part)}")
    return part


def _numbers(document: dict[str, Any], key: str, where: str) -> dict[str, int | float] | None:
    part = _mapping(document, key, where)
    for name, value in (part or {}).items():
        if not is_number(value):
            raise UserError(f"{at(where)}{key}: {name} must be a plain number, got {short(value)}")
    return part


def _written(value: Any, key: str) -> Any:
    value = os.fspath(value) if isinstance(value, os.PathLike) else plain_scalar(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{key}: {value!r} is not plain data")
