"""What a search remembers: after every step in one JSON file that is replaced, within a step in a journal.

The journal is a file for each process, ``search_scores_RANK.jsonl``, with a line for each subnet that it scored. It is
there while the search runs; a resume takes from all of them what the state does not know yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrazor_lite import jsonio
from mmrazor_lite.engine.differences import differences
from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import write_text_atomic
from mmrazor_lite.plain_data import plain
from mmrazor_lite.search import Searcher

FORMAT = "mmrazor_lite.search/1"
FILE_NAME = "search_state.json"
JOURNAL_FORMAT = "mmrazor_lite.search_journal/1"
JOURNALS = "search_scores_*.jsonl"
MOST_BYTES = 1 << 30  # of millions of subnets
FIX = "delete it or search without --resume"

Metrics = dict[str, float]


class SearchState:
    """The memo of evaluated subnets, the steps taken, and what the search depends on.

    Args:
        work_dir: The folder of the file.
        identity: Plain data; a search resumes only when it is the same, key by key.
    """

    def __init__(self, work_dir: str | Path, identity: Mapping[str, Any]) -> None:
        self.path = Path(work_dir) / FILE_NAME
        self.identity = plain(identity)
        self.memo: dict[str, Metrics] = {}
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
        write_text_atomic(self.path, jsonio.sealed(self.dump()) + "\n")

    def read(self) -> dict[str, Any] | None:
        """Read and check the file of an earlier run; ``None`` when there is none.

        Raises:
            UserError: It is no search state, or one of a search that differs; says in what.
        """
        if not self.path.exists():
            return None
        what = f"a search state ({FORMAT})"
        try:
            data = jsonio.unsealed(jsonio.read_bytes(self.path, MOST_BYTES, what))
        except jsonio.BadJSON as error:
            raise UserError(f"{self.path}: not {what} ({error}); {FIX}") from None
        problem = _problem(data)
        if problem:
            raise UserError(f"{self.path}: not {what} ({problem}); {FIX}")
        self.compare(data["identity"], self.path)
        return data

    def compare(self, then: Mapping[str, Any], path: Path) -> None:
        """Refuse the identity of another search, which is in ``path``; says in what it differs."""
        changed = list(differences(then, self.identity).items())
        if changed:
            shown = "; ".join(f"{key[:80]} was {_short(was)}, now {_short(now)}" for key, (was, now) in changed[:3])
            raise UserError(
                f"{path}: cannot resume, this is another search: {shown}; use the same config and checkpoint, or "
                "another --work-dir"
            )

    def restore(self, data: Mapping[str, Any], searcher: Searcher) -> None:
        """Take over what :meth:`read` returned, and let ``searcher`` go on from it.

        Raises:
            UserError: The searcher's part is damaged, or of another search.
        """
        try:
            searcher.load_state_dict(data["searcher"])
            searcher.progress()  # which reads what was taken over
            searcher.results()
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise UserError(f"{self.path}: the searcher's state is damaged ({type(error).__name__}); {FIX}") from None
        self.memo, self.steps, self.searcher = dict(data["memo"]), list(data["steps"]), dict(data["searcher"])


class ScoreJournal:
    """The subnets that the processes of a search have scored, each on disk as soon as it is there.

    Args:
        state: Of the search; its folder and identity are the journal's too.
        rank: Of this process, which writes a file of its own.
    """

    def __init__(self, state: SearchState, rank: int) -> None:
        self._state, self._rank = state, rank
        self._own = self._open(state.path.parent / JOURNALS.replace("*", str(rank)))
        self._begun = False

    def read(self) -> dict[str, Metrics]:
        """What all journals of the folder hold, those of processes that this run does not have too.

        Raises:
            UserError: One is damaged, or of another search.
        """
        found: dict[str, Metrics] = {}
        for path in sorted({*self._all(), self._own.path}):
            lines = self._own if path == self._own.path else self._open(path)
            content = lines.read()
            if content is None:
                continue
            header, entries = content
            if header.get("format") != JOURNAL_FORMAT or not isinstance(header.get("identity"), dict):
                raise lines.damaged("its first line is no header")
            self._state.compare(header["identity"], path)
            for number, entry in enumerate(entries, 2):
                if set(entry) != {"key", "metrics"} or _wrong_memo({str(entry["key"]): entry["metrics"]}):
                    raise lines.damaged(f"line {number} is no score of a subnet")
                found[str(entry["key"])] = entry["metrics"]
            self._begun |= lines is self._own
        return found

    def drop(self) -> None:
        """Delete the file of this process; the first one deletes all that it sees."""
        for path in self._all() if self._rank == 0 else [self._own.path]:
            path.unlink(missing_ok=True)
        self._begun = False

    def add(self, key: str, metrics: Metrics, sync: bool) -> None:
        """Keep one score; with ``sync`` it survives a power cut, and the end of this process anyway."""
        if not self._begun:
            self._own.start({"format": JOURNAL_FORMAT, "identity": self._state.identity})
            self._begun = True
        self._own.add({"key": key, "metrics": metrics}, sync)

    def _all(self) -> list[Path]:
        return sorted(self._state.path.parent.glob(JOURNALS))

    @staticmethod
    def _open(path: Path) -> jsonio.JSONLines:
        return jsonio.JSONLines(path, f"a journal of a search ({JOURNAL_FORMAT})", FIX, MOST_BYTES)


def _problem(data: Any) -> str | None:
    """What of a state is not as it should be."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        return "it has another format"
    for key, kind in (("identity", dict), ("searcher", dict), ("memo", dict), ("steps", list)):
        if not isinstance(data.get(key), kind):
            return f"{key} is {'missing' if key not in data else 'wrong'}"
    if _wrong_memo(data["memo"]):
        return "memo is wrong"
    for step in data["steps"]:
        seconds = step.get("seconds") if isinstance(step, dict) else None
        if not isinstance(seconds, dict) or "all" not in seconds or not all(map(jsonio.is_number, seconds.values())):
            return "steps are wrong"
        if not jsonio.is_number(step.get("scored")):
            return "steps are wrong"
    return None


def _wrong_memo(memo: Mapping[Any, Any]) -> bool:
    return not all(
        isinstance(key, str)
        and isinstance(metrics, dict)
        and "score" in metrics
        and all(map(jsonio.is_number, metrics.values()))
        for key, metrics in memo.items()
    )


def _short(value: Any) -> str:
    text = json.dumps(value) if value is not None else "not set"
    return text if len(text) <= 80 else text[:77] + "..."
