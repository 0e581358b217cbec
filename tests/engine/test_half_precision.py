"""``--amp`` computes in what the device has arithmetic for, says so, and a run stays with it."""

from __future__ import annotations

import logging
import sys

import pytest
import torch

from mmrazor_lite.engine import half_precision
from mmrazor_lite.engine.half_precision import best, is_emulated
from mmrazor_lite.engine.optim import PRECISION, SubnetAmpOptimWrapper, SubnetOptimWrapper, say_precision

ON_CPU = pytest.mark.skipif(torch.cuda.is_available(), reason="float16 is allowed on CUDA")


def wrapper(kind=SubnetAmpOptimWrapper, **options):
    return kind(optimizer=torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=1.0), **options)


@pytest.mark.parametrize(
    ("text", "emulated"),
    [
        ("model name : A\nflags\t\t: fpu avx2 fma\n", True),
        ("flags : fpu avx512f avx512_bf16\n", False),
        ("flags : fpu amx_tile amx_bf16\n", False),
        ("Features\t: fp asimd\n", True),
        ("Features\t: fp asimd bf16\n", False),
        ("model name : bf16\n", False),  # no list of flags: nothing can tell
    ],
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="where Linux says what a CPU has")
def test_a_cpu_says_what_it_has(tmp_path, text, emulated):
    (tmp_path / "cpuinfo").write_text(text)
    assert is_emulated("cpu", tmp_path / "cpuinfo") is emulated
    assert not is_emulated("cuda", tmp_path / "cpuinfo")
    assert not is_emulated("cpu", tmp_path / "none")


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_that_computes_no_bfloat16_gets_float16(monkeypatch, has):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has or including_emulation)
    assert best("cuda") is (torch.bfloat16 if has else torch.float16)
    assert best("cpu") is torch.bfloat16


@pytest.mark.parametrize("emulated", [True, False])
def test_a_run_says_what_it_computes_in(monkeypatch, caplog, emulated):
    monkeypatch.setattr(half_precision, "is_emulated", lambda device_type: emulated)
    with caplog.at_level(logging.INFO):
        say_precision(wrapper(SubnetOptimWrapper), logging.getLogger("precision"))
        assert not caplog.messages
        say_precision(wrapper(dtype="bfloat16"), logging.getLogger("precision"))
    assert caplog.messages[0] == "mixed precision: forward passes compute in bfloat16"
    assert [("leave out --amp here" in line) for line in caplog.messages[1:]] == [True] * emulated


def test_a_resumed_run_stays_with_its_type(monkeypatch):
    state = wrapper(dtype="bfloat16").state_dict()
    assert state[PRECISION] == "bfloat16"
    monkeypatch.setattr(half_precision, "best", lambda device_type: torch.float16)
    monkeypatch.setattr(half_precision, "allowed", lambda device_type: half_precision.DTYPES)
    fresh = wrapper()
    assert fresh.precision == "float16" and fresh.loss_scaler._enabled
    fresh.load_state_dict(state)
    assert fresh.precision == "bfloat16" and not fresh.loss_scaler._enabled
    told = wrapper(dtype="float16")
    told.load_state_dict(state)
    assert told.precision == "float16"


def test_files_of_before_say_it_by_their_scale(monkeypatch):
    monkeypatch.setattr(half_precision, "allowed", lambda device_type: half_precision.DTYPES)
    state = wrapper(dtype="bfloat16").state_dict()
    del state[PRECISION]
    kept = wrapper()
    kept.load_state_dict(state)
    assert kept.precision == "bfloat16"
    scale = {"scale": 8.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 9, "_growth_tracker": 0}
    kept.load_state_dict({**state, "loss_scaler": scale})
    assert kept.precision == "float16"


@ON_CPU
def test_what_this_device_cannot_do_is_not_taken_over():
    state = {**wrapper().state_dict(), PRECISION: "float16"}
    resumed = wrapper()
    resumed.load_state_dict(state)
    assert resumed.precision == "bfloat16"
