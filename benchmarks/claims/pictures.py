"""One picture for each claim, of whatever is done: points, intervals and controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims import autoslim, ofa, slim, spos, tfnas
from benchmarks.claims.arithmetic import Difference
from benchmarks.claims.job import Jobs


def draw(study: Mapping[str, Any], jobs: Jobs, folder: Path) -> list[Path]:
    """Draw what there are figures of; the files."""
    import matplotlib

    matplotlib.use("Agg")
    drawn = []
    for name, kind in DRAWN.items():
        if (made := kind(study, jobs)) is not None:
            folder.mkdir(parents=True, exist_ok=True)
            drawn.append(folder / f"{name}.png")
            made.savefig(drawn[-1], dpi=110, bbox_inches="tight", metadata={"Software": None})
    return drawn


def _spos(study: Mapping[str, Any], jobs: Jobs) -> Any:
    """Accuracy alone over the score in the supernet, of the range and of the band."""
    from matplotlib.figure import Figure

    points = {kind: spos.ranked(study, jobs, kind) for kind in ("range", "band")}
    if not any(scores for scores, _ in points.values()):
        return None
    figure = Figure(figsize=(6.5, 4.2))
    axes = figure.add_subplot()
    low, high = study["spos"]["band"]
    names = {"range": "over the whole range of flops", "band": f"of {low} to {high} M flops"}
    for (kind, (scores, accuracies)), color in zip(points.items(), ("tab:blue", "tab:orange"), strict=True):
        if scores:
            axes.scatter(scores, accuracies, s=22, color=color, label=f"{len(scores)} subnets {names[kind]}")
    axes.set_xlabel("score in the supernet, % of the images held out")
    axes.set_ylabel("trained alone, % of the test images")
    axes.legend(frameon=False)
    return figure


def _autoslim(study: Mapping[str, Any], jobs: Jobs) -> Any:
    """What the networks found are ahead of their controls."""
    auto, bars = study["autoslim"], []
    for shape in auto["shapes"]:
        for share in auto["shares"]:
            for control, color in zip(autoslim.CONTROLS, ("tab:blue", "tab:orange"), strict=True):
                gap = autoslim.gaps(study, jobs, shape, share, control)
                bars.append((f"{autoslim.TITLES[shape]}, {share}%, beside {control} widths", color, gap))
    return _ahead(bars)


def _ofa(study: Mapping[str, Any], jobs: Jobs) -> Any:
    """Networks as they come out of the supernet, tuned, and from scratch, over their macs."""
    from matplotlib.figure import Figure

    found = ofa.networks(study, jobs)
    if not found:
        return None
    figure = Figure(figsize=(6.5, 4.2))
    axes = figure.add_subplot()
    for key, label, color in (
        ("test", "out of the supernet", "tab:blue"),
        ("tuned", f"and {study['ofa']['fine_epochs']} epochs of tuning", "tab:green"),
    ):
        axes.plot([net["macs"] / 1e6 for net in found], [net[key] for net in found], "o-", color=color, label=label)
    alone = [(net["macs"] / 1e6, value) for net in found for value in net["scratch"]]
    if alone:
        axes.scatter(*zip(*alone, strict=True), s=22, marker="x", color="tab:orange", label="from scratch, by seed")
    axes.set_xlabel("M macs")
    axes.set_ylabel("% of the test images")
    axes.legend(frameon=False)
    return figure


def _tfnas(study: Mapping[str, Any], jobs: Jobs) -> Any:
    """What the networks found are ahead of random ones of their latency."""
    targets = study["tfnas"]["targets"]
    bars = [(f"{target}% of the milliseconds", "tab:blue", tfnas.gap(study, jobs, target)) for target in targets]
    return _ahead(bars)


def _slim(study: Mapping[str, Any], jobs: Jobs) -> Any:
    """Networks found by a search, and trained ones slimmed to the same macs."""
    from matplotlib.figure import Figure

    sides = {case: sides for case in study["slim"]["cases"] if all(sides := slim.both(study, jobs, case))}
    if not sides:
        return None
    figure = Figure(figsize=(6.5, 0.9 + 0.5 * len(sides)))
    axes = figure.add_subplot()
    for side, label, color in ((0, "found and trained", "tab:blue"), (1, "trained, slimmed, tuned", "tab:orange")):
        points = [
            (value, place + 0.15 * (2 * side - 1)) for place, case in enumerate(sides) for value in sides[case][side]
        ]
        axes.scatter(*zip(*points, strict=True), s=22, color=color, label=label)
    axes.set_yticks(range(len(sides)), list(sides))
    axes.set_ylim(len(sides) - 0.5, -0.5)
    axes.set_xlabel("% of the test images, by seed")
    axes.legend(frameon=False)
    return figure


def _ahead(bars: Sequence[tuple[str, str, Difference | None]]) -> Any:
    """Points ahead (label, colour, difference), with intervals of 95 %; those that there are."""
    from matplotlib.figure import Figure

    bars = [bar for bar in bars if bar[2] is not None]
    if not bars:
        return None
    figure = Figure(figsize=(6.5, 0.6 + 0.35 * len(bars)))
    axes = figure.add_subplot()
    for place, (_, color, gap) in enumerate(bars):
        error = gap.half_interval if gap.values > 1 else None
        axes.errorbar(gap.mean, place, xerr=error, fmt="o", color=color, capsize=3)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(bars)), [label for label, _, _ in bars])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlabel("points ahead, 95% interval of the seeds")
    return figure


DRAWN = {"spos": _spos, "autoslim": _autoslim, "ofa": _ofa, "tfnas": _tfnas, "slim": _slim}
