"""A network is prepared once, and wholly or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from weakref import WeakSet

from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.ops import SwitchableBatchNorm, active_of

# Modules whose choices a mutator holds. A copy of one is another module: an exported subnet may be prepared again.
_HELD: WeakSet[nn.Module] = WeakSet()


@contextmanager
def preparation(architecture: nn.Module, undo: Callable[[], None]) -> Iterator[None]:
    """Refuse a network in which a mutator holds choices already; call ``undo`` where the block fails.

    Two mutators would each believe that its own subnet is the active one, and the second would take the slices of the
    first for whole layers.
    """
    for name, module in architecture.named_modules():
        if module in _HELD or active_of(module) is not None or isinstance(module, SwitchableBatchNorm):
            part = f"its part '{name}' is" if name else "it is"
            raise UserError(
                f"{type(architecture).__name__} cannot be prepared: {part} prepared already, by a mutator that holds "
                "its choices; use that mutator, prepare what its export() gives, or build the network anew"
            )
    try:
        yield
    except BaseException:
        undo()
        raise


def hold(modules: Iterable[nn.Module]) -> None:
    """Remember that the choices in ``modules`` are held by a mutator."""
    _HELD.update(modules)
