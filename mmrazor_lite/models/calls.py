"""Calls of layers: what a network computes with the weights of its layers, seen while it runs.

Seen are the ops themselves, such as ``conv2d``, whoever makes the call: the forward of a layer or any other code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mmrazor_lite.graph import LAYER_KINDS, LayerKind, kind_of
from mmrazor_lite.graph.layers.entries import LINEAR

_CONV_ORDER = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED_ORDER = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_CONV_OPTIONS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_OPTIONS = {
    **{f"conv{n}d": _CONV_OPTIONS for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": {**_CONV_OPTIONS, "output_padding": 0} for n in (1, 2, 3)},
}


@dataclass(eq=False)
class Call:
    """One call of an op with the weight of a layer.

    Attributes:
        layer: Name of the layer whose weight is read.
        kind: Of the layer.
        index: Calls with this weight before, in this run of the network.
        x: What the op reads, (N, C, ...) of a conv, (..., C) of a linear layer; another one may be put in its place.
        weight: What it is multiplied by.
        bias: What is added; None for nothing.
        options: ``stride``, ``padding``, ``dilation``, ``groups`` of a conv, of a transposed one ``output_padding``
            too; nothing of any other layer.
        run: The op on a tensor in the place of ``x``.
    """

    layer: str
    kind: LayerKind
    index: int
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    options: Mapping[str, Any]
    run: Callable[[Tensor], Tensor]

    def output(self) -> Tensor:
        """What it gives for ``x`` with the weight as it is now."""
        return self.run(self.x)

    @property
    def dim(self) -> int:
        """Dimension of the channels in what is read and given."""
        return self.kind.dim % self.x.dim()

    @property
    def groups(self) -> int:
        return int(self.options.get("groups", 1))

    @property
    def transposed(self) -> bool:
        return "output_padding" in self.options

    @property
    def inputs(self) -> int:
        """Numbers that make one output: K, the same as in :meth:`patches`."""
        size = math.prod(self.weight.shape[2:])
        return self.weight.shape[0] // self.groups * size if self.transposed else self.weight[0].numel()

    def places(self, y: Tensor) -> int:
        """How many outputs of one channel, of all images together, a call gives."""
        return y.numel() // y.shape[self.dim]

    def outputs(self, y: Tensor, places: Tensor | None = None) -> Tensor:
        """What it gives at some places (P,), all of them without: (P, channels)."""
        rows = y.movedim(self.dim, -1)
        if places is None:
            return rows.reshape(-1, rows.shape[-1])
        return rows[torch.unravel_index(places, rows.shape[:-1])]

    def patches(self, places: Tensor | None = None) -> Tensor:
        """What makes the outputs at some places (P,): (P, groups, K), K as in ``weight.flatten(1)``.

        So ``outputs == einsum('pgk,gok->pgo', patches, weight) + bias``; of a transposed conv K is as in
        ``weight.flatten(2)`` with its inputs and kernel, see :meth:`as_weight`.
        """
        if self.kind.dim == -1:  # a linear layer
            rows = self.x.reshape(-1, self.x.shape[-1])
            return (rows if places is None else rows[places]).unsqueeze(1)
        windows = self._windows()  # (N, C, places of each dimension.., kernel..)
        spatial = (windows.dim() - 2) // 2
        windows = windows.movedim(1, 1 + spatial)
        if places is None:
            rows = windows.reshape(-1, *windows.shape[1 + spatial :])
        else:
            rows = windows[torch.unravel_index(places, windows.shape[: 1 + spatial])]
        if self.transposed:  # what is read last is multiplied by the first weight
            rows = rows.flip(tuple(range(2, rows.dim())))
        return rows.reshape(len(rows), self.groups, -1)

    def as_weight(self, matrix: Tensor) -> Tensor:
        """A matrix (groups, K, outputs of a group) that patches are multiplied by, in the shape of the weight."""
        if not self.transposed:
            return matrix.transpose(1, 2).reshape(self.weight.shape)
        inputs, outputs, *kernel = self.weight.shape
        split = matrix.reshape(self.groups, inputs // self.groups, math.prod(kernel), outputs)
        return split.transpose(2, 3).reshape(self.weight.shape)

    def _windows(self) -> Tensor:
        size = self.weight.shape[2:]
        stride, dilation = (_each(self.options[name], len(size)) for name in ("stride", "dilation"))
        x, padding = self.x, self.options["padding"]
        if self.transposed:  # a conv of the input with zeros between its places
            x, around, stride = self._spread(stride, dilation), [], (1,) * len(size)
        elif padding == "same":
            total = [d * (k - 1) for d, k in zip(dilation, size, strict=True)]
            around = [(t // 2, t - t // 2) for t in total]
        else:
            around = [(p, p) for p in _each(0 if padding == "valid" else padding, len(size))]
        if any(math.prod(ends) or sum(ends) for ends in around):
            x = F.pad(x, [end for ends in reversed(around) for end in ends])
        for at, (k, s, d) in enumerate(zip(size, stride, dilation, strict=True)):
            x = x.unfold(2 + at, (k - 1) * d + 1, s)[..., ::d]
        return x

    def _spread(self, stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
        size = self.weight.shape[2:]
        padding, extra = (_each(self.options[name], len(size)) for name in ("padding", "output_padding"))
        space = [(n - 1) * s + 1 for n, s in zip(self.x.shape[2:], stride, strict=True)]
        x = self.x.new_zeros((*self.x.shape[:2], *space))
        x[(..., *(slice(None, None, s) for s in stride))] = self.x
        reach = [d * (k - 1) - p for d, k, p in zip(dilation, size, padding, strict=True)]
        around = [(r, r + e) for r, e in zip(reach, extra, strict=True)]
        return F.pad(x, [end for ends in reversed(around) for end in ends])


def _each(value: Any, count: int) -> tuple[int, ...]:
    value = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return value * count if len(value) == 1 else value


class Watcher(Protocol):
    """What is told of the calls of a network."""

    def before(self, call: Call) -> None: ...  # may put another tensor in the place of ``call.x``

    def after(self, call: Call, y: Tensor) -> None: ...

    def other(self, function: Callable, args: tuple, kwargs: Mapping, result: Any) -> None: ...  # any other op


class Enough(Exception):
    """Raised by a watcher that has seen what it came for; what comes behind need not be computed."""


class Calls(TorchFunctionMode):
    """Tells a watcher of each call of a layer while the block runs.

    Args:
        layers: Weights, by identity -> the layer that holds it and its kind; see :func:`weights_of`.
    """

    def __init__(self, layers: Mapping[int, tuple[str, LayerKind]], watcher: Watcher) -> None:
        super().__init__()
        self._layers, self._watcher = layers, watcher
        self._seen: dict[str, int] = {}

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _OPENED:
            with self:
                return _OPENED[func](*args, **kwargs)
        name = getattr(func, "__name__", "")
        found = LAYER_KINDS.of_op(name)
        weight = args[1] if len(args) > 1 else kwargs.get("weight")
        if found is None or not found.makes_channels or id(weight) not in self._layers:
            result = func(*args, **kwargs)
            self._watcher.other(func, args, kwargs, result)
            return result
        layer, kind = self._layers[id(weight)]
        order = _TRANSPOSED_ORDER if "output_padding" in _OPTIONS.get(name, ()) else _CONV_ORDER
        given = {**dict(zip(order, args, strict=False)), **kwargs}
        options = {key: given.get(key, value) for key, value in _OPTIONS.get(name, {}).items()}
        index, run = self._seen.get(layer, 0), _with_input(func, args, kwargs)
        call = Call(layer, kind, index, given["input"], weight, given.get("bias"), options, run)
        self._seen[layer] = index + 1
        self._watcher.before(call)
        result = call.output()
        self._watcher.after(call, result)
        return result


def _with_input(function: Callable, args: tuple, kwargs: Mapping) -> Callable[[Tensor], Tensor]:
    """The op with all its arguments but the input."""
    if args:
        return lambda x, others=args[1:]: function(x, *others, **kwargs)
    others = {key: value for key, value in kwargs.items() if key != "input"}
    return lambda x: function(input=x, **others)


def _opened(function: FunctionType) -> FunctionType:
    """The same code, that does not hand itself over as a whole where somebody looks on."""
    look = {**function.__globals__, "has_torch_function": lambda _: False}
    return FunctionType(function.__code__, look, function.__name__, function.__defaults__, function.__closure__)


_OPENED = {F.multi_head_attention_forward: _opened(F.multi_head_attention_forward)}


def weights_of(network: nn.Module) -> dict[int, tuple[str, LayerKind]]:
    """The convs and linear layers of a network, by the identity of their weights; a shared weight has one name.

    The projection in front of an ``nn.MultiheadAttention`` has the name of its weight. Those that compute with their
    weight before the call (weight standardisation) are left out.
    """
    found: dict[int, tuple[str, LayerKind]] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            found.setdefault(id(module.in_proj_weight), (f"{name}.in_proj_weight".lstrip("."), LINEAR))
        kind = kind_of(module)
        if kind is not None and kind.makes_channels and not kind.own_forward:
            weight = module._parameters.get("weight")
            if weight is not None:
                found.setdefault(id(weight), (name, kind))
    return found
