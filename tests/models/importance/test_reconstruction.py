"""Moments of what is read, and the order by what readers lose: against least squares done by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from zoo import Prepared, prepare, prepared

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.importance import IMPORTANCES, build, gather, rank, unranked
from mmrazor_lite.models.importance.reconstruction import by_scores, scores_of
from mmrazor_lite.models.mutators import OneShotChannelMutator


def data(network: Prepared, count: int = 3, size: int = 4) -> list:
    return [(network.images(size, seed), None) for seed in range(count)]


class Many(nn.Module):
    """Readers of every sort: a conv with stride behind a depthwise one, a concat, a shared conv, tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 3, 3)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.both, self.shared = nn.Conv2d(7, 6, 2, stride=2), nn.Conv2d(6, 6, 1)
        self.tokens = nn.Linear(6, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.depthwise(self.a(x).relu()), self.b(x).relu()], 1)
        x = self.both(x).relu()
        x = self.shared(self.shared(x).relu()).flatten(2).transpose(1, 2)
        return self.head(self.tokens(x).relu()).mean(1)


@pytest.fixture(scope="module")
def many() -> Prepared:
    torch.manual_seed(0)
    return prepare(Many(), (3, 9, 9)).double()


def unfolded(network: Prepared, batches: list) -> dict[str, torch.Tensor]:
    """All that layers read, as rows, by hooks and unfold."""
    seen: dict[str, list] = {}

    def keep(name: str):
        def hook(module: nn.Module, args: tuple) -> None:
            x = args[0]
            if isinstance(module, nn.Conv2d):
                x = nn.functional.unfold(x, module.kernel_size, stride=module.stride).transpose(1, 2)
            seen.setdefault(name, []).append(x.reshape(-1, x.shape[-1]))

        return hook

    body = network.plain.eval()
    handles = [
        getattr(body, name).register_forward_pre_hook(keep(name)) for name in ("both", "shared", "tokens", "head")
    ]
    with torch.no_grad():
        for images, _ in batches:
            body(images)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(rows) for name, rows in seen.items()}


def test_moments_of_all_places(many: Prepared) -> None:
    batches = data(many)
    found, expected = gather(many.mutator, batches, rows=10**6), unfolded(many, batches)
    assert set(found) == set(expected)
    for name, rows in expected.items():
        moments = found[name]
        assert moments.rows == len(rows)
        assert moments.joint
        torch.testing.assert_close(moments.gram, rows.T @ rows)
        torch.testing.assert_close(moments.mean, rows.mean(0))
        torch.testing.assert_close(moments.covariance(), torch.cov(rows.T, correction=0))
        layer = many.plain.get_submodule(name)
        torch.testing.assert_close(moments.weight(), layer.weight.detach().flatten(1).T)


def test_moments_of_some_places(many: Prepared) -> None:
    """About as many rows as asked for, of every image some, and the same ones each time."""
    batches = data(many, 2, 8)
    found, again = (gather(many.mutator, batches, rows=2) for _ in range(2))
    for name, moments in found.items():
        calls = 2 if name == "shared" else 1
        assert moments.rows == calls * max(2 * len(moments.total), 16)
        assert torch.equal(moments.gram, again[name].gram)
    one = gather(many.mutator, [(torch.cat([images for images, _ in batches]), None)], rows=0)
    blank = many.images(1).repeat(16, 1, 1, 1)
    alone = gather(many.mutator, [(blank, None)], rows=0)
    assert one["tokens"].rows == 16 == alone["tokens"].rows


def test_moments_of_channels_where_the_kernel_is_too_large(many: Prepared) -> None:
    batches = data(many)
    rows = 10**6
    found = gather(many.mutator, batches, rows=rows, largest=7)
    assert not found["both"].joint
    assert found["both"].gram.shape == (7, 7)
    assert found["both"].weight().shape == (7, 6 * 4)
    assert found["shared"].joint
    assert "both" not in gather(many.mutator, batches, largest=6)
    assert unranked(many.mutator, gather(many.mutator, batches, largest=6)) == ["a", "b"]


def test_a_fit_is_the_least_squares_solution(many: Prepared) -> None:
    """Weights and constant against numpy's solution with a column of ones."""
    batches = data(many)
    rows, moments = unfolded(many, batches)["both"], gather(many.mutator, batches, rows=10**6)["both"]
    keep = torch.arange(28) % 3 != 0
    weight, constant = moments.fit(keep, ridge=1e-13)
    target = (rows @ moments.weight()).numpy()
    design = np.concatenate([rows[:, keep].numpy(), np.ones((len(rows), 1))], 1)
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    np.testing.assert_allclose(weight[keep].numpy(), solution[:-1], atol=1e-7)
    np.testing.assert_allclose(constant.numpy(), solution[-1], atol=1e-7)
    assert not weight[~keep].any()


def test_errors_are_those_of_refitted_readers(many: Prepared) -> None:
    """The first unit that goes is the one without which least squares leaves least; the errors are its residuals."""
    batches = data(many, 3, 8)
    rows = unfolded(many, batches)
    found = rank(many.mutator, batches, "reconstruction", moments=gather(many.mutator, batches, rows=10**6))["both"]
    layer = many.plain.shared.weight.detach().flatten(1).T
    tokens = many.plain.tokens.weight.detach().T

    def residual(kept: list[int]) -> float:
        """Of both readers: the shared conv, and the linear layer on what it gives, the same units."""
        total = 0.0
        for name, weight in (("shared", layer), ("tokens", tokens)):
            seen = rows[name] - rows[name].mean(0)
            target = (seen @ weight).numpy()
            fitted = np.linalg.lstsq(seen[:, kept].numpy(), target, rcond=None)[0] if kept else np.zeros((0, 1))
            left = target - seen[:, kept].numpy() @ fitted if kept else target
            total += (left**2).sum() / (target**2).sum()
        return total

    for kept in range(7):
        assert residual(sorted(found.order[:kept].tolist())) == pytest.approx(found.errors[kept], rel=0.02, abs=1e-3)
    best = min(itertools.combinations(range(6), 5), key=lambda kept: residual(list(kept)))
    assert set(found.order[:5].tolist()) == set(best)


def test_a_redundant_unit_goes_first_and_costs_nothing() -> None:
    """Unit 2 is 2 * unit 0 - unit 1 + 3 wherever it is read: the readers do as well without it."""
    torch.manual_seed(0)
    network = prepare(nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 4, 3), nn.Flatten(), nn.Linear(64, 3)), (3, 8, 8))
    network = network.double()
    for make in (network.plain[0], network.model[0]):
        with torch.no_grad():
            make.weight[2] = 2 * make.weight[0] - make.weight[1]
            make.bias[2] = 2 * make.bias[0] - make.bias[1] + 3
    batches = data(network)
    moments = gather(network.mutator, batches)
    found = rank(network.mutator, batches, "reconstruction", moments=moments)["0"]
    assert found.order[-1] in (0, 1, 2)
    assert found.errors[4] < 0.01 * found.errors[3]
    keep = torch.ones(45, dtype=torch.bool)
    keep[18:27] = False
    weight, constant = moments["1"].fit(keep, ridge=1e-12)
    images = network.images(2)
    seen = network.plain[0](images)
    expected = network.plain[1](seen)
    fitted = nn.functional.conv2d(seen, weight.T.reshape(4, 5, 3, 3), network.plain[1].bias + constant)
    torch.testing.assert_close(fitted, expected, rtol=0, atol=1e-8)


def test_a_group_without_a_reader_that_is_seen_has_the_order_of_its_weights(many: Prepared) -> None:
    batches = data(many)
    moments = gather(many.mutator, batches, largest=6)
    found = rank(many.mutator, batches, "reconstruction", moments=moments)
    weights = rank(many.mutator, batches, "l2")
    for name in ("a", "b"):
        assert np.array_equal(found[name].order, weights[name].order)


def test_a_plain_measure_loses_the_scores_of_what_goes() -> None:
    found = by_scores(np.array([1.0, 4.0, 0.5]))
    assert found.order.tolist() == [1, 0, 2]
    assert found.errors.tolist() == [5.5, 1.5, 0.5, 0.0]
    assert scores_of(found).tolist() == [2.0, 3.0, 1.0]
    assert by_scores(np.array([-2.0, -1.0])).errors.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("name", sorted(IMPORTANCES))
def test_every_measure_ranks_every_group(name: str) -> None:
    own = prepared("mobilenet_v1")
    batches = [(own.images(), None)]
    found, scores = rank(own.mutator, batches, name), build(name)(own.mutator, batches)
    for group, units in own.mutator.unit_counts.items():
        ranking = found[group]
        assert sorted(ranking.order.tolist()) == list(range(units))
        assert len(ranking.errors) == units + 1
        assert ranking.errors[-1] == 0
        assert (np.diff(ranking.errors) <= 0).all()
        assert np.array_equal(np.argsort(-scores[group], kind="stable"), ranking.order)


def test_no_image(many: Prepared) -> None:
    with pytest.raises(UserError, match="no image"):
        gather(many.mutator, [])


def test_inputs_that_hardly_vary_have_a_fit() -> None:
    """Rounding leaves no matrix that can be decomposed, unless the ridge is above it."""
    network = nn.Sequential(nn.Conv2d(3, 24, 1), nn.Conv2d(24, 5, 1))
    with torch.no_grad():
        network[0].weight.mul_(1e-7)
        network[0].bias.fill_(1e3)
    mutator = OneShotChannelMutator()
    mutator.prepare(network, (3, 4, 4), any_width=True)
    images = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    moments = gather(mutator, [(images, None)])
    weight, constant = moments["1"].fit(torch.arange(24) < 9)
    assert torch.isfinite(weight).all() and torch.isfinite(constant).all()
    assert np.isfinite(rank(mutator, [(images, None)], "reconstruction", moments=moments)["0"].errors).all()
