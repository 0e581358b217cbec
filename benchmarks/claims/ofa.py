"""Once-for-All: do the networks taken out of the supernet need no training, and is the predictor worth its name?"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.claims.bench import Bench
from benchmarks.claims.job import Job, Jobs
from benchmarks.claims.study import only
from benchmarks.claims.table import Row

EPOCH = 1.2  # minutes of one pass of the largest network, of one core
PASSES = {"teacher": 1, "kernel": 1.2, "depth_1": 1.9, "depth_2": 1.7, "expand_1": 2.5, "expand_2": 2.2}
COLLECT, SPECIALISE = "ofa-collect", "ofa-specialise"


def _phase(name: str) -> str:
    return f"ofa-phase-{name}"


def _net(index: int) -> str:
    return f"ofa-net-{index}"


def _scratch(index: int, seed: int) -> str:
    return f"ofa-scratch-{index}-s{seed}"


def jobs(study: Mapping[str, Any]) -> Iterator[Job]:
    """The phases in order, the predictor, the networks, and the same from scratch, seed by seed."""
    ofa, task = study["ofa"], study["task"]
    reads: tuple[str, ...] = ()
    for name, (epochs, lr) in ofa["phases"].items():
        settings = {**task, "phase": name, "epochs": epochs, "lr": lr}
        minutes = EPOCH * PASSES[name] * epochs
        yield Job(_phase(name), "ofa_supernet", settings, partial(train_phase, name=name), minutes, reads=reads)
        reads = tuple(dict.fromkeys((_phase(next(iter(ofa["phases"]))), _phase(name))))
    last = reads[-1]
    collected = {**task, **only(ofa, "collected", "held_out", "calibrate")}
    yield Job(COLLECT, "ofa_search", collected, collect, 15, reads=(last,))
    found = {**task, **only(ofa, "budgets", "calibrate")}
    yield Job(SPECIALISE, "ofa_search", found, specialise, 2, reads=(last, COLLECT))
    fine = {**task, **only(ofa, "fine_epochs", "fine_lr")}
    for index in range(len(ofa["budgets"])):
        yield Job(_net(index), "ofa_subnet", fine, partial(tune, index=index), 2, reads=(SPECIALISE,))
    alone = {**task, **only(ofa, "epochs")}
    for seed in ofa["seeds"]:
        for index in range(len(ofa["budgets"])):
            measure = partial(train_scratch, index=index, seed=seed)
            yield Job(_scratch(index, seed), "ofa_subnet", alone, measure, 0.6 * EPOCH * ofa["epochs"], (SPECIALISE,))


# what a job does ------------------------------------------------------------------------------------------------


def checkpoint(bench: Bench, phase: str) -> Path:
    """Of a phase that was trained."""
    return bench.jobs.folder(_phase(phase)) / "train" / f"epoch_{bench.study['ofa']['phases'][phase][0]}.pth"


def train_phase(bench: Bench, name: str) -> dict[str, Any]:
    """Train a phase, from the checkpoint of the one before."""
    phases = list(bench.study["ofa"]["phases"])
    epochs, lr = bench.study["ofa"]["phases"][name]
    options = [*bench.options("supernet", epochs, lr), "model.training=progressive_shrinking", f"model.phase={name}"]
    if name != phases[0]:
        options += [f"load_from={checkpoint(bench, phases[phases.index(name) - 1])}"]
        options += [f"model.teacher={checkpoint(bench, phases[0])}"]
    bench.workspace.train("train", bench.config("ofa", "supernet"), epochs, 0, options)
    return {"epochs": epochs, "validated": bench.validated("train"), **bench.told()}


def _search_options(bench: Bench) -> list[str]:
    return [*bench.options("search"), f"search_cfg.calibrate_sample_num={bench.study['ofa']['calibrate']}"]


def collect(bench: Bench) -> dict[str, Any]:
    """Evaluate random subnets and fit a predictor to most of them."""
    from mmrazor_lite.search import AccuracyPredictor

    ofa, config, options = bench.study["ofa"], bench.config("ofa", "search"), _search_options(bench)
    scores, predictor = bench.folder / "scores.jsonl", bench.folder / "predictor.safetensors"
    words = ["predictor-collect", config, checkpoint(bench, list(ofa["phases"])[-1]), "-n", ofa["collected"]]
    words += ["-o", scores, "--work-dir", bench.folder / "collect", "--cfg-options", *options]
    bench.command("collect", *words, done=predictor)  # goes on with what is in the file
    words = ["predictor-train", config, scores, "-o", predictor, "--held-out", ofa["held_out"], "--seed", 0]
    bench.command("fit", *words, "--cfg-options", *options, done=predictor)
    facts = AccuracyPredictor.read(predictor, bench.algorithm("ofa").search_space).facts
    lines = [json.loads(line) for line in scores.read_text().splitlines()]
    found = [[entry["macs"], round(entry["metrics"]["score"], 3)] for entry in lines if "metrics" in entry]
    return {"predictor": facts, "collected": found, **bench.told()}


def specialise(bench: Bench) -> dict[str, Any]:
    """Find a network for each budget by the predictor; its score is the true one."""
    from mmrazor_lite.subnet import read_subnet

    ofa, folder = bench.study["ofa"], bench.folder / "nets"
    limits = [f"{budget}M" for budget in ofa["budgets"]]
    files = [folder / f"macs_{limit}" / "best_subnet.yaml" for limit in limits]
    words = ["specialize", bench.config("ofa", "search"), checkpoint(bench, list(ofa["phases"])[-1]), "--macs", *limits]
    words += ["--predictor", bench.jobs.folder(COLLECT) / "predictor.safetensors", "--work-dir", folder, "--resume"]
    bench.command("specialise", *words, "--cfg-options", *_search_options(bench), done=files[-1])
    algorithm, nets = bench.algorithm("ofa"), []
    for limit, path in zip(limits, files, strict=True):
        file = read_subnet(path, algorithm.search_space)
        costs = algorithm.cost_model.of(file.subnet)
        costs = {key: int(costs[key]) for key in ("macs", "params")}
        nets.append({"limit": limit, **costs, "subnet": dict(file.subnet), "score": dict(file.score)})
    return {"nets": nets, **bench.told()}


def net_file(bench: Bench, index: int) -> Path:
    """The weights of a network that was taken out of the supernet."""
    limit = bench.record(SPECIALISE)["nets"][index]["limit"]
    return bench.jobs.folder(SPECIALISE) / "nets" / f"macs_{limit}" / "best_subnet.pth"


def tune(bench: Bench, index: int) -> dict[str, Any]:
    """Test a network as it comes out of the supernet, and once more after some epochs of training."""
    ofa, config, file = bench.study["ofa"], bench.config("ofa", "subnet"), net_file(bench, index)
    options = [*bench.options("subnet", ofa["fine_epochs"], ofa["fine_lr"]), f"model.init_cfg.checkpoint={file}"]
    as_it_is = bench.workspace.test("out", config, file, options)
    trained = bench.workspace.train("train", config, ofa["fine_epochs"], 0, options)
    tuned = bench.workspace.test("train", config, trained, options)
    accuracies = {"test": as_it_is["accuracy/top1"], "tuned": tuned["accuracy/top1"]}
    return {**{name: round(value, 3) for name, value in accuracies.items()}, **bench.told()}


def train_scratch(bench: Bench, index: int, seed: int) -> dict[str, Any]:
    """Train the same network alone."""
    subnet = bench.record(SPECIALISE)["nets"][index]["subnet"]
    return bench.alone("ofa", bench.algorithm("ofa", "supernet"), subnet, bench.job.settings["epochs"], seed)


# what the figures say -------------------------------------------------------------------------------------------


def networks(study: Mapping[str, Any], jobs: Jobs) -> list[dict[str, Any]]:
    """Of those taken out of the supernet: ``macs``, ``test``, ``tuned``, and ``scratch``, of the seeds so far."""
    ofa, specialised = study["ofa"], jobs.record(SPECIALISE)
    found = []
    for index in range(len(ofa["budgets"])):
        if specialised and (record := jobs.record(_net(index))):
            scratch = [other["test"] for seed in ofa["seeds"] if (other := jobs.record(_scratch(index, seed)))]
            accuracies = {key: record[key] for key in ("test", "tuned")}
            found.append({"macs": specialised["nets"][index]["macs"], **accuracies, "scratch": scratch})
    return found


def rows(study: Mapping[str, Any], jobs: Jobs) -> Iterator[Row]:
    """The networks beside themselves from scratch, fine-tuning, the predictor."""
    ofa, criteria = study["ofa"], study["ofa"]["criteria"]
    indices, nets = range(len(ofa["budgets"])), networks(study, jobs)
    gaps = [net["test"] - statistics.fmean(net["scratch"]) for net in nets if net["scratch"]]
    names = [*map(_net, indices), *(_scratch(index, seed) for seed in ofa["seeds"] for index in indices)]
    figure = ", ".join(f"{gap:+.2f}" for gap in gaps) + (f" (mean {statistics.fmean(gaps):+.2f})" if gaps else "")
    met = bool(gaps) and min(gaps) >= -criteria["below"] and statistics.fmean(gaps) >= criteria["mean"]
    criterion = f"none more than {criteria['below']} point below itself from scratch, and the mean not below"
    yield Row(f"Once-for-All: {len(indices)} networks need no training", criterion, figure, met, names)
    gains = [record["tuned"] - record["test"] for record in nets]
    figure = ", ".join(f"{gain:+.2f}" for gain in gains) + (f" (mean {statistics.fmean(gains):+.2f})" if gains else "")
    met = bool(gains) and statistics.fmean(gains) >= criteria["fine"]
    what = f"Once-for-All: {ofa['fine_epochs']} epochs of tuning lose nothing"
    yield Row(what, f"mean >= {criteria['fine']}", figure, met, [*map(_net, indices)])
    yield from _predictor(study, jobs)


def _predictor(study: Mapping[str, Any], jobs: Jobs) -> Iterator[Row]:
    criteria, collected, found = study["ofa"]["criteria"], jobs.record(COLLECT), jobs.record(SPECIALISE)
    value = collected["predictor"]["kendall_tau"] if collected else None
    figure = f"{value:.2f} on {collected['predictor']['held_out']} subnets" if value is not None else ""
    met = value is not None and value >= criteria["tau"]
    yield Row("Once-for-All: the predictor ranks", f"tau >= {criteria['tau']}", figure, met, [COLLECT])
    gaps = []
    for net in found["nets"] if collected and found else ():
        limit = 1e6 * float(net["limit"].removesuffix("M"))
        evaluated = [score for macs, score in collected["collected"] if macs <= limit]
        gaps += [net["score"]["accuracy/top1"] - max(evaluated)] if evaluated else []
    figure = ", ".join(f"{gap:+.2f}" for gap in gaps)
    met = bool(gaps) and len(gaps) == len(found["nets"]) and min(gaps) >= criteria["best"]
    what = f"Once-for-All: a search by predictor finds the best of {study['ofa']['collected']} evaluated, or better"
    criterion = f">= {criteria['best']} points at every budget, on held-out images"
    yield Row(what, criterion, figure, met, [COLLECT, SPECIALISE])
