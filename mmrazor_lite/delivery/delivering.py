"""A network written for the runtimes that it is to run in, proven in each of them, and measured."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError, check_flag, check_number
from mmrazor_lite.estimators.resource import plain_cost
from mmrazor_lite.fileio import as_path, write_text_atomic
from mmrazor_lite.note import note
from mmrazor_lite.shapes import image_shape
from mmrazor_lite.slimming.batch_targets import sliced

from .int8 import IMAGES, QUANTISERS, check_int8, quantised
from .model_card import Delivery, card, words
from .network import Network, Normalisation
from .output_folder import CARD, check_folder, whole_folder
from .pictures import Batch, drawn, peeked, read
from .proof import check_exact, in_parts, prove
from .runtime import Runner, Runtime, Written
from .runtimes import RUNTIMES, runtimes_of
from .turns import REPEATS, measure

STEM = "model"  # of all files
COUNT, DRAWN = 1000, 100  # images of the proof: of those given, and where none are
SUFFIXES = {"fp32": "", "int8": "_int8"}
OWN = frozenset(
    STEM + suffix + ending
    for runtime in RUNTIMES.values()
    for ending in runtime.endings
    for suffix in SUFFIXES.values()
) | {CARD}
Say = Callable[[str], Any]


def deliver(
    model: nn.Module,
    output: str | os.PathLike,
    images: Any = None,
    *,
    formats: Sequence[str] = ("pt2", "onnx"),
    int8: bool = False,
    calibrate: Any = None,
    example: Tensor | Sequence[int] | None = None,
    normalisation: Normalisation | None = None,
    inside: bool = False,
    original: nn.Module | None = None,
    count: int | None = None,
    batch_sizes: Sequence[int] = (1,),
    repeats: int = REPEATS,
    threads: int | None = None,
    opset: int | None = None,
    name: str | None = None,
    source: str | None = None,
    license: str | None = None,
    images_from: str | None = None,
    notes: Sequence[str] = (),
    force: bool = False,
    seed: int = 0,
    say: Say = note,
) -> Delivery:
    """Write a network for some runtimes into a folder, with a card that says what is there.

    Every file is run in its own runtime on the same images and compared with the network, then all are timed in turns.
    Where a file of float32 differs by more than 1e-4 of an output's largest number (or of 1), nothing is written.

    Args:
        model: A plain module: images (N, C, H, W) in, a tensor or a structure of tensors out. It is not changed.
        output: The folder; appears whole or not at all.
        images: What the files are proven with, as :func:`mmrazor_lite.slim` takes it (normalised, with labels or
            without); None: random numbers, and the card says so.
        formats: Of :data:`.RUNTIMES`.
        int8: Write files of 8-bit integers too, for the formats that have them; they are compared and timed beside
            those of float32, and differ as they do.
        calibrate: Images that measure the ranges of activations for ``int8``, as ``images``: up to 300.
        example: Images (N, C, H, W), or (C, H, W) of one; by default as ``images`` are.
        normalisation: What images go through before the network, for the card and the files' metadata.
        inside: Put that into the files: they take pixels from 0 to 255.
        original: The network that this one was made of, to be timed and counted beside it; its weights do not matter.
        count: Images of the proof, at most: 1000 of those given, 100 drawn.
        batch_sizes: Images of a run that is timed; 1 is always among them.
        repeats: Rounds of the timing.
        threads: Of every runtime; by default those of torch.
        opset: Of ONNX; by default what torch's exporter is made for.
        name: Of the network, for the card.
        source: What it was made of, for the card.
        license: Of that, such as ``apache-2.0``; the card says where none is given.
        images_from: Says where ``images`` are from, for the card.
        notes: Lines for the card.
        force: Take a folder that is not empty: files of the same names are replaced.
        seed: Of what is drawn.
        say: Takes a line for people.

    Returns:
        What was written, proven and measured.

    Raises:
        UserError: A format is unknown or a package of it is missing; the network cannot be written, says which module;
            a file computes something else; ``output`` is not empty. Nothing is written then.
    """
    folder = as_path(output, "deliver: output")
    chosen = runtimes_of(formats)
    check_number("repeats", repeats, 2, whole=True)
    _check(count, batch_sizes, threads, opset, inside, force)
    _check_calibration(int8, calibrate, formats)
    check_folder(folder, force)
    given = images is not None
    shape, batches = _batches(images, _shape(example), count, seed)
    network = replace(Network.of(model, shape, name or type(model).__name__, normalisation, inside), opset=opset)
    threads = threads or torch.get_num_threads()
    with whole_folder(folder, force, OWN) as draft:
        written = [_write(runtime, network, draft, say) for runtime in chosen]
        if int8:
            measured = [run for run, _ in _as_taken(network, read(calibrate, IMAGES, shape, seed, "calibrate"))]
            written += [_quantise(file, measured, draft, say) for file in written if file.runtime.name in QUANTISERS]
        runners = {file.name: file.runtime.load(file.files[0], threads) for file in written}
        say(f"running {len(written)} files on {'' if given else 'random '}images")
        proofs = prove(network.run, runners, _as_taken(network, batches))
        for file in (file for file in written if file.precision == "fp32"):
            check_exact(file.name, proofs[file.name])
        timed: dict[tuple[str, str], Runner] = {("torch", "delivered"): network.run}
        timed |= {(name, "delivered"): runner for name, runner in runners.items()}
        more = list(notes)
        if int8:
            more.append(_how(written, sum(map(len, measured))))
        costs = {"delivered": _cost(network, more)}
        with tempfile.TemporaryDirectory() as aside:
            if original is not None:
                before = network.with_module(original)
                costs["before"] = _cost(before, more)
                timed |= _of_before(before, chosen, Path(aside), threads, more)
            say(f"timing {len(timed)} networks in turns")
            sizes = sorted({1, *batch_sizes})
            taken = measure(timed, shape, sizes, threads, 255.0 if inside else 1.0, seed, repeats)
        done = Delivery(
            folder, network, written, proofs, taken, costs, threads,
            images_from or ("images given" if given else "random numbers: no images were given"),
            given, source, license, tuple(more),
        )  # fmt: skip
        done = replace(done, notes=(*done.notes, *words(done)))
        write_text_atomic(draft / CARD, card(done))
    return replace(
        done, files=[replace(file, files=tuple(folder / path.name for path in file.files)) for file in written]
    )


def _check(
    count: int | None, batch_sizes: Sequence[int], threads: int | None, opset: int | None, inside: bool, force: bool
) -> None:
    check_number("count", count, 1, whole=True, optional=True)
    check_number("threads", threads, 1, whole=True, optional=True)
    check_number("opset", opset, 7, whole=True, optional=True)
    for size in batch_sizes:
        check_number("batch_sizes", size, 1, whole=True)
    check_flag("inside", inside)
    check_flag("force", force)


def _check_calibration(int8: bool, calibrate: Any, formats: Sequence[str]) -> None:
    check_flag("int8", int8)
    if not int8 and calibrate is not None:
        raise UserError("calibrate: images are given to calibrate int8 with, and int8 is not asked for; give both")
    if int8:
        if calibrate is None:
            raise UserError("int8 needs images to measure the ranges of activations with: give --calibrate DIR")
        check_int8(formats)


def _shape(example: Tensor | Sequence[int] | None) -> tuple[int, ...] | None:
    if example is None:
        return None
    if isinstance(example, Tensor):
        if example.dim() < 3:
            raise UserError(f"example has the shape {tuple(example.shape)}: give images (N, C, H, W)")
        return tuple(example.shape[1:])
    return image_shape(example, "example")


def _batches(
    images: Any, shape: tuple[int, ...] | None, count: int | None, seed: int
) -> tuple[tuple[int, ...], Iterator[Batch]]:
    """(C, H, W) of an image, and batches of those given or of drawn ones."""
    if images is not None:
        return peeked(read(images, count or COUNT, shape, seed, "images"))
    if shape is None:
        raise UserError("deliver: give images, or example=(3, 224, 224), the size of one")
    return shape, drawn(count or DRAWN, shape, seed)


def _write(runtime: Runtime, network: Network, folder: Path, say: Say) -> Written:
    say(f"writing {runtime.name}")
    paths = tuple(folder / (STEM + ending) for ending in runtime.endings)
    runtime.write(network, paths[0])
    return Written(runtime, "fp32", paths)


def _quantise(file: Written, images: Sequence[np.ndarray], folder: Path, say: Say) -> Written:
    say(f"writing {file.runtime.name} int8")
    return quantised(file, images, tuple(folder / (STEM + SUFFIXES["int8"] + end) for end in file.runtime.endings))


def _how(written: Sequence[Written], images: int) -> str:
    tools = dict.fromkeys(QUANTISERS[file.runtime.name].tool for file in written if file.precision == "int8")
    return f"int8 by {' and '.join(tools)}, calibrated with {images} images"


def _as_taken(network: Network, batches: Iterator[Batch]) -> Iterator[tuple[np.ndarray, Any]]:
    """All images as the network takes them, in runs of not too many."""
    for number, (images, targets) in enumerate(batches):
        for part, labels in in_parts(images, targets, sliced, first=number == 0):
            yield network.taken(part), labels


def _cost(network: Network, notes: list[str]) -> Mapping[str, int]:
    """macs, flops, params and memory; params alone of a network that no trace holds."""
    try:
        return plain_cost(network.module, network.shape)
    except UserError as error:
        notes.append(f"only parameters are counted: {error}")
        return {"params": sum(parameter.numel() for parameter in network.module.parameters())}


def _of_before(
    before: Network, chosen: Sequence[Runtime], folder: Path, threads: int, notes: list[str]
) -> dict[tuple[str, str], Runner]:
    """The network from before in every runtime that takes it."""
    found: dict[tuple[str, str], Runner] = {("torch", "before"): before.run}
    for runtime in chosen:
        path = folder / (STEM + runtime.endings[0])
        try:
            runtime.write(before, path)
            found[(runtime.name, "before")] = runtime.load(path, threads)
        except UserError as error:
            notes.append(f"the network from before is not timed in {runtime.name}: {error}")
    return found
