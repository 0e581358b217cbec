"""Whether channels innermost, or bfloat16, change what a short training comes to.

    python benchmarks/step_accuracy.py --data data/cifar10            # half an hour of one core; run it again to go on
    python benchmarks/step_accuracy.py --data data/cifar10 --table    # Markdown, of what is there
    python benchmarks/step_accuracy.py --gradients                    # seconds: how far each way is from float64

The supernets of the study of the claims, AutoSlim's MobileNetV2 and SPOS's, train for a few epochs on a third of the
images: with ``channels_last=False``, with ``channels_last=True``, and so with ``--amp``; as a control, in the first way
with one channel of the images moved by a ten-thousandth of a grey level. Seeds are paired: equal weights at the start,
equal images in equal order, equal subnets. Rounding alone then makes two trainings part, as two seeds do, so what is
asked is whether they part in one direction. Fixed before the first run: accuracy is unchanged where the mean difference
from ``channels_last=False`` is at most two of its standard errors, and at most the standard deviation from seed to
seed. The control came later, when the first seeds had parted in one direction.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._jobs import measured, start
from benchmarks.claims.arithmetic import paired

CONFIGS = {
    "autoslim": "benchmarks/claims/configs/autoslim_mbv2_supernet.py",
    "spos": "benchmarks/claims/configs/spos_supernet.py",
}
WAYS = {
    "off": ["channels_last=False"],
    "channels_last": ["channels_last=True"],
    "amp": ["channels_last=True", "--amp"],
    "nudged": ["channels_last=False", "data_preprocessor.mean=[125.3001,123.0,113.9]"],
}
EPOCHS, PER_CLASS, SEEDS = 4, 1500, 6
ERRORS = 2  # of the criterion


def jobs() -> Iterator[tuple[str, str, str, int]]:
    """Name, network, way and seed of every training."""
    for seed in range(SEEDS):
        for network in CONFIGS:
            for way in WAYS:
                yield f"{network}-{way}-{seed}", network, way, seed


def train(network: str, way: str, seed: int, folder: Path, data: Path) -> dict[str, Any]:
    """Train by the command and return the accuracies of the last validation, and the seconds of a step."""
    flags = [word for word in WAYS[way] if word.startswith("--")]
    options = [word for word in WAYS[way] if not word.startswith("--")]
    options += [f"data_root={data.resolve()}", f"train_dataloader.dataset.dataset.dataset.per_class={PER_CLASS}"]
    options += [f"train_cfg.{key}={EPOCHS}" for key in ("max_epochs", "val_interval")]
    options += [f"param_scheduler.1.end={EPOCHS}"]
    command = ["train", CONFIGS[network], "--work-dir", folder, "--seed", seed, *flags, "--cfg-options", *options]
    process = start([sys.executable, "-m", "mmrazor_lite.cli", *command], folder.with_suffix(".log"), threads=1)
    if status := process.wait():
        raise subprocess.CalledProcessError(status, process.args)
    lines = [json.loads(line) for path in folder.glob("*/vis_data/scalars.json") for line in path.open()]
    found = {key: value for line in lines for key, value in line.items() if key.endswith("accuracy/top1")}
    return {"accuracy": found, "step_s": round(statistics.median(line["time"] for line in lines if "loss" in line), 4)}


def gradient_errors(network: str) -> dict[str, list[float]]:
    """How far the gradient of one step is from float64's, relative to its size, for several batches and weights.

    Rounding in either order of memory makes it as large; a fault of one would show.
    """
    import torch
    from mmpretrain.structures import DataSample

    from benchmarks.autoslim import build
    from mmrazor_lite.engine.optim import SubnetAmpOptimWrapper, SubnetOptimWrapper

    in_float64 = {"exact": ["channels_last=False"], "channels_last in float64": ["channels_last=True"]}
    ways = {**in_float64, **{way: options for way, options in WAYS.items() if way != "nudged"}}
    errors: dict[str, list[float]] = {way: [] for way in list(ways)[1:]}
    algorithm = build(False, CONFIGS[network])
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        algorithm.init_weights()
        weights = {name: value.clone() for name, value in algorithm.state_dict().items()}
        samples = [DataSample().set_gt_label(label) for label in torch.randint(10, (128,))]
        images = torch.randn(128, 3, 16, 16)
        found = {}
        for way, options in ways.items():
            algorithm.to(torch.float64 if way in in_float64 else torch.float32)
            algorithm.load_state_dict(weights)
            algorithm.use_channels_last("channels_last=True" in options)
            algorithm.zero_grad()
            wrapper = (SubnetAmpOptimWrapper if way == "amp" else SubnetOptimWrapper)(
                torch.optim.SGD(algorithm.parameters(), 0.1)
            )
            batch = {"inputs": images.double() if way in in_float64 else images, "data_samples": samples}
            algorithm.trial_step(batch, wrapper)
            grads = [parameter.grad for parameter in algorithm.parameters() if parameter.grad is not None]
            found[way] = torch.cat([grad.double().flatten() for grad in grads])
        for way in errors:
            errors[way].append(float((found[way] - found["exact"]).norm() / found["exact"].norm()))
    return errors


def table(work: Path) -> str:
    """What was found, a line for each network, subnet and way."""
    found = {path.stem: json.loads(path.read_text()) for path in (work / "jobs").glob("*.json")}
    lines = ["| trained | accuracy | of | off | difference | seeds | verdict |", "|---|---|---|--:|--:|--:|---|"]
    for network in CONFIGS:
        for way in list(WAYS)[1:]:
            pairs = [
                (found[f"{network}-{way}-{seed}"]["accuracy"], found[f"{network}-off-{seed}"]["accuracy"])
                for seed in range(SEEDS)
                if {f"{network}-{way}-{seed}", f"{network}-off-{seed}"} <= set(found)
            ]
            for key in pairs[0][0] if len(pairs) > 1 else ():
                ours, theirs = ([accuracy[key] for accuracy in side] for side in zip(*pairs, strict=True))
                gap = paired(ours, theirs)
                mean, spread = statistics.fmean(theirs), statistics.stdev(theirs)
                same = abs(gap.mean) <= min(ERRORS * gap.error, spread)
                verdict = "unchanged" if same else "**changed**"
                subnet = key.removesuffix("accuracy/top1").strip("/.") or "the subnet validated"
                lines.append(
                    f"| {network}, {way} | {statistics.fmean(ours):.2f} | {subnet} | {mean:.2f} (spread {spread:.2f}) "
                    f"| {gap} | {len(pairs)} | {verdict} |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "data/cifar10", help="folder of CIFAR-10")
    parser.add_argument("--gradients", action="store_true", help="compare the gradients of a step instead")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "work_dirs/step_accuracy")
    parser.add_argument("--network", choices=CONFIGS, help="of one alone, for a process beside another one")
    parser.add_argument("--table", action="store_true", help="print what was found")
    args = parser.parse_args()
    if args.gradients:
        for network in CONFIGS:
            for way, errors in gradient_errors(network).items():
                print(f"{network}, {way}: " + ", ".join(f"{error:.2e}" for error in errors))
        return
    for name, network, way, seed in () if args.table else jobs():
        path = args.work_dir / f"jobs/{name}.json"
        if path.exists() or args.network not in (None, network):
            continue
        folder = args.work_dir / "runs" / name
        measured(name, path, lambda told=(network, way, seed, folder): train(*told, args.data))
        print(path.read_text(), end="", flush=True)
    print(table(args.work_dir))


if __name__ == "__main__":
    main()
