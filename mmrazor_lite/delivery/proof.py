"""Whether files compute what the network does: every output, of the same images, in the runtime that a file is for.

Letters: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmrazor_lite.errors import UserError, reason
from mmrazor_lite.slimming.class_numbers import class_numbers, counted

from .runtime import Runner

LIMIT = 1e-4  # the largest difference of a file of float32, of the largest number of an output or of 1
MOST = 50  # images of a run
FIRST = (1, 2)  # images of the first runs: a number of images that is part of a file shows at once


@dataclass(frozen=True)
class Proof:
    """What one file gave beside what the network gave.

    Attributes:
        images: How many.
        difference: The largest of all outputs, as a share of the largest number of that output, or of 1.
        equal: Places with the same largest score, such as images of a classifier; of ``places``.
        places: 0 where no output has scores of several classes.
        correct: Places whose largest score is the label's; None without labels.
        labelled: Places that have a label.
    """

    images: int
    difference: float
    equal: int
    places: int
    correct: int | None = None
    labelled: int = 0

    @property
    def agreement(self) -> float | None:
        """Share of equal answers."""
        return self.equal / self.places if self.places else None

    @property
    def accuracy(self) -> float | None:
        """Share of right answers."""
        return None if self.correct is None or not self.labelled else self.correct / self.labelled


@dataclass
class _Tally:
    """What is counted of one file, batch by batch."""

    images: int = 0
    equal: int = 0
    places: int = 0
    correct: int = 0
    labelled: int = 0
    largest: dict[int, float] = field(default_factory=dict)  # output -> its largest number
    apart: dict[int, float] = field(default_factory=dict)  # output -> the largest difference

    def add(self, expected: Sequence[np.ndarray], found: Sequence[np.ndarray], targets: Any, what: str) -> None:
        shapes = [[output.shape for output in outputs] for outputs in (expected, found)]
        if shapes[0] != shapes[1]:
            raise UserError(f"{what}: its outputs have the shapes {shapes[1]}, those of the network are {shapes[0]}")
        self.images += len(expected[0]) if expected[0].ndim else 0
        for number, (want, have) in enumerate(zip(expected, found, strict=True)):
            if not want.size:
                continue
            same = (want == have) | (np.isnan(want) & np.isnan(have)) if want.dtype.kind == "f" else want == have
            apart = np.where(same, 0.0, np.abs(want.astype(np.float64) - have.astype(np.float64)))
            self.apart[number] = max(self.apart.get(number, 0.0), float(np.nan_to_num(apart, nan=np.inf).max()))
            finite = np.abs(want[np.isfinite(want)]) if want.dtype.kind == "f" else np.abs(want)
            self.largest[number] = max(self.largest.get(number, 0.0), float(finite.max()) if finite.size else 0.0)
            if want.dtype.kind == "f" and want.ndim > 1 and want.shape[1] > 1:
                equal = want.argmax(1) == have.argmax(1)
                self.equal, self.places = self.equal + int(equal.sum()), self.places + equal.size
        self._label([torch.from_numpy(np.ascontiguousarray(output)) for output in found], targets)

    def _label(self, outputs: list[Tensor], targets: Any) -> None:
        known = class_numbers(outputs, targets)
        for labels, scores in zip(known.labels, known.heads, strict=True):
            counts = counted(labels, scores.shape[1])
            self.labelled += int(counts.sum())
            self.correct += int(((scores.argmax(1) == labels) & counts).sum())

    def proof(self) -> Proof:
        shares = [apart / max(1.0, self.largest[number]) for number, apart in self.apart.items()]
        correct = self.correct if self.labelled else None
        return Proof(self.images, max(shares, default=0.0), self.equal, self.places, correct, self.labelled)


def prove(
    network: Runner, runners: Mapping[str, Runner], batches: Iterable[tuple[np.ndarray, Any]]
) -> dict[str, Proof]:
    """Run all files on the same images, and the network once.

    Args:
        network: The network itself.
        runners: Of each file by its name.
        batches: Images (N, ...) as both take them, and targets or None.

    Returns:
        By the same names, and under ``torch`` what the network itself gives.

    Raises:
        UserError: A file does not run on some number of images, or gives outputs of another shape.
    """
    tallies = {name: _Tally() for name in ("torch", *runners)}
    for images, targets in batches:
        expected = network(images)
        tallies["torch"].add(expected, expected, targets, "torch")
        for name, runner in runners.items():
            try:
                found = runner(images)
            except Exception as error:  # whatever a runtime raises
                raise UserError(
                    f"{name}: the file does not run on a batch of {len(images)} ({reason(error)}); take the number of "
                    "images from the tensor in the network's code, as in x.flatten(1)"
                ) from None
            tallies[name].add(expected, found, targets, name)
    return {name: tally.proof() for name, tally in tallies.items()}


def check_exact(name: str, proof: Proof, limit: float = LIMIT) -> None:
    """Raise :class:`UserError` where a file of float32 computes something else."""
    if not proof.difference <= limit:
        raise UserError(
            f"{name}: not written: on {proof.images} images its outputs differ by {proof.difference:.2g} of the "
            f"network's, more than {limit:g}; leave this format out of --format"
        )


def in_parts(images: Tensor, targets: Any, cut: Any, first: bool) -> Iterator[tuple[Tensor, Any]]:
    """A batch in runs of at most :data:`MOST` images; the first one begins with one image, and with two.

    Args:
        cut: Takes a part of the targets: ``cut(targets, start, stop, count)``.
        first: Whether it is the first batch.
    """
    start, sizes = 0, list(FIRST) if first else []
    while start < len(images):
        stop = min(start + (sizes.pop(0) if sizes else MOST), len(images))
        yield images[start:stop], cut(targets, start, stop, len(images))
        start = stop
