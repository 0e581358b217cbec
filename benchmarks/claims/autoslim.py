"""AutoSlim: are the widths found better than uniform and than random ones of equal macs?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

from benchmarks.claims import draws
from benchmarks.claims.arithmetic import Difference, paired
from benchmarks.claims.bench import Bench
from benchmarks.claims.job import Job, Jobs
from benchmarks.claims.study import only
from benchmarks.claims.sweep import MINUTES
from benchmarks.claims.table import Row

TITLES = {"resnet": "ResNet-shaped", "wrn": "WRN-shaped", "mbv2": "MobileNetV2-shaped"}
CONTROLS = ("uniform", "random")
_SIZES = (("uniform", 50), ("full", 100))  # and wider ones


def _supernet(shape: str) -> str:
    return f"autoslim-{shape}-supernet"


def _search(shape: str) -> str:
    return f"autoslim-{shape}-search"


def _alone(shape: str, kind: str, share: int, seed: int, twice: bool = False) -> str:
    return f"autoslim-{shape}-{kind}{share}-{'twice-' * twice}s{seed}"


def _wider(shape: str, factor: float, seed: int) -> str:
    return f"autoslim-{shape}-wide{factor:g}-s{seed}"


def jobs(study: Mapping[str, Any]) -> Iterator[Job]:
    """Shape by shape: the supernet, the search, then seed by seed the full network, those found and their controls."""
    auto, task = study["autoslim"], study["task"]
    for shape in auto["shapes"]:
        name, minutes = f"autoslim_{shape}", MINUTES[f"autoslim_{shape}"]
        epochs, longer = auto["epochs"][shape], auto["supernet_epochs"][shape]
        settings = {**task, "shape": shape}
        train, find = (partial(measure, shape=shape) for measure in (train_supernet, search))
        expected = 2.5 * minutes * longer
        yield Job(_supernet(shape), f"{name}_supernet", {**settings, "epochs": longer}, train, expected)
        searched = {**settings, **only(auto, "shares", "calibrate")}
        yield Job(_search(shape), f"{name}_search", searched, find, 12, reads=(_supernet(shape),))
        alone = {**settings, "epochs": epochs, **only(auto, "tolerance")}
        for seed in auto["seeds"]:
            if seed in auto["full_seeds"]:
                yield _job(alone, shape, "full", 100, seed, epochs * minutes)
            for share in auto["shares"]:
                for kind in ("found", *CONTROLS):
                    yield _job(alone, shape, kind, share, seed, 0.7 * epochs * minutes)
        longer = auto["twice"]
        for seed in longer["seeds"] if shape == longer["shape"] else ():
            for kind in ("found", *CONTROLS):
                twice = {**alone, "epochs": 2 * epochs}
                yield _job(twice, shape, kind, longer["share"], seed, 1.4 * epochs * minutes, twice=True)
        wider = auto["wider"]
        for factor in wider["factors"] if shape == wider["shape"] else ():
            for seed in wider["seeds"]:
                measure = partial(train_wider, shape=shape, factor=factor, seed=seed)
                settings, expected = {**alone, "factor": factor}, 1.5 * factor * epochs * minutes
                yield Job(_wider(shape, factor, seed), f"{name}_subnet", settings, measure, expected)


def _job(
    settings: Mapping[str, Any], shape: str, kind: str, share: int, seed: int, minutes: float, twice: bool = False
) -> Job:
    measure = partial(train_alone, shape=shape, kind=kind, share=share, seed=seed)
    name, needs = _alone(shape, kind, share, seed, twice), () if kind == "full" else (_search(shape),)
    return Job(name, f"autoslim_{shape}_subnet", settings, measure, minutes, needs=needs)


# what a job does ------------------------------------------------------------------------------------------------


def train_supernet(bench: Bench, shape: str) -> dict[str, Any]:
    """Train the supernet."""
    epochs = bench.job.settings["epochs"]
    bench.train_supernet(f"autoslim_{shape}", epochs)
    return {"epochs": epochs, **bench.told()}


def search(bench: Bench, shape: str) -> dict[str, Any]:
    """Search it greedily, to all shares of its macs."""
    import json

    from mmrazor_lite.subnet import read_subnet

    auto, name = bench.study["autoslim"], f"autoslim_{shape}"
    options = [*bench.options("search"), f"search_cfg.calibrate_sample_num={auto['calibrate']}"]
    options += [f"search_cfg.target_macs=[{','.join(f'{share}%' for share in auto['shares'])}]"]
    supernet = bench.jobs.folder(_supernet(shape)) / "train" / f"epoch_{auto['supernet_epochs'][shape]}.pth"
    bench.workspace.search("search", bench.config(name, "search"), supernet, options)
    log, algorithm = json.loads((bench.folder / "search/search_log.json").read_text()), bench.algorithm(name)
    found = {}
    for share, result in zip(auto["shares"], log["results"], strict=True):
        subnet = read_subnet(bench.folder / "search" / result["file"], algorithm.search_space).subnet
        costs = algorithm.cost_model.of(subnet)
        found[str(share)] = {"subnet": dict(subnet), **{key: int(costs[key]) for key in ("macs", "flops", "params")}}
    return {"found": found, **bench.told()}


def train_alone(bench: Bench, shape: str, kind: str, share: int, seed: int) -> dict[str, Any]:
    """Train the full network, the one found, or a control of its macs."""
    settings, name = bench.job.settings, f"autoslim_{shape}"
    prepared, about = bench.algorithm(name, "supernet"), {}
    if kind == "full":
        subnet = prepared.search_space.max()
    else:
        found = bench.record(_search(shape))["found"][str(share)]
        subnet = found["subnet"]
        if kind in CONTROLS:
            prepared, subnet = control(bench, name, prepared, kind, found, seed)
            about = {"off": round(prepared.cost_model.of(subnet)["macs"] / found["macs"] - 1, 5)}
    return {**bench.alone(name, prepared, subnet, settings["epochs"], seed), **about}


def train_wider(bench: Bench, shape: str, factor: float, seed: int) -> dict[str, Any]:
    """Train the full network with other channels everywhere."""
    name = f"autoslim_{shape}"
    options = [f"architecture.backbone.widen_factor={factor}", f"architecture.head.in_channels={round(64 * factor)}"]
    prepared = bench.algorithm(name, "supernet", *(f"model.{option}" for option in options))
    more = [f"model.cfg.{option}" for option in options]
    return bench.alone(name, prepared, prepared.search_space.max(), bench.job.settings["epochs"], seed, more=more)


def control(
    bench: Bench, name: str, algorithm: Any, kind: str, found: Mapping[str, Any], seed: int
) -> tuple[Any, Mapping[str, Any]]:
    """A control of the macs of the network found, and what has its space and its costs.

    Raises:
        ValueError: None is within the tolerance.
    """
    from mmrazor_lite.search import uniform_subnet

    macs, tolerance = found["macs"], bench.job.settings["tolerance"]
    if kind == "random":  # what the search might have found
        low, high = macs * (1 - tolerance), macs * (1 + tolerance)
        space, cost = algorithm.search_space, algorithm.cost_model
        return algorithm, draws.within(space, cost, "macs", low, high, 1, seed)[0]
    prepared = any_width(algorithm)  # fifths of all widths at once do not come within a percent
    subnet = uniform_subnet(prepared.search_space, prepared.cost_model, "macs", macs * (1 + tolerance))
    off = prepared.cost_model.of(subnet)["macs"] / macs - 1
    if abs(off) > tolerance or sorted(subnet) != sorted(found["subnet"]):
        raise ValueError(f"{name}: uniform widths are off by {off:+.2%} of the macs, or have other names")
    return prepared, subnet


def any_width(algorithm: Any) -> Any:
    """A mutator of the same network that has every width up to the full one as a candidate."""
    from mmrazor_lite.models.mutators import OneShotChannelMutator

    mutator = OneShotChannelMutator(divisor=1)
    mutator.prepare(algorithm.mutator.export(algorithm.search_space.max()), algorithm.input_shape, any_width=True)
    return mutator


# what the figures say -------------------------------------------------------------------------------------------


def gaps(
    study: Mapping[str, Any], jobs: Jobs, shape: str, share: int, control: str, twice: bool = False
) -> Difference | None:
    """What the network found is ahead of a control, paired by seed; of the full network with control ``full``."""
    ours, theirs, auto = [], [], study["autoslim"]
    for seed in auto["twice"]["seeds"] if twice else auto["full_seeds" if control == "full" else "seeds"]:
        other = 100 if control == "full" else share
        names = _alone(shape, "found", share, seed, twice), _alone(shape, control, other, seed, twice)
        pair = tuple(map(jobs.record, names))
        if all(pair):
            ours.append(pair[0]["test"])
            theirs.append(pair[1]["test"])
    return paired(ours, theirs) if ours else None


def _names(study: Mapping[str, Any], shape: str, share: int, *controls: str) -> list[str]:
    kinds = [("found", share), *((kind, 100 if kind == "full" else share) for kind in controls)]
    seeds = study["autoslim"]["full_seeds" if "full" in controls else "seeds"]
    return [_alone(shape, kind, part, seed) for seed in seeds for kind, part in kinds]


def _row_of_twice(study: Mapping[str, Any], jobs: Jobs) -> Row:
    """Whether what is ahead stays ahead where all are trained twice as long."""
    auto = study["autoslim"]
    shape, share, seeds = (auto["twice"][key] for key in ("shape", "share", "seeds"))
    errors, names, told, turned = auto["criteria"]["ahead"], [], [], False
    for control in CONTROLS:
        once, twice = (gaps(study, jobs, shape, share, control, longer) for longer in (False, True))
        turned |= bool(once and twice and abs(once.errors) >= errors and once.mean * twice.mean < 0)
        told += [f"{once or '-'}, then {twice} points beside {control}"] if twice else []
    for seed in seeds:
        names += [_alone(shape, kind, share, seed, twice=True) for kind in ("found", *CONTROLS)]
    what = f"AutoSlim, {TITLES[shape]}, {share}%: trained twice as long, {2 * auto['epochs'][shape]} epochs"
    criterion = f"no difference of {errors} errors turns its sign"
    return Row(what, criterion, ", ".join(told), not turned, [*_names(study, shape, share, *CONTROLS), *names])


def _row_of_sizes(study: Mapping[str, Any], jobs: Jobs) -> Row:
    """What half the macs cost by how large the network is: full networks of several widths, all scaled uniformly."""
    auto, levels, names = study["autoslim"], [], []
    shape = auto["wider"]["shape"]
    groups = [[_alone(shape, kind, share, seed) for seed in auto["full_seeds"]] for kind, share in _SIZES]
    groups += [[_wider(shape, factor, seed) for seed in auto["wider"]["seeds"]] for factor in auto["wider"]["factors"]]
    for group in groups:
        names += group
        records = [record for name in group if (record := jobs.record(name))]
        if records:
            accuracy, macs = (statistics.fmean(record[key] for record in records) for key in ("test", "macs"))
            levels.append((macs, accuracy))
    told = ", ".join(f"{accuracy:.2f} of {macs / 1e6:.2f} M" for macs, accuracy in levels)
    halves = [(b[1] - a[1]) / math.log2(b[0] / a[0]) for a, b in pairwise(levels)]
    figure = told + (f": half the macs cost {', '.join(f'{half:.2f}' for half in halves)}" if halves else "")
    return Row(f"AutoSlim, {TITLES[shape]}: what half the macs cost larger networks", "reported", figure, None, names)


def rows(study: Mapping[str, Any], jobs: Jobs) -> Iterator[Row]:
    """A line for each shape and share, the two of the claim, and one of a longer schedule."""
    auto = study["autoslim"]
    criteria, errors = auto["criteria"], auto["criteria"]["ahead"]
    ahead, behind, drops, all_names, full_names = 0, 0, [], [], []
    for shape in auto["shapes"]:
        for share in auto["shares"]:
            found = {control: gaps(study, jobs, shape, share, control) for control in CONTROLS}
            known = [gap for gap in found.values() if gap is not None]
            is_ahead = len(known) == len(CONTROLS) and all(gap.errors >= errors for gap in known)
            is_behind = any(gap.errors <= -errors for gap in known)
            ahead, behind = ahead + is_ahead, behind + is_behind
            names = _names(study, shape, share, *CONTROLS)
            all_names += names
            figure = ", ".join(f"{gap} points beside {control}" for control, gap in found.items() if gap)
            what = f"AutoSlim, {TITLES[shape]}, {share}% of the macs"
            yield Row(what, f"ahead of uniform and random widths by {errors} errors", figure, is_ahead, names)
        if 50 in auto["shares"]:
            gap = gaps(study, jobs, shape, 50, "full")
            drops += [] if gap is None else [-gap.mean]
            full_names += _names(study, shape, 50, "full")
    cases = len(auto["shapes"]) * len(auto["shares"])
    met = ahead >= criteria["cases"] and not behind
    criterion = f"ahead in {criteria['cases']} of {cases}, behind in none"
    figure = f"ahead in {ahead}, behind in {behind}" if any(map(jobs.done, all_names)) else ""
    yield Row("AutoSlim beats uniform and random widths", criterion, figure, met, all_names)
    within = sum(drop <= criteria["drop"] for drop in drops)
    figure = ", ".join(f"{drop:.2f}" for drop in drops)
    criterion = f"<= {criteria['drop']} points in {criteria['drop_cases']} of {len(auto['shapes'])}"
    mean = f" (mean {statistics.fmean(drops):.2f})" if drops else ""
    yield Row("AutoSlim: lost at half the macs", criterion, figure + mean, within >= criteria["drop_cases"], full_names)
    yield _row_of_sizes(study, jobs)
    yield _row_of_twice(study, jobs)
