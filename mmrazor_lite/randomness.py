"""Random draws that depend on named numbers only, never on what was drawn before.

A run that was killed and resumed then draws what the uninterrupted run would have drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch


def seed_from(*entropy: int) -> int:
    """Mix non-negative integers, such as (seed, step, rank), into one 64-bit seed."""
    low, high = np.random.SeedSequence(entropy).generate_state(2)
    return int(high) << 32 | int(low)


def seed_all(*entropy: int) -> None:
    """Seed ``random``, numpy and torch (every device) from ``entropy``."""
    seed = seed_from(*entropy)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    if _has_accelerator():
        torch.manual_seed(seed)
    else:  # torch.manual_seed would format a traceback for CUDA on every step, in case that it is ever initialised
        torch.default_generator.manual_seed(seed)


@cache
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()


@contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Seed ``random``, numpy and torch (CPU) from ``entropy`` inside the block; restore their states after it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = seed_from(*entropy)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the accelerators too
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
