"""Walks the classifiers of torchvision, CNNs and some transformers of timm, and the CNN backbones of mmpretrain.

    python benchmarks/any_model.py --set torchvision        # hours; resumes where it was
    python benchmarks/any_model.py --only 'timm/res*' --again
    python benchmarks/any_model.py --table                  # the Markdown table and the floors, from what was measured

Every model has a process of its own: seconds to prepare it, how much of it can be chosen, and the invariants of
docs/architecture.md on the smallest and some random subnets, against tests/oracles.py. The lists are in
any_model_lists.yaml.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import resource
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from multiprocessing.connection import Connection, wait
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
warnings.filterwarnings("ignore")

from benchmarks.any_model_lists import SETS, Entry, entries
from benchmarks.any_model_report import floors, passes, ratio, table

PRELOAD = ["torchvision", "timm", "mmpretrain.models", "benchmarks.any_model_measure"]  # imported once for all models


def run_one(entry: Entry, options: argparse.Namespace) -> dict:
    """The record of a model, measured in a process of its own; a crash or a time-out is a record too."""
    record = {"model": entry.key, "kind": entry.kind, "size": entry.size, "fast": options.fast}
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(entry, options, sender))
    process.start()
    sender.close()
    try:
        if receiver.poll(options.timeout):
            return receiver.recv()
        error = f"more than {options.timeout} s"
    except EOFError:
        process.join()
        error = f"the process ended with status {process.exitcode}"
    finally:
        process.kill()
        process.join()
    return record | {"failed": {"stage": "process", "error": error}}


def child(entry: Entry, options: argparse.Namespace, sender: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limit = options.memory * 2**30
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    from benchmarks.any_model_measure import measure

    sender.send(measure(entry, options.divisor, options.subnets, options.fast))


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def done_before(path: Path) -> dict[str, dict]:
    """The last record of each model."""
    if not path.exists():
        return {}
    records = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {record["model"]: record for record in records}


def selected(options: argparse.Namespace) -> list[Entry]:
    return [e for e in entries(options.set) if fnmatchcase(e.key, options.only) or fnmatchcase(e.name, options.only)]


def walk(options: argparse.Namespace) -> None:
    known = {} if options.again else done_before(options.out)
    chosen = selected(options)
    todo = [e for e in chosen if e.key not in known or (known[e.key].get("fast") and not options.fast)]
    print(f"{len(chosen)} models, {len(chosen) - len(todo)} measured before", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # of the packages that the children import
    os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD)
    with ThreadPoolExecutor(options.jobs) as pool, options.out.open("a") as file:
        for record in pool.map(lambda entry: run_one(entry, options), todo):
            file.write(json.dumps(record) + "\n")
            file.flush()
            print(line_of(record), flush=True)


def line_of(record: dict) -> str:
    if "failed" in record:
        return f"{record['model']}: {record['failed']['stage']} failed: {record['failed']['error']}"
    text = (
        f"{record['model']}: {record['prepare_s']} s, {record['groups']} groups, "
        f"{record['searchable']:.1%} searchable, min {ratio(record):.1%} of max"
    )
    if "invariants" in record:
        wrong = [f"{name}: {verdict}" for name, verdict in record["invariants"].items() if verdict != "ok"]
        text += ", all invariants" if passes(record) else f", {'; '.join(wrong)}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=[*SETS, "all"], default="all")
    parser.add_argument("--only", default="*", help="pattern of model names")
    parser.add_argument("--out", type=Path, default=ROOT / "work_dirs/any_model.jsonl", help="one record a line")
    parser.add_argument("--again", action="store_true", help="measure what was measured before")
    parser.add_argument("--fast", action="store_true", help="prepare only")
    parser.add_argument("--jobs", type=int, default=1, help="models at a time")
    parser.add_argument("--divisor", type=int, default=1, help="of the candidates, the sixths of every width")
    parser.add_argument("--subnets", type=int, default=2, help="random subnets checked besides the smallest")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds for one model")
    parser.add_argument("--memory", type=int, default=24, help="GiB for one model")
    parser.add_argument("--table", action="store_true", help="print what was measured, and the floors")
    options = parser.parse_args()
    if options.table:
        records, chosen = done_before(options.out), selected(options)
        print(table(records, chosen), "\n".join(floors(records, chosen)), sep="\n\n")
    else:
        walk(options)


if __name__ == "__main__":
    main()
