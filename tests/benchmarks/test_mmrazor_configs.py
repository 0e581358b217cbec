"""The walk over MMRazor's configs: what it plans is complete, and what it prints is what was recorded."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmrazor_lite.config.not_carried import CARRIED

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("load", "build", "count", "work", "next")


@pytest.fixture(scope="module")
def bench():
    """The modules of the benchmark, which are imported from the root of the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT), *sys.path])
        from benchmarks import mmrazor_configs, mmrazor_plan, mmrazor_report, mmrazor_steps

        yield SimpleNamespace(
            walk=mmrazor_configs, plan=mmrazor_plan, report=mmrazor_report, steps=mmrazor_steps, patch=patch
        )


@pytest.fixture
def checkouts(bench, tmp_path):
    """Both branches, with the files that are planned, empty, and one more config each."""
    found = []
    for branch, marker in (("1.x", "configs/nas/mmcls"), ("0.x", "configs/pruning/autoslim")):
        folder = tmp_path / f"of_{branch}"
        (folder / marker).mkdir(parents=True)
        names = [f"configs/{plan.config}.py" for plan in bench.plan.PLANS[branch]]
        for name in (*names, "configs/pruning/dmcp.py", "configs/_base_/schedule.py"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("")
        found.append(bench.walk.Checkout.of(folder, tmp_path / "work"))
    return found


def trials(bench, checkouts) -> list:
    return [
        bench.walk.Trial(checkout, config, checkouts, timeout=1)
        for checkout in checkouts
        for config in (*checkout.plans, *checkout.others)
    ]


def test_all_carried_configs_are_planned(bench, checkouts):
    assert [len(checkout.plans) for checkout in checkouts] == [16, 10]
    assert [checkout.others for checkout in checkouts] == [["configs/pruning/dmcp.py"]] * 2
    with pytest.raises(SystemExit, match="is no checkout of MMRazor"):
        bench.walk.Checkout.of(ROOT / "docs", ROOT)


def test_every_command_can_be_typed(bench, checkouts, tmp_path):
    """Its script is here, its words have no gaps, and what it reads was written by a step before it."""
    images = tmp_path / "images"
    for label in range(16):
        (images / f"n{label:08}").mkdir(parents=True)
        (images / f"n{label:08}" / "a.JPEG").write_text("")
    for checkout in checkouts:
        checkout.prepare(images)
        lists = [(checkout.here / f"data/imagenet/meta/{part}.txt").read_text().split() for part in ("train", "val")]
        assert not {*lists[0][::2]} & {*lists[1][::2]} and lists[1][1::2] == [str(label) for label in range(8, 16)]
    typed: list[tuple[str, list[str], Path]] = []
    bench.patch.setattr(
        bench.walk, "speak", lambda script, words, folder, timeout: typed.append((script, words, folder))
        or bench.steps.Said(1, "", "error: not run", 0.0)
    )  # fmt: skip
    written: set[str] = set()
    for trial in trials(bench, checkouts):
        for step in trial.steps:
            record = trial.run(step)
            assert ("OUT" in (record.pop("command") or "")) == (step in ("work", "next"))
            assert record == {
                "config": trial.key, "step": step, "passed": False, "status": 1, "text": "error: not run",
                "seconds": 0.0,
            }  # fmt: skip
            script, words, folder = typed[-1]
            assert (ROOT / "tools" / script).is_file() and not any(set("{}\n") & set(word) for word in words)
            read = [word.partition("=")[2] or word for word in words if str(folder / "work_dirs") in word]
            outs = [words[at + 1] for at, word in enumerate(words) if word in ("--work-dir", "--output-dir")]
            assert all(str(Path(path).parent) in written for path in read if path not in outs)
            written |= set(outs)


def test_a_command_that_two_configs_share_is_run_once(bench, checkouts, monkeypatch):
    """A search is what comes after its supernet; its record is taken for both, and no failure is."""
    supernet, search = trials(bench, checkouts)[:2]
    assert supernet.command("next") == search.command("work") != search.command("next")
    assert supernet.command("load") is supernet.command("build") is None
    monkeypatch.setattr(bench.walk, "speak", lambda *args: pytest.fail("was run again"))
    done = {search.command("work"): {"config": search.key, "step": "work", "passed": True, "seconds": 3.0}}
    record = supernet.run("next", done)
    assert (record["config"], record["step"], record["seconds"]) == (supernet.key, "next", 3.0)


def test_a_step_waits_for_the_one_it_needs_and_is_done_again_without_its_file(bench, checkouts, tmp_path, monkeypatch):
    """With several jobs in a new folder too: a search reads what the training of its supernet wrote."""
    typed = []

    def speak(script, words, folder, timeout):
        """Write what the step of a plan writes, unless what it reads is missing."""
        time.sleep(0.02 if "supernet" in words[0] else 0)
        out = next(Path(words[at + 1]) for at, word in enumerate(words) if word in ("--work-dir", "--output-dir"))
        read = [Path(w.partition("=")[2] or w) for w in words if str(tmp_path / "work") in w and Path(w) != out]
        typed.append(out)
        if not all(path.is_file() for path in read):
            return bench.steps.Said(1, "", f"error: no {read}", 0.0)
        out.mkdir(parents=True, exist_ok=True)
        for trial in chosen:
            for step in (trial.plan.work, trial.plan.after):
                (out / (step.wrote or "log")).write_text("")
        return bench.steps.Said(0, "", "", 0.0)

    monkeypatch.setattr(bench.walk, "speak", speak)
    chosen = [trial for trial in reversed(trials(bench, checkouts)) if trial.plan]
    options = SimpleNamespace(again=False, out=tmp_path / "records.jsonl", jobs=4, steps=["work", "next"])
    bench.walk.walk(chosen, options)
    records = bench.walk.known(options.out)
    assert len(records) == 2 * len(chosen) and all(record["passed"] for record in records.values())
    typed.clear()
    bench.walk.walk(chosen, options)
    assert typed == []
    gone = chosen[-1].folder("work") / chosen[-1].plan.work.wrote
    gone.unlink()
    bench.walk.walk(chosen, options)
    assert typed == [gone.parent]


def test_what_counts_as_a_refusal(bench):
    fits = bench.walk.REFUSED.fullmatch
    assert fits(f"error: a.py: not carried: DMCP; {CARRIED}") and fits(f"error: not carried: DCFF (mmdet); {CARRIED}")
    assert not fits("error: a.py: install mmdet") and not fits(f"error: a.py: not carried: DMCP; {CARRIED}\nmore")


def test_the_table_says_what_passed(bench, checkouts):
    first, second = trials(bench, checkouts)[:2]
    other = next(trial for trial in trials(bench, checkouts) if trial.plan is None)
    records = {
        (first.key, step): {"passed": True, "text": "6.496 M / 529.26 M" if step == "count" else ""} for step in STEPS
    }
    records[second.key, "load"] = {"passed": False, "text": "error: a | b"}
    records[other.key, "refuse"] = {"passed": False, "text": "error: install it"}
    keys = [first.key, second.key, other.key]
    text = bench.report.table(keys, {first.key, second.key}, records).splitlines()
    assert text[2].endswith("| yes | yes | 6.496 M / 529.26 M | yes | yes |")
    assert text[3].endswith("| no: error: a \\| b | not tried | not tried | not tried | not tried |")
    assert text[5] == "1 of 2 configs pass every step; 0 of 1 others are refused in one line."
    assert text[-1] == f"- {other.key}: error: install it"
