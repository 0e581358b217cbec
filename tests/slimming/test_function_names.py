"""Functions of a run that goes on: the same in another process, another where their code is."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mmrazor_lite.slimming.function_names import named


class Losses:
    def __init__(self, weight: float) -> None:
        self.weight = weight

    def of(self, outputs, targets):
        return self.weight * (outputs - targets).sum()

    def other(self, outputs, targets):
        return self.weight * (outputs + targets).sum()

    def __call__(self, outputs, targets):
        return self.of(outputs, targets)


def made(weight):
    return lambda outputs, targets: weight * (outputs - targets).sum()


def test_functions_of_one_name_differ_by_their_code():
    functions = [
        lambda outputs, targets: (outputs - targets).sum(),
        lambda outputs, targets: (outputs - targets).mean(),
        lambda outputs, targets: (targets - outputs).sum(),
        lambda outputs, targets: (outputs - 2 * targets).sum(),
        lambda outputs, targets: (outputs - 3 * targets).sum(),
        lambda outputs, targets, share=0.1: (outputs - share * targets).sum(),
        lambda outputs, targets, share=0.2: (outputs - share * targets).sum(),
        lambda outputs, targets: sum(x - 1 for x in outputs),
        lambda outputs, targets: sum(x - 2 for x in outputs),
    ]
    names = [named(function) for function in functions]
    assert len(set(names)) == len(names) and all("<lambda>:" in name for name in names)


def test_what_is_the_same_has_one_name():
    assert named(made(1.0)) == named(made(2.0)), "what it closes over is not looked at"
    assert named(Losses(1).of) == named(Losses(2).of) == named(Losses.of) != named(Losses(1).other)
    assert named(Losses(1)) == "Losses" and named(nn.CrossEntropyLoss()) == "CrossEntropyLoss"
    assert named(len) == "len"


def test_a_partial_function_is_told_by_its_parts():
    def name(**options):
        return named(partial(cross_entropy, **options))

    assert name(label_smoothing=0.1) == name(label_smoothing=0.1) != name(label_smoothing=0.2)
    assert name(weight=torch.ones(3)) == name(weight=torch.ones(3)) != name(weight=torch.zeros(3))
    assert named(partial(partial(made(1), 2), 3)) == named(partial(made(1), 2, 3)) != named(partial(made(1), 3, 2))
    assert "0x" not in named(partial(made(1), Losses(1), function=made(2)))


FUNCTION = "lambda outputs, targets: sum(x for x in outputs if x in {'one', 'two', 'three', 'four', 'five', 'six'})"
SAID = f"from mmrazor_lite.slimming.function_names import named\nprint(named({FUNCTION}))"


def test_another_process_says_the_same():
    """Where words of a set come in another order."""
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    said = subprocess.check_output([sys.executable, "-c", SAID], env=env, text=True)
    assert said == f"{named(eval(FUNCTION))}\n"
