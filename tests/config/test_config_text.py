"""A config as text: what is read from it is what was written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config

from mmrazor_lite.config.config_text import as_text
from mmrazor_lite.errors import UserError

NAMES = st.sampled_from(["type", "lr", "a", "deep", "lambda", "two words", "0"])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.dictionaries(NAMES, inner, max_size=4) | st.lists(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=12,
)


def read(text: str) -> dict:
    found: dict = {}
    exec(text, {"__builtins__": {"dict": dict, "float": float}}, found)
    return found


@settings(max_examples=60, deadline=None)
@given(value=VALUES, wide=st.integers(0, 120))
def test_what_was_written_is_read(value, wide):
    config = {"model": {"value": value, "x" * (wide + 1): [value, (value,)]}, "resume": value}
    assert read(as_text(config)) == config


def test_lines_fit_and_sections_have_their_order():
    rows = [[channels, 4, 1, dict(type="Block", kernel_size=(3, 5), norm_cfg=dict(type="BN"))] for channels in range(9)]
    text = as_text({"val_cfg": {}, "optim_wrapper": {"lr": 1e-4}, "model": {"rows": rows, "type": "Net"}})
    assert [line.split(" = ")[0] for line in text.splitlines() if " = " in line] == [
        "model",
        "val_cfg",
        "optim_wrapper",
    ]
    assert max(map(len, text.splitlines())) <= 120 and 'dict(type="BN")' in text
    assert Config.fromstring(text, ".py").model.rows == rows


def test_numbers_that_are_no_literals():
    assert read(as_text({"a": math.inf, "b": -math.inf})) == {"a": math.inf, "b": -math.inf}


def test_what_is_no_plain_value_is_named():
    with pytest.raises(UserError, match=r"model.parts.0 is <class .*only plain values can be written"):
        as_text({"model": {"parts": [dict]}})
