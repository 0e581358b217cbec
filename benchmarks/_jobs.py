"""What the benchmarks that are tables of jobs share: a job is a process of its own and leaves one JSON file."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def circumstances() -> dict[str, Any]:
    """Commit, machine, date and versions, as they are told beside every figure."""
    from benchmarks._timing import machine  # which imports torch: who only starts jobs does without

    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True).stdout.strip()
    return {
        "commit": commit + ("+" if changed else ""),
        "machine": machine(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def measured(name: str, path: Path, measure: Callable[[], dict[str, Any]]) -> None:
    """Measure a job and write its file, of one line: it is there whole or not."""
    from mmrazor_lite.fileio import write_text_atomic

    wall, cpu = time.monotonic(), time.process_time()
    found = measure()
    spent = {"wall_s": round(time.monotonic() - wall, 1), "cpu_s": round(time.process_time() - cpu, 1)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, json.dumps({"job": name, **spent, **circumstances(), **found}) + "\n")


def start(command: Sequence[Any], log: Path, threads: int) -> subprocess.Popen:
    """Start the process of a job; what it says goes to ``log``."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": paths}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        return subprocess.Popen([*map(str, command)], env=environment, stdout=file, stderr=subprocess.STDOUT)
