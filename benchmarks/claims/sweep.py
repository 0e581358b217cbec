"""How long to train: the full network of each space alone, for several numbers of epochs and learning rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from benchmarks.claims.bench import Bench
from benchmarks.claims.job import Job, Jobs
from benchmarks.claims.study import only
from benchmarks.claims.table import Row

MINUTES = {"spos": 0.75, "autoslim_resnet": 0.3, "autoslim_wrn": 0.3, "autoslim_mbv2": 1.0}  # an epoch, of one core


def spaces(study: Mapping[str, Any]) -> list[str]:
    """Configs whose full network is trained."""
    return ["spos", *(f"autoslim_{shape}" for shape in study["autoslim"]["shapes"])]


def runs(study: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Epochs and learning rates."""
    sweep, lr = study["sweep"], study["task"]["lr"]
    return [*((epochs, lr) for epochs in sweep["epochs"]), *((min(sweep["epochs"]), other) for other in sweep["lrs"])]


def name_of(space: str, epochs: int, lr: float) -> str:
    return f"sweep-{space}-e{epochs:02d}-lr{lr:g}"


def jobs(study: Mapping[str, Any], space: str) -> Iterator[Job]:
    for epochs, lr in runs(study):
        settings = {**study["task"], "space": space, "epochs": epochs, "lr": lr}
        measure = partial(full, space=space, epochs=epochs, lr=lr)
        yield Job(name_of(space, epochs, lr), f"{space}_subnet", settings, measure, epochs * MINUTES[space])


def full(bench: Bench, space: str, epochs: int, lr: float) -> dict[str, Any]:
    """Train the network of most macs; the test images are not asked."""
    algorithm = bench.algorithm(space, "supernet")
    subnet = algorithm.search_space.subnet(algorithm.cost_model.extreme_row("macs", largest=True))
    return {**bench.alone(space, subnet, epochs, seed=0, lr=lr, test=False), **only(bench.job.settings, "epochs", "lr")}


def rows(study: Mapping[str, Any], jobs: Jobs) -> Iterator[Row]:
    """Whether the epochs of each claim are enough, by the accuracy on the images held out."""
    sweep, lr = study["sweep"], study["task"]["lr"]
    for space in spaces(study):
        claim, _, shape = space.partition("_")
        epochs = study[claim]["epochs"]
        epochs = epochs[shape] if shape else epochs
        names = [name_of(space, *run) for run in runs(study)]
        found = {
            n: jobs.record(name_of(space, n, lr))
            for n in sorted({*sweep["epochs"], epochs, 2 * epochs})
            if name_of(space, n, lr) in jobs.jobs
        }
        told = ", ".join(f"{n}: {record['held_out']:.2f}" for n, record in found.items() if record)
        both = found.get(epochs), found.get(2 * epochs)
        gain = both[1]["held_out"] - both[0]["held_out"] if all(both) else None
        figure = told + (f"; twice {epochs} gains {gain:+.2f}" if gain is not None else "")
        met = gain is not None and gain < sweep["gain"]
        yield Row(f"schedule of {space}: {epochs} epochs", f"twice as many gain < {sweep['gain']}", figure, met, names)
