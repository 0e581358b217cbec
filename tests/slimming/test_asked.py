"""What is asked for of a wrong kind, or with a value that nothing makes right, is told in one line, before any work."""

from __future__ import annotations

import copy

import pytest
import torch
from small_nets import build, images

import mmrazor_lite
from mmrazor_lite.errors import UserError
from mmrazor_lite.slimming import Slimmer


class Unread:
    """Data that nobody may look into."""

    def __iter__(self):
        raise AssertionError("read")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("limits", [0.5], "limits=[0.5]: give a dict"),
        ("keep", [1], "keep=[1]: give texts"),
        ("keep", 5, "keep=5: give texts"),
        ("opaque", [None], "opaque=[None]: give texts"),
        ("notes", 5, "notes=5: give texts"),
        ("groups", 5, "groups=5: give a list"),
        ("groups", ["stem"], "groups: 'stem' is no group"),
        ("architecture", 5, "architecture=5: give the config"),
        ("loss", 5, "loss=5: give a function"),
        ("name", 5, "name=5: give a text"),
        ("work_dir", 5, "work_dir=5: give a path"),
        ("work_dir", "", "work_dir='': give a path"),
        ("work_dir", __file__, "it is a file"),
        ("resume", "yes", "resume='yes': give True or False"),
        ("resume", True, "resume=True needs work_dir"),
        ("tune", 0, "tune=0"),
        ("importance", "tailor", "did you mean 'taylor'?"),
        ("images", 1, "images=1"),
        ("divisor", 0, "divisor=0"),
        ("seed", -1, "seed=-1"),
        ("show", "yes", "show='yes': give True or False"),
        ("values", "boxes", "values='boxes': give True, or the outputs"),
        ("budget", "0%", "'0%' must be a positive number"),
        ("budget", "fast", "'fast'"),
        ("budget", None, "give one of budget"),
        ("min_accuracy", 90, "found budget, min_accuracy"),
    ],
)
def test_before_anything_is_read(option, value, said):
    with pytest.raises(UserError) as error:
        mmrazor_lite.slim(build("Residual"), Unread(), **{"budget": "50%", option: value})
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (images(8).to_sparse(), "data: a tensor (8, 3, 16, 16) is sparse"),
        ([(images(4).to("meta"), torch.zeros(4))], "data: a tensor (4, 3, 16, 16) is on the meta device"),
    ],
)
def test_tensors_without_numbers(data, said):
    network = build("Residual")
    with pytest.raises(UserError) as error:
        mmrazor_lite.slim(network, data, "50%")
    assert said in str(error.value)
    with pytest.raises(UserError, match="model: a tensor .* is on the meta device"):
        mmrazor_lite.slim(copy.deepcopy(network).to("meta"), images(8), "50%")


def unread():
    raise AssertionError("read")
    yield


@pytest.mark.parametrize("data", [unread(), map(unread, [1])])
def test_what_can_be_read_once_is_not_tuned_on(data):
    said = r"data is a .*, which can be read once, .*: give a list or a DataLoader"
    with pytest.raises(UserError, match=said) as error:
        mmrazor_lite.slim(build("Residual"), data, "50%", tune="5min")
    assert "\n" not in str(error.value)


def test_a_runtime_that_nothing_would_use():
    for goal in ({"budget": "50%"}, {"min_accuracy": 50}):
        with pytest.raises(UserError, match="backend='torch' is for .*, and here is neither: leave out latency=False"):
            mmrazor_lite.slim(build("Residual"), images(), **goal, backend="torch", latency=False)


def test_a_compiled_network_is_told_where_the_module_is():
    compiled = torch.compile(build("Residual"))
    with pytest.raises(UserError, match=r"compiled by torch.compile: give .* model._orig_mod"):
        mmrazor_lite.slim(compiled, Unread(), "50%")


def test_one_text_is_one_pattern():
    slimmer = Slimmer(build("Residual"), (3, 16, 16), opaque="block1")
    assert any(layer.layer.startswith("block1") for layer in slimmer.fixed)
    with pytest.raises(UserError, match="opaque: no module of .* matches 'block9'"):
        Slimmer(build("Residual"), (3, 16, 16), opaque="block9")


def test_a_score_that_is_none_or_fails():
    slimmer = Slimmer(build("Residual"), (3, 16, 16))

    def broken(network):
        raise KeyError("x")

    with pytest.raises(UserError, match="score=5: give a function of the network"):
        slimmer.search("60%", score=5)
    with pytest.raises(UserError, match="search: the score cannot be computed: KeyError: 'x'"):
        slimmer.search("60%", score=broken)
