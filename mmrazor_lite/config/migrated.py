"""A config file of MMRazor as one of ours: read, translated, named as here, and written as text."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmrazor_lite import shipped
from mmrazor_lite.errors import UserError
from mmrazor_lite.migration import Generation, Translated, translate
from mmrazor_lite.plain_data import copied
from mmrazor_lite.walk import mappings

from . import files, load, names, overrides, schema
from .config_text import as_text


@dataclass(frozen=True)
class Migrated:
    """A config of another form in ours.

    Attributes:
        generation: What it was written for.
        changes: What reads otherwise now, a line each.
        problems: What could not be translated, a line each.
        text: The file.
    """

    generation: Generation
    changes: list[str]
    problems: list[str]
    text: str


def migrated(path: str | os.PathLike, cfg_options: Sequence[str] = ()) -> Migrated:
    """Return the config of ``path`` in our own form, which loads and builds as the file itself does.

    Its bases and ``cfg_options`` are merged into it; helper variables and what the loading of a config adds are not in
    it.

    Raises:
        UserError: It cannot be read, or is of what is not carried.
    """
    path = shipped.resolved(path)
    found = _translated(path, cfg_options)
    problems = list(found.problems)
    if not problems:
        try:
            load.load_config(path, cfg_options)
        except UserError as error:
            problems.append(str(error).removeprefix(f"{path}: "))
    config = _named_as_here({key: value for key, value in found.config.items() if key in schema.TOP_LEVEL})
    head = f"# Written by 'mmrazor-lite migrate' from {os.path.basename(path)}.\n"
    for problem in problems:
        head += f"# To do: {problem}\n"
    if problems:
        head += f"{load.LEFT} = True  # remove this line when it is done\n"
    return Migrated(found.generation, found.changes, problems, f"{head}\n{as_text(config)}")


def _translated(path: str | os.PathLike, cfg_options: Sequence[str]) -> Translated:
    """Return what a file with its options is in our own form, before anything is judged."""
    from mmengine.config import Config

    cfg = load.read(path)
    load.pass_on_data_root(cfg, str(path))
    early, late = overrides.divide(cfg, cfg_options)
    overrides.apply(cfg, early, ours=False)
    found = translate(cfg._cfg_dict, path, files.helpers(str(path)) or ())
    config = Config(dict(found.config))
    overrides.apply(config, late)
    return replace(found, config=config._cfg_dict)


def _named_as_here(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy with the names of classes as configs of ours have them: bare, with mmpretrain's as the default."""
    named: dict[str, Any] = copied(config)
    names.normalise(named)
    if named.get("default_scope") in (None, *names.SCOPES):
        named["default_scope"] = "mmpretrain"
    for _, node in mappings(named):
        name = node.get("type")
        bare = name.removeprefix(names.PREFIXES["mmrazor."]) if isinstance(name, str) else name
        if bare != name and names.renamed(bare) == name:
            node["type"] = bare
        if node.get("_scope_") == named["default_scope"]:
            del node["_scope_"]
    return named
