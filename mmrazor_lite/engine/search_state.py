"""What a search remembers between its steps, in one JSON file that is replaced after every one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import write_text_atomic

FORMAT = "mmrazor_lite.search/1"
FILE_NAME = "search_state.json"


class SearchState:
    """The memo of evaluated subnets, the steps taken, and what the search depends on.

    Args:
        work_dir: The folder of the file.
        identity: Plain data; a search resumes only when it is the same, key by key.
    """

    def __init__(self, work_dir: str | Path, identity: Mapping[str, Any]) -> None:
        self.path = Path(work_dir) / FILE_NAME
        self.identity = json.loads(json.dumps(dict(identity)))
        self.memo: dict[str, dict[str, float]] = {}
        self.steps: list[dict[str, Any]] = []
        self.searcher: dict[str, Any] | None = None

    def dump(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "format": FORMAT,
            "identity": self.identity,
            "searcher": self.searcher,
            "memo": self.memo,
            "steps": self.steps,
        }

    def save(self) -> None:
        """Write the file, whole or not at all."""
        write_text_atomic(self.path, json.dumps(self.dump()))

    def read(self) -> dict[str, Any] | None:
        """Read and check the file of an earlier run; ``None`` when there is none.

        Raises:
            UserError: It is no search state, or one of a search that differs; says in what.
        """
        if not self.path.is_file():
            return None
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            parts = [data[key] for key in ("identity", "searcher", "memo")]
            complete = data["format"] == FORMAT and all(isinstance(part, dict) for part in parts)
        except (ValueError, KeyError, TypeError):
            complete = False
        if not complete:
            raise UserError(f"{self.path}: not a search state ({FORMAT}); delete it or search without --resume")
        then, now = _flat(data["identity"]), _flat(self.identity)
        differing = [key for key in {**then, **now} if then.get(key) != now.get(key)]
        if differing:
            shown = "; ".join(f"{key} was {_short(then.get(key))}, now {_short(now.get(key))}" for key in differing[:3])
            raise UserError(
                f"{self.path}: cannot resume, this is another search: {shown}; use the same config and checkpoint, or "
                "another --work-dir"
            )
        return data

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take over what :meth:`read` returned."""
        self.memo, self.steps, self.searcher = dict(data["memo"]), list(data["steps"]), dict(data["searcher"])


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict) or not data:
        return {prefix: data}
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat.update(_flat(value, f"{prefix}.{key}" if prefix else key))
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value) if value is not None else "not set"
    return text if len(text) <= 80 else text[:77] + "..."
