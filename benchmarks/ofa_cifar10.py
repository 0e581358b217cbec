"""Do the nets of one elastic supernet need retraining? Once-for-All on CIFAR-10, at a size that a CPU trains.

    python benchmarks/ofa_cifar10.py --data data/cifar10 --work-dir work_dirs/ofa_cifar10

For every seed, by the documented commands: all phases of progressive shrinking, a data set of evaluated subnets, a
predictor (Kendall's tau on held-out subnets), and one net for each budget, tested as it comes out of the supernet. Then
the same nets from scratch, for as many images as all phases together have seen.

Every step has a folder or file of its own in the work dir; what is there is not repeated. The report goes to
``WORK_DIR/results.md`` and ``results.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._timing import machine

CONFIGS = "configs/nas/mmcls/onceforall/ofa_{}_cifar10.py"
PHASES = {"teacher": 400, "kernel": 160, "depth_1": 100, "depth_2": 160, "expand_1": 100, "expand_2": 240}


def tool(log: Path, *words: Any) -> None:
    """Run one command of the docs; its output goes to ``log``."""
    command = [sys.executable, *map(str, words)]
    print("$ " + " ".join(["python", *command[1:]]), flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("w") as file:
        subprocess.run(command, cwd=ROOT, check=True, stdout=file, stderr=subprocess.STDOUT)
    print(f"  {time.monotonic() - began:.0f} s", flush=True)


def train_phases(args: argparse.Namespace, folder: Path, seed: int) -> Path:
    """Train all phases in order; return the last checkpoint."""
    before: Path | None = None
    for name, steps in PHASES.items():
        checkpoint = folder / name / f"iter_{steps}.pth"
        if not checkpoint.exists():
            options = [f"data_root={args.data}", f"randomness.seed={seed}"]
            if before is not None:
                teacher = folder / "teacher" / f"iter_{PHASES['teacher']}.pth"
                options += [f"load_from={before}", f"model.teacher={teacher}"]
            words = ["tools/train.py", CONFIGS.format(name), "--work-dir", checkpoint.parent, "--cfg-options", *options]
            tool(folder / f"{name}.log", *words)
        before = checkpoint
    return before


def specialise(args: argparse.Namespace, folder: Path, supernet: Path, seed: int) -> tuple[dict, dict[str, Path]]:
    """Collect, fit and search; return what the predictor says about itself, and the files of the nets by budget."""
    from mmrazor_lite.search.predictor import _tensors

    config, data = CONFIGS.format("search"), [f"data_root={args.data}", f"randomness.seed={seed}"]
    scores, predictor = folder / "scores.jsonl", folder / "predictor.safetensors"
    if not predictor.exists():
        words = ["tools/predictor/collect.py", config, supernet, "-n", args.subnets, "-o", scores]
        tool(folder / "collect.log", *words, "--work-dir", folder / "collect", "--cfg-options", *data)
        tool(folder / "fit.log", "tools/predictor/train.py", config, scores, "-o", predictor, "--seed", seed)
    files = {budget: folder / "nets" / f"macs_{budget}" / "best_subnet.pth" for budget in args.budgets}
    if not all(path.exists() for path in files.values()):
        words = ["tools/specialize.py", config, supernet, "--macs", *args.budgets, "--predictor", predictor]
        options = [*data, "search_cfg.searcher.max_epochs=100"]
        tool(folder / "specialise.log", *words, "--work-dir", folder / "nets", "--cfg-options", *options)
    return json.loads(_tensors(predictor)[1]["about"])["facts"], files


def accuracy(args: argparse.Namespace, folder: Path, name: str, checkpoint: Path) -> float:
    """Top-1 accuracy on the test images, in percent."""
    out = folder / f"{name}.json"
    if not out.exists():
        words = ["tools/test.py", CONFIGS.format("subnet"), checkpoint, "--work-dir", folder / "test", "--out", out]
        tool(folder / f"{name}.log", *words, "--cfg-options", f"data_root={args.data}")
    return json.loads(out.read_text())["accuracy/top1"]


def from_scratch(args: argparse.Namespace, folder: Path, budget: str, net: Path, seed: int) -> float:
    """Accuracy of the same net, trained alone for as many images as all phases saw."""
    steps, place = sum(PHASES.values()), folder / "scratch" / f"macs_{budget}_seed{seed}"
    checkpoint = place / f"iter_{steps}.pth"
    if not checkpoint.exists():
        options = [f"data_root={args.data}", f"randomness.seed={seed}", f"model.fix_subnet={net.with_suffix('.yaml')}"]
        options += ["train_dataloader.dataset.part=train", f"default_hooks.checkpoint.interval={steps}"]
        words = ["tools/train.py", CONFIGS.format("subnet"), "--work-dir", place, "--cfg-options", *options]
        tool(place.parent / f"{place.name}.log", *words)
    return accuracy(args, folder / "scratch", place.name, checkpoint)


def report(rows: list[dict], facts: list[dict], args: argparse.Namespace) -> str:
    """The table and the correlations as Markdown."""
    taus, errors, means = (
        ", ".join(f"{fact[key]:.2f}" for fact in facts) for key in ("kendall_tau", "rmse", "rmse_of_the_mean")
    )
    lines = [
        f"Kendall tau of the predictor on {facts[0]['held_out']} held-out subnets, by seed of the supernet: {taus} "
        f"(error {errors} points; predicting the mean: {means}).",
        "",
        "| budget | seed of the supernet | macs | from the supernet | from scratch, seeds " + f"{args.seeds} |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        scratch = row["scratch"]
        spread = statistics.stdev(scratch) if len(scratch) > 1 else 0.0
        lines.append(
            f"| {row['budget']} | {row['seed']} | {row['macs']:,} | {row['supernet']:.2f} | "
            f"{statistics.mean(scratch):.2f} +- {spread:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data/cifar10")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/ofa_cifar10"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--supernets", type=int, nargs="+", default=[0], help="seeds of the supernet")
    parser.add_argument("--budgets", nargs="+", default=["0.6M", "0.4M", "0.3M"])
    parser.add_argument("--subnets", type=int, default=200, help="evaluated for the predictor")
    args = parser.parse_args()

    from mmrazor_lite.subnet.yamlio import load_yaml

    rows, facts = [], []
    for seed in args.supernets:
        folder = args.work_dir / f"seed{seed}"
        supernet = train_phases(args, folder, seed)
        about, nets = specialise(args, folder, supernet, seed)
        facts.append(about)
        for budget, net in nets.items():
            macs = load_yaml(net.with_suffix(".yaml"))["resources"]["macs"]
            own = accuracy(args, folder, f"macs_{budget}", net)
            scratch = [from_scratch(args, folder, budget, net, number) for number in args.seeds]
            rows.append({"budget": budget, "seed": seed, "macs": macs, "supernet": own, "scratch": scratch})
            (args.work_dir / "results.json").write_text(json.dumps({"rows": rows, "predictors": facts}, indent=2))
    text = f"{machine()}\n\n{report(rows, facts, args)}"
    (args.work_dir / "results.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
