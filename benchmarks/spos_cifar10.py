"""Is the supernet's ranking worth anything? SPOS on CIFAR-10, at a size that a CPU trains.

    python benchmarks/spos_cifar10.py --data data/cifar10 --work-dir work_dirs/spos_cifar10

Trains the supernet and searches it, by the documented commands. Then, with one short training from scratch that is the
same for all:

- ``--random`` random subnets: their score in the supernet against their accuracy after training (Kendall's tau);
- the searched subnet against ``--rivals`` random ones of the same flops (within 2%), seeds 0, 1, ...

Every training is one line of ``WORK_DIR/trainings.jsonl``; what is there is not repeated. The report goes to
``WORK_DIR/results.md`` and ``results.json``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
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
os.environ.setdefault("PYTHONWARNINGS", "ignore")

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import kendalltau
from torch import Tensor, nn

from benchmarks._timing import machine

CONFIGS = "configs/nas/spos/spos_{}_shufflenetv2_cifar10.py"
TOLERANCE = 0.02  # of the flops, between the searched subnet and its rivals


def tool(*words: Any) -> None:
    command = [sys.executable, *map(str, words)]
    print("$ " + " ".join(["python", *command[1:]]), flush=True)
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def supernet_and_search(args: argparse.Namespace) -> tuple[Path, Path]:
    """Train and search by the commands of the docs, or go on where that stopped."""
    data = f"data_root={args.data}"
    checkpoint = args.work_dir / "supernet" / f"epoch_{args.epochs}.pth"
    if not checkpoint.exists():
        schedule = [f"train_cfg.max_epochs={args.epochs}", f"param_scheduler.end={args.epochs}"]
        command = ["tools/train.py", CONFIGS.format("supernet"), "--work-dir", checkpoint.parent, "--resume"]
        tool(*command, "--cfg-options", data, f"train_cfg.val_interval={args.epochs}", *schedule, *args.options)
    found = args.work_dir / "search" / "best_subnet.yaml"
    if not found.exists():
        command = ["tools/search.py", CONFIGS.format("evolution_search"), checkpoint, "--work-dir", found.parent]
        tool(*command, "--resume", "--cfg-options", data)
    return checkpoint, found


def scored_supernet(args: argparse.Namespace, checkpoint: Path) -> tuple[nn.Module, Any]:
    """The supernet with its weights, and the evaluator that the search used."""
    from mmrazor_lite.checkpoints import load_weights, read_checkpoint
    from mmrazor_lite.config.build import build_model
    from mmrazor_lite.config.load import load_config
    from mmrazor_lite.engine.evaluator import ScoringSettings, SubnetEvaluator

    config = load_config(ROOT / CONFIGS.format("evolution_search"), [f"data_root={args.data}"])
    algorithm = build_model(config)
    load_weights(algorithm, read_checkpoint(checkpoint), checkpoint)
    keys = ("dataloader", "evaluator", "calibrate_dataloader", "calibrate_sample_num", "score_key")
    return algorithm, SubnetEvaluator(algorithm, ScoringSettings(**{key: config.search_cfg[key] for key in keys}))


def images_of(folder: Path) -> tuple[Tensor, Tensor]:
    """All images of ``folder/CLASS/*`` as (N, 3, 32, 32) uint8, and their labels (N,)."""
    from PIL import Image

    images, labels = [], []
    for label, name in enumerate(sorted(path.name for path in folder.iterdir())):
        for path in sorted((folder / name).iterdir()):
            images.append(np.asarray(Image.open(path).convert("RGB")))
            labels.append(label)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def train_plain(job: tuple[dict, nn.Module, dict]) -> dict:
    """Train one plain network from scratch; the same images, order and augmentation for every network of a seed."""
    key, network, options = job
    torch.set_num_threads(1)
    data = torch.load(options["data"], weights_only=True)
    torch.manual_seed(key["seed"])
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            module.reset_parameters()
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    network = network.to(memory_format=torch.channels_last).train()
    generator = torch.Generator().manual_seed(key["seed"])
    chosen = torch.randperm(len(data["train"]), generator=torch.Generator().manual_seed(0))[: options["images"]]
    images, labels = data["train"][chosen], data["train_labels"][chosen]
    steps = options["train_epochs"] * (len(images) // options["batch"])
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps)
    began = time.monotonic()
    for _ in range(options["train_epochs"]):
        order = torch.randperm(len(images), generator=generator)
        for batch in order.split(options["batch"]):
            if len(batch) < options["batch"]:
                continue
            loss = F.cross_entropy(network(augmented(images[batch], generator)), labels[batch], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        parts = zip(data["test"].split(500), data["test_labels"].split(500), strict=True)
        right = sum(int((network(normalised(x)).argmax(1) == y).sum()) for x, y in parts)
    accuracy = 100 * right / len(data["test"])
    return {**key, "accuracy": round(accuracy, 2), "seconds": round(time.monotonic() - began, 1)}


def normalised(images: Tensor) -> Tensor:
    return ((images.float() - 122.0) / 62.0).contiguous(memory_format=torch.channels_last)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """A shift by up to 4 pixels and a flip, one of each per batch and image."""
    x, y = torch.randint(0, 9, (2,), generator=generator).tolist()
    images = F.pad(images, (4, 4, 4, 4))[:, :, y : y + 32, x : x + 32]
    flip = torch.rand(len(images), generator=generator) < 0.5
    return normalised(torch.where(flip[:, None, None, None], images.flip(3), images))


def train_all(args: argparse.Namespace, algorithm: nn.Module, wanted: list[tuple[Any, int]]) -> dict[tuple, float]:
    """Accuracy after training of each (subnet, seed), on ``--jobs`` processes."""
    log = args.work_dir / "trainings.jsonl"
    setting = [args.images, args.train_epochs, args.batch]
    done = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        entry = json.loads(line)
        if entry["setting"] == setting:
            done[tuple(entry["row"]), entry["seed"]] = entry["accuracy"]
    rows = [(tuple(algorithm.search_space.index(subnet).tolist()), subnet, seed) for subnet, seed in wanted]
    todo = {(row, seed): subnet for row, subnet, seed in rows if (row, seed) not in done}
    options = {
        "data": str(args.work_dir / "images.pt"),
        **{key: getattr(args, key) for key in ("images", "train_epochs", "batch")},
    }
    jobs = [
        ({"row": list(row), "seed": seed, "setting": setting}, plain(algorithm, subnet), options)
        for (row, seed), subnet in todo.items()
    ]
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool, log.open("a") as file:
        for number, entry in enumerate(pool.imap_unordered(train_plain, jobs), start=1):
            file.write(json.dumps(entry) + "\n")
            file.flush()
            done[tuple(entry["row"]), entry["seed"]] = entry["accuracy"]
            print(f"{number} of {len(jobs)}: {entry['accuracy']} % in {entry['seconds']} s", flush=True)
    return {(row, seed): done[row, seed] for row, _, seed in rows}


def plain(algorithm: nn.Module, subnet: Any) -> nn.Module:
    from mmrazor_lite.models.classifiers import plain_module

    return plain_module(algorithm.mutator.export(subnet))


def rivals(algorithm: nn.Module, flops: int, number: int, seed: int = 1) -> list[Any]:
    """Different random subnets within the tolerance of ``flops``."""
    rng, space, found = np.random.default_rng(seed), algorithm.search_space, {}
    while len(found) < number:
        rows = space.sample_indices(rng, 1000)
        near = np.abs(algorithm.cost_model(rows)["flops"] - flops) <= TOLERANCE * flops
        for row in rows[near]:
            found.setdefault(tuple(row.tolist()), space.subnet(row))
    return list(found.values())[:number]


def report(figures: dict) -> str:
    ranking, duel = figures["ranking"], figures["duel"]
    lines = [
        f"Kendall's tau of {len(ranking['scores'])} random subnets: {ranking['tau']:.3f} (p {ranking['p']:.2g})",
        "",
        "| subnet | flops | in the supernet | after training, mean | standard error | each seed |",
        "|---|---|---|---|---|---|",
    ]
    for entry in duel["subnets"]:
        each = ", ".join(f"{value:.2f}" for value in entry["accuracies"])
        mean, spread = statistics.mean(entry["accuracies"]), error(entry["accuracies"])
        cells = [entry["name"], f"{entry['flops']:,}", f"{entry['score']:.2f}", f"{mean:.2f}", f"{spread:.2f}", each]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Searched minus the mean of {len(duel['subnets']) - 1} random ones: {duel['difference']:+.2f}, standard error "
        f"{duel['error']:.2f}",
    ]
    return "\n".join(lines) + "\n"


def error(values: list[float]) -> float:
    """Standard error of the mean."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/cifar10"), help="folder with train/ and test/")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/spos_cifar10"))
    parser.add_argument("--epochs", type=int, default=12, help="of the supernet")
    parser.add_argument("--random", type=int, default=20, help="subnets for the ranking")
    parser.add_argument("--rivals", type=int, default=10, help="random subnets of the searched one's flops")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=12800, help="training images of the short trainings")
    parser.add_argument("--train-epochs", type=int, default=6, help="epochs of the short trainings")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, one thread each")
    parser.add_argument("--options", nargs="*", default=[], help="further KEY=VALUE for the supernet's training")
    args = parser.parse_args()
    args.data, args.work_dir = args.data.resolve(), args.work_dir.resolve()
    args.work_dir.mkdir(parents=True, exist_ok=True)

    from mmrazor_lite.subnet import read_subnet

    checkpoint, found = supernet_and_search(args)
    algorithm, evaluator = scored_supernet(args, checkpoint)
    packed = args.work_dir / "images.pt"
    if not packed.exists():
        train, test = images_of(args.data / "train"), images_of(args.data / "test")
        torch.save(dict(zip(("train", "train_labels", "test", "test_labels"), (*train, *test), strict=True)), packed)

    space = algorithm.search_space
    rng = np.random.default_rng(0)
    drawn = [space.subnet(row) for row in np.unique(space.sample_indices(rng, 10 * args.random), axis=0)]
    drawn = [drawn[i] for i in rng.permutation(len(drawn))[: args.random]]
    best = read_subnet(found, space).subnet
    others = rivals(algorithm, algorithm.cost_model.of(best)["flops"], args.rivals)
    contest = {"searched": best, **{f"random {number}": subnet for number, subnet in enumerate(others, start=1)}}
    seeds = range(args.seeds)
    wanted = [(subnet, 0) for subnet in drawn] + [(subnet, seed) for seed in seeds for subnet in contest.values()]
    accuracy = train_all(args, algorithm, wanted)

    def of(subnet: Any, seed: int) -> float:
        return accuracy[tuple(space.index(subnet).tolist()), seed]

    scores = [evaluator.evaluate(subnet)["score"] for subnet in drawn]
    tau = kendalltau(scores, [of(subnet, 0) for subnet in drawn])
    subnets = [
        {
            "name": name,
            "flops": algorithm.cost_model.of(subnet)["flops"],
            "score": evaluator.evaluate(subnet)["score"],
            "accuracies": [of(subnet, seed) for seed in seeds],
        }
        for name, subnet in contest.items()
    ]
    means = [statistics.mean(entry["accuracies"]) for entry in subnets]
    figures = {
        "machine": machine(),
        "settings": {key: value for key, value in vars(args).items() if not isinstance(value, Path)},
        "ranking": {
            "tau": float(tau.statistic),
            "p": float(tau.pvalue),
            "scores": scores,
            "accuracies": [of(subnet, 0) for subnet in drawn],
            "flops": [algorithm.cost_model.of(subnet)["flops"] for subnet in drawn],
        },
        "duel": {
            "subnets": subnets,
            "difference": means[0] - statistics.mean(means[1:]),
            "error": (error(subnets[0]["accuracies"]) ** 2 + error(means[1:]) ** 2) ** 0.5,
        },
    }
    (args.work_dir / "results.json").write_text(json.dumps(figures, indent=2) + "\n")
    (args.work_dir / "results.md").write_text(report(figures))
    print(report(figures))


if __name__ == "__main__":
    main()
