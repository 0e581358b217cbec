"""The trainings at full size: what one GPU would take for each, and a dry run of one step of each, on any machine.

    python -m benchmarks.full_size                  # all: a step of two images each, minutes on a CPU
    python -m benchmarks.full_size --table          # the table of docs/results/gpu.md alone, no step
    python -m benchmarks.full_size autoslim_mbv2 spos

Hours are arithmetic, not a measurement: images of the schedule x macs of the passes of a step, 2 operations each,
forward and twice as much backward, at an assumed rate that one GPU of the class of an H100 keeps up in mixed precision
(``--dense`` and ``--depthwise``, in TFLOP/s), but no less than it takes to start the kernels of all layers, batch by
batch. ``benchmarks/gpu.py`` measures such rates.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore")

import torch

IMAGES = {"in1k100": 126_689 * 4 // 5, "in1k": 1_281_167, "cifar10": 50_000}  # by the end of a config's name
SIZED = re.compile(r"(\d+)xb(\d+)_(in1k100|in1k|cifar10)$")
DEPTHWISE = 0.5  # share of layers with as many groups as channels, from which on a network counts as such
STEPS = 50  # over which the passes of a training are averaged
LAUNCH, KERNELS = 10e-6, 4  # seconds to start a kernel, and kernels of a layer: forward, two backward, its update


@dataclass(frozen=True)
class Recipe:
    """A training of a config, as its schedule has it.

    Attributes:
        config: Path from the root.
        images: That it sees in all.
        macs: Of all passes of an image, of forward alone.
        depthwise: Whether the network is mostly depthwise convolutions.
        layers: That are run, of all passes of all batches.
    """

    config: str
    images: float
    macs: float
    depthwise: bool
    layers: float = 0.0

    def hours(self, rate: float) -> float:
        """At so many TFLOP/s."""
        return max(6 * self.images * self.macs / (rate * 1e12), LAUNCH * KERNELS * self.layers) / 3600


def recipes() -> list[Path]:
    """Configs of trainings at full size: ImageNet, and CIFAR-10 by the published schedules."""
    found = [path for path in sorted((ROOT / "configs").rglob("*.py")) if SIZED.search(path.stem)]
    return [path for path in found if "_search_" not in path.stem or "tfnas" in path.stem]


def built(path: Path) -> tuple[Any, Any]:
    """The config and its model, in train mode."""
    from mmengine.logging import MMLogger

    from mmrazor_lite.config import build_model, load_config

    MMLogger.get_instance("mmengine", log_level="ERROR")
    cfg = load_config(path, [])
    torch.manual_seed(0)
    model = build_model(cfg)
    model.init_weights()
    return cfg, model.train()


def recipe(path: Path, cfg: Any, model: Any) -> Recipe:
    """What a training is, by its config and its model."""
    gpus, batch, data = SIZED.search(path.stem).groups()
    loader, loop = cfg.train_dataloader, cfg.train_cfg
    number = IMAGES[data] * _share(loader.dataset)
    each = int(gpus) * int(batch)
    seen = loop.max_epochs * number if loop.get("max_epochs") else loop.max_iters * each
    layers = seen / int(batch) * passes(model) * layers_of(model)
    return Recipe(str(path.relative_to(ROOT)), seen, macs(model), is_depthwise(model), layers)


def _share(dataset: Mapping[str, Any]) -> float:
    """Of the images, that train: a part may be held out."""
    share = 1.0
    while isinstance(dataset, Mapping):
        if str(dataset.get("type")).endswith("HeldOut") and dataset.get("part", "train") != "all":
            fraction = dataset.get("fraction", 0.04)
            share *= 1 - fraction if dataset.get("part", "train") == "train" else fraction
        dataset = dataset.get("dataset")
    return share


def macs(model: Any) -> float:
    """Of all passes of one image through a step, in the mean over some steps."""
    cost, kind = model.cost_model, type(model).__name__
    if model.kind == "subnet":
        return cost.of(model.subnets[0])["macs"]
    if kind == "TFNAS":  # two paths, and after every second step one through all operators, without weight gradients
        path = statistics.fmean(cost.of(model.search_space.sample(model.rng(step, 0)))["macs"] for step in range(STEPS))
        operators = len(model.arch_parameters.alphas[0])
        return path * (2 + operators / model.arch_interval * 2 / 3)
    total = [sum(_of_pass(model, item) for item in model.passes(step)) for step in range(STEPS)]
    teacher = cost.max()["macs"] / 3 if any(item.teacher == "frozen" for item in model.passes(0)) else 0
    return statistics.fmean(total) + teacher


def _of_pass(model: Any, item: Any) -> float:
    return model.cost_model.of(item.subnet if item.subnet is not None else model.search_space.max())["macs"]


def passes(model: Any) -> float:
    """Of a step, in networks; one through all operators of TF-NAS counts as so many."""
    if model.kind == "subnet":
        return 1
    if type(model).__name__ == "TFNAS":
        return 2 + len(model.arch_parameters.alphas[0]) / model.arch_interval
    return len(model.passes(0))


def layers_of(model: Any) -> int:
    """Of the largest network: its convolutions, each with a norm and an activation."""
    network = model.mutator.export(model.search_space.max()) if model.kind == "supernet" else model.architecture
    return 3 * sum(isinstance(module, torch.nn.Conv2d) for module in network.modules())


def is_depthwise(model: Any) -> bool:
    """Whether more than half of its k x k convolutions are depthwise."""
    wide = [m for m in model.architecture.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size != (1, 1)]
    return sum(m.groups == m.in_channels > 1 for m in wide) > DEPTHWISE * len(wide)


def dry_run(model: Any) -> float:
    """One training step of two random images of the real size, on the CPU; the loss."""
    from mmpretrain.structures import DataSample

    from mmrazor_lite.engine.optim import SubnetOptimWrapper

    optim = SubnetOptimWrapper(torch.optim.SGD(model.parameters(), 1e-3))
    images = torch.randint(256, (2, *model.input_shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = {"inputs": list(images), "data_samples": [DataSample().set_gt_label(label) for label in (0, 1)]}
    batch = model.data_preprocessor(data, training=True)
    if hasattr(model, "_teacher_file"):  # that of Once-for-All is the checkpoint of a phase before
        model.teacher_outputs = lambda batch, subnet: torch.zeros(2, model.architecture.head.num_classes)
    return float(model.trial_step(batch, {"architecture": optim} if type(model).__name__ == "TFNAS" else optim))


def main() -> int:
    """Print a line for each; 1 where a step fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of the names of configs (default: all)")
    parser.add_argument("--table", action="store_true", help="no step, Markdown alone")
    parser.add_argument("--dense", type=float, default=60.0, help="TFLOP/s of dense convolutions (default: 60)")
    parser.add_argument("--depthwise", type=float, default=8.0, help="of depthwise ones (default: 8)")
    options = parser.parse_args()
    print("| config | images | G macs an image | expected hours |" + (" step |" if not options.table else ""))
    print("|---|---|---|---|" + ("---|" if not options.table else ""))
    failed = 0
    for path in recipes():
        if options.names and not any(name in path.stem for name in options.names):
            continue
        cfg, model = built(path)
        found = recipe(path, cfg, model)
        hours = found.hours(options.depthwise if found.depthwise else options.dense)
        line = f"| `{path.stem}` | {found.images / 1e6:,.1f} M | {found.macs / 1e9:.2f} | {hours:,.1f} |"
        if not options.table:
            try:
                line += f" loss {dry_run(model):.2f} |"
            except Exception as error:
                failed += 1
                line += f" **fails**: {type(error).__name__} |"
        print(line, flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
