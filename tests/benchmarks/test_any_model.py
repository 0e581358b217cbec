"""Models nobody tuned for, by the function that ``benchmarks/any_model.py`` uses, and what it makes of the records."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIXELS = 64  # widths do not depend on the size of the image

# small models of families whose blocks differ: what a block is made of stands behind
SMALL = [
    "torchvision/squeezenet1_1",  # concat
    "torchvision/shufflenet_v2_x0_5",  # chunk and shuffle
    "torchvision/mobilenet_v3_small",  # gates
    "timm/convnext_atto",  # layer norm, layer scale
    "timm/dla46x_c",  # grouped convs, trees of concats
    "timm/hgnetv2_b0",  # scales and shifts of one number
    "timm/lcnet_050",  # a norm that holds its activation
    "timm/rexnet_100",  # a residual on the first channels
    "timm/skresnet18",  # attention over branches
    "timm/starnet_s050",  # products of two branches
    "mmpretrain/LeNet5",  # flatten without norms
    "mmpretrain/ResNet_CIFAR",
]
HEAVY = ("timm/dla46x_c", "timm/hgnetv2_b0", "timm/rexnet_100", "timm/skresnet18")  # tests/graph has their rules
IN_THE_ZOO = (
    "torchvision/squeezenet1_1 torchvision/shufflenet_v2_x0_5 torchvision/mobilenet_v3_small mmpretrain/ResNet_CIFAR "
    "timm/convnext_atto"
).split()  # the same rules, held by test_invariants.py


@pytest.fixture(scope="module")
def any_model():
    """The modules of the benchmark, which are imported from the root of the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        patch.setattr(sys, "path", [str(ROOT), str(ROOT / "tests"), *sys.path])
        from benchmarks import any_model, any_model_lists, any_model_measure, any_model_report

        yield SimpleNamespace(
            walk=any_model, lists=any_model_lists, measure=any_model_measure.measure, report=any_model_report
        )


def entry_of(any_model: SimpleNamespace, key: str):
    return next(entry for entry in any_model.lists.entries() if entry.key == key)


# the lists ------------------------------------------------------------------------------------------------------


def test_every_model_of_the_sources_is_listed_or_left_out(any_model):
    import mmpretrain.models.backbones as backbones
    import timm
    import yaml

    entries = any_model.lists.entries()
    assert len({entry.key for entry in entries}) == len(entries)
    assert len([e for e in entries if e.set == "torchvision"]) == 80
    assert len([e for e in entries if e.set == "torchvision" and e.kind == "cnn"]) == 68
    kinds = [entry.kind for entry in entries if entry.set == "timm"]
    assert (kinds.count("cnn"), kinds.count("transformer")) == (60, 5)
    assert {entry.name for entry in entries if entry.set == "timm"} <= set(timm.list_models())
    left_out = yaml.safe_load(any_model.lists.LISTS.read_text())["mmpretrain_left_out"]
    listed = [entry.name for entry in entries if entry.set == "mmpretrain"]
    assert sorted([*listed, *" ".join(left_out.values()).split()]) == sorted(backbones.__all__)


# the models -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(key, marks=[pytest.mark.slow] * (key in HEAVY) + [pytest.mark.wide] * (key in IN_THE_ZOO))
        for key in SMALL
    ],
)
def test_a_small_model_passes_every_invariant(any_model, key):
    entry = entry_of(any_model, key)
    entry = replace(entry, size=min(entry.size, PIXELS), check=min(entry.check, PIXELS))
    record = any_model.measure(entry, subnets=1)
    assert "failed" not in record
    assert record["invariants"] == dict.fromkeys("1 3 2 2b".split(), "ok")
    assert record["searchable"] > 0.95
    assert any_model.report.ratio(record) < 0.15


def test_a_model_that_computes_something_else_is_found_out(any_model, monkeypatch):
    """The norms of the activated subnet shifted by a little: no invariant but the count may pass."""
    import torch

    from mmrazor_lite.models.mutators import OneShotChannelMutator

    class Shifted(OneShotChannelMutator):
        def prepare(self, model, *args, **options):
            super().prepare(model, *args, **options)
            norm = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
            norm.register_forward_hook(lambda *call: call[-1] + 1e-3)

        def export(self, subnet):
            exported = super().export(subnet)
            norm = next(module for module in exported.modules() if isinstance(module, torch.nn.BatchNorm2d))
            norm._forward_hooks.clear()
            return exported

    monkeypatch.setattr("mmrazor_lite.models.mutators.OneShotChannelMutator", Shifted)
    entry = replace(entry_of(any_model, "mmpretrain/ResNet_CIFAR"), size=32, check=32)
    found = any_model.measure(entry, subnets=0)["invariants"]
    assert found["3"] == "ok"
    assert all(found[which] != "ok" for which in ("1", "2", "2b"))


# the walk -------------------------------------------------------------------------------------------------------


def options(**changes: object) -> argparse.Namespace:
    values = {"divisor": 1, "subnets": 0, "fast": True, "timeout": 300, "memory": 24, "set": "all", "only": "*"}
    return argparse.Namespace(**(values | {"again": False, "jobs": 1} | changes))


def test_what_ends_a_process_is_a_record(any_model):
    entry = entry_of(any_model, "torchvision/squeezenet1_1")
    late = any_model.walk.run_one(entry, options(timeout=0.01))
    assert late["failed"] == {"stage": "process", "error": "more than 0.01 s"}
    unknown = any_model.walk.run_one(replace(entry, name="no_such_model"), options())
    assert unknown["failed"]["stage"] == "build"
    assert "no_such_model" in unknown["failed"]["error"]


def test_a_walk_goes_on_where_it_was(any_model, tmp_path, monkeypatch, capsys):
    measured = []

    def run_one(entry, _):
        measured.append(entry.name)
        return fine(entry.key)

    monkeypatch.setattr(any_model.walk, "run_one", run_one)
    out = tmp_path / "records.jsonl"
    any_model.walk.walk(options(only="squeezenet*", out=out))
    any_model.walk.walk(options(only="squeezenet*", out=out))
    assert measured == ["squeezenet1_0", "squeezenet1_1"]
    any_model.walk.walk(options(only="torchvision/squeezenet1_1", out=out, again=True))
    assert measured[2:] == ["squeezenet1_1"]
    any_model.walk.walk(options(only="squeezenet*", out=out, fast=False))  # those records have the invariants too
    assert len(measured) == 3
    records = any_model.walk.done_before(out)
    assert sorted(records) == ["torchvision/squeezenet1_0", "torchvision/squeezenet1_1"]
    assert "all invariants" in capsys.readouterr().out


def fine(key: str, kind: str = "cnn") -> dict:
    """A record that reaches every floor."""
    numbers = {"prepare_s": 1.0, "groups": 3, "searchable": 0.99, "max_macs": 1000, "min_macs": 30, "fixed": {}}
    verdicts = dict.fromkeys("1 3 2 2b".split(), "ok")
    return {"model": key, "kind": kind, "size": 224, "invariants": verdicts, **numbers}


def test_floors_name_what_is_below_them(any_model):
    chosen = any_model.lists.entries("torchvision")
    records = {entry.key: fine(entry.key, kind=entry.kind) for entry in chosen}
    assert all(line.startswith("reached") for line in any_model.report.floors(records, chosen)[:5])
    worse = {
        "torchvision/resnet18": {"searchable": 0.5},
        "torchvision/vgg11": {"min_macs": 200},
        "torchvision/densenet121": {"invariants": {"1": "ok", "2": "AssertionError: no", "2b": "ok", "3": "ok"}},
        "torchvision/densenet201": {"prepare_s": 30.0},
    }
    for key, change in worse.items():
        records[key] |= change
    records["torchvision/alexnet"] = {
        "model": "torchvision/alexnet", "kind": "cnn", "size": 224, "failed": {"stage": "prepare", "error": "no"},
    }  # fmt: skip
    lines = any_model.report.floors(records, chosen)
    names = ["alexnet", "alexnet, densenet121", "resnet18 50.0%", "vgg11 20.0%", "densenet201 30 s"]
    for line, name in zip(lines, names, strict=False):
        assert line.startswith("BELOW")
        assert f"(not: {name})" in line
    text = any_model.report.table(records, chosen)
    assert text.count("\n| ") == 81
    assert "| densenet121 | 1.0 | 3 | 99.0% | 0 M | 3.0% | ✓ | ✗ | ✓ | ✓ |  |" in text
    json.dumps(records)


# everything -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_whole_walk(any_model, tmp_path):
    """Hours: every model of the lists is prepared, and every CNN passes the invariants."""
    out = tmp_path / "records.jsonl"
    any_model.walk.walk(options(fast=False, subnets=1, timeout=1800, out=out))
    records = any_model.walk.done_before(out)
    assert [key for key, record in records.items() if "failed" in record] == []
    wrong = [key for key, record in records.items() if record["kind"] == "cnn" and not any_model.report.passes(record)]
    assert wrong == []
