"""The page of the CIFAR-10 recipe: what its report says, with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmrazor_lite.visualization.page import Page

FILES = {
    "results.json": "the report as data",
    "results.md": "the report for people",
    "search/report.html": "the page of the search",
    "accuracy.png": "accuracy over epochs",
    "channels.png": "channels per layer",
}


def recipe_page(
    report: Mapping[str, Any],
    names: Mapping[str, str],
    network: Any,
    subnets: Mapping[str, Any],
    curves: Mapping[str, Sequence[Mapping[int, float]]],
    written: Sequence[str],
) -> Page:
    """The page.

    Args:
        report: What ``results.json`` holds.
        names: Of its rows, in words.
        network: The network with every width as a choice.
        subnets: Of the baseline, of AutoSlim and of uniform scaling.
        curves: Row in words -> for each seed, epoch -> accuracy.
        written: Files beside the page.
    """
    from mmrazor_lite.visualization import layer_channels
    from mmrazor_lite.visualization.page import (
        Curves,
        Fact,
        Page,
        Section,
        bars,
        compared,
        files,
        outcome,
        series,
        settings,
        table,
    )

    rows = {row["row"]: row for row in report["rows"]}
    costs = ("macs", "flops", "params")
    top1 = "top-1 (%)"
    outcomes = tuple(
        outcome(names[key], {name: row[name] for name in costs}, {top1: row["mean"]}, row["file"])
        for key, row in rows.items()
    )
    points = tuple(series(names[key], [(row["macs"], row["mean"])], "marks") for key, row in rows.items())
    lines = tuple(series(name, _mean(seeds)) for name, seeds in curves.items() if _mean(seeds))
    channels = {name: layer_channels(network, subnet) for name, subnet in subnets.items()}
    macs = {name: network.cost_model.by_part(subnet) for name, subnet in subnets.items()}
    seconds = report["seconds"]
    sections = (
        Section("front", "Cost and score", "Mean over the seeds.", Curves("macs", top1, points)),
        Section("progress", "Accuracy over epochs", "Mean over the seeds, test images.", Curves("epoch", top1, lines)),
        compared("widths", "Widths before and after", "Channels of every layer.", "channels", channels, "layer"),
        compared("macs", "Where the macs go", "Of every layer.", "macs", macs, "layer"),
        Section("time", "Where the time went", "", bars("seconds", seconds, {"seconds": seconds.values()})),
        Section("commands", "The commands", "", None, table(("step", "command"), report["commands"].items())),
        settings({"recipe": report["recipe"], "machine": report["machine"], "settings": report["settings"]}),
        files([(name, what) for name, what in FILES.items() if name in written]),
    )
    full, slim = rows["baseline"], rows["autoslim"]
    return Page(
        kind="recipe",
        title=f"{report['network']} on CIFAR-10",
        lead=f"{report['seeds']} seeds, {report['settings']['epochs']} epochs, {report['machine']}.",
        facts=(
            Fact("flops", f"{slim['flops'] / full['flops']:.1%}", "of the full network"),
            Fact("AutoSlim", f"{slim['mean']:.2f}%", "from scratch"),
            Fact("full network", f"{full['mean']:.2f}%", "from scratch"),
            Fact("uniform scaling", f"{rows['uniform']['mean']:.2f}%", "from scratch"),
        ),
        outcomes=outcomes,
        sections=tuple(part for part in sections if part.name != "progress" or lines),
    )


def _mean(seeds: Sequence[Mapping[int, float]]) -> list[tuple[int, float]]:
    """(epoch, mean) of the epochs that all seeds have."""
    epochs = sorted(set.intersection(*(set(seed) for seed in seeds))) if seeds else []
    return [(epoch, mean(seed[epoch] for seed in seeds)) for epoch in epochs]
