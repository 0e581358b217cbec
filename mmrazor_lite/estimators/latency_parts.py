"""What a latency table has to measure: the parts of a space, each distinct one once, and whole networks.

A job is known by a key made of what decides about its time, so equal parts share one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet import SearchSpace

from .cells import Axis, axis_size

KNOTS = 9  # widths of an operator that are measured; those between are interpolated
_PLAIN = (bool, int, float, str, tuple, list, type(None))


@runtime_checkable
class HasParts(Protocol):
    """A mutator whose network has parts that can be made and run alone."""

    def part(self, name: str, subnet: Mapping[str, Any]) -> nn.Module: ...


@dataclass(frozen=True)
class Job:
    """One measurement: how to make the module, the (C, H, W) that it reads, and words for people."""

    make: Callable[[], nn.Module]
    size: tuple[int, ...]
    label: str


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a network, the choices that it depends on, and the keys of its jobs over their candidates.

    Where operators have widths of their own (a shared last axis of O operators), only some are measured: ``knots``
    (O, KNOTS) are their indices, ascending, and the last axis of ``keys`` runs over them.
    """

    name: str
    choices: tuple[Axis, ...]
    keys: np.ndarray
    knots: np.ndarray | None = None

    def values(self, times: Mapping[str, float], space: SearchSpace) -> np.ndarray:
        """Milliseconds over the candidates of all choices, from those of each key.

        Between measured widths they are interpolated, and never fall as the width grows; beyond an operator's last
        width they are NaN.
        """
        found = np.array([times[key] for key in self.keys.flat]).reshape(self.keys.shape)
        if self.knots is None:
            return found
        full = np.full((*found.shape[:-1], axis_size(space, self.choices[-1])), math.nan)
        rising = np.maximum.accumulate(found, axis=-1)
        for index in np.ndindex(found.shape[:-1]):
            knots = self.knots[index[-1]]
            widths = np.arange(knots[-1] + 1)
            full[index][: len(widths)] = np.interp(widths, knots, rising[index])
        return full


def add_job(jobs: dict[str, Job], job: Job, content: Any) -> str:
    """Let a job join the others, unless one of them measures the same; return its key.

    Args:
        jobs: Key -> job.
        job: The new one.
        content: Plain data that says, with the size, what decides about its time.
    """
    key = hashlib.sha256(repr((job.size, content)).encode()).hexdigest()[:16]
    jobs.setdefault(key, job)
    return key


def plan_nothing(jobs: dict[str, Job]) -> str:
    """The key of a module that does nothing: what a run takes beside its work."""
    return add_job(jobs, Job(nn.Identity, (1, 1, 1), "nothing"), "nothing")


def plan_networks(mutator: Any, jobs: dict[str, Job], groups: Sequence[np.ndarray]) -> list[list[str]]:
    """The keys of whole networks, given as groups of rows (S, D), each at its resolution; their jobs join ``jobs``."""
    space = mutator.search_space
    largest = _structure(mutator.export(space.max()))
    column, (channels, *image) = _resolution_column(space), mutator.input_shape
    found = []
    for rows in groups:
        found.append([])
        for row in rows:
            subnet = space.subnet(row)
            size = image if column is None else [mutator.resolutions[row[column]]] * 2
            job = Job(_maker(mutator.export, subnet), (channels, *size), "network")
            found[-1].append(add_job(jobs, job, (largest, sorted(subnet.items()))))
    return found


def draw_networks(space: SearchSpace, for_base: int, checks: int, seed: int) -> list[np.ndarray]:
    """``for_base`` random rows at each resolution, in order, and at last ``checks`` at any."""
    rng, column = np.random.default_rng([seed, 1]), _resolution_column(space)
    if column is None:
        return [space.sample_indices(rng, for_base), space.sample_indices(rng, checks)]
    found = []
    for index in range(len(list(space.values())[column].candidates)):
        found.append(space.sample_indices(rng, for_base))
        found[-1][:, column] = index
    return [*found, space.sample_indices(rng, checks)]


def plan_parts(mutator: Any, jobs: dict[str, Job]) -> list[Part]:
    """The parts of the space of a prepared ``NasMutator``; their jobs join ``jobs``.

    Depth makes no difference to a part: it says which of them run.

    Raises:
        UserError: A part lies inside of another one, whose time would be counted twice.
    """
    names = [cell.name for cell in mutator.cost_model.cells.cells if cell.name]
    for inner, outer in ((inner, outer) for outer in names for inner in names if inner.startswith(f"{outer}.")):
        raise UserError(
            f"'{inner}' lies inside of '{outer}', which may be left out: a latency table would count its time twice; "
            "give the stage one depth, or make the whole block one choice"
        )
    space, sizes, found = mutator.search_space, sizes_of(mutator), []
    for cell in mutator.cost_model.cells.cells:
        if not cell.name:  # what is always there
            continue
        choices = [axis for axis in cell.choices if _kind(space, axis) != "depth"]
        own = [axis for axis in choices if _kind(space, axis) != "resolution"]
        plain, knots = [axis for axis in own if isinstance(axis, str)], None
        shape = [len(space[name].candidates) for name in plain]
        if plain != own:
            knots = _knots(space, plain[-1], own[-1])
            shape.append(KNOTS)
        keys = np.empty((len(sizes), *shape), dtype=object)
        for index in np.ndindex(keys.shape[1:]):
            chosen = {name: space[name].candidates[i] for name, i in zip(plain, index, strict=False)}
            chosen |= {} if knots is None else _width_of(space, chosen, own[-1], knots[index[-2:]])
            make = _maker(mutator.part, cell.name, {**space.max(), **chosen})
            content, label = _structure(make()), " ".join([cell.name, *(str(value) for value in chosen.values())])
            for position, size in enumerate(sizes):
                keys[(position, *index)] = add_job(jobs, Job(make, size[cell.name], label), content)
        found.append(Part(cell.name, tuple(choices), keys[0] if own == choices else keys, knots))
    return found


def _kind(space: SearchSpace, axis: Axis) -> str:
    return space[axis if isinstance(axis, str) else axis[0]].kind


def _knots(space: SearchSpace, operator: str, widths: tuple[str, ...]) -> np.ndarray:
    """The widths to measure of each candidate of an operator choice: (O, KNOTS) indices; zeros where there is none."""
    knots = np.zeros((len(space[operator].candidates), KNOTS), np.int64)
    for name in widths:
        last = len(space[name].candidates) - 1
        knots[space[operator].candidates.index(space[name].active_if[1][0])] = np.linspace(0, last, KNOTS).round()
    return knots


def _width_of(space: SearchSpace, chosen: Mapping, widths: tuple[str, ...], index: int) -> dict[str, int]:
    """The width choice that matters beside ``chosen``, at one of its candidates."""
    rules = {name: space[name].active_if for name in widths}
    return {
        name: space[name].candidates[int(index)] for name, (parent, values) in rules.items() if chosen[parent] in values
    }


def sizes_of(mutator: Any) -> list[dict[str, tuple[int, ...]]]:
    """The (C, H, W) that each part reads, at each resolution; from runs of the smallest network of full depth."""
    space = mutator.search_space
    row = np.array([len(c.candidates) - 1 if c.kind == "depth" else 0 for c in space.values()])
    network = mutator.export(space.subnet(row)).eval()
    names = [cell.name for cell in mutator.cost_model.cells.cells if cell.name]
    channels, *image = mutator.input_shape
    found: list[dict[str, tuple[int, ...]]] = []

    def record(name: str, x: Tensor) -> None:
        found[-1][name] = tuple(x.shape[1:])

    for name in names:
        network.get_submodule(name).register_forward_pre_hook(lambda _, args, name=name: record(name, args[0]))
    parameter = next(network.parameters())
    for size in [[r, r] for r in mutator.resolutions or ()] or [image]:
        found.append({})
        with torch.no_grad():
            network(torch.zeros((1, channels, *size)).to(parameter))
    return found


def _resolution_column(space: SearchSpace) -> int | None:
    return next((column for column, choice in enumerate(space.values()) if choice.kind == "resolution"), None)


def _maker(build: Callable[..., nn.Module], *args: Any) -> Callable[[], nn.Module]:
    return lambda: build(*args)


def _structure(module: nn.Module) -> list[tuple]:
    """What decides about time: types, plain attributes and the shapes of parameters, of all modules inside."""
    found = []
    for name, part in module.named_modules():
        plain = {key: value for key, value in vars(part).items() if isinstance(value, _PLAIN) and key != "training"}
        shapes = {key: tensor if tensor is None else tuple(tensor.shape) for key, tensor in part._parameters.items()}
        found.append((name, f"{type(part).__module__}.{type(part).__qualname__}", plain, shapes))
    return found
