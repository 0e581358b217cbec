"""Latency tables of traced networks. Where the clock is a known function of each op, the table is its sum, exactly."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from slim_nets import Attention, Grouped, Residual, UNet
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators import latency_widths
from mmrazor_lite.estimators.latency_build import Report, build_table
from mmrazor_lite.estimators.latency_measuring import CHUNK
from mmrazor_lite.estimators.latency_reading import read_table
from mmrazor_lite.estimators.latency_table import CostWithLatency, LatencyTable
from mmrazor_lite.estimators.latency_widths import draw_aligned, draw_widths, line_through, of_layouts, run_by
from mmrazor_lite.estimators.measure import Bench
from mmrazor_lite.estimators.op_runs import OpRun
from mmrazor_lite.estimators.width_curves import never_falling
from mmrazor_lite.graph import trace
from mmrazor_lite.models.mutators import OneShotChannelMutator
from mmrazor_lite.search import Budget, GreedySearcher
from mmrazor_lite.search.protocols import run

OVERHEAD = 2e-5  # seconds that every run takes beside its ops
BESIDE = 3e-4  # and every network
FOR_BASE = 8  # networks that the base is from: the clock is exact


NETWORKS = {"residual": Residual, "unet": UNet, "attention": Attention, "grouped": Grouped}


def prepared(network: nn.Module, size: int = 16) -> OneShotChannelMutator:
    mutator = OneShotChannelMutator()
    mutator.prepare(network, (3, size, size), any_width=True)
    return mutator


@pytest.fixture(scope="module", autouse=True)
def few_networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency_widths, "FOR_BASE", FOR_BASE)
        yield


@pytest.fixture(scope="module")
def mutators() -> dict[str, OneShotChannelMutator]:
    torch.manual_seed(0)
    return {name: prepared(network()) for name, network in NETWORKS.items()}


class Counting(TorchDispatchMode):
    """Elements that ops read and write, of all but views; twice as many of maps with ``step`` channels and more.

    The first two sizes of what has several are rounded up to multiples of ``lanes``. Depthwise convolutions of no
    multiple of 16 channels count ``beside`` times.
    """

    def __init__(self, step: int | None, lanes: int = 1, beside: float = 1.0) -> None:
        super().__init__()
        self.step, self.lanes, self.beside, self.seen = step, lanes, beside, 0

    def elements(self, tensor: torch.Tensor) -> int:
        sizes = list(tensor.shape)
        if len(sizes) > 1:
            sizes[:2] = [-(-size // self.lanes) * self.lanes for size in sizes[:2]]
        return math.prod(sizes)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func is not torch.ops.aten._unsafe_view.default:
            tensors = [leaf for leaf in tree_leaves((args, result)) if isinstance(leaf, torch.Tensor) and leaf.dim()]
            wide = self.step is not None and any(t.dim() == 4 and t.shape[1] >= self.step for t in tensors)
            slow = func is torch.ops.aten.convolution.default and args[8] > 1 and args[8] % 16
            self.seen += sum(map(self.elements, tensors)) * (2 if wide else 1) * (self.beside if slow else 1)
        return result


class AddingBench:
    """A bench on which a run takes a nanosecond per element, and a network more beside.

    Args:
        step, lanes, beside: See :class:`Counting`.
        stop_after: Timers that are made before the process is "killed".
    """

    def __init__(
        self,
        step: int | None = None,
        stop_after: int | None = None,
        inside: float = 1.0,
        lanes: int = 1,
        beside: float = 1.0,
        **facts,
    ) -> None:
        self.beside = beside
        self.step, self.stop_after, self.inside, self.lanes, self.made = step, stop_after, inside, lanes, 0
        self.extra = facts

    def facts(self) -> dict:
        return {"device": "adds", "threads": 1, "batch_size": 1, **self.extra}

    pace = None

    def timers(self, modules) -> dict:
        return {key: self.timer(module, size) for key, (module, size) in modules.items()}

    def timer(self, module: nn.Module, size: tuple):
        if self.made == self.stop_after:
            raise KeyboardInterrupt
        self.made += 1
        seconds = OVERHEAD + (0.0 if isinstance(module, nn.Identity) else self.seconds(module.eval(), size))
        if not isinstance(module, (OpRun, nn.Identity)):
            seconds = BESIDE + self.inside * seconds
        return lambda runs: runs * seconds

    def seconds(self, module: nn.Module, size: tuple) -> float:
        with torch.no_grad(), Counting(self.step, self.lanes, self.beside) as count:
            module(torch.zeros((1, *size)))
        return 1e-9 * count.seen


def build(mutator, bench, journal, **options):
    return build_table(mutator, bench, journal, **{"checks": 4, "repeats": 1, "min_seconds": 1e-9, **options})


@pytest.fixture(scope="module")
def whole(mutators, tmp_path_factory) -> tuple[AddingBench, Report]:
    """A table of the residual network that was measured in one go."""
    bench = AddingBench()
    return bench, build(mutators["residual"], bench, tmp_path_factory.mktemp("whole") / "journal")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_call_runs_what_the_subnet_runs(name, mutators):
    """At the channels that a subnet has, every call has the tensors that the exported subnet's own trace shows."""
    mutator = mutators[name]
    space = mutator.search_space
    assert {term[0] for call in mutator.calls for axis in call.axes for term in axis.terms} == set(space)
    for row in draw_widths(space, 3, np.random.default_rng(0)):
        subnet = space.subnet(row)
        shapes = {}
        traced = trace(mutator.export(subnet), mutator.input_shape)
        for op in traced.eval:
            tensors = [n.meta["val"] for n in op.node.all_input_nodes if isinstance(n.meta["val"], torch.Tensor)]
            shapes.setdefault((op.layer or op.module_path, op.kind), []).append([tuple(t.shape) for t in tensors])
        for call in mutator.calls:
            channels = [axis.at(subnet) for axis in call.axes]
            run = OpRun(call, channels, images=2)
            run(torch.zeros(1))
            found = [tuple(leaf.shape) for leaf in tree_leaves(run._ready[0]) if isinstance(leaf, torch.Tensor)]
            if call.kind == "cat":
                total = sum(shape[1] for shape in found)
                wanted = sum(shape[1] for shape in shapes[call.name, "cat"][0])
                assert abs(total - wanted) <= len(found)
            else:
                assert sorted(set(found)) in [sorted(set(s)) for s in shapes[call.name, call.kind]], call


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_additive_is_predicted_exactly(name, mutators, whole, tmp_path):
    mutator = mutators[name]
    space, bench = mutator.search_space, AddingBench()
    report = whole[1] if name == "residual" else build(mutator, bench, tmp_path / "journal")
    exact = 0.01 if name == "unet" else 1e-6  # of a concat, shares of channels are rounded
    assert report.predicted == pytest.approx(report.measured, rel=exact) and len(set(report.measured)) > 2
    assert report.table.device["inside"] == pytest.approx(1, rel=exact) and report.entries == len(mutator.calls)
    rows = space.sample_indices(np.random.default_rng(1), 8)
    networks = [mutator.export(space.subnet(row)).eval() for row in rows]
    taken = [1e3 * (OVERHEAD + BESIDE + bench.seconds(network, mutator.input_shape)) for network in networks]
    assert report.table(rows) + 1e3 * OVERHEAD == pytest.approx(taken, rel=exact)
    for row, ms in zip(rows, report.table(rows), strict=True):
        assert report.table.of(space.subnet(row)) == pytest.approx(ms, rel=1e-12)


@pytest.mark.parametrize("backend", ["onnxruntime", "torch.compile"])
@pytest.mark.parametrize("name", ["residual", pytest.param("grouped", marks=pytest.mark.wide)])
def test_what_a_runtime_joins_is_predicted_exactly(name, backend, mutators, tmp_path):
    """A convolution is measured with the norm, the sum and the activation behind it; or what is pointwise alone."""
    mutator = mutators[name]
    report = build(mutator, AddingBench(backend=backend), tmp_path / "journal")
    assert report.predicted == pytest.approx(report.measured, rel=1e-6) and len(set(report.measured)) > 2
    calls = run_by(mutator.calls, backend)
    assert report.entries == len(calls) < len(mutator.calls)
    assert sum(len(call.kind.split(", ")) for call in calls) == len(mutator.calls)
    if name == "residual":
        kinds = [call.kind for call in calls]
        assert ("conv2d, batch_norm, relu" if backend == "onnxruntime" else "batch_norm, relu") in kinds
        assert ("conv2d, add" in kinds) == (backend == "onnxruntime")
        read = {
            call.kind: len(OpRun(call, call.fulls).feeds) for call in calls
        }  # each op reads what the one before gives
        assert read["conv2d, batch_norm, relu" if backend == "onnxruntime" else "batch_norm, relu"] == 1
        assert read.get("conv2d, add", 2) == 2
    with pytest.raises(UserError, match=f"backend was '{backend}', is 'torch'"):
        build(mutator, AddingBench(backend="torch"), tmp_path / "journal")


def test_a_table_is_the_same_in_its_file_and_for_every_grid_of_widths(mutators, whole, tmp_path):
    mutator = mutators["residual"]
    table, path = whole[1].table, tmp_path / "table.json"
    table.write(path)
    read = read_table(path, mutator)
    rows = mutator.search_space.sample_indices(np.random.default_rng(0), 50)
    assert read(rows).tolist() == table(rows).tolist() and read.digest == table.digest
    coarse = OneShotChannelMutator(candidate_choices=[0.5, 1.0], divisor=4)
    coarse.prepare(Residual(), (3, 16, 16))
    assert coarse.search_space.fingerprint == mutator.search_space.fingerprint
    other = LatencyTable.read(path, coarse.search_space)
    for row in coarse.search_space.sample_indices(np.random.default_rng(0), 8):
        subnet = coarse.search_space.subnet(row)
        assert other(row[None])[0] == pytest.approx(table.of(subnet), rel=1e-12)


def test_a_search_reads_it_as_a_resource(mutators, whole):
    mutator, table = mutators["residual"], whole[1].table
    cost, space = CostWithLatency(mutator.cost_model, table), mutator.search_space
    rows = space.sample_indices(np.random.default_rng(0), 300)
    found = cost(rows)["latency"]
    assert cost.extreme("latency", False) <= found.min() and found.max() <= cost.extreme("latency", True)
    assert table.of(space.max()) == table.extreme(True) and table.of(space.min()) == table.extreme(False)
    limit = 0.4 * table.extreme(True) + 0.6 * table.extreme(False)
    searcher = GreedySearcher(space, cost, budgets=[Budget("latency", limit)])
    results = run(searcher, lambda row: float(cost(row[None])["macs"][0]))
    assert 0.9 * limit < cost(results[0].row[None])["latency"][0] <= limit


def test_a_step_between_measured_widths_is_found(tmp_path):
    """Maps of 50 channels and more take twice as long; the first grid measures 32 and 64."""
    mutator = prepared(Residual(64))
    report = build(mutator, AddingBench(step=50), tmp_path / "journal", repeats=3)
    assert report.predicted == pytest.approx(report.measured, rel=0.05)
    space, table = mutator.search_space, report.table
    for width in (45, 52):
        subnet = {**space.max(), "stem.0": width}
        seconds = AddingBench(step=50).seconds(mutator.export(subnet).eval(), mutator.input_shape)
        assert table.of(subnet) == pytest.approx(1e3 * (seconds + BESIDE), rel=0.03)
    rows = space.sample_indices(np.random.default_rng(2), 40)
    wider = np.minimum(rows + 1, np.array([len(choice.candidates) - 1 for choice in space.values()]))
    assert (table(wider) >= table(rows) - 1e-12).all()  # it never falls


@pytest.mark.parametrize("lanes", [1, 16, *(pytest.param(lanes, marks=pytest.mark.wide) for lanes in (8, 32))])
def test_the_steps_that_pay_are_found(lanes, tmp_path):
    """Of a smooth clock there are none; a table keeps them in its file."""
    mutator = prepared(Residual(128))
    table = build(mutator, AddingBench(lanes=lanes), tmp_path / "journal").table
    assert table.steps == ({} if lanes == 1 else dict.fromkeys(mutator.search_space, lanes))
    table.write(tmp_path / "table.json")
    assert read_table(tmp_path / "table.json", mutator).steps == table.steps
    curves = (table.base, [], table.device, table.correction)
    assert lanes == 1 or LatencyTable(table.space, *curves, widths=table.widths).digest != table.digest


def test_ops_that_take_longer_inside_a_network(mutators, tmp_path):
    report = build(mutators["residual"], AddingBench(inside=1.5), tmp_path / "journal")
    assert report.predicted == pytest.approx(report.measured, rel=1e-6)
    assert report.table.device["inside"] == pytest.approx(1.5, rel=1e-6)


def test_equal_ops_are_measured_once_and_a_killed_measurement_goes_on(mutators, whole, tmp_path):
    mutator, (bench, wanted) = mutators["residual"], whole
    assert wanted.distinct == bench.made - 1 - FOR_BASE - 4
    with pytest.raises(KeyboardInterrupt):
        build(mutator, AddingBench(stop_after=40), tmp_path / "journal")
    rest = AddingBench()
    assert build(mutator, rest, tmp_path / "journal").table.digest == wanted.table.digest
    assert rest.made == bench.made - CHUNK
    with pytest.raises(UserError, match="batch_size was 1, is 4; delete it"):
        build(mutator, AddingBench(batch_size=4), tmp_path / "journal")


def test_what_decides_about_the_times_is_written(whole):
    device = whole[1].table.device
    assert device["dtype"] == "float32" and device["channels_last"] is False and device["input_shape"] == [3, 16, 16]
    assert device["batch_size"] == 1 and device["repeats"] == 1 and "spread" in device


@pytest.mark.parametrize("options", [{}, {"channels_last": True}, {"dtype": "bfloat16"}, {"batch_size": 3}])
def test_a_real_bench_runs_every_call(options, mutators):
    threads = torch.get_num_threads()
    bench = Bench(threads=1, **options)
    try:
        for call in mutators["grouped"].calls:
            assert bench.timer(OpRun(call, call.fulls, bench.batch_size, 10**6), (1, 1, 1))(2) >= 0
    finally:
        torch.set_num_threads(threads)
    assert {key: bench.facts()[key] for key in options} == options


def test_kernels_that_are_fast_at_multiples_of_16_channels(tmp_path):
    """A depthwise convolution of other widths takes half as long again: predicted, written, and told from steps."""
    mutator = prepared(Residual(64))
    report = build(mutator, AddingBench(beside=1.5), tmp_path / "journal")
    assert report.errors().max() < 1e-6
    curves = report.table.widths
    assert [(curve.what.split()[0], curve.lanes) for curve in curves.curves if curve.lanes > 1] == [("conv2d", 16)]
    (slow,) = (curve for curve in curves.curves if curve.lanes > 1)
    assert slow.beside == pytest.approx(1.5, rel=1e-4) and slow(np.array([96])) < slow(np.array([95])) > slow(
        np.array([80])
    )
    report.table.write(tmp_path / "table.json")
    read = read_table(tmp_path / "table.json", mutator)
    rows = draw_widths(mutator.search_space, 20, np.random.default_rng(5))
    assert np.array_equal(read(rows), report.table(rows)) and read.digest == report.table.digest
    names = list(mutator.search_space)
    for widths, ms in zip(mutator.search_space.numeric(rows), curves(rows), strict=True):
        subnet = dict(zip(names, widths.astype(int).tolist(), strict=True))
        each = [curves.curves[call.curve](*(np.array([a.at(subnet)]) for a in call.axes))[0] for call in curves.calls]
        assert sum(each) == pytest.approx(ms)


class Blocks(Counting):
    """A runtime that computes in blocks of 16 channels: an op that reads others, with what it is joined with, counts
    twice, and so does each alone, for the way into the blocks and back."""

    def __init__(self, alone: bool) -> None:
        super().__init__(None)
        self.alone, self.times = alone, 2

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = (leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor) and leaf.dim() > 1)
        reads = next(tensors, None)  # what makes tensors reads none
        before = self.seen
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if not self.alone and func.overloadpacket.__name__ in ("convolution", "mean", "addmm"):
            channels = reads.shape[1] if reads.shape[1] > 3 else result.shape[1]
            self.times = 2 if channels % 16 else 1
        self.seen += (self.times - 1) * (self.seen - before)
        return result


class BlockBench(AddingBench):
    def seconds(self, module: nn.Module, size: tuple) -> float:
        with torch.no_grad(), Blocks(isinstance(module, OpRun)) as count:
            module(torch.zeros((1, *size)))
        return 1e-9 * count.seen


def test_a_runtime_that_computes_in_blocks_of_channels(tmp_path):
    """Ops alone take twice as long as in networks of whole blocks: both kinds of networks are predicted."""
    widths = [3, 32, 64, 96, 64]
    layers = [nn.Conv2d(*pair, 3, padding=1) for pair in itertools.pairwise(widths)]
    network = nn.Sequential(*(part for conv in layers for part in (conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU())))
    mutator = prepared(nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)))
    report = build(mutator, BlockBench(backend="onnxruntime"), tmp_path / "journal")
    assert report.errors().max() < 1e-5
    assert {(curve.lanes, round(curve.beside, 3)) for curve in report.table.widths.curves} == {(16, 2.0)}
    report.table.write(tmp_path / "table.json")
    assert read_table(tmp_path / "table.json", mutator).digest == report.table.digest
    rows = draw_aligned(mutator.search_space, 9, np.random.default_rng(3))
    assert not (mutator.search_space.numeric(rows) % 16).any() and len(np.unique(rows, axis=0)) > 5


def test_layouts_without_a_difference_have_one_factor():
    ms, beside = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.5, 0.1, 2.0, 1.0])
    assert of_layouts(ms, beside, 0.5 + 3 * ms) == pytest.approx((0.5, 3.0, 1.0))
    assert of_layouts(ms, beside, 0.5 + 3 * ms + 3 * beside) == pytest.approx((0.5, 3.0, 2.0))
    assert of_layouts(ms, 0 * ms, 0.5 + 3 * ms) == pytest.approx((0.5, 3.0, 1.0))
    assert of_layouts(ms, beside, 9 * beside) == (*line_through(ms, 9 * beside), 1.0)


class Padded(nn.Module):
    """A shortcut with channels of zeros before and after, as in ResNets without weights in shortcuts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, 2, 1)
        self.head = nn.Conv2d(32, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        return self.head((nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8)) + self.conv(x)).relu())


def test_axes_that_follow_each_other_are_not_joined(tmp_path):
    """What pads w channels and what adds w + 16 would be measured at widths that no network has."""
    mutator = prepared(Padded())
    axes = {axis for call in mutator.calls for axis in call.axes}
    assert {axis.constant for axis in axes} == {0, 16}, "a stream and the same behind zeros"
    for call in run_by(mutator.calls, "onnxruntime"):
        for channels in itertools.product(
            *((1 + axis.constant, full) for axis, full in zip(call.axes, call.fulls, strict=True))
        ):
            OpRun(call, channels)(torch.zeros(1))
    report = build(mutator, AddingBench(backend="onnxruntime"), tmp_path / "journal")
    assert report.errors().max() < 1e-6


def test_weights_are_taken_in_turns(mutators):
    conv = next(call for call in mutators["residual"].calls if call.name == "branch.0")
    own = 16 * 32 * 9 * 4
    run = OpRun(conv, conv.fulls, held_bytes=3 * own)
    run(torch.zeros(1))
    first, second, third = (args[1] for args, _ in run._ready)
    assert len({tensor.data_ptr() for tensor in (first, second, third)}) == 3
    assert len({args[0].data_ptr() for args, _ in run._ready}) == 1


def test_times_never_fall_as_a_width_grows():
    rising = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert never_falling(rising).tolist() == rising.tolist()
    assert never_falling(np.array([1.0, 4.0, 2.0, 5.0])).tolist() == [1, 3, 3, 5]  # half way
    noisy = np.add.outer(np.arange(6.0), np.arange(5.0)) + np.random.default_rng(0).normal(0, 2, (6, 5))
    found = never_falling(noisy)
    assert all((np.diff(found, axis=axis) >= 0).all() for axis in (0, 1))


def edited(text: str, key: str, value) -> str:
    data = json.loads(text)
    del data["crc"]
    place = data
    *way, last = key.split(".")
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[int(last) if last.isdigit() else last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("curves", 3, "curves must be a list"),
        ("calls", None, "calls must be a list"),
        ("curves.0", [1], r"curves\[0\] must be a mapping with what, widths and ms"),
        ("curves.0.widths", [[4, 2]], "rising numbers of channels"),
        ("curves.0.widths", [[1, 10**12]], "rising numbers of channels"),
        ("curves.0.ms", [1.0], "an entry for each of its widths"),
        ("curves.0.ms.0", -1, "must be milliseconds, 0 or more, got -1"),
        ("curves.0.ms.0", 10**3, "must not fall as a width grows"),
        ("calls.0.curve", 99, "names curve 99, of"),
        ("calls.0.channels.0", [0, {}], "channels must be"),
        ("calls.0.channels.0", [-1, {"stem.0": [1, 1]}], "channels must be"),
        ("calls.0.channels.0", [0, {"stem.0": [1, 0]}], "must have .channels per unit, width of a unit."),
        ("calls.0.channels.0", [0, {"stem": [1, 1]}], "unknown choice 'stem'"),
        ("calls.0.channels.0", [0, {"stem.0": [1, 5]}], "is no width in units of 5"),
        ("calls.0.channels.0", [0, {"stem.0": [9, 1]}], "has up to 144 channels, its curve ends at 16"),
        ("calls", [], "no entry depends on"),
        ("steps", [8], "steps must be a mapping"),
        ("steps", {"stem": 8}, "steps: unknown width 'stem'"),
        ("steps", {"stem.0": 0}, "steps: 'stem.0' must have a step of 1 to its channels, got 0"),
        ("steps", {"stem.0": 99}, "steps: 'stem.0' must have a step of 1 to its channels, got 99"),
        ("base", -99.0, "base is so far below 0"),
    ],
)
def test_a_file_that_is_no_table(key, value, part, mutators, whole, tmp_path):
    mutator, path = mutators["residual"], tmp_path / "table.json"
    whole[1].table.write(path)
    path.write_text(edited(path.read_text(), key, value))
    with pytest.raises(UserError, match=part) as caught:
        LatencyTable.read(path, mutator.search_space)
    assert "table.json" in str(caught.value) and "\n" not in str(caught.value)


def test_what_cannot_be_measured(tmp_path):
    with pytest.raises(UserError, match="needs a network that is prepared"):
        build_table(OneShotChannelMutator(), AddingBench(), tmp_path / "journal")
    mutator = OneShotChannelMutator(exclude=["*"])
    mutator.prepare(Residual(), (3, 16, 16))
    with pytest.raises(UserError, match="no op of this network has a width that can be chosen"):
        build(mutator, AddingBench(), tmp_path / "journal")
    assert not (tmp_path / "journal").exists()


def test_a_line_through_times():
    at = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    slow = 0.5 + 2 * at
    slow[1] += 40  # one that something else slowed down
    assert line_through(at, slow) == pytest.approx((0.5, 2))
    assert line_through(np.ones(4), np.arange(4) + 2.0) == pytest.approx((2.5, 1))
    assert line_through(at, 3 * at - 0.5)[0] == 0
    assert line_through(at, 9 - at)[1] == 1
