"""Accuracy predictors: the published ones to every digit, ours as a file, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from costs import CostOfRows
from figures import figures
from safetensors.numpy import load_file, save_file
from scipy.stats import kendalltau
from search.ofa_space import ofa_space, row_of
from threadpoolctl import threadpool_info, threadpool_limits

from mmrazor_lite.errors import UserError
from mmrazor_lite.search import AccuracyPredictor, EvolutionSearcher, fit, predictor
from mmrazor_lite.search.fit import fit_predictor
from mmrazor_lite.search.predictor import ENCODINGS, forward, layers_of
from mmrazor_lite.subnet import Choice, SearchSpace

SMALL = SearchSpace([Choice(f"layer{i}", (4, 8, 12), kind="width") for i in range(6)])


MOBILENETS, RESNETS = (figures("ofa/accuracy_predictor_examples")[net]["examples"] for net in ("mbv3_w1_2", "resnet50"))


def resnet50_features(net: dict, resolution: int) -> np.ndarray:
    """Features (82,) of a net config of Once-for-All's ResNet-50 space, for its published predictor.

    Args:
        net: ``d`` (5 depths), ``e`` (18 ratios), ``w`` (6 indices of widths).
        resolution: 128 to 256 in steps of 16, without 208.
    """
    encoded = np.zeros(82, np.float32)
    encoded[(128, 144, 160, 176, 192, 224, 240, 256).index(resolution)] = 1
    encoded[8 + (net["d"][0] > 0)] = 1
    encoded[[10 + 3 * i + index for i, index in enumerate(net["w"])]] = 1
    slot = 0
    for slots, base, extra in zip((4, 4, 6, 4), (2, 2, 4, 2), net["d"][1:], strict=True):
        for position in range(base + extra):
            encoded[28 + 3 * (slot + position) + (0.2, 0.25, 0.35).index(net["e"][slot + position])] = 1
        slot += slots
    return encoded


def test_the_published_features():
    space = ofa_space(range(112, 225, 16))
    assert (len(MOBILENETS), len(RESNETS)) == (21, 20)
    found = [ENCODINGS["ofa"](space, "here")(row_of(example, space))[0] for example in MOBILENETS]
    found += [resnet50_features(example, example["resolution"]) for example in RESNETS]
    for features, example in zip(found, [*MOBILENETS, *RESNETS], strict=True):
        assert np.flatnonzero(features).tolist() == example["active_features"]


def test_the_published_predictions(shared_path):
    space = ofa_space(range(112, 225, 16))
    predictor = AccuracyPredictor.read(shared_path("reference/ofa/accuracy_predictor_mbv3_w1.2.safetensors"), space)
    rows = [row_of(example, space) for example in MOBILENETS]
    expected = pytest.approx([example["predicted_accuracy"] for example in MOBILENETS], abs=1e-4)
    assert [predictor(row)[0] for row in rows] == expected
    assert predictor(np.concatenate(rows)) == expected


def test_the_published_predictions_of_resnet50(shared_path):
    tensors = load_file(shared_path("reference/ofa/accuracy_predictor_resnet50.safetensors"))
    layers = layers_of(tensors, "here")
    for example in RESNETS:
        features = resnet50_features(example, example["resolution"])
        assert forward(features[None], layers)[0, 0] == pytest.approx(example["predicted_accuracy"], abs=1e-4)


def test_blocks_past_the_depth_do_not_matter():
    space = ofa_space()
    encode = ENCODINGS["ofa"](space, "here")
    shallow = {name: choice.candidates[0] for name, choice in space.items()}
    changed = {**shallow, "backbone.layers.2.3.kernel_size": 7, "backbone.layers.2.2.expand_ratio": 6}
    names = list(space)
    rows = [[space[name].candidates.index(net[name]) for name in names] for net in (shallow, changed)]
    assert np.array_equal(*(encode(np.array([row])) for row in rows))
    deeper = {**changed, "backbone.layers.2.depth": 4}
    row = [space[name].candidates.index(deeper[name]) for name in names]
    assert encode(np.array([row])).sum() == encode(np.array(rows[:1])).sum() + 4


def _random(space: SearchSpace, seed: int = 0) -> AccuracyPredictor:
    rng = np.random.default_rng(seed)
    widths = [space.one_hot(space.index(space.max())[None]).shape[1], 8, 1]
    layers = [(rng.normal(size=(b, a)), rng.normal(size=b)) for a, b in itertools.pairwise(widths)]
    return AccuracyPredictor(space, layers, mean=70, scale=3, facts={"note": 1})


@pytest.mark.parametrize(("number", "threads"), [(100, 1), (predictor.FEW + 1, 2)])
def test_few_rows_are_multiplied_on_one_thread(monkeypatch, number, threads):
    def in_use() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    def watched(*args):
        seen.append(in_use())
        return forward(*args)

    seen: list[set[int]] = []
    monkeypatch.setattr(predictor, "forward", watched)
    space = ofa_space()
    rows = space.sample_indices(np.random.default_rng(0), number)
    with threadpool_limits(2, user_api="blas"):
        outside = in_use()  # a library that has no second thread stays at one
        _random(space)(rows)
        assert 2 in outside and (seen, in_use()) == ([outside if threads == 2 else {1}], outside)


def test_a_file_keeps_everything(tmp_path):
    before = _random(SMALL)
    before.write(tmp_path / "p.safetensors")
    after = AccuracyPredictor.read(tmp_path / "p.safetensors", SMALL)
    rows = SMALL.sample_indices(np.random.default_rng(0), 40)
    assert np.array_equal(before(rows), after(rows)) and after.facts == {"note": 1}
    before.write(tmp_path / "q.safetensors")
    assert (tmp_path / "p.safetensors").read_bytes() == (tmp_path / "q.safetensors").read_bytes()


def _refused(path, space) -> str:
    with pytest.raises(UserError) as error:
        AccuracyPredictor.read(path, space)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_refused(tmp_path):
    path = tmp_path / "p.safetensors"
    assert "no such predictor" in _refused(path, SMALL)
    path.write_bytes(b"not a file of tensors")
    assert "not a safetensors file" in _refused(path, SMALL)
    save_file({"fc.weight": np.zeros((2, 2), np.float32)}, path)
    assert "expected layers.0.weight" in _refused(path, SMALL)
    _random(SMALL).write(path)
    other = SearchSpace([Choice("a", (1, 2), kind="width")])
    text = _refused(path, other)
    assert SMALL.fingerprint in text and other.fingerprint in text and "tools/predictor" in text


def test_a_published_predictor_is_of_one_space(shared_path):
    published = shared_path("reference/ofa/accuracy_predictor_mbv3_w1.2.safetensors")
    assert "5 stages of 4 blocks" in _refused(published, SMALL)
    assert "no 132 for 'resolution'" in _refused(published, ofa_space((128, 132)))
    assert "ResNet-50" in _refused(shared_path("reference/ofa/accuracy_predictor_resnet50.safetensors"), ofa_space())


# fitting ------------------------------------------------------------------------------------------------------


def _scores(rows: np.ndarray, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 2, rows.shape[1])
    return 60 + rows @ weights + 2 * rows[:, 0] * rows[:, 1]


def test_fitting_learns_a_ranking_and_says_how_well():
    rows = np.unique(SMALL.sample_indices(np.random.default_rng(0), 240), axis=0)
    predictor = fit_predictor(SMALL, rows, _scores(rows), hidden=(32, 32), epochs=120, weight_decay=1e-4)
    facts = predictor.facts
    assert facts["train"] + facts["held_out"] == len(rows) and facts["held_out"] == round(0.2 * len(rows))
    assert facts["kendall_tau"] > 0.85 and facts["spearman_rho"] > 0.95
    assert facts["rmse"] < facts["rmse_of_the_mean"] / 3
    again = fit_predictor(SMALL, rows, _scores(rows), hidden=(32, 32), epochs=120, weight_decay=1e-4)
    assert np.array_equal(predictor(rows), again(rows))


def test_scores_without_meaning_rank_nothing():
    """The correlation is of subnets that were not fitted to."""
    rows = np.unique(SMALL.sample_indices(np.random.default_rng(1), 200), axis=0)
    noise = np.random.default_rng(2).normal(size=len(rows))
    predictor = fit_predictor(SMALL, rows, noise, hidden=(32,), epochs=100, weight_decay=0)
    assert abs(predictor.facts["kendall_tau"]) < 0.4


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (10, {}, "too few"),
        (40, {"scores": np.full(40, 71.0)}, "all 40 subnets have the score 71"),
        (40, {"scores": np.r_[np.arange(39.0), np.nan]}, "subnet 40 is not finite"),
        (40, {"held_out": 1.5}, "share held out is 1.5"),
    ],
)
def test_bad_data(number, change, message):
    rows = np.unique(SMALL.sample_indices(np.random.default_rng(0), 2 * number), axis=0)[:number]
    options = {"scores": _scores(rows), **change}
    with pytest.raises(UserError, match=message):
        fit_predictor(SMALL, rows, **options)


def test_evolution_over_a_predictor_finds_the_best_of_all():
    predictor = _random(SMALL, seed=3)
    rows = np.array(np.meshgrid(*[range(3)] * 6)).reshape(6, -1).T

    def cost(rows):
        return {"macs": SMALL.numeric(rows).sum(1)}

    searcher = EvolutionSearcher(SMALL, CostOfRows(SMALL, cost), [("macs", 0, 48)], max_epochs=60, num_candidates=50)
    while not searcher.done:
        asked = searcher.ask()
        searcher.tell(asked, [{"score": score} for score in predictor(asked).tolist()])
    legal = rows[cost(rows)["macs"] <= 48]
    assert searcher.results()[0].metrics["score"] == pytest.approx(predictor(legal).max())


def test_a_subnet_that_is_given_twice_would_be_held_out_and_fitted_to():
    rows = np.unique(SMALL.sample_indices(np.random.default_rng(0), 80), axis=0)[:40]
    twice = np.concatenate([rows, rows[:3]])
    with pytest.raises(UserError, match="3 of 43 subnets are given again"):
        fit_predictor(SMALL, twice, _scores(twice))


def test_predictions_that_are_all_the_same_have_no_correlation(tmp_path):
    rows = np.unique(SMALL.sample_indices(np.random.default_rng(0), 80), axis=0)[:40]
    predictor = fit_predictor(SMALL, rows, _scores(rows), hidden=(1,), epochs=1, weight_decay=1e6)
    predictor.layers[-1][0][:] = 0  # as weight decay without end would
    assert fit._correlation(kendalltau, predictor(rows), _scores(rows)) is None
    predictor.facts["kendall_tau"] = None
    predictor.write(tmp_path / "p.safetensors")
    assert AccuracyPredictor.read(tmp_path / "p.safetensors", SMALL).facts["kendall_tau"] is None
