"""What does a supernet buy? The networks found beside what `slim` makes of the trained full network, at equal macs.

Both sides have seen as many training images: on one side the supernet and the training of the network found, on the
other the training of the full network and the tuning of what is left of it. Letters: N images, C channels, H W space.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from benchmarks.claims import autoslim, ofa, spos, tfnas
from benchmarks.claims.bench import Bench
from benchmarks.claims.job import Job, Jobs
from benchmarks.claims.study import only
from benchmarks.claims.sweep import MINUTES, largest
from benchmarks.claims.table import Row

ARCH_PER_WEIGHT = 0.5  # images for the architecture beside one for the weights, in a search of TF-NAS


def _full(case: str) -> str:
    return f"slim-{case}-full"


def _slim(case: str, seed: int) -> str:
    return f"slim-{case}-s{seed}"


def space_of(study: Mapping[str, Any], case: str) -> str:
    """The config of a case's space."""
    return f"autoslim_{study['slim']['autoslim'][0]}" if case == "autoslim" else case


def searched_by(study: Mapping[str, Any], case: str) -> tuple[str, list[str]]:
    """The job that has found the network of a case, and those that say how accurate it is."""
    slim = study["slim"]
    if case == "autoslim":
        shape, share = slim["autoslim"]
        return autoslim._search(shape), [autoslim._alone(shape, "found", share, s) for s in study[case]["seeds"]]
    if case == "spos":
        return spos.SEARCH, [spos._found(seed) for seed in study[case]["seeds"]]
    if case == "ofa":
        return ofa.SPECIALISE, [ofa._net(slim["ofa"])]
    return tfnas._search(slim["tfnas"]), [tfnas._found(slim["tfnas"], seed) for seed in study[case]["seeds"]]


def epochs_of(study: Mapping[str, Any], case: str) -> float:
    """How often a search and what follows it go through the training images; those for an architecture count too."""
    part = study[case]
    if case == "autoslim":
        shape = study["slim"]["autoslim"][0]
        return part["supernet_epochs"][shape] + part["epochs"][shape]
    if case == "spos":
        return part["supernet_epochs"] + part["epochs"]
    if case == "ofa":
        return sum(epochs for epochs, _ in part["phases"].values())
    return part["search_epochs"] + ARCH_PER_WEIGHT * (part["search_epochs"] - part["without_arch"]) + part["epochs"]


def jobs(study: Mapping[str, Any]) -> Iterator[Job]:
    """Case by case: the full network, then what is left of it, seed by seed."""
    slim, task = study["slim"], study["task"]
    for case in slim["cases"]:
        space, finder = space_of(study, case), searched_by(study, case)[0]
        total, tuned = round(epochs_of(study, case)), slim["tune_epochs"]
        settings = {**task, "case": case, "epochs": total - tuned}
        minutes = MINUTES[space]
        measure = partial(train_full, case=case)
        yield Job(_full(case), f"{space}_subnet", settings, measure, minutes * (total - tuned))
        settings = {**task, **only(slim, "tune_epochs", "images"), "which": slim.get(case)}
        for seed in slim["seeds"]:
            measure = partial(slim_and_tune, case=case, seed=seed)
            expected = 2 + 0.9 * minutes * tuned  # the teacher runs too
            yield Job(_slim(case, seed), f"{space}_subnet", settings, measure, expected, (finder,), (_full(case),))


# what a job does ------------------------------------------------------------------------------------------------


def train_full(bench: Bench, case: str) -> dict[str, Any]:
    """Train the network of most macs alone."""
    space = space_of(bench.study, case)
    epochs = bench.job.settings["epochs"]
    return {**bench.alone(space, *largest(bench, space), epochs, seed=0), "epochs": epochs}


def macs_of(bench: Bench, case: str) -> int:
    """Of the network found."""
    slim, record = bench.study["slim"], bench.record(searched_by(bench.study, case)[0])
    if case == "autoslim":
        return record["found"][str(slim["autoslim"][1])]["macs"]
    return record["nets"][slim["ofa"]]["macs"] if case == "ofa" else record["macs"]


def slim_and_tune(bench: Bench, case: str, seed: int) -> dict[str, Any]:
    """Slim the trained full network to the macs of the one found, tune it, and test both."""
    import mmrazor_lite
    from mmrazor_lite.config import load_config
    from mmrazor_lite.slimming.tune import tune

    slim, task, config = bench.study["slim"], bench.task, bench.config(space_of(bench.study, case), "subnet")
    macs, epochs = macs_of(bench, case), slim["tune_epochs"]
    cfg = load_config(config, bench.options("subnet"))  # which imports the blocks of a space
    trained = bench.jobs.folder(_full(case)) / "train" / f"epoch_{bench.record(_full(case))['epochs']}.pth"
    full, (images, labels) = mmrazor_lite.load_subnet(trained), loaded(cfg, "train_dataloader")
    budget, began = {"macs": f"{macs / 1e6:.6f}M"}, time.monotonic()
    options = {"images": slim["images"], "seed": seed, "latency": False}
    cut = mmrazor_lite.slim(full, (images, labels), budget, **options)
    middle = time.monotonic()
    tuned = tune(
        cut.model,
        full,
        (images, labels),
        f"{epochs} epochs",
        bench.folder / "tune",
        resume=True,
        augment=True,
        batch_size=task["batch"],
        seed=seed,
        show=False,
    )
    test = loaded(cfg, "test_dataloader")
    return {
        "test": accuracy(tuned.model, *test),
        "cut": accuracy(cut.model, *test),
        "tuned": tuned.is_taken,
        "seed": seed,
        "macs": int(cut.report.costs["slimmed"]["macs"]),
        "params": int(cut.report.costs["slimmed"]["params"]),
        "budget": macs,
        "subnet": dict(cut.subnet),
        "notes": [*cut.report.notes, *tuned.notes],
        "commands": {
            "slim": f"mmrazor_lite.slim(network, (images, labels), {budget}, {_words(options)})",
            "tune": f"mmrazor_lite.slimming.tune.tune(slimmed, network, (images, labels), '{epochs} epochs', "
            f"augment=True, batch_size={task['batch']}, seed={seed})",
        },
        "seconds": {"slim": round(middle - began), "tune": round(time.monotonic() - middle)},
    }


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items())


def loaded(cfg: Any, section: str) -> tuple[Any, Any]:
    """All images of a loader (N, C, H, W) as a network takes them, without crops and flips, and their labels (N,)."""
    import numpy as np
    from mmengine.registry import MODELS, init_default_scope

    from mmrazor_lite.datasets import HeldOut
    from mmrazor_lite.plain_data import plain
    from mmrazor_lite.registry import DATASETS

    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(plain(cfg[section].dataset))
    dataset.full_init()
    is_part = isinstance(dataset, HeldOut)
    resident = (dataset.dataset if is_part else dataset).images
    indices = dataset.indices if is_part else np.arange(len(dataset))
    prepare = MODELS.build(plain(cfg.data_preprocessor))
    return prepare({"inputs": resident.take(indices)})["inputs"], resident.labels[indices]


def accuracy(network: Any, images: Any, labels: Any) -> float:
    """Top 1, in percent."""
    import torch

    network.eval()
    with torch.no_grad():
        found = torch.cat([network(part).argmax(1) for part in images.split(500)])
    return round(100 * float((found == labels).float().mean()), 3)


# what the figures say -------------------------------------------------------------------------------------------


def both(study: Mapping[str, Any], jobs: Jobs, case: str) -> tuple[list[float], list[float]]:
    """Accuracies of the networks found and trained, and of those slimmed and tuned, by the seeds that are there."""
    mine = [_slim(case, seed) for seed in study["slim"]["seeds"]]
    groups = searched_by(study, case)[1], mine
    return tuple([record["test"] for name in group if (record := jobs.record(name))] for group in groups)


def rows(study: Mapping[str, Any], jobs: Jobs) -> Iterator[Row]:
    """A line for each case, side by side; nothing is judged."""
    slim = study["slim"]
    for case in slim["cases"]:
        finder, names = searched_by(study, case)
        found, slimmed = both(study, jobs, case)
        figure = ""
        if found and slimmed:
            ahead = statistics.fmean(found) - statistics.fmean(slimmed)
            figure = f"found {_mean(found)}, slimmed {_mean(slimmed)}: {ahead:+.2f} points"
        what = f"What a supernet buys: {case} beside slimming, {round(epochs_of(study, case))} epochs of images each"
        needed = [finder, *names, _full(case), *(_slim(case, seed) for seed in slim["seeds"])]
        yield Row(what, "reported", figure, None, needed)


def _mean(values: list[float]) -> str:
    """And the least and the most: seeds that share one trained network are no draws, and have no error."""
    return f"{statistics.fmean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
