"""A network run again after some of its weights were changed: what comes before them is not computed anew."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map


class Replay:
    """Runs of one network on one batch, which differ in a few weights.

    Another run begins at the first op that reads a changed weight. What the network holds there is kept, as it is all
    that a run from there on needs; ops before that op hand it out, and of anything else its shape. So what is kept is
    never more than a forward pass holds. Where a run begins later than the one before, the way there is computed once;
    where it begins earlier, from the first op on.

    A tensor that an op changes in place is made anew from its own beginning where that op is to run again. The network
    must run the same ops each time; one that does not, or that runs ops which are not seen here, is computed whole.

    Args:
        run: Runs the network on the batch.
    """

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run
        self._trace = _Trace()
        with self._trace:
            self.result = run()  # of the network as it is
        self._trace.end()
        self._at = 0  # the op that a run can begin at
        self._held: list[Any] = []  # what the ops before it give

    @property
    def bytes(self) -> int:
        """Memory of what is kept."""
        places = {leaf.untyped_storage().data_ptr(): leaf.untyped_storage().nbytes() for leaf in _strided(self._held)}
        return sum(places.values())

    def first(self, changed: Iterable[Tensor]) -> int:
        """The op that a run begins at where these tensors were changed; 0 where it is not known which one reads one."""
        return self._trace.first(changed)

    def again(self, changed: Iterable[Tensor]) -> Any:
        """What the network gives now, where no other tensor than these was changed since."""
        begin = self.first(changed)
        if begin == self._trace.count:
            return self.result
        try:
            self._go_to(begin)
            if begin == 0:
                return self._run()
            with _HandOut(self._trace.functions, self._held):
                return self._run()
        except _OtherOps:
            self._trace.known = self._at = 0
            self._held = []
            return self._run()

    def _go_to(self, begin: int) -> None:
        """Keep what the network holds before an op."""
        if begin < self._at:
            self._at, self._held = 0, []
        if begin > self._at:
            walk = _Walk(self._trace.functions, self._held, begin)
            self._held = []  # the walk lets go of what the network lets go of
            try:
                with walk:
                    self._run()
                raise _OtherOps
            except _There:
                self._at, self._held = begin, walk.held


class _There(BaseException):
    """Raised where a walk ends; no network is to catch it."""


class _OtherOps(BaseException):
    """Raised where a network runs other ops than it did."""


class _Trace(TorchFunctionMode):
    """Which ops a run has, which of them reads a tensor first, and which changes one in place.

    Attributes:
        functions: Of the ops.
        known: So many of the first ops may be handed out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.functions: list[Callable] = []
        self.known: int | None = None
        # by memory; a weak reference keeps the identity of what is freed from being used again
        self._read: dict[StorageWeakRef, int] = {}  # -> the first op that reads it
        self._made: dict[StorageWeakRef, int] = {}  # -> the op that made it
        self._changed: dict[StorageWeakRef, int] = {}  # -> the last op that changed it in place

    @property
    def count(self) -> int:
        return len(self.functions)

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs, index = kwargs or {}, self.count
        read = [(tensor, _memory(tensor), tensor._version) for tensor in _strided((args, kwargs))]
        result = func(*args, **kwargs)
        self.functions.append(func)
        for tensor, memory, version in read:
            self._read.setdefault(memory, index)
            if tensor._version != version:
                self._changed[memory] = index
        for tensor in _strided(result):
            memory = _memory(tensor)
            if memory not in self._read:
                self._made.setdefault(memory, index)
        if self.known is None and any(isinstance(leaf, Iterator) for leaf in tree_leaves(result)):
            self.known = index  # what is used up cannot be handed out twice
        return result

    def end(self) -> None:
        """Say that the run is over. What it has read, not made, and let go of is of ops that are not seen."""
        unseen = any(memory.expired() for memory in self._read.keys() - self._made.keys())
        self.known = 0 if unseen else self.count if self.known is None else self.known

    def first(self, changed: Iterable[Tensor]) -> int:
        """The op that a run has to begin with."""
        begin = min([self.known, *(self._read.get(_memory(tensor), 0) for tensor in _strided(list(changed)))])
        while True:
            earlier = [made for memory, made in self._made.items() if made < begin <= self._changed.get(memory, -1)]
            if not earlier:
                return begin
            begin = min(earlier)


class _HandOut(TorchFunctionMode):
    """Hands out what the first ops give, and computes the others."""

    def __init__(self, functions: list[Callable], held: list[Any]) -> None:
        super().__init__()
        self._functions, self._held, self._index = functions, held, 0

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        index, self._index = self._index, self._index + 1
        if index >= len(self._held):
            return func(*args, **(kwargs or {}))
        if self._functions[index] != func:
            raise _OtherOps
        return self._held[index]


class _Walk(TorchFunctionMode):
    """Runs a network from where another walk has ended up to an op, and finds what it holds there.

    Args:
        functions: Of the ops.
        held: What the first ops give.
        until: The op where the walk ends, before it is computed.
    """

    def __init__(self, functions: list[Callable], held: list[Any], until: int) -> None:
        super().__init__()
        self.held: list[Any] = []  # at the end: what the network still holds of what the ops before gave, or its shape
        self._functions, self._given, self._until = functions, held[::-1], until
        self._seen: list[Any] = []  # what ops gave, without holding it

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        if len(self._seen) == self._until:
            self.held = tree_map(_Seen.now, self._seen)
            raise _There
        if self._functions[len(self._seen)] != func:
            raise _OtherOps
        result = self._given.pop() if self._given else func(*args, **(kwargs or {}))
        self._seen.append(tree_map(_Seen, result))
        return result


class _Seen:
    """A tensor that is not kept from being freed; its shape and type are known. Anything else is held."""

    def __init__(self, value: Any) -> None:
        self._weak = isinstance(value, Tensor) and value.layout == torch.strided
        self._value = weakref.ref(value) if self._weak else value
        if self._weak:
            self._shape, self._like = value.shape, {"dtype": value.dtype, "device": value.device}

    def now(self) -> Any:
        """The value, or what has no memory but its shape."""
        if not self._weak:
            return self._value
        tensor = self._value()
        return torch.zeros((), **self._like).expand(self._shape) if tensor is None else tensor


def _strided(value: Any) -> Iterable[Tensor]:
    """Tensors that have a memory; not those without any, as sparse ones."""
    return (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.layout == torch.strided)


def _memory(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())
