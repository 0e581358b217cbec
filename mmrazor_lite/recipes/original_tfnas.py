"""The scripts of AberHu/TF-NAS: their flags, and what they are here."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError

from .original import Command, absolute, add_flags, config, text

SEARCH = "configs/nas/tfnas/tfnas_search_1xb32_in1k100.py"
SUBNET = "configs/nas/tfnas/tfnas_subnet_2xb512_in1k.py"
NOT_READ = "checkpoints of the authors (.pth.tar) are not read: give one of ours, or their model.config"

# A flag of theirs: its default, and the keys that it is here.
Flags = Mapping[str, tuple[Any, tuple[str, ...]]]
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_WEIGHTS, _ARCH = "optim_wrapper.architecture", "optim_wrapper.arch_parameters"
_HEAD = "model.architecture.head"
SEARCH_FLAGS: Flags = {
    "print_freq": (100.0, ("default_hooks.logger.interval",)),
    "workers": (4, (*(f"{key}.num_workers" for key in _LOADERS), "train_cfg.arch_dataloader.num_workers")),
    "epochs": (
        90,
        ("train_cfg.max_epochs", "param_scheduler.architecture.0.T_max", "param_scheduler.architecture.0.end"),
    ),
    "batch_size": (32, (*(f"{key}.batch_size" for key in _LOADERS), "train_cfg.arch_dataloader.batch_size")),
    "w_lr": (0.025, (f"{_WEIGHTS}.optimizer.lr",)),
    "w_mom": (0.9, (f"{_WEIGHTS}.optimizer.momentum",)),
    "w_wd": (1e-5, (f"{_WEIGHTS}.optimizer.weight_decay",)),
    "a_lr": (0.01, (f"{_ARCH}.optimizer.lr",)),
    "a_wd": (5e-4, (f"{_ARCH}.optimizer.weight_decay",)),
    "grad_clip": (5.0, (f"{_WEIGHTS}.clip_grad.max_norm", f"{_ARCH}.clip_grad.max_norm")),
    "T": (5.0, ("model.temperature",)),
    "T_decay": (0.96, ("model.temperature_decay",)),
    "num_classes": (100, (f"{_HEAD}.num_classes", "data_preprocessor.num_classes")),
    "lambda_lat": (0.1, ("model.lambda_lat",)),
    "target_lat": (15.0, ("model.target_latency",)),
}
_BACKBONE, _LOSS = "model.cfg.backbone", "model.cfg.head.loss"
TRAIN_FLAGS: Flags = {
    "print_freq": (100.0, ("default_hooks.logger.interval",)),
    "epochs": (250, ("train_cfg.max_epochs", "param_scheduler.1.T_max", "param_scheduler.1.end")),
    "lr": (0.2, ("optim_wrapper.optimizer.lr",)),
    "momentum": (0.9, ("optim_wrapper.optimizer.momentum",)),
    "weight_decay": (1e-5, ("optim_wrapper.optimizer.weight_decay",)),
    "grad_clip": (5.0, ("optim_wrapper.clip_grad.max_norm",)),
    "label_smooth": (0.1, (f"{_LOSS}.label_smooth_val",)),
    "dropout_rate": (0.2, (f"{_BACKBONE}.dropout",)),
    "drop_connect_rate": (0.2, (f"{_BACKBONE}.drop_connect",)),
}


def search_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Of ``train_search.py``."""
    lists = {f"{name}_list": f"./dataset/ImageNet-100-effb0_{name}_cls_ratio0.8.txt" for name in ("train", "val")}
    add_flags(parser, img_root=str, **lists, lookup_path="./latency_pkl/latency_gpu.pkl", save="./checkpoints")
    return _common(add_flags(parser, a_beta1=0.5, a_beta2=0.999), SEARCH_FLAGS)


def search(args: argparse.Namespace) -> Command:
    """Return the command of a search."""
    lists = {"train_dataloader": args.train_list, "train_cfg.arch_dataloader": args.val_list}
    lists |= {"val_dataloader": args.val_list, "test_dataloader": args.val_list}
    options = [option for key, file in lists.items() for option in _images(f"{key}.dataset", args.img_root, file)]
    options += [f"model.latency_table={absolute(args.lookup_path)}", *_changed(args, SEARCH_FLAGS)]
    if (args.a_beta1, args.a_beta2) != (0.5, 0.999):
        options.append(f"{_ARCH}.optimizer.betas=({args.a_beta1},{args.a_beta2})")
    if args.epochs != 90:
        options.append(f"train_cfg.val_begin={max(args.epochs - 4, 1)}")
    folder = str(Path(args.save) / args.note)
    said = [f"--save, --note: the work dir is {folder}, without the time: the same command goes on with --resume"]
    words = [config(SEARCH), "--work-dir", folder, "--seed", str(args.seed)]
    return Command("tools/train.py", "train", words, options, said=said)


def parsing_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Of ``parsing_model.py``."""
    parser.add_argument("--print_lat", action="store_true")
    return add_flags(parser, model_path=str, save_path=".", lookup_path="../latency_pkl/latency_gpu.pkl")


def parsing(args: argparse.Namespace) -> Command:
    """Return the command that writes the network that a search has found."""
    _check_checkpoint("--model_path", args.model_path)
    path = Path(args.save_path)
    if path.is_dir():
        path = path / "model.config"
    words = [args.model_path, "-o", str(path.with_suffix(".yaml")), "--model-config", str(path)]
    said = []
    if args.print_lat:
        said = ["--print_lat: the latency by the table is printed; tools/latency/build_table.py measures this machine"]
    words += ["--latency-table", args.lookup_path]
    return Command("tools/nas/parse_tfnas.py", "parse-tfnas", words, said=said)


def train_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Of ``train_eval.py``."""
    add_flags(parser, train_root=str, train_list=str, val_root=str, val_list=str)
    add_flags(parser, model_path="", config_path="", snapshot="", save="./checkpoints/")
    return _common(add_flags(parser, workers=16, batch_size=512, num_classes=1000), TRAIN_FLAGS)


def amp_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Of ``train_eval_amp.py``."""
    train_parser(parser)
    parser.add_argument("--sync_bn", action="store_true")
    add_flags(parser, opt_level=None, keep_batchnorm_fp32=None, loss_scale=None, local_rank=0)
    return add_flags(parser, channels_last="")  # theirs is type=bool: any text is true


def train(args: argparse.Namespace) -> Command:
    """Return the command of a retraining, without or with mixed precision, on one GPU or several."""
    count = _processes()
    launched = "WORLD_SIZE" in os.environ
    options = [option for part in ("train", "val") for option in _listed(args, part)]
    options += [*_network(args), *_changed(args, TRAIN_FLAGS)]
    options += [f"train_dataloader.batch_size={max(args.batch_size // count, 1)}"]
    options += [f"{key}.num_workers={args.workers // count}" for key in _LOADERS]
    if args.batch_size <= 256:
        options.append("param_scheduler.0.start_factor=1.0")  # they warm up for larger batches only
    folder = str(Path(args.save) / args.note)
    words = [config(SUBNET), "--work-dir", folder, "--seed", str(args.seed)]
    said = [f"--save, --note: the work dir is {folder}, without the time"]
    if args.snapshot:
        _check_checkpoint("--snapshot", args.snapshot)
        words += ["--resume", args.snapshot]
    _mixed_precision(args, words, options, said)
    if launched:
        return Command("tools/train.py", "train", [*words, "--launcher", "pytorch"], options, said=said)
    if count > 1:
        said.append(f"{count} GPUs are visible: a process for each, with {args.batch_size // count} images")
        return Command("", "launch", ["--nproc", str(count), "train", *words], options, said=said)
    return Command("tools/train.py", "train", words, options, said=said)


def _mixed_precision(args: argparse.Namespace, words: list[str], options: list[str], said: list[str]) -> None:
    level = getattr(args, "opt_level", None)
    if level not in (None, "O0", "O1", "O2"):
        raise UserError(f"--opt_level {level}: pure float16 is not carried; O1 and O2 are mixed precision, O0 is none")
    if level in ("O1", "O2"):
        words.append("--amp")
        if args.loss_scale not in (None, "dynamic"):
            options.append(f"optim_wrapper.loss_scale={float(args.loss_scale)}")
    if getattr(args, "keep_batchnorm_fp32", None) is not None:
        said.append("--keep_batchnorm_fp32: batch norms are float32 in any case")
    if getattr(args, "channels_last", ""):
        options.append("channels_last=True")
    if getattr(args, "sync_bn", False):
        options.append(f"{_BACKBONE}.norm_cfg=dict(type=SyncBN)")
    if getattr(args, "local_rank", 0):
        said.append("--local_rank: taken from the environment of torchrun")


def test_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Of ``test.py``."""
    add_flags(parser, val_root=str, val_list=str, model_path="", config_path="", weights=str)
    return add_flags(parser, workers=4, batch_size=512, num_classes=1000)


def test(args: argparse.Namespace) -> Command:
    """Return the command of a test."""
    _check_checkpoint("--weights", args.weights)
    options = [*_listed(args, "val"), *_network(args, test=True), f"test_dataloader.batch_size={args.batch_size}"]
    options.append(f"test_dataloader.num_workers={args.workers}")
    return Command("tools/test.py", "test", [config(SUBNET), args.weights], options)


SCRIPTS = {
    "train_search": (search_parser, search),
    "parsing_model": (parsing_parser, parsing),
    "train_eval": (train_parser, train),
    "train_eval_amp": (amp_parser, train),
}
TEST = (test_parser, test)


def _common(parser: argparse.ArgumentParser, flags: Flags) -> argparse.ArgumentParser:
    return add_flags(parser, **{name: default for name, (default, _) in flags.items()}, seed=2, note="try")


def _changed(args: argparse.Namespace, flags: Flags) -> list[str]:
    """The options for flags that are not at their default, which is that of the config too."""
    return [
        f"{key}={text(_whole(getattr(args, name)) if name == 'print_freq' else getattr(args, name))}"
        for name, (default, keys) in flags.items()
        if getattr(args, name) != default
        for key in keys
    ]


def _whole(number: float) -> int:
    if number < 1 or number != int(number):
        raise UserError(f"--print_freq {number}: steps between two lines of the log, 1 or more")
    return int(number)


def _images(dataset: str, root: str, file: str) -> list[str]:
    """The options of a dataset whose images a list names, below ``root``."""
    return [f"{dataset}.data_root={absolute(root)}", f"{dataset}.data_prefix=", f"{dataset}.ann_file={absolute(file)}"]


def _listed(args: argparse.Namespace, part: str) -> list[str]:
    if args.num_classes != 1000:
        raise UserError(
            f"--num_classes {args.num_classes}: the config is of ImageNet's 1000; write one with datasets of type "
            f"CustomDataset and _base_ = '{SUBNET}'"
        )
    root, file = getattr(args, f"{part}_root"), getattr(args, f"{part}_list")
    places = ["train_dataloader.dataset.dataset"] if part == "train" else ["test_dataloader.dataset"]
    if part == "val" and hasattr(args, "train_root"):
        places.append("val_dataloader.dataset")
    return [option for place in places for option in (f"{place}.split=", *_images(place, root, file))]


def _network(args: argparse.Namespace, test: bool = False) -> list[str]:
    """The options for the network; that of a searched model comes first, as there."""
    if args.model_path and Path(args.model_path).suffix not in (".config", ".yaml", ".json"):
        _check_checkpoint("--model_path", args.model_path)
        if test:
            raise UserError("--model_path: the weights carry their network here; leave it out, or give --config_path")
        return [f"model.init_cfg.checkpoint={absolute(args.model_path)}"]
    path = args.model_path or args.config_path
    if not path and not test:
        raise UserError("--model_path or --config_path: give a checkpoint of a search, or a model.config")
    return [f"model.fix_subnet={absolute(path)}"] if path else []


def _check_checkpoint(flag: str, path: str) -> None:
    if path.endswith((".pth.tar", ".tar")):
        raise UserError(f"{flag} {path}: {NOT_READ}")


def _processes() -> int:
    """How many GPUs they would use: those of torchrun's group, or the visible ones, one process for all."""
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    visible = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    return max(len(visible), 1)
