"""AutoSlim against uniform scaling on CIFAR-10, by the documented commands; seeds 0-2, mean and standard error.

    python benchmarks/autoslim_cifar10.py --data data/cifar10 --work-dir work_dirs/cifar10

Trains the supernet, searches it to a share of its macs, scales the network uniformly to the same macs, retrains both
kinds alone with every seed, retrains the searched subnets jointly, splits and tests them. Steps that are done are not
repeated: run it again after an interruption. The table goes to ``WORK_DIR/results.md`` and ``results.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore")

from benchmarks._timing import machine

CONFIGS = "configs/pruning/autoslim/autoslim_mbv2_{}_cifar10.py"
TOP1 = "accuracy/top1"


class Recipe:
    """The commands of one run, each skipped when what it writes is there."""

    def __init__(self, data: Path, work: Path, epochs: int, seeds: int, options: list[str]) -> None:
        self.work, self.epochs, self.seeds = work, epochs, seeds
        self.common = [f"data_root={data}", *options]
        self.seconds: dict[str, float] = {}

    def tool(self, *command: Any, options: list[str] = ()) -> None:
        words = [sys.executable, *map(str, command), "--cfg-options", *self.common, *options]
        print("$ " + " ".join(["python", *words[1:]]), flush=True)
        subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    def train(self, name: str, step: str, seed: int, options: list[str] = ()) -> Path:
        folder = self.work / name
        checkpoint = folder / f"epoch_{self.epochs}.pth"
        if not checkpoint.exists():
            start = time.monotonic()
            schedule = [f"train_cfg.max_epochs={self.epochs}", f"param_scheduler.end={self.epochs}"]
            command = ["tools/train.py", CONFIGS.format(step), "--work-dir", folder, "--seed", seed, "--resume"]
            self.tool(*command, options=[*schedule, *options])
            self.seconds[name] = round(time.monotonic() - start)
        return checkpoint

    def test(self, name: str, step: str, checkpoint: Path, options: list[str] = ()) -> dict[str, float]:
        out = self.work / "test" / f"{name}.json"
        if not out.exists():
            folder = self.work / "test" / name
            command = ["tools/test.py", CONFIGS.format(step), checkpoint, "--work-dir", folder, "--out", out]
            self.tool(*command, options=options)
        return json.loads(out.read_text())

    def search(self, supernet: Path) -> list[Path]:
        folder = self.work / "search"
        log = folder / "search_log.json"
        if not (log.exists() and json.loads(log.read_text())["results"]):
            start = time.monotonic()
            self.tool("tools/search.py", CONFIGS.format("search"), supernet, "--work-dir", folder, "--resume")
            self.seconds["search"] = round(time.monotonic() - start)
        return [folder / result["file"] for result in json.loads(log.read_text())["results"]]

    def split(self, checkpoint: Path, files: list[Path]) -> list[Path]:
        folder = self.work / "split"
        targets = [folder / f"checkpoint_{number}.pth" for number in range(1, len(files) + 1)]
        if not all(target.exists() for target in targets):
            command = ["tools/model_converters/split_checkpoint.py", CONFIGS.format("subnet"), checkpoint]
            self.tool(*command, "--channel-cfgs", *files, "--output-dir", folder)
        return targets


def uniform_subnets(files: list[Path], folder: Path) -> list[Path]:
    """For every searched subnet, one with the same ratio in every layer and the macs closest to it from below."""
    from mmrazor_lite.config.build import build_model
    from mmrazor_lite.config.load import load_config
    from mmrazor_lite.search import uniform_subnet
    from mmrazor_lite.subnet import read_subnet, write_subnet

    config = load_config(ROOT / CONFIGS.format("subnet"), [f"algorithm.channel_cfg=[{','.join(map(str, files))}]"])
    algorithm = build_model(config)
    space, cost = algorithm.search_space, algorithm.cost_model
    written = []
    for file in files:
        best = uniform_subnet(space, cost, "macs", cost.of(read_subnet(file, space).subnet)["macs"])
        path = folder / f"uniform_{file.stem}.yaml"
        write_subnet(path, best, space, cost.of(best), made_by={"tool": "uniform scaling", "macs_of": file.name})
        written.append(path)
    return written


def resources(file: Path) -> dict[str, int]:
    import yaml

    return yaml.safe_load(file.read_text())["resources"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/cifar10"), help="folder with train/ and test/")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/cifar10"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--options", nargs="*", default=[], help="further KEY=VALUE for every command")
    args = parser.parse_args()
    work = args.work_dir.resolve()
    (work / "test").mkdir(parents=True, exist_ok=True)
    recipe = Recipe(args.data.resolve(), work, args.epochs, args.seeds, args.options)

    supernet = recipe.train("supernet", "supernet", 0)
    full = recipe.test("supernet", "supernet", supernet)
    searched = recipe.search(supernet)
    rows = []
    for number, (slim, uniform) in enumerate(zip(searched, uniform_subnets(searched, work), strict=True), start=1):
        for kind, file in (("searched", slim), ("uniform", uniform)):
            name = f"{kind}_{number}"
            option = [f"algorithm.channel_cfg={file}"]
            accuracies = []
            for seed in range(args.seeds):
                checkpoint = recipe.train(f"{name}_seed{seed}", "subnet", seed, option)
                accuracies.append(recipe.test(f"{name}_seed{seed}", "subnet", checkpoint, option)[TOP1])
            rows.append({"subnet": name, "file": file.name, **resources(file), "accuracies": accuracies})
    both = [f"algorithm.channel_cfg=[{','.join(map(str, searched))}]"]
    joint = recipe.train("joint", "subnet", 0, both)
    in_joint = recipe.test("joint", "subnet", joint, both)
    splits = []
    for number, (file, checkpoint) in enumerate(zip(searched, recipe.split(joint, searched), strict=True), start=1):
        alone = recipe.test(f"split_{number}", "subnet", checkpoint, [f"algorithm.channel_cfg={file}"])
        splits.append({"subnet": file.name, "joint": in_joint[f"subnet_{number}.{TOP1}"], "split": alone[TOP1]})
    figures = {"machine": machine(), "epochs": args.epochs, "supernet": full, "subnets": rows, "splits": splits}
    previous = work / "results.json"
    known = json.loads(previous.read_text()).get("seconds", {}) if previous.exists() else {}
    figures["seconds"] = {**known, **recipe.seconds}
    previous.write_text(json.dumps(figures, indent=2) + "\n")
    (work / "results.md").write_text(table(figures))
    print((work / "results.md").read_text())


def table(figures: dict[str, Any]) -> str:
    lines = [
        "| subnet | macs | params | top-1, mean of seeds | standard error | each seed |",
        "|---|---|---|---|---|---|",
    ]
    for row in figures["subnets"]:
        values = row["accuracies"]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        each = ", ".join(f"{value:.2f}" for value in values)
        cells = [row["subnet"], f"{row['macs']:,}", f"{row['params']:,}", f"{statistics.mean(values):.2f}"]
        lines.append("| " + " | ".join([*cells, f"{error:.2f}", each]) + " |")
    lines += ["", "| searched subnet | in the joint model | after split |", "|---|---|---|"]
    lines += [f"| {row['subnet']} | {row['joint']:.2f} | {row['split']:.2f} |" for row in figures["splits"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
