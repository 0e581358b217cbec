"""The choice modules of a network: what each offers, in the names of the whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.cells import Axis
from mmrazor_lite.models.mutables import ITSELF, ChoiceModule, Offer, has_static_form
from mmrazor_lite.subnet import Choice, Stage
from mmrazor_lite.subnet.choice import Value

# What comes first in a space: rows, random draws and files follow this order. Other kinds come behind.
ORDER = {"operator": 0, "depth": 1}


Gate = tuple[Choice, tuple[Value, ...]]  # what decides whether a module runs, and with which values it does


@dataclass(frozen=True, eq=False)
class Place:
    """A choice module in a network.

    Attributes:
        name: Where it is.
        module, offer: Itself, and what it offers.
        gates: What decides whether it runs, outermost first.
        choices: The choices by their names in the module, as the space has them.
        children: What decides whether those of its children run that may not.
    """

    name: str
    module: ChoiceModule
    offer: Offer
    gates: tuple[Gate, ...]
    choices: Mapping[str, Choice]
    children: Mapping[str, Gate]

    def activate(self, subnet: Mapping[str, Value]) -> None:
        """Let it run as in a subnet, which may leave out what does not matter."""
        self.module.activate({own: subnet.get(c.name, c.candidates[0]) for own, c in self.choices.items()})

    @property
    def deciding(self) -> list[str]:
        """The choices that decide about the form, by their names in the module."""
        setting = {inner.choice for inner in self.offer.inner.values()}
        return [own for own in self.choices if own not in setting]

    def form_values(self) -> Iterator[dict[str, Any]]:
        """Values of all choices with which the module has one form after the other."""
        first = {own: choice.candidates[0] for own, choice in self.choices.items()}
        for values in itertools.product(*(self.choices[own].candidates for own in self.deciding)):
            yield first | dict(zip(self.deciding, values, strict=True))

    def width_axes(self) -> list[Axis]:
        """The choices that set widths; those with a condition, of which at most one matters, are one axis."""
        setting = [choice for choice in self.offer.choices if choice.name not in self.deciding]
        shared = tuple(self.choices[choice.name].name for choice in setting if choice.active_if is not None)
        alone = [self.choices[choice.name].name for choice in setting if choice.active_if is None]
        return [*alone, shared] if shared else alone


def places_in(network: nn.Module, any_width: bool = False) -> list[Place]:
    """The modules of a network that have something to choose, in the order of their choices in a space.

    Args:
        any_width: Offer every width up to the full one instead of the declared ones.
    """
    modules = _choice_modules(network)
    offers = {name: offer for name, module in modules.items() if (offer := module.offer()).choices}
    gates: dict[str, Gate] = {}
    found = []
    for name, offer in offers.items():  # what is outside comes before what is inside
        parts = name.split(".")
        above = [gates[path] for i in range(len(parts)) if (path := ".".join(parts[: i + 1])) in gates]
        choices = {choice.name: _named(choice, name, above, any_width) for choice in offer.choices}
        runs = {}
        for position, child in enumerate(offer.stage):
            (depth,) = choices.values()
            values = tuple(value for value in depth.candidates if value > position)
            runs |= {within(name, child): (depth, values)} if len(values) < len(depth.candidates) else {}
        gates |= runs
        found.append(Place(name, modules[name], offer, tuple(above), choices, runs))
    return sorted(found, key=lambda place: ORDER.get(place.offer.choices[0].kind, len(ORDER)))


def _choice_modules(network: nn.Module) -> dict[str, ChoiceModule]:
    """The choice modules by their names.

    Raises:
        UserError: One stands in two places, whose costs would be those of one; or says what it offers and not the rest.
    """
    found: dict[str, ChoiceModule] = {}
    names: dict[int, str] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        if has_static_form(module) and isinstance(module, ChoiceModule):
            if names.setdefault(id(module), name) != name:
                raise UserError(
                    f"NasMutator: '{names[id(module)]}' and '{name}' are one module; give each place its own"
                )
            found[name] = module
        elif callable(getattr(module, "offer", None)):
            lacking = [method for method in ("activate", "settled") if not hasattr(module, method)]
            raise UserError(
                f"NasMutator: '{name}' ({type(module).__name__}) offers choices without {', '.join(lacking)}"
            )
    return found


def stages_in(network: nn.Module) -> list[Stage]:
    """The stages of a network, in order."""
    found = []
    for name, module in network.named_modules():
        offers = has_static_form(module) and isinstance(module, ChoiceModule)
        offer = module.offer() if offers else Offer()
        if offer.stage:
            depth = within(name, offer.choices[0].name) if offer.choices else None
            found.append(Stage(name, tuple(within(name, child) for child in offer.stage), depth))
    return found


def _named(choice: Choice, module: str, gates: Sequence[Gate], any_width: bool) -> Choice:
    """A choice of a module as the space has it."""
    rule = (gates[-1][0].name, gates[-1][1]) if gates else None
    if choice.active_if is not None:
        rule = (within(module, choice.active_if[0]), choice.active_if[1])
    every = any_width and choice.kind == "width"
    candidates = range(1, choice.candidates[-1] + 1) if every else choice.candidates
    return replace(choice, name=within(module, choice.name), candidates=candidates, active_if=rule)


def within(module: str, own: str) -> str:
    """The name in the network of something inside of a module."""
    return module if own == ITSELF else f"{module}.{own}"
