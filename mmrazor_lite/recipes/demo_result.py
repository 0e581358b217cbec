"""What came out of the demo: all networks timed in turns, the table on the terminal, and the page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BATCH, ROUNDS, SECONDS = 64, 21, 0.04  # images of a run; rounds, and how long a network runs in each
STAGES = ("in the supernet", "after retraining", "after split")


@dataclass(frozen=True)
class Row:
    """A network of the demo.

    Attributes:
        accuracies: In the supernet, after retraining, after split, in percent; None where there is none.
        channels: Of every layer.
        file: Its weights; None of the full network, which is in the supernet's.
    """

    name: str
    costs: Mapping[str, int]
    accuracies: tuple[float | None, ...]
    channels: Mapping[str, int]
    file: Path | None = None

    @property
    def accuracy(self) -> float:
        """The last one."""
        return [value for value in self.accuracies if value is not None][-1]


def full_network(config: str, checkpoint: Any) -> tuple[Any, Any]:
    """The supernet as it was trained, and its full network as a plain module like those of the files."""
    from mmrazor_lite.checkpoints import load_weights, read_checkpoint
    from mmrazor_lite.config import build_model, load_config

    algorithm = build_model(load_config(config))
    load_weights(algorithm, read_checkpoint(checkpoint), checkpoint)
    return algorithm, algorithm.mutator.export(algorithm.search_space.max()).eval()


def timed(full: Any, rows: Sequence[Row], shape: Sequence[int]) -> dict[str, tuple[float, float, float]]:
    """Milliseconds of a batch by the name of the row: lower quartile, median, upper quartile; all in turns."""
    import numpy as np

    import mmrazor_lite
    from mmrazor_lite.estimators.measure import Bench
    from mmrazor_lite.estimators.steady_rounds import Steady

    bench = Bench(batch_size=BATCH)
    modules = {row.name: full if row.file is None else mmrazor_lite.load_subnet(row.file) for row in rows}
    timers = {name: bench.timer(module, shape) for name, module in modules.items()}
    found = Steady(bench.pace, brief=True)(timers, ROUNDS, SECONDS, np.random.default_rng(0))
    return {name: tuple(np.percentile(times, [25, 50, 75]).tolist()) for name, times in found.times.items()}


def show(rows: Sequence[Row], times: Mapping[str, tuple[float, float, float]]) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    told = (
        "In the supernet, subnets are scored on held-out training images; all other accuracies: test images. Latency: "
        f"{BATCH} images on one thread, all networks in turns; median, and the middle half of {ROUNDS} rounds."
    )
    table = Table(title="\nFrom one supernet to plain networks", caption=told)
    table.add_column("subnet")
    for header in ("macs", "params", *(stage.replace(" ", "\n", 1) for stage in STAGES)):
        table.add_column(header.replace("in\nthe", "in the\n").replace("\n ", "\n"), justify="right")
    table.add_column("CPU latency\n(measured)", justify="right")
    for row in rows:
        accuracies = ("-" if value is None else f"{value:.2f} %" for value in row.accuracies)
        low, middle, high = times[row.name]
        latency = f"{middle:.1f} ms ({low:.1f}-{high:.1f})"
        table.add_row(row.name, f"{row.costs['macs']:,}", f"{row.costs['params']:,}", *accuracies, latency)
    console = Console()
    Console(width=max(console.width, 118)).print(table)


def write_page(
    work: Path,
    rows: Sequence[Row],
    times: Mapping[str, tuple[float, float, float]],
    seconds: Mapping[str, float],
    commands: Mapping[str, str],
) -> list[Path]:
    """Write the page into the folder of the demo and return its files."""
    from mmrazor_lite.visualization import page_file
    from mmrazor_lite.visualization.page import (
        Curves,
        Fact,
        Page,
        Section,
        bars,
        compared,
        duration,
        files,
        outcome,
        series,
        table,
    )
    from mmrazor_lite.visualization.page_charts import tick

    names = [row.name for row in rows]
    full, first = rows[0], rows[1]
    channels = {row.name: row.channels for row in rows}
    stages = {stage: [row.accuracies[i] for row in rows] for i, stage in enumerate(STAGES)}
    points = {row.name: [(row.costs["macs"], row.accuracy)] for row in rows}
    quartiles = ((name, *times[name], times[full.name][1] / times[name][1]) for name in names)
    links = [(f"{part}/report.html", f"the page of {part}") for part in ("search", "slim")]
    links += [(os.path.relpath(row.file, work), f"weights: {row.name}") for row in rows if row.file is not None]
    ratio = times[full.name][1] / times[first.name][1]
    page = Page(
        kind="demo",
        title="Handwritten digits, slimmed",
        lead="One supernet, searched for two budgets and retrained; and its full network slimmed without any training. "
        f"{first.name} has {first.costs['macs'] / full.costs['macs']:.0%} of the macs.",
        facts=(
            Fact("macs", tick(first.costs["macs"]), f"of {tick(full.costs['macs'])}"),
            Fact("accuracy", f"{first.accuracy:.2f}%", f"full network {full.accuracy:.2f}%"),
            Fact("latency", f"{times[first.name][1]:.1f} ms", f"{ratio:.2f}x, {BATCH} images"),
            Fact("time", duration(sum(seconds.values())), "all steps"),
        ),
        outcomes=tuple(
            outcome(
                row.name,
                {**row.costs, f"ms of {BATCH} images": times[row.name][1]},
                {"accuracy (%)": row.accuracy},
                "" if row.file is None else os.path.relpath(row.file, work),
            )
            for row in rows
        ),
        sections=(
            Section(
                "front",
                "Cost and score",
                "Macs and accuracy on the test images.",
                Curves("macs", "accuracy (%)", tuple(series(name, found, "marks") for name, found in points.items())),
            ),
            Section(
                "latency",
                "Milliseconds",
                f"Of {BATCH} images on one thread, all networks in turns, {ROUNDS} rounds. One image of 8 x 8 pixels "
                "takes all of them equally long: that is the time to call their layers.",
                bars("ms", names, {"median": [times[name][1] for name in names]}),
                table(("network", "lower quartile", "median", "upper quartile", "times as fast"), quartiles),
            ),
            compared("widths", "Widths before and after", "Channels of every layer.", "channels", channels, "layer"),
            Section("stages", "Where accuracy went", "", bars("%", names, stages)),
            Section("time", "Where the time went", "", bars("seconds", seconds, {"seconds": seconds.values()})),
            Section("settings", "The commands", "", None, table(("step", "command"), commands.items()), folded=False),
            files([(path, what) for path, what in links if (work / path).is_file()]),
        ),
    )
    return page_file.write_page(page_file.page_path(work), page)
