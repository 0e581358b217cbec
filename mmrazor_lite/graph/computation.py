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
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from mmrazor_lite.errors import UserError

from .flop_rules import ACTIVATIONS
from .layers.record import LAYER_KINDS, LayerKind
from .opaque import OPAQUE
from .trace import Op, TracedGraph, TracedModel, shape_of

MAX_LINES = 200_000
# In eval mode these hand on what they get.
_SILENT = frozenset(
    "dropout feature_dropout alpha_dropout feature_alpha_dropout detach alias contiguous clone to lift_fresh "
    "lift_fresh_copy _assert_tensor_metadata".split()
)
_NOT_TOLD = frozenset(
    "momentum cudnn_enabled cudnn_enable training train memory_format device layout pin_memory non_blocking copy dtype "
    "generator requires_grad".split()
)
# What stays the same at other sizes of images; views, slices, pads and tables do not.
_ANY_SIZE = ACTIVATIONS | frozenset(
    "add sub mul div cat mean relu6 hardtanh hardswish hardsigmoid silu gelu sigmoid tanh softmax mish softplus "
    "matmul bmm scaled_dot_product_attention opaque choice max_pool2d avg_pool2d adaptive_avg_pool2d "
    "adaptive_max_pool2d abs clamp clamp_min clamp_max pow square exp log sqrt rsqrt neg reciprocal sin cos where "
    "maximum minimum sum amax amin var std logsumexp linalg_vector_norm flip".split()
)
_NUMBER = re.compile(r"-?[0-9]{1,7}")
_FLOAT = re.compile(r"=.*(?:[0-9]\.|[0-9]e-?[0-9]|nan|inf)")
_POOLS = frozenset({"avg_pool2d", "max_pool2d"})
_WHOLE = "whole_map"  # of a pool over all places, and a division by their number: both follow the size of images
_OF_A_MAP = ("kernel_size", "stride", "padding", "other", "ceil_mode")
_WITH_STATISTICS = frozenset({"batch_norm", "instance_norm"})
_IMAGE = "image"
_OUTPUT = "output"
_CONSTANT = "values"
_PLAIN_FLOAT = re.compile(rf"(?!{_CONSTANT}=)\w+=-?(?:\d+\.\d*|\d+(?:\.\d+)?e-?\d+)")


@dataclass(frozen=True)
class _Line:
    """A line, taken apart: ``reads`` are numbers of lines, or names."""

    place: str
    kind: str
    told: Mapping[str, str]
    reads: tuple[int | str, ...]
    whole: bool = False


def document(lines: Sequence[str], input_shape: Sequence[int]) -> dict[str, Any]:
    """Lines as they are stored, with what else decides about them: the release of torch, and the size of images."""
    return {"torch": _release(), "input_shape": list(input_shape), "lines": list(lines)}


def digest(computation: Mapping[str, Any]) -> str:
    """The release of torch, and 16 hex digits of what a :func:`document` says, for small files: ``torch2.9:...``.

    8 more are of the plain floats in it, such as the ``eps`` of a norm, which files of before lack (see
    :func:`same_digest`). Equal networks have equal digests at one size of images and with one release of torch.
    """
    lines = [line.split("\t") for line in computation["lines"]]
    words = [[word for word in told.split(" ") if not _FLOAT.search(word)] for _, told, _ in lines]
    exact = ["\t".join((place, " ".join(kept), reads)) for (place, _, reads), kept in zip(lines, words, strict=True)]
    # What is measured of a constant, or is a part of a longer word, is no plain one: machines differ in its last digit.
    plain = [word for _, told, _ in lines for word in told.split(" ") if _PLAIN_FLOAT.fullmatch(word)]
    return f"torch{computation['torch']}:{_hashed(exact)[:16]}:{_hashed(plain)[:8]}"


def same_digest(theirs: str, mine: str) -> bool:
    """Whether two digests are of one computation, as far as both say; of another release of torch nothing is known."""
    parts = theirs.split(":"), mine.split(":")
    return parts[0][0] != parts[1][0] or all(a == b for a, b in zip(*parts, strict=False))


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
            _joined(op.layer, _told(op, traced.train, traced.model, persistent), ())
            for op in traced.train
            if op.layer and op.layer not in known and _layer(op.kind)
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
            read if not read or read in (_IMAGE, _CONSTANT) or _NUMBER.fullmatch(read) else rename(read)
            for read in reads.split(",")
        ]
        lines.append(_joined(place if told == _OUTPUT else rename(place), [told], named))
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


# lines of a graph -----------------------------------------------------------------------------------------------


def _lines(graph: TracedGraph, model: nn.Module, persistent: set[str]) -> Iterator[str]:
    numbers: dict[fx.Node, int | str] = {}
    count = 0
    places = {math.prod(shape[2:]) for op in graph if len(shape := shape_of(op.node) or ()) == 4} - {1}
    for op in graph:
        sources = op.node.all_input_nodes
        if op.kind in _SILENT and sources:
            numbers[op.node] = _read(sources[0], graph, numbers)
            continue
        own = op.layer if _layer(op.kind) else None
        reads = [
            _read(source, graph, numbers)
            for source in sources
            if own is None or source not in graph.names or graph.names[source][0] != own
        ]
        shown = [str(read - count) if isinstance(read, int) else read for read in reads]
        told = _told(op, graph, model, persistent) + [f"{_WHOLE}=True"] * _is_whole(op, places)
        yield _joined(op.layer or op.module_path, told, shown)
        numbers[op.node] = count
        count += 1
    yield _joined("", [_OUTPUT], [_shown(_read(node, graph, numbers), count) for node in graph.outputs])


def _is_whole(op: Op, places: set[int]) -> bool:
    """Whether a number of the op comes from the size of the image: all places of a map are pooled, or counted."""
    if op.kind in _POOLS:
        shape, kernel = shape_of(op.node.args[0]), op.argument("kernel_size")
        return bool(shape) and kernel is not None and tuple(kernel) == shape[2:]
    return op.kind in ("div", "mul") and type(op.argument("other")) is int and op.argument("other") in places


def _shown(read: int | str, count: int) -> str:
    return str(read - count) if isinstance(read, int) else read


def _read(node: fx.Node, graph: TracedGraph, numbers: Mapping[fx.Node, int | str]) -> int | str:
    """What an op reads: the number of a line, or the name of a tensor that the model holds."""
    if node in numbers:
        return numbers[node]
    if node in graph.names:
        return ".".join(part for part in graph.names[node] if part)
    return _CONSTANT if node in graph.values else _IMAGE


def _told(op: Op, graph: TracedGraph, model: nn.Module, persistent: set[str]) -> list[str]:
    told = [op.kind]
    if op.kind == OPAQUE:
        return _told_of_opaque(op, model)
    if op.kind == "getitem":
        return [op.kind, f"index={_value(op.node.args[1])}"]
    layer = _layer(op.kind)
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
        name = ".".join(part for part in graph.names.get(source, ()) if part)
        if source in graph.values and name not in persistent:
            told.append(f"{_CONSTANT}={_summary(graph.values[source])}")
    return told


def _told_of_opaque(op: Op, model: nn.Module) -> list[str]:
    """Nobody looks into it: what its modules say of themselves."""
    path = op.module_path.split("@")[0]
    try:
        module = model.get_submodule(path)
    except AttributeError:
        return [op.kind]
    if getattr(module, "is_choice", False):  # the candidates have lines of their own
        return ["choice"]
    words = [f"{type(part).__name__}({part.extra_repr()})".replace(" ", "") for part in module.modules()]
    return [op.kind, *(f"part{index}={' '.join(word.split())}" for index, word in enumerate(words))]


def _layer(op: str) -> LayerKind | None:
    """The kind of layer that an op is the call of, wherever it stands; None for an op that is also used otherwise."""
    kind = LAYER_KINDS.of_op(op)
    return kind if kind is not None and kind.rows is not None else None


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


# comparison -----------------------------------------------------------------------------------------------------


def difference(
    theirs: Any, mine: Mapping[str, Any], where: str, part: str | None = None, other_classes: bool = False
) -> str | None:
    """What a file's network computes otherwise than the one of the config, in words; None where it is the same.

    At another size of images, for other classes or with another release of torch, only what does not depend on that is
    compared.

    Args:
        theirs: A :func:`document` of a file.
        mine: The one of this network.
        where: Names the file in errors.
        part: Compare what is in this module only.
        other_classes: They may tell other numbers of classes apart.

    Raises:
        UserError: ``theirs`` is no such document.
    """
    same_release = _checked(theirs, where)["torch"] == mine["torch"]
    same_size = list(theirs["input_shape"]) == list(mine["input_shape"])
    parsed = [[_parsed(line, where) for line in side["lines"]] for side in (theirs, mine)]
    if not same_release:
        parsed = [[_Line(x.place, x.kind, x.told, ()) for x in side if _layer(x.kind)] for side in parsed]
    elif not same_size or part or other_classes:
        parsed = _without_whole_maps(*(_of_any_size(side) for side in parsed))
    if other_classes:  # what nobody looks into may be the classifier
        parsed = [[_Line(x.place, x.kind, {}, x.reads) if x.kind == OPAQUE else x for x in side] for side in parsed]
    if part:  # what it reads is outside of it
        inside = [[x for x in side if f"{x.place}.".startswith(f"{part}.")] for side in parsed]
        parsed = [[_Line(x.place, x.kind, x.told, ()) for x in side] for side in inside]
    return _first_difference(*parsed)


def _checked(value: Any, where: str) -> Mapping[str, Any]:
    lines = value.get("lines") if isinstance(value, Mapping) else None
    good = isinstance(lines, (list, tuple)) and len(lines) <= MAX_LINES and all(isinstance(line, str) for line in lines)
    if not good or not isinstance(value.get("torch"), str) or not isinstance(value.get("input_shape"), (list, tuple)):
        raise UserError(f"{where}: its description of what the network computes is damaged; copy or write it again")
    return value


def _parsed(line: str, where: str) -> _Line:
    parts = line.split("\t")
    if len(parts) != 3:
        raise UserError(f"{where}: its description of what the network computes is damaged; copy or write it again")
    kind, *words = parts[1].split(" ")
    told = dict(word.partition("=")[::2] for word in words)
    whole = told.pop(_WHOLE, None) is not None
    if kind in _WITH_STATISTICS:  # of a network inside a classifier, files of before say them as if they were constants
        told.pop(_CONSTANT, None)
    reads = tuple(int(word) if _NUMBER.fullmatch(word) else word for word in parts[2].split(",") if word)
    return _Line(parts[0], kind, told, reads, whole)


def _of_any_size(lines: Sequence[_Line]) -> list[_Line]:
    """The lines that do not depend on the size of images; what is left out hands on what it read first."""
    kept: list[_Line] = []
    numbers: list[int | str] = []  # of each line among those that are kept, or what stands for it
    for index, line in enumerate(lines):
        reads = [_resolved(read, index, numbers) for read in line.reads]
        if line.kind in _ANY_SIZE or _layer(line.kind):
            told = {key: value for key, value in line.told.items() if key not in (_CONSTANT, "output_size")}
            told |= {"output_size": line.told["output_size"]} if line.kind.startswith("adaptive") else {}
            shown = tuple(read - len(kept) if isinstance(read, int) else read for read in reads)
            numbers.append(len(kept))
            reads = tuple(read for read in shown if read != _CONSTANT)
            kept.append(_Line(line.place, line.kind, told, reads, line.whole))
        else:
            numbers.append(reads[0] if reads else _CONSTANT)
    return kept


def _without_whole_maps(theirs: list[_Line], mine: list[_Line]) -> list[list[_Line]]:
    """Leave out the numbers that follow the size of images on both sides; a pool of a fixed size keeps its own."""
    sides = [theirs, mine]
    for index, pair in enumerate(zip(theirs, mine, strict=False)):
        if all(line.whole for line in pair):
            for side, line in zip(sides, pair, strict=True):
                told = {key: value for key, value in line.told.items() if key not in _OF_A_MAP}
                side[index] = _Line(line.place, line.kind, told, line.reads)
    return sides


def _resolved(read: int | str, index: int, numbers: Sequence[int | str]) -> int | str:
    if not isinstance(read, int):
        return read
    place = index + read
    return numbers[place] if 0 <= place < len(numbers) else _IMAGE


def _first_difference(theirs: Sequence[_Line], mine: Sequence[_Line]) -> str | None:
    if len(theirs) == len(mine) and all(map(_same, theirs, mine)):
        return None
    groups = [_by_place(side) for side in (theirs, mine)]
    both = {place: [group.get(place, []) for group in groups] for place in {**groups[1], **groups[0]}}
    places = [place for place, sides in both.items() if not _same_ops(*sides)]
    if places:
        more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
        return _worded(places[0], *both[places[0]]) + more
    for index, (there, here) in enumerate(zip(theirs, mine, strict=True)):
        if there.place != here.place or there.reads != here.reads:
            reads = [_sources(side, index) for side in (theirs, mine)]
            return f"{_title(here.place)}: {here.kind} reads {reads[0]} in the file, {reads[1]} in the config"
    return None


def _by_place(lines: Iterable[_Line]) -> dict[str, list[_Line]]:
    groups: dict[str, list[_Line]] = {}
    for line in lines:
        groups.setdefault(line.place, []).append(line)
    return groups


def _same(a: _Line, b: _Line) -> bool:
    return a.place == b.place and a.reads == b.reads and _same_op(a, b)


def _same_op(a: _Line, b: _Line) -> bool:
    return a.kind == b.kind and a.told.keys() == b.told.keys() and not _differing(a, b)


def _same_ops(a: Sequence[_Line], b: Sequence[_Line]) -> bool:
    return len(a) == len(b) and all(map(_same_op, a, b))


def _differing(a: _Line, b: _Line) -> list[str]:
    keys = {**a.told, **b.told}
    return [key for key in keys if not _equal(key, a.told.get(key), b.told.get(key))]


def _equal(key: str, a: str | None, b: str | None) -> bool:
    if a == b or a is None or b is None:
        return a == b
    pairs = list(zip(a.split(","), b.split(","), strict=False))
    return a.count(",") == b.count(",") and all(_close(x, y, 1e-6 if key == _CONSTANT else 0.0) for x, y in pairs)


def _close(a: str, b: str, absolute: float) -> bool:
    try:
        is_float = "." in a + b or "e" in a + b
        return a == b or (is_float and math.isclose(float(a), float(b), rel_tol=1e-4, abs_tol=absolute))
    except ValueError:
        return False


def _worded(place: str, theirs: Sequence[_Line], mine: Sequence[_Line]) -> str:
    if [line.kind for line in theirs] == [line.kind for line in mine]:
        for there, here in zip(theirs, mine, strict=True):
            for key in _differing(there, here):
                values = [_tuple(line.told.get(key)) for line in (there, here)]
                return f"{_title(place)}: {_word(key)} {values[0]} in the file, {values[1]} in the config"
    kinds = [", ".join(line.kind for line in lines)[:120] or "nothing" for lines in (theirs, mine)]
    return f"{_title(place)}: {kinds[0]} in the file, {kinds[1]} in the config"


def _title(place: str) -> str:
    return f"layer {place[:120]}" if place else "the network itself"


def _word(key: str) -> str:
    return {"kernel_size": "kernel", _CONSTANT: "a constant", "negative_slope": "slope"}.get(key, key)


def _tuple(value: str | None) -> str:
    if value is None:
        return "not given"
    shown = value.replace(",", ", ") if len(value) < 80 else f"{value[:77]}..."
    return f"({shown})" if "," in value else shown


def _sources(lines: Sequence[_Line], index: int) -> str:
    found = []
    for read in lines[index].reads:
        place = index + read if isinstance(read, int) else -1
        found.append((lines[place].place or lines[place].kind) if 0 <= place < len(lines) else str(read))
    return " and ".join(found)[:160] or "nothing"


def _release() -> str:
    return ".".join(torch.__version__.split(".")[:2])
