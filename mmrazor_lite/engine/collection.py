"""A data set of subnets and their scores, in one file that grows line by line.

The file is JSON lines: the first one says which space, supernet and evaluation the scores are of, every other one is a
subnet: ``{"choices": {...}, "macs": 1234, "metrics": {"accuracy/top1": 71.2, "score": 71.2}, "crc": "0a1b2c3d"}``. The
checksum of a line may be missing, and is compared where it is there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, broadcast_object_list, get_dist_info
from mmengine.logging import print_log

from mmrazor_lite.engine.evaluator import SubnetEvaluator
from mmrazor_lite.engine.progress import StepProgress
from mmrazor_lite.errors import UserError, short
from mmrazor_lite.jsonio import JSONLines, is_number
from mmrazor_lite.plain_data import plain
from mmrazor_lite.search import Cost
from mmrazor_lite.subnet import SearchSpace

FORMAT = "mmrazor_lite.scores/1"
MOST_BYTES = 256 << 20
LARGEST_SCORE = 1e9  # whatever the metric: more is no score, and would drown all others
_KEYS = {"choices", "macs", "metrics"}


class Collection:
    """Subnets that were evaluated, and the file that they are in; each of them once.

    Args:
        path: The file.
        space: The search space.
        about: What else the scores depend on, plain data, such as the hash of the supernet; None accepts any.
        cost: Of the network; what the file says of the macs is compared with it.
        checkpoint: Where the supernet is, for people and for what comes next; not compared.

    Raises:
        UserError: The file is of another space, supernet or network, or none of these; a line that is damaged, or
            whose subnet has another score in another line.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        space: SearchSpace,
        about: Mapping[str, Any] | None = None,
        cost: Cost | None = None,
        checkpoint: str | None = None,
    ) -> None:
        self.space = space
        self._checkpoint = {} if checkpoint is None else {"checkpoint": str(checkpoint)}
        self._lines = JSONLines(
            path, f"a collection of scores ({FORMAT})", "give another file, or delete it", MOST_BYTES
        )
        self.path = self._lines.path
        self.header = {"format": FORMAT, "space": space.fingerprint, **plain(about or {})}
        self.rows: list[np.ndarray] = []
        self.metrics: list[dict[str, float]] = []
        self._begun = False
        content = self._lines.read()
        if content is not None:
            self._check_header(content[0], strict=about is not None)
            self._fill(content[1], cost)
            self._begun = True

    @property
    def scores(self) -> np.ndarray:
        """The scores (n,)."""
        return np.array([metrics["score"] for metrics in self.metrics])

    def add(self, row: np.ndarray, macs: int, metrics: Mapping[str, float]) -> None:
        """Append one subnet; it is on disk when this returns."""
        if not self._begun:
            self._lines.start({**self.header, **self._checkpoint})
            self._begun = True
        self._lines.add({"choices": self.space.subnet(row).to_dict(), "macs": macs, "metrics": dict(metrics)})
        self.rows.append(row)
        self.metrics.append(dict(metrics))

    def _check_header(self, header: dict[str, Any], strict: bool) -> None:
        if header.get("format") != FORMAT:
            raise self._lines.damaged("its first line is no header")
        wanted = self.header if strict else {"space": self.space.fingerprint}
        for key, mine in wanted.items():
            if header.get(key) != mine:
                raise UserError(
                    f"{self.path}: collected with another {key} ({short(header.get(key))}, now {short(mine)}); give "
                    "another file, or the config and checkpoint it was collected with"
                )
        self.header = header

    def _fill(self, entries: list[dict[str, Any]], cost: Cost | None) -> None:
        seen: dict[bytes, int] = {}
        macs, doubled = [], 0
        for number, entry in enumerate(entries, 2):
            row = self._row(entry, number)
            first = seen.setdefault(row.tobytes(), len(self.rows))
            if first < len(self.rows):
                if self.metrics[first] != entry["metrics"]:
                    raise UserError(
                        f"{self.path}: line {number}: a subnet that has other scores in a line before it; keep one"
                    )
                doubled += 1
                continue
            self.rows.append(row)
            self.metrics.append({key: float(value) for key, value in entry["metrics"].items()})
            macs.append((entry["macs"], number))
        if doubled:
            print_log(f"{self.path}: {doubled} lines repeat a subnet, each is taken once", logger="current")
        if cost is not None and self.rows:
            counted = cost(np.stack(self.rows))["macs"].tolist()
            for (said, number), mine in zip(macs, counted, strict=True):
                if said != mine:
                    raise UserError(
                        f"{self.path}: line {number}: the subnet had {short(said)} macs, in this network it has "
                        f"{mine:,}; give the config it was collected with"
                    )

    def _row(self, entry: dict[str, Any], number: int) -> np.ndarray:
        metrics = entry.get("metrics")
        if set(entry) != _KEYS or not isinstance(entry["choices"], dict) or not isinstance(metrics, dict):
            raise self._lines.damaged(f"line {number}: it must have {', '.join(sorted(_KEYS))}")
        if "score" not in metrics or not all(map(is_number, metrics.values())):
            raise self._lines.damaged(f"line {number}: metrics must be finite numbers, one of them 'score'")
        if abs(metrics["score"]) > LARGEST_SCORE:
            raise self._lines.damaged(f"line {number}: {metrics['score']:g} is no score")
        return self.space.index(entry["choices"], f"{self.path}: line {number}")


def checkpoint_of(path: str | os.PathLike) -> str | None:
    """Where the supernet was that a collection is of, as its first line says."""
    content = JSONLines(path, f"a collection of scores ({FORMAT})", "give another file", MOST_BYTES).read()
    found = content[0].get("checkpoint") if content else None
    return found if isinstance(found, str) else None


def collect(evaluator: SubnetEvaluator, collection: Collection, cost: Cost, number: int, seed: int = 0) -> None:
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
    best = max((metrics["score"] for metrics in collection.metrics), default=-math.inf)
    with StepProgress("collect", quiet=rank != 0) as progress:
        for start in range(0, len(missing), world_size):
            mine = missing[start : start + world_size][rank : rank + 1]
            found = [(row, evaluator.evaluate(space.subnet(row))) for row in mine]
            for part in all_gather_object(found):
                for row, metrics in part:
                    if rank == 0:
                        collection.add(row, int(cost(row[None])["macs"][0]), metrics)
                        best = max(best, metrics["score"])
            progress.inside(min(number, len(have) + start + world_size), number, best, len(have))
    if rank == 0:
        print_log(f"collect: {len(collection.rows)} subnets, best {best:.6g}", logger="current")


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
