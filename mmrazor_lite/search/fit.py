"""Fit an accuracy predictor to subnets that were evaluated.

Shapes: n rows, D choices.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError
from mmrazor_lite.search.predictor import ENCODINGS, AccuracyPredictor
from mmrazor_lite.subnet import SearchSpace

LEAST = 20  # subnets; fewer say nothing about a rank correlation
HIDDEN = (400, 400, 400)  # of the published predictor


def fit_predictor(
    space: SearchSpace,
    rows: np.ndarray,
    scores: np.ndarray,
    held_out: float = 0.2,
    hidden: Sequence[int] = HIDDEN,
    epochs: int = 200,
    weight_decay: float = 1e-2,
    seed: int = 0,
) -> AccuracyPredictor:
    """Fit a network to the scores of subnets; how well it ranks those held out is in its ``facts``.

    The facts: ``train``, ``held_out`` (numbers of subnets), ``kendall_tau``, ``spearman_rho`` (None where predictions
    are all the same), ``rmse`` (in the unit of the scores) on those held out, and ``rmse_of_the_mean``, what predicting
    the mean of the training scores gives. What is returned was fitted to the others alone.

    Args:
        space: The search space.
        rows: (n, D).
        scores: (n,).
        held_out: Share of the subnets that is not fitted to.
        hidden: Widths of the hidden layers.
        epochs: Times that the training goes through the subnets.
        weight_decay: Of the weights, as scikit-learn's ``alpha``.
        seed: Of the split, the initial weights and the order.

    Raises:
        UserError: Too few subnets, one that is given twice, scores that are all the same or not finite, a share that
            leaves nothing, or an option out of its range.
    """
    from scipy.stats import kendalltau, spearmanr
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    rows, scores = space.canonical(np.asarray(rows, np.int64).reshape(-1, len(space))), np.asarray(scores, np.float64)
    _check(rows, scores, held_out)
    _check_training(hidden, epochs, weight_decay, seed)
    order = np.random.default_rng(seed).permutation(len(rows))
    number = max(2, round(held_out * len(rows)))
    out, train = order[:number], order[number:]
    features = ENCODINGS["one_hot"](space, "predictor")(rows)
    mean, scale = scores[train].mean(), scores[train].std() or 1.0
    network = MLPRegressor(
        hidden_layer_sizes=tuple(hidden),
        alpha=weight_decay,
        batch_size=min(64, len(train)),
        max_iter=epochs,
        random_state=seed,
        tol=0.0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is the user's
        network.fit(features[train], (scores[train] - mean) / scale)
    layers = [(weight.T, bias) for weight, bias in zip(network.coefs_, network.intercepts_, strict=True)]
    predictor = AccuracyPredictor(space, layers, "one_hot", mean, scale)
    predicted = predictor(rows[out])
    predictor.facts = {
        "train": len(train),
        "held_out": len(out),
        "kendall_tau": _correlation(kendalltau, predicted, scores[out]),
        "spearman_rho": _correlation(spearmanr, predicted, scores[out]),
        "rmse": float(np.sqrt(np.mean((predicted - scores[out]) ** 2))),
        "rmse_of_the_mean": float(np.sqrt(np.mean((mean - scores[out]) ** 2))),
        "seed": seed,
    }
    return predictor


def _correlation(of: Any, predicted: np.ndarray, scores: np.ndarray) -> float | None:
    """A rank correlation; None where one side is the same throughout, so that there is none."""
    if np.ptp(predicted) == 0 or np.ptp(scores) == 0:
        return None
    return float(of(predicted, scores).statistic)


def _check(rows: np.ndarray, scores: np.ndarray, held_out: float) -> None:
    if len(rows) < LEAST:
        raise UserError(f"{len(rows)} subnets are too few for a predictor; collect {LEAST} or more, better 500")
    if len(scores) != len(rows):
        raise UserError(f"{len(rows)} subnets and {len(scores)} scores: give one for each")
    different = len(np.unique(rows, axis=0))
    if different < len(rows):
        raise UserError(
            f"{len(rows) - different} of {len(rows)} subnets are given again: one that is fitted to would be among "
            "those held out; give each once"
        )
    if not np.isfinite(scores).all():
        raise UserError(f"the score of subnet {int(np.flatnonzero(~np.isfinite(scores))[0]) + 1} is not finite")
    if np.ptp(scores) == 0:
        raise UserError(f"all {len(scores)} subnets have the score {scores[0]:g}; is the supernet trained?")
    if not 0 < held_out < 0.9:
        raise UserError(f"the share held out is {held_out}; give a number above 0 and below 0.9")


def _check_training(hidden: Sequence[int], epochs: int, weight_decay: float, seed: int) -> None:
    for what, value in (*(("hidden", width) for width in hidden), ("epochs", epochs)):
        if value < 1:
            raise UserError(f"{what} is {value}: give a whole number of 1 or more")
    if not 0 <= weight_decay < float("inf"):  # also refuses nan
        raise UserError(f"weight_decay is {weight_decay}: give 0 or a positive number")
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}: give a whole number from 0 to {2**32 - 1}")
