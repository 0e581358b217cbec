"""Which 16-bit numbers a device computes with: what ``--amp`` takes where nothing says it."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"})  # the last: of Arm
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def allowed(device_type: str) -> dict[str, torch.dtype]:
    """The types that training can be done in on a device; float16 needs a loss scale, which the CPU has no need of."""
    return DTYPES if device_type == "cuda" else {"bfloat16": torch.bfloat16}


def best(device_type: str) -> torch.dtype:
    """bfloat16, which has the range of float32; float16 on a GPU that computes no bfloat16 itself."""
    if device_type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def is_emulated(device_type: str, cpuinfo: str | Path = "/proc/cpuinfo") -> bool:
    """Whether a CPU has no arithmetic for bfloat16, which then takes longer than float32; False where none can tell."""
    if device_type != "cpu" or platform.system() != "Linux":
        return False
    try:
        lines = Path(cpuinfo).read_text().lower().splitlines()
    except OSError:
        return False
    flags = {flag for line in lines if line.startswith(("flags", "features")) for flag in line.split(":", 1)[1].split()}
    return bool(flags) and not flags & CPU_FLAGS
