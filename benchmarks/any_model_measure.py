"""What ``any_model.py`` measures of one model: prepare, how much can be chosen, and the invariants of the kernel.

The invariants are those of docs/architecture.md: 1 (the largest subnet computes the same bits), 2 (activated ==
exported: outputs, gradients, statistics), 2b (activated == the full network with dropped channels zeroed), 3 (the cost
model's macs, flops and params are those counted on the export).
"""

from __future__ import annotations

import copy
import re
import resource
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from oracles import assert_cost_is_counted, assert_same_as_export, assert_same_as_zeroed, assert_same_bits, places
from torch import nn
from zoo import SIXTHS, Prepared, randomise

from benchmarks.any_model_lists import Entry

INVARIANTS = ("1", "2", "2b", "3")
LARGE = 300_000_000  # parameters: in float64 a model, its copy and its gradients take 24 bytes each
RELATIVE = 1e-9  # of the largest value, in float64
SAYS_SOMETHING = 1e-7  # how much another image must change the output at least, so that a wrong slice would show


def measure(entry: Entry, divisor: int = 1, subnets: int = 2, fast: bool = False) -> dict:
    """The record of one model. What fails is in it with its message; only what ends a process is raised.

    Args:
        divisor: of the candidates, which are the sixths of every width.
        subnets: random subnets that are checked besides the smallest.
        fast: prepare only, no invariants.
    """
    from mmrazor_lite.models.mutators import OneShotChannelMutator

    record = {"model": entry.key, "kind": entry.kind, "size": entry.size, "divisor": divisor, "fast": fast}
    start, stage = time.perf_counter(), "build"
    try:
        model = randomise(entry.build())
        record["parameters"] = sum(p.numel() for p in model.parameters())
        plain = None if fast else copy.deepcopy(model)
        stage, before, cpu = "prepare", time.perf_counter(), time.process_time()
        mutator = OneShotChannelMutator(candidate_choices=SIXTHS, divisor=divisor)
        mutator.prepare(model, entry.input_shape)
        record["prepare_s"] = round(time.perf_counter() - before, 2)
        record["prepare_cpu_s"] = round(time.process_time() - cpu, 2)  # the same on a machine that is busy
        stage = "describe"
        record |= describe(model, mutator)
        if not fast:
            stage = "check"
            record["invariants"] = check(entry, Prepared(plain, model, mutator, entry.check_shape), subnets)
    except Exception as error:
        record["failed"] = {"stage": stage, "error": _message(error)}
    record["peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    record["total_s"] = round(time.perf_counter() - start, 1)
    return record


def _message(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:400]


# what can be chosen ---------------------------------------------------------------------------------------------


def describe(model: nn.Module, mutator: object) -> dict:
    """Groups, the share of macs that can be chosen, macs of the largest and smallest subnet, what stays and why.

    A layer's macs can be chosen where the width of its input or of its output can be.
    """
    most, least = mutator.cost_model.max()["macs"], mutator.cost_model.min()["macs"]
    why = {layer.layer: generic(layer.reason, model) for layer in mutator.fixed}
    layers: dict[str, int] = defaultdict(int)
    for reason in why.values():
        layers[reason] += 1
    whole: dict[str, int] = defaultdict(int)  # macs of rows both of whose sides are fixed
    outputs: dict[str, int] = defaultdict(int)  # macs of rows whose output is fixed
    for row in mutator.cost_model.table.rows:
        if row.macs and row.outputs.is_fixed:
            reason = "product of activations" if row.kind == "matmul" else why.get(row.name, "no reason given")
            macs = row.positions * row.kernel * len(row.inputs) * len(row.outputs)
            outputs[reason] += macs
            whole[reason] += macs if row.inputs.is_fixed else 0
    return {
        "groups": len(mutator.mutables),
        "max_macs": most,
        "min_macs": least,
        "searchable": round(1 - sum(whole.values()) / max(most, 1), 4),
        "fixed": {
            reason: {
                "layers": layers[reason],
                "macs": round(whole[reason] / max(most, 1), 4),
                "output_macs": round(outputs[reason] / max(most, 1), 4),
                "example": next((name for name, other in why.items() if other == reason), ""),
            }
            for reason in sorted({*layers, *outputs}, key=lambda reason: -outputs[reason])
        },
    }


def generic(reason: str, model: nn.Module) -> str:
    """A reason without the names and numbers in it, so that equal ones can be counted."""
    names = {name for name, _ in model.named_modules() if name}

    def replace(match: re.Match) -> str:
        return "*" if match.group(0).split("@")[0].split("#")[0] in names else match.group(0)

    text = re.sub(r"[\w.@#]+", replace, reason)
    text = re.sub(r"\[[\d, ]+\]", "[N]", re.sub(r"_\d+\b", "", text))  # sizes, and the numbers of graph nodes
    return re.sub(r"\b\d+\b", "N", text)


# invariants -----------------------------------------------------------------------------------------------------


def check(entry: Entry, twin: Prepared, number: int) -> dict[str, str]:
    """Invariant -> ``ok``, or ``left out: why``, or what is wrong. Afterwards the model is in float64."""
    space = twin.mutator.search_space
    rng = np.random.default_rng(0)
    subnets = [space.min(), *(space.sample(rng) for _ in range(number if len(space) else 0))]
    large = sum(p.numel() for p in twin.plain.parameters()) > LARGE
    found = {"1": _verdict(lambda: _same_bits(twin))}

    def each(name: str, assertion: Callable, of: list) -> None:
        for index, subnet in enumerate(of):
            found[name] = _verdict(lambda: assertion(subnet))
            if found[name] != "ok":
                found[name] += f" ({'random' if index else 'smallest'} subnet)"
                return

    each("3", lambda subnet: assert_cost_is_counted(twin.mutator, subnet, entry.input_shape), subnets)
    if large and entry.kind != "cnn":
        return found | dict.fromkeys(("2", "2b"), "left out: too large for float64")
    twin.plain.double()
    twin.model.double()
    of = subnets[:1] if large else subnets
    batch = 2 if large or entry.kind != "cnn" else 4
    where: dict[object, dict] = {}

    def located(subnet: object) -> dict:
        if subnet not in where:
            where.clear()
            where[subnet] = places(twin.mutator, subnet, twin.plain)
        return where[subnet]

    each("2", lambda subnet: assert_same_as_export(twin, subnet, located(subnet), batch, RELATIVE), of)
    each("2b", lambda subnet: _zeroed(twin, subnet, located(subnet), batch), of)
    return found


def _zeroed(twin: Prepared, subnet: object, where: dict, batch: int) -> None:
    change = assert_same_as_zeroed(twin, subnet, where, batch, RELATIVE)
    assert change > SAYS_SOMETHING, f"this says nothing: another image changes the output by {change:.1g} of it only"


def _verdict(assertion: Callable[[], None]) -> str:
    try:
        assertion()
    except Exception as error:
        return _message(error)
    return "ok"


def _same_bits(twin: Prepared) -> None:
    """The largest subnet and the plain network, in eval and train mode, and what train mode leaves in the buffers."""
    space = twin.mutator.search_space
    twin.mutator.activate(space.min())
    twin.mutator.activate(space.max())
    before = copy.deepcopy(dict(twin.plain.named_buffers()))
    for training in (False, True):
        outputs = []
        for model in (twin.plain, twin.model):
            model.train(training)
            torch.manual_seed(0)
            with torch.no_grad():
                outputs.append(model(twin.images(4)))
        assert_same_bits(outputs[1], outputs[0])
    for own, other in zip(twin.model.buffers(), twin.plain.buffers(), strict=True):
        assert torch.equal(own, other), "the buffers differ after a pass in train mode"
    for model in (twin.plain, twin.model):
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])
