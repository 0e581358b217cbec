"""What came out of the CIFAR-10 recipe: JSON, Markdown and two pictures."""

from __future__ import annotations

import json
import platform
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .steps import ROOT, TYPED

if TYPE_CHECKING:
    from .autoslim_cifar10 import Plan
    from .workspace import Workspace

# Points of accuracy that AutoSlim_TF2 lost from its baseline to 50% of the flops, mean of three runs (its README).
PUBLISHED_DROP = {"mbv2": 0.01, "wrn40_4": 0.14, "resnet56": 0.32}
UNTOLD = ("work_dir", "data_root", TYPED)  # flags: folders of this machine
NAMES = {
    "baseline": "baseline",
    "autoslim": "AutoSlim, from scratch",
    "uniform": "uniform scaling, from scratch",
    "autoslim_from_supernet": "AutoSlim, from the supernet",
}


def write_report(
    workspace: Workspace, plan: Plan, network: Any, files: Mapping[str, Path], accuracies: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Write ``results.json``, ``results.md``, ``accuracy.png``, ``channels.png`` and the page; return the first.

    Args:
        network: The network with every width as a choice.
        files: Subnet file of the baseline, of AutoSlim and of uniform scaling.
        accuracies: Row -> top-1 of each seed so far, in percent.
    """
    from mmrazor_lite.fileio import FileSet, write_text_atomic
    from mmrazor_lite.subnet import read_subnet
    from mmrazor_lite.visualization.page_file import page_path, write_page

    from .autoslim_cifar10 import ROWS
    from .autoslim_page import FILES, recipe_page

    subnets = {name: read_subnet(path, network.search_space).subnet for name, path in files.items()}
    commands = {name: portable(text, workspace, plan) for name, text in workspace.commands.items()}
    rows = []
    for row, (net, start) in ROWS.items():
        costs = network.cost_model.of(subnets[net])
        rows.append(
            {
                "row": row,
                "file": files[net].relative_to(workspace.work).as_posix(),
                "start": start,
                **{key: costs[key] for key in ("macs", "flops", "params")},
                "accuracies": list(accuracies[row]),
                **summary(accuracies[row]),
                "command": commands[f"{row}_seed0"],
            }
        )
    differences = {
        f"autoslim - {other}": summary([a - b for a, b in zip(accuracies["autoslim"], accuracies[other], strict=True)])
        for other in ("baseline", "uniform")
    }
    report = {
        "network": plan.title,
        "settings": {key: value for key, value in vars(plan.args).items() if key not in UNTOLD},
        "machine": machine(),
        "seeds": len(accuracies["baseline"]),
        "rows": rows,
        "differences": differences,
        "seconds": workspace.seconds(),
        "recipe": command(plan),
        "commands": commands,
    }
    curves = _draw(workspace, network, subnets, plan)
    with FileSet() as written:
        write_text_atomic(written.new(workspace.work / "results.json"), json.dumps(report, indent=2) + "\n")
        write_text_atomic(written.new(workspace.work / "results.md"), markdown(report))
    beside = [name for name in FILES if (workspace.work / name).is_file()]
    write_page(page_path(workspace.work), recipe_page(report, NAMES, network, subnets, curves, beside))
    print(f"\n{markdown(report)}\nFiles: {workspace.work}", flush=True)
    return report


def summary(values: Sequence[float]) -> dict[str, float | None]:
    """Return the mean and its standard error; of one value, the error is unknown."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return {"mean": round(statistics.mean(values), 4), "standard_error": None if error is None else round(error, 4)}


def markdown(report: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [
        f"{report['network']} on CIFAR-10, {report['seeds']} seeds, {report['settings']['epochs']} epochs, "
        f"{report['machine']}.",
        "",
        "| network | macs | flops | params | top-1 (%), mean | standard error | each seed |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in report["rows"]:
        costs = (f"{row[key]:,}" for key in ("macs", "flops", "params"))
        each = ", ".join(f"{value:.2f}" for value in row["accuracies"])
        cells = [NAMES[row["row"]], *costs, f"{row['mean']:.2f}", _error(row), each]
        lines.append(f"| {' | '.join(cells)} |")
    found = report["differences"]
    lines += ["", *(f"- {_verdict(name, found[f'autoslim - {name}'])}" for name in ("uniform", "baseline"))]
    settings = report["settings"]
    if not settings["small"] and settings["width"] is None and settings["target"] == "50%":
        drop = PUBLISHED_DROP[settings["arch"]]
        lines.append(f"- AutoSlim_TF2 published a drop of {drop:.2f} points against its baseline.")
    lines += [
        "- The row from the supernet has trained longer than the others: the supernet's epochs come on top.",
        "",
        "![accuracy over epochs](accuracy.png)",
        "",
        "![channels per layer](channels.png)",
        "",
        f"Made by: `{report['recipe']}`",
    ]
    return "\n".join(lines) + "\n"


def command(plan: Plan) -> str:
    """The command line that makes the table again, with the images in ``data/cifar10``."""
    words = []
    for key, value in vars(plan.args).items():
        if value is not None and value is not False and key not in ("command", *UNTOLD):
            words += [f"--{key.replace('_', '-')}", *([] if value is True else [str(value)])]
    return f"python tools/recipes/autoslim_cifar10.py {shlex.join(words)}"


def portable(text: str, workspace: Workspace, plan: Plan) -> str:
    """A command without the folders of this machine."""
    data = str(Path(plan.args.data_root).resolve())
    return text.replace(str(workspace.work), "WORK_DIR").replace(data, "DATA_ROOT").replace(f"{ROOT}/", "")


def machine() -> str:
    """Device, threads and version, for the record."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _error(row: Mapping[str, Any]) -> str:
    return "-" if row["standard_error"] is None else f"{row['standard_error']:.2f}"


def _verdict(other: str, found: Mapping[str, float | None]) -> str:
    mean, error = found["mean"], found["standard_error"]
    text = f"AutoSlim minus {NAMES[other]}: {mean:+.2f} points"
    if error is None:
        return f"{text} (one seed: no error known)"
    clear = "more than" if abs(mean) > 2 * error else "within"
    return f"{text} (paired by seed, standard error {error:.2f}; {clear} two standard errors from 0)"


def _draw(
    workspace: Workspace, network: Any, subnets: Mapping[str, Any], plan: Plan
) -> dict[str, list[dict[int, float]]]:
    """Draw both pictures and return the accuracies over epochs."""
    from mmrazor_lite.visualization import layer_channels, plot_channels, plot_curves

    from .autoslim_cifar10 import ROWS

    curves = {}
    for row in ROWS:
        seeds = [workspace.curve(path.name) for path in sorted(workspace.work.glob(f"{row}_seed*")) if path.is_dir()]
        curves[NAMES[row]] = [seed for seed in seeds if seed]
    plot_curves(workspace.work / "accuracy.png", curves, f"{plan.title} on CIFAR-10, mean and range of the seeds")
    channels = {name: layer_channels(network, subnet) for name, subnet in subnets.items()}
    full = channels.pop("baseline")
    plot_channels(workspace.work / "channels.png", full, channels, f"{plan.title}: channels per layer before and after")
    return curves
