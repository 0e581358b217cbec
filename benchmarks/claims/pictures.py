"""One picture for each claim, of whatever is done: points, intervals and controls."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.claims import autoslim, spos
from benchmarks.claims.job import Jobs


def draw(study: Mapping[str, Any], jobs: Jobs, folder: Path) -> list[Path]:
    """Draw what there are figures of; the files."""
    import matplotlib

    matplotlib.use("Agg")
    drawn = []
    for name, made in (("spos", _spos(study, jobs)), ("autoslim", _autoslim(study, jobs))):
        if made is not None:
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
    """What the networks found are ahead of their controls, with intervals of 95 %."""
    from matplotlib.figure import Figure

    auto, bars = study["autoslim"], []
    for shape in auto["shapes"]:
        for share in auto["shares"]:
            for control in autoslim.CONTROLS:
                gap = autoslim.gaps(study, jobs, shape, share, control)
                if gap is not None:
                    bars.append((f"{autoslim.TITLES[shape]}, {share}%", control, gap))
    if not bars:
        return None
    figure = Figure(figsize=(6.5, 0.6 + 0.35 * len(bars)))
    axes = figure.add_subplot()
    colors = dict(zip(autoslim.CONTROLS, ("tab:blue", "tab:orange"), strict=True))
    for place, (_, control, gap) in enumerate(bars):
        error = gap.half_interval if gap.values > 1 else None
        axes.errorbar(gap.mean, place, xerr=error, fmt="o", color=colors[control], capsize=3)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(bars)), [f"{name}, beside {control} widths" for name, control, _ in bars])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlabel("points ahead, 95% interval of the seeds")
    return figure
