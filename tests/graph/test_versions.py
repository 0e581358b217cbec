"""What differs between releases of torch: an older one is played by the newest, and by itself where it is installed."""

from __future__ import annotations

import io
import zipfile

import pytest
import torch
import torch.fx.config
import torch.nn.functional as F
from torch import nn
from torch.utils import flop_counter

from mmrazor_lite.graph import versions
from mmrazor_lite.graph.trace import trace


class Halves(nn.Module):
    def forward(self, x):
        return x[:][:, :2] * x[:, 2:]


@pytest.mark.parametrize("release", [(2, 6), (2, 10)])
def test_a_cut_that_leaves_all_is_no_op_of_an_older_release(monkeypatch, release):
    monkeypatch.setattr(versions, "RELEASE", release)
    graph = trace(Halves(), (4, 8, 8)).eval
    assert [op.kind for op in graph] == ["slice", "slice", "mul"]
    assert all(op.argument("dim") == 1 for op in graph if op.kind == "slice")


def test_what_the_newest_release_writes_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(versions, "RELEASE", (2, 11))
    assert [op.kind for op in trace(Halves(), (4, 8, 8)).eval].count("slice") >= 3


@pytest.mark.parametrize("known", [False, True])
def test_attention_is_counted_whether_torch_counts_it_or_not(monkeypatch, known):
    op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    registry = dict(flop_counter.flop_registry)
    if not known:
        registry.pop(op, None)
    elif op not in registry:
        pytest.skip("this torch does not count it")
    monkeypatch.setattr(flop_counter, "flop_registry", registry)
    q = torch.zeros(2, 3, 16, 8, requires_grad=True)
    with versions.macs_counter() as counter:
        F.scaled_dot_product_attention(q, q, q)
    assert counter.get_total_flops() == 2 * 2 * 3 * (16 * 16 * 8) * 2


def test_stacks_are_not_kept_where_torch_can_leave_them_out(monkeypatch):
    monkeypatch.setattr(torch.fx.config, "do_not_emit_stack_traces", False, raising=False)
    with pytest.raises(RuntimeError), versions.no_stack_traces():
        assert torch.fx.config.do_not_emit_stack_traces
        raise RuntimeError
    assert not torch.fx.config.do_not_emit_stack_traces
    monkeypatch.delattr(torch.fx.config, "do_not_emit_stack_traces")
    with versions.no_stack_traces():
        assert not hasattr(torch.fx.config, "do_not_emit_stack_traces")


def test_a_program_has_no_time_in_it():
    """Written twice it is the same file, by a release that notes the time too, and holds the same."""
    program = torch.export.export(nn.Linear(3, 2), (torch.zeros(1, 3),))
    torch.export.save(program, buffer := io.BytesIO())
    written = versions.without_times(buffer.getvalue())
    assert versions.without_times(written) == written
    images = torch.randn(1, 3)
    assert torch.equal(torch.export.load(io.BytesIO(written)).module()(images), program.module()(images))
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        assert {item.date_time[0] for item in archive.infolist()} == {1980}


def test_times_are_taken_out_of_an_archive():
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        for name, text in (("a", b"1" * 99), ("b", b"2")):
            archive.writestr(zipfile.ZipInfo(name, (2026, 11, 30, 1, 2, 4)), text)
    with zipfile.ZipFile(io.BytesIO(versions.without_times(buffer.getvalue()))) as archive:
        assert [(item.filename, item.date_time) for item in archive.infolist()] == [
            ("a", (1980, 1, 1, 0, 0, 0)),
            ("b", (1980, 1, 1, 0, 0, 0)),
        ]
        assert (archive.read("a"), archive.read("b")) == (b"1" * 99, b"2")
