"""The scripts of sseung0703/Autoslim_TF2: their flags, and what they are here."""

from __future__ import annotations

import argparse
import math
import re

from mmrazor_lite.errors import UserError

from .original import Command, add_flags, config, text

CONFIGS = "configs/pruning/autoslim/autoslim_{net}_{step}_1xb128_cifar10.py"
# Their names, in any case: their README and their code differ in it.
NETS = {"mobilev2": "mbv2", "wresnet-40-4": "wrn40_4", "resnet-56": "resnet56"}
WEIGHT_DECAY = {"mbv2": 4e-5, "wrn40_4": 5e-4, "resnet56": 5e-4}  # of their README, and of the configs
FULL = ("model.channel_cfg=1.0", "model.distiller=None", "model.num_random_samples=None")  # of a supernet's config
NOT_READ = "files of theirs (.mat) are not read: give a checkpoint of ours"


def _flag(value: str) -> bool:
    if value not in ("True", "False"):
        raise argparse.ArgumentTypeError(f"'{value}' is neither True nor False")
    return value == "True"


def train_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Of ``train_w_slimming.py``."""
    _common(parser)
    parser.add_argument("--decay_points", type=float, nargs="+", default=[0.3, 0.6, 0.8])
    parser.add_argument("--weight_decay", type=float)
    add_flags(parser, train_path="test", learning_rate=0.1, decay_rate=0.2, batch_size=128, train_epoch=200)
    add_flags(parser, trained_slimmable=None, target_rate=0.5, search_step=0.2, minimum_rate=0.2, do_log=100)
    return parser


def train(args: argparse.Namespace) -> Command:
    """Return the command of the baseline, of the search of a trained supernet, or of the whole recipe."""
    net, said = _net(args), _said(args)
    environment = {"CUDA_VISIBLE_DEVICES": str(args.gpu_id)} if args.gpu_id else {}
    if not args.slimmable:
        command = _baseline(args, net)
    elif args.trained_slimmable:
        command = _search(args, net)
    else:
        command = _recipe(args, net)
    command.environment, command.said = environment, [*said, *command.said]
    return command


def _baseline(args: argparse.Namespace, net: str) -> Command:
    """The full network, for all epochs on all images."""
    steps = [round(point * args.train_epoch) if point < 1 else int(point) for point in args.decay_points]
    decay = f"dict(_delete_=True,type=MultiStepLR,milestones={text(steps)},gamma={args.decay_rate},by_epoch=True)"
    options = [*FULL]
    options += ["train_dataloader.dataset.part=all", f"train_cfg.max_epochs={args.train_epoch}"]
    options += ["train_cfg.val_interval=1", f"param_scheduler={decay}", *_training(args, net)]
    options += [f"default_hooks.logger.interval={args.do_log}"] if args.do_log != 100 else []
    words = [config(CONFIGS.format(net=net, step="supernet")), "--work-dir", args.train_path]
    return Command("tools/train.py", "train", words, options)


def _search(args: argparse.Namespace, net: str) -> Command:
    """Search a supernet that is trained."""
    _check_file("--trained_slimmable", args.trained_slimmable)
    options = [f"search_cfg.target_flops=[{_share(args.target_rate)}]"]
    if (args.search_step, args.minimum_rate) != (0.2, 0.2):
        options.append(f"model.mutator.candidate_choices={text(_candidates(args))}")
    said = ["the search alone: train what it finds with the subnet config and model.fix_subnet=FILE"]
    words = [config(CONFIGS.format(net=net, step="search")), args.trained_slimmable, "--work-dir", args.train_path]
    return Command("tools/search.py", "search", words, options, said=said)


def _recipe(args: argparse.Namespace, net: str) -> Command:
    """Supernet, search and training, with the controls of the recipe."""
    fixed = {"decay_points": [0.3, 0.6, 0.8], "decay_rate": 0.2, "search_step": 0.2, "minimum_rate": 0.2}
    for name, value in fixed.items():
        if getattr(args, name) != value:
            raise UserError(
                f"--{name}: the recipe has {text(value)}, as they publish; for others take its steps one by one, with "
                "param_scheduler and model.mutator.candidate_choices in their configs: docs/autoslim_cifar10.md"
            )
    if _decay(args, net) != WEIGHT_DECAY[net]:
        raise UserError(
            f"--weight_decay {args.weight_decay}: the recipe has {WEIGHT_DECAY[net]} for this network, as their "
            "README; for another take its steps one by one: docs/autoslim_cifar10.md"
        )
    words = ["--arch", net, "--work-dir", args.train_path, "--seeds", "1", "--target", _share(args.target_rate)]
    words += ["--epochs", str(args.train_epoch), "--supernet-epochs", str(math.ceil(0.3 * args.train_epoch))]
    words += ["--lr", str(args.learning_rate), "--batch-size", str(args.batch_size)]
    said = ["the recipe also trains the full network and the one scaled uniformly; theirs trains the slim one alone"]
    if args.do_log != 100:
        said.append(f"--do_log {args.do_log}: the recipe shows its progress as it goes")
    return Command("tools/recipes/autoslim_cifar10.py", "autoslim-cifar10", words, said=said)


def test_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Of ``test.py``."""
    return _common(add_flags(parser, trained_param=str))


def test(args: argparse.Namespace) -> Command:
    """Return the command of a test."""
    _check_file("--trained_param", args.trained_param)
    net = _net(args)
    environment = {"CUDA_VISIBLE_DEVICES": str(args.gpu_id)} if args.gpu_id else {}
    options = [f"test_dataloader.batch_size={args.val_batch_size}"] if args.val_batch_size != 2000 else []
    step = "subnet" if args.slimmable else "supernet"
    options += [] if args.slimmable else list(FULL)
    words = [config(CONFIGS.format(net=net, step=step)), args.trained_param]
    return Command("tools/test.py", "test", words, options, environment)


SCRIPTS = {"train_w_slimming": (train_parser, train)}
TEST = (test_parser, test)


def _common(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--slimmable", type=_flag, default=False)
    return add_flags(parser, arch="Mobilev2", dataset="cifar10", val_batch_size=2000, gpu_id=0)


def _net(args: argparse.Namespace) -> str:
    net = NETS.get(args.arch.lower())
    if net is None:
        raise UserError(f"--arch {args.arch}: carried are Mobilev2, WResNet-40-4 and ResNet-56")
    if args.dataset != "cifar10":
        raise UserError(f"--dataset {args.dataset}: carried is cifar10; for other images, docs/any_model.md")
    return net


def _said(args: argparse.Namespace) -> list[str]:
    said = [
        "images: those of data/cifar10; of another folder: --data-root of the recipe, else --cfg-options data_root=D"
    ]
    if args.weight_decay is None and WEIGHT_DECAY[_net(args)] != 4e-5:
        said.append("--weight_decay: 5e-4, as their README gives it; the default of their code is 4e-5")
    if args.val_batch_size != 2000:
        said.append("--val_batch_size: norms are recalibrated on training images, so the size changes no result")
    return said


def _decay(args: argparse.Namespace, net: str) -> float:
    return WEIGHT_DECAY[net] if args.weight_decay is None else args.weight_decay


def _training(args: argparse.Namespace, net: str) -> list[str]:
    options = [f"optim_wrapper.optimizer.lr={args.learning_rate}"] if args.learning_rate != 0.1 else []
    if _decay(args, net) != WEIGHT_DECAY[net]:
        options.append(f"optim_wrapper.optimizer.weight_decay={args.weight_decay}")
    if args.val_batch_size != 2000:
        options += [f"{part}_dataloader.batch_size={args.val_batch_size}" for part in ("val", "test")]
    return options + ([f"train_dataloader.batch_size={args.batch_size}"] if args.batch_size != 128 else [])


def _share(rate: float) -> str:
    if not 0 < rate < 1:
        raise UserError(f"--target_rate {rate}: a share of the flops, above 0 and below 1")
    return f"{round(100 * rate, 6):g}%"


def _candidates(args: argparse.Namespace) -> list[float]:
    """The widths that their search passes: from 1 down in steps, as far as the minimum."""
    count = math.floor((1 - args.minimum_rate) / args.search_step + 1e-9) if args.search_step > 0 else 0
    if count < 1 or not 0 < args.minimum_rate < 1:
        raise UserError(
            f"--search_step {args.search_step}, --minimum_rate {args.minimum_rate}: no width below 1 is left"
        )
    return sorted(round(1 - step * args.search_step, 6) for step in range(count + 1))


def _check_file(flag: str, path: str) -> None:
    if re.search(r"\.mat$", path):
        raise UserError(f"{flag} {path}: {NOT_READ}")
