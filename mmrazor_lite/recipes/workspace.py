"""The folder of a recipe: each command fills a part of it; what is done is not run again, what was cut off goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmrazor_lite import jsonio
from mmrazor_lite.errors import UserError
from mmrazor_lite.folder_lock import hold

from .steps import TOP1, CommandLine, run_step


class Workspace:
    """The folder of a recipe, whose commands run in one process, which reads the images once.

    Args:
        cli: Runs the commands.
        work: Folder of the recipe.
        settings: What its results depend on, as plain data; a folder of other settings is refused.
        amp: Train in mixed precision.

    Attributes:
        commands: What was run, or would have been, by the name of the piece.

    Raises:
        UserError: The folder holds the pieces of a recipe with other settings, or a damaged file.
    """

    def __init__(self, cli: CommandLine, work: Path, settings: dict[str, Any], amp: bool = False) -> None:
        from mmrazor_lite.fileio import write_text_atomic

        self.cli, self.work, self.amp = cli, work, amp
        hold(work, "recipe")
        self.commands: dict[str, str] = {}
        path = work / "settings.json"
        if path.is_file():
            before = _mapping(path)
            keys = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
            if keys:
                was, now = ({key: side.get(key) for key in keys} for side in (before, settings))
                raise UserError(
                    f"'{work}' holds the pieces of other settings ({was}, now {now}): give the same, or another "
                    "--work-dir"
                )
        work.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path, json.dumps(settings, indent=2) + "\n")
        self.seconds()  # damage shows now, not after a training

    def train(self, name: str, config: str, epochs: int, seed: int, options: Sequence[str]) -> Path:
        """Train to the end of ``epochs`` and return the last checkpoint."""
        folder = self.work / name
        checkpoint = folder / f"epoch_{epochs}.pth"
        flags = ["--seed", seed, "--resume", *["--amp"] * self.amp]
        command = ["train", config, "--work-dir", folder, *flags, "--cfg-options", *options]
        self.run(name, command, checkpoint.is_file())
        return checkpoint

    def search(self, name: str, config: str, checkpoint: Path, options: Sequence[str]) -> Path:
        """Search to the first budget and return its subnet file."""
        folder = self.work / name
        log = folder / "search_log.json"
        command = ["search", config, checkpoint, "--work-dir", folder, "--resume", "--cfg-options", *options]
        self.run(name, command, log.is_file() and bool(_results(log)))
        return folder / _results(log)[0]["file"]

    def test(self, name: str, config: str, checkpoint: Path, options: Sequence[str]) -> dict[str, float]:
        """Test a checkpoint of a piece and return the metrics."""
        out = self.work / name / "test.json"
        folder = self.work / name / "test"
        command = ["test", config, checkpoint, "--work-dir", folder, "--out", out, "--cfg-options", *options]
        self.run(f"{name}, test", command, out.is_file())
        metrics = _mapping(out)
        if not jsonio.is_number(metrics.get(TOP1)):
            raise _damaged(out, f"it has no number '{TOP1}'")
        return metrics

    def curve(self, name: str) -> dict[int, float]:
        """Return epoch -> top-1 accuracy of the validations of a training, those before an interruption too."""
        found: dict[int, float] = {}
        for path in sorted((self.work / name).glob("*/vis_data/scalars.json")):
            for line in path.read_text(encoding="utf-8").splitlines():
                values = _parsed(line)
                if jsonio.is_number(values.get(TOP1)) and jsonio.is_number(values.get("step")):
                    found[int(values["step"])] = values[TOP1]
        return found

    def seconds(self) -> dict[str, int]:
        """Return the seconds of each piece; of one that was cut off, those of its last start."""
        path = self.work / "seconds.json"
        found = _mapping(path) if path.is_file() else {}
        if not all(map(jsonio.is_number, found.values())):
            raise _damaged(path, "it must hold numbers of seconds")
        return found

    def run(self, name: str, words: Sequence[Any], done: bool) -> None:
        """Run a command as the piece ``name``, where it is not ``done``."""
        from mmrazor_lite.fileio import write_text_atomic

        self.commands[name] = " ".join(map(str, ["mmrazor-lite", *words]))
        if done:
            return
        began = time.monotonic()
        run_step(self.cli, name, *words)
        known = {**self.seconds(), name: round(time.monotonic() - began)}
        write_text_atomic(self.work / "seconds.json", json.dumps(known, indent=2) + "\n")


def _parsed(line: str) -> dict[str, Any]:
    """The values of one line; a kill may have cut it off."""
    try:
        found = jsonio.parse(line.encode())
    except jsonio.BadJSON:
        return {}
    return found if isinstance(found, dict) else {}


def _results(log: Path) -> list[dict[str, Any]]:
    """What a search has found so far."""
    results = _mapping(log).get("results")
    entries = results if isinstance(results, list) else [None]
    if not all(isinstance(entry, dict) and _is_name(entry.get("file")) for entry in entries):
        raise _damaged(log, "'results' must be a list with the name of a 'file' in each entry")
    return entries


def _mapping(path: Path) -> dict[str, Any]:
    try:
        found = jsonio.parse(jsonio.read_bytes(path))
    except jsonio.BadJSON as error:
        raise _damaged(path, f"it is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise _damaged(path, "it is no mapping")
    return found


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and Path(value).name == value


def _damaged(path: Path, problem: str) -> UserError:
    return UserError(f"'{path}' is truncated or was edited ({problem}): delete it and give the same command again")
