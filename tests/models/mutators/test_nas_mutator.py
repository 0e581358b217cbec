"""Operator choices: what must hold on every searchable backbone, in tiny variants."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
from draws import some
from oracles import assert_close, assert_same_bits, count
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.resource import plain_cost
from mmrazor_lite.models.backbones import SearchableMobileNet, SearchableShuffleNetV2
from mmrazor_lite.models.mutables import MutableOP
from mmrazor_lite.models.mutators import NasMutator

SHAPE = (3, 32, 32)
STAGES = [[24, 2], [32, 2]]
MOBILE = {"arch_setting": [[8, 1, 1], [12, 2, 2], [16, 2, 2]], "first_channels": 8, "last_channels": 24}


class Net(nn.Module):
    """A backbone with a classifier."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.backbone, self.fc = backbone, nn.Linear(width, 5)

    def forward(self, x):
        return self.fc(self.backbone(x)[-1].mean((2, 3)))


def shuffle(**options) -> Net:
    return Net(SearchableShuffleNetV2(STAGES, last_channels=24, **options), 24)


BACKBONES = {
    "shuffle": shuffle,
    "shuffle_official": functools.partial(shuffle, block_style="official", norm_cfg={"type": "BN", "affine": False}),
    "shuffle_channels": functools.partial(shuffle, search_channels=True),
    "mobile": lambda: Net(SearchableMobileNet(**MOBILE), 24),
    "mobile_skip": lambda: Net(SearchableMobileNet(identity="skip", **MOBILE), 24),
}
ALL = pytest.mark.parametrize("name", some(BACKBONES, "shuffle", "shuffle_channels", "mobile_skip"))


@functools.cache
def _prepared(name: str) -> tuple[nn.Module, nn.Module, NasMutator]:
    torch.manual_seed(0)
    model = BACKBONES[name]()
    for module in model.modules():  # statistics and norms that show a wrong slice
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.3)
    plain = copy.deepcopy(model)
    mutator = NasMutator()
    mutator.prepare(model, SHAPE)
    return plain, model, mutator


def prepared(name: str, double: bool = False) -> tuple[nn.Module, nn.Module, NasMutator]:
    plain, model, mutator = copy.deepcopy(_prepared(name))
    assert mutator.architecture is model  # copied together
    return (plain.double(), model.double(), mutator) if double else (plain, model, mutator)


def images(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def subnets(mutator: NasMutator, number: int = 3) -> list:
    space, rng = mutator.search_space, np.random.default_rng(0)
    ends = [space.subnet(mutator.cost_model.extreme_row("macs", largest)) for largest in (True, False)]
    return [*ends, space.max(), *(space.sample(rng) for _ in range(number))]


def set_plain(model: nn.Module, subnet) -> nn.Module:
    for name, module in model.named_modules():
        if isinstance(module, MutableOP):
            module.active = subnet[name]
    return model


@ALL
def test_preparing_keeps_every_tensor_and_the_random_state(name):
    torch.manual_seed(0)
    model = BACKBONES[name]().train()
    parameters = {key: id(value) for key, value in model.named_parameters()}
    buffers = {key: value.clone() for key, value in model.named_buffers()}
    before = torch.get_rng_state()
    NasMutator().prepare(model, SHAPE)
    assert {key: id(value) for key, value in model.named_parameters()} == parameters
    assert all(torch.equal(value, buffers[key]) for key, value in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in model.modules())


@ALL
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_last_candidates_compute_the_same_bits_as_the_untouched_network(name, training):
    plain, model, mutator = prepared(name)
    largest = mutator.search_space.max()
    mutator.activate(mutator.search_space.min())
    mutator.activate(largest)
    ours, theirs = model.train(training), set_plain(plain, largest).train(training)
    assert_same_bits(ours(images(torch.float32)), theirs(images(torch.float32)))
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), plain.buffers(), strict=True))


@ALL
def test_an_export_computes_and_learns_what_the_active_subnet_does(name):
    _, model, mutator = prepared(name, double=True)
    for subnet in subnets(mutator):
        exported = mutator.export(subnet).train()
        mutator.activate(subnet)
        model.zero_grad(set_to_none=True)
        model.train()
        outputs = [net(images()) for net in (model, exported)]
        assert_close(*outputs)
        for output in outputs:
            output.square().sum().backward()
        gradients = {key: value.grad for key, value in exported.named_parameters()}
        seen = 0
        for key, parameter in model.named_parameters():
            chosen = _exported_name(key, subnet)
            if chosen is None:
                assert parameter.grad is None
                continue
            own, other = parameter.grad, gradients[chosen]
            kept = tuple(slice(0, size) for size in other.shape)  # inner widths are prefixes
            assert_close(own[kept], other, 1e-9)
            rest = own.clone()
            rest[kept] = 0
            assert not rest.any()
            seen += 1
        assert seen == len(gradients)
        model.eval(), exported.eval()
        assert_close(model(images()), exported(images()))  # the statistics that were just updated, too


def _exported_name(key: str, subnet) -> str | None:
    """Name in the export of a parameter of the supernet; None where its operator is not chosen."""
    head, split, tail = key.partition("._candidates.")
    if not split:
        return key
    candidate, _, rest = tail.partition(".")
    return f"{head}.{rest}" if subnet[head] == candidate else None


@pytest.mark.parametrize("draws", [(16, 5), pytest.param((100, 10), marks=pytest.mark.wide)], ids=["few", "many"])
@ALL
def test_costs_equal_a_count_on_the_export(name, draws):
    _, _, mutator = prepared(name)
    rng = np.random.default_rng(1)
    number = draws[0] if name == "shuffle_channels" else draws[1]
    rows = mutator.search_space.sample_indices(rng, number)
    costs = mutator.cost_model(rows)
    for i, row in enumerate(rows):
        subnet = mutator.search_space.subnet(row)
        counted = count(mutator.export(subnet), SHAPE)
        assert {key: int(costs[key][i]) for key in counted} == counted
        assert mutator.cost_model.of(subnet) == {key: int(values[i]) for key, values in costs.items()}


@pytest.mark.parametrize("name", some(["shuffle_channels", "mobile_skip"], "mobile_skip"))
def test_memory_is_that_of_the_export_traced_alone(name):
    _, _, mutator = prepared(name)
    for subnet in subnets(mutator, 1)[1:]:
        assert mutator.cost_model.of(subnet) == plain_cost(mutator.export(subnet), SHAPE)


@ALL
def test_no_subnet_costs_more_or_less_than_the_extremes(name):
    _, _, mutator = prepared(name)
    costs = mutator.cost_model(mutator.search_space.sample_indices(np.random.default_rng(2), 5000))
    for resource, values in costs.items():
        low, high = (mutator.cost_model.extreme(resource, largest) for largest in (False, True))
        assert low <= values.min() <= values.max() <= high
        row = mutator.cost_model.extreme_row(resource, True)
        assert mutator.cost_model(row[None])[resource][0] == high


def test_inner_widths_compute_what_the_full_block_does_with_channels_zeroed():
    plain, model, mutator = prepared("shuffle_channels", double=True)
    plain.eval(), model.eval()
    for subnet in subnets(mutator, 4):
        mutator.activate(subnet)
        handles = []
        for name, module in set_plain(plain, subnet).named_modules():
            if isinstance(module, MutableOP):
                for group in module.chosen.inner_groups:
                    for layer in group["out"]:
                        handles.append(_zero_after(module.chosen.get_submodule(layer), subnet[f"{name}.mid_channels"]))
        assert_close(model(images()), plain(images()))
        for handle in handles:
            handle.remove()


def _zero_after(layer: nn.Module, width: int):
    def hook(module, args, output):
        return torch.cat([output[:, :width], torch.zeros_like(output[:, width:])], dim=1)

    return layer.register_forward_hook(hook)


def test_choices_have_the_names_of_their_modules_and_aliases():
    _, _, mutator = prepared("shuffle_channels")
    assert list(mutator.search_space)[:2] == ["backbone.layers.0.0", "backbone.layers.0.0.mid_channels"]
    assert mutator.search_space["backbone.layers.1.1"].candidates == (
        "shuffle_3x3",
        "shuffle_5x5",
        "shuffle_7x7",
        "shuffle_xception",
    )
    assert mutator.search_space.aliases["stage_1_block_0"] == "backbone.layers.1.0"
    assert mutator.search_space.size == (4 * 8) ** 4


def test_a_space_is_the_same_with_every_width_and_its_files_fit():
    _, _, mutator = prepared("shuffle_channels")
    other = NasMutator()
    other.prepare(BACKBONES["shuffle_channels"](), SHAPE, any_width=True)
    assert other.search_space.fingerprint == mutator.search_space.fingerprint
    subnet = mutator.search_space.sample(np.random.default_rng(0))
    other.search_space.validate(subnet)
    assert other.cost_model.of(subnet) == mutator.cost_model.of(subnet)


def test_an_export_has_storage_of_its_own_and_none_of_the_other_candidates():
    _, model, mutator = prepared("mobile_skip")
    subnet = mutator.search_space.sample(np.random.default_rng(0))
    exported = mutator.export(subnet)
    ours = {value.untyped_storage().data_ptr() for value in model.state_dict().values()}
    theirs = exported.state_dict()
    assert not any("_candidates" in key for key in theirs)
    assert not any(value.untyped_storage().data_ptr() in ours for value in theirs.values())
    assert not any(isinstance(module, MutableOP) for module in exported.modules())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3), "declares no choice"),
        (lambda: _Twice(), "runs twice"),
        (lambda: _Unused(), "not reached"),
    ],
)
def test_what_cannot_be_searched_is_refused(build, message):
    with pytest.raises(UserError, match=message):
        NasMutator().prepare(build(), SHAPE)


def _op() -> MutableOP:
    return MutableOP({"a": nn.Conv2d(3, 3, 1), "b": nn.Conv2d(3, 3, 3, padding=1)})


class _Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.op = _op()

    def forward(self, x):
        return self.op(self.op(x))


class _Unused(_Twice):
    def forward(self, x):
        return x


def test_custom_groups_are_refused():
    with pytest.raises(UserError, match="custom_groups"):
        NasMutator(custom_groups=[["backbone.layers.0.0"]])


def test_several_outputs_are_alive_around_a_block():
    """What a backbone gives back early stays in memory while later blocks run."""

    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = SearchableShuffleNetV2(STAGES, last_channels=24, out_indices=(0, 2))

        def forward(self, x):
            first, last = self.backbone(x)
            return first.mean((2, 3)), last.mean((2, 3))

    model, mutator = Several(), NasMutator()
    mutator.prepare(model, SHAPE)
    subnet = mutator.search_space.sample(np.random.default_rng(0))
    assert mutator.cost_model.of(subnet) == plain_cost(mutator.export(subnet), SHAPE)
