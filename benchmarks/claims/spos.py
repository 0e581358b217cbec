"""SPOS: does the supernet rank its subnets, and does the search find a good one?"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from benchmarks.claims import draws
from benchmarks.claims.arithmetic import ahead_of_draws, tau, tau_interval
from benchmarks.claims.bench import Bench, scores
from benchmarks.claims.job import Job, Jobs
from benchmarks.claims.study import only
from benchmarks.claims.table import Row

SUPERNET, SCORES, SEARCH = "spos-supernet", "spos-scores", "spos-search"
EPOCH, SUPERNET_EPOCH = 0.32, 0.42  # minutes of a mean path, of one core
CALIBRATIONS = (0, 1, 2)  # seeds of the images for batch norm: how much of a score is chance


def _range(index: int) -> str:
    return f"spos-range-{index:02d}"


def _band(index: int, seed: int) -> str:
    return f"spos-band-{index:02d}-s{seed}"


def _found(seed: int) -> str:
    return f"spos-found-s{seed}"


def jobs(study: Mapping[str, Any]) -> Iterator[Job]:
    """The supernet, a coarse ranking, the fine one, and the duel seed by seed."""
    spos, task = study["spos"], study["task"]
    alone = {**task, **only(spos, "epochs")}
    searched = {**task, **only(spos, "band", "search_epochs", "calibrate")}
    minutes = EPOCH * spos["epochs"]
    ranges, bands = {**alone, **only(spos, "range")}, {**alone, **only(spos, "band", "in_band")}
    order = draws.spread_first(spos["range"], spos["first"])

    def in_range(index: int) -> Job:
        return Job(_range(index), "spos_subnet", ranges, partial(train_range, index=index), minutes)

    def in_band(index: int, seed: int) -> Job:
        return Job(_band(index, seed), "spos_subnet", bands, partial(train_band, index=index, seed=seed), minutes)

    yield from map(in_range, order[: spos["first"]])
    supernet_epochs = spos["supernet_epochs"]
    yield Job(
        SUPERNET, "spos_supernet", {**task, "epochs": supernet_epochs}, train_supernet, SUPERNET_EPOCH * supernet_epochs
    )
    scored = {**task, **only(spos, "range", "band", "in_band", "calibrate")}
    yield Job(SCORES, "spos_search", scored, score, 8, reads=(SUPERNET,))
    yield from map(in_range, order[spos["first"] :])
    yield Job(SEARCH, "spos_search", searched, search, 12, reads=(SUPERNET,))
    first = spos["seeds"][0]
    yield from (in_band(index, first) for index in range(spos["in_band"]))
    for seed in spos["seeds"]:
        yield Job(_found(seed), "spos_subnet", alone, partial(train_found, seed=seed), minutes, needs=(SEARCH,))
        yield from (in_band(index, seed) for index in draws.dealt(spos["rivals"], spos["seeds"], seed) if seed != first)


# what a job does ------------------------------------------------------------------------------------------------


def train_supernet(bench: Bench) -> dict[str, Any]:
    """Train the supernet; the held-out accuracy is that of its validation."""
    bench.train_supernet("spos", bench.job.settings["epochs"])
    return {"epochs": bench.job.settings["epochs"], **bench.told()}


def range_subnets(study: Mapping[str, Any], algorithm: Any) -> list[Any]:
    """One subnet in each part of the range of flops, the cheapest first."""
    return draws.over_range(algorithm.search_space, algorithm.cost_model, "flops", study["spos"]["range"], seed=0)


def band_subnets(study: Mapping[str, Any], algorithm: Any) -> list[Any]:
    """Subnets of equal flops; the first ones are the rivals of the one found."""
    low, high = (1e6 * edge for edge in study["spos"]["band"])
    return draws.within(algorithm.search_space, algorithm.cost_model, "flops", low, high, study["spos"]["in_band"], 1)


def train_range(bench: Bench, index: int) -> dict[str, Any]:
    """Train a subnet of the range alone."""
    algorithm = bench.algorithm("spos", "supernet")
    subnet = range_subnets(bench.study, algorithm)[index]
    return bench.alone("spos", algorithm, subnet, bench.job.settings["epochs"], seed=0)


def train_band(bench: Bench, index: int, seed: int) -> dict[str, Any]:
    """Train a subnet of the band alone."""
    algorithm = bench.algorithm("spos", "supernet")
    subnet = band_subnets(bench.study, algorithm)[index]
    return bench.alone("spos", algorithm, subnet, bench.job.settings["epochs"], seed)


def train_found(bench: Bench, seed: int) -> dict[str, Any]:
    """Train the subnet found alone."""
    algorithm = bench.algorithm("spos", "supernet")
    return bench.alone("spos", algorithm, bench.record(SEARCH)["subnet"], bench.job.settings["epochs"], seed)


def checkpoint(bench: Bench) -> Any:
    """The trained supernet."""
    return bench.jobs.folder(SUPERNET) / "train" / f"epoch_{bench.study['spos']['supernet_epochs']}.pth"


def score(bench: Bench) -> dict[str, Any]:
    """Score the subnets that are trained alone, each with several choices of calibration images."""
    algorithm = bench.algorithm("spos")
    drawn = {"range": range_subnets(bench.study, algorithm), "band": band_subnets(bench.study, algorithm)}
    costs = {name: [int(algorithm.cost_model.of(s)["flops"]) for s in subnets] for name, subnets in drawn.items()}
    found = {name: scores(bench, "spos", checkpoint(bench), subnets, CALIBRATIONS) for name, subnets in drawn.items()}
    return {"scores": found, "flops": costs, "calibrations": list(CALIBRATIONS)}


def search(bench: Bench) -> dict[str, Any]:
    """Search the band by evolution."""
    from mmrazor_lite.subnet import read_subnet

    spos, options = bench.study["spos"], bench.options("search")
    low, high = spos["band"]
    options += [f"search_cfg.constraints_range.flops=({low},{high})"]
    options += [f"search_cfg.searcher.max_epochs={spos['search_epochs']}"]
    options += [f"search_cfg.calibrate_sample_num={spos['calibrate']}"]
    if spos["search_epochs"] == 1:
        options += ["search_cfg.searcher.num_candidates=4", "search_cfg.searcher.top_k=2"]
        options += ["search_cfg.searcher.num_mutation=2", "search_cfg.searcher.num_crossover=2"]
    path = bench.workspace.search("search", bench.config("spos", "search"), checkpoint(bench), options)
    algorithm = bench.algorithm("spos")
    file = read_subnet(path, algorithm.search_space)
    costs = algorithm.cost_model.of(file.subnet)
    return {"subnet": dict(file.subnet), **{key: int(costs[key]) for key in ("macs", "flops")}, **bench.told()}


# what the figures say -------------------------------------------------------------------------------------------


def ranked(study: Mapping[str, Any], jobs: Jobs, kind: str) -> tuple[list[float], list[float]]:
    """Scores and accuracies of those subnets of the range, or of the band, of which there are both."""
    found, accuracies, _ = _trained(study, jobs, kind)
    return found, accuracies


def _trained(study: Mapping[str, Any], jobs: Jobs, kind: str) -> tuple[list[float], list[float], list[int]]:
    """Scores, accuracies and flops of the subnets that were trained alone, all with the same seed."""
    spos, scored, found = study["spos"], jobs.record(SCORES), []
    first = spos["seeds"][0]
    names = map(_range, range(spos["range"])) if kind == "range" else (_band(i, first) for i in range(spos["in_band"]))
    for index, name in enumerate(names):
        record = jobs.record(name)
        if record and scored:
            found.append((scored["scores"][kind][index][0], record["test"], record.get("flops", 0)))
    scores, accuracies, flops = ([line[column] for line in found] for column in range(3))
    return scores, accuracies, flops


def _ranking(study: Mapping[str, Any], jobs: Jobs, kind: str, names: list[str], what: str) -> Row:
    least = study["spos"]["criteria"][f"tau_{kind}"]
    found, accuracies, flops = _trained(study, jobs, kind)
    figure, met = "", False
    if len(found) > 2:
        value, (low, high) = tau(found, accuracies), tau_interval(found, accuracies)
        met = value >= least
        spread = f"accuracies {min(accuracies):.1f} to {max(accuracies):.1f}"
        figure = f"tau {value:.2f} (90%: {low:.2f} to {high:.2f}) of {len(found)} subnets, {spread}"
        figure += f"; flops alone: tau {tau(flops, accuracies):.2f}"
    return Row(what, f"tau >= {least}", figure, met, [SCORES, *names])


def rows(study: Mapping[str, Any], jobs: Jobs) -> Iterator[Row]:
    """The three lines of SPOS."""
    spos = study["spos"]
    ranges = [_range(index) for index in range(spos["range"])]
    yield _ranking(study, jobs, "range", ranges, f"SPOS ranks {spos['range']} subnets over the whole range of flops")
    first = spos["seeds"][0]
    bands = [_band(index, first) for index in range(spos["in_band"])]
    low, high = spos["band"]
    yield _ranking(study, jobs, "band", bands, f"SPOS ranks {spos['in_band']} subnets of {low} to {high} M flops")
    yield _duel(study, jobs)


def _duel(study: Mapping[str, Any], jobs: Jobs) -> Row:
    spos = study["spos"]
    least, whole, ours, others, names = spos["criteria"]["ahead"], 0, [], [], []
    for seed in spos["seeds"]:
        duel = [_found(seed), *(_band(index, seed) for index in draws.dealt(spos["rivals"], spos["seeds"], seed))]
        names += duel
        records = [record for name in duel if (record := jobs.record(name))]
        if len(records) == len(duel):
            whole += 1
            ours.append(records[0]["test"])
            others.append([record["test"] for record in records[1:]])
    figure, met = "", False
    if whole:
        gap = ahead_of_draws(ours, others)
        met = gap.errors >= least
        drawn = [accuracy for group in others for accuracy in group]
        figure = (
            f"{gap} points, {whole} seeds: {statistics.fmean(ours):.2f} beside {statistics.fmean(drawn):.2f} "
            f"(from {min(drawn):.2f} to {max(drawn):.2f})"
        )
    what = f"SPOS finds better than {spos['rivals']} random subnets of equal flops"
    return Row(what, f"ahead by {least} errors", figure, met, names)
