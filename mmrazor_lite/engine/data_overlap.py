"""Say, or refuse, where scores would be of images that the weights have seen."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mmrazor_lite.datasets.facts import Facts
from mmrazor_lite.engine.trained_on import ALL, TrainedOn


def common_images(facts: Facts, others: Sequence[Facts]) -> int:
    """How many images of one dataset are in any of the others, as far as anybody can tell."""
    keys = [other.keys for other in others if other.keys is not None]
    return 0 if facts.keys is None or not keys else int(np.isin(facts.keys, np.concatenate(keys)).sum())


def say_common(facts: Mapping[str, Facts], checked: str, trained: Sequence[str], so: str) -> None:
    """Log how many of the images of one loader are among those that the others train on, and what follows (``so``)."""
    common = common_images(facts[checked], [facts[where] for where in trained])
    if common:
        number = f"{common} of {len(facts[checked].keys)}"
        say(f"{checked}: {number} images are in {' or '.join(trained)} too: {so}")


def say_seen(facts: Facts, where: str, before: TrainedOn | None) -> None:
    """Log how many of the images of a test the weights were trained on."""
    if seen := _seen(facts, before):
        say(f"{where}: {seen} images are among those that the checkpoint was trained on: this is no test")


def trained_images(facts: Facts, where: str, before: TrainedOn | None, held_out: str = "") -> str | None:
    """Say that subnets are to be scored on images that their supernet was trained on; None where they are not.

    Args:
        facts: Of the images to score on.
        where: Their key in the config.
        before: What the supernet was trained on; None where that is not known.
        held_out: How the images were cut out of a larger set, see :func:`held_out_as`.
    """
    if not (seen := _seen(facts, before)):
        return None
    differs = before.held_out and before.held_out != held_out
    how = f", which left out {before.held_out}; here it is {held_out or 'nothing'}" if differs else ""
    return f"{where}: this supernet was trained on {seen} images that subnets are to be scored on{how}"


def held_out_as(dataset: Any) -> str:
    """Say how the images of ``dataset`` were cut out of a larger set; empty where they were not."""
    while dataset is not None:
        if type(dataset).__name__ == "HeldOut":
            return "" if dataset.part == "all" else f"fraction={dataset.fraction}, seed={dataset.seed}"
        dataset = getattr(dataset, "dataset", None)
    return ""


def say(text: str) -> None:
    """Log one line that nobody should miss."""
    print_log(text, logger="current", level=logging.WARNING)


def _seen(facts: Facts, before: TrainedOn | None) -> str:
    """How many of the images were trained on, for people; empty for none."""
    seen = 0 if before is None else before.seen(facts.keys)
    return f"{'' if before.limit == ALL else 'about '}{seen} of {len(facts.keys)}" if seen else ""
