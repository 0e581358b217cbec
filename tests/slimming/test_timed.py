"""A limit in milliseconds is met by measurement: what the table says is put right until it is, or it is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from small_nets import build

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.steady_rounds import Pace
from mmrazor_lite.slimming import timed
from mmrazor_lite.slimming.budgets import read_goal
from mmrazor_lite.slimming.prepared import prepare
from mmrazor_lite.slimming.report import Latency
from mmrazor_lite.slimming.speed import compare_latency
from mmrazor_lite.slimming.timed import NEAR, SEARCHES, Pair, Stopwatch, check_delivered, limit_of, tightened
from mmrazor_lite.subnet import Subnet

COSTS = {"macs": 10**6, "flops": 10**6, "params": 10**4, "memory": 10**6}
FULL = 1000  # channels of the one group
ENDS = {0.01: 0.01, 10.0: 10.0}


def goal(text: str):
    return read_goal({"latency": text}, None, None, COSTS)


def search(limit: float) -> Subnet:
    """The widest subnet by a table that takes 0.01 ms for each channel."""
    return Subnet({"width": int(min(max(limit / 0.01, 1), FULL))})


def predicted(subnet) -> float:
    return 0.01 * subnet["width"]


@pytest.mark.parametrize("text", ["70%", "50%", "5ms", "30%"])
@pytest.mark.parametrize(
    "real",
    [
        lambda width: 0.01 * width,
        lambda width: 0.017 * width,
        lambda width: 0.4 + 0.006 * width,
        lambda width: 0.01 * width + 3e-6 * width**2,
        lambda width: 0.01 * (-(-width // 16) * 16),
    ],
)
def test_what_the_table_says_is_put_right(text, real):
    wanted = goal(text).milliseconds(real(FULL))
    tried = []

    def measured(subnet):
        tried.append(subnet)
        return Pair(real(FULL), real(subnet["width"]))

    subnet, told = tightened(goal(text), search, predicted, measured, {0.01: real(1), 0.01 * FULL: real(FULL)})
    assert abs(real(subnet["width"]) / wanted - 1) <= NEAR and len(tried) <= SEARCHES
    assert f"{real(subnet['width']):.3g} ms beside {real(FULL):.3g} ms of the original" in told


def test_coarse_widths_give_the_slowest_that_is_fast_enough():
    def coarse(limit: float) -> Subnet:
        return Subnet({"width": search(limit)["width"] // 250 * 250 or 250})

    measured = []

    def stopwatch(subnet):
        measured.append(subnet["width"])
        return Pair(12.0, 0.012 * subnet["width"])

    subnet, told = tightened(goal("7ms"), coarse, predicted, stopwatch, {2.5: 3.0, 10.0: 12.0})
    assert subnet["width"] == 500 and set(measured) <= {500, 750} and "85.7% of the limit" in told


def test_what_is_never_fast_enough_is_refused_with_both_figures():
    with pytest.raises(UserError, match="no subnet was found that takes no longer; .* 9 ms beside 10 ms") as caught:
        tightened(goal("5ms"), search, predicted, lambda subnet: Pair(10.0, 9.0), ENDS)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="10 ms beside 9.9 ms"):  # within the limit, and slower than the original
        tightened(goal("9.9ms"), search, predicted, lambda subnet: Pair(9.9, 10.0), ENDS)


def test_a_limit_that_nothing_or_all_meets():
    assert limit_of(goal("70%"), Pair(10.0, 1.0)) == 7.0
    with pytest.raises(
        UserError, match="latency 5% is out of reach: the fastest subnet takes 1 ms, the full network 10"
    ):
        limit_of(goal("5%"), Pair(10.0, 1.0))
    with pytest.raises(UserError, match="the network meets it as it is, it takes 10 ms"):
        limit_of(goal("11ms"), Pair(10.0, 1.0))


def latency(slimmed: float) -> Latency:
    return Latency((10.0, 10.1, 9.9), (slimmed, 1.01 * slimmed, 0.99 * slimmed), {})


def test_what_is_slower_than_the_original_is_not_delivered():
    assert check_delivered(goal("70%"), latency(7.1)) == []
    (told,) = check_delivered(goal("70%"), latency(8.0))
    assert "8 ms beside 10 ms, 114% of the limit" in told
    with pytest.raises(UserError, match="the slimmed network takes 11 ms and the full one 10 ms"):
        check_delivered(goal("70%"), latency(11.0))


class Clock:
    """A bench that counts parameters, and is slowed down by other work now and then."""

    threads, pace = 1, None

    def __init__(self, noise: float) -> None:
        self.rng, self.noise, self.runs = np.random.default_rng(0), noise, 0

    def timer(self, module, size):
        seconds = sum(p.numel() for p in module.parameters()) * 1e-6

        def run(runs: int) -> float:
            self.runs += 1
            return runs * seconds * (1 + self.noise * self.rng.random())

        return run


@pytest.fixture(scope="module")
def prepared():
    return prepare(build("Residual"), (3, 16, 16))


@pytest.mark.parametrize(("noise", "rounds"), [(0.0, 15), (0.3, 60)])
def test_a_busy_machine_is_measured_for_longer(prepared, noise, rounds, monkeypatch):
    monkeypatch.setattr(timed, "MIN_SECONDS", 1e-9)
    clock, threads = Clock(noise), torch.get_num_threads()
    space = prepared.mutator.search_space
    pair = Stopwatch(prepared, clock)(space.max())
    assert pair.slimmed == pytest.approx(pair.original, rel=0.1 if noise else 1e-9)
    rounds_run = (clock.runs - 4 * -(-rounds // 15)) / 2  # behind two warm-ups of both timers
    assert rounds_run == rounds and torch.get_num_threads() == threads


class Machine:
    """A bench whose runs take a microsecond for each parameter, longer on a day when the machine is slow."""

    slow, threads = 1.0, 1

    def __init__(self, device="cpu", backend="torch", threads=1, batch_size=1, **layout) -> None:
        self.pace = Pace(lambda runs: runs * 1e-3 * Machine.slow)

    def facts(self):
        return {"device": "cpu", "name": "a machine", "backend": "torch", "version": "1", "threads": 1, "batch_size": 1}

    def timers(self, modules):
        return {key: self.timer(module, size) for key, (module, size) in modules.items()}

    def timer(self, module, size):
        seconds = 1e-6 * sum(p.numel() for p in module.parameters()) + 1e-6
        return lambda runs: runs * seconds * Machine.slow


def test_a_millisecond_is_that_of_the_table_on_a_slow_day(prepared, tmp_path, monkeypatch):
    """What is measured on a machine that is slow all the while has the unit of the table, and that is said."""
    monkeypatch.setattr(timed, "Bench", Machine)
    monkeypatch.setattr(timed, "BUILT", {"checks": 3, "repeats": 1, "min_seconds": 1e-9})
    full = prepared.mutator.search_space.max()
    found = timed.table_measured(prepared, Machine(), tmp_path, False, 0)
    before = Stopwatch(prepared, found.bench)(full)
    assert before.speed == 1 and found.table.device["pace"] == pytest.approx(1.0)
    monkeypatch.setattr(Machine, "slow", 1.45)
    after = timed.table_of_file(prepared, tmp_path / timed.TABLE)
    assert Stopwatch(prepared, Machine())(full).original == pytest.approx(1.45 * before.original)
    pair = Stopwatch(prepared, after.bench)(full)
    assert pair.original == pytest.approx(before.original) and pair.speed == pytest.approx(1 / 1.45)
    latency = compare_latency(*[prepared.mutator.export(full)] * 2, (3, 16, 16), bench=after.bench)
    assert np.median(latency.slimmed) == pytest.approx(before.original) and latency.speed == pytest.approx(1 / 1.45)
    assert latency.as_dict()["speed"] == latency.speed
    told = f"{pair.slimmed:.3g} ms beside {pair.original:.3g} ms (scaled from 69% of full speed)"
    with pytest.raises(UserError, match="no subnet was found") as caught:
        tightened(goal("0.01ms"), search, predicted, lambda subnet: pair, ENDS)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"name": "Pentium"}, "is of name 'Pentium', here it is '"),
        ({"device": "cuda"}, "is of device 'cuda', here it is 'cpu'"),
    ],
)
def test_a_table_of_another_machine(prepared, change, part, table, tmp_path):
    data = json.loads(table.read_text())
    del data["crc"]
    data["device"].update(change)
    path = tmp_path / "other.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=part) as caught:
        timed.table_of_file(prepared, path)
    assert "other.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def table(prepared, tmp_path_factory):
    folder, threads = tmp_path_factory.mktemp("table"), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timed, "BUILT", {"checks": 3, "repeats": 1, "min_seconds": 1e-9})
        found = timed.table_measured(prepared, timed.bench_of(prepared), folder, False, 0)
    assert "a latency table was measured" in found.notes[0] and torch.get_num_threads() == threads
    return folder / timed.TABLE


def test_a_measurement_has_the_settings_of_the_table(prepared, table, tmp_path):
    data = json.loads(table.read_text())
    del data["crc"]
    data["device"].update(threads=1, batch_size=3, channels_last=True, spread=0.4, slow=0.3, version="1.0")
    path = tmp_path / "other.json"
    path.write_text(json.dumps(data))
    found = timed.table_of_file(prepared, path)
    facts = found.bench.facts()
    assert (facts["threads"], facts["batch_size"], facts["channels_last"]) == (1, 3, True)
    assert any("repeats differ by 40%" in note for note in found.notes)
    assert any("30% of the latency table was measured while the machine was never at" in note for note in found.notes)
    assert any("measured with torch 1.0, here it is" in note for note in found.notes)
