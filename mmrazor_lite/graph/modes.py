"""Train and eval mode: put back after a block, and whether a model can run other layers in one than in the other.

A second trace is taken only where it may.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

SAME = ("ConvModule",)  # of mmcv: asks for the mode in a shortcut that gives the same result


@contextmanager
def modes_kept(*models: nn.Module) -> Iterator[None]:
    """After the block, every module of the models has the mode that it had before."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training  # train() would pass the mode on, and some backbones return None from it


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; every module has its own mode again after it."""
    with modes_kept(model):
        model.eval()
        yield


def runs_the_same(model: nn.Module, example: torch.Tensor) -> bool:
    """Whether train mode runs what eval mode runs, in so far as code and one run of each tell.

    No class of the model may ask for its mode, other than the layers of torch, whose widths do not depend on it; and
    both runs must call the same modules, with the same shapes out.

    Args:
        example: (N, C, H, W); parameters, buffers and the random state are left as they were.
    """
    classes = {cls for module in model.modules() for cls in type(module).__mro__}
    if any(_asks(cls) for cls in classes):
        return False
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = [example.device] if example.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            calls = [_calls(model.train(mode) or model, example) for mode in (False, True)]
    except Exception:  # whatever a model raises: the trace explains it
        return False
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
    return calls[0] == calls[1]


@cache
def _asks(cls: type) -> bool:
    """Whether the code of a class reads an attribute called ``training``; also where its source is not there."""
    if cls.__module__.startswith("torch.nn.") or cls.__module__ == "builtins" or cls.__name__ in SAME:
        return False
    if not issubclass(cls, nn.Module):
        return False
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return True
    return any(isinstance(node, ast.Attribute) and node.attr == "training" for node in ast.walk(tree))


def _calls(model: nn.Module, example: torch.Tensor) -> list[tuple[int, tuple]]:
    """Which modules run, in order, and the shapes of what they give."""
    found: list[tuple[int, tuple]] = []

    def record(module: nn.Module, args: tuple, output: object) -> None:
        found.append((id(module), tuple(_shapes(output))))

    handles = [module.register_forward_hook(record) for module in model.modules()]
    try:
        model(example)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _shapes(value: object) -> Iterable[tuple[int, ...]]:
    if isinstance(value, torch.Tensor):
        yield tuple(value.shape)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _shapes(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _shapes(item)
