"""The one door from a config of any generation to our own form."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmrazor_lite.plain_data import copied

from . import v0, v1
from .generation import Generation, generation_of, mixed
from .told import Told

# From a copy of a config, which it may change, the file it is of and the names of its helper variables; what is changed
# or cannot be is told.
Half = Callable[[dict[str, Any], str, Collection[str], Told], dict[str, Any]]

_HALVES: dict[Generation, Half] = {"0.x": v0.translated, "1.x": v1.translated}


@dataclass(frozen=True)
class Translated:
    """A config in our own form, and what became of it.

    Attributes:
        config: The config; the one passed in where it is ours already. Helper variables stay in it.
        generation: What it was written for.
        changes: One line for every key that reads otherwise now: ``"old -> new"``, with keys as --cfg-options has them.
        problems: One for every key that cannot be translated: ``"KEY: why; what to do"``. A config that has problems
            is not to be run.
    """

    config: Mapping[str, Any]
    generation: Generation = "own"
    changes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def translate(config: Mapping[str, Any], file: str | os.PathLike, helpers: Collection[str] = ()) -> Translated:
    """Return a config of MMRazor 0.x, of 1.x or of ours in our own form.

    Nothing is built or imported, nothing but what the config names is read (the units file of a slimmable network), and
    ``config`` stays as it is. Names of classes need no prefix yet, see ``config.names``.

    Args:
        config: As it was read, with its bases merged and the user's overrides in it.
        file: Where it was read from; what it names is looked for as the config says, in the current directory.
        helpers: Its top-level names that its own files use.
    """
    generation = generation_of(config, helpers)
    if generation == "own":
        return Translated(config)
    told = Told()
    if problem := mixed(config, helpers):
        told.problem(problem)
        return Translated(config, generation, problems=told.problems)
    result = _HALVES[generation](copied(config), os.fspath(file), helpers, told)
    return Translated(result, generation, told.changes, told.problems)
