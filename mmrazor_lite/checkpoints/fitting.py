"""The weights of a file under the names of a model, and what was done to make them fit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError

from .classifier_weights import classifier_of
from .integrity import check_numbers
from .mmrazor_names import beside_the_network, order_in_doubt, told_left_out
from .norm_sets import norms_in_one_place
from .weight_names import COUNTER, Reading, readings, short_names, short_weights, under, way_out

_SHOWN = 5
_OTHER_NAMES = "use the network they were made for, or save them under these names"
_AFFINE = (".weight", ".bias")


@runtime_checkable
class InParts(Protocol):
    """A module that holds several times, or parts of, what a file may have once."""

    def share_out(self, tensors: dict[str, Tensor], prefix: str) -> bool:
        """Put the parts of this module, whose name is ``prefix``, in the place of the whole; tell if any was cut."""


@runtime_checkable
class OfSubnets(Protocol):
    """A model of several subnets, each of which uses the first units of its layers and no others."""

    def used_shapes(self) -> Mapping[str, Sequence[int]]:
        """Of each weight, by its name, the largest shape that a subnet uses; not of those with one for each subnet."""


class MisfitError(UserError):
    """The weights of a file are of another network.

    Attributes:
        problem: What differs, without the advice of the options of a config.
        classifier: Whether it is the number of classes alone.
    """

    def __init__(self, problem: str, advice: str, classifier: bool) -> None:
        super().__init__(f"{problem}; {advice}")
        self.problem, self.classifier = problem, classifier


@dataclass
class Fit:
    """What a model gets of a file.

    Attributes:
        weights: By the model's names; of what the file says nothing about, and need not, too.
        notes: What was filled in, sliced or left out, for the log.
        doubt: Why the weights may be of something else although they fit; None as a rule.
    """

    weights: OrderedDict[str, Tensor]
    notes: list[str]
    doubt: str | None = None


@dataclass
class _Given:
    """A reading of a file: tensors by the model's names without prefixes."""

    tensors: dict[str, Tensor]
    missing: list[str]
    unexpected: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def gaps(self) -> int:
        return len(self.missing) + len(self.unexpected)


def fit(model: nn.Module, state: Mapping[str, Tensor], where: str, reset_head: bool = False) -> Fit:
    """Find the weights of ``model`` in ``state``; all of them, or it is an error.

    Args:
        model: It is not changed.
        state: Name to tensor, of the file.
        where: Names the file in errors.
        reset_head: Leave out the classifier: it keeps the weights that it has, and the file may lack it or have
            another number of classes.

    Raises:
        UserError: Missing or unexpected names, or other shapes; the first five of each are shown. A weight or a
            statistic that is not finite.
    """
    target = model.state_dict()
    names = short_names(target, "the model")
    norms = _with_parts(model)
    given = _best(state, names, target, norms, where)
    if norms_in_one_place(state) > 1:
        _widen(given, model, names, target)
    head = classifier_of(model, {key: given.tensors.get(key) for key in names}, names, where) if reset_head else set()
    tensors = {key: value for key, value in given.tensors.items() if key not in head}
    missing = [key for key in given.missing if key not in head]
    shapes = [
        f"{key} {tuple(tensors[key].shape)} in the file and {tuple(target[name].shape)} in the model"
        for key, name in names.items()
        if key in tensors and tensors[key].shape != target[name].shape
    ]
    kinds = [
        f"{key} ({tensors[key].dtype} in the file)"
        for key, name in names.items()
        if key in tensors and target[name].dtype.is_floating_point > tensors[key].dtype.is_floating_point
    ]
    labels = ("missing", "unexpected", "of another shape", "of another kind of number")
    found = zip(labels, (missing, given.unexpected, shapes, kinds), strict=True)
    problems = [f"{len(items)} {label}: {_shown(items)}" for label, items in found if items]
    if problems:
        known = way_out(state, names) or (
            _OTHER_NAMES if missing or given.unexpected or kinds else _advice(tensors, names, target)
        )
        hint, classifier = (known, False) if reset_head else _hint(model, state, names, where, known)
        title = type(getattr(model, "architecture", model)).__name__
        raise MisfitError(f"{where}: the weights do not fit the {title}; {'; '.join(problems)}", hint, classifier)
    notes = list(given.notes)
    if head:
        notes.append(f"without the classifier ({', '.join(sorted(head))}), which starts anew")
    weights = OrderedDict((name, tensors.get(key, target[name])) for key, name in names.items())
    check_numbers(weights, target, where)
    # With the module versions of the running code, a model does not take the keys for those of an older release.
    weights._metadata = getattr(target, "_metadata", OrderedDict())  # type: ignore[attr-defined]
    return Fit(weights, notes, order_in_doubt({key: target[name].shape for key, name in names.items()}, state))


def _shown(items: list[str]) -> str:
    return ", ".join([*(item[:120] for item in items[:_SHOWN]), *(["..."] if len(items) > _SHOWN else [])])


def _best(
    state: Mapping[str, Tensor],
    names: Mapping[str, str],
    target: Mapping[str, Tensor],
    norms: Mapping[str, InParts],
    where: str,
) -> _Given:
    """The first reading that fits exactly, then by its names alone; then the one with most names of the model."""
    best: _Given | None = None
    most = (False, -1, 0)
    shapes = {key: target[name].shape for key, name in names.items()}
    for reading, project in readings(state, shapes, where):
        given = _complete(reading, state, names, target, norms)
        if not given.gaps:
            given.notes[:0] = [f"its weights are read under the names of {project}"] if project else []
            left_out = told_left_out(set(state).difference(reading.values()), beside_the_network(state))
            given.notes += [left_out] if left_out else []
            if all(given.tensors[key].shape == shape for key, shape in shapes.items()):
                return given
        fits = (not given.gaps, len(names) - len(given.missing), -len(given.unexpected))
        if best is None or fits > most:
            best, most = given, fits
    assert best is not None
    return best


def _widen(given: _Given, model: nn.Module, names: Mapping[str, str], target: Mapping[str, Tensor]) -> None:
    """Fill layers that are as wide as the widest subnet of a file up to their full width: no subnet uses the rest."""

    shapes = {key: target[name].shape for key, name in names.items() if key in given.tensors}
    narrow = [key for key, shape in shapes.items() if shape != given.tensors[key].shape
              and _within(given.tensors[key].shape, shape)]  # fmt: skip
    if given.gaps or not narrow or not isinstance(model, OfSubnets):
        return
    used = model.used_shapes()
    enough = [key for key in narrow if _within(used.get(names[key], ()), given.tensors[key].shape)]
    for key in enough:
        tensor = given.tensors[key]
        given.tensors[key] = tensor.new_zeros(shapes[key])
        given.tensors[key][tuple(slice(size) for size in tensor.shape)] = tensor
    if enough:
        given.notes.append("its layers are as wide as its widest subnet; beyond, which no subnet uses, weights are 0")


def _complete(
    reading: Reading,
    state: Mapping[str, Tensor],
    names: Mapping[str, str],
    target: Mapping[str, Tensor],
    norms: Mapping[str, InParts],
) -> _Given:
    """Add what the names alone do not say: parts of norms that are switched, counters, and norms without weights."""
    tensors = {key: state[name] for key, name in reading.items()}
    notes = []
    if any([norm.share_out(tensors, prefix) for prefix, norm in norms.items()]):
        notes.append("batch norms at full width are sliced to the widths of the subnets")
    missing = [key for key in names if key not in tensors]
    counters = [key for key in missing if key.endswith(COUNTER) and _norm_of(key, COUNTER) in tensors]
    if counters:
        tensors.update({key: torch.zeros_like(target[names[key]], device="cpu") for key in counters})
        notes.append(f"{len(counters)} num_batches_tracked are missing, as in files of old releases, and start at 0")
    identities = _identities(missing, tensors)
    if identities:
        for key in identities:
            make = torch.ones_like if key.endswith(".weight") else torch.zeros_like
            tensors[key] = make(target[names[key]], device="cpu")
        notes.append(f"its {len(identities) // 2} norms have no weight and bias, which are 1 and 0")
    added = {*counters, *identities}
    unexpected = [reading.get(key, key) for key in tensors if key not in names]
    return _Given(tensors, [key for key in missing if key not in added], unexpected, notes)


def _norm_of(key: str, end: str) -> str:
    return f"{key.removesuffix(end)}.running_mean"


def _identities(missing: Iterable[str], tensors: Mapping[str, Tensor]) -> list[str]:
    """Weights and biases of norms, where no norm of the file has any."""
    found = [key for key in missing if key.endswith(_AFFINE) and _norm_of(key, f".{key.rpartition('.')[2]}") in tensors]
    norms = [key.removesuffix(".running_mean") for key in tensors if key.endswith(".running_mean")]
    return found if found and len(found) == 2 * len(norms) else []


def _with_parts(model: nn.Module) -> dict[str, InParts]:
    found = {name: module for name, module in model.named_modules() if isinstance(module, InParts)}
    return {
        short.removesuffix("."): found[name[:-1]] for short, name in short_names([f"{n}." for n in found], "").items()
    }


def _advice(tensors: Mapping[str, Tensor], names: Mapping[str, str], target: Mapping[str, Tensor]) -> str:
    """What to do with a file of the right names and other shapes."""
    if all(_within(target[name].shape, tensors[key].shape) for key, name in names.items() if key in tensors):
        return (
            "the file's layers are wider: where it is of this network at full width, "
            "model.init_cfg=dict(type='Pretrained', checkpoint=FILE) gives one subnet its part of it"
        )
    return _OTHER_NAMES


def _within(small: Sequence[int], large: Sequence[int]) -> bool:
    return len(small) == len(large) and all(one <= other for one, other in zip(small, large, strict=True))


def _hint(
    model: nn.Module, state: Mapping[str, Tensor], names: Mapping[str, str], where: str, known: str
) -> tuple[str, bool]:
    """What a user may do about it, ``known`` where nothing is nearer; and whether the classifier alone differs."""
    prefix = under(short_weights(state, where), names)
    if prefix:
        return f"those under '{prefix}' do: init_cfg.prefix='{prefix}'", False
    try:
        fit(model, state, where, reset_head=True)
    except UserError:
        return known, False
    return "all but the classifier fits: init_cfg.reset_head=True, or tools/train.py --reset-head, leaves it out", True
