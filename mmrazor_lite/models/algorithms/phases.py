"""The phases of progressive shrinking: which part of an elastic space each one trains, and what it starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.subnet import Choice, SearchSpace, Subnet

TEACHER, KERNEL, DEPTH, EXPAND = "teacher", "kernel", "depth", "expand"
SUBNETS_PER_STEP = {TEACHER: 1, KERNEL: 1, DEPTH: 2, EXPAND: 4}  # of the authors' train_ofa_net.py
_SUFFIX = {KERNEL: ".kernel_size", DEPTH: ".depth", EXPAND: ".expand_ratio"}


class Phase:
    """One phase: ``teacher``, ``kernel``, ``depth_1`` ..., ``expand_1`` ..., in this order.

    The teacher is the max subnet. ``kernel`` adds all kernels; ``depth_k`` the k depths below the largest as well, at
    the largest ratio; ``expand_k`` all depths and the k ratios below the largest. Resolutions are elastic in all.

    Source: Once-for-All, arXiv:1908.09791, section 3.3 and figure 4; ``train_ofa_net.py`` of its authors.

    Args:
        name: The phase.
        space: The search space.

    Raises:
        UserError: There is no such phase in the space.
    """

    def __init__(self, name: str, space: SearchSpace) -> None:
        names = phases_of(space)
        if name not in names:
            raise UserError(
                f"algorithm.phase={name!r} is unknown{nearest(str(name), names)}; the phases of this space, in "
                f"order: {', '.join(names)}"
            )
        self.name, self.full = name, space
        self.before = names[names.index(name) - 1] if name != TEACHER else None
        self.kind, _, number = name.partition("_")
        self.number = int(number or 0)
        self.space = SearchSpace(_restricted(space, self._kept))

    @property
    def subnets_per_step(self) -> int:
        """As published."""
        return SUBNETS_PER_STEP[self.kind]

    def _kept(self, choice: Choice) -> Sequence:
        """The candidates of a choice that the phase trains."""
        order = [TEACHER, KERNEL, DEPTH, EXPAND]
        for kind, suffix in _SUFFIX.items():
            if choice.name.endswith(suffix):
                if order.index(self.kind) > order.index(kind) or self.kind == kind == KERNEL:
                    return choice.candidates
                return choice.candidates[-1 - (self.number if self.kind == kind else 0) :]
        return choice.candidates

    def sample(self, rng: np.random.Generator, resolution: int | None = None) -> Subnet:
        """Draw a subnet of the phase, every choice uniformly."""
        return self._whole(self.space.sample(rng), resolution)

    def max(self) -> Subnet:
        """The largest subnet of the phase."""
        return self._whole(self.space.max())

    def min(self) -> Subnet:
        """The smallest subnet of the phase."""
        return self._whole(self.space.min())

    def trained(self, suffix: str) -> dict[str, Sequence]:
        """The candidates that the phase before has trained, of each choice whose name ends so."""
        before = Phase(self.before, self.full).space
        return {name: before[name].candidates for name in self.space if name.endswith(suffix)}

    def _whole(self, subnet: Subnet, resolution: int | None = None) -> Subnet:
        """The same as a subnet of the full space."""
        fixed = {} if resolution is None else {"resolution": resolution}
        return self.full.subnet(self.full.index({**subnet, **fixed}))


def phases_of(space: SearchSpace) -> list[str]:
    """The phases of an elastic space, in order."""
    counts = {
        kind: max((len(c.candidates) for name, c in space.items() if name.endswith(suffix)), default=1)
        for kind, suffix in _SUFFIX.items()
    }
    names = [TEACHER, *([KERNEL] if counts[KERNEL] > 1 else [])]
    for kind in (DEPTH, EXPAND):
        names += [f"{kind}_{number}" for number in range(1, counts[kind])]
    return names


def _restricted(space: Mapping[str, Choice], kept_of: Callable[[Choice], Sequence]) -> list[Choice]:
    """The choices with the candidates that are kept; what can only matter at others goes with them."""
    kept = {name: tuple(kept_of(choice)) for name, choice in space.items()}
    choices = []
    for name, choice in space.items():
        rule = choice.active_if
        if rule is not None:
            parent, values = rule
            rule = (parent, tuple(value for value in values if value in kept[parent]))
        choices.append(replace(choice, candidates=kept[name], active_if=rule))
    return choices
