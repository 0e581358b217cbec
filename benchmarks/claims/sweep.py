"""How long to train: the full network of each space alone, for several numbers of epochs and learning rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from benchmarks.claims import ofa, tfnas
from benchmarks.claims.bench import Bench
from benchmarks.claims.job import Job, Jobs
from benchmarks.claims.study import only
from benchmarks.claims.table import Row

# an epoch, of one core
MINUTES = {
    "spos": 0.5,
    **dict.fromkeys(("autoslim_resnet", "autoslim_wrn", "autoslim_mbv2"), 0.3),
    "ofa": ofa.EPOCH,
    "tfnas": 3 * tfnas.EPOCH,
}
BRIEF = ("ofa", "tfnas")  # depthwise and slow: trained as long as was chosen, and twice as long, and no more


def spaces(study: Mapping[str, Any]) -> list[str]:
    """Configs whose full network is trained."""
    return ["spos", *(f"autoslim_{shape}" for shape in study["autoslim"]["shapes"]), *BRIEF]


def chosen(study: Mapping[str, Any], space: str) -> int:
    """The epochs of the networks of a space that are trained alone."""
    claim, _, shape = space.partition("_")
    epochs = study[claim]["epochs"]
    return epochs[shape] if shape else epochs


def runs(study: Mapping[str, Any], space: str) -> list[tuple[int, float]]:
    """Epochs and learning rates."""
    sweep, lr = study["sweep"], study["task"]["lr"]
    if space in BRIEF:
        return [(epochs, lr) for epochs in (chosen(study, space), 2 * chosen(study, space))]
    longer = sorted({*sweep["epochs"], 2 * chosen(study, space)})
    return [*((epochs, lr) for epochs in longer), *((min(sweep["epochs"]), other) for other in sweep["lrs"])]


def name_of(space: str, epochs: int, lr: float) -> str:
    return f"sweep-{space}-e{epochs:02d}-lr{lr:g}"


def jobs(study: Mapping[str, Any], space: str) -> Iterator[Job]:
    for epochs, lr in runs(study, space):
        settings = {**study["task"], "space": space, "epochs": epochs, "lr": lr}
        measure = partial(full, space=space, epochs=epochs, lr=lr)
        yield Job(name_of(space, epochs, lr), f"{space}_subnet", settings, measure, epochs * MINUTES[space])


def full(bench: Bench, space: str, epochs: int, lr: float) -> dict[str, Any]:
    """Train the network of most macs; the test images are not asked."""
    return {
        **bench.alone(space, *largest(bench, space), epochs, seed=0, lr=lr, test=False),
        **only(bench.job.settings, "epochs", "lr"),
    }


def largest(bench: Bench, space: str) -> tuple[Any, Mapping[str, Any]]:
    """The supernet of a space, without weights, and its network of most macs."""
    algorithm = tfnas.plain(bench) if space == "tfnas" else bench.algorithm(space, "supernet")
    return algorithm, algorithm.search_space.subnet(algorithm.cost_model.extreme_row("macs", largest=True))


def rows(study: Mapping[str, Any], jobs: Jobs) -> Iterator[Row]:
    """Whether the epochs of each claim are enough, by the accuracy on the images held out."""
    sweep, lr = study["sweep"], study["task"]["lr"]
    for space in spaces(study):
        epochs, names = chosen(study, space), {run: name_of(space, *run) for run in runs(study, space)}
        found = {run: record["held_out"] for run, name in names.items() if (record := jobs.record(name))}
        told = [
            f"{n} epochs: {value:.2f}" + (f" (lr {rate})" if rate != lr else "") for (n, rate), value in found.items()
        ]
        met = False
        if {(epochs, lr), (2 * epochs, lr)} <= set(found):
            gain = found[2 * epochs, lr] - found[epochs, lr]
            told.append(f"{2 * epochs} gain {gain:+.2f}")
            met = gain < sweep["gain"]
        what, criterion = f"schedule of {space}: {epochs} epochs", f"twice as many gain < {sweep['gain']}"
        yield Row(what, criterion, ", ".join(told), met, list(names.values()))
