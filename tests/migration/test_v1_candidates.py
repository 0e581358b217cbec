"""What the release candidates of MMRazor 1.0 spelled otherwise than 1.0, and updates that 1.x counts in passes."""

from __future__ import annotations

import pytest

from mmrazor_lite.migration import translate

RATIOS = [1 / 12, 0.5, 1.0]
LOSS = dict(type="BackwardTracer", loss_calculator=dict(type="ImageClassifierPseudoLoss"))


def ours(model: dict, **rest) -> dict:
    found = translate({"model": model, **rest}, "a.py")
    assert found.generation == "1.x" and not found.problems, found.problems
    return dict(found.config)


def autoslim(**mutator) -> dict:
    return dict(type="mmrazor.AutoSlim", mutator=dict(type="OneShotChannelMutator", **mutator))


WIDTHS = dict(type="OneShotChannelMutator", candidate_choices=RATIOS, choice_mode="ratio")


@pytest.mark.parametrize(
    ("mutator", "expected"),
    [
        (
            dict(
                mutable_cfg=dict(type="OneShotMutableChannel", candidate_choices=RATIOS, candidate_mode="ratio"),
                tracer_cfg=LOSS,
            ),
            {**WIDTHS, "divisor": 1, "min_ratio": 0.0},
        ),
        (
            dict(
                channel_group_cfg=dict(
                    type="OneShotMutableChannelGroup",
                    default_args=dict(candidate_choices=RATIOS, candidate_mode="ratio", divisor=8),
                ),
                tracer_cfg=LOSS,
            ),
            {**WIDTHS, "divisor": 8, "min_ratio": 0.0},
        ),
        (
            dict(
                channel_unit_cfg=dict(
                    type="OneShotMutableChannelUnit",
                    default_args=dict(candidate_choices=RATIOS, choice_mode="ratio", divisor=8),
                ),
                parse_cfg=LOSS,
            ),
            {**WIDTHS, "divisor": 8},
        ),
    ],
    ids=["rc0", "between", "rc1"],
)
def test_widths(mutator, expected):
    assert ours(autoslim(**mutator))["model"]["mutator"] == expected


def test_names_of_the_model_and_of_loops():
    found = ours(
        dict(autoslim(), num_samples=3),
        val_cfg=dict(type="mmrazor.AutoSlimValLoop"),
        train_cfg=dict(type="mmrazor.EvolutionSearchLoop", flops_range=(0.0, 330e6)),
    )
    assert found["model"]["num_random_samples"] == 3 and found["val_cfg"]["type"].endswith("SubnetValLoop")
    assert found["search_cfg"]["constraints_range"] == {"flops": (0.0, 330.0)}
    joint = ours(
        dict(
            type="mmrazor.SlimmableNetwork",
            channel_cfg_paths=["a.yaml", "b.yaml"],
            mutator=dict(
                type="SlimmableChannelMutator", mutable_cfg=dict(type="SlimmableMutableChannel"), tracer_cfg=LOSS
            ),
        )
    )
    assert joint["model"]["channel_cfg"] == ["a.yaml", "b.yaml"]
    assert joint["model"]["mutator"]["type"] == "OneShotChannelMutator"


def test_a_limit_may_be_none_and_is_two_numbers_else():
    loop = dict(type="mmrazor.EvolutionSearchLoop")
    found = ours(autoslim(), train_cfg=dict(loop, flops_range=None))
    assert found["search_cfg"]["constraints_range"] == {} and "flops_range" not in found["search_cfg"]
    for limits in (300, (1,), (0, "many"), "ab"):
        told = translate({"model": autoslim(), "train_cfg": dict(loop, flops_range=limits)}, "a.py").problems
        assert [line for line in told if line.startswith(f"train_cfg.flops_range={limits!r}: must be two numbers")]


@pytest.mark.parametrize("kind", ["SPOS", "BigNAS"])
def test_an_algorithm_of_one_subnet_is_a_sub_model(kind):
    network = dict(type="mmcls.ImageClassifier", backbone=dict(type="SearchableShuffleNetV2"))
    supernet = dict(type=f"mmrazor.{kind}", architecture=network, mutator=dict(type="NasMutator"))
    found = ours(dict(supernet, fix_subnet="a.yaml"))["model"]
    assert found == dict(type="mmrazor.sub_model", cfg=network, fix_subnet="a.yaml")
    assert ours(dict(supernet, fix_subnet=None)) == ours(supernet)


def test_two_mutators_are_one():
    mutators = dict(channel_mutator=dict(type="mmrazor.OneShotChannelMutator", parse_cfg={"type": "Predefined"}))
    mutators["value_mutator"] = dict(type="DynamicValueMutator")
    assert ours(dict(type="mmrazor.BigNAS", mutators=mutators))["model"]["mutator"]["type"].endswith("NasMutator")


@pytest.mark.parametrize(("counts", "batches"), [(4, 1), (8, 2), (1, 1)])
def test_updates_are_counted_in_batches(counts, batches):
    wrapper = dict(optimizer=dict(type="SGD", lr=0.1), accumulative_counts=counts)
    found = ours(dict(type="mmrazor.AutoSlim", num_random_samples=2), optim_wrapper=wrapper)
    assert found["optim_wrapper"]["accumulative_counts"] == batches


def test_updates_within_a_batch_are_refused():
    wrapper = dict(optimizer=dict(type="SGD", lr=0.1), accumulative_counts=3)
    found = translate({"model": dict(type="mmrazor.AutoSlim"), "optim_wrapper": wrapper}, "a.py")
    assert any(
        "accumulative_counts=3: MMRazor counts passes, of which a batch has 4" in line for line in found.problems
    )
