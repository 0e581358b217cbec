"""Make AutoSlim's CIFAR-10 table: baseline, supernet, search, retraining, and uniform scaling as the control."""

from __future__ import annotations

import argparse
import math
import os
import re
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError

from .steps import CONFIGS, TOP1, TYPED, CommandLine

NETS = {"mbv2": "MobileNetV2", "wrn40_4": "WRN-40-4", "resnet56": "ResNet-56"}
SMALL = {"mbv2": "MobileNetV2 0.25x", "wrn40_4": "WRN-16-1", "resnet56": "ResNet-20"}
DECAY_POINTS = (0.3, 0.6, 0.8)  # of the epochs, as in AutoSlim_TF2; its warm-up ends at the first
SPLITS = ("train_dataloader", "search_cfg.dataloader", "search_cfg.calibrate_dataloader")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add = parser.add_argument
    add("--arch", choices=NETS, required=True, help="network")
    add("--small", action="store_true", help="the network at the depth and width of its _small_ configs, for a CPU")
    add("--width", type=float, help="times as many channels in every layer as the full network has")
    add("--epochs", type=int, default=200, help="of each training but the supernet's (default: %(default)s)")
    add("--supernet-epochs", type=int, help="of the supernet's (default: 30%% of --epochs)")
    add("--seeds", type=int, default=3, help="trainings of each network, from seed 0 (default: %(default)s)")
    add("--target", default="50%", help="flops of the slim network, as a share of the full one's (default: 50%%)")
    add("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    add("--amp", action="store_true", help="mixed precision (bfloat16, or float16 on GPUs without it)")
    add("--data-root", default="data/cifar10", help="folder of CIFAR-10 in any of its forms (default: %(default)s)")
    add("--images-per-class", type=int, help="train on so many images of each class (default: all)")
    add("--val-images-per-class", type=int, help="of the test images after each epoch; the last test takes all")
    add("--calibrate-images", type=int, default=2048, help="for batch norms in the search (default: %(default)s)")
    add("--batch-size", type=int, default=128, help="of the training (default: %(default)s)")
    add("--lr", type=float, default=0.1, help="learning rate at the start (default: %(default)s)")
    add("--work-dir", help="folder for all files (default: work_dirs/autoslim_cifar10_ARCH)")


def run(args: argparse.Namespace, cli: CommandLine) -> dict[str, Any]:
    """Run what is not done yet, write the report after every seed, and return it."""
    from .autoslim_report import write_report
    from .workspace import Workspace

    _check(args)
    _choose_device(args)
    work = Path(args.work_dir or f"work_dirs/autoslim_cifar10_{args.arch}").resolve()
    plan = Plan(args)
    if not (work / "search/search_log.json").is_file():  # what comes before the search is not done
        _check_target(plan)
        _check_images(plan)
    unasked = ("work_dir", "data_root", "command", TYPED)
    settings = {key: value for key, value in vars(args).items() if key not in unasked}
    workspace = Workspace(cli, work, {**settings, "seeds": None}, args.amp)  # more seeds add to what is there

    supernet = workspace.train("supernet", plan.config("supernet"), plan.warm_up, 0, plan.options("supernet"))
    searched = workspace.search("search", plan.config("search"), supernet, plan.options("search"))
    files = {"baseline": work / "baseline.yaml", "autoslim": searched, "uniform": work / "uniform.yaml"}
    network = plan.controls(searched, supernet)
    plan.write_controls(files, network)
    config = plan.config("subnet")
    accuracies: dict[str, list[float]] = {row: [] for row in ROWS}
    for seed in range(args.seeds):
        for row, (net, start) in ROWS.items():
            name = f"{row}_seed{seed}"
            trained = workspace.train(name, config, args.epochs, seed, plan.subnet_options(files[net], start, supernet))
            metrics = workspace.test(name, config, trained, plan.subnet_options(files[net], "scratch", supernet))
            accuracies[row].append(metrics[TOP1])
        report = write_report(workspace, plan, network, files, accuracies)
    return report


# Row of the table: whose widths, and where its weights start.
ROWS = {
    "baseline": ("baseline", "scratch"),
    "autoslim": ("autoslim", "scratch"),
    "uniform": ("uniform", "scratch"),
    "autoslim_from_supernet": ("autoslim", "supernet"),
}


class Plan:
    """Which config and which options each command gets."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.warm_up: int = args.supernet_epochs or math.ceil(DECAY_POINTS[0] * args.epochs)
        self._controls: Any = None

    @property
    def title(self) -> str:
        """The network in words."""
        size = "" if self.args.width is None else f" x{self.args.width:g}"
        return (SMALL if self.args.small else NETS)[self.args.arch] + size

    def config(self, step: str) -> str:
        """Return the config file of a step."""
        ending = f"small_{step}" if self.args.small else f"{step}_1xb128"
        return str(CONFIGS / f"autoslim_{self.args.arch}_{ending}_cifar10.py")

    def options(self, step: str) -> list[str]:
        """Return the ``KEY=VALUE`` of a step."""
        args = self.args
        options = [f"data_root={Path(args.data_root).resolve()}", *self._size(step)]
        options += [f"train_dataloader.batch_size={args.batch_size}", f"optim_wrapper.optimizer.lr={args.lr}"]
        options += ["default_hooks.checkpoint.max_keep_ckpts=1"]
        options += ["channels_last=True"] * (args.device == "cuda")
        if args.images_per_class is not None:
            sections = [section for section in SPLITS if section.startswith("train") or step == "search"]
            options += [f"{section}.dataset.dataset.dataset.per_class={args.images_per_class}" for section in sections]
        if args.val_images_per_class is not None:
            options += [f"val_dataloader.dataset.dataset.per_class={args.val_images_per_class}"]
        if step == "search":
            options += [f"search_cfg.target_flops=[{args.target}]"]
            options += [f"search_cfg.calibrate_sample_num={args.calibrate_images}"]
        if step == "supernet":
            epochs = self.warm_up
            options += [f"train_cfg.max_epochs={epochs}", f"param_scheduler.end={epochs}"]
            options += [f"train_cfg.val_interval={epochs}", f"val_cfg.calibrate_sample_num={args.calibrate_images}"]
        if step == "subnet":
            points = sorted({max(1, round(point * args.epochs)) for point in DECAY_POINTS})
            options += [f"train_cfg.max_epochs={args.epochs}"]
            options += [f"param_scheduler.milestones=[{','.join(map(str, points))}]"]
        return options

    def subnet_options(self, file: Path, start: str, supernet: Path) -> list[str]:
        """Return the options of a training, or a test, of the network in ``file``."""
        options = [*self.options("subnet"), f"model.fix_subnet={file}"]
        if start == "supernet":
            options += [f"model.init_cfg.checkpoint={supernet}", "model.init_weight_from_supernet=True"]
        return options

    def _size(self, step: str) -> list[str]:
        """Options that scale the network, and its head with it."""
        if self.args.width is None:
            return []
        from mmrazor_lite.config import load_config
        from mmrazor_lite.registry import MODELS

        config = load_config(self.config("supernet"))
        backbone = MODELS.build({**config.model.architecture.backbone, "widen_factor": self.args.width})
        where = "model.cfg.architecture" if step == "subnet" else "model.architecture"
        return [f"{where}.backbone.widen_factor={self.args.width}", f"{where}.head.in_channels={backbone.out_channel}"]

    def controls(self, searched: Path, supernet: Path) -> Any:
        """The network with every width as a choice: its space, its costs, its layers."""
        if self._controls is None:
            from mmrazor_lite.config import build_model, load_config

            options = self.subnet_options(searched, "scratch", supernet)
            self._controls = build_model(load_config(self.config("subnet"), options))
        return self._controls

    def write_controls(self, files: dict[str, Path], network: Any) -> None:
        """Write the subnet files of the full network, and of the one that is scaled uniformly to equal macs."""
        from mmrazor_lite.search import uniform_subnet
        from mmrazor_lite.subnet import read_subnet, write_subnet

        space, cost = network.search_space, network.cost_model
        macs = cost.of(read_subnet(files["autoslim"], space).subnet)["macs"]
        for name, subnet in (("baseline", space.max()), ("uniform", uniform_subnet(space, cost, "macs", macs))):
            write_subnet(files[name], subnet, space, cost.of(subnet), made_by={"tool": f"autoslim-cifar10, {name}"})


def _check(args: argparse.Namespace) -> None:
    for flag in ("epochs", "supernet_epochs", "seeds", "batch_size", "images_per_class", "val_images_per_class"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise UserError(f"--{flag.replace('_', '-')} {value}: give a whole number above 0")
    for flag in ("width", "lr"):
        value = getattr(args, flag)
        if value is not None and not 0 < value < math.inf:  # also refuses nan
            raise UserError(f"--{flag} {value}: give a finite number above 0")
    if args.calibrate_images < 0 or args.calibrate_images == 1:
        raise UserError(f"--calibrate-images {args.calibrate_images}: give a whole number above 1, or 0 for none")
    if not re.fullmatch(r"(\d+\.?\d*|\.\d+)%", args.target) or not 0 < float(args.target[:-1]) < 100:
        raise UserError(f"--target {args.target}: give one percentage above 0% and below 100%, such as 50%")


def _check_target(plan: Plan) -> None:
    """Check that the search can get so far down, before its supernet is trained."""
    from mmrazor_lite.config import build_model, load_config
    from mmrazor_lite.subnet import parse_budget

    cost = build_model(load_config(plan.config("search"), plan.options("search"))).mutator.cost_model
    low, high = (cost.extreme("flops", largest=largest) for largest in (False, True))
    if parse_budget(plan.args.target, "flops", high) < low:
        least = math.ceil(1e4 * low / high) / 100
        raise UserError(
            f"--target {plan.args.target}: the smallest network of the search has {least:g}% of the flops: give that "
            "or more"
        )


def _check_images(plan: Plan) -> None:
    """Check that there are as many images as the flags say, and enough for a batch; the trainings read them too."""
    import numpy as np

    from mmrazor_lite.config import load_config
    from mmrazor_lite.datasets.cifar10 import load

    args, root = plan.args, str(Path(plan.args.data_root).resolve())
    counts = {split: np.bincount(load(root, split, True)[1]) for split in ("train", "test")}
    for flag, split in (("images_per_class", "train"), ("val_images_per_class", "test")):
        value, most = getattr(args, flag), counts[split].min()
        if value is not None and value > most:
            raise UserError(
                f"--{flag.replace('_', '-')} {value}: '{root}' has {most:,} {split} images of a class: give at most "
                "so many, or leave it out for all"
            )
    total = counts["train"].sum() if args.images_per_class is None else 10 * args.images_per_class
    share = 1 - load_config(plan.config("supernet")).train_dataloader.dataset.fraction
    if round(total * share) < args.batch_size:
        raise UserError(
            f"--batch-size {args.batch_size}: more than the {round(total * share):,} images that are trained on "
            f"({share:.0%} of {total:,}): give a smaller one, or more --images-per-class"
        )


def _choose_device(args: argparse.Namespace) -> None:
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # read when torch first asks for a device
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU; run on the CPU with --device cpu")
    if args.device is None:
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
