"""The refit: exact where nothing is lost, better where something is, and never much worse."""

import copy
import threading
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import ZOO, prepared, randomise

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.mutators import OneShotChannelMutator
from mmrazor_lite.models.mutators.check import tensors_of
from mmrazor_lite.slimming import shared_original
from mmrazor_lite.slimming.layer_flow import layer_flows
from mmrazor_lite.slimming.layer_rows import Images, RowPlan
from mmrazor_lite.slimming.least_squares import Moments, solve
from mmrazor_lite.slimming.refit import kept_channels, refit
from mmrazor_lite.slimming.waiting_runs import WaitingRuns

LIKE = torch.zeros(())


def conv(inputs: int, outputs: int, size: int = 3, **options: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


class Concat(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(3, 6), conv(6, 4), nn.Conv2d(10, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        return self.c(torch.cat([x, self.b(x).tanh()], 1))


class Residual(nn.Module):
    """Two blocks: an addition in place, and one behind layer scale with channels last."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = conv(3, 8), conv(8, 6), conv(6, 8, bias=False)
        self.norm, self.scale = nn.BatchNorm2d(8), nn.Parameter(torch.rand(8) + 0.5)
        self.c, self.d, self.head = nn.Linear(8, 10), nn.Linear(10, 8), conv(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        y = self.norm(self.b(self.a(x).relu()))
        y += x
        x = y.relu()
        y = self.d(F.gelu(self.c(x.permute(0, 2, 3, 1)))) * self.scale
        return self.head(x + y.permute(0, 3, 1, 2))


class InPlace(nn.Module):
    """Additions that change what the layer in front of them reads, and what it gives."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.head = conv(3, 8), conv(8, 8), conv(8, 8, bias=False), conv(8, 5, 1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu_()
        x += self.a(x)
        y = self.norm(self.b(x))
        x.relu_()
        y += x
        return self.head(y.relu_())


class Attention(nn.Module):
    """Four heads of two channels on tokens."""

    def __init__(self):
        super().__init__()
        self.patch, self.norm, self.out = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8), nn.Linear(8, 8)
        self.q, self.k, self.v, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        y = self.norm(x)
        q, k, v = (layer(y).unflatten(-1, (-1, 2)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.head(x.mean(1))


class Encoder(nn.Module):
    """An encoder layer of torch, whose attention is one call from outside."""

    def __init__(self):
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True)
        self.other = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(self.other(self.layer(x)).mean(1))


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = conv(3, 8), conv(8, 6), nn.Linear(6, 4), conv(6, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.b(self.a(x).relu()).relu()
        return {"class": self.c(x.mean((2, 3))), "map": self.d(x)}


class Shared(nn.Module):
    """One head for two sizes of a map."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 6), conv(6, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.a(x).relu()
        return tuple(self.c(self.b(level).relu()) for level in (x, F.avg_pool2d(x, 2)))


def chain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


NETWORKS = {
    "plain": lambda: chain(conv(3, 8), nn.ReLU(), conv(8, 6), nn.ReLU(), conv(6, 4)),
    "norms": lambda: chain(
        conv(3, 8, bias=False), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 6, bias=False), nn.BatchNorm2d(6)
    ),
    "depthwise": lambda: chain(
        conv(3, 8), nn.ReLU(), conv(8, 8, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), conv(8, 5, 1)
    ),
    "groups": lambda: chain(conv(3, 8), nn.ReLU(), conv(8, 8, groups=4), nn.ReLU(), conv(8, 5)),
    "transposed": lambda: chain(conv(3, 8), nn.ReLU(), nn.ConvTranspose2d(8, 6, 3, 2, 1, 1), nn.ReLU(), conv(6, 2)),
    "no bias, no norm": lambda: chain(conv(3, 8), nn.ReLU(), conv(8, 6, bias=False), nn.ReLU(), conv(6, 4, bias=False)),
    "concat": Concat,
    "residual": Residual,
    "in place": InPlace,
    "attention": Attention,
    "encoder": Encoder,
    "two outputs": TwoOutputs,
    "shared": Shared,
}
SHAPE = (3, 8, 8)


def images(count: int = 48, shape: tuple = SHAPE, dtype: torch.dtype = torch.float64) -> list:
    """Batches without targets."""
    generator = torch.Generator().manual_seed(3)
    every = torch.randn(count, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return [(part, None) for part in every.split(16)]


def mutator_of(network: nn.Module, dtype: torch.dtype = torch.float64) -> OneShotChannelMutator:
    mutator = OneShotChannelMutator(divisor=1)
    mutator.prepare(randomise(network).to(dtype).eval(), SHAPE, any_width=True)
    return mutator


def halves(mutator: OneShotChannelMutator) -> dict[str, int]:
    """Half of the units of every group."""
    full = mutator.search_space.max()
    return {name: (units // 2) * full[name] // units for name, units in mutator.unit_counts.items()}


@torch.no_grad()
def repeat_units(mutator: OneShotChannelMutator) -> None:
    """Make the second half of every group give what the first half gives; what reads them weighs them differently."""
    for member in mutator.members:
        if member.role == "inputs":
            continue
        index = torch.arange(len(member.side))
        for group, units in enumerate(mutator.unit_counts.values()):
            mine = [(member.side.group == group) & (member.side.unit == unit) for unit in range(units)]
            for unit in range(units // 2, units):
                index[torch.from_numpy(mine[unit])] = index[torch.from_numpy(mine[unit - units // 2])]
        member.tensor.copy_(member.tensor.index_select(member.dim, index))


@torch.no_grad()
def error(network: nn.Module, mutator: OneShotChannelMutator, batches: list) -> float:
    """Largest difference to the outputs of the full network, relative to the largest output."""
    pairs = [pair for x, _ in batches for pair in zip(tensors_of(network.eval()(x)), mutator.run(x), strict=True)]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@torch.no_grad()
def distance(network: nn.Module, mutator: OneShotChannelMutator, batches: list) -> float:
    """Root of the squared error of the outputs, relative to their size."""
    pairs = [pair for x, _ in batches for pair in zip(tensors_of(network.eval()(x)), mutator.run(x), strict=True)]
    return (
        sum(float((a - b).square().sum()) for a, b in pairs) / sum(float(b.square().sum()) for _, b in pairs)
    ) ** 0.5


def slimmed(mutator: OneShotChannelMutator, subnet: dict, batches: list, **options: object) -> tuple:
    small = mutator.export(subnet)
    report = refit(small, mutator.architecture, kept_channels(mutator, subnet), batches, **options)
    return small, report


@pytest.mark.parametrize("name", NETWORKS)
def test_what_can_be_made_up_for_is(name):
    torch.manual_seed(0)
    mutator = mutator_of(NETWORKS[name]())
    repeat_units(mutator)
    before = error(mutator.export(halves(mutator)), mutator, images())
    small, report = slimmed(mutator, halves(mutator), images(), ridge=0)
    assert before > 1e-2
    assert error(small, mutator, images()) < 1e-8, report
    assert mutator.unit_counts and all(entry.after < 1e-7 for entry in report.layers)


QUICK = "demo mobilenet_v1 vit".split()


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ZOO]
)
def test_no_network_gets_much_worse(name):
    variant = copy.deepcopy(prepared(name))
    mutator, full = variant.mutator, variant.mutator.search_space.max()
    batches = images(16, variant.input_shape, torch.float32)
    subnet = {name: max(1, units * 2 // 3) * full[name] // units for name, units in mutator.unit_counts.items()}
    before = distance(mutator.export(subnet), mutator, batches)
    small, report = slimmed(mutator, subnet, batches)
    assert report.layers
    assert distance(small, mutator, batches) < 1.1 * before


def test_every_run_gives_the_same_bits():
    mutator = mutator_of(Residual(), torch.float32)
    networks = [slimmed(mutator, halves(mutator), images(dtype=torch.float32))[0].state_dict() for _ in range(2)]
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_several_refits_ask_the_original_once(name, monkeypatch):
    """What was kept of its runs gives the same bits as its runs do, for subnets of any widths."""
    mutator, batches = mutator_of(NETWORKS[name](), torch.float32), images(dtype=torch.float32)
    own, calls = id(next(mutator.architecture.parameters())), []  # copies that run hold the same parameters
    mutator.architecture.register_forward_pre_hook(
        lambda network, _: calls.append(1) if id(next(network.parameters())) == own else None
    )
    full = mutator.search_space.max()
    narrow = {group: full[group] // units for group, units in mutator.unit_counts.items()}
    subnets = [halves(mutator), {**full, **narrow}, halves(mutator)]
    kept, asked = [], []
    for found, room in ((kept, shared_original.MOST_BYTES), (asked, 0)):
        monkeypatch.setattr(shared_original, "MOST_BYTES", room)
        shared = shared_original.Original(mutator.architecture, batches, rows=6, held_bytes=2**20)
        for subnet in subnets:
            small = mutator.export(subnet)
            calls.clear()
            report = refit(small, mutator.architecture, kept_channels(mutator, subnet), batches, original=shared)
            found.append((small.state_dict(), len(calls)))
            assert report.layers
    assert [count for _, count in kept] == [0, 0, 0] and asked[0][1] > 0
    for (ours, _), (theirs, _) in zip(kept, asked, strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert all(torch.equal(kept[0][0][key], kept[2][0][key]) for key in kept[0][0])


def test_the_full_network_stays_as_it_is():
    mutator = mutator_of(Residual())
    mutator.architecture.train()
    before = copy.deepcopy(mutator.architecture.state_dict())
    slimmed(mutator, halves(mutator), images())
    assert all(torch.equal(tensor, before[name]) for name, tensor in mutator.architecture.state_dict().items())
    assert mutator.architecture.training


def test_layers_to_which_nothing_happened_stay():
    mutator = mutator_of(NETWORKS["plain"]())
    full = mutator.search_space.max()
    small, report = slimmed(mutator, full, images())
    assert set(report.skipped) == {"0", "2", "4"} and not report.layers
    small, report = slimmed(mutator, {**full, "2": 3}, images())
    assert set(report.skipped) == {"0", "2"} and [entry.layer for entry in report.layers] == ["4"]
    assert torch.equal(small[2].weight, mutator.architecture[2]._parameters["weight"][:3])


@pytest.mark.parametrize("most", [20, 1])
def test_in_pieces_it_comes_near_the_same(most):
    mutator = mutator_of(NETWORKS["plain"]())
    repeat_units(mutator)
    subnet, batches = halves(mutator), images()
    cut = error(mutator.export(subnet), mutator, batches)
    small, report = slimmed(mutator, subnet, batches, most_inputs=most)
    assert [entry.layer for entry in report.layers] == ["2", "4"]
    assert report.notes == [f"{n}: {k} numbers make an output, {most} of them are fitted at a time" for n, k in NUMBERS]
    assert error(small, mutator, batches) < 0.5 * cut


NUMBERS = [("2", 36), ("4", 27)]


WAITING = {name: NETWORKS[name] for name in ("concat", "residual", "in place", "shared")} | {
    "depthwise between": lambda: chain(
        conv(3, 8), nn.ReLU(), conv(8, 6, 1), nn.ReLU(), conv(6, 6, groups=6), nn.ReLU6(), conv(6, 5, 1)
    ),
}


@pytest.mark.parametrize("name", WAITING)
def test_runs_that_go_on_come_to_what_runs_from_the_beginning_do(name):
    torch.manual_seed(0)
    mutator = mutator_of(WAITING[name]())
    held, anew = (slimmed(mutator, halves(mutator), images(), held_bytes=size) for size in (2**30, 0))
    assert held[1].layers and [vars(fit).keys() for fit in held[1].layers] == [
        vars(fit).keys() for fit in anew[1].layers
    ]
    torch.testing.assert_close(held[0].state_dict(), anew[0].state_dict(), rtol=1e-9, atol=1e-12)


@torch.no_grad()
def test_what_waits_holds_no_more_than_a_pass_does():
    network, own = chain(conv(3, 4), *(Sum() for _ in range(3))).eval(), Images([(torch.rand(2, 3, 8, 8), None)], LIKE)
    flows = layer_flows(network, own[0])
    plans = RowPlan.all_of(flows, own)
    size = 2 * 4 * 8 * 8 * 4  # of a tensor of the batch
    most = {}
    for is_fitted in (True, False):
        with closing(WaitingRuns(network, flows, plans, own, 2**30, is_fitted)) as runs:
            most[is_fitted] = max(run.bytes for _ in runs.layers() for run in runs._runs.values())
    # a shortcut and what the next layer reads; where a weight is fitted, the other side of the sum and the sum, too
    assert most == {False: 2 * size, True: 4 * size}


class Sum(nn.Module):
    """A shortcut."""

    def __init__(self):
        super().__init__()
        self.a, self.b = conv(4, 4), conv(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x).relu())
        y = y * 2.0
        return (x + y).relu()


class Counting(nn.Module):
    runs = 0

    def forward(self, x: Tensor) -> Tensor:
        Counting.runs += 1
        return x


def test_the_depth_does_not_decide_how_often_the_small_network_runs():
    layers = [layer for _ in range(6) for layer in (conv(6, 6), nn.ReLU())]
    network = chain(Counting(), conv(3, 6), *layers, conv(6, 2)).double().eval()
    small = chain(Counting(), conv(3, 4), *(conv(4, 4) if isinstance(m, nn.Conv2d) else m for m in layers), conv(4, 2))
    kept = {name: (np.ones(6, bool), np.arange(6) < 4) for name in ("1", *(str(n) for n in range(2, 14, 2)))}
    runs = []
    for options in ({}, {"held_bytes": 0}):
        Counting.runs = 0
        report = refit(copy.deepcopy(small).double().eval(), network, kept, images(), **options)
        runs.append(Counting.runs)
        assert len(report.layers) == 8
    few, many = runs
    assert few == 1 + 2 * 3 and many > 3 * 7  # a look at the layers, and both networks with three batches


def test_an_error_of_a_run_is_told_and_no_run_stays():
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 2 and threading.current_thread() is not threading.main_thread():
                raise ValueError("broken")
            return x

    network = chain(conv(3, 6), nn.ReLU(), conv(6, 6), Broken(), conv(6, 2)).double().eval()
    small = chain(conv(3, 4), nn.ReLU(), conv(4, 6), Broken(), conv(6, 2)).double().eval()
    before = threading.active_count()
    with pytest.raises(ValueError, match="broken"):
        refit(small, network, {"0": (np.ones(3, bool), np.arange(6) < 4)}, images())
    assert threading.active_count() == before


def test_where_memory_runs_out_fewer_inputs_are_fitted_at_a_time(monkeypatch):
    real = torch.linalg.cholesky_ex

    def limited(system: Tensor) -> tuple:
        if system.shape[-1] > 150:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return real(system)

    mutator = mutator_of(chain(conv(3, 40), nn.ReLU(), conv(40, 6)))
    subnet = {"0": 30}
    cut = distance(mutator.export(subnet), mutator, images())
    monkeypatch.setattr(torch.linalg, "cholesky_ex", limited)
    small, report = slimmed(mutator, subnet, images())
    assert report.notes == ["2: memory ran out, so 135 inputs are fitted at a time"]
    assert distance(small, mutator, images()) < 0.6 * cut


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch):
    def broken(system: Tensor) -> tuple:
        raise RuntimeError("something else")

    mutator = mutator_of(NETWORKS["plain"]())
    monkeypatch.setattr(torch.linalg, "cholesky_ex", broken)
    with pytest.raises(RuntimeError, match="something else"):
        slimmed(mutator, halves(mutator), images())


class Blocks(nn.Module):
    """Two blocks of functions of one place."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = conv(3, 12, 1), conv(12, 3, 1), conv(3, 48, 1), conv(48, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.b(self.a(x).relu())
        return x + self.d(self.c(x).relu())


def test_a_layer_makes_up_for_the_tensor_that_it_is_added_to():
    """The second block has all its channels: what the first one lost is found in the sum alone."""
    torch.manual_seed(0)
    mutator = mutator_of(Blocks())
    subnet, batches = {**mutator.search_space.max(), "a": 4}, images()
    with_sum, report = slimmed(mutator, subnet, batches)
    assert [(entry.layer, entry.shortcut) for entry in report.layers] == [("b", True), ("c", False), ("d", True)]
    without, _ = slimmed(mutator, subnet, batches, shortcuts=False)
    assert distance(with_sum, mutator, batches) < 0.7 * distance(without, mutator, batches)


def test_a_costly_network_runs_fewer_images_and_gives_more_places_of_each():
    network = chain(conv(3, 8), nn.ReLU(), conv(8, 8)).eval()
    flows = layer_flows(network, torch.randn(2, 3, 32, 32))
    every = Images([(torch.randn(600, 3, 32, 32), None)], torch.zeros(()))
    cheap = RowPlan.all_of(flows, every)["2"]
    flows = {name: replace(flow, places=(2000 * flow.places[0],)) for name, flow in flows.items()}
    costly = RowPlan.all_of(flows, every)["2"]
    assert (cheap.images, costly.images) == (512, 128) and cheap.rows == costly.rows == 4000
    for plan, flow in ((cheap, replace(flows["2"], places=(1024.0,))), (costly, flows["2"])):
        total = sum(len(plan.places(flow, 0, batch, 64)) for batch in range(plan.batches))
        assert plan.rows <= total < 1.05 * plan.rows


def test_few_rows_are_not_known_by_heart():
    """What a fit makes, on other rows, of outputs that have little to do with the inputs."""
    generator = torch.Generator().manual_seed(0)
    every = torch.randn(2000, 1, 64, generator=generator, dtype=torch.float64)
    lacks = 0.05 * every[:, 0, :8] + torch.randn(2000, 8, generator=generator, dtype=torch.float64)
    seen, other = Moments(), Moments()
    seen.add(every[:40], lacks[:40])
    other.add(every[40:], lacks[40:])
    assert float((other.left(solve(seen, 1e-3, True)) / other.left(None)).mean()) < 1.5


class OneNorm(nn.Module):
    """A norm behind a layer that is called a second time, on something else."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = conv(3, 8), conv(8, 6, bias=False), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        return self.norm(self.b(x)) + self.norm(x[:, :6].exp())


def test_the_mean_of_a_norm_that_something_else_goes_through_stays():
    flows = layer_flows(randomise(OneNorm()).eval(), torch.randn(2, *SHAPE))
    assert flows["b"].norm is None
    assert layer_flows(chain(conv(3, 4), nn.BatchNorm2d(4)).eval(), torch.randn(2, *SHAPE))["0"].norm == "1"


def test_no_image_and_numbers_that_are_not_finite_are_told():
    mutator = mutator_of(NETWORKS["plain"]())
    with pytest.raises(UserError, match="no image"):
        slimmed(mutator, halves(mutator), [])
    (x, _), *others = images()
    x[-1] = float("nan")
    small, report = slimmed(mutator, halves(mutator), [(x, None), *others])
    assert report.skipped["4"] == "what it reads, or should give, is not finite"
    assert all(tensor.isfinite().all() for tensor in small.state_dict().values())
