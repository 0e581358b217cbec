"""The width mutator: groups by hand, patterns, activation, plain exports, joint models."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from handmade import Net, block
from oracles import assert_close, assert_same_bits, assert_subnet_is_right
from torch import nn
from zoo import prepare, prepared

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.mutators import OneShotChannelMutator
from mmrazor_lite.models.ops import SwitchableBatchNorm
from mmrazor_lite.subnet import Subnet


class Chain(Net):
    def make(self):
        self.a, self.b = block(16, 12), block(12, 16)

    def body(self, x):
        return self.b(self.a(x))


def names(**options: object) -> list[str]:
    return [mutable.name for mutable in prepare(Chain(), **options).mutator.mutables]


# groups by hand and patterns ------------------------------------------------------------------------------------


def test_groups_by_hand_leave_the_rest_alone():
    groups = [{"out": ["a.0", "a.1"], "into": ["b.0"]}]
    twin = prepare(Chain(), groups=groups, any_width=True).double()
    assert [mutable.name for mutable in twin.mutator.mutables] == ["a.0"]
    assert {layer.layer: layer.reason for layer in twin.mutator.fixed}["stem.0"].endswith("no group given by hand")
    assert_subnet_is_right(twin, twin.mutator.search_space.min())


def test_groups_by_hand_tie_layers():
    groups = [{"out": ["stem.0", "b.0"], "into": ["a.0", "head"]}]
    twin = prepare(Chain(), groups=groups, any_width=True).double()
    assert [mutable.group.producers for mutable in twin.mutator.mutables] == [("stem.0", "b.0")]
    assert_subnet_is_right(twin, Subnet({"stem.0": 5}))


def test_groups_by_hand_take_patterns():
    by_pattern = prepare(Chain(), groups=[{"out": ["b.*"], "into": ["head*"]}])
    by_name = prepare(Chain(), groups=[{"out": ["b.0", "b.1"], "into": ["head"]}])
    assert [m.group for m in by_pattern.mutator.mutables] == [m.group for m in by_name.mutator.mutables]
    assert len(by_pattern.mutator.mutables) == 1
    with pytest.raises(UserError, match="'stam"):
        prepare(Chain(), groups=[{"out": ["stam.*"]}])


@pytest.mark.parametrize(
    "group, words",
    [
        ({"out": ["a.O"]}, r"groups\[0\]: no conv, linear or norm named 'a.O'.*did you mean 'a"),
        ({"out": []}, r"groups\[0\]: expected dict\(out"),
        ({"outs": ["a.0"]}, r"groups\[0\]: expected dict\(out"),
        ({"out": ["a.0", "b.0"]}, "'b.0' has 16 channels, 'a.0' has 12"),
        ({"out": ["a.0"], "into": ["head"]}, "'head' reads 16 channels, the group has 12"),
    ],
)
def test_bad_groups_are_refused(group, words):
    with pytest.raises(UserError, match=words):
        prepare(Chain(), groups=[group])


def test_include_and_exclude():
    assert names(any_width=True) == ["stem.0", "a.0", "b.0"]
    assert names(include=["a.*"]) == ["a.0"]
    assert names(exclude=["*.0"]) == []
    assert names(exclude=["stem.*"]) == ["a.0", "b.0"]
    twin = prepare(Chain(), exclude=["stem.*"])
    assert {f.layer: f.reason for f in twin.mutator.fixed}["stem.0"] == "excluded by 'stem.*'"


@pytest.mark.parametrize("option", [{"include": ["c.*"]}, {"exclude": ["stm.*"]}, {"units": {"net.a.*": {}}}])
def test_patterns_that_match_nothing_are_refused(option):
    with pytest.raises(UserError, match=f"mutator.{next(iter(option))}: .* matches no layer of Chain, like 'stem.0'"):
        prepare(Chain(), **option)


def test_units_override_the_default():
    twin = prepare(
        Chain(), divisor=2, units={"a.*": {"candidate_choices": [3, 12], "choice_mode": "number", "divisor": 1}}
    )
    space = twin.mutator.search_space
    assert list(space["a.0"].candidates) == [3, 12]
    assert list(space["b.0"].candidates) == [4, 6, 8, 10, 12, 14, 16]


def test_any_width():
    space = prepare(Chain(), any_width=True).mutator.search_space
    assert space["a.0"].candidates == range(1, 13)


def test_two_candidate_grids_of_one_network_share_a_fingerprint():
    one, other = prepare(Chain(), any_width=True), prepare(Chain(), divisor=2)
    assert one.mutator.search_space.fingerprint == other.mutator.search_space.fingerprint


# activate -------------------------------------------------------------------------------------------------------


def test_activate_touches_no_tensor():
    """O(choices): parameters keep storage and version, and no tensor op runs."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class NoOps(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            raise AssertionError(f"activate runs {func}")

    twin = copy.deepcopy(prepared("densenet"))
    space = twin.mutator.search_space
    state = [(id(p), p.data_ptr(), p._version) for p in twin.model.state_dict(keep_vars=True).values()]
    with NoOps():
        for seed in range(5):
            subnet = space.sample(np.random.default_rng(seed))
            twin.mutator.activate(subnet)
            assert twin.mutator.active == subnet
    assert state == [(id(p), p.data_ptr(), p._version) for p in twin.model.state_dict(keep_vars=True).values()]


def test_activating_twice_or_back_and_forth_changes_nothing():
    twin = prepared("shufflenet_v2").double()
    space, images = twin.mutator.search_space, twin.images()
    twin.model.eval()
    first, second = space.sample(np.random.default_rng(0)), space.sample(np.random.default_rng(1))
    outputs = []
    for subnet in (first, second, first, first):
        twin.mutator.activate(subnet)
        outputs.append(twin.model(images))
    assert_same_bits(outputs[2], outputs[0])
    assert_same_bits(outputs[3], outputs[0])
    assert not torch.equal(outputs[0], outputs[1])


# export ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["demo", "mobilenet_v3", "densenet", "googlenet", "convnext"])
def test_an_export_is_plain_and_owns_its_storage(name):
    twin = copy.deepcopy(prepared(name))
    space = twin.mutator.search_space
    before = space.sample(np.random.default_rng(5))
    twin.mutator.activate(before)
    exported = twin.mutator.export(space.min())
    assert twin.mutator.active == before
    ours = {id(tensor) for tensor in twin.model.state_dict(keep_vars=True).values()}
    storages = set()
    for key, tensor in exported.state_dict(keep_vars=True).items():
        assert id(tensor) not in ours and tensor.is_contiguous(), key
        assert tensor.untyped_storage().size() == tensor.numel() * tensor.element_size(), key
        storages.add(tensor.untyped_storage().data_ptr())
    assert not storages & {t.untyped_storage().data_ptr() for t in twin.model.state_dict().values()}
    for path, module in exported.named_modules():
        assert not type(module).__module__.startswith("mmrazor_lite.models.ops"), path
        assert not any(type(value).__module__.startswith("mmrazor_lite.models") for value in vars(module).values())
        if isinstance(module, nn.Conv2d | nn.Linear | nn.modules.batchnorm._BatchNorm):
            assert not module._forward_hooks and not module._forward_pre_hooks
    assert list(exported.state_dict()) == list(twin.model.state_dict())
    assert [m.training for m in exported.modules()] == [m.training for m in twin.model.modules()]
    pickle.loads(pickle.dumps(exported.state_dict()))


def test_an_export_keeps_what_is_frozen():
    twin = copy.deepcopy(prepared("demo"))
    frozen = next(iter(twin.model.parameters()))
    frozen.requires_grad_(False)
    exported = twin.mutator.export(twin.mutator.search_space.min())
    assert [p.requires_grad for p in exported.parameters()] == [p.requires_grad for p in twin.model.parameters()]


def test_a_mutator_and_its_model_are_copied_together():
    twin = copy.deepcopy(prepared("resnet18"))
    assert twin.mutator.architecture is twin.model
    space = pickle.loads(pickle.dumps(twin.mutator.search_space))
    assert space.fingerprint == twin.mutator.search_space.fingerprint
    twin.mutator.activate(twin.mutator.search_space.min())
    small = twin.model.eval()(twin.images())
    full = prepared("resnet18").model.eval()(twin.images())
    assert not torch.allclose(small, full)
    assert prepared("resnet18").mutator.active == prepared("resnet18").mutator.search_space.max()


# joint models ---------------------------------------------------------------------------------------------------


def joint() -> tuple:
    twin = prepared("demo").double()
    space = twin.mutator.search_space
    first = space.sample(np.random.default_rng(0))
    *_, last = space
    second = Subnet({**first, last: next(width for width in space[last].candidates if width != first[last])})
    plain = [twin.mutator.export(subnet) for subnet in (first, second)]
    twin.mutator.make_switchable([first, second])
    return twin, (first, second), plain


def test_joint_subnets_start_from_the_norms_they_had():
    twin, subnets, plain = joint()
    twin.model.eval()
    for subnet, static in zip(subnets, plain, strict=True):
        twin.mutator.activate(Subnet(dict(reversed(list(subnet.items())))))  # by content, whatever the order
        assert_close(twin.model(twin.images()), static.eval()(twin.images()))


def test_joint_subnets_have_norms_of_their_own_even_at_equal_width():
    twin, (first, second), _ = joint()
    norms = [m for m in twin.model.modules() if isinstance(m, SwitchableBatchNorm)]
    assert norms and all(len(norm.bns) == 2 for norm in norms)
    stem = norms[0]
    assert stem.bns[0].num_features == stem.bns[1].num_features
    twin.model.train()
    other = [value.clone() for value in stem.bns[0].state_dict().values()]
    twin.mutator.activate(second)
    twin.model(twin.images()).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(stem.bns[0].state_dict().values(), other, strict=True))
    assert int(stem.bns[1].num_batches_tracked) == int(stem.bns[0].num_batches_tracked) + 1
    assert stem.bns[0].weight.grad is None and stem.bns[1].weight.grad is not None
    exported = [twin.mutator.export(subnet).train(False) for subnet in (first, second)]
    for subnet, static in zip((first, second), exported, strict=True):
        twin.mutator.activate(subnet)
        assert_close(twin.model.eval()(twin.images()), static(twin.images()))
        assert not any(isinstance(module, SwitchableBatchNorm) for module in static.modules())
        assert not any(".bns." in key for key in static.state_dict())


def test_joint_norms_keep_eps_momentum_and_affine():
    model = Chain()
    model.stem[1] = nn.BatchNorm2d(16, eps=0.05, momentum=0.3)
    model.a[1] = nn.BatchNorm2d(12, affine=False)
    twin = prepare(model, any_width=True)
    space = twin.mutator.search_space
    twin.mutator.make_switchable([space.min(), space.max()])
    stem, a = twin.model.stem[1].bns, twin.model.a[1].bns
    assert [(bn.num_features, bn.eps, bn.momentum, bn.affine) for bn in stem] == [
        (1, 0.05, 0.3, True), (16, 0.05, 0.3, True),
    ]  # fmt: skip
    assert all(type(bn) is nn.BatchNorm2d for bn in [*stem, *a]) and not any(bn.affine for bn in a)
    assert torch.equal(stem[1].weight, twin.plain.stem[1].weight)
    assert torch.equal(stem[0].running_var, twin.plain.stem[1].running_var[:1])
    keys = [key for key, _ in twin.model.named_parameters() if key.startswith("stem.1")]
    assert keys == [f"stem.1.bns.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")]


def test_joint_models_refuse_other_subnets():
    twin, (first, _), _ = joint()
    with pytest.raises(UserError, match="trained for 2 subnets"):
        twin.mutator.activate(twin.mutator.search_space.max())
    with pytest.raises(UserError, match="given twice"):
        prepared("demo").double().mutator.make_switchable([first, first])


def test_the_order_of_joint_subnets_is_that_of_their_norms():
    twin, subnets, _ = joint()
    for index, subnet in enumerate(subnets):
        twin.mutator.activate(subnet)
        assert {m.index for m in twin.model.modules() if isinstance(m, SwitchableBatchNorm)} == {index}


@pytest.mark.parametrize("option", ["include", "exclude", "opaque"])
def test_one_text_is_one_pattern(option):
    one, listed = (OneShotChannelMutator(**{option: given}) for given in ("[1].c", ["[1].c"]))
    for mutator in (one, listed):
        layers = [nn.Sequential() for _ in range(3)]
        for layer, channels in zip(layers, ((3, 8), (8, 8), (8, 4)), strict=True):
            layer.add_module("c", nn.Conv2d(*channels, 1))
        mutator.prepare(nn.Sequential(*layers), (3, 6, 6), any_width=True)
    assert one.restrictions == listed.restrictions and dict(one.search_space) == dict(listed.search_space)
