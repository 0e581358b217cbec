"""The benchmark of ``slim`` at tiny size: a network of four layers, forty images, and what is made of the records."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench():
    """The modules of the benchmark, which are imported from the root of the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT), *sys.path])
        from benchmarks import slim, slim_costs, slim_jobs, slim_networks, slim_peers, slim_report

        patch.setattr(slim_jobs, "RESULTS", ROOT / "no_such_folder")  # figures of the repository are no part of a test
        yield SimpleNamespace(
            run=slim,
            costs=slim_costs,
            jobs=slim_jobs,
            networks=slim_networks,
            peers=slim_peers,
            report=slim_report,
            patch=patch,
        )


@pytest.fixture(scope="module")
def tiny(bench):
    """A case of the table, under the name of one that has goals: untrained, 40 images to slim with, 60 to judge by."""
    import torch
    from torch import nn

    networks = bench.networks

    def build(_):
        torch.manual_seed(0)
        layers = []
        for before, width in ((3, 16), (16, 32), (32, 16)):
            layers += [nn.Conv2d(before, width, 3, 2, 1), nn.BatchNorm2d(width, momentum=None), nn.ReLU()]
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
        with torch.no_grad():
            network(images(60, 99).images)  # norms get statistics, so that images get different classes
        return network

    def images(number, seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(number, 3, 16, 16, generator=generator)
        return networks.Images(x, torch.arange(number) % 10)

    class Random:
        size = 16

        def calibration(self, work, seed):
            return images(40, seed)

        def test(self, work, seed):
            import numpy as np

            return images(60, 99), np.arange(60)

    case = networks.Case("Tiny", build, Random(), (73,), "11")
    bench.patch.setitem(networks.CASES, "resnet20", case)
    return case


def options(work: Path, **changes: object) -> argparse.Namespace:
    values = {"work_dir": work, "only": "*", "peers": None, "threads": 1, "again": False}
    return argparse.Namespace(**(values | changes))


# the list -------------------------------------------------------------------------------------------------------


def test_every_goal_has_its_jobs(bench):
    jobs = list(bench.jobs.jobs())
    names = {job.name for job in jobs}
    assert len(names) == len(jobs)
    assert all(bench.jobs.Job.of(job.name) == job for job in jobs)
    report = bench.report
    for goals, method in ((report.UNTUNED, "ours"), (report.AGREES, "ours"), (report.TUNED_DROP, "ours_tuned")):
        assert {f"{key}-{method}-{seed}" for key in goals for seed in bench.jobs.SEEDS} <= names
    assert {f"{key}-{method}-0" for key in report.SECONDS for method in ("slim", "forward")} <= names
    assert {job.method for job in jobs if job.peer} == {"tp_magnitude", "tp_taylor", "tp_bn", "fastnas"} | {
        f"{name}_tuned" for name in bench.jobs.PEERS
    }


@pytest.mark.parametrize(("depth", "params"), [(20, 269_722), (56, 853_018)])
def test_the_network_is_the_one_of_the_paper(bench, depth, params):
    """0.27 M and 0.85 M in the paper's table 6."""
    assert sum(p.numel() for p in bench.networks.CifarResNet(depth).parameters()) == params


def test_widths_of_the_peer_are_ours(bench):
    from mmrazor_lite.slimming.allocation import step_of

    assert all(bench.peers.divisor(width) == step_of(width, 1) for width in range(1, 400))


# a job ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(bench, tiny, tmp_path_factory):
    """The folder in which the jobs of ours are done."""
    work = tmp_path_factory.mktemp("slim")
    for method in ("ours", "l1_cut"):
        bench.jobs.do(f"resnet20-73-{method}-0", work, bench.run.measure)
    return work


@pytest.mark.wide
def test_a_record_has_what_was_left_after_each_stage(bench, measured):
    record = bench.jobs.read(measured, bench.jobs.Job("resnet20", 73, "ours", 0))
    assert 0.5 * record["full"]["macs"] < record["left"]["macs"] <= 0.73 * record["full"]["macs"]
    stages = {stage["name"]: stage for stage in record["stages"]}
    assert {"cut", "refit", "slim"} <= set(stages)
    # what is handed back is one of the networks that were tried, the one that the notes name
    assert stages[record["taken"]]["right"] == stages["slim"]["right"]
    assert stages["cut"]["same"] != stages["refit"]["same"]
    same = bench.jobs.truths(stages["slim"]["same"], 60)
    assert stages["slim"]["agreement"] == pytest.approx(100 * same.mean(), abs=1e-3)
    assert set(record["seconds"]) == {"rank", "search", "repair"}


def test_a_control_is_judged_as_it_was_cut(bench, measured):
    record = bench.jobs.read(measured, bench.jobs.Job("resnet20", 73, "l1_cut", 0))
    assert [stage["name"] for stage in record["stages"]] == ["cut"]
    assert record["left"]["macs"] <= 0.73 * record["full"]["macs"]


def test_what_is_done_is_not_run_again(bench, measured, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(bench.run, "run_one", lambda job, _: bool(ran.append(job.name)))
    bench.run.run_all(options(measured, only="resnet20-73-*-0"))
    assert ran == ["resnet20-73-first-0"]  # peers have no environment
    assert "resnet20-73-fastnas-0: left out" in capsys.readouterr().out
    bench.run.run_all(options(measured, only="resnet20-73-ours-0", again=True))
    assert ran[1:] == ["resnet20-73-ours-0"]


def test_what_was_collected_is_done_and_told_without_the_work_dir(bench, measured, tmp_path, monkeypatch):
    monkeypatch.setattr(bench.jobs, "RESULTS", tmp_path / "results")
    job, empty = bench.jobs.Job("resnet20", 73, "ours", 0), tmp_path / "empty"
    assert not bench.jobs.done(empty, job)
    assert bench.jobs.collect(measured) == [tmp_path / "results/resnet20.jsonl"]
    assert bench.jobs.done(empty, job) and bench.jobs.read(empty, job) == bench.jobs.read(measured, job)
    assert bench.report.report(empty).splitlines()[2:] == bench.report.report(measured).splitlines()[2:]
    assert bench.jobs.collect(measured) == bench.jobs.collect(empty) == []
    # a record of the work dir is newer than one that was collected
    newer = {**bench.jobs.read(measured, job), "date": "2099-01-01"}
    path = bench.jobs.result_file(empty, job)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(newer))
    assert bench.jobs.read(empty, job)["date"] == "2099-01-01" and bench.jobs.collect(empty)
    path.unlink()
    assert bench.jobs.read(empty, job)["date"] == "2099-01-01"
    assert len((tmp_path / "results/resnet20.jsonl").read_text().splitlines()) == 2  # of ours and of the control
    # weights are not in the repository: a network is trained where the work dir has none
    trained = bench.jobs.Job("densenet", 100, "train", 0)
    bench.jobs.result_file(measured, trained).write_text(json.dumps({"job": trained.name}))
    bench.jobs.collect(measured)
    bench.jobs.result_file(measured, trained).unlink()
    assert bench.jobs.read(empty, trained) and not bench.jobs.done(empty, trained)


def test_the_original_is_tuned_as_long(bench, tiny, measured, monkeypatch):
    """The control of what is tuned: the network that is not slimmed, by the same call."""
    seen = []

    def tuned(network, original, case, job, work):
        seen.append((network, original))
        return network

    monkeypatch.setattr(bench.run, "tuned", tuned)
    record = bench.run.measure(bench.jobs.Job("resnet20", 73, "none_tuned", 0), measured)
    ((network, original),) = seen
    assert network is not original and record["left"]["macs"] == record["full"]["macs"]
    assert [stage["name"] for stage in record["stages"]] == ["tuned"]


def test_a_job_that_fails_leaves_no_file(bench, tiny, tmp_path):
    with pytest.raises(KeyError, match="no_such_method"):
        bench.jobs.do("resnet20-73-no_such_method-0", tmp_path, bench.run.measure)
    job = bench.jobs.Job("resnet20", 73, "fastnas", 0)
    assert bench.run.run_one(job, options(tmp_path, peers=Path("/bin/false")))
    assert not (tmp_path / "jobs").exists()


def test_memory_is_what_the_work_adds(bench, tiny, tmp_path):
    import numpy as np

    kept = np.ones(50_000_000, np.uint8)  # held before: no part of it
    found = bench.costs.measure_costs(bench.jobs.Job("resnet20", 73, "forward", 0), tmp_path)
    assert found["base_mb"] > 50 and 0 <= found["above_mb"] < 40 and kept.all()
    assert found["weights_mb"] == pytest.approx(
        4 * sum(p.numel() for p in tiny.build(None).parameters()) / 2**20, abs=0.1
    )


@pytest.mark.wide
def test_a_peak_is_seen_after_what_held_it_is_gone():
    """In a process of its own: not every system forgets an earlier peak, which another test may have set."""
    code = (
        "from benchmarks.slim_costs import peak; import numpy as np; base = peak(reset=True); "
        "np.ones(600_000_000, np.uint8); print(peak() - base)"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 300e6 < int(found.stdout) < 700e6


# what is made of the records ------------------------------------------------------------------------------------


def test_a_mean_is_paired_by_image(bench):
    """Two seeds, two images, by hand: means 50 and 0 of the seeds, 0 and 50 of the images."""
    found = bench.report.paired({0: {0: 0.0, 1: 1.0}, 1: {0: 0.0, 1: 0.0}})
    assert found.mean == 25
    assert found.error == pytest.approx(math.sqrt(25**2 + 25**2))
    alone = bench.report.paired({0: {5: 1.0, 7: 0.0, 9: -1.0}})
    assert (alone.mean, alone.error) == (0, pytest.approx(100 / math.sqrt(3)))


def test_a_goal_is_met_or_missed(bench, measured, monkeypatch):
    lost = bench.report.Row(measured, "resnet20", 73, "ours").lost("slim").mean
    for points, verdict in ((lost, "| met |"), (lost - 0.01, "| **missed** |")):
        monkeypatch.setitem(bench.report.UNTUNED, "resnet20-73", points)
        line = next(line for line in bench.report.goals(measured).splitlines() if "Tiny, 73%" in line)
        assert line.endswith(verdict)
    assert "ResNet-56, 65% of the macs: at most 1.5 points lost (a prototype: 2.8) |  | not measured |" in (
        bench.report.goals(measured)
    )


def test_the_report_tells_every_stage_and_where_it_was_measured(bench, measured):
    text = bench.report.report(measured)
    record = bench.jobs.read(measured, bench.jobs.Job("resnet20", 73, "ours", 0))
    assert f"- date: {record['date']}\n" in text and f"- machine: {record['machine']}\n" in text
    lines = [line for line in text.splitlines() if line.startswith("| slim |")]
    assert len(lines) == len(record["stages"]) - 1  # what was taken is handed back, and shown once
    assert "what slim hands back" in lines[-1]
    assert "| control: largest weights (l1), as cut | cut |" in text
    json.dumps(record)


def test_a_method_that_failed_is_told(bench, measured):
    log = bench.jobs.result_file(measured, bench.jobs.Job("resnet20", 73, "tp_bn", 1)).parents[1] / "logs"
    log.mkdir(exist_ok=True)
    (log / "resnet20-73-tp_bn-1.log").write_text("Traceback ...\nKeyError: 'no such layer'\n\n")
    assert "- Torch-Pruning, BN scale did not end: KeyError: 'no such layer'" in bench.report.report(measured)


def test_norms_are_recalibrated_on_all_images(bench):
    import torch
    from torch import nn

    images = bench.networks.Images(torch.randn(200, 3, 2, 2) * 3 + 1, torch.zeros(200))
    norm = nn.BatchNorm2d(3)
    bench.peers.recalibrate(norm, images)
    assert torch.allclose(norm.running_mean, images.images.mean((0, 2, 3)), atol=1e-5)
    assert not norm.training and norm.momentum == 0.1


def test_torch_pruning_keeps_to_the_budget(bench, tiny):
    pytest.importorskip("torch_pruning")
    job = bench.jobs.Job("resnet20", 73, "tp_taylor", 0)
    images = tiny.data.calibration(None, 0)
    network, _ = bench.peers.torch_pruning(tiny.build(None).eval(), tiny, job, images, "tp_taylor")
    full = bench.jobs.costs(tiny.build(None), tiny.input_shape)["macs"]
    assert 0.6 * full < bench.jobs.costs(network, tiny.input_shape)["macs"] <= 0.74 * full
