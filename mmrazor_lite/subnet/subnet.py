"""One candidate picked for every choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmrazor_lite.subnet.choice import Value, plain_scalar

_SHOWN = 3


class Subnet(Mapping[str, Value]):
    """An immutable mapping from the name of a choice to the candidate picked for it.

    Two subnets are equal when they pick the same, in whatever order it was written; equal subnets have one hash. It
    knows nothing of its space: :meth:`SearchSpace.validate` judges it.

    Args:
        choices: Name to value; numpy numbers become plain ones.
    """

    __slots__ = ("_choices", "_hash")

    def __init__(self, choices: Mapping[str, Any]) -> None:
        values = {str(name): plain_scalar(value) for name, value in choices.items()}
        object.__setattr__(self, "_choices", values)
        object.__setattr__(self, "_hash", hash(frozenset(values.items())))

    def __getitem__(self, name: str) -> Value:
        return self._choices[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self._choices == other._choices if isinstance(other, Subnet) else NotImplemented

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Subnet cannot be changed (tried to set '{name}'); make a new one")

    def __reduce__(self) -> tuple:
        # Hashes of text differ between processes, so a pickled subnet is built anew.
        return Subnet, (self._choices,)

    def __repr__(self) -> str:
        shown = [f"{name}={value}" for name, value in list(self._choices.items())[:_SHOWN]]
        rest = len(self) - len(shown)
        return f"Subnet({', '.join(shown)}{f', and {rest} more' if rest else ''})"

    def to_dict(self) -> dict[str, Value]:
        """A new plain dictionary, in the order in which the subnet was made."""
        return dict(self._choices)
