"""Steps whose results are kept on the disk, so that a run that was interrupted goes on behind the last one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.fileio import write_text_atomic
from mmrazor_lite.jsonio import BadJSON, is_number, parse, read_bytes, sealed, unsealed

NAME = "slim_state.json"
FORMAT = "mmrazor_lite.slim_state/1"
T = TypeVar("T")


class Steps:
    """Runs steps, or reads what they gave; each step's result is plain data of JSON.

    Args:
        folder: Where they are kept, in :data:`NAME`; None: nowhere.
        identity: What decides about all of them, as plain data.
        resume: Read what is there; without it, all begins anew.

    Raises:
        UserError: The file is damaged, or its steps are of something else; says what differs.
    """

    def __init__(
        self, folder: Path | None = None, identity: Mapping[str, Any] | None = None, resume: bool = False
    ) -> None:
        self.folder = folder
        self._path = None if folder is None else folder / NAME
        self._identity = _plain(dict(identity or {}))
        self._done: dict[str, Any] = {}
        if resume and self._path is not None and self._path.exists():
            self._done = self._read()
        self._found = frozenset(self._done)

    def _read(self) -> dict[str, Any]:
        try:
            found = unsealed(read_bytes(self._path), numbers=False)
        except BadJSON as error:
            raise UserError(f"{self._path}: {error}; start anew without resume") from None
        if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("steps"), dict):
            raise UserError(f"{self._path}: it holds no steps of a slimming; start anew without resume")
        before = found.get("identity")
        if not isinstance(before, dict):
            raise UserError(f"{self._path}: it does not say of what its steps are; start anew without resume")
        for key, value in self._identity.items():
            if before.get(key) != value:
                raise UserError(
                    f"cannot resume the slimming: {key} was {short(before.get(key))}, now it is {short(value)}; start "
                    "anew in another work directory, or go back to what it was started with"
                )
        return found["steps"]

    def __contains__(self, name: str) -> bool:
        return name in self._done

    def __call__(self, name: str, make: Callable[[], Any], read: Callable[[Any], T] = lambda found: found) -> T:
        """What the step of this name gives; ``make`` is called where it has not run.

        Args:
            name: Of the step.
            make: Gives plain data.
            read: Makes of this data what is returned, and raises any error where it is not what such a step gives: it
                may come from a file.

        Raises:
            UserError: What is kept of the step is no result of it.
        """
        if name not in self._done:
            self._done[name] = _plain(make())  # so that what is read is what was made
            if self._path is not None:
                whole = {"format": FORMAT, "identity": self._identity, "steps": self._done}
                write_text_atomic(self._path, sealed(whole))
        try:
            return read(self._done[name])
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, UserError) as error:
            if name not in self._found:
                raise
            raise UserError(
                f"{self._path}: what it says of the step '{name}' is damaged ({type(error).__name__}); start anew "
                "without resume"
            ) from None


def digest_of(leaves: Iterable[Any]) -> str:
    """A hash of the content of tensors, and of the numbers and words among them."""
    found = hashlib.sha256()
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            found.update(f"{leaf.dtype}{tuple(leaf.shape)}".encode())
            found.update(leaf.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        elif isinstance(leaf, int | float | str | np.generic):
            found.update(repr(leaf).encode())
    return "sha256:" + found.hexdigest()[:16]


def _plain(value: Any) -> Any:
    """What JSON makes of it: what is read later is what was made."""
    return parse(json.dumps(value).encode(), numbers=False)


def numbers(values: Any, count: int) -> np.ndarray:
    """A list of so many numbers, as an array (count,); a None among them is infinite.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(values, list) or len(values) != count or not all(v is None or is_number(v) for v in values):
        raise ValueError(f"expected {count} numbers")
    return np.array([np.inf if value is None else value for value in values], dtype=np.float64)


def lines(values: Any) -> tuple[str, ...]:
    """A list of texts.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("expected texts")
    return tuple(values)
