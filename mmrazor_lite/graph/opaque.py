"""Modules that are not looked into: while a model is traced, each call of one is a single op, ``opaque``.

The way out for code that no graph can follow, such as an ``if`` on the data. What it reads and what it makes stays at
full width; the rest of the model stays searchable. What a call costs, and the shapes it makes, come from one real run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from mmrazor_lite.errors import UserError, nearest

from .flop_rules import ACTIVATIONS, is_global_pool
from .versions import macs_counter

OPAQUE = "opaque"  # the kind of the op
NAME = f"mmrazor_lite::{OPAQUE}"
# All that later steps ask is in the op itself; ``weights`` are there so that the graph shows who reads them.
torch.library.define(
    NAME,
    "(Tensor[] inputs, Tensor[] weights, SymInt[] shape, ScalarType dtype, Device device, int macs, int extra_flops)"
    " -> Tensor",
)


@torch.library.register_fake(NAME)
def _fake(inputs, weights, shape, dtype, device, macs, extra_flops) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)


@dataclass(frozen=True)
class _Made:
    """A tensor of an output."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class _Call:
    """What one call returned (tensors as :class:`_Made`, in pytree order) and what it costs for one image."""

    leaves: tuple[Any, ...]
    structure: Any
    macs: int
    extra_flops: int


@contextmanager
def opaque(model: nn.Module, patterns: Sequence[str], example: Tensor) -> Iterator[None]:
    """Make every call of a module whose name matches ``patterns`` (``fnmatch``) one op, until the block ends.

    The model is run once on ``example`` (N, C, H, W) in its current mode; parameters, buffers and the random state are
    left as they were. A match inside another one is part of the outer one; the model itself never matches.

    Raises :class:`UserError` for a pattern that matches no module.
    """
    modules = _matching(model, patterns)
    if not modules:
        yield
        return
    calls = _Recorder(modules, len(example)).run(model, example)
    with ExitStack() as stack:
        for name, module in modules.items():
            if calls[name]:
                stack.callback(_restore_forward, module, module.__dict__.get("forward"))
                module.forward = partial(_stand_in, module, iter(calls[name]))
        yield


def _matching(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    names = {name: module for name, module in model.named_modules() if name}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(f"opaque: no module of {type(model).__name__} matches '{pattern}'{nearest(pattern, names)}")
    return {name: module for name, module in names.items() if any(fnmatchcase(name, p) for p in patterns)}


def _stand_in(module: nn.Module, calls: Iterator[_Call], *args: Any, **kwargs: Any) -> Any:
    """The forward of an opaque module while the model is traced."""
    call = next(calls)
    inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    weights = [*module.parameters(), *module.buffers()]
    leaves, costs = [], (call.macs, call.extra_flops)
    for leaf in call.leaves:
        if isinstance(leaf, _Made):
            leaf = torch.ops.mmrazor_lite.opaque(inputs, weights, list(leaf.shape), leaf.dtype, leaf.device, *costs)
            costs = (0, 0)  # the call costs once, however many tensors it makes
        leaves.append(leaf)
    return tree_unflatten(leaves, call.structure)


def _restore_forward(module: nn.Module, own: Any) -> None:
    del module.forward
    if own is not None:
        module.forward = own


class _Recorder:
    """Notes every call of ``modules`` that is not inside another one, in one run on ``images`` images."""

    def __init__(self, modules: dict[str, nn.Module], images: int) -> None:
        self.modules, self.images = modules, images
        self.calls: dict[str, list[_Call]] = {name: [] for name in modules}
        self._depth = 0
        self._stack = ExitStack()

    def run(self, model: nn.Module, example: Tensor) -> dict[str, list[_Call]]:
        before = {key: buffer.clone() for key, buffer in model.named_buffers()}
        handles = [module.register_forward_pre_hook(self._enter) for module in self.modules.values()]
        handles += [m.register_forward_hook(partial(self._leave, name)) for name, m in self.modules.items()]
        try:
            with self._stack, torch.random.fork_rng(devices=[example.device] if example.is_cuda else []):
                model(example)  # with gradients: without them attention takes a short cut that the counter misses
        finally:
            for handle in handles:
                handle.remove()
            with torch.no_grad():
                for key, buffer in model.named_buffers():
                    buffer.copy_(before[key])
        return self.calls

    def _enter(self, *_: Any) -> None:
        self._depth += 1
        if self._depth == 1:
            self._macs = self._stack.enter_context(macs_counter())
            self._extra = self._stack.enter_context(_ExtraFlops())

    def _leave(self, name: str, _: nn.Module, __: Any, output: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._stack.close()
            leaves, structure = tree_flatten(output)
            made = [_Made(tuple(x.shape), x.dtype, x.device) if isinstance(x, Tensor) else x for x in leaves]
            counts = self._macs.get_total_flops() // 2 // self.images, self._extra.total // self.images
            self.calls[name].append(_Call(tuple(made), structure, *counts))


class _ExtraFlops(TorchDispatchMode):
    """What flops hold beside macs (see ``CostModel``), counted while ops run."""

    NORMS = {"native_batch_norm": 1, "native_layer_norm": 2, "native_group_norm": 1}  # op -> place of the weight
    ONCE = ACTIVATIONS | {"_prelu_kernel"}

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        kind = func._schema.name.removeprefix("aten::").removesuffix("_")
        if kind == "convolution":
            self.total += result.numel() if args[2] is not None else 0
        elif kind in self.NORMS:
            self.total += args[0].numel() * (1 if args[self.NORMS[kind]] is None else 2)
        elif (
            kind in self.ONCE
            or "_pool" in kind
            or (kind == "hardtanh" and args[1] == 0)
            or (kind == "mean" and len(args) > 1 and is_global_pool(args[0].shape, args[1]))
        ):
            self.total += args[0].numel()
        return result
