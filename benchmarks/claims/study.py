"""The numbers of the study, and the options that change them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("study.yaml")


def read_study(changes: Sequence[str] = (), tiny: bool = False) -> dict[str, Any]:
    """Read ``study.yaml`` with ``SECTION.KEY=VALUE`` changed; ``tiny`` is for tests.

    Raises:
        SystemExit: A change of what the file does not have.
    """
    study = yaml.safe_load(FILE.read_text())
    small = study.pop("tiny")
    for section in small if tiny else ():
        study[section].update(copy.deepcopy(small[section]))
    for change in changes:
        path, equals, text = change.partition("=")
        section, _, key = path.partition(".")
        if not equals or not isinstance(study.get(section), Mapping) or key not in study[section]:
            keys = ", ".join(f"{section}.{key}" for section, values in study.items() for key in values)
            raise SystemExit(f"error: --set {change}: give SECTION.KEY=VALUE, one of {keys}")
        study[section][key] = yaml.safe_load(text)
    return study


def only(section: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """What a job's figures depend on, of a section."""
    return {key: section[key] for key in keys}
