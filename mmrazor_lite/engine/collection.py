"""A data set of subnets and their scores, in one file that grows line by line.

The file is JSON lines: the first one says which space, supernet and evaluation the scores are of, every other one is a
subnet: ``{"choices": {...}, "macs": 1234, "metrics": {"accuracy/top1": 71.2, "score": 71.2}}``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, broadcast_object_list, get_dist_info
from mmengine.logging import print_log

from mmrazor_lite.engine.evaluator import SubnetEvaluator
from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import write_text_atomic
from mmrazor_lite.subnet import SearchSpace

FORMAT = "mmrazor_lite.scores/1"


class Collection:
    """Subnets that were evaluated, and the file that they are in.

    Args:
        path: The file.
        space: The search space.
        about: What else the scores depend on, plain data, such as the hash of the supernet; None accepts any.

    Raises:
        UserError: The file is of another space or supernet, or none of these.
    """

    def __init__(self, path: str | os.PathLike, space: SearchSpace, about: Mapping[str, Any] | None = None) -> None:
        self.path, self.space = Path(path), space
        self.header = {"format": FORMAT, "space": space.fingerprint, **json.loads(json.dumps(dict(about or {})))}
        self.rows: list[np.ndarray] = []
        self.metrics: list[dict[str, float]] = []
        if self.path.exists():
            self._read(about is not None)

    @property
    def scores(self) -> np.ndarray:
        """The scores (n,)."""
        return np.array([metrics["score"] for metrics in self.metrics])

    def add(self, row: np.ndarray, macs: int, metrics: Mapping[str, float]) -> None:
        """Append one subnet; it is on disk when this returns."""
        entry = {"choices": self.space.subnet(row).to_dict(), "macs": macs, "metrics": dict(metrics)}
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomic(self.path, json.dumps(self.header) + "\n")
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows.append(row)
        self.metrics.append(dict(metrics))

    def _read(self, strict: bool) -> None:
        text = self.path.read_text(encoding="utf-8")
        lines = text.split("\n")
        whole = lines[:-1]  # a line without its end is half of one, of a run that was killed
        try:
            header = json.loads(whole[0]) if whole else {}
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise ValueError
            entries = [json.loads(line) for line in whole[1:]]
            for entry in entries:
                self.rows.append(self.space.index(entry["choices"], str(self.path)) if self._same(header) else None)
                self.metrics.append({str(k): float(v) for k, v in entry["metrics"].items()})
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{self.path}: not a collection of scores ({FORMAT}); give another file, or delete it"
            ) from None
        wanted = self.header if strict else {"space": self.space.fingerprint}
        for key, mine in wanted.items():
            if header.get(key) != mine:
                raise UserError(
                    f"{self.path}: collected with another {key} ({header.get(key)}, now {mine}); give another file, "
                    "or the config and checkpoint it was collected with"
                )
        self.header = header
        if lines[-1]:
            write_text_atomic(self.path, "\n".join(whole) + "\n")

    def _same(self, header: Mapping[str, Any]) -> bool:
        return header.get("space") == self.space.fingerprint


def collect(evaluator: SubnetEvaluator, collection: Collection, cost: Any, number: int, seed: int = 0) -> None:
    """Evaluate random subnets until ``collection`` holds ``number``; all are different.

    The n-th subnet follows from the seed alone, so that a run that was killed goes on with the same ones. The processes
    share the subnets; the first one writes.
    """
    rank, world_size = get_dist_info()
    space = collection.space
    known = [[row.tolist() for row in collection.rows] if rank == 0 else None]
    broadcast_object_list(known)
    wanted = _draw(space, number, seed)
    if len(wanted) < number:
        raise UserError(f"the search space has {len(wanted)} subnets, {number} were asked for; give a smaller number")
    have = {tuple(row) for row in known[0]}
    missing = [row for row in wanted if tuple(row.tolist()) not in have][: max(0, number - len(have))]
    for start in range(0, len(missing), world_size):
        mine = missing[start : start + world_size][rank : rank + 1]
        found = [(row, evaluator.evaluate(space.subnet(row))) for row in mine]
        for part in all_gather_object(found):
            for row, metrics in part:
                if rank == 0:
                    collection.add(row, int(cost(row[None])["macs"][0]), metrics)
        if rank == 0 and (start // world_size) % 10 == 0:
            done = len(collection.rows)
            print_log(f"collect: {done} of {number} subnets, score {metrics['score']:.2f}", logger="current")


def _draw(space: SearchSpace, number: int, seed: int) -> list[np.ndarray]:
    """The first ``number`` different subnets of a seed, or all there are."""
    rng = np.random.default_rng(seed)
    found: dict[bytes, np.ndarray] = {}
    for _ in range(64):
        for row in space.sample_indices(rng, number):
            found.setdefault(row.tobytes(), row)
        if len(found) >= number:
            break
    return list(found.values())[:number]
