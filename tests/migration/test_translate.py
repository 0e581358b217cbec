"""Which generation a config is of, and what is told of one that cannot be translated."""

from __future__ import annotations

import pytest

from mmrazor_lite.migration import generation_of, translate

OWN = {"model": {"type": "AutoSlim", "architecture": {"type": "ImageClassifier"}}, "train_cfg": {"max_epochs": 1}}
V1 = {"model": {"_scope_": "mmrazor", "type": "AutoSlim"}, "val_cfg": {"type": "ValLoop"}}
V0 = {"algorithm": {"type": "AutoSlim"}, "runner": {"type": "EpochBasedRunner"}, "model": {"type": "ImageClassifier"}}


@pytest.mark.parametrize(
    ("config", "helpers", "generation"),
    [
        (OWN, (), "own"),
        (V1, (), "1.x"),
        ({**OWN, "val_cfg": {"type": "mmrazor.SubnetValLoop"}}, (), "1.x"),
        ({**OWN, "model": {"type": "SlimmableNetwork"}}, (), "1.x"),
        ({**OWN, "model": {"type": "mmrazor_lite.AutoSlim"}}, (), "own"),
        (V0, (), "0.x"),
        (V0, ("model", "algorithm", "runner"), "0.x"),  # may all be used by the file, as it likes
        ({**OWN, "data": {}, "optimizer": {}}, ("data", "optimizer"), "own"),  # helper variables
        ({**OWN, "algorithm": OWN["model"], "data": {"train": {}}}, ("algorithm", "data"), "own"),
        ({**OWN, "optimizer": {}}, (), "own"),  # an unknown key, for others to tell
    ],
)
def test_generation_is_seen_in_keys_and_names(config, helpers, generation):
    assert generation_of(config, helpers) == generation


def test_our_own_form_is_the_same_object():
    found = translate(OWN, "a.py")
    assert found.config is OWN and not found.changes and not found.problems


def test_keys_of_two_generations_are_one_problem_that_names_them_all():
    found = translate({**V0, "optim_wrapper": {}, "lr_config": {}}, "a.py")
    assert len(found.problems) == 1
    assert all(key in found.problems[0] for key in ("algorithm", "runner", "lr_config", "optim_wrapper"))


def test_what_was_read_is_not_changed():
    before = {**V1, "model": {**V1["model"], "mutator": {"channel_unit_cfg": {"default_args": {}}}}}
    found = translate(before, "a.py")
    assert found.config is not before and found.config["model"]["mutator"] is not before["model"]["mutator"]
