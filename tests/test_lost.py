"""Which errors tell of another process that is gone; as they come from gloo where a host is cut off."""

from __future__ import annotations

import pytest
from torch import distributed

from mmrazor_lite.lost import lost_process

READ = "[/build/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 10000ms for recv operation"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError(f"{READ} to complete"), "Timed out waiting 10000ms for recv operation to complete"),
        (RuntimeError("Application timeout caused pair closure"), "Application timeout caused pair closure"),
        (distributed.DistNetworkError("The client socket has timed out. More"), "The client socket has timed out"),
    ],
)
def test_a_process_that_is_gone(error, reason):
    line = lost_process(error)
    assert line.startswith(f"another process of this run has ended or does not answer ({reason}); ")
    assert line.endswith("--resume")


@pytest.mark.parametrize("error", [RuntimeError("shape '[2]' is invalid"), ValueError(READ), RuntimeError("timeout")])
def test_what_is_of_this_process(error):
    assert lost_process(error) is None
