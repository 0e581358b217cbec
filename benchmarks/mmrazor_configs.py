"""Tries every config of MMRazor's two branches, given checkouts of them, and prints the table of docs/migration.md.

    python benchmarks/mmrazor_configs.py MAIN OLD --images DIR      # resumes: what has passed is not tried again
    python benchmarks/mmrazor_configs.py MAIN --only 'spos*search' --steps load build count
    python benchmarks/mmrazor_configs.py MAIN OLD --table           # Markdown, of what was tried

A config that is carried is loaded, built, counted with its own subnet files, trained for two steps or searched for two
candidates, and what it wrote is taken by the next step; where that is the work of another config, it is done once, by
that one. All others must be refused in one line. DIR holds ImageNet's folders of classes, one image in each is enough.
Every step is a process of its own, in a folder where data/imagenet is DIR and the rest the checkout's; see
mmrazor_plan.py.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.mmrazor_plan import FIGURES, OPTIONS, PLACES, PLANS, Plan, Step
from benchmarks.mmrazor_report import line_of, table
from benchmarks.mmrazor_steps import Said, speak

STEPS = ("load", "build", "count", "work", "next", "refuse")
KINDS = ("supernet", "search", "subnet")  # each reads what those before it wrote
REFUSED = re.compile(
    r"error: (.*: )?not carried: .+; carried are AutoSlim, SPOS, OFA/BigNAS, TF-NAS; see docs/migration\.md"
)
OF_OLD = {"train.py": "mmcls/train_mmcls.py", "test.py": "mmcls/test_mmcls.py"}


@dataclass(frozen=True)
class Checkout:
    """One branch on the disk, and the folder in which its commands are typed."""

    folder: Path
    branch: str  # "1.x" or "0.x"
    here: Path

    @classmethod
    def of(cls, folder: Path, work: Path) -> Checkout:
        branch = "1.x" if (folder / "configs/nas/mmcls").is_dir() else "0.x"
        if branch == "0.x" and not (folder / "configs/pruning/autoslim").is_dir():
            raise SystemExit(f"{folder} is no checkout of MMRazor: it has neither configs/nas/mmcls nor "
                             "configs/pruning/autoslim")  # fmt: skip
        return cls(folder.resolve(), branch, work / branch)

    @cached_property
    def plans(self) -> dict[str, Plan]:
        """Those of its configs that are carried."""
        return {f"configs/{plan.config}.py": plan for plan in PLANS[self.branch]}

    @cached_property
    def others(self) -> list[str]:
        """All other configs, but those that are bases only."""
        files = sorted(path.relative_to(self.folder) for path in (self.folder / "configs").rglob("*.py"))
        return [str(path) for path in files if "_base_" not in path.parts and str(path) not in self.plans]

    def prepare(self, images: Path | None) -> None:
        """Fill the folder: links to the checkout, and lists of a few of the images."""
        self.here.mkdir(parents=True, exist_ok=True)
        for part in self.folder.iterdir():
            _link(part, self.here / part.name)
        if images is None:
            return
        data = self.here / "data/imagenet"
        (data / "meta").mkdir(parents=True, exist_ok=True)
        classes = sorted(part.name for part in images.iterdir() if part.is_dir())
        for number, part in enumerate(("train", "val")):  # eight images each, and none of both
            _link(images.resolve(), data / part)
            labels = range(8 * number, 8 * (number + 1))
            files = [f"{classes[label]}/{min((images / classes[label]).iterdir()).name}" for label in labels]
            lines = [f"{file} {label}\n" for file, label in zip(files, labels, strict=True)]
            (data / f"meta/{part}.txt").write_text("".join(lines))


def _link(target: Path, link: Path) -> None:
    if not link.is_symlink() and not link.exists():
        link.symlink_to(target)


class Trial:
    """The steps of one config."""

    def __init__(self, checkout: Checkout, config: str, everywhere: list[Checkout], timeout: int) -> None:
        self.checkout, self.config, self.everywhere, self.timeout = checkout, config, everywhere, timeout
        self.plan = checkout.plans.get(config)
        self.key = f"{checkout.branch}/{config}"

    @property
    def steps(self) -> tuple[str, ...]:
        return ("refuse",) if self.plan is None else STEPS[:-1]

    def folder(self, step: str, name: str | None = None) -> Path:
        """Where a step of the config writes to, or of the one called ``name``."""
        return self.checkout.here / "work_dirs" / (name or Path(self.config).stem) / step

    def run(self, step: str, before: Mapping[str, dict] | None = None) -> dict:
        """Do one step and return its record, or that of the same command ``before``."""
        command = self.command(step)
        found = (before or {}).get(command) or getattr(self, f"_{step}")()
        return {**found, "config": self.key, "step": step, "command": command}

    def _step(self, step: str) -> Step | None:
        return {"work": self.plan.work, "next": self.plan.after}.get(step) if self.plan else None

    def command(self, step: str) -> str | None:
        """What a step of the plan types, but for the folder that it writes to."""
        typed = self._step(step)
        if typed is None:
            return None
        script, words = self._words(typed, Path("OUT"))
        return " ".join([self.checkout.branch, script, *words])

    def _refuse(self) -> dict:
        said = self._spoken("misc/print_config.py", [self.config])
        line = said.error
        return said.record(said.status not in (0, None) and REFUSED.fullmatch(line) is not None, line)

    def _load(self) -> dict:
        said = self._spoken("misc/print_config.py", [self.config])
        return said.record(said.status == 0)

    def _build(self) -> dict:
        said = self._spoken("misc/get_flops.py", [self.config, *self._given()])
        return said.record(said.status == 0)

    def _count(self) -> dict:
        """Count with every subnet file of the plan; a config of one subnet is counted as it is."""
        texts = []
        for name in self.plan.counted or (None,):
            own = self.plan.kind == "subnet" and (name is None or name == self._own_file())
            subnet = [] if own else ["--subnet", self._subnet(name)]
            said = self._spoken("misc/get_flops.py", [self.config, "--json", *subnet, *self._given()])
            if said.status != 0:
                return said.record(False)
            counts = json.loads(said.out.splitlines()[-1])
            texts.append(_figures(counts["params"], counts["flops"]))
            if name is not None and texts[-1] != _figures(*FIGURES[name]):
                return said.record(False, f"{texts[-1]}, not {_figures(*FIGURES[name])} of {name}")
        return said.record(True, ", ".join(texts))

    def _own_file(self) -> str:
        return self.plan.counted[-1]

    def _work(self) -> dict:
        return self._typed(self.plan.work, "work")

    def _next(self) -> dict:
        return self._typed(self.plan.after, "next")

    def _typed(self, step: Step, kind: str) -> dict:
        out = self.folder(kind)
        said = self._spoken(*self._words(step, out))
        if said.status == 0 and step.wrote and not (out / step.wrote).is_file():
            return said.record(False, f"wrote no {step.wrote}")
        record = said.record(said.status == 0)
        return {**record, "wrote": str(out / step.wrote)} if record["passed"] and step.wrote else record

    def _words(self, step: Step, out: Path) -> tuple[str, list[str]]:
        """The script of a step, and what is typed after it."""
        words = [part for word in step.words.split() for part in self._fill(word, out).split("\n")]
        script = OF_OLD.get(step.script, step.script) if self.checkout.branch == "0.x" else step.script
        work = [] if "split" in script else ["--work-dir", str(out)]
        return script, [words[0], *work, *words[1:]] if "--cfg-options" in words else [*words, *work]

    def _given(self) -> list[str]:
        filled = self._fill(self.plan.options, Path())
        return ["--cfg-options", *filled.split()] if filled else []

    def _fill(self, text: str, out: Path) -> str:
        """Put in what the words of a plan stand for; options are one a line."""

        def value(match: re.Match) -> str:
            word, name = match[1], match[2]
            if word in OPTIONS[self.checkout.branch]:
                return "\n".join(OPTIONS[self.checkout.branch][word])
            if word == "config":
                return next(path for path in self.checkout.plans if Path(path).stem == name)
            if word == "subnet":
                return self._subnet(name)
            return str({"self": self.config, "out": out, "work": self.folder("work", name)}[word])

        return re.sub(r"\{(\w+)(?::([^}]*))?\}", value, text)

    def _subnet(self, name: str) -> str:
        roots = [self.checkout.folder, *(other.folder for other in self.everywhere), ROOT]
        return next(str(root / place / name) for root in roots for place in PLACES if (root / place / name).is_file())

    def _spoken(self, script: str, words: list[str]) -> Said:
        return speak(script, words, self.checkout.here, self.timeout)


def _figures(params: int, flops: int) -> str:
    return f"{params / 1e6:.3f} M / {flops / 1e6:.2f} M"


def known(path: Path) -> dict[tuple[str, str], dict]:
    """The last record of every step."""
    if not path.exists():
        return {}
    records = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {(record["config"], record["step"]): record for record in records}


def _stands(record: Mapping[str, Any] | None) -> bool:
    """Whether a step has passed, and what it wrote is still there."""
    return record is not None and record["passed"] and Path(record.get("wrote", "/")).exists()


def walk(trials: list[Trial], options: argparse.Namespace) -> None:
    """Do the steps that have not passed yet, or whose files are gone.

    Those of all configs one after the other, and of supernets first: a search needs one.
    """
    done = {} if options.again else known(options.out)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool, options.out.open("a") as file:
        for step, kind in ((step, kind) for step in STEPS if step in options.steps for kind in (*KINDS, None)):
            todo = [
                trial
                for trial in trials
                if step in trial.steps
                and kind == (trial.plan.kind if trial.plan else None)
                and not _stands(done.get((trial.key, step)))
            ]
            before = {r["command"]: r for r in done.values() if _stands(r) and r.get("command")}
            for record in pool.map(partial(Trial.run, step=step, before=before), todo):
                done[record["config"], step] = record
                file.write(json.dumps(record) + "\n")
                file.flush()
                print(line_of(record), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="+", type=Path, metavar="DIR", help="a checkout of branch main or 0.x")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folders of ImageNet's classes, with images")
    parser.add_argument("--only", default="*", help="pattern of names of configs, without .py")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--again", action="store_true", help="try what has passed, too")
    parser.add_argument("--jobs", type=int, default=1, help="steps at a time")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds for one step")
    parser.add_argument(
        "--work-dir", type=Path, default=ROOT / "work_dirs/mmrazor_configs", help="where all is written"
    )
    parser.add_argument("--out", type=Path, help="one record a line (default: records.jsonl in the work dir)")
    parser.add_argument("--table", action="store_true", help="print what was tried before, as Markdown")
    options = parser.parse_args()
    options.out = options.out or options.work_dir / "records.jsonl"
    checkouts = [Checkout.of(folder, options.work_dir.resolve()) for folder in options.checkouts]
    trials = [
        Trial(checkout, config, checkouts, options.timeout)
        for checkout in checkouts
        for config in (*checkout.plans, *checkout.others)
        if fnmatchcase(Path(config).stem, options.only)
    ]
    if options.table:
        print(table([trial.key for trial in trials], {trial.key for trial in trials if trial.plan}, known(options.out)))
        return
    if options.images is None and {"work", "next"} & set(options.steps) and any(trial.plan for trial in trials):
        parser.error("--images DIR is needed to train and search; or give --steps load build count refuse")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for checkout in checkouts:
        checkout.prepare(options.images)
    walk(trials, options)


if __name__ == "__main__":
    main()
