"""Latencies of two networks, measured in turns."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.slimming.speed import compare_latency


def net(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Dropout(), nn.Conv2d(width, 4, 3))


def test_both_are_timed_in_eval_mode_and_left_as_they_were():
    threads = torch.get_num_threads()
    large, small = net(256).train().double(), net(2).eval()
    latency = compare_latency(large, small, (3, 24, 24), batch_size=2, threads=1, repeats=5, min_seconds=0.001)
    assert 3 <= len(latency.original) == len(latency.slimmed) <= 5  # those at full speed
    assert latency.speedup[1] > 1.5 and latency.verdict.endswith("times as fast")
    assert latency.machine["threads"] == 1 and latency.machine["batch_size"] == 2 and latency.machine["name"]
    assert all(module.training for module in large.modules()) and not any(m.training for m in small.modules())
    assert torch.equal(large[1].running_mean, torch.zeros(256, dtype=torch.float64)), "no statistics were moved"
    assert torch.get_num_threads() == threads


def test_no_thread_is_refused():
    with pytest.raises(UserError, match="threads=0"):
        compare_latency(net(2), net(2), (3, 8, 8), threads=0)
