"""Elastic depth, kernel, width and resolution: what must hold for every subnet of an elastic network."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from draws import some
from elastic import (
    BACKBONES,
    INSIDE,
    RATIOS,
    RESOLUTIONS,
    SHAPE,
    WIDTHS,
    Net,
    build,
    images,
    matrices_of,
    prepared,
    zeroed,
)
from oracles import assert_close, assert_same_bits, count, memory
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.resource import plain_cost
from mmrazor_lite.models.mutables import KernelConv2d, MutableDepth
from mmrazor_lite.models.mutators import NasMutator
from mmrazor_lite.subnet import read_subnet, write_subnet

ALL = pytest.mark.parametrize("name", BACKBONES)


def subnets(mutator: NasMutator, number: int = 4, seed: int = 0) -> list:
    """The ends of the space, one with the largest of all but the depth, and random ones."""
    space, rng = mutator.search_space, np.random.default_rng(seed)
    shallow = space.subnet(space.index({**space.max(), **{key: 1 for key in space if key.endswith(".depth")}}))
    return [space.max(), space.min(), shallow, *(space.sample(rng) for _ in range(number))]


# the space --------------------------------------------------------------------------------------------------------


def test_choices_have_the_names_and_conditions_of_their_modules():
    space = prepared("proxyless")[2].search_space
    one, two = "backbone.layers.1", "backbone.layers.2"
    assert list(space) == [
        "resolution", f"{one}.depth",
        *(f"{one}.{block}.{part}" for block in range(3) for part in ("kernel_size", "expand_ratio")),
        f"{two}.0.kernel_size", f"{two}.0.expand_ratio",
    ]  # fmt: skip
    kinds = {name.rpartition(".")[2]: choice.kind for name, choice in space.items()}
    assert kinds == {"resolution": "resolution", "depth": "depth", "kernel_size": "value", "expand_ratio": "value"}
    assert space["resolution"].candidates == RESOLUTIONS and space[f"{one}.depth"].candidates == (1, 2, 3)
    rules = {0: None, 1: (f"{one}.depth", (2, 3)), 2: (f"{one}.depth", (3,))}
    for block, rule in rules.items():
        kernel, ratio = space[f"{one}.{block}.kernel_size"], space[f"{one}.{block}.expand_ratio"]
        assert (kernel.candidates, ratio.candidates) == ((3, 5, 7), RATIOS)
        assert kernel.active_if == ratio.active_if == rule
    assert space[f"{two}.0.kernel_size"].active_if is None
    assert space.size == 3 * (9 + 9**2 + 9**3) * 9


def test_the_width_inside_squeeze_and_excitation_follows_the_ratio():
    _, _, mutator = prepared("mobilenet_v3")
    assert not any("se" in name.rpartition(".")[2] for name in mutator.search_space)
    for ratio in RATIOS:
        subnet = {**mutator.search_space.max(), "backbone.layers.2.1.expand_ratio": ratio}
        depth_conv = mutator.export(subnet).backbone.layers[2][1].depth_conv
        assert depth_conv.conv.out_channels == WIDTHS[24][ratio]
        assert depth_conv.se.reduce.weight.shape == (INSIDE[WIDTHS[24][ratio]], WIDTHS[24][ratio], 1, 1)
        assert depth_conv.se.expand.weight.shape == (WIDTHS[24][ratio], INSIDE[WIDTHS[24][ratio]], 1, 1)


@ALL
def test_a_subnet_survives_its_file_and_equal_networks_are_equal_subnets(name, tmp_path):
    _, _, mutator = prepared(name)
    space = mutator.search_space
    for subnet in subnets(mutator):
        write_subnet(tmp_path / "subnet.yaml", subnet, space, mutator.cost_model.of(subnet))
        assert read_subnet(tmp_path / "subnet.yaml", space).subnet == subnet
        row = space.index(subnet)
        assert np.array_equal(space.canonical(row[None])[0], row) and space.subnet(row) == subnet
        idle = [key for key, on in zip(space, space.active(row[None])[0], strict=True) if not on]
        other = {**subnet, **{key: space[key].candidates[-1] for key in idle}}
        assert hash(space.subnet(space.index(other))) == hash(subnet) and space.subnet(space.index(other)) == subnet
        assert mutator.cost_model.of(other) == mutator.cost_model.of(subnet)
        known = {key: value for key, value in subnet.items() if key not in idle}
        assert mutator.cost_model.of(known) == mutator.cost_model.of(subnet)
        images_of = images(dtype=torch.float32)
        outputs = []
        for same in (subnet, other, known):
            mutator.activate(same)
            outputs.append(mutator.architecture.eval()(images_of))
        assert_same_bits(outputs[0], outputs[1]), assert_same_bits(outputs[0], outputs[2])


# invariants 1 to 3 ------------------------------------------------------------------------------------------------


@ALL
def test_preparing_keeps_every_tensor(name):
    model = build(name).train()
    parameters = {key: id(value) for key, value in model.named_parameters()}
    buffers = {key: value.clone() for key, value in model.named_buffers()}
    NasMutator(resolutions=RESOLUTIONS).prepare(model, SHAPE)
    assert {key: id(value) for key, value in model.named_parameters()} == parameters
    assert all(torch.equal(value, buffers[key]) for key, value in model.named_buffers())
    assert all(module.training for module in model.modules())


@ALL
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_max_subnet_computes_the_same_bits_as_the_untouched_network(name, training):
    plain, model, mutator = prepared(name)
    mutator.activate(mutator.search_space.min())
    mutator.activate(mutator.search_space.max())
    x = images(dtype=torch.float32)
    assert_same_bits(model.train(training)(x), plain.train(training)(x))
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), plain.buffers(), strict=True))


@ALL
def test_an_export_computes_and_learns_what_the_active_subnet_does(name):
    _, model, mutator = prepared(name, double=True)
    for subnet in subnets(mutator):
        x, exported = images(subnet["resolution"], n=4), mutator.export(subnet).train()
        statistics = {key: value.clone() for key, value in model.named_buffers()}
        mutator.activate(subnet)
        model.zero_grad(set_to_none=True)
        model.train()
        outputs = [net(x) for net in (model, exported)]
        assert_close(*outputs)
        for output in outputs:
            (output * torch.linspace(0.5, 1.5, 5, dtype=torch.float64)).square().sum().backward()
        _assert_gradients(model, exported, 1e-9)
        _assert_statistics(model, exported, statistics)
        model.eval(), exported.eval()
        assert_close(model(x), exported(x))


def _assert_gradients(model: nn.Module, exported: nn.Module, relative: float) -> None:
    """Those of the active slices are the export's; of kernels by the chain rule, written down; the rest is zero."""
    theirs, seen = {key: value.grad for key, value in exported.named_parameters()}, set()
    for key, module in model.named_modules():
        if isinstance(module, KernelConv2d):
            seen |= {f"{key}.weight", *(f"{key}.transform_{a}to{b}" for a, b in matrices_of(module))}
            _assert_kernel_gradients(module, theirs.pop(f"{key}.weight", None), relative)
    for key, parameter in model.named_parameters():
        if key in seen:
            continue
        other = theirs.pop(key, None)
        if other is None:
            assert parameter.grad is None, f"{key} is in no export"
            continue
        kept = tuple(slice(0, size) for size in other.shape)  # widths are prefixes
        assert_close(parameter.grad[kept], other, relative)
        rest = parameter.grad.clone()
        rest[kept] = 0
        assert not rest.any(), f"{key}: what is not active has a gradient"
    assert not theirs


def _assert_kernel_gradients(conv: KernelConv2d, other: torch.Tensor | None, relative: float) -> None:
    own = dict(vars(conv)["_parameters"])  # a dynamic layer shows its active part
    matrices = {sizes: own[f"transform_{sizes[0]}to{sizes[1]}"] for sizes in matrices_of(conv)}
    used = {sizes for sizes in matrices if other is not None and other.shape[-1] < sizes[0]}
    assert {sizes for sizes in matrices if matrices[sizes].grad is not None} == used
    if other is None:
        assert own["weight"].grad is None
        return
    # Forward: the weights (C, k*k) of each size; backward: from the export's gradient up to the largest size.
    active, size = len(other), other.shape[-1]
    weights, flat = {7: own["weight"].detach()[:active, 0]}, {}
    for large, small in pairwise((7, 5, 3)):
        edge = (large - small) // 2
        flat[large, small] = weights[large][:, edge : edge + small, edge : edge + small].reshape(active, -1)
        weights[small] = (flat[large, small] @ matrices[large, small].detach().T).unflatten(1, (small, small))
    gradient = other[:, 0]
    for large, small in sorted(used):
        g = gradient.reshape(active, -1)
        assert_close(matrices[large, small].grad, g.T @ flat[large, small], relative)
        gradient = torch.zeros_like(weights[large])
        edge = (large - small) // 2
        centre = (g @ matrices[large, small].detach()).unflatten(1, (small, small))
        gradient[:, edge : edge + small, edge : edge + small] = centre
    assert_close(own["weight"].grad[:active, 0], gradient, relative)
    assert not own["weight"].grad[active:].any() and size in weights


def _assert_statistics(model: nn.Module, exported: nn.Module, before: dict) -> None:
    """Running statistics: those that are active as the export's, the others as they were."""
    theirs = dict(exported.named_buffers())
    for key, buffer in model.named_buffers():
        if key not in theirs:
            assert torch.equal(buffer, before[key]), key
        elif buffer.dim():
            width = len(theirs[key])
            assert_close(buffer[:width], theirs[key])
            assert not torch.equal(buffer[:width], before[key][:width])
            assert torch.equal(buffer[width:], before[key][width:]), key


@ALL
def test_a_subnet_is_the_full_network_with_channels_zeroed_and_blocks_left_out(name):
    plain, model, mutator = prepared(name, double=True)
    model.eval()
    for subnet in subnets(mutator, 8):
        mutator.activate(subnet)
        x = images(subnet["resolution"])
        with torch.no_grad():
            own = model(x)
        assert_close(own, zeroed(plain, subnet, x), 1e-11)
        assert (own - model(images(subnet["resolution"], seed=1))).abs().max() > 1e-3 * own.abs().max()


@pytest.mark.parametrize("draws", [8, pytest.param(100, marks=pytest.mark.wide)])
@ALL
def test_costs_equal_a_count_on_the_export(name, draws):
    _, _, mutator = prepared(name)
    rows = mutator.search_space.sample_indices(np.random.default_rng(1), draws)
    rows[:, 0] = np.arange(draws) % len(RESOLUTIONS)
    costs = mutator.cost_model(rows)
    for i, row in enumerate(rows):
        subnet = mutator.search_space.subnet(row)
        counted = count(mutator.export(subnet), (3, subnet["resolution"], subnet["resolution"]))
        assert {key: int(costs[key][i]) for key in counted} == counted
        assert mutator.cost_model.of(subnet) == {key: int(values[i]) for key, values in costs.items()}


@pytest.mark.parametrize("name", some(BACKBONES, "mobilenet_v3"))
def test_memory_is_that_of_the_export_traced_alone(name):
    _, _, mutator = prepared(name)
    for subnet in subnets(mutator, 1, seed=3)[1:]:
        shape, exported = (3, subnet["resolution"], subnet["resolution"]), mutator.export(subnet)
        assert mutator.cost_model.of(subnet) == plain_cost(exported, shape)
        assert mutator.cost_model.of(subnet)["memory"] == memory(exported, shape)


@ALL
def test_no_subnet_costs_more_or_less_than_the_extremes(name):
    _, _, mutator = prepared(name)
    costs = mutator.cost_model(mutator.search_space.sample_indices(np.random.default_rng(2), 5000))
    for resource, values in costs.items():
        low, high = (mutator.cost_model.extreme(resource, largest) for largest in (False, True))
        assert low <= values.min() <= values.max() <= high
    assert mutator.cost_model.max() == mutator.cost_model.of(mutator.search_space.max())
    assert mutator.cost_model.min() == mutator.cost_model.of(mutator.search_space.min())


# depth ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_blocks_beyond_the_depth_are_not_run_not_exported_and_cost_nothing(depth):
    _, model, mutator = prepared("mobilenet_v3", elastic_size=False)
    space, stage = mutator.search_space, "backbone.layers.1"
    subnet = space.subnet(space.index({**space.max(), f"{stage}.depth": depth}))
    mutator.activate(subnet)
    ran = []
    for index, block in enumerate(model.backbone.layers[1]):
        block.register_forward_hook(lambda module, args, output, index=index: ran.append(index))
    model.train()(images(dtype=torch.float32)).sum().backward()
    assert ran == list(range(depth))
    exported = mutator.export(subnet)
    kept = {key.split(".")[3] for key in exported.state_dict() if key.startswith(f"{stage}.")}
    assert kept == {str(index) for index in range(depth)}
    assert type(exported.backbone.layers[1]) is nn.Sequential
    for key, parameter in model.named_parameters():
        beyond = key.startswith(f"{stage}.") and int(key.split(".")[3]) >= depth
        assert (parameter.grad is None) == (beyond or ".transform_" in key), key  # matrices: no smaller kernel ran
    left_out = sum(
        p.numel()
        for index in range(depth, 3)
        for key, p in model.backbone.layers[1][index].named_parameters()
        if "transform" not in key
    )
    full = mutator.cost_model.of(space.max())["params"]
    assert full - mutator.cost_model.of(subnet)["params"] == left_out


def test_an_export_is_plain_and_has_storage_of_its_own():
    _, model, mutator = prepared("mobilenet_v3")
    exported = mutator.export(mutator.search_space.sample(np.random.default_rng(0)))
    ours = {value.untyped_storage().data_ptr() for value in model.state_dict().values()}
    theirs = exported.state_dict()
    assert not any(value.untyped_storage().data_ptr() in ours for value in theirs.values())
    assert not any("transform" in key for key in theirs)
    assert not any(isinstance(module, KernelConv2d | MutableDepth) for module in exported.modules())


def test_exporting_and_costing_leave_the_active_subnet():
    _, model, mutator = prepared("proxyless")
    subnet = mutator.search_space.sample(np.random.default_rng(4))
    mutator.activate(subnet)
    before = model.eval()(images(dtype=torch.float32))
    state = copy.deepcopy(model.state_dict())
    mutator.export(mutator.search_space.min()), mutator.cost_model.of(mutator.search_space.max())
    assert mutator.active == subnet and mutator.resolution == subnet["resolution"]
    assert_same_bits(model(images(dtype=torch.float32)), before)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


# resolution -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", some(BACKBONES, "mobilenet_v3"))
def test_costs_at_a_resolution_are_those_of_a_network_prepared_there(name):
    _, _, mutator = prepared(name)
    for size in RESOLUTIONS:
        other = NasMutator()
        other.prepare(build(name), (3, size, size))
        rows = other.search_space.sample_indices(np.random.default_rng(size), 50)
        column = np.full((50, 1), RESOLUTIONS.index(size))
        ours, theirs = mutator.cost_model(np.hstack([column, rows])), other.cost_model(rows)
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
        assert other.resolution is None


def test_one_resolution_is_a_choice_of_one():
    mutator = NasMutator(resolutions=[32])
    mutator.prepare(build("proxyless"), SHAPE)
    assert mutator.search_space["resolution"].candidates == (32,) and mutator.resolution == 32


@pytest.mark.parametrize(
    "values", [[], [32, 16], [16, 16, 32], [0, 32], [16.0, 32], ["32"], "32", [True, 32], {"min": 16}]
)
def test_resolutions_that_are_no_sizes_are_refused(values):
    with pytest.raises(UserError, match=r"mutator\.resolutions=.* must be ascending whole numbers") as error:
        NasMutator(resolutions=values)
    assert "\n" not in str(error.value)


def test_resolutions_may_be_a_range():
    assert NasMutator(resolutions=range(16, 33, 8)).resolutions == RESOLUTIONS


@pytest.mark.parametrize("shape", [(3, 24, 24), (3, 32, 24), (3, 48, 48)])
def test_resolutions_end_at_the_input_shape(shape):
    with pytest.raises(UserError, match=r"mutator\.resolutions end at 32, algorithm\.input_shape is .*\[3, 32, 32\]"):
        NasMutator(resolutions=RESOLUTIONS).prepare(build("proxyless"), shape)


class _Around(nn.Module):
    """An elastic network with something else in it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = build("proxyless")


class _Skip(_Around):
    def forward(self, x):
        return self.net(x) + x.mean((1, 2, 3))[:, None]


class _Floor(_Around):
    """Rounds down, where the strides of the network round up."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.AvgPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, x):
        return self.net(self.up(self.down(x)))


class _Attention(_Around):
    def forward(self, x):
        tokens = x.flatten(2)
        return self.net((tokens @ tokens.transpose(1, 2) @ tokens).unflatten(2, x.shape[2:]))


class _Fixed(_Around):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 32)

    def forward(self, x):
        return self.net(self.linear(x))


@pytest.mark.parametrize(
    ("make", "resolutions", "message"),
    [
        (_Skip, RESOLUTIONS, "something else is alive while"),
        (_Floor, (9, 32), r"at 9, maps of 1024 places become 81 and 64 places; choose resolutions that every stride"),
        (_Attention, RESOLUTIONS, "the cost at other sizes does not follow"),
        (_Fixed, RESOLUTIONS, "does not run on images of 16"),
    ],
)
def test_a_network_whose_cost_at_a_size_is_not_known_is_refused(make, resolutions, message):
    model = make()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UserError, match=message) as error:
        NasMutator(resolutions=resolutions).prepare(model, SHAPE)
    assert "\n" not in str(error.value)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


# what is no elastic network ---------------------------------------------------------------------------------------


class _Twice(_Around):
    def forward(self, x):
        block = self.net.backbone.layers[1][1]
        return self.net(x) + block(block(torch.zeros(len(x), 16, 4, 4).to(x))).mean((1, 2, 3))[:, None]


class _Unused(_Around):
    def forward(self, x):
        return self.net.backbone.first_conv(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [(_Twice, "runs twice"), (_Unused, "not reached"), (lambda: nn.Conv2d(3, 4, 3), "OFAMobileNetV3")],
)
def test_what_cannot_be_searched_is_refused(make, message):
    with pytest.raises(UserError, match=message) as error:
        NasMutator().prepare(make(), SHAPE)
    assert "\n" not in str(error.value)


def test_a_network_with_one_kernel_or_one_ratio_has_what_is_left():
    for options in ({"kernel_sizes": (5,)}, {"expand_ratios": (4,)}, {"depths": (3,)}):
        mutator = NasMutator()
        model = build("proxyless", **options)
        mutator.prepare(model, SHAPE)
        for subnet in (mutator.search_space.max(), mutator.search_space.min()):
            exported = mutator.export(subnet)
            counted = count(exported, SHAPE)
            assert {key: mutator.cost_model.of(subnet)[key] for key in counted} == counted


def test_depths_alone_are_a_space():
    mutator = NasMutator()
    mutator.prepare(Net(BACKBONES["mobilenet_v3"](kernel_sizes=(3,), expand_ratios=(3,))), SHAPE)
    assert mutator.search_space.size == 9
    for row in np.ndindex(3, 3):
        subnet = mutator.search_space.subnet(np.array(row))
        counted = count(mutator.export(subnet), SHAPE)
        assert {key: mutator.cost_model.of(subnet)[key] for key in counted} == counted


def test_what_is_drawn_after_prepare_depends_on_the_network_alone(monkeypatch):
    """And not on what the process has traced: the first build of a process and a later one begin alike."""
    from mmrazor_lite.models.mutators import part_trace

    drawn = []
    for _ in range(2):
        for known in ({}, part_trace._KNOWN):  # the first build of a process, and one after it
            monkeypatch.setattr(part_trace, "_KNOWN", known)
            net = build("mobilenet_v3")
            torch.manual_seed(0)
            NasMutator().prepare(net, SHAPE)
            drawn.append(torch.randn(3).tolist())
    assert drawn[0] == drawn[1] == drawn[2] == drawn[3]
