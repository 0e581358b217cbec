"""Which images a search uses for what, as its config says: where they are those of the tests, it says so."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmrazor_lite.walk import kind_of

_IMAGES = ("data_root", "data_prefix", "split", "ann_file")  # what says the images of a dataset
_USES = {"dataloader": "subnets are scored on", "calibrate_dataloader": "batch norm is recalibrated on"}
_TRAINED = (
    "search_cfg.dataloader: subnets are scored on images of train_dataloader, which the supernet may have been trained "
    "on (its checkpoint does not say): hold out some of them (HeldOut), or score on others"
)
_TESTS = ("test_dataloader", "val_dataloader")


@dataclass(frozen=True)
class SearchedImages:
    """What a config says of the images that a search uses, for people.

    Attributes:
        notes: One line per use of images that networks are validated or tested with.
        trained: A line where subnets are scored on images of the training; for a checkpoint that does not say its own.
    """

    notes: list[str]
    trained: str | None

    def say(self, runner: Any) -> None:
        """Log it, now that the supernet is loaded."""
        for line in self.notes + [self.trained] * (self.trained is not None and runner.algorithm.data is None):
            runner.logger.warning(line)


def read(cfg: Mapping, settings: Mapping[str, Any]) -> SearchedImages:
    """Compare the images of a search with those of the other sections.

    Images that ``train_dataloader`` has too are none of a test: they are held out of the training, or are trained on.

    Args:
        cfg: The config with its data loaders.
        settings: Of the search.
    """
    training, notes = dict(sources(cfg.get("train_dataloader"))), []
    for key, use in _USES.items():
        mine = {source for source, _ in sources(settings.get(key))} - set(training)
        section = next((name for name in _TESTS if mine & {source for source, _ in sources(cfg.get(name))}), None)
        if section is not None:
            notes.append(
                f"search_cfg.{key}: {use} images of {section}, so that a score on these is no test of what is found; a "
                "part of the training images can be held out for searches (HeldOut, in both configs)"
            )
    scored = list(sources(settings.get("dataloader")))
    if any(source in training and not _apart(part, training[source]) for source, part in scored):
        return SearchedImages(notes, _TRAINED)
    return SearchedImages(notes, None)


def sources(node: Any, part: tuple = ()) -> Iterator[tuple[tuple, tuple]]:
    """Yield what says the images of every dataset config below ``node``, and which part of them ``HeldOut`` takes."""
    if isinstance(node, Mapping):
        if kind_of(node) == "HeldOut":
            part = (node.get("part", "train"), node.get("fraction", 0.04), node.get("seed", 0))
        if node.get("pipeline") is not None or any(node.get(key) for key in _IMAGES):
            yield _source(node), part
        for value in node.values():
            yield from sources(value, part)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from sources(value, part)


def _source(dataset: Mapping) -> tuple:
    kind = kind_of(dataset)
    root, prefix = str(dataset.get("data_root") or ""), dataset.get("data_prefix") or dataset.get("split") or ""
    return kind, os.path.realpath(os.path.join(root, str(prefix))), str(dataset.get("ann_file") or "")


def _apart(one: tuple, other: tuple) -> bool:
    """Whether two parts of the same images have none in common."""
    return bool(one and other) and {one[0], other[0]} == {"train", "held_out"} and one[1:] == other[1:]
