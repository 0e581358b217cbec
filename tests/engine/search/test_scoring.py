"""Which subnets a process of a run scores."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mmrazor_lite.engine.scoring import Scorer, key_of
from mmrazor_lite.subnet import Choice, SearchSpace


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_every_process_scores_each_third_subnet(rank, tmp_path):
    space, scored = SearchSpace([Choice("a", tuple(range(1, 9)))]), []

    def evaluate(subnet):
        scored.append(subnet["a"])
        return {"score": 0.5}

    evaluator = SimpleNamespace(evaluate=evaluate, seconds={})
    scorer = Scorer(space, evaluator, SimpleNamespace(memo={}, path=tmp_path / "state.json", identity={}))
    scorer.rank, scorer.world_size = rank, 3
    scorer._journal = SimpleNamespace(add=lambda *told: None)
    keys = [key_of(np.array([index])) for index in range(8)]
    found, _ = scorer._score(keys, {}, lambda *told: None)
    assert scored == list(range(1, 9))[rank::3] and list(found) == keys[rank::3]
