"""How long both networks take at full speed, measured in turns, so that what slows the machine down meets both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from mmrazor_lite.estimators.measure import Bench, threads_kept
from mmrazor_lite.estimators.steady_rounds import Steady
from mmrazor_lite.graph import modes_kept

from .report import Latency

REPEATS, MIN_SECONDS = 21, 0.03  # rounds, and how long a network runs in each


def compare_latency(
    original: nn.Module,
    slimmed: nn.Module,
    input_shape: Sequence[int],
    batch_size: int = 1,
    threads: int | None = None,
    repeats: int = REPEATS,
    min_seconds: float = MIN_SECONDS,
    seed: int = 0,
    bench: Bench | None = None,
) -> Latency:
    """Run both networks on the device that the slimmed one is on, in rounds of a new random order.

    Rounds count while the machine is at full speed, see :class:`~mmrazor_lite.estimators.steady_rounds.Steady`.

    Args:
        original, slimmed: Plain modules; their modes are as before afterwards.
        input_shape: (C, H, W) of one image.
        batch_size: Images per run.
        threads: That compute on the CPU, inside the call; by default those of the process.
        repeats: Rounds that count.
        bench: In the place of ``batch_size`` and ``threads``: measures both networks.
        min_seconds: How long each network runs in a round.

    Raises:
        UserError: A number below 1.
    """
    device = next((tensor.device for tensor in slimmed.parameters()), torch.device("cpu"))
    with threads_kept(bench and bench.threads), modes_kept(original, slimmed):
        bench = bench or Bench(device.type, threads=threads, batch_size=batch_size)
        timers = {
            name: bench.timer(network, input_shape) for name, network in (("original", original), ("slimmed", slimmed))
        }
        found = Steady(bench.pace, brief=True).rounds(timers, repeats, min_seconds, np.random.default_rng(seed))
    original, slimmed = (tuple(found.times[name]) for name in timers)
    return Latency(original, slimmed, bench.facts(), found.speed)
