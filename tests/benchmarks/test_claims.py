"""The study of the claims: its arithmetic, its jobs, and a dry run of every kind of job on a few images."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from costs import CostOfRows
from scipy.stats import kendalltau

from mmrazor_lite.subnet import Choice, SearchSpace

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench():
    """The modules of the study, which are imported from the root of the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT), *sys.path])

        from benchmarks.claims import __main__ as main
        from benchmarks.claims import arithmetic, autoslim, claims, draws, job, running, slim, spos, study, table, tfnas

        parts = (main, arithmetic, autoslim, claims, draws, job, running, slim, spos, study, table, tfnas)
        yield SimpleNamespace(**{part.__name__.rpartition(".")[2].strip("_"): part for part in parts})


# arithmetic -----------------------------------------------------------------------------------------------------


def test_what_a_seed_does_to_both_drops_out(bench):
    gap = bench.arithmetic.paired([63.0, 75.0, 87.0], [61.0, 72.0, 86.0])
    assert gap.mean == pytest.approx(2.0) and gap.error == pytest.approx(1 / math.sqrt(3))
    assert gap.errors == pytest.approx(2 * math.sqrt(3)) and str(gap) == "+2.00 (0.58)"
    assert gap.half_interval == pytest.approx(4.30265 / math.sqrt(3))  # a table of Student's t, two degrees of freedom


def test_of_one_seed_there_is_no_error_and_nothing_is_ahead(bench):
    gap = bench.arithmetic.paired([70.0], [60.0])
    assert math.isnan(gap.error) and math.isnan(gap.half_interval) and not gap.errors >= 2


def test_controls_that_differ_make_the_error_larger(bench):
    ours, alike, apart = [72.0, 74.0], [[70.0, 70.0], [72.0, 72.0]], [[64.0, 76.0], [76.0, 64.0, 82.0]]
    near, far = (bench.arithmetic.ahead_of_draws(ours, others) for others in (alike, apart))
    assert near.mean == pytest.approx(2.0) and near.error == pytest.approx(0.0, abs=1e-12)
    # the means are 70 and 74: the differences 2 and 0
    assert far.mean == pytest.approx(1.0) and far.error == pytest.approx(1.0)


def test_tau_counts_pairs(bench):
    assert bench.arithmetic.tau([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx((5 - 1) / 6)
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, (2, 25))
    assert bench.arithmetic.tau(a, b) == pytest.approx(kendalltau(a, b).statistic)  # with ties
    orders = range(30), [x + 3 * (-1) ** x for x in range(30)]
    low, high = bench.arithmetic.tau_interval(*orders)
    assert 0.5 < low < bench.arithmetic.tau(*orders) < high <= 1


# draws ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def space():
    return SearchSpace([Choice(f"w{i}", tuple(range(1, 9))) for i in range(8)])


@pytest.fixture(scope="module")
def cost(space):
    return CostOfRows(space, lambda rows: {"flops": (100 * (rows + 1) ** 2).sum(axis=1)})


def test_a_subnet_in_every_part_of_the_range(bench, space, cost):
    drawn = bench.draws.over_range(space, cost, "flops", 12, seed=0)
    low, high = cost.extreme("flops", False), cost.extreme("flops", True)
    parts = [min(11, int(12 * (cost.of(subnet)["flops"] - low) / (high - low))) for subnet in drawn]
    assert parts == list(range(12))
    assert drawn == bench.draws.over_range(space, cost, "flops", 12, seed=0)
    assert drawn != bench.draws.over_range(space, cost, "flops", 12, seed=1)


def test_subnets_of_a_band_are_different_and_in_it(bench, space, cost):
    drawn = bench.draws.within(space, cost, "flops", 15_000, 15_300, 20, seed=1)
    assert len(set(drawn)) == 20 and all(15_000 <= cost.of(subnet)["flops"] <= 15_300 for subnet in drawn)
    with pytest.raises(ValueError, match="0 of 5 subnets"):
        bench.draws.within(space, cost, "flops", 1, 2, 5, seed=1)


def test_each_control_is_trained_once_and_every_seed_has_as_many(bench, tmp_path):
    seeds = [0, 1, 2, 3, 4]
    dealt = [bench.draws.dealt(10, seeds, seed) for seed in seeds]
    assert sorted(itertools.chain(*dealt)) == list(range(10)) and {len(part) for part in dealt} == {2}
    rivals = [name for name in jobs_of(bench, tmp_path).jobs if name.startswith("tfnas-rival45-")]
    assert sorted(rivals) == [f"tfnas-rival45-{index:02d}-s{index % 5}" for index in range(10)]


def test_the_first_jobs_cover_the_range(bench):
    order = bench.draws.spread_first(30, 10)
    assert sorted(order) == list(range(30))
    assert order[:10] == [1, 4, 7, 10, 13, 16, 19, 22, 25, 28]


# jobs -----------------------------------------------------------------------------------------------------------


def jobs_of(bench, work, *changes, tiny=False, committed=None):
    study = bench.study.read_study(changes, tiny)
    return bench.job.Jobs.of(bench.claims.all_jobs(study), work, committed)


def finish(jobs, name, **figures):
    """Write the figures of a job as if it had ended."""
    path = jobs.result_file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"job": name, "identity": jobs.identity(name), **figures}))


def test_the_table_judges_by_jobs_that_there_are(bench, tmp_path):
    jobs = jobs_of(bench, tmp_path)
    study = bench.study.read_study()
    rows = list(bench.claims.all_rows(study, jobs))
    assert {name for row in rows for name in row.jobs} <= set(jobs.jobs)
    assert all(row.state(jobs).startswith("0 of ") for row in rows)
    longer = ("supernet", "sweep", "phase", "tfnas-search", "-full", "slim-ofa")
    assert all(job.minutes <= 15 or any(part in name for part in longer) for name, job in jobs.jobs.items())


def test_figures_of_other_settings_are_not_taken(bench, tmp_path):
    jobs = jobs_of(bench, tmp_path)
    for name in ("spos-supernet", "spos-scores", "spos-range-00"):
        finish(jobs, name)
    assert jobs.done("spos-scores") and jobs.done("spos-range-00")
    longer = jobs_of(bench, tmp_path, "spos.supernet_epochs=200")
    assert not longer.done("spos-supernet") and longer.done("spos-range-00")
    assert not longer.done("spos-scores")  # which reads the supernet
    assert jobs_of(bench, tmp_path, "task.data_root=elsewhere").done("spos-scores")
    assert not jobs_of(bench, tmp_path, "task.size=32").done("spos-range-00")


def test_a_digest_is_of_all_that_a_config_says(bench, tmp_path, monkeypatch):
    """Of its bases, wherever they are, and of the blocks that it imports; not of comments."""
    import shutil

    for folder in ("configs", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("results", "*.json*"))
    monkeypatch.setattr(bench.job, "ROOT", tmp_path)
    monkeypatch.setattr(bench.job, "CONFIGS", tmp_path / "benchmarks/claims/configs")

    def digests():
        bench.job._digest.cache_clear()
        return {name: bench.job.config_digest(name) for name in ("spos_search", "autoslim_wrn_search", "tfnas_search")}

    before = digests()
    assert before == (monkeypatch.undo(), digests())[1]  # wherever the clone is
    monkeypatch.setattr(bench.job, "ROOT", tmp_path)
    monkeypatch.setattr(bench.job, "CONFIGS", tmp_path / "benchmarks/claims/configs")
    changes = {
        "benchmarks/claims/blocks.py": {"spos_search"},
        "configs/_base_/models/autoslim_fifths.py": {"autoslim_wrn_search"},
        "configs/_base_/models/tfnas_cifar10.py": {"tfnas_search"},
        "benchmarks/claims/configs/task.py": set(before),
        "configs/_base_/runtime.py": set(),
    }
    for path, names in changes.items():
        (tmp_path / path).write_text((tmp_path / path).read_text() + "\n# a remark\n")
        assert digests() == before
        (tmp_path / path).write_text((tmp_path / path).read_text() + "\nadded = 1\n")
        after = digests()
        assert {name for name in before if after[name] != before[name]} == names
        before = after


def test_what_is_to_do_includes_what_it_needs(bench, tmp_path):
    jobs = jobs_of(bench, tmp_path)
    assert jobs.todo(["spos-found-s0"]) == ["spos-supernet", "spos-search", "spos-found-s0"]
    finish(jobs, "spos-search", subnet={})
    assert jobs.todo(["spos-found-s0"]) == ["spos-found-s0"]  # figures are enough
    finish(jobs, "spos-supernet")
    assert jobs.todo(["spos-scores"]) == ["spos-supernet", "spos-scores"]  # files are not here
    jobs.folder("spos-supernet").mkdir(parents=True)
    (jobs.folder("spos-supernet") / "done").touch()
    assert jobs.todo(["spos-scores"]) == ["spos-scores"]


def test_figures_go_to_the_repository_and_count_there(bench, tmp_path):
    committed = tmp_path / "results"
    committed.mkdir()
    (committed / "spos.jsonl").write_text('{"job": "spos-old", "identity": "of another study"}\n')
    jobs = jobs_of(bench, tmp_path / "here", committed=committed)
    finish(jobs, "spos-range-04", test=70.0)
    assert [path.name for path in jobs.collect()] == ["spos.jsonl"]
    lines = [json.loads(line)["job"] for line in (committed / "spos.jsonl").read_text().splitlines()]
    assert lines == ["spos-old", "spos-range-04"]
    fresh = jobs_of(bench, tmp_path / "there", committed=committed)
    assert fresh.record("spos-range-04")["test"] == 70.0 and fresh.collect() == []
    assert not jobs_of(bench, tmp_path / "there").done("spos-range-04")


def test_the_table_says_met_and_missed(bench, tmp_path):
    study = bench.study.read_study(tiny=True)
    jobs = jobs_of(bench, tmp_path, tiny=True)
    scores = {"range": [[s] for s in (20, 30, 40)], "band": [[30], [20]]}
    finish(jobs, "spos-scores", scores=scores)
    for index, accuracy in enumerate((60.0, 65.0, 70.0)):
        finish(jobs, f"spos-range-{index:02d}", test=accuracy, flops=(2, 3, 1)[index])
    for seed in (0, 1):
        finish(jobs, f"spos-found-s{seed}", test=71.0 + seed)
    for index, seed in ((0, 0), (1, 0), (1, 1)):
        finish(jobs, f"spos-band-{index:02d}-s{seed}", test=70.0 + seed + 0.1 * index)
    ranking, band, duel = bench.spos.rows(study, jobs)
    assert ranking.state(jobs) == "**met**" and "tau 1.00" in ranking.figure
    assert ranking.figure.endswith("flops alone: tau -0.33")
    assert band.state(jobs) == "**missed**"
    assert duel.state(jobs) == "**met**" and duel.figure.startswith("+0.95 (0.05) points, 2 seeds")
    text = bench.table.markdown([ranking, band, duel], jobs)
    assert len({line.count("|") for line in text.splitlines()}) == 1


@pytest.mark.parametrize(("longer", "state"), [(71.0, "**met**"), (69.0, "**missed**")])
def test_what_is_ahead_stays_ahead_when_trained_twice_as_long(bench, tmp_path, longer, state):
    changes = ["autoslim.seeds=[0, 1]", "autoslim.twice={shape: resnet, share: 50, seeds: [0]}"]
    study = bench.study.read_study(changes, tiny=True)
    jobs = jobs_of(bench, tmp_path, *changes, tiny=True)
    finish(jobs, "autoslim-resnet-search")
    for seed in (0, 1):
        for kind, accuracy in {"found": 62.0, "uniform": 60.0, "random": 61.9}.items():
            finish(jobs, f"autoslim-resnet-{kind}50-s{seed}", test=accuracy + 0.1 * seed * (kind == "found"), macs=1)
    for kind, accuracy in {"found": longer, "uniform": 70.0, "random": 72.0}.items():
        finish(jobs, f"autoslim-resnet-{kind}50-twice-s0", test=accuracy)
    *_, row = bench.autoslim.rows(study, jobs)
    assert row.state(jobs) == "**missed**" and "+2.05 (0.05), then" in row.figure  # random widths are ahead now
    finish(jobs, "autoslim-resnet-random50-twice-s0", test=60.0)
    *_, row = bench.autoslim.rows(study, jobs)
    assert row.state(jobs) == state


def test_what_half_the_macs_cost_by_size(bench, tmp_path):
    study = bench.study.read_study(tiny=True)
    jobs = jobs_of(bench, tmp_path, tiny=True)
    finish(jobs, "autoslim-resnet-search")
    for name, macs, accuracy in (("uniform50", 1, 70.0), ("full100", 2, 74.0), ("wide0.75", 8, 77.0)):
        finish(jobs, f"autoslim-resnet-{name}-s0", test=accuracy, macs=macs * 1_000_000)
    *_, row, _ = bench.autoslim.rows(study, jobs)
    assert row.state(jobs) == "reported"
    assert row.figure == "70.00 of 1.00 M, 74.00 of 2.00 M, 77.00 of 8.00 M: half the macs cost 4.00, 1.50"


def test_targets_are_judged_by_the_table_and_by_the_clock(bench, tmp_path):
    study = bench.study.read_study(tiny=True)
    jobs = jobs_of(bench, tmp_path, tiny=True)
    finish(jobs, "tfnas-table", device={"pace": 1.0})
    finish(jobs, "tfnas-search-60", target=10.0, latency=9.95, macs=1000)
    for seed, (found, rival) in enumerate(((71.0, 70.0), (72.0, 70.8))):
        finish(jobs, f"tfnas-found60-s{seed}", test=found)
        finish(jobs, f"tfnas-rival60-{seed:02d}-s{seed}", test=rival)
    states = []
    for measured, speed in ((10.4, 1.0), (10.6, 1.0), (13.2, 1.3)):  # the last one on a machine that is slower now
        finish(jobs, "tfnas-measured", measured={"60": measured}, pace=speed)
        duel, claim, milliseconds = bench.tfnas.rows(study, jobs)
        states.append(milliseconds.state(jobs))
    assert duel.state(jobs) == "**met**" and duel.figure == "+1.10 (0.10) points"
    assert claim.state(jobs) == "**missed**"  # of two that are asked for there is one target
    assert (
        states == ["**met**", "**missed**", "**met**"] and milliseconds.figure == "by the table -0.50%; measured +1.5%"
    )


def test_slimming_sees_as_many_images_as_what_it_stands_beside(bench, tmp_path):
    study = bench.study.read_study()
    assert [bench.slim.epochs_of(study, case) for case in ("autoslim", "spos", "ofa", "tfnas")] == [80, 112, 52, 50]
    jobs = jobs_of(bench, tmp_path)
    for case in study["slim"]["cases"]:
        trained, tuned = jobs.jobs[f"slim-{case}-full"].settings, jobs.jobs[f"slim-{case}-s0"].settings
        assert trained["epochs"] + tuned["tune_epochs"] == bench.slim.epochs_of(study, case)
    for row in bench.slim.rows(study, jobs):
        for name in row.jobs:
            finish(jobs, name, test=70.0 + name.endswith("1"))
        assert row.state(jobs) == "reported"
    row, *_ = bench.slim.rows(study, jobs)
    assert row.figure == "found 70.20 (70.00 to 71.00), slimmed 70.50 (70.00 to 71.00): -0.30 points"


def test_an_unknown_number_of_the_study_is_refused(bench):
    with pytest.raises(SystemExit, match="one of task.data_root"):
        bench.study.read_study(["spos.epoch=3"])


def test_jobs_run_after_those_they_need_and_a_failure_stops_what_needs_it(bench, tmp_path, monkeypatch):
    """The processes are shells, all else is real."""
    import subprocess

    jobs = jobs_of(bench, tmp_path)

    def start(command, log, threads):
        names = command[command.index("--do") + 1 :]
        started.append(names)
        for name in names:
            if name in ("spos-search", "spos-range-04"):  # what comes behind it in this process is not done
                return subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
            jobs.folder(name).mkdir(parents=True)
            (jobs.folder(name) / "done").touch()
            finish(jobs, name)
        return subprocess.Popen(["true"])

    started: list[list[str]] = []
    monkeypatch.setattr(bench.running, "start", start)
    runner = bench.running.Runner(jobs, [], at_once=2)
    assert runner.run(["spos-found-s0", "spos-scores"]) == 1
    assert started[0] == ["spos-supernet"] and sorted(started[1:]) == [["spos-scores"], ["spos-search"]]
    assert runner.failed == ["spos-search"] and jobs.done("spos-scores")
    started.clear()
    runner = bench.running.Runner(jobs, [])
    assert runner.run([f"spos-range-{index:02d}" for index in range(10)]) == 1
    assert [len(names) for names in started] == [4, 4, 4] and started[0][2] == "spos-range-07"
    assert runner.failed == ["spos-range-04"] and jobs.done("spos-range-07") and jobs.done("spos-range-09")


# dry runs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A hundred and twenty images of noise for training, twenty for tests, as folders."""
    from PIL import Image

    from mmrazor_lite.datasets.cifar10 import CLASSES

    root, rng = tmp_path_factory.mktemp("cifar10"), np.random.default_rng(0)
    for (split, number), name in itertools.product((("train", 12), ("test", 2)), CLASSES):
        folder = root / split / name
        folder.mkdir(parents=True)
        for index in range(number):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{index:02d}.png")
    return root


def tiny_study(bench, work, data, *changes):
    changes = [f"task.data_root={data}", "task.per_class=null", "task.batch=12", *changes]
    study = bench.study.read_study(changes, tiny=True)
    return study, bench.job.Jobs.of(bench.claims.all_jobs(study), work, None)


def figures(jobs, name):
    record = jobs.record(name)
    return {key: record[key] for key in ("test", "held_out", "macs", "subnet")}


def test_a_job_that_was_killed_ends_as_one_that_was_not(bench, tmp_path, data):
    """SIGTERM after the first of three epochs; then the same command again."""
    name, results = "autoslim-resnet-full100-s0", []
    for work in (tmp_path / "whole", tmp_path / "killed"):
        study, jobs = tiny_study(bench, work, data, "autoslim.epochs={resnet: 3}")
        if work.name == "killed":
            first = jobs.folder(name) / "train" / "epoch_1.pth"
            killer = threading.Thread(target=terminate_when, args=(first,))
            killer.start()
            assert bench.main.do(jobs, name, study) == bench.running.ENDED
            killer.join()
            assert not jobs.done(name) and not (jobs.folder(name) / "train" / "epoch_3.pth").exists()
        assert bench.main.do(jobs, name, study) == 0
        record = jobs.record(name)
        assert record["settings"]["epochs"] == 3 and "data_root" not in record["settings"]
        assert "--resume" in record["commands"]["train"] and str(tmp_path) not in str(record["commands"])
        results.append((figures(jobs, name), (jobs.folder(name) / "train" / "epoch_3.pth").read_bytes()))
    assert results[0] == results[1]


@pytest.mark.wide
@pytest.mark.parametrize("name", ["autoslim_resnet", "tfnas"])
def test_the_same_at_another_size_of_images(bench, tmp_path, data, name):
    from benchmarks.claims.bench import Bench
    from mmrazor_lite.config import build_model, load_config
    from mmrazor_lite.subnet import write_subnet

    study, jobs = tiny_study(bench, tmp_path, data, "task.size=20")
    made = Bench(jobs, next(iter(jobs.jobs.values())), study)
    prepared, file = made.algorithm(name, "supernet"), tmp_path / "subnet.yaml"
    subnet = prepared.search_space.min()
    write_subnet(file, subnet, prepared.search_space, prepared.cost_model.of(subnet))
    config = load_config(made.config(name, "subnet"), [*made.options("subnet"), f"model.fix_subnet={file}"])
    alone = build_model(config)
    assert prepared.input_shape == alone.input_shape == (3, 20, 20)
    assert config.train_dataloader.dataset.dataset.dataset.pipeline[0].scale == (20, 20)


def terminate_when(path: Path) -> None:
    while not path.exists():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.wide
@pytest.mark.parametrize("claim", ["spos", "autoslim", "ofa", "sweep", "tfnas"])
def test_every_kind_of_job_runs(bench, tmp_path, data, claim):
    study, jobs = tiny_study(bench, tmp_path, data)
    chosen = [name for name, job in jobs.jobs.items() if job.claim == claim]
    for name in jobs.todo(chosen):
        assert bench.main.do(jobs, name, study) == 0
    assert all(map(jobs.done, chosen)) and not jobs.todo(chosen)
    states = [row.state(jobs) for row in bench.claims.all_rows(study, jobs, claim)]
    assert states and set(states) <= {"**met**", "**missed**", "reported"}
    again = dataclasses.replace(jobs, work=tmp_path / "other")
    assert not any(map(again.done, chosen))


@pytest.mark.wide
@pytest.mark.parametrize("case", ["autoslim", "spos", "ofa", "tfnas"])
def test_the_full_network_of_a_space_is_trained_slimmed_and_tuned(bench, tmp_path, data, case):
    study, jobs = tiny_study(bench, tmp_path, data)
    finder, _ = bench.slim.searched_by(study, case)
    finish(jobs, finder, macs=600_000, found={"50": {"macs": 600_000}}, nets=[{"macs": 600_000}])
    for name in (f"slim-{case}-full", f"slim-{case}-s0"):
        assert bench.main.do(jobs, name, study) == 0
    full, slimmed = jobs.record(f"slim-{case}-full"), jobs.record(f"slim-{case}-s0")
    assert full["macs"] > 600_000 and 0.8 * 600_000 < slimmed["macs"] <= slimmed["budget"] == 600_000
    assert all(0 <= slimmed[key] <= 100 for key in ("test", "cut"))


# the page -------------------------------------------------------------------------------------------------------


def test_the_page_shows_what_is_in_the_repository(bench, tmp_path):
    from benchmarks.claims import page

    study = bench.study.read_study()
    jobs = bench.job.Jobs.of(bench.claims.all_jobs(study), tmp_path)
    text = page.PAGE.read_text()
    assert page.with_results(text, page.results(study, jobs)) == text


def test_pictures_show_what_is_done(bench, tmp_path):
    from benchmarks.claims import pictures

    study = bench.study.read_study(tiny=True)
    jobs = jobs_of(bench, tmp_path, tiny=True)
    assert pictures.draw(study, jobs, tmp_path / "pictures") == []
    finish(jobs, "spos-scores", scores={"range": [[20], [30], [40]], "band": [[30], [20]]})
    finish(jobs, "spos-range-00", test=60.0)
    finish(jobs, "autoslim-resnet-search")
    for kind, accuracy in (("found", 71.0), ("uniform", 70.0)):
        finish(jobs, f"autoslim-resnet-{kind}50-s0", test=accuracy)
    drawn = pictures.draw(study, jobs, tmp_path / "pictures")
    assert [path.name for path in drawn] == ["spos.png", "autoslim.png"]
    finish(jobs, "ofa-specialise", nets=[{"macs": 400_000}])
    finish(jobs, "ofa-net-0", test=70.0, tuned=70.5)
    for name, accuracy in (("found60", 71.0), ("rival60-00", 70.0)):
        finish(jobs, f"tfnas-{name}-s0", test=accuracy)
    assert len(pictures.draw(study, jobs, tmp_path / "pictures")) == 4
    finish(jobs, "ofa-scratch-0-s0", test=69.0)
    finish(jobs, "slim-autoslim-s0", test=70.0)
    drawn = pictures.draw(study, jobs, tmp_path / "pictures")
    assert [path.stem for path in drawn] == ["spos", "autoslim", "ofa", "tfnas", "slim"]
    before = [path.read_bytes() for path in drawn]
    assert [path.read_bytes() for path in pictures.draw(study, jobs, tmp_path / "pictures")] == before
