"""An op of a traced graph as a module that runs it alone, on tensors of any of its widths."""

from __future__ import annotations

import math
import weakref
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmrazor_lite.graph import Along, OpCall, TensorForm

MOST_BYTES = 2**26  # of weights that one op goes through in turns: more than caches hold
MOST_COPIES = 64
ARENA_BYTES = 2**27  # that the weights of all ops are parts of
LINE = 64  # bytes: where tensors begin
NUMBERS = 2**12  # different ones of a tensor


class OpRun(nn.Module):
    """Runs an op on random tensors; what it is called with counts for nothing.

    Inside a network, the weights of an op have left the fast memory since it ran last, as far as the network's are more
    than that holds. So it goes through several weights in turns, which together are as large as the network's. They are
    parts of one large tensor that all ops share, beginning at any place of it.

    Args:
        call: The op.
        channels: How many its axes have.
        images: That it runs on at a time.
        held_bytes: What the weights of the whole network take.
    """

    def __init__(self, call: OpCall, channels: Sequence[int], images: int = 1, held_bytes: int = 0) -> None:
        super().__init__()
        self.kind = call.kind
        self._op, self._channels, self._images = call.op, tuple(channels), images
        self._generator = torch.Generator().manual_seed(zlib.crc32(repr((call.key, self._channels)).encode()))
        weights = [form for form in _forms((call.args, list(call.kwargs.values()))) if form.is_weight]
        own = sum(math.prod(form.sizes(channels)) * form.dtype.itemsize for form in weights)
        copies = min(MOST_COPIES, min(held_bytes, MOST_BYTES) // own) if own else 1
        self._arena = _arena() if copies > 1 else None
        self._place = torch.randint(ARENA_BYTES, (), generator=self._generator).item()  # in bytes
        inputs: dict[int, str] = {}  # a tensor of images is the same one for all copies
        self._called = [
            ([self._made(arg, inputs) for arg in call.args], {k: self._made(v, inputs) for k, v in call.kwargs.items()})
            for _ in range(max(copies, 1))
        ]
        self._feeds = tuple(inputs.values())
        self._turn, self._ready = 0, []  # calls with tensors in the places of names

    @property
    def feeds(self) -> list[Tensor]:
        """What it reads of images."""
        return [self._buffers[name] for name in self._feeds]

    @property
    def weight_bytes(self) -> int:
        """Of one copy of its weights."""
        names = {name for name in _names(self._called[0]) if name not in self._feeds}
        return sum(self._buffers[name].numel() * self._buffers[name].element_size() for name in names)

    def on(self, *feeds: Tensor) -> Any:
        """What the op gives, with its first weights, of other tensors than :attr:`feeds`."""
        held = {**self._buffers, **dict(zip(self._feeds, feeds, strict=True))}
        args, kwargs = self._called[0]
        return self._op(*_tensors(args, held), **_tensors(kwargs, held))

    def forward(self, images: Tensor) -> Any:
        if not self._ready:  # the module has been moved to its device, its dtype and its layout meanwhile
            held = self._buffers
            self._ready = [(_tensors(args, held), _tensors(kwargs, held)) for args, kwargs in self._called]
        args, kwargs = self._ready[self._turn]
        self._turn = (self._turn + 1) % len(self._ready)
        return self._op(*args, **kwargs)

    def _made(self, value: Any, inputs: dict[int, str]) -> Any:
        """What an argument is; a tensor is a buffer of this module, by its name."""
        if isinstance(value, Along):
            return value.at(self._channels)
        if isinstance(value, (list, tuple)):
            return [self._made(part, inputs) for part in value]
        if not isinstance(value, TensorForm):
            return value
        if not value.is_weight and id(value) in inputs:
            return _Name(inputs[id(value)])
        name = f"tensor_{len(self._buffers)}"
        self.register_buffer(name, self._filled(value))
        if not value.is_weight:
            inputs[id(value)] = name
        return _Name(name)

    def _filled(self, form: TensorForm) -> Tensor:
        """Numbers that stay within bounds, also where an op writes into what it reads, again and again."""
        sizes = form.sizes(self._channels, self._images)
        order = form.order or range(len(sizes))
        shape = [sizes[dim] for dim in order]
        if not form.dtype.is_floating_point:
            tensor = torch.zeros(shape, dtype=form.dtype)
        elif form.is_weight and len(sizes) == 1:
            tensor = torch.ones(shape, dtype=form.dtype)  # a variance is one of these
        elif form.is_weight and self._arena is not None and form.dtype == torch.float32:
            tensor = self._next(math.prod(shape)).reshape(shape)
        else:
            tensor = _numbers(math.prod(shape)).to(form.dtype).reshape(shape)
        back = [list(order).index(dim) for dim in range(len(sizes))]
        return tensor.permute(back)

    def _next(self, count: int) -> Tensor:
        """So many numbers of the arena, behind those taken last."""
        if self._place + 4 * count > ARENA_BYTES:
            self._place = 0
        start = self._place // LINE * LINE // 4
        self._place = 4 * (start + count) + LINE - 1
        return self._arena[start : start + count]


_ARENAS: weakref.WeakValueDictionary[str, Tensor] = weakref.WeakValueDictionary()


def _arena() -> Tensor:
    """Numbers that are there as long as an op holds them."""
    found = _ARENAS.get("")
    if found is None:
        found = _ARENAS[""] = _numbers(ARENA_BYTES // 4)
    return found


def _numbers(count: int) -> Tensor:
    """So many numbers from 0.5 to 1.5, the same ones again and again."""
    few = torch.rand(NUMBERS, generator=torch.Generator().manual_seed(0)) + 0.5
    return few.repeat(-(-count // NUMBERS))[:count]


class _Name(str):
    """The name of a buffer, which is no text that an op is called with."""


def _forms(value: Any) -> Iterator[TensorForm]:
    if isinstance(value, TensorForm):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _forms(part)


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, _Name):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _names(part)
    elif isinstance(value, dict):
        yield from _names(list(value.values()))


def _tensors(value: Any, held: Mapping[str, Tensor]) -> Any:
    """Arguments with tensors in the places of their names."""
    if isinstance(value, _Name):
        return held[value]
    if isinstance(value, list):
        return [_tensors(part, held) for part in value]
    if isinstance(value, dict):
        return {name: _tensors(part, held) for name, part in value.items()}
    return value
