"""Whatever stands at a key of a config of MMRazor 0.x, its translation ends: with a config, or with what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from migration.v0_layout import autoslim, spos, translated

ABSURD = (
    None,
    3,
    -1.5,
    True,
    "x",
    [],
    [1],
    [None],
    {},
    {"a": 1},
    [{"a": 1}],
    {"type": "x"},
    [{"type": ["x"]}],
    (1, 2, 3),
)
GREEDY = dict(type="GreedySearcher", target_flops=[5e8], max_channel_bins=12)
EVOLUTION = dict(type="EvolutionSearcher", constraints=dict(flops=3e8), max_epoch=2, metrics="accuracy")
FURTHER = dict(
    fp16=dict(loss_scale=512.0),
    seed=3,
    custom_hooks=[dict(type="NumClassCheckHook")],
    evaluation=dict(interval=1, start=2, metric=["accuracy", "recall"], metric_options={}, save_best="auto"),
)
CONFIGS = {
    "a supernet of widths": {**autoslim(), **FURTHER},
    "a search of widths": {**autoslim(), "searcher": GREEDY},
    "a search of operators": {**spos(bn_training_mode=True), "searcher": EVOLUTION},
}


def places(node: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value, in lists too."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def put(node: Any, path: tuple, value: Any) -> Any:
    """The config with another value at a path; what lies beside the path is the same object."""
    if not path:
        return value
    first, *rest = path
    if isinstance(node, list):
        return [put(part, tuple(rest), value) if index == first else part for index, part in enumerate(node)]
    return {**node, first: put(node.get(first), tuple(rest), value)}


@pytest.mark.parametrize(
    "name", [next(iter(CONFIGS)), *(pytest.param(name, marks=pytest.mark.wide) for name in list(CONFIGS)[1:])]
)
def test_translations_end_whatever_stands_at_a_key(name):
    config = CONFIGS[name]
    assert not translated(config).problems
    told = set()
    for path in places(config):
        for value in ABSURD:
            found = translated(put(config, path, value))
            assert all("\n" not in line and ": " in line for line in found.problems)
            told |= {path} if found.problems else set()
    assert len(told) > 30  # most keys judge what they are; the rest is judged with the whole config


SECTIONS = {
    "a supernet of widths": "algorithm algorithm.architecture algorithm.pruner algorithm.distiller data runner fp16 "
    "algorithm.distiller.components.0 algorithm.distiller.components.0.losses.0 optimizer_config evaluation lr_config "
    "evaluation.metric_options checkpoint_config log_config log_config.hooks.0 dist_params",
    "a search of operators": "searcher searcher.constraints algorithm.mutator "
    "algorithm.mutator.placeholder_mapping.all_blocks data.train.pipeline.3 data.train.pipeline.6",
}


@pytest.mark.parametrize(("name", "section"), [(name, one) for name, text in SECTIONS.items() for one in text.split()])
def test_an_unknown_key_is_told_with_its_section(name, section):
    path = tuple(int(part) if part.isdecimal() else part for part in section.split("."))
    (problem,) = translated(put(CONFIGS[name], (*path, "colour"), 1)).problems
    assert "colour" in problem and path[-1] in (*problem.replace(":", ".").split("."), 0, 3, 6)
