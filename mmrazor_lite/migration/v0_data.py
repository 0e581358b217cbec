"""``data`` of MMRazor 0.x as data loaders in our form. Sources: mmcls 0.x, ``datasets.builder`` and ``datasets``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .section import Section
from .told import Told
from .v0_pipeline import pipeline

PARTS = ("train", "val", "test")
# Options of a loader -> ours; those of mmcls's own are told apart below.
_LOADER = {
    "samples_per_gpu": "batch_size",
    "workers_per_gpu": "num_workers",
    "pin_memory": "pin_memory",
    "persistent_workers": "persistent_workers",
    "prefetch_factor": "prefetch_factor",
    "timeout": "timeout",
    "drop_last": "drop_last",
}
_SAMPLER = ("shuffle", "round_up")
# Sets that are kept in files of their own -> the class here that reads them from data_root.
_IN_FILES = {"CIFAR10": "Cifar10Images", "CIFAR100": "CIFAR100", "MNIST": "MNIST", "FashionMNIST": "FashionMNIST"}


@dataclass(frozen=True)
class Data:
    """``train_dataloader`` and the like, those that the config has, and the preprocessor of all of them."""

    loaders: dict[str, dict[str, Any]]
    preprocessor: dict[str, Any]


class _Reader:
    """Reads datasets, and sees whether their pipelines normalise alike."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.normalisations: dict[str, dict[str, Any]] = {}  # where it stands -> it

    def dataset(self, value: Any, where: str, is_test: bool) -> dict[str, Any]:
        """Return the config of a dataset, or of a list of them."""
        if isinstance(value, list | tuple):
            parts = [self.dataset(part, f"{where}.{index}", is_test) for index, part in enumerate(value)]
            return {"type": "ConcatDataset", "datasets": parts}
        section = Section(value, where, self.told)
        kind = section.kind()
        if kind in ("RepeatDataset", "ClassBalancedDataset"):
            inner = self.dataset(section.take("dataset"), section.place("dataset"), is_test)
            return {"type": kind, "dataset": inner, **section.rest()}
        if kind == "ConcatDataset":
            section.drop("left out: metrics are of all images", "separate_eval")
            parts = self.dataset(section.take("datasets"), section.place("datasets"), is_test)
            section.finish()
            return parts
        return self._images(section, kind, is_test)

    def _images(self, section: Section, kind: Any, is_test: bool) -> dict[str, Any]:
        steps, normalisation = pipeline(section.take("pipeline", ()), section.place("pipeline"), self.told)
        self.normalisations[section.place("pipeline")] = normalisation
        is_test = section.take("test_mode", is_test)
        found: dict[str, Any] = {"type": kind}
        if kind in _IN_FILES:
            found = {"type": _IN_FILES[kind], "data_root": section.take("data_prefix", to="data_root")}
            found["split"] = "test" if is_test else "train"
            section.drop("left out: the files say it", "ann_file")
        rest = {key: value for key, value in section.rest().items() if value is not None}
        return {**found, **rest, "pipeline": steps}

    def preprocessor(self) -> dict[str, Any]:
        """The one of all pipelines; tells those that differ from the first."""
        given = list(self.normalisations.items())
        first, found = given[0] if given else ("", {})
        for where, other in given[1:]:
            if _comparable(other) != _comparable(found):
                self.told.problem(
                    f"{where}: Normalize is not as in {first}: one preprocessor serves all; make them equal"
                )
        return {"type": "ClsDataPreprocessor", **found}


def data(top: Section) -> Data:
    """Take ``data`` apart."""
    section = top.section("data")
    reader, loaders = _Reader(top.told), {}
    common = _options(section)
    top.refuse("sampler", "images come in the order that the seed of the run gives: remove it")
    section.refuse("split", "a training has all images of data.train: remove it", False)
    section.refuse("sampler_cfg", "images come in the order that the seed of the run gives: remove it")
    section.drop("randomness.seed", "seed")
    for part in PARTS:
        own = section.section(f"{part}_dataloader")
        options = {**common, **_options(own)}
        own.finish()
        value = section.take(part)
        if value is not None:
            where = section.place(part)
            loaders[f"{part}_dataloader"] = _loader(part, options, reader.dataset(value, where, part != "train"))
            top.told.change(where, f"{part}_dataloader.dataset")
    section.finish()
    for old, new in (("samples_per_gpu", "batch_size"), ("workers_per_gpu", "num_workers")):
        if old in common:
            top.told.change(f"data.{old}", f"{new} of {', '.join(loaders)}")
    return Data(loaders, reader.preprocessor())


def _options(section: Section) -> dict[str, Any]:
    return {key: section.take(key) for key in (*_LOADER, *_SAMPLER) if key in section}


def _loader(part: str, options: Mapping[str, Any], dataset: dict[str, Any]) -> dict[str, Any]:
    """A loader as mmcls builds it: the last batch may be smaller, and only training images are shuffled."""
    training = part == "train"
    found = {"persistent_workers": True, "pin_memory": True}
    found |= {_LOADER[key]: value for key, value in options.items() if key in _LOADER}
    found["persistent_workers"] = bool(found["persistent_workers"] and found.get("num_workers"))
    if not training:
        found.pop("drop_last", None)  # metrics are of all images
    sampler = {"type": "DefaultSampler", "shuffle": bool(training and options.get("shuffle", True))}
    if "round_up" in options:
        sampler["round_up"] = options["round_up"]
    return {**found, "dataset": dataset, "sampler": sampler}


def _comparable(normalisation: Mapping[str, Any]) -> dict[str, Any]:
    """The same with lists for tuples."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in normalisation.items()}
