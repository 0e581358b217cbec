"""What became of a network that was slimmed: what stayed of every width group, and where accuracy went.

Accuracy and agreement are in percent, times of stages in seconds, latencies in milliseconds.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mmrazor_lite.visualization.analysis_tables import WIDTH
from mmrazor_lite.visualization.page_charts import write_png

from .report_tables import show_report
from .slim_page import slim_sections

FORMAT = "mmrazor_lite.slim_report/1"


@dataclass(frozen=True)
class Quality:
    """How good a network is on some images, and how near to the original.

    Attributes:
        accuracy: Share of the labels that it meets, in percent; None where there are no labels.
        agreement: Share of the images on which its first class is the original's, in percent; None where it gives no
            class scores.
        distance: Between its outputs and the original's, see :mod:`.distance`.
        images: How many.
        softened: The distance at a temperature of 4, which chooses among repairs; None where it was not measured.
    """

    accuracy: float | None
    agreement: float | None
    distance: float
    images: int
    softened: float | None = None


@dataclass(frozen=True)
class Stage:
    """A network on the way: the original, after the cut, after the refit ...

    Attributes:
        held_out: On images that nothing was fitted to; they choose among candidates.
        seconds: That it took to get there from the stage before.
    """

    name: str
    held_out: Quality
    seconds: float = 0.0

    @property
    def accuracy(self) -> float | None:
        return self.held_out.accuracy

    @property
    def agreement(self) -> float | None:
        return self.held_out.agreement

    @property
    def distance(self) -> float:
        return self.held_out.distance


@dataclass(frozen=True)
class GroupRow:
    """A width group: layers that must agree in their number of channels.

    Attributes:
        producers: The layers that make its channels.
        full, kept: Channels before and after.
        unit: Channels that stay or go together.
        importance: Of each unit, the best first: by how much what is lost grows where it goes last.
        lost: Share of the importance that went, 0 to 1; 0 too where the network gains by what went.
        sensitivity: What the outputs lose where 0, 1, ... all units stay, other groups being whole.
        share_before, share_after: Of the macs of the network, in layers that make its channels, 0 to 1.
    """

    name: str
    producers: tuple[str, ...]
    full: int
    kept: int
    unit: int = 1
    importance: tuple[float, ...] = ()
    lost: float = 0.0
    sensitivity: tuple[float, ...] = ()
    share_before: float = 0.0
    share_after: float = 0.0


@dataclass(frozen=True)
class Latency:
    """Times of one run of both networks in milliseconds, measured in turns; the i-th of both are of one round.

    Attributes:
        machine: What decides about them: device, its name, backend, version, threads, batch size.
        speed: Of the machine, as a share of its full speed; below 1 the times are scaled by it.
    """

    original: tuple[float, ...]
    slimmed: tuple[float, ...]
    machine: Mapping[str, Any]
    speed: float = 1.0

    @property
    def speedup(self) -> tuple[float, float, float]:
        """Original over slimmed, round by round: lower quartile, median, upper quartile."""
        return _quartiles([a / b for a, b in zip(self.original, self.slimmed, strict=True)])

    @property
    def quartiles(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Lower quartile, median and upper quartile of the original, and of the slimmed network."""
        return _quartiles(self.original), _quartiles(self.slimmed)

    @property
    def verdict(self) -> str:
        """What the measurement says, in a few words."""
        low, middle, high = self.speedup
        if low > 1:
            return f"{middle:.2f} times as fast"
        if high < 1:
            return f"SLOWER than the original: takes {1 / middle:.2f} times as long"
        return "no difference that this measurement can tell"

    def as_dict(self) -> dict[str, Any]:
        """Plain data: median and quartiles of each network, the ratio, and on what machine."""
        parts = dict(zip(("original_ms", "slimmed_ms"), self.quartiles, strict=True))
        named = {name: dict(zip(("low", "median", "high"), part, strict=True)) for name, part in parts.items()}
        speedup = dict(zip(("low", "median", "high"), self.speedup, strict=True))
        times = {"original": list(self.original), "slimmed": list(self.slimmed)}
        machine = {"machine": dict(self.machine), "speed": self.speed}
        return {**named, "speedup": speedup, "verdict": self.verdict, **machine, "times_ms": times}


@dataclass(frozen=True)
class Report:
    """Everything that is told of a network that was slimmed.

    Attributes:
        model: What it is called.
        input_shape: (C, H, W) of one image.
        asked: What was asked for, in words: ``macs 50%``.
        stages: From the original to the result, in the order they came.
        groups: The width groups in network order.
        costs: macs, flops, params and memory of the ``original`` and of the ``slimmed`` network.
        latency: Of both; None where it was not measured.
        is_held_out: Whether stages were judged on images that nothing was fitted to; there may have been too few.
        notes: One line each: layers that stay and why, layers that were not refitted, the transform of the images ...
    """

    model: str
    input_shape: tuple[int, ...]
    asked: str
    stages: Sequence[Stage]
    groups: Sequence[GroupRow]
    costs: Mapping[str, Mapping[str, int]]
    latency: Latency | None = None
    notes: Sequence[str] = field(default=())
    is_held_out: bool = True

    @property
    def told(self) -> str:
        """In a few words: the network, what was asked, what is left, how good it is."""
        before, after = self.costs["original"]["macs"], self.costs["slimmed"]["macs"]
        parts = [f"{after / before:.1%} of the macs"] if before else []
        last = self.stages[-1] if self.stages else None
        good = {"accuracy": last.accuracy, "agreement": last.agreement} if last else {}
        parts += [f"{name} {value:.2f}% on {self.judged_on}" for name, value in good.items() if value is not None][:1]
        return f"{self.model}, {self.asked}: {', '.join(parts)}"

    def __repr__(self) -> str:
        """One line: ``str()`` gives the tables."""
        return f"Report({self.told})"

    @property
    def judged_on(self) -> str:
        """The images that stages were judged on, in words."""
        count = f"{self.stages[-1].held_out.images:,} images"
        return f"{count} that nothing was fitted to" if self.is_held_out else f"the {count} that the steps worked with"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers that are not finite are None."""
        data = {
            "format": FORMAT,
            "model": self.model,
            "input_shape": list(self.input_shape),
            "asked": self.asked,
            "costs": {name: dict(costs) for name, costs in self.costs.items()},
            "latency": None if self.latency is None else self.latency.as_dict(),
            "is_held_out": self.is_held_out,
            "stages": [asdict(stage) for stage in self.stages],
            "groups": [asdict(group) for group in self.groups],
            "notes": list(self.notes),
        }
        return _for_json(data)

    def table(self, full: bool = False) -> None:
        """Print it as tables; ``full`` names every layer of a group."""
        show_report(self, full)

    def plot(self, path: str | os.PathLike) -> None:
        """Write the pictures of its page as one (PNG): channels by group, macs, what they are worth, accuracy, time.

        Raises:
            UserError: matplotlib is missing.
        """
        charts = [(part.title, part.chart) for part in slim_sections(self) if part.chart is not None]
        write_png(path, charts, f"{self.model}: {self.asked}")

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=io.StringIO(), width=WIDTH, highlight=False)
        show_report(self, console=console)
        return console.file.getvalue()


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = np.percentile(np.asarray(values, float), [25, 50, 75])
    return float(low), float(middle), float(high)


def _for_json(value: Any) -> Any:
    """Lists for sequences, None for what is not finite, numbers of numpy as plain ones."""
    if isinstance(value, Mapping):
        return {str(key): _for_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_for_json(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return os.fspath(value) if isinstance(value, os.PathLike) else value
