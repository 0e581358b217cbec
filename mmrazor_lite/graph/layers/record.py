"""What a kind of layer is, in one record: all that treats kinds of layers differently reads it here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import nn

from mmrazor_lite.errors import UserError, short

if TYPE_CHECKING:
    from ..groups import WidthGraph
    from ..propagate import Propagation, Value
    from ..trace import Op
    from .rows import LayerRow

Follow = Callable[["Propagation", "Op"], "Value"]
Rows = Callable[["Op", "WidthGraph", int], Iterable["LayerRow"]]
Number = Callable[[Mapping[str, Any], int, int], Any]  # (full values, active inputs, active outputs) -> active value
Mask = Literal["zero", "leave out"]


@dataclass(frozen=True)
class LayerKind:
    """A kind of layer: its modules, the op that is their call, and what a smaller width means for both.

    Attributes:
        name: Of the kind.
        types: Its classes; of packages that need not be there, their dotted names. A subclass is of the kind of its
            nearest base class that has one.
        ops: Names of its call in a traced graph, such as ``'conv2d'`` of aten, or ``'namespace::name'``.
        follow: How channels go through the call: a function of ``flow.py``, or one like them.
        rows: What the call costs, ``(op, graph, images) -> rows``: a function of ``rows.py``, or one like them. None
            for what the op costs anyway.
        tensors: Parameter or buffer -> the side that each of its first dimensions follows: ``'inputs'`` or
            ``'outputs'``; with ``'/groups'`` behind it, only where the layer has one group.
        numbers: Plain attribute -> its value for (full values of all of them, active inputs, active outputs).
        mask: How the full network shows what a smaller one computes (``models/mutators/check.py``): a layer that sums
            over its inputs has zeros for what is dropped, one that takes statistics over them leaves it out. None for
            a layer that works on each channel by itself.
        dim: Of the channels in what the call reads and gives.
        own_forward: Its forward computes with its tensors before the call, or is code around it. The call is then
            known by the module that runs it, ops inside may read its tensors, and the full network has the layer on
            its active channels where it runs: no ``mask`` is needed.
        has_statistics: It keeps running statistics of its channels.
        exports_as: Class -> the class that an export has in its place.
    """

    name: str
    types: tuple[type[nn.Module] | str, ...]
    ops: tuple[str, ...]
    follow: Follow
    rows: Rows | None = None
    tensors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: Mapping[str, Number] = field(default_factory=dict)
    mask: Mask | None = None
    dim: int = 1
    own_forward: bool = False
    has_statistics: bool = False
    exports_as: Mapping[type[nn.Module], type[nn.Module]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what nothing would read.

        Raises:
            UserError: A field has a value that it cannot have.
        """
        sides = {side for follows in self.tensors.values() for side in follows}
        problems = {
            "types": not isinstance(self.types, tuple) or not all(isinstance(cls, (type, str)) for cls in self.types),
            "ops": not isinstance(self.ops, tuple) or not all(isinstance(op, str) for op in self.ops),
            "tensors": not sides <= {f"{side}{end}" for side in ("inputs", "outputs") for end in ("", "/groups")},
            "numbers": not all(callable(rule) for rule in self.numbers.values()),
            "mask": self.mask not in (None, *get_args(Mask)),
            "dim": self.dim not in (1, -1),
        }
        wrong = next((name for name, is_wrong in problems.items() if is_wrong), None)
        if wrong is not None:
            raise UserError(
                f"kind of layer '{self.name}': {wrong}={short(getattr(self, wrong))} cannot be; see LayerKind"
            )

    @property
    def makes_channels(self) -> bool:
        """Whether its outputs are new channels; else they are those it reads."""
        return any(side.startswith("inputs") for sides in self.tensors.values() for side in sides)

    def is_grouped(self, module: nn.Module) -> bool:
        """Whether a layer of this kind has several groups: their number varies, the width of each stays."""
        return any(getattr(module, name) > 1 for name in ("groups", "num_groups") if name in self.numbers)

    def sides(self, module: nn.Module) -> dict[str, tuple[tuple[int, str], ...]]:
        """The (dimension, side) pairs that each tensor of a layer of this kind follows."""
        grouped = self.is_grouped(module)
        return {
            name: tuple(
                (dim, side.removesuffix("/groups"))
                for dim, side in enumerate(sides)
                if not (grouped and side.endswith("/groups"))
            )
            for name, sides in self.tensors.items()
        }


def _dotted(cls: type | str) -> str:
    return cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}"


class LayerKinds:
    """The kinds that are known, by the classes of their modules and by their ops."""

    def __init__(self) -> None:
        self._by_type: dict[type | str, LayerKind] = {}
        self._by_op: dict[str, LayerKind] = {}
        self._found: dict[type, LayerKind | None] = {}

    def register(self, kind: LayerKind) -> LayerKind:
        """Add a kind. An op that several have is treated as the first one's where no module of a kind runs it.

        Raises:
            UserError: One of its classes is of another kind, under its dotted name too; or another kind has its name.
        """
        taken = {_dotted(cls): known for cls, known in self._by_type.items()}
        for cls in kind.types:
            if _dotted(cls) in taken:
                raise UserError(f"kind of layer '{kind.name}': {cls} is of kind '{taken[_dotted(cls)].name}' already")
        if any(known.name == kind.name for known in taken.values()):
            raise UserError(f"kind of layer '{kind.name}': the name is taken by another kind; give yours another")
        self._by_type.update(dict.fromkeys(kind.types, kind))
        for op in kind.ops:
            self._by_op.setdefault(op, kind)
        self._found.clear()
        return kind

    def of(self, module: nn.Module | None) -> LayerKind | None:
        """The kind of a layer, None for any other module."""
        cls = type(module)
        if cls not in self._found:
            names = [name for base in cls.__mro__ for name in (base, _dotted(base))]
            self._found[cls] = next((self._by_type[name] for name in names if name in self._by_type), None)
        return self._found[cls]

    def of_op(self, op: str) -> LayerKind | None:
        """The first kind that has an op for its call."""
        return self._by_op.get(op)


LAYER_KINDS = LayerKinds()
kind_of = LAYER_KINDS.of
