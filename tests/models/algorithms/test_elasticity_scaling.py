"""Elasticity-scaling: the authors' examples step by step, and what must hold for any network."""

from __future__ import annotations

import numpy as np
import pytest
from figures import figures

from mmrazor_lite.models.algorithms.elasticity_scaling import scale_widths


def published(archive, example: dict) -> tuple:
    """Widths, limits, stages and the latency function of one example, by a published table."""
    space = figures("tfnas/search_space")
    table = {key: archive[key] for key in archive.files}
    rows = {row["name"]: row for row in space["stages"]}
    keys, widths, limits, stages = [], [], [], []
    for stage, (name, blocks) in enumerate(example["ops_and_widths_before"].items()):
        for (op, width), block in zip(blocks, rows[name]["blocks"], strict=False):
            kernel, most = 3 if op in (0, 1, 4, 5) else 5, block["cin"] * (8 if op % 2 else 4)
            se = 0 if op < 4 else block["cin"] * (2 if op % 2 else 1)
            keys.append(
                f"MBInvertedResBlock_{block['input_size']}_{block['cin']}_{se}_{block['cout']}_k{kernel}"
                f"_s{block['stride']}_{rows[name]['act']}"
            )
            widths.append(width)
            limits.append((most // 2, most))
            stages.append(stage)

    def latency(widths) -> float:
        return sum((float(table[k][w - 1]) for k, w in zip(keys, widths, strict=True)), start=table["base"].item())

    return widths, limits, stages, latency


@pytest.mark.parametrize("number", range(8))
def test_the_authors_examples(shared_path, number):
    example = figures("tfnas/elasticity_scaling_examples")["examples"][number]
    device = example["device"]
    archive = np.load(shared_path("reference", "tfnas", f"latency_{device}.npz"))
    widths, limits, stages, latency = published(archive, example)
    assert latency(widths) == example["latency_before"]
    scaled = scale_widths(widths, limits, stages, latency, example["target_ms"])
    assert scaled == [width for blocks in example["ops_and_widths_after"].values() for _, width in blocks]
    assert latency(scaled) == example["latency_after"]


def drawn(seed: int) -> tuple:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    most = rng.integers(20, 400, n)
    limits = [(int(m) // 2, int(m)) for m in most]
    widths = [int(rng.integers(low, high + 1)) for low, high in limits]
    stages = np.sort(rng.integers(0, 4, n))
    stages = np.unique(stages, return_inverse=True)[1].tolist()
    slopes = rng.uniform(0.001, 0.01, n)
    return widths, limits, stages, lambda widths: 1.0 + float(np.dot(slopes, widths))


@pytest.mark.parametrize("seed", range(20))
def test_a_reachable_target_is_met_from_below(seed):
    widths, limits, stages, latency = drawn(seed)
    low, high = (latency([limit[end] for limit in limits]) for end in (0, 1))
    target = low + np.random.default_rng(seed + 100).uniform(0.05, 0.95) * (high - low)
    scaled = scale_widths(widths, limits, stages, latency, target)
    assert all(a <= width <= b for width, (a, b) in zip(scaled, limits, strict=True))
    assert latency(scaled) <= target
    last = [block for block, stage in enumerate(stages) if stage == max(stages)]
    smallest = min(scaled[block] for block in last)
    more = list(scaled)
    for block in last:
        more[block] = min(scaled[block] + round(scaled[block] / smallest), limits[block][1])
    if any(more[block] < limits[block][1] for block in last):  # else the step is not taken, as in the authors' loop
        assert latency(more) > target


@pytest.mark.parametrize("seed", range(5))
def test_a_target_out_of_reach_ends_at_the_bounds(seed):
    widths, limits, stages, latency = drawn(seed)
    low, high = ([limit[end] for limit in limits] for end in (0, 1))
    assert scale_widths(widths, limits, stages, latency, 0.5 * latency(low)) == low
    above = scale_widths(widths, limits, stages, latency, 2 * latency(high))
    # The authors' loop does not take over a proposal in which all blocks reach their bounds at once.
    assert all(width >= old for width, old in zip(above, widths, strict=True)) and latency(above) <= latency(high)


def test_nothing_to_do_at_the_target():
    widths, limits, stages, latency = drawn(0)
    assert scale_widths(widths, limits, stages, latency, latency(widths)) == widths
