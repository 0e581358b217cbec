"""A network run again after some of its weights were changed: what comes before them is not computed anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


class Replay:
    """Runs of one network on one batch, which differ in a few weights.

    The first run keeps what every op gives. Another one hands that out until an op comes that reads a changed weight,
    and computes from there on. A tensor that an op changes in place is made anew from its own beginning where that op
    is to run again. The network must run the same ops each time; where it does not, the rest is computed.

    Args:
        run: Runs the network on the batch.
        most_bytes: Of what is kept; the ops behind are always computed.
    """

    def __init__(self, run: Callable[[], Any], most_bytes: int = 2**30) -> None:
        self._run = run
        self._record = _Record(most_bytes)
        with self._record:
            self.result = run()  # of the network as it is

    @property
    def bytes(self) -> int:
        """Memory of what is kept."""
        return self._record.bytes

    def again(self, changed: Iterable[Tensor]) -> Any:
        """What the network gives now, where no other tensor than these was changed since."""
        begin = self._record.first(changed)
        if begin == 0:
            return self._run()
        with _HandOut(self._record, begin):
            return self._run()


class _Record(TorchFunctionMode):
    """Keeps what the ops of a run give, which op reads a tensor first, and which changes one in place."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self.functions: list[Callable] = []
        self.results: list[Any] = []  # of the first ops
        self.bytes = 0
        self._most_bytes = most_bytes
        self._count = 0
        self._read: dict[int, int] = {}  # where memory lies -> the first op that reads it
        self._made: dict[int, int] = {}  # -> the op that made it
        self._changed: dict[int, int] = {}  # -> the last op that changed it in place

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs, index = kwargs or {}, self._count
        read = [(tensor, place, tensor._version) for tensor, place in _placed((args, kwargs))]
        result = func(*args, **kwargs)
        self._count += 1
        for tensor, place, version in read:
            self._read.setdefault(place, index)
            if tensor._version != version:
                self._changed[place] = index
        if index == len(self.results):
            self._keep(func, result)
        return result

    def _keep(self, function: Callable, result: Any) -> None:
        places = {place: tensor for tensor, place in _placed(result) if place not in self._read}
        more = sum(tensor.untyped_storage().nbytes() for place, tensor in places.items() if place not in self._made)
        if self.bytes + more > self._most_bytes:
            return  # nor anything behind
        self.bytes += more
        for place in places:
            self._made.setdefault(place, len(self.results))
        self.functions.append(function)
        self.results.append(result)

    def first(self, changed: Iterable[Tensor]) -> int:
        """The op that a run has to begin with; 0 where it is not known which one reads a tensor."""
        places = [place for _, place in _placed(list(changed))]
        begin = min([len(self.results), *(self._read.get(place, 0) for place in places)])
        while True:
            earlier = [made for place, made in self._made.items() if made < begin <= self._changed.get(place, -1)]
            if not earlier:
                return begin
            begin = min(earlier)


class _HandOut(TorchFunctionMode):
    """Hands out what was kept of the ops before one of them."""

    def __init__(self, record: _Record, begin: int) -> None:
        super().__init__()
        self._record, self._begin, self._index = record, begin, 0

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        index, self._index = self._index, self._index + 1
        if index < self._begin and self._record.functions[index] == func:
            return self._record.results[index]
        self._begin = 0
        return func(*args, **(kwargs or {}))


def _placed(value: Any) -> Iterable[tuple[Tensor, int]]:
    """Tensors with the place of their memory; those without any, as of a sparse one, are left out."""
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
            yield leaf, leaf.untyped_storage().data_ptr()
