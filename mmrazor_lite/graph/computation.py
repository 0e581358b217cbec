"""What a network computes, in lines that are stored with its weights: ops, strides, activations, constants, wiring.

Two networks may have the same names and shapes of weights and compute something else. A line is of one op of the graph
in eval mode: where it runs, what it does, and what it reads. Widths are not in it, nor what only regularises (dropout,
momentum of norms), nor where tensors lie in memory. It follows from the architecture alone, not from its weights, the
subnet that is active or the machine; floats are compared with a tolerance.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from .computation_line import (
    ADDED,
    CHANGED,
    CHOICE,
    CONSTANT,
    GIVES,
    IMAGE,
    NUMBER,
    OUTPUT,
    SLOTS,
    TAKES,
    WHOLE,
    layer_kind,
    parsed,
    relative,
)
from .opaque import OPAQUE
from .spellings import TURNS, VIEWS, in_order, one_spelling
from .trace import Op, TracedGraph, TracedModel, shape_of

# In eval mode these hand on what they get.
_SILENT = frozenset(
    "dropout feature_dropout alpha_dropout feature_alpha_dropout detach alias contiguous clone to lift_fresh "
    "lift_fresh_copy _assert_tensor_metadata".split()
)
_NOT_TOLD = frozenset(
    "momentum cudnn_enabled cudnn_enable training train memory_format device layout pin_memory non_blocking copy dtype "
    "generator requires_grad".split()
)
_FLOAT = re.compile(r"=.*(?:[0-9]\.|[0-9]e-?[0-9]|nan|inf)")
_POOLS = frozenset({"avg_pool2d", "max_pool2d"})
FORM = 2  # files of before have no such number, and their lines no words that are ``ADDED``
_SHARES = (
    frozenset("alias contiguous detach dropout feature_dropout to".split()) | VIEWS | TURNS
)  # whole, with its source
_SHAPED = VIEWS | TURNS  # whose axes are told from the shape that they read
_AXES = frozenset({"dim", "dims", "output_size"})
_PLAIN_FLOAT = re.compile(rf"(?!{CONSTANT}=)\w+=-?(?:\d+\.\d*|\d+(?:\.\d+)?e-?\d+)")


def document(lines: Sequence[str], input_shape: Sequence[int]) -> dict[str, Any]:
    """Lines as they are stored, with what else decides about them: the release of torch, and the size of images."""
    return {"form": FORM, "torch": _release(), "input_shape": list(input_shape), "lines": list(lines)}


def digest(computation: Mapping[str, Any]) -> str:
    """The release of torch, and 16 hex digits of what a :func:`document` says, for small files: ``torch2.9/2:...``.

    8 more are of the plain floats in it, such as the ``eps`` of a norm. Equal networks have equal digests, however they
    are spelled, at one size of images and with one release of torch.
    """
    lines = in_order(one_spelling([parsed(line) for line in computation["lines"]]))
    return f"torch{computation['torch']}/{FORM}:{_hashes(line.written() for line in lines)}"


def digest_of_before(computation: Mapping[str, Any]) -> str:
    """The digest that files of before have: of the lines as they were, in the spelling of the network."""
    lines = (line.split("\t") for line in computation["lines"])
    before = ("\t".join((place, _as_before(told), reads)) for place, told, reads in lines)
    return f"torch{computation['torch']}:{_hashes(before)}"


def _as_before(told: str) -> str:
    return " ".join(word for word in told.split(" ") if word.partition("=")[0] not in ADDED)


def _hashes(told: Iterable[str]) -> str:
    lines = [line.split("\t") for line in told]
    words = [[word for word in told.split(" ") if not _FLOAT.search(word)] for _, told, _ in lines]
    exact = ["\t".join((place, " ".join(kept), reads)) for (place, _, reads), kept in zip(lines, words, strict=True)]
    # What is measured of a constant, or is a part of a longer word, is no plain one: machines differ in its last digit.
    plain = [word for _, told, _ in lines for word in told.split(" ") if _PLAIN_FLOAT.fullmatch(word)]
    return f"{_hashed(exact)[:16]}:{_hashed(plain)[:8]}"


def is_digest_of(theirs: str, computation: Mapping[str, Any]) -> bool:
    """Whether a file's digest is of this computation, as far as it says; of another release of torch nothing is known.

    Files of before say it of the spelling that they were written with, and the oldest without floats.
    """
    parts = theirs.split(":")
    for mine in (digest, digest_of_before):
        own = mine(computation).split(":")
        if parts[0] == own[0]:
            return all(a == b for a, b in zip(parts, own, strict=False))
    return True


def _hashed(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def lines_of(traced: TracedModel) -> list[str]:
    """One line for every op of eval mode, and for every layer that runs in train mode only."""
    saved = {id(tensor) for tensor in traced.model.state_dict(keep_vars=True).values()}  # under other names, maybe
    persistent = {name for name, buffer in traced.model.named_buffers(remove_duplicate=False) if id(buffer) in saved}
    found = list(_lines(traced.eval, traced.model, persistent))
    if traced.train is not traced.eval:
        known = {op.layer for op in traced.eval}
        found += [
            _joined(op.layer, _told(op, traced.train, traced.model, persistent, {}), ())
            for op in traced.train
            if op.layer and op.layer not in known and layer_kind(op.kind)
        ]
    return found


def placed(lines: Iterable[str], prefix: str) -> Iterator[str]:
    """The lines of a part of a network, by its names in the whole."""
    for line in lines:
        place, _, rest = line.partition("\t")
        yield f"{prefix}.{place}\t{rest}" if place else f"{prefix}\t{rest}"


def inside(computation: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a module computes that only calls the network of a :func:`document`, which it holds by this name."""
    return _renamed(computation, lambda place: f"{name}.{place}" if place else name)


def held(computation: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What the network computes by itself that the one of a :func:`document` only calls: undoes :func:`inside`."""
    return _renamed(computation, lambda place: f"{place}.".removeprefix(f"{name}.").rstrip("."))


def _renamed(computation: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    lines = []
    for line in computation["lines"]:
        place, told, reads = line.split("\t")
        named = [
            read if not read or read in (IMAGE, CONSTANT) or NUMBER.fullmatch(read) else rename(read)
            for read in reads.split(",")
        ]
        lines.append(_joined(place if told == OUTPUT else rename(place), [told], named))
    return {**computation, "lines": lines}


def with_kernel(lines: Iterable[str], layer: str, size: int) -> list[str]:
    """The lines where ``layer`` has a square kernel of another size, padded so that maps keep theirs."""
    changed = []
    for line in lines:
        if line.startswith(f"{layer}\tconv"):
            place, told, reads = line.split("\t")
            words = [
                f"kernel={size},{size}"
                if word.startswith("kernel=")
                else f"padding={size // 2},{size // 2}"
                if word.startswith("padding=")
                else word
                for word in told.split(" ")
            ]
            line = "\t".join((place, " ".join(words), reads))
        changed.append(line)
    return changed


def note(place: str, kind: str, **told: Any) -> str:
    """A line about something that is no op."""
    return _joined(place, [kind, *(f"{key}={_value(value)}" for key, value in told.items())], ())


def _lines(graph: TracedGraph, model: nn.Module, persistent: set[str]) -> Iterator[str]:
    numbers: dict[fx.Node, int | str] = {}
    roots: dict[fx.Node, fx.Node] = {}  # of what only hands a tensor on, the one that it hands on
    versions = _Versions()
    count = 0
    places = {math.prod(shape[2:]) for op in graph if len(shape := shape_of(op.node) or ()) == 4} - {1}
    for op in graph:
        sources = op.node.all_input_nodes
        if op.kind in _SILENT and sources:
            numbers[op.node] = _read(sources[0], graph, numbers)
            roots[op.node] = roots.get(sources[0], sources[0])
            versions.made(op)
            continue
        own = op.layer if layer_kind(op.kind) else None
        read = [node for node in sources if own is None or node not in graph.names or graph.names[node][0] != own]
        shown = [str(relative(_read(node, graph, numbers), count)) for node in read]
        told = _told(op, graph, model, persistent, roots) + _slots(op, read) + [f"{WHOLE}=True"] * _is_whole(op, places)
        yield _joined(op.layer or op.module_path, [*told, *_shapes(op), *versions.changed(read)], shown)
        versions.made(op)
        numbers[op.node] = count
        count += 1
    yield _joined("", [OUTPUT], [str(relative(_read(node, graph, numbers), count)) for node in graph.outputs])


class _Versions:
    """How often each tensor was changed in place: who reads one later than it was made reads something else."""

    def __init__(self) -> None:
        self._storage: dict[fx.Node, fx.Node] = {}
        self._now: dict[fx.Node, int] = {}
        self._made: dict[fx.Node, int] = {}

    def made(self, op: Op) -> None:
        """An op has run."""
        source = op.node.args[0] if op.node.args and isinstance(op.node.args[0], fx.Node) else None
        changes = op.inplace and op.kind not in _SILENT
        shares = source is not None and (changes or op.kind in _SHARES)
        storage = self._storage[op.node] = self._storage.get(source, source) if shares else op.node
        if changes:
            self._now[storage] = self._now.get(storage, 0) + 1
        self._made[op.node] = self._now.get(storage, 0)

    def changed(self, read: Sequence[fx.Node]) -> list[str]:
        """A word that says how often, where it is not never."""
        times = [self._now.get(self._storage.get(node, node), 0) - self._made.get(node, 0) for node in read]
        return [f"{CHANGED}={_value(times)}"] if any(times) else []


def _shapes(op: Op) -> list[str]:
    """The shapes by which what an op says can be told from another spelling of it."""
    sources = op.node.all_input_nodes
    takes, gives = shape_of(sources[0]) if sources else None, shape_of(op.node)
    names = {argument.name for argument in getattr(getattr(op.node.target, "_schema", None), "arguments", ())}
    told = [f"{TAKES}={_value(takes)}"] if takes and (op.kind in _SHAPED or names & _AXES) else []
    return [*told, f"{GIVES}={_value(gives)}"] if told and gives and op.kind in VIEWS else told


def _is_whole(op: Op, places: set[int]) -> bool:
    """Whether a number of the op comes from the size of the image: all places of a map are pooled, or counted."""
    if op.kind in _POOLS:
        shape, kernel = shape_of(op.node.args[0]), op.argument("kernel_size")
        return bool(shape) and kernel is not None and tuple(kernel) == shape[2:]
    return op.kind in ("div", "mul") and type(op.argument("other")) is int and op.argument("other") in places


def _slots(op: Op, read: Sequence[fx.Node]) -> list[str]:
    """Which of the tensors ``read`` stands at which place, for an op that takes one twice or leaves a place empty."""
    places = {node: str(index) for index, node in enumerate(read)}
    found = [places.get(slot, "-") for slot in _arguments(op.node.args) if slot is None or slot in places]
    return [] if found == list(places.values()) else [f"{SLOTS}={','.join(found)}"]


def _arguments(value: Any, in_list: bool = False) -> Iterator[fx.Node | None]:
    """Nodes of arguments in their order, and None for a place of a list that is empty, as that of an index is."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _arguments(item, in_list=isinstance(value, list))
    elif isinstance(value, fx.Node) or (in_list and value is None):
        yield value


def _read(node: fx.Node, graph: TracedGraph, numbers: Mapping[fx.Node, int | str]) -> int | str:
    """What an op reads: the number of a line, or the name of a tensor that the model holds."""
    if node in numbers:
        return numbers[node]
    if node in graph.names:
        return ".".join(part for part in graph.names[node] if part)
    return CONSTANT if node in graph.values else IMAGE


def _told(
    op: Op, graph: TracedGraph, model: nn.Module, persistent: set[str], roots: Mapping[fx.Node, fx.Node]
) -> list[str]:
    told = [op.kind]
    if op.kind == OPAQUE:
        return _told_of_opaque(op, model)
    if op.kind == "getitem":
        return [op.kind, f"index={_value(op.node.args[1])}"]
    layer = layer_kind(op.kind)
    if layer is not None and layer.makes_channels:
        weight = op.argument("weight")
        shape = shape_of(weight) if isinstance(weight, fx.Node) else None
        told += [f"kernel={_value(shape[2:])}"] if shape and len(shape) > 2 else []
        told.append(f"bias={op.argument('bias') is not None}")
    for argument in getattr(getattr(op.node.target, "_schema", None), "arguments", ()):
        value = op.argument(argument.name)
        own_statistics = argument.name == "training" and value and layer is not None  # a norm of the batch
        skipped = argument.name in _NOT_TOLD and not own_statistics
        if skipped or argument.name in ("bias", "normalized_shape") or _has_nodes(value) or value is None:
            continue
        if not isinstance(value, (torch.dtype, torch.device, torch.layout, torch.memory_format)):
            told.append(f"{argument.name}={_value(value)}")
    for source in op.node.all_input_nodes:
        source = roots.get(source, source)
        name = ".".join(part for part in graph.names.get(source, ()) if part)
        if source in graph.values and name not in persistent:
            told.append(f"{CONSTANT}={_summary(graph.values[source])}")
    return told


def _told_of_opaque(op: Op, model: nn.Module) -> list[str]:
    """Nobody looks into it: what its modules say of themselves."""
    path = op.module_path.split("@")[0]
    try:
        module = model.get_submodule(path)
    except AttributeError:
        return [op.kind]
    if getattr(module, "is_choice", False):  # the candidates have lines of their own
        return [CHOICE]
    words = [f"{type(part).__name__}({part.extra_repr()})".replace(" ", "") for part in module.modules()]
    return [op.kind, *(f"part{index}={' '.join(word.split())}" for index, word in enumerate(words))]


def _has_nodes(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_has_nodes(item) for item in value)
    return isinstance(value, fx.Node)


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(_value(item) for item in value)
    return "".join(str(value).split()) if not isinstance(value, float) else repr(value)


def _summary(tensor: torch.Tensor) -> str:
    """Numbers that tell one constant from another: all of a few, or means of many."""
    flat = tensor.detach().reshape(-1).double().cpu()
    if flat.numel() > 8:
        weights = torch.cos(torch.arange(flat.numel(), dtype=torch.float64))
        finite = flat[torch.isfinite(flat)]
        flat = torch.stack([finite.mean(), finite.abs().mean(), (flat.nan_to_num(0, 0, 0) * weights).mean()])
    return ",".join(f"{value:.6g}" for value in flat.tolist()) or "none"


def _joined(place: str | None, told: Iterable[str], reads: Iterable[str]) -> str:
    return "\t".join((place or "", " ".join(told), ",".join(reads)))


def _release() -> str:
    return ".".join(torch.__version__.split(".")[:2])
