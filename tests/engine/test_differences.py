"""What differs between two nested mappings, by the names of the keys."""

from __future__ import annotations

from mmrazor_lite.engine.differences import differences


def test_changed_gone_and_new_keys():
    then = {"a": {"x": 1, "y": [1, {"z": 2}]}, "gone": {"b": 0}, "same": [1, 2], "empty": {}}
    now = {"a": {"x": 1, "y": [1, {"z": 3}]}, "new": "b", "same": [1, 2], "empty": {}}
    assert differences(then, now) == {
        "a.y": ([1, {"z": 2}], [1, {"z": 3}]),
        "gone.b": (0, None),
        "new": (None, "b"),
    }
    assert differences(then, now, inside_lists=True) == {
        "a.y.1.z": (2, 3),
        "gone.b": (0, None),
        "new": (None, "b"),
    }
    assert differences(then, then) == {}


def test_none_is_none():
    assert differences({"a": None, "b": 1}, {"b": 1}) == {}
    assert differences({"a": {}, "b": 1}, {"a": {"b": 1}, "b": 1}) == {"a": ({}, None), "a.b": (None, 1)}
