"""Budgets as people write them, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmrazor_lite.errors import UserError
from mmrazor_lite.slimming.budgets import Budget, Floor, read_goal

FULL = {"macs": 4e8, "flops": 5e8, "params": 4e6, "memory": 2e7}


@pytest.mark.parametrize(
    ("given", "counted"),
    [
        ("50%", {"macs": 2e8}),
        ("0.3G", {"macs": 3e8}),
        (300, {"macs": 3e8}),
        (np.int64(300), {"macs": 3e8}),
        ("0.5M", {"macs": 5e5}),
        ("12MB", {"memory": 12e6}),
        ({"params": "2M"}, {"params": 2e6}),
        ({"params": "50%", "flops": "400M", "macs": 100}, {"params": 2e6, "flops": 4e8, "macs": 1e8}),
        ({"params": "50%", "macs": "110%"}, {"params": 2e6, "macs": 4.4e8}),
    ],
)
def test_counted(given, counted):
    goal = read_goal(given, None, None, FULL)
    assert isinstance(goal, Budget) and goal.counted == pytest.approx(counted) and goal.latency is None


@pytest.mark.parametrize(
    ("given", "of_20"), [("12ms", 12), ({"latency": "70%"}, 14), ({"latency": 5}, 5), ("1s", 1000)]
)
def test_latency_is_measured_later(given, of_20):
    assert read_goal(given, None, None, FULL).milliseconds(20.0) == pytest.approx(of_20)


def test_floors():
    assert read_goal(None, "90%", None, FULL) == read_goal(None, 90, None, FULL) == Floor(accuracy=90.0)
    assert read_goal(None, np.float32(90), None, FULL) == Floor(accuracy=90.0)
    assert read_goal(None, None, 1.0, FULL).least(91.5) == 90.5


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ((None, None, None), "give one of budget='50%', min_accuracy='90%' and max_drop=1.0, found none"),
        (("50%", None, 1), "found budget, max_drop"),
        (("50q", None, None), "unknown unit"),
        ((0.5, None, None), "budget macs=0.5: write a share as '50%', an amount as '0.5M'"),
        ((np.float32(0.5), None, None), "budget macs=0.5: write a share as '50%'"),
        ((np.array([0.5]), None, None), "budget macs=0.5: write a share as '50%'"),
        ((torch.tensor(0.5), None, None), "budget macs=0.5: write a share as '50%'"),
        ((" 0.5 ", None, None), "write a share as '50%', an amount as '0.5M'"),
        (({"params": "5e-1"}, None, None), "write a share as '50%', an amount as '0.5M'"),
        (("100%", None, None), r"the network meets it as it is \(macs 400,000,000 of 400,000,000\)"),
        (({}, None, None), "says nothing"),
        (({"weights": 1}, None, None), "unknown resource 'weights'"),
        ((None, 0.9, None), "percent are wanted, write '90%'"),
        ((None, "0.9", None), "percent are wanted, write '90%'"),
        ((None, torch.tensor(0.5), None), "percent are wanted, write '50%'"),
        ((None, "110%", None), "give percent above 0 and up to 100"),
        ((None, None, -1), "max_drop=-1: give percent above 0"),
        ((None, None, True), "max_drop=True: give percent above 0"),
    ],
)
def test_what_is_no_goal(given, problem):
    with pytest.raises(UserError, match=problem):
        read_goal(*given, FULL)
