"""The report of a network that was slimmed: plain data, and what its latencies say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mmrazor_lite.slimming.report import GroupRow, Latency, Quality, Report, Stage


def report(latency: Latency | None = None) -> Report:
    stages = [
        Stage("original", Quality(90.0, 100.0, 0.0, 100), 0.0, Quality(99.0, 100.0, 0.0, 400)),
        Stage("cut", Quality(11.0, 12.0, math.inf, 100), 1.5),
        Stage("refit", Quality(88.0, 93.0, 0.05, 100), np.float64(3.0)),
    ]
    groups = [
        GroupRow("stem", ("stem.conv",), 16, 8, 1, (3.0, 1.0), 0.25, (1.0, 0.5, 0.0), 0.6, np.float32(0.5)),
        GroupRow("odd[name]", ("a", "b"), 32, 32, 4, (), 0.0, (), 0.4, 0.5),
    ]
    costs = {"original": {"macs": 1_000_000, "params": 5000}, "slimmed": {"macs": np.int64(500_000), "params": 2600}}
    return Report(
        "Net", (3, 32, 32), "macs 50%", stages, groups, costs, latency, ["head stays: its width is an output"]
    )


def times(original: float, slimmed: float, noise: float = 0.01) -> Latency:
    rng = np.random.default_rng(0)
    pair = [tuple(value * (1 + noise * rng.standard_normal(21))) for value in (original, slimmed)]
    return Latency(*pair, machine={"device": "cpu", "name": "a processor", "threads": 2, "batch_size": 1})


def test_it_is_plain_data_for_json():
    data = report(times(2.0, 1.0)).as_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["stages"][1]["held_out"]["distance"] is None  # infinity
    assert data["costs"]["slimmed"]["macs"] == 500_000
    assert data["latency"]["speedup"]["median"] == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize(
    ("slimmed", "says"),
    [(0.8, "2."), (2.9, "SLOWER than the original: takes 1."), (2.0, "no difference")],
)
def test_a_network_that_got_slower_is_called_so(slimmed, says):
    assert times(2.0, slimmed).verdict.startswith(says)


def test_what_slows_both_networks_down_for_a_while_does_not_change_the_ratio():
    busy = np.where(np.arange(21) % 3 == 0, 5.0, 1.0)
    latency = Latency(tuple(2.0 * busy), tuple(1.0 * busy), {})
    assert latency.speedup == pytest.approx((2, 2, 2))
