"""A trained network is slimmed by one call: budgets are met exactly, the network passed in stays as it is."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from functools import cache, partial

import pytest
import torch
from small_nets import NETS, build, images
from torch import nn
from torch.utils._pytree import tree_leaves

import mmrazor_lite
from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.op_runs import OpRun
from mmrazor_lite.estimators.resource import plain_cost
from mmrazor_lite.slimming import Slimmed, timed

slim = partial(mmrazor_lite.slim, latency=False)
LABELS = torch.arange(80) % 5


BUDGETS = {"Tokens": 0.8}  # what queries, keys and values are projected from stays


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@cache
def slimmed(name: str) -> tuple[nn.Module, Slimmed]:
    network = build(name)
    return network, slim(network, images(), f"{BUDGETS.get(name, 0.5):.0%}", images=60)


@pytest.mark.parametrize("name", NETS)
def test_any_network_meets_its_budget(name):
    """What is counted on the small network is what was promised, and little of the budget is left."""
    network, result = slimmed(name)
    found, full = plain_cost(result.model, (3, 16, 16)), plain_cost(network, (3, 16, 16))
    assert found == dict(result.report.costs["slimmed"]) and full == dict(result.report.costs["original"])
    budget = BUDGETS.get(name, 0.5)
    assert (budget - 0.1) * full["macs"] < found["macs"] <= budget * full["macs"]
    assert type(result.model) is type(network) and not result.model.training
    own = [leaf.shape for leaf in tree_leaves(result.model(images(2)))]
    assert own == [leaf.shape for leaf in tree_leaves(build(name)(images(2)))]


def test_the_network_passed_in_is_not_changed():
    network = build("Residual").train()
    network.block1.eval()  # either mode
    next(network.parameters()).requires_grad_(False)
    before = copy.deepcopy(network)
    result = slim(network, images(), "60%", images=40, importance="l1")
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), before.state_dict().values(), strict=True)
    )
    assert [m.training for m in network.modules()] == [m.training for m in before.modules()]
    assert [type(m) for m in network.modules()] == [type(m) for m in before.modules()]
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert frozen == [name for name, parameter in result.model.named_parameters() if not parameter.requires_grad]
    assert all(parameter.grad is None for parameter in network.parameters())
    storages = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}
    assert not storages & {tensor.untyped_storage().data_ptr() for tensor in result.model.state_dict().values()}


def test_a_refit_is_nearer_to_the_original_than_the_cut():
    _, result = slimmed("Residual")
    stages = {stage.name: stage for stage in result.report.stages}
    assert list(stages)[:2] == ["original", "cut"] and stages["original"].distance == 0
    assert result.report.stages[-1].distance < 0.5 * stages["cut"].distance


def test_several_resources_keep_and_limits():
    network = build("Residual")
    result = slim(
        network,
        (images(), LABELS),
        {"macs": "85%", "params": "90%"},
        images=60,
        keep=["block1"],
        limits={"stem.*": 0.75, "block2.0.0*": 12},
        importance="taylor",
        divisor=2,
    )
    costs = result.report.costs
    assert costs["slimmed"]["macs"] <= 0.85 * costs["original"]["macs"]
    assert costs["slimmed"]["params"] <= 0.9 * costs["original"]["params"]
    assert result.model.block1[0][0].out_channels == 24 and result.model.stem[0].out_channels == 16  # added to block1's
    assert result.model.block2[0][0].out_channels >= 12 and result.model.block2[0][0].out_channels % 2 == 0
    assert result.report.stages[0].accuracy is not None


def test_a_function_as_importance():
    """The channels that it likes are those that stay."""

    def last(network, batches, loss):
        return {name: range(units) for name, units in network.unit_counts.items()}

    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 5, 3))
    result = slim(network, images(), "50%", images=40, importance=last, divisor=1)
    assert torch.equal(result.model[0].weight, network[0].weight[-8:].flip(0))


def test_a_floor_of_agreement():
    network = build("Residual").eval()
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():  # as it is, it gives all images one class
        last.bias -= network(images()).mean(0)
    result = slim(network, images(), min_accuracy="85%", images=40, importance="l1")
    assert result.report.stages[-1].agreement >= 85
    assert result.report.costs["slimmed"]["macs"] < result.report.costs["original"]["macs"]
    assert any("agreement with the original, as there are no labels" in note for note in result.report.notes)


def test_a_measured_budget(monkeypatch, tmp_path):
    """By a clock that takes a microsecond for each parameter, but for ops alone by all that they read."""
    monkeypatch.setattr(timed, "Bench", ByParameters)
    monkeypatch.setattr(timed, "MIN_SECONDS", 1e-9)
    network = build("UNet")
    full = plain_cost(network, (3, 16, 16))["params"]
    monkeypatch.setattr(timed, "BUILT", {"checks": 3, "repeats": 1, "min_seconds": 1e-9})
    options = {"images": 40, "importance": "l1"}
    more = {"table": tmp_path / "steps.json"}
    for share, least, where in ((0.5, 0.45, {"work_dir": tmp_path}), (0.7, 0.5, more)):
        result = slim(network, images(), {"latency": f"{share:.0%}"}, **options, **where)
        assert any("chosen by measurement" in note for note in result.report.notes)
        assert least * full < sum(p.numel() for p in result.model.parameters()) <= 1.03 * share * full
        monkeypatch.setattr(timed, "build_table", None)  # nothing is measured anew
        table = json.loads((tmp_path / timed.TABLE).read_text())
        del table["crc"]
        more["table"].write_text(json.dumps({**table, "steps": dict.fromkeys(result.subnet, 4)}))
    assert all(width % 4 == 0 for width in result.subnet.values())
    told = f"what pays by the latency table: 4 for {len(result.subnet)} groups"
    assert any(told in note for note in result.report.notes)
    with pytest.raises(UserError, match="the latency table is of backend 'torch', asked for is 'torch.compile'"):
        slim(network, images(), {"latency": "50%"}, **options, **more, backend="torch.compile")
    with pytest.raises(UserError, match=r"the fastest subnet takes .* ms, the full network 21.2 ms"):
        slim(network, images(), "0.00001ms", **options, **more)
    monkeypatch.setattr(ByParameters, "name", "another")
    with pytest.raises(UserError, match="the latency table is of name 'counts', here it is 'another'"):
        slim(network, images(), {"latency": "50%"}, **options, **more)
    with pytest.raises(UserError, match="is for a budget in milliseconds"):
        slim(network, images(), "50%", **options, **more)


class ByParameters:
    """A bench whose runs take a microsecond for each parameter that they read."""

    name = "counts"

    def __init__(self, device, backend="torch", threads=1, batch_size=1, **layout):
        self.backend, self.threads, self.batch_size = backend, threads, batch_size

    pace = None

    def facts(self):
        own = {"device": "cpu", "name": self.name, "backend": self.backend, "version": "1"}
        return {**own, "threads": self.threads, "batch_size": self.batch_size}

    def timers(self, modules):
        return {key: self.timer(module, size) for key, (module, size) in modules.items()}

    def timer(self, module, size):
        read = sum(tensor.numel() for tensor in module.parameters())
        if isinstance(module, OpRun):
            module(torch.zeros(1))
            read = sum(leaf.numel() for leaf in tree_leaves(module._ready[0]) if isinstance(leaf, torch.Tensor)) / 8
        return lambda runs: runs * read * 1e-6


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_cannot_be_done_is_told_in_one_line():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    cases = [
        (network, images(), {"budget": "1%"}, "budget macs=.* is out of reach: .* the cheapest subnet"),
        (network, images(), {"budget": "0.001ms"}, "out of reach: the fastest subnet takes .* ms, the full network"),
        (network, images(), {"budget": "50%", "importance": "bn"}, "'bn' scores all units of every group alike"),
        (network, images(), {"budget": "50%", "importance": "l3"}, "importance='l3': allowed are activation, bn"),
        (network, images(), {"budget": "50%", "loss": nn.MSELoss()}, "the data has no targets for it"),
        (network, images(), {"budget": "50%", "keep": ["9"]}, "keep: '9' matches no layer of Sequential"),
        (network, images(), {"budget": "50%", "limits": {"0": 2.5}}, r"limits\['0'\]=2.5: give a share"),
        (network, images(), {"budget": "50%", "importance": lambda *_: {}}, "must give {group: scores}, 8 finite"),
        (
            network,
            images(),
            {"budget": "50%", "backend": "tvm"},
            "backend='tvm' is unknown .allowed: torch, torch.comp",
        ),
        (network, images(), {"min_accuracy": 90}, "gives no class scores"),
        (network, images(), {"budget": "50%", "resume": True}, "resume=True needs work_dir"),
        (nn.Sequential(nn.Conv2d(3, 8, 3)), images(), {"budget": "50%"}, "has no width that can be chosen"),
        (nn.Sequential(nn.ReLU()), images(), {"budget": "50%"}, "has no width that can be chosen .it has no layers"),
        (nn.Sequential(Branches(), network), images(), {"budget": "50%"}, "Branches|cannot be traced"),
        (build("Residual"), list(images()), {"budget": "50%"}, r"here \(.*, 16, 16\); a single image .* is no batch"),
        (build("Residual"), images()[0], {"budget": "50%"}, "a single image .* is no batch: give images .N, C, H, W."),
        ("resnet50", images(), {"budget": "50%"}, "model='resnet50': give a module of torch"),
    ]
    for model, data, options, problem in cases:
        with pytest.raises(UserError, match=problem) as caught:
            slim(model, data, **options)
        assert "\n" not in str(caught.value)


def test_a_run_that_was_interrupted_ends_in_the_same_weights(tmp_path, monkeypatch):
    from mmrazor_lite.slimming import run

    network = build("TwoOutputs")
    whole = slim(network, images(), "50%", images=40, work_dir=tmp_path / "whole")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "choose", killed)
        with pytest.raises(KeyboardInterrupt):
            slim(network, images(), "50%", images=40, work_dir=tmp_path / "parts")
    state = json.loads((tmp_path / "parts/slim_state.json").read_text())
    assert list(state["steps"]) == ["rankings"]
    with monkeypatch.context() as patch:
        patch.setattr(run, "ranked", _without_work(run.ranked))
        parts = slim(network, images(), "50%", images=40, work_dir=tmp_path / "parts", resume=True)
    assert parts.subnet == whole.subnet
    own, other = (tmp_path / name / "slim_weights.pth" for name in ("whole", "parts"))
    assert own.read_bytes() == other.read_bytes()
    again = slim(network, images(), "50%", images=40, work_dir=tmp_path / "parts", resume=True)
    assert same(again.model, whole.model)
    with pytest.raises(UserError, match="cannot resume the slimming: goal was 'macs 50%', now it is 'macs 40%'; "):
        slim(network, images(), "40%", images=40, work_dir=tmp_path / "parts", resume=True)
    state = tmp_path / "parts/slim_state.json"
    state.write_bytes(state.read_bytes().replace(b"order", b"0rder", 1))
    with pytest.raises(UserError, match="its checksum does not fit .*; start anew without resume"):
        slim(network, images(), "50%", images=40, work_dir=tmp_path / "parts", resume=True)


def _without_work(ranked):
    def wrapper(prepared, found, importance, loss, steps, values):
        assert "rankings" in steps
        return ranked(prepared, found, importance, loss, steps, values)

    return wrapper


WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mmengine", "mmcv", "mmpretrain"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Blocked())
import torch, mmrazor_lite
from torch import nn
network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3))
result = mmrazor_lite.slim(network, torch.randn(30, 3, 12, 12), "50%", latency=False)
slimmer = mmrazor_lite.Slimmer(network, (3, 12, 12))
slimmer.rank(torch.randn(30, 3, 12, 12))
slimmer.save(sys.argv[1], slimmer.search("50%", score=lambda net: 1.0, max_epochs=1, num_candidates=10, top_k=5,
                                         num_mutation=5, num_crossover=5))
print(slimmer.load_subnet(sys.argv[1]), result.report)
"""


def test_a_plain_network_needs_no_mm_package(tmp_path):
    code = [sys.executable, "-c", WITHOUT, str(tmp_path / "subnet.yaml")]
    done = subprocess.run(code, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Subnet(0=" in done.stdout
