"""Slimmable networks (a list of uniform widths) and universally slimmable ones (any width of a range)."""

from __future__ import annotations

import pytest
import torch

from mmrazor_lite.engine.optim import SubnetOptimWrapper
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms.widths import names_of, parse_entry
from mmrazor_lite.subnet import write_subnet

WIDTHS = [1.0, 0.75, 0.5, 0.25]


def step(algorithm, data, lr: float = 0.1) -> dict:
    return algorithm.train_step(data, SubnetOptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=lr)))


@pytest.fixture
def universal(make):
    """With every width as a candidate, as the configs have it: what is trained is in the space."""
    any_width = {"type": "OneShotChannelMutator", "divisor": 2}
    return lambda **options: make(width_range=(0.25, 1.0), **{"mutator": any_width, **options})


@pytest.mark.parametrize(
    "mutator",
    [{}, {"candidate_choices": [0.3, 1.0]}, {"candidate_choices": [1, 2], "choice_mode": "number", "divisor": 1}],
)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.66, 1.0])
def test_a_uniform_subnet_is_one_of_the_space(make, mutator, share):
    algorithm = make(mutator={"type": "OneShotChannelMutator", "divisor": 2, **mutator})
    subnet, space = algorithm.mutator.uniform(share), algorithm.search_space
    space.validate(subnet)
    for name, choice in space.items():
        target = share * space.max()[name]
        step = max(2, *(b - a for a, b in zip(choice.candidates, choice.candidates[1:], strict=False)), 0)
        inside = choice.candidates[0] <= target <= choice.candidates[-1]
        assert not inside or abs(subnet[name] - target) <= step


def test_widths_in_a_list_are_a_joint_model(make, batch):
    algorithm = make(channel_cfg=WIDTHS)
    assert algorithm.kind == "joint"
    named = algorithm.named_subnets()
    assert list(named) == ["width_1", "width_0.75", "width_0.5", "width_0.25"]
    assert named["width_1"] == algorithm.search_space.max()
    full = algorithm.search_space.max()
    for width, subnet in zip(WIDTHS, named.values(), strict=True):
        assert all(abs(subnet[name] - width * full[name]) <= 1 for name in full), width  # rounded to multiples of 2
    passes = algorithm.passes(0)
    assert [(item.label, item.soft) for item in passes] == [(1.0, 0.0)] * 4
    log = step(algorithm, batch())
    assert set(log) == {"loss", *(f"{name}.loss" for name in named)}
    means = [algorithm.state_dict()[f"architecture.backbone.conv1.bn.bns.{i}.running_mean"] for i in range(4)]
    assert [len(mean) for mean in means] == [subnet["backbone.conv1.conv"] for subnet in named.values()]
    assert all(mean.abs().sum() > 0 for mean in means)


def test_a_slimmable_step_sums_the_gradients_of_its_widths(make, batch):
    """Against the plain networks of the widths, each with its own loss."""
    algorithm = make(channel_cfg=[1.0, 0.5])
    weight = algorithm.architecture.head.fc.weight
    before = weight.detach().clone()
    expected = torch.zeros_like(before)
    for subnet in algorithm.named_subnets().values():
        plain = algorithm.mutator.export(subnet).train()
        data = batch()
        sum(plain(data["inputs"], data["data_samples"], mode="loss").values()).backward()
        grad = plain.head.fc.weight.grad
        expected[:, : grad.shape[1]] += grad
    step(algorithm, batch(), lr=1.0)
    assert torch.allclose(before - weight, expected, rtol=1e-10, atol=1e-12)


def test_files_and_widths_may_be_mixed(make, tmp_path):
    space = make().search_space
    path = str(tmp_path / "A.yaml")
    write_subnet(path, space.min(), space)
    algorithm = make(channel_cfg=[1.0, path])
    assert algorithm.named_subnets() == {"width_1": space.max(), "subnet_2": space.min()}


def test_one_width_is_a_plain_network(make):
    algorithm = make(channel_cfg=0.5)
    assert algorithm.kind == "subnet" and algorithm.mutator is None and not algorithm.named_subnets()
    joint = make(channel_cfg=WIDTHS)
    assert algorithm.subnets == [joint.named_subnets()["width_0.5"]]
    params = sum(parameter.numel() for parameter in algorithm.parameters())
    assert params == joint.resources()["width_0.5"]["params"]


def test_the_checkpoint_of_a_slimmable_network_knows_its_widths(make):
    meta = make(channel_cfg=WIDTHS).checkpoint_meta()
    make(channel_cfg=WIDTHS).check_meta(meta, "C.pth")
    with pytest.raises(UserError, match="another order"):
        make(channel_cfg=WIDTHS[::-1]).check_meta(meta, "C.pth")
    with pytest.raises(UserError, match="holds a joint model of 4 subnets, the config asks for one subnet"):
        make(channel_cfg=0.5).check_meta(meta, "C.pth")


def test_a_universally_slimmable_step_is_a_sandwich_of_uniform_widths(universal, batch):
    algorithm = universal(num_random_samples=3)
    full = algorithm.search_space.max()
    seen = set()
    for number in range(20):
        passes = algorithm.passes(number)
        assert [(item.name, item.label, item.soft, item.teacher) for item in passes] == [
            ("max_subnet", 1.0, 0.0, None),
            *((name, 0.0, 1.0, "max") for name in ["min_subnet", *(f"random{k}_subnet" for k in range(3))]),
        ]
        assert passes[0].subnet == full
        assert passes[1].subnet == algorithm.mutator.uniform(0.25)
        for item in passes[2:]:
            # One share fits all layers: rounding moves a width by one at most, with a divisor of 2.
            lowest = max((item.subnet[name] - 1) / full[name] for name in full)
            highest = min((item.subnet[name] + 1) / full[name] for name in full)
            assert lowest <= highest and highest >= 0.25 and lowest <= 1.0
            seen.add(item.subnet)
    assert len(seen) > 5
    assert algorithm.passes(3) == universal(num_random_samples=3).passes(3)
    log = step(algorithm, batch())
    assert {"max_subnet.loss", "min_subnet.loss", "random2_subnet.loss"} <= set(log)


def test_validation_shows_the_widths_asked_for(universal):
    assert list(universal().named_subnets()) == ["width_1", "width_0.25"]
    algorithm = universal(val_widths=[1.0, 0.6, 0.3])
    assert list(algorithm.resources()) == ["width_1", "width_0.6", "width_0.3"]
    macs = [cost["macs"] for cost in algorithm.resources().values()]
    assert macs == sorted(macs, reverse=True) and len(set(macs)) == 3


def test_a_universal_supernet_and_a_plain_one_read_each_other(make, universal):
    make().check_meta(universal().checkpoint_meta(), "C.pth")
    universal().check_meta(make().checkpoint_meta(), "C.pth")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_cfg": [1.0, 1.5]}, "a number above 0 and at most 1 is the uniform width"),
        ({"channel_cfg": [1.0, True]}, "give a subnet file, a list of them, or None"),
        ({"channel_cfg": 0.0}, "above 0 and at most 1"),
        ({"channel_cfg": [1.0, 0.99]}, "1.0 and 0.99 hold the same subnet; keep one"),
        ({"channel_cfg": [1.0, 0.5], "num_random_samples": 2}, "num_random_samples is for the supernet"),
        ({"width_range": 0.25}, "give the smallest and the largest width"),
        ({"width_range": (1.0, 0.25)}, "the smallest width comes first"),
        ({"width_range": (0.0, 1.0)}, "0.0 is no uniform width; give a share of the full one"),
        ({"width_range": ("0.5", 1.0)}, "'0.5' is no uniform width"),
        ({"width_range": (0.25, 1.0), "channel_cfg": [1.0, 0.5]}, "width_range is for the supernet"),
        ({"val_widths": [1.0]}, "val_widths needs algorithm.width_range"),
        ({"width_range": (0.5, 1.0), "val_widths": []}, "give a list of widths"),
        (
            {"width_range": (0.5, 1.0), "val_widths": [0.25]},
            "0.25 is never trained, algorithm.width_range",
        ),
    ],
)
def test_bad_options_end_in_one_line(make, options, message):
    with pytest.raises(UserError) as error:
        make(**options)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_names():
    assert names_of([1.0, "a.yaml", 0.35]) == ["width_1", "subnet_2", "width_0.35"]
    assert parse_entry("0.5") == 0.5 and parse_entry("work/0.5.yaml") == "work/0.5.yaml"
