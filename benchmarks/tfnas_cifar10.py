"""Does the network that TF-NAS finds beat random ones of the same latency? On CIFAR-10, at a size that a CPU trains.

    python benchmarks/tfnas_cifar10.py --data data/cifar10 --work-dir work_dirs/tfnas_cifar10

By the documented commands: a latency table of this machine, a search for each target, and the networks found, retrained
and tested. For the first target, random networks of the same latency (random operators and depths, widths scaled to
the target) are trained as long, for every seed.

Every step has a folder or file of its own in the work dir; what is there is not repeated. The report goes to
``WORK_DIR/results.md`` and ``results.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

from benchmarks._timing import machine
from benchmarks.ofa_cifar10 import tool

SEARCH, SUBNET = (f"configs/nas/tfnas/tfnas_{name}_cifar10.py" for name in ("search", "subnet"))


def build_table(args: argparse.Namespace) -> Path:
    """Measure the latency table."""
    table = args.work_dir / "latency.json"
    if not table.exists():
        words = ["tools/latency/build_table.py", SEARCH, "--batch-size", 32, "--threads", 1, "-o", table]
        tool(args.work_dir / "latency.log", *words)
    return table


def search(args: argparse.Namespace, table: Path, target: str) -> Path:
    """Search for a target; return the network found. A search that misses it goes on for half as many epochs again."""
    folder = args.work_dir / f"search_{target.rstrip('%')}"
    found, epochs = folder / "best_subnet.yaml", args.search_epochs
    options = [f"data_root={args.data}", f"model.latency_table={table}", f"model.target_latency={target}"]
    parts = ("train_dataloader.dataset", "train_cfg.arch_dataloader.dataset")
    options += [f"{part}.dataset.fraction={args.search_images}" for part in parts]
    options += [f"param_scheduler.architecture.0.{key}={epochs}" for key in ("end", "T_max")]
    while not (folder / "met").exists():
        lengths = [f"{key}={epochs}" for key in ("train_cfg.max_epochs", "train_cfg.val_interval")]
        words = ["tools/train.py", SEARCH, "--work-dir", folder, "--resume", "--cfg-options", *options, *lengths]
        try:
            tool(args.work_dir / f"{folder.name}.log", *words)
            (folder / "met").write_text(str(epochs))
        except subprocess.CalledProcessError:
            if not found.exists() or epochs >= 3 * args.search_epochs:
                raise
            epochs += args.search_epochs // 2
    return found


def retrained(args: argparse.Namespace, name: str, net: Path, seed: int) -> float:
    """Top-1 accuracy of a network after training on a part of the images, in percent."""
    folder = args.work_dir / "retrain" / f"{name}_seed{seed}"
    checkpoint, out = folder / f"epoch_{args.epochs}.pth", folder / "test.json"
    options = [f"data_root={args.data}", f"randomness.seed={seed}"]
    if not checkpoint.exists():
        options += [f"model.fix_subnet={net}", f"train_cfg.max_epochs={args.epochs}"]
        options += ["train_cfg.val_interval=100", "train_dataloader.dataset.part=held_out"]
        options += [f"train_dataloader.dataset.fraction={args.images}", f"param_scheduler.0.end={args.epochs}"]
        options += [f"param_scheduler.0.T_max={args.epochs}"]
        tool(folder.with_suffix(".log"), "tools/train.py", SUBNET, "--work-dir", folder, "--cfg-options", *options)
    if not out.exists():
        words = ["tools/test.py", SUBNET, checkpoint, "--work-dir", folder, "--out", out]
        tool(folder.with_suffix(".test.log"), *words, "--cfg-options", f"data_root={args.data}")
    return json.loads(out.read_text())["accuracy/top1"]


def random_networks(args: argparse.Namespace, table: Path, target: float, tolerance: float) -> list[Path]:
    """Files of random networks whose widths are scaled to the target."""
    folder = args.work_dir / "random"
    files = [folder / f"{number}.yaml" for number in range(args.randoms)]
    if all(path.exists() for path in files):
        return files
    from mmrazor_lite.config.build import build_model
    from mmrazor_lite.config.load import load_config
    from mmrazor_lite.subnet import write_subnet

    algorithm = build_model(load_config(SEARCH, [f"model.latency_table={table}"]))
    algorithm.target, algorithm.epoch = target, algorithm.epochs_without_arch
    start, rng, wanted = algorithm.widths.clone(), np.random.default_rng(0), iter(files)
    while (path := next(wanted, None)) is not None:
        found = {"after": float("inf"), "less_probable": 1.0}
        while found["less_probable"] > 1 or abs(found["after"] / target - 1) > tolerance:
            algorithm.widths.copy_(start)
            for parameter in algorithm.arch_parameters.parameters():
                parameter.data.copy_(parameter.new_tensor(rng.random(len(parameter))))
            algorithm.start_epoch(algorithm.epochs_without_arch)
            found = algorithm.end_epoch()
        folder.mkdir(parents=True, exist_ok=True)
        subnet = algorithm.searched
        write_subnet(path, subnet, algorithm.search_space, algorithm.cost_model.of(subnet))
    return files


def costs(net: Path) -> dict[str, Any]:
    """The resources that a subnet file states."""
    from mmrazor_lite.subnet.yamlio import load_yaml

    return load_yaml(net)["resources"]


def report(result: dict[str, Any]) -> str:
    """The tables as Markdown."""
    lines = ["| target | epochs | found | off | macs | params | top-1 after training, by seed |", "| --- " * 7 + "|"]
    for row in result["targets"]:
        off = row["latency"] / row["target"] - 1
        accuracies = ", ".join(f"{value:.2f}" for value in row["accuracy"])
        lines.append(
            f"| {row['target']:.3f} ms ({row['name']}) | {row['epochs']} | {row['latency']:.3f} ms | {off:+.2%} | "
            f"{row['macs']:,} | {row['params']:,} | {accuracies} |"
        )
    if "random" in result:
        found, others = result["targets"][0]["accuracy"], result["random"]
        gaps = [own - statistics.mean(run) for own, run in zip(found, zip(*others, strict=True), strict=True)]
        error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
        means = [statistics.mean(values) for values in others]
        lines += [
            "",
            f"First target, seeds {result['seeds']}: found {statistics.mean(found):.2f}; {len(others)} random networks "
            f"of the same latency {statistics.mean(means):.2f}, from {min(means):.2f} to {max(means):.2f}. Difference "
            f"by seed {', '.join(f'{gap:+.2f}' for gap in gaps)}: {statistics.mean(gaps):+.2f} +- {error:.2f}.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data/cifar10")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/tfnas_cifar10"))
    parser.add_argument("--targets", nargs="+", default=["45%", "35%", "60%"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--randoms", type=int, default=10, help="random networks of the first target's latency")
    parser.add_argument("--search-images", type=float, default=0.0625, help="part of the training images for a search")
    parser.add_argument("--search-epochs", type=int, default=8)
    parser.add_argument("--images", type=float, default=0.1, help="part of them for every training of one network")
    parser.add_argument("--epochs", type=int, default=4, help="of every training of one network")
    args = parser.parse_args()

    args.work_dir.mkdir(parents=True, exist_ok=True)
    table, result = build_table(args), {"seeds": args.seeds, "targets": []}
    for name in args.targets:
        net = search(args, table, name)
        log = next((args.work_dir / f"search_{name.rstrip('%')}").glob("*/*.log")).read_text()
        target = float(log.split("target: ")[1].split(" ms")[0])
        epochs = int((net.parent / "met").read_text())
        result["targets"].append({"name": name, "target": target, "epochs": epochs, "net": net, **costs(net)})
    first = result["targets"][0]
    nets = random_networks(args, table, first["target"], tolerance=0.01)
    for seed_count in range(1, len(args.seeds) + 1):  # a whole seed at a time: what is there can be reported
        seeds = args.seeds[:seed_count]
        for row in result["targets"]:
            name = f"found_{row['name'].rstrip('%')}"
            row["accuracy"] = [retrained(args, name, row["net"], seed) for seed in seeds]
        result["random"] = [[retrained(args, f"random_{net.stem}", net, seed) for seed in seeds] for net in nets]
        result["seeds"] = seeds
        (args.work_dir / "results.json").write_text(json.dumps(result, indent=2, default=str))
        text = f"{machine()}\n\n{report(result)}"
        (args.work_dir / "results.md").write_text(text)
        print(text, flush=True)


if __name__ == "__main__":
    main()
