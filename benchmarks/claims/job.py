"""Jobs of the study: what each depends on, where its figures and files are, and whether they are of these settings."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

COMMITTED = Path(__file__).with_name("results")
CONFIGS = Path(__file__).with_name("configs")
ROOT = Path(__file__).resolve().parents[2]
SAME = {"show_empty": True} if sys.version_info >= (3, 13) else {}  # of a syntax tree, as older versions write it
RUNTIME = ("runtime.py",)  # a base that says how a run is logged and kept, and in which memory format it computes
PLACES = ("data_root",)  # settings of a machine: figures do not depend on them


@dataclass(frozen=True)
class Job:
    """One piece of work of minutes, in a process of its own, that leaves one file of figures.

    Attributes:
        name: ``CLAIM-...``; of the file and of the log.
        config: Of its main command, in ``configs/``, without the ending.
        settings: What else the figures depend on, as plain data.
        measure: Gives the figures; called with a :class:`~benchmarks.claims.bench.Bench` of the job.
        minutes: Expected, of one core.
        needs: Jobs whose figures it uses.
        reads: Jobs whose files in the work dir it reads; these have to be there too.
    """

    name: str
    config: str
    settings: Mapping[str, Any]
    measure: Callable[[Any], dict[str, Any]]
    minutes: float
    needs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()

    @property
    def claim(self) -> str:
        return self.name.partition("-")[0]


@dataclass(frozen=True)
class Jobs:
    """All jobs of a study, in the order in which they are to run, and their figures.

    Args:
        jobs: In order; a job comes after those that it needs.
        work: The work dir.
        committed: Folder of figures that are in the repository; None leaves them out.
    """

    jobs: Mapping[str, Job]
    work: Path
    committed: Path | None = COMMITTED
    _identities: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, jobs: Iterable[Job], work: Path, committed: Path | None = COMMITTED) -> Jobs:
        """Check names and order."""
        named: dict[str, Job] = {}
        for job in jobs:
            late = [name for name in (*job.needs, *job.reads) if name not in named]
            if job.name in named or late:
                raise ValueError(f"job {job.name}: named twice, or in front of {', '.join(late)}")
            named[job.name] = job
        return cls(named, work, committed)

    def identity(self, name: str) -> str:
        """A digest of what the figures of a job depend on: its config, its settings, and the jobs that it uses."""
        if name not in self._identities:
            job = self.jobs[name]
            settings = {key: value for key, value in job.settings.items() if key not in PLACES}
            used = [self.identity(other) for other in dict.fromkeys((*job.needs, *job.reads))]
            text = json.dumps([settings, config_digest(job.config), used], sort_keys=True)
            self._identities[name] = hashlib.sha256(text.encode()).hexdigest()[:10]
        return self._identities[name]

    def folder(self, name: str) -> Path:
        """Where a job keeps its files; of other settings it is another folder."""
        return self.work / "runs" / f"{name}-{self.identity(name)}"

    def result_file(self, name: str) -> Path:
        """The figures of a job that has ended."""
        return self.work / "results" / f"{name}.json"

    @cached_property
    def _in_repository(self) -> dict[str, dict[str, Any]]:
        files = sorted(self.committed.glob("*.jsonl")) if self.committed else []
        return {(r := json.loads(line))["job"]: r for path in files for line in path.read_text().splitlines()}

    def record(self, name: str) -> dict[str, Any] | None:
        """The figures of a job with the settings that it has now; None where there are none."""
        path = self.result_file(name)
        for record in (json.loads(path.read_text()) if path.exists() else None, self._in_repository.get(name)):
            if record is not None and record["identity"] == self.identity(name):
                return record
        return None

    def here(self, name: str) -> bool:
        """Whether the work dir has the files of a job that has ended."""
        return (self.folder(name) / "done").exists()

    def done(self, name: str) -> bool:
        """Whether the figures of a job are there."""
        return self.record(name) is not None

    def todo(self, names: Iterable[str]) -> list[str]:
        """What has to run for these jobs, in order: they, and what they need, where figures or files are missing."""
        wanted: set[str] = set()

        def want(name: str) -> None:
            if name in wanted:
                return
            wanted.add(name)
            for other in self.jobs[name].needs:
                if not self.done(other):
                    want(other)
            for other in self.jobs[name].reads:
                if not (self.done(other) and self.here(other)):
                    want(other)

        for name in names:
            if not self.done(name):
                want(name)
        return [name for name in self.jobs if name in wanted]

    def collect(self) -> list[Path]:
        """Write the figures of the work dir to the folder of the repository, a line each; the files written."""
        from mmrazor_lite.fileio import write_text_atomic

        written = []
        for claim in dict.fromkeys(job.claim for job in self.jobs.values()):
            path = self.committed / f"{claim}.jsonl"
            lines = path.read_text().splitlines() if path.exists() else []
            known = {json.loads(line)["job"]: line for line in lines}
            for name, job in self.jobs.items():
                record = self.record(name) if job.claim == claim else None
                if record is not None:
                    known[name] = json.dumps(record)
            text = "".join(f"{line}\n" for _, line in sorted(known.items()))
            if known and text != "".join(f"{line}\n" for line in lines):
                write_text_atomic(path, text)
                written.append(path)
        return written


def config_digest(name: str) -> str:
    """Of what a config of the study, its bases and the modules of the study that it imports say."""
    return _digest((CONFIGS / f"{name}.py").resolve())


@cache
def _digest(path: Path) -> str:
    """Comments and layout are not in it."""
    tree = ast.parse(path.read_text())
    assigned = {
        target.id: [node.value for node in ast.walk(statement.value) if isinstance(node, ast.Constant)]
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    bases = [(path.parent / base).resolve() for base in assigned.get("_base_", ()) if Path(base).name not in RUNTIME]
    words = [word for word in assigned.get("custom_imports", ()) if isinstance(word, str)]
    modules = [ROOT / f"{word.replace('.', '/')}.py" for word in words if word.startswith("benchmarks.")]
    inner = [_digest(other) for other in (*bases, *modules)]
    return hashlib.sha256("".join([ast.dump(tree, **SAME), *inner]).encode()).hexdigest()
