"""Every documented key of a config with absurd values: which keys there are, which values, and what a run shows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmrazor_lite.checkpoints import read_checkpoint
from mmrazor_lite.config import schema
from mmrazor_lite.config.annotations import parameters_of

# As typed after KEY=: text, numbers of every kind, nothing, too much.
ABSURD = {
    "word": "banana",
    "negative": "-5",
    "zero": "0",
    "huge": "1" + "0" * 30,
    "huge float": "1e30",
    "nan": "nan",
    "infinite": "-inf",
    "digits": "9" * 5000,
    "empty": "",
    "empty list": "[]",
    "empty dict": "dict()",
    "list of words": "[banana,banana]",
    "nested": "[" * 100 + "]" * 100,
    "flag": "True",
    "path": "/dev/null/file.pth",  # which nobody can make, root neither
    "long": "x" * 10_000,
    "lines": "banana\nsplit",
    "dict": "dict(banana=1)",
    "type": "dict(type=banana)",
    "negative zero": "-0.0",
    "too small": "1e-400",
    "list of zero": "[0]",
}
_FROM_CODE = frozenset("self runner dataloader evaluator algorithm optimizer space cost budgets constraints".split())
_DOCUMENTED = ("mmrazor_lite", "mmengine.runner", "mmengine.hooks", "mmpretrain.evaluation")
_STAMP = re.compile(r"\d{8}_\d{6}(_\d+)?")


def keys_of(cfg: Mapping[str, Any]) -> list[str]:
    """Every key of a config, and every other one that a section of it may have, in order."""
    found = {".".join(path): None for path in _paths(cfg, ())}
    return [key for key in found if key.partition(".")[0] in schema.TOP_LEVEL]


def _paths(node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if path:
        yield path
    if isinstance(node, Mapping):
        if not path or path[-1] not in schema.FREE:
            yield from ((*path, key) for key in sorted(_documented(node, path) - node.keys()))
        for key, value in node.items():
            yield from _paths(value, (*path, str(key)))
    elif isinstance(node, list | tuple) and any(isinstance(part, Mapping) for part in node):
        for index, value in enumerate(node):
            yield from _paths(value, (*path, str(index)))


def _documented(node: Mapping[str, Any], path: tuple[str, ...]) -> set[str]:
    """The keys that the documentation of a section names: those of the tables, and the arguments of our classes."""
    names = set(schema.allowed_keys(node, path) or ()) if not path or path[-1] in schema.PLAIN else set()
    if path and path[-1].endswith("dataloader"):
        names |= schema.DATALOADER
    for name in [node["type"]] if node.get("type") else schema.DEFAULT_TYPES.get(path, ()):
        for _, built in schema.find(name):
            if getattr(built, "__module__", "").startswith(_DOCUMENTED):
                names |= set(parameters_of(built)) - _FROM_CODE
    return {name for name in names if not name.startswith("_")}


def is_default(cfg: Any, key: str) -> bool:
    """Whether the value of a key is the default of the argument that it sets: then it asks for nothing else."""
    *parents, last = key.split(".")
    for part in parents:
        cfg = cfg[int(part)] if isinstance(cfg, list | tuple) else cfg[part]
    types = [cfg["type"]] if isinstance(cfg, Mapping) and cfg.get("type") else schema.DEFAULT_TYPES.get((*parents,), ())
    defaults = [parameters_of(built).get(last, (None, None))[1] for name in types for _, built in schema.find(name)]
    return any(type(default) is type(cfg[last]) and default == cfg[last] for default in defaults)


def shown(folder: Path) -> dict[str, Any]:
    """What a run in ``folder`` has come to, without times: files, what the checkpoints hold, scalars, the log."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        "files": [_STAMP.sub("T", str(path.relative_to(folder))) for path in files],
        "states": [_digest(read_checkpoint(path)) for path in files if path.suffix == ".pth"],
        "results": [path.read_text() for path in files if path.suffix == ".yaml"],
        "scalars": [_scalars(path) for path in files if path.name == "scalars.json"],
        "log": [line for path in files if path.suffix == ".log" for line in _lines(path.read_text())],
    }


def found(folder: Path) -> dict[str, Any]:
    """What a search in ``folder`` has come to, without times: its results and weights, and what it chose on the way."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    steps = (
        json.loads((folder / "search_log.json").read_text())["steps"] if (folder / "search_log.json").exists() else []
    )
    return {
        "states": [_digest(read_checkpoint(path)) for path in files if path.suffix == ".pth"],
        "results": [path.name + path.read_text() for path in files if path.suffix == ".yaml" or path.stem == "front"],
        "steps": [{key: value for key, value in step.items() if key != "seconds"} for step in steps],
    }


def _digest(content: Any) -> str:
    """A hash of tensors and plain values, whatever order they were pickled in."""
    import torch

    def told(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
        if isinstance(value, Mapping):
            return {str(key): told(part) for key, part in value.items()}
        return [told(part) for part in value] if isinstance(value, list | tuple) else repr(value)

    return hashlib.sha256(json.dumps(told(content), sort_keys=True).encode()).hexdigest()


def _scalars(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in values.items() if "time" not in key} for values in found]


def _lines(text: str) -> Iterator[str]:
    """The lines of a log without the dump of the config, in which every change shows, and without times."""
    skipping = False
    for line in text.splitlines():
        stamped = re.match(r"\d{4}/\d\d/\d\d [\d:]+ - \w+ - (\w+) - (.*)", line)
        if stamped:
            skipping = stamped[2].strip() in ("", "Config:") or "environment" in stamped[2]
            line = f"{stamped[1]} {stamped[2]}"
        if not skipping:
            yield re.sub(r"(time|eta|memory|sha256):? \S+|/\S+|[\d.]+ (s|img/s)", "", _STAMP.sub("T", line))
