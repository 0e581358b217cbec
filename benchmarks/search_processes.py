"""How much faster a search is in two processes than in one, a thread each, and whether both find the same.

    python benchmarks/search_processes.py                    # on a machine of two cores or more that does nothing else
    python benchmarks/search_processes.py --processes 8 --config SEARCH.py --checkpoint SUPERNET.pth

By the commands: ``launch --nproc N search``, in turn with one process and with several, over some rounds. Subnets a
second are those that a search scored over the seconds of its steps, as its ``search_log.json`` has them: its start is
not in, what processes tell each other is. The default is SPOS's evolution over 360 images of handwritten digits, whose
supernet is trained for an epoch first; a few minutes. The goal for two processes is 1.9.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore")

from benchmarks._timing import machine

COMMAND = [sys.executable, "-m", "mmrazor_lite.cli"]
CONFIGS = "configs/nas/spos/spos_{}_digits.py"
SIZES = {"max_epochs": 3, "num_candidates": 128, "top_k": 32, "num_mutation": 64, "num_crossover": 64}
# A subnet then takes about a tenth of a second; others take longer, and what processes tell each other does not.
OPTIONS = [
    *(f"search_cfg.searcher.{key}={size}" for key, size in SIZES.items()),
    "search_cfg.calibrate_sample_num=1000",
]
GOAL = 0.95  # of the processes


def command(*words: Any) -> None:
    """Run a command with one thread a process; its output is for its log."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([*COMMAND, *map(str, words)], check=True, env=environment, stdout=subprocess.DEVNULL)


def searched(processes: int, folder: Path, words: Sequence[Any]) -> dict[str, Any]:
    """Search in a fresh folder; subnets scored, seconds of all steps, and a hash of what was found."""
    shutil.rmtree(folder, ignore_errors=True)
    command("launch", "--nproc", processes, "search", *words[:2], "--work-dir", folder, *words[2:])
    log = json.loads((folder / "search_log.json").read_text())
    seconds = sum(step["seconds"]["all"] for step in log["steps"])
    files = sorted(folder.glob("*subnet*.yaml"))
    found = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    return {"scored": log["subnets_scored"], "seconds": seconds, "found": found, "files": len(files)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--config", help="of a search; default: SPOS on digits")
    parser.add_argument("--checkpoint", help="of its supernet")
    parser.add_argument("--options", nargs="*", default=OPTIONS, help="KEY=VALUE for the search")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/search_processes"))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    if bool(args.config) != bool(args.checkpoint):
        parser.error("give --config and --checkpoint together, or none of them")
    work = args.work_dir.resolve()
    config, checkpoint = args.config or ROOT / CONFIGS.format("evolution_search"), args.checkpoint
    print(machine(), flush=True)
    if checkpoint is None:
        checkpoint = work / "supernet" / "epoch_1.pth"
        if not checkpoint.is_file():
            short = [f"train_cfg.{key}=1" for key in ("max_epochs", "val_interval")]
            folder = ["--work-dir", work / "supernet"]
            options = [*short, "default_hooks.checkpoint.interval=1"]
            command("train", ROOT / CONFIGS.format("supernet"), *folder, "--cfg-options", *options)
    words = [config, checkpoint, *(["--cfg-options", *args.options] if args.options else [])]
    ratios, rounds = [], []
    for number in range(args.rounds):
        one, several = (searched(count, work / f"with_{count}", words) for count in (1, args.processes))
        rates = [run["scored"] / run["seconds"] for run in (one, several)]
        ratios.append(rates[1] / rates[0])
        same = one["found"] == several["found"] and one["scored"] == several["scored"] and one["files"] > 0
        rounds.append({"one": one, "several": several, "ratio": ratios[-1], "same": same})
        print(
            f"round {number + 1}: {rates[0]:.2f} subnets/s in one process, {rates[1]:.2f} in {args.processes}: "
            f"{ratios[-1]:.3f}x, {'the same found' if same else 'ANOTHER RESULT'}",
            flush=True,
        )
    median, goal = statistics.median(ratios), GOAL * args.processes
    print(f"median {median:.3f}x ({min(ratios):.3f} to {max(ratios):.3f}), goal {goal:.2f}x: "
          f"{'met' if median >= goal else 'missed'}", flush=True)  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "median": median, "rounds": rounds}, indent=2) + "\n")
    if not all(run["same"] for run in rounds):
        sys.exit("error: the processes found something else than one process")


if __name__ == "__main__":
    main()
