"""Runs the study of the claims, and says what it found.

    python -m benchmarks.claims --plan                          # the jobs: done, to do, expected minutes
    python -m benchmarks.claims --claim spos --jobs 2           # hours; run it again after an interruption
    python -m benchmarks.claims --job spos-range-14             # one job, and what it needs
    python -m benchmarks.claims --table                         # Markdown: every claim, met or missed
    python -m benchmarks.claims --collect                       # what ended goes into the repository

Figures in the repository count as done; ``--again`` does without them. ``--set SECTION.KEY=VALUE`` changes a number of
``study.yaml``; figures with other numbers are other figures. See docs/claims.md.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore")

from benchmarks._jobs import measured
from benchmarks.claims.bench import Bench
from benchmarks.claims.claims import CLAIMS, all_jobs, all_rows
from benchmarks.claims.job import COMMITTED, Jobs
from benchmarks.claims.running import ELSEWHERE, ENDED, Runner
from benchmarks.claims.study import read_study
from benchmarks.claims.table import markdown


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.claims",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--claim", choices=CLAIMS, help="the jobs of one claim (default: all)")
    made.add_argument("--job", default="*", metavar="PATTERN", help="jobs by name, such as 'spos-band-*-s0'")
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="at a time, one thread each (default: 1)")
    made.add_argument("--max-jobs", type=int, metavar="N", help="end after so many")
    made.add_argument("--work-dir", type=Path, default=ROOT / "work_dirs/claims")
    made.add_argument("--data", type=Path, help="folder of CIFAR-10 (default: data/cifar10)")
    made.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="SECTION.KEY=VALUE", help="numbers of study.yaml"
    )
    made.add_argument("--tiny", action="store_true", help="a dry run of seconds: its figures mean nothing")
    made.add_argument("--again", action="store_true", help="without the figures that are in the repository")
    mode = made.add_mutually_exclusive_group()
    mode.add_argument("--plan", action="store_true", help="list the jobs")
    mode.add_argument("--table", action="store_true", help="print what was found")
    mode.add_argument("--collect", action="store_true", help="write what ended to the repository, and docs/claims.md")
    mode.add_argument("--do", nargs="+", metavar="JOB", help=argparse.SUPPRESS)
    return made


def main() -> int:
    """Do what the command line says and return the exit status."""
    options = parser().parse_args()
    changes = [*options.set, *([f"task.data_root={options.data}"] if options.data else [])]
    study = read_study(changes, options.tiny)
    jobs = Jobs.of(all_jobs(study), options.work_dir.resolve(), None if options.again or options.tiny else COMMITTED)
    chosen = [
        name for name, job in jobs.jobs.items() if options.claim in (None, job.claim) and fnmatchcase(name, options.job)
    ]
    if options.do:
        return next(
            filter(None, (do(jobs, name, study) for name in options.do)), 0
        )  # the first that is not done ends it
    if options.plan:
        print(plan(jobs, chosen))
    elif options.table:
        print(markdown(all_rows(study, jobs, options.claim), jobs))
    elif options.collect:
        if jobs.committed is None or options.set:
            raise SystemExit("error: --collect takes the study as it is: no --tiny, no --again and no --set")
        from benchmarks.claims.page import write

        print("\n".join(f"wrote {path}" for path in [*jobs.collect(), *write(study, jobs)]) or "nothing new")
    else:
        words = [*(["--tiny"] * options.tiny), *(["--again"] * options.again), "--work-dir", jobs.work]
        words += ["--set", *changes] if changes else []
        return run(Runner(jobs, words, options.jobs, options.max_jobs), chosen)
    return 0


def run(runner: Runner, chosen: list[str]) -> int:
    """Run jobs; Ctrl-C and SIGTERM end their processes too."""
    from mmrazor_lite.cli.signals import raised

    with raised() as ended:
        try:
            return int(runner.run(chosen) > 0)
        except KeyboardInterrupt:
            print("ended; run it again to go on", flush=True)
            return 128 + (ended or [2])[0]


def do(jobs: Jobs, name: str, study: dict) -> int:
    """Measure one job, in this process."""
    from mmrazor_lite.errors import UserError
    from mmrazor_lite.folder_lock import hold

    job = jobs.jobs[name]
    try:
        hold(jobs.folder(name), "claims")
    except UserError as error:
        print(error)
        return ELSEWHERE
    bench = Bench(jobs, job, study)
    about = {"identity": jobs.identity(name), "settings": {k: v for k, v in job.settings.items() if k != "data_root"}}
    try:
        measured(name, jobs.result_file(name), lambda: {**about, **job.measure(bench)})
    except KeyboardInterrupt:  # which the commands make of SIGTERM too
        print(f"{name}: ended before its time; run it again to go on")
        return ENDED
    (jobs.folder(name) / "done").touch()
    return 0


def plan(jobs: Jobs, chosen: list[str]) -> str:
    """The jobs, what is done of them, and the minutes that are left."""
    todo = jobs.todo(chosen)
    lines = [f"{name:32} {'to do' if name in todo else 'done':6} {jobs.jobs[name].minutes:6.1f} min" for name in chosen]
    left = sum(jobs.jobs[name].minutes for name in todo)
    return "\n".join([*lines, f"{len(chosen)} jobs, {len(todo)} to do: {left / 60:.1f} h of one core"])


if __name__ == "__main__":
    sys.exit(main())
