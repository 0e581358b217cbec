from __future__ import annotations

import math

import numpy as np
import pytest

from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet import parse_budget
from mmrazor_lite.subnet.budget import parse_range


@pytest.mark.parametrize(
    ("value", "resource", "result"),
    [
        (300, "flops", 300e6),
        (np.float32(0.5), "params", 500e3),
        ("300", "macs", 300e6),
        ("300M", "macs", 300e6),
        (" 0.3 g ", "macs", 0.3e9),
        ("1.5T", "macs", 1.5e12),
        ("800K", "params", 800e3),
        ("3e2M", "flops", 300e6),
        ("50%", "flops", 351.45e6),
        (40, "memory", 40e6),
        ("512KiB", "memory", 2.0**19),
        ("100000B", "memory", 1e5),
        (20, "latency", 20.0),
        ("20ms", "latency", 20.0),
        ("250us", "latency", 0.25),
        ("100s", "latency", 1e5),
        (99999, "flops", 99999e6),
    ],
)
def test_budgets(value: object, resource: str, result: float) -> None:
    assert parse_budget(value, resource, 702.90e6) == pytest.approx(result, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "resource", "part"),
    [
        (300e6, "flops", "flops budget 300000000.0: a bare number is in M; if you mean 3e+08 flops, write '300M'"),
        ("500000", "params", "write '0.5M'"),
        (4e7, "memory", "if you mean 4e+07 bytes, write '40MB'"),
        (1e5, "latency", "if you mean 100000 ms, write '100s'"),
        (0, "flops", "must be a positive number such as '300M', '0.3G' or '50%'"),
        (-3, "flops", "positive"),
        ("-50%", "flops", "positive"),
        (float("nan"), "flops", "positive"),
        (float("inf"), "flops", "positive"),
        (10**400, "flops", "positive"),
        ("1e400M", "flops", "positive"),
        ("300ms", "flops", "unknown unit"),
        ("20M", "latency", "unknown unit"),
        ("many", "flops", "is not a budget"),
        ("", "flops", "is not a budget"),
        ("1_000", "flops", "is not a budget"),
        (None, "flops", "is not a budget"),
        (True, "flops", "is not a budget"),
        ([300], "flops", "is not a budget"),
        (300, "flop", "unknown resource 'flop' (did you mean 'flops'?)"),
    ],
)
def test_what_is_no_budget(value: object, resource: str, part: str) -> None:
    with pytest.raises(UserError) as error:
        parse_budget(value, resource, 702.90e6)
    assert part in str(error.value) and "\n" not in str(error.value)


def test_a_percentage_needs_the_maximum() -> None:
    with pytest.raises(UserError, match="not known"):
        parse_budget("50%", "latency")
    assert parse_budget("20ms", "latency") == 20


@pytest.mark.parametrize(
    ("value", "resource", "low", "high"),
    [
        ((0, 330), "flops", 0, 330e6),
        ([0.0, 330.0], "flops", 0, 330e6),
        (330, "flops", 0, 330e6),
        ("330M", "flops", 0, 330e6),
        (("0.1G", "50%"), "flops", 100e6, 351.45e6),
        (("10%", "50%"), "macs", 70.29e6, 351.45e6),
        ((None, 330), "flops", 0, 330e6),
        ((290, None), "flops", 290e6, math.inf),
        ((None, None), "params", 0, math.inf),
        (("0", "800K"), "params", 0, 800e3),
        ((5, 5), "memory", 5e6, 5e6),
        (("250us", 20), "latency", 0.25, 20),
    ],
)
def test_ranges(value: object, resource: str, low: float, high: float) -> None:
    assert parse_range(value, resource, 702.90e6) == pytest.approx((low, high), rel=1e-12)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ((330, 0), "must be a positive number"),
        (0, "must be a positive number"),
        ((400, 330), "flops constraint (400, 330): the low end is above the high one"),
        ((1, 2, 3), "must be one number or (low, high) such as (200, 330)"),
        ([330], "must be one number or (low, high)"),
        ((0, 330e6), "a bare number is in M"),
        ((-1, 330), "must be a positive number"),
        ((0, float("nan")), "must be a positive number"),
        ((float("nan"), 5), "must be a positive number"),
        ((False, 5), "is not a budget"),
        ({"low": 3}, "is not a budget"),
        (("0ms", 5), "must be a positive number"),
    ],
)
def test_what_is_no_range(value: object, part: str) -> None:
    with pytest.raises(UserError) as error:
        parse_range(value, "flops", 702.90e6)
    assert part in str(error.value) and "\n" not in str(error.value)
