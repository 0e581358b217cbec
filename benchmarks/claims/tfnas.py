"""TF-NAS: is the network found for a number of milliseconds better than random ones, and does it take so long?"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims import draws
from benchmarks.claims.arithmetic import Difference, ahead_of_draws
from benchmarks.claims.bench import Bench
from benchmarks.claims.job import Job, Jobs
from benchmarks.claims.study import only
from benchmarks.claims.table import Row

EPOCH = 0.2  # minutes of a network alone, of one core
SEARCH_EPOCH = 2.4  # of the search, most of it in the steps of the architecture, which run all operators
TABLE, MEASURED = "tfnas-table", "tfnas-measured"
ARCH = "train_cfg.arch_dataloader"
# What is measured is what is delivered: norms with statistics, while those of the search compute them of each batch.
DELIVERED = [f"model.architecture.backbone.norm_cfg.{key}=True" for key in ("affine", "track_running_stats")]


def _search(target: int) -> str:
    return f"tfnas-search-{target}"


def _found(target: int, seed: int) -> str:
    return f"tfnas-found{target}-s{seed}"


def _rival(target: int, index: int, seed: int) -> str:
    return f"tfnas-rival{target}-{index:02d}-s{seed}"


def _dealt(study: Mapping[str, Any], seed: int) -> list[int]:
    return draws.dealt(study["tfnas"]["rivals"], study["tfnas"]["seeds"], seed)


def jobs(study: Mapping[str, Any]) -> Iterator[Job]:
    """The table with the rivals, the searches, the clock, then seed by seed the networks found and their rivals."""
    tfnas, task = study["tfnas"], study["task"]
    targets = tfnas["targets"]
    measured = only(tfnas, "images", "repeats")
    drawn = {**task, **measured, **only(tfnas, "targets", "checks", "rivals", "tolerance")}
    yield Job(TABLE, "tfnas_search", drawn, table, 6)
    searched = {**task, **only(tfnas, "search_epochs", "without_arch", "temperature_decay", "lambda_lat")}
    minutes = SEARCH_EPOCH * tfnas["search_epochs"]
    for target in targets:
        measure = partial(search, target=target)
        yield Job(_search(target), "tfnas_search", {**searched, "target": target}, measure, minutes, (TABLE,))
    needs = (TABLE, *map(_search, targets))
    yield Job(MEASURED, "tfnas_search", {**task, **measured}, measure_found, 2, needs)
    alone, minutes = {**task, **only(tfnas, "epochs")}, EPOCH * tfnas["epochs"]
    for seed in tfnas["seeds"]:
        for target in targets:
            measure = partial(train_found, target=target, seed=seed)
            yield Job(_found(target, seed), "tfnas_subnet", alone, measure, minutes, (_search(target),))
            for index in _dealt(study, seed):
                measure = partial(train_rival, target=target, index=index, seed=seed)
                yield Job(_rival(target, index, seed), "tfnas_subnet", alone, measure, minutes, (TABLE,))


# what a job does ------------------------------------------------------------------------------------------------


def clock(bench: Bench) -> Any:
    """One thread, and the time that this process computes: other work on the machine changes that less."""
    from mmrazor_lite.estimators.measure import Bench as Clock

    return Clock("cpu", threads=1, batch_size=bench.study["tfnas"]["images"], clock="cpu")


def table(bench: Bench) -> dict[str, Any]:
    """Measure a latency table of this machine, and draw the rivals of each target by it."""
    tfnas, path = bench.study["tfnas"], bench.folder / "latency.json"
    words = ["latency", bench.config("tfnas", "search"), "-o", path, "--threads", 1, "--clock", "cpu"]
    words += ["--batch-size", tfnas["images"], "--repeats", tfnas["repeats"], "--checks", tfnas["checks"]]
    options = [*bench.image_options("search", ARCH), *DELIVERED]
    bench.command("table", *words, "--cfg-options", *options, done=path)
    algorithm = searching(bench, path)
    found = algorithm.cost_model.table
    low, high = found.extreme(largest=False), found.extreme(largest=True)
    targets = {str(target): target / 100 * high for target in tfnas["targets"]}
    drawn = {
        name: random_networks(algorithm, target, tfnas["rivals"], tfnas["tolerance"], int(name))
        for name, target in targets.items()
    }
    return {
        "device": dict(found.device),
        "correction": None if found.correction is None else vars(found.correction),
        "range": [low, high],
        "targets": targets,
        "rivals": drawn,
        **bench.told(),
        "table": path.read_text(),
    }


def searching(bench: Bench, path: Path) -> Any:
    """The supernet with a latency table: ``cost_model`` says milliseconds too."""
    from mmrazor_lite.config import build_model, load_config

    options = [*bench.image_options("search", ARCH), f"model.latency_table={path}"]
    return build_model(load_config(bench.config("tfnas", "search"), options))


def random_networks(algorithm: Any, target: float, number: int, tolerance: float, seed: int) -> list[dict[str, Any]]:
    """Networks of random operators and depths, whose widths are scaled to the target as the search scales its own."""
    start, rng, drawn = algorithm.widths.clone(), np.random.default_rng(seed), []
    algorithm.target, algorithm.tolerance = target, tolerance
    while len(drawn) < number:
        algorithm.widths.copy_(start)
        for parameter in algorithm.arch_parameters.parameters():
            parameter.data.copy_(parameter.new_tensor(rng.random(len(parameter))))
        algorithm.start_epoch(algorithm.epochs_without_arch)
        found, subnet = algorithm.end_epoch(), dict(algorithm.searched)
        is_random = found["less_probable"] == 1  # not another one, near it, that meets the target
        meets = abs(found["after"] / target - 1) <= tolerance
        if is_random and meets and subnet not in [other["subnet"] for other in drawn]:
            drawn.append({"subnet": subnet, "latency": found["after"]})
    return drawn


def search(bench: Bench, target: int) -> dict[str, Any]:
    """Search for a target; a network that misses it is a figure like any other."""
    from mmrazor_lite.checkpoints.checkpoint_file import read_checkpoint
    from mmrazor_lite.fileio import write_text_atomic
    from mmrazor_lite.subnet import read_subnet

    tfnas, known, path = bench.study["tfnas"], bench.record(TABLE), bench.folder / "latency.json"
    bench.folder.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, known["table"])
    wanted, epochs = known["targets"][str(target)], tfnas["search_epochs"]
    options = [*bench.image_options("search", ARCH), f"model.latency_table={path}", f"model.target_latency={wanted}"]
    options += [f"model.epochs_without_arch={tfnas['without_arch']}", f"model.lambda_lat={tfnas['lambda_lat']}"]
    options += [f"model.temperature_decay={tfnas['temperature_decay']}"]
    options += [f"{key}={epochs}" for key in ("train_cfg.max_epochs", "train_cfg.val_interval")]
    options += [f"param_scheduler.architecture.0.{key}={epochs}" for key in ("T_max", "end")]
    folder = bench.folder / "train"
    best = folder / "best_subnet.yaml"
    words = ["train", bench.config("tfnas", "search"), "--work-dir", folder, "--seed", 0, "--resume"]
    try:
        bench.command("train", *words, "--cfg-options", *options, done=best)
    except RuntimeError:  # how a search ends that misses its target, after it has written what it found
        if not best.exists():
            raise
    algorithm = searching(bench, path)
    subnet = read_subnet(best, algorithm.search_space).subnet
    weights = read_checkpoint(folder / f"epoch_{epochs}.pth")["state_dict"]
    costs = plain(bench).cost_model.of(subnet)
    return {
        "subnet": dict(subnet),
        "target": wanted,
        "latency": algorithm.cost_model.of(subnet)["latency"],
        **{key: int(costs[key]) for key in ("macs", "params")},
        "probabilities": {
            name: [round(value, 3) for value in tensor.softmax(0).tolist()]
            for name, tensor in weights.items()
            if name.startswith("arch_parameters.")
        },
        **bench.told(),
    }


def measure_found(bench: Bench) -> dict[str, Any]:
    """Measure the networks found whole, in turns, with the clock of the table."""
    from mmrazor_lite.estimators.steady_rounds import Steady

    tfnas, size = bench.study["tfnas"], bench.task["size"]
    ours, before = clock(bench), bench.record(TABLE)
    facts = ours.facts()
    if facts["name"] != before["device"]["name"]:
        raise RuntimeError(f"the table was measured on {before['device']['name']}, this is {facts['name']}")
    mutator = bench.algorithm("tfnas", "supernet", *DELIVERED).mutator
    subnets = {str(target): bench.record(_search(target))["subnet"] for target in tfnas["targets"]}
    networks = {name: (mutator.export(subnet), (3, size, size)) for name, subnet in subnets.items()}
    timer = ours.pace
    steady, rng = Steady(timer), np.random.default_rng(0)
    found = steady(ours.timers(networks), tfnas["repeats"], 0.01, rng)
    return {
        "measured": {name: statistics.median(times) for name, times in found.times.items()},
        "times": {name: list(times) for name, times in found.times.items()},
        "speeds": dict(found.speeds),
        "pace": 1000 * timer.best,
        "device": facts,
    }


def train_found(bench: Bench, target: int, seed: int) -> dict[str, Any]:
    """Train the network found alone."""
    subnet = bench.record(_search(target))["subnet"]
    return bench.alone("tfnas", plain(bench), subnet, bench.job.settings["epochs"], seed)


def train_rival(bench: Bench, target: int, index: int, seed: int) -> dict[str, Any]:
    """Train a random network of the same latency alone."""
    subnet = bench.record(TABLE)["rivals"][str(target)][index]["subnet"]
    return bench.alone("tfnas", plain(bench), subnet, bench.job.settings["epochs"], seed)


def plain(bench: Bench) -> Any:
    """The space, and costs of what is delivered."""
    return bench.algorithm("tfnas", "supernet", *DELIVERED)


# what the figures say -------------------------------------------------------------------------------------------


def gap(study: Mapping[str, Any], jobs: Jobs, target: int) -> Difference | None:
    """What the network found is ahead of its rivals, by the seeds of which all are there."""
    ours, others = [], []
    for seed in study["tfnas"]["seeds"]:
        found = jobs.record(_found(target, seed))
        rivals = [jobs.record(_rival(target, index, seed)) for index in _dealt(study, seed)]
        if found and rivals and all(rivals):
            ours.append(found["test"])
            others.append([rival["test"] for rival in rivals])
    return ahead_of_draws(ours, others) if ours else None


def _names(study: Mapping[str, Any], target: int) -> list[str]:
    names = []
    for seed in study["tfnas"]["seeds"]:
        names += [_found(target, seed), *(_rival(target, index, seed) for index in _dealt(study, seed))]
    return names


def rows(study: Mapping[str, Any], jobs: Jobs) -> Iterator[Row]:
    """A line for each target, that of the claim, and that of the milliseconds."""
    tfnas = study["tfnas"]
    criteria, targets = tfnas["criteria"], tfnas["targets"]
    errors, ahead, all_names = criteria["ahead"], 0, []
    for target in targets:
        found = gap(study, jobs, target)
        is_ahead = found is not None and found.errors >= errors
        ahead, names = ahead + is_ahead, _names(study, target)
        all_names += names
        what = f"TF-NAS, {target}% of the milliseconds"
        criterion = f"ahead of {tfnas['rivals']} random networks by {errors} errors"
        yield Row(what, criterion, f"{found} points" if found else "", is_ahead, names)
    what = "TF-NAS finds better than random networks of equal latency"
    criterion = f"ahead at {criteria['cases']} of {len(targets)}"
    figure = f"ahead at {ahead}" if any(map(jobs.done, all_names)) else ""
    yield Row(what, criterion, figure, ahead >= criteria["cases"], all_names)
    yield _milliseconds(study, jobs)


def _milliseconds(study: Mapping[str, Any], jobs: Jobs) -> Row:
    criteria, targets = study["tfnas"]["criteria"], study["tfnas"]["targets"]
    found = {target: record for target in targets if (record := jobs.record(_search(target)))}
    off = {target: record["latency"] / record["target"] - 1 for target, record in found.items()}
    clock, known, parts = jobs.record(MEASURED), jobs.record(TABLE), []
    met = len(off) == len(targets) and all(abs(value) <= criteria["by_table"] for value in off.values())
    if off:
        parts = [f"by the table {', '.join(f'{value:+.2%}' for value in off.values())}"]
    if clock and known and found:
        scale = known["device"]["pace"] / clock["pace"]  # both at full speed, as fast as the machine was at the table
        whole = {target: scale * clock["measured"][str(target)] / found[target]["target"] - 1 for target in found}
        met = met and all(abs(value) <= criteria["measured"] for value in whole.values())
        parts += [f"measured {', '.join(f'{value:+.1%}' for value in whole.values())}"]
    criterion = f"off by <= {criteria['by_table']:.0%} by the table, <= {criteria['measured']:.0%} measured whole"
    names = [TABLE, *map(_search, targets), MEASURED]
    return Row(f"TF-NAS meets its {len(targets)} targets", criterion, "; ".join(parts), met, names)
