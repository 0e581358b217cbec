"""What a module offers that carries choices; a mutator asks nothing else of it.

A new kind of choice is a module that offers this: placed in a network, it is searched, counted and exported as ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, runtime_checkable

from torch import nn

from mmrazor_lite.subnet import Choice
from mmrazor_lite.subnet.choice import Value

ITSELF = "."  # the name of the choice that has the name of its module


@dataclass(frozen=True)
class InnerWidths:
    """The layers inside a form whose widths a choice sets.

    Attributes:
        choice: Its name, as in :class:`Offer`. One of kind ``width`` is the width of all of ``groups``.
        groups: Layers that share a width, as groups of a width mutator (``dict(out=[...], into=[...])``) with names
            inside the form.
        widths: Of a choice of another kind: its candidates, and the width of each of ``groups`` with them.
    """

    choice: str
    groups: Sequence[Mapping[str, Sequence[str]]]
    widths: Mapping[Value, Sequence[int]] = field(default_factory=dict)

    def at(self, value: Value, number: int) -> Sequence[int]:
        """The width of each of ``number`` groups with a candidate."""
        return self.widths[value] if self.widths else (value,) * number


@dataclass(frozen=True)
class Offer:
    """The choices of a module. All names in it are names inside the module; ``'.'`` is the module itself.

    Attributes:
        choices: In order; none where there is nothing to choose. With the first candidates of all of them, the module
            is as small as it can be. A width is conditional on a candidate where only this one has it.
        inner: Where in the module a form lies (``'.'``: it is all of it) -> its inner widths. The choices that set none
            decide about the form: each combination of their candidates is traced for its costs.
        stage: Its children in order, where it runs the first ones of them; its choice, if it has one, says how many. Of
            such a module no form is traced: its children are what costs.
        out_channels: Of what it gives, where files of subnets say it.
        alias: Another name of its first choice, in the files of other tools.
    """

    choices: Sequence[Choice] = ()
    inner: Mapping[str, InnerWidths] = field(default_factory=dict)
    stage: Sequence[str] = ()
    out_channels: int | None = None
    alias: str | None = None


@runtime_checkable
class HasStaticForm(Protocol):
    """A module that leaves a plain one behind in an exported network."""

    def settled(self) -> nn.Module:
        """The plain module in its place, as it is active now: a part of it, a new one, or itself.

        It is asked of a copy, which may be taken apart. What it holds is settled after it.
        """


def has_static_form(module: nn.Module) -> bool:
    """Whether a module is a :class:`HasStaticForm`; asked of every module of a network, so its class is asked once."""
    return _has_static_form(type(module))


@lru_cache(maxsize=4096)
def _has_static_form(kind: type) -> bool:
    return issubclass(kind, HasStaticForm)


@runtime_checkable
class RunsOnePart(HasStaticForm, Protocol):
    """A module whose static form is a part of it, so that an export need not copy the others."""

    @property
    def chosen(self) -> nn.Module:
        """The part that runs now."""


@runtime_checkable
class ChoiceModule(HasStaticForm, Protocol):
    """A module that carries choices. It takes one tensor and gives one, of one shape whatever is chosen."""

    def offer(self) -> Offer:
        """What there is to choose; always the same."""

    def activate(self, values: Mapping[str, Value]) -> None:
        """Let it run with ``values``: a candidate of each of its choices. No weight is copied.

        Inner widths are set beside this, by slices of the layers.
        """
