"""How many batches an update is of: MMRazor 1.x counts the passes of a batch, this project the batches."""

from __future__ import annotations

from typing import Any

from mmrazor_lite.walk import kind_of

from .told import Told

_KEY = "optim_wrapper.accumulative_counts"


def translate(config: dict[str, Any], told: Told) -> None:
    """Divide ``accumulative_counts`` by the passes of a batch; ``config`` is in our own form otherwise."""
    wrapper, model = config.get("optim_wrapper"), config.get("model")
    counts = wrapper.get("accumulative_counts") if isinstance(wrapper, dict) else None
    passes = _passes(model) if isinstance(model, dict) else 1
    if type(counts) is not int or counts < 2 or passes < 2:
        return
    batches, rest = divmod(counts, passes)
    if rest:
        told.problem(
            f"{_KEY}={counts}: MMRazor counts passes, of which a batch has {passes}: give a multiple of it, or remove "
            "it (one update per batch)"
        )
        return
    told.change(f"{_KEY}={counts}", f"{batches}, in batches of {passes} passes")
    wrapper["accumulative_counts"] = batches


def _passes(model: dict[str, Any]) -> int:
    """How often a network runs for one batch of images."""
    if kind_of(model) not in ("AutoSlim", "OFA"):
        return 1
    subnets = model.get("channel_cfg")
    if subnets is not None:
        return len(subnets) if isinstance(subnets, list | tuple) else 1
    samples = model.get("num_random_samples", 2)
    return samples + 2 if type(samples) is int else 1
