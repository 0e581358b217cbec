"""The command that comes after one that has ended, with the paths of this run: the one place that knows the chain.

    train a supernet -> search | specialize -> retrain -> split -> test
    predictor-collect -> predictor-train -> specialize        train a TF-NAS search -> parse-tfnas -> retrain -> test

The config that it needs lies beside that of the run, see :func:`mmrazor_lite.cli.purpose.sibling`.
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrazor_lite import shipped
from mmrazor_lite.config import load_config
from mmrazor_lite.config.files import read
from mmrazor_lite.config.load import completed
from mmrazor_lite.errors import UserError
from mmrazor_lite.walk import kind_of

from . import purpose, subnets
from .split import OF_THE_SUPERNET

Command = list[str]  # a subcommand and its words
TOOLS = {
    "train": "tools/train.py",
    "search": "tools/search.py",
    "specialize": "tools/specialize.py",
    "split": "tools/model_converters/split_checkpoint.py",
    "test": "tools/test.py",
    "parse-tfnas": "tools/nas/parse_tfnas.py",
    "predictor-train": "tools/predictor/train.py",
    "predictor-collect": "tools/predictor/collect.py",
    "analyze": "tools/analyze.py",
    "slim": "tools/slim.py",
    "export": "tools/export.py",
    "latency": "tools/latency/build_table.py",
    "image-lists": "tools/dataset/make_lists.py",
    "flops": "tools/misc/get_flops.py",
    "autoslim-cifar10": "tools/recipes/autoslim_cifar10.py",
    **{f"launch --nproc N {step}": f"tools/dist_{step}.sh" for step in ("train", "search", "test")},
}
_SCRIPT = re.compile(r"(?<![\w/.-])(?:(?:python|bash) )?(?:\./)?(tools/[\w/]+\.(?:py|sh))")
# What a config is for -> what the next one is for; the phases of Once-for-All one after the other.
AFTER_TRAINING = {
    "teacher": "kernel", "kernel": "depth_1", "depth_1": "depth_2", "depth_2": "expand_1", "expand_1": "expand_2",
    "expand_2": "search", "supernet": "search",
}  # fmt: skip
_CARRIED = ("data_root", "model.", "algorithm.")  # options that mean the same in the configs of one network
_OWN = re.compile(
    r"(model|algorithm)\.(channel_cfg|fix_subnet|init_cfg|init_weight_from_supernet|teacher|phase|training|width_range"
    r"|val_widths|distiller|num_random_samples|target_latency|epochs_without_arch)\b"
)


def show(args: argparse.Namespace, result: Any) -> None:
    """Print the next command; nothing where the chain ends, or where what it would need is not there."""
    if args.command not in AFTER or int(os.environ.get("RANK") or 0):
        return
    try:
        command = AFTER[args.command](args, result)
    except Exception:  # the work is done, and a hint is not worth an error
        return
    if command is not None:
        print(f"next: {line(command)}", flush=True)


def line(command: Command) -> str:
    """The command as typed: of ``tools/`` where that is beside us, else of the installed program."""
    tool = TOOLS[command[0]]
    start = ["python", f"./{tool}"] if Path(tool).is_file() else ["mmrazor-lite", command[0]]
    return shlex.join([*start, *map(shipped.name_of, command[1:])])


def as_typed(text: str) -> str:
    """A message with the scripts of a clone, which the package speaks of, as the commands that an installed one has."""
    if not shipped.INSTALLED:
        return text
    commands = {script: f"mmrazor-lite {command}" for command, script in TOOLS.items()}
    return _SCRIPT.sub(lambda found: commands.get(found[1], found[0]), text)


# what comes after each command --------------------------------------------------------------------------------


def _after_train(args: argparse.Namespace, result: Any) -> Command | None:
    if isinstance(result, list):
        return _after_search(args, result)
    if result is None:
        return None
    model = load_config(args.config, args.cfg_options, amp=getattr(args, "amp", False)).model
    chosen = model.get("channel_cfg")
    if kind_of(model).startswith("TFNAS"):
        retraining = purpose.sibling(args.config, "search", "subnet")
        words = ["parse-tfnas", str(result), "-o", str(Path(result).parent / "net.yaml"), "--config"]
        return retraining and [*words, retraining, *_options(args, retraining)]
    if subnets.is_sub_model(model) or (chosen and not isinstance(chosen, list)):
        return _test(args, args.config, result, _subnet_options(args))
    if chosen and any(isinstance(entry, Mapping) for entry in chosen):
        return _test(args, args.config, result)  # a split names its subnets by files or widths
    if chosen:
        return _command(args, "split", args.config, result, "--channel-cfgs", *chosen)
    role = next((role for role in AFTER_TRAINING if role in Path(args.config).stem), None)
    following = role and purpose.sibling(args.config, role, AFTER_TRAINING[role])
    if not following:
        return _test(args, args.config, result)
    folder = _folder(args, role, AFTER_TRAINING[role])
    if AFTER_TRAINING[role] == "search":
        return _command(args, "search", following, result, work=folder)
    teacher = result if role == "teacher" else model.get("teacher")
    return _command(args, "train", following, work=folder, extra=[f"load_from={result}", f"model.teacher={teacher}"])


def _after_search(args: argparse.Namespace, result: Sequence[Mapping[str, Any]]) -> Command | None:
    """The subnets are trained by the config beside, or by the search's own where its algorithm trains subnets too."""
    if not result:
        return None
    files, work = [str(found["file"]) for found in result], _folder(args, "search", "retrain")
    retraining = purpose.sibling(args.config, "search", "subnet")
    if retraining is not None:
        return _command(args, "train", retraining, work=work, extra=_choose(retraining, files))
    cfg = load_config(args.config, args.cfg_options)
    if not cfg.get("search_cfg") or "joint" not in purpose.kinds(cfg):
        return None
    unused = [f"model.{key}=None" for key in OF_THE_SUPERNET if cfg.model.get(key) is not None]
    return _command(
        args, "train", args.config, work=work, extra=["search_cfg=None", *_choose(args.config, files), *unused]
    )


def _after_specialize(args: argparse.Namespace, result: Sequence[Mapping[str, Any]]) -> Command | None:
    """What was found has its weights already: it is tested."""
    config = purpose.sibling(args.config, "search", "subnet")
    if config is None or not result:
        return None
    file = Path(result[0]["file"])
    return _test(args, config, file.with_suffix(".pth"), _choose(config, [str(file)]))


def _after_split(args: argparse.Namespace, result: Sequence[Path]) -> Command | None:
    return _test(args, args.config, result[0], _choose(args.config, [args.channel_cfgs[0]]))


def _after_parse(args: argparse.Namespace, result: Any) -> Command:
    work = Path(args.output).parent / "retrain"
    return _command(args, "train", args.config, work=work, extra=[f"model.fix_subnet={args.output}"])


def _after_collect(args: argparse.Namespace, result: Path) -> Command:
    return _command(args, "predictor-train", args.config, result, "-o", Path(result).with_name("predictor.safetensors"))


def _after_predictor(args: argparse.Namespace, result: Path) -> Command | None:
    """The supernet is the one that the scores are of, where it still is where it was."""
    from mmrazor_lite.engine.collection import checkpoint_of

    checkpoint = checkpoint_of(args.scores)
    if checkpoint is None or not Path(checkpoint).is_file():
        return None
    return _command(args, "specialize", args.config, checkpoint, "--macs", "70%", "--predictor", result)


AFTER: dict[str, Callable[[argparse.Namespace, Any], Command | None]] = {
    "train": _after_train,
    "search": _after_search,
    "specialize": _after_specialize,
    "split": _after_split,
    "parse-tfnas": _after_parse,
    "predictor-collect": _after_collect,
    "predictor-train": _after_predictor,
}


# parts --------------------------------------------------------------------------------------------------------


def _command(
    args: argparse.Namespace, name: str, config: str, *words: Any, work: Any = None, extra: Sequence[str] = ()
) -> Command:
    folder = [] if work is None else ["--work-dir", str(work)]
    return [name, config, *map(str, words), *folder, *_options(args, config, extra)]


def _test(args: argparse.Namespace, config: str, checkpoint: Any, extra: Sequence[str] = ()) -> Command:
    work = Path(getattr(args, "work_dir", None) or Path(checkpoint).parent)
    return _command(args, "test", config, checkpoint, work=work / "test", extra=extra)


def _choose(config: str, files: Sequence[str]) -> list[str]:
    """The option that makes ``config`` the one of these subnets; of one that holds a single subnet, the first."""
    if subnets.is_sub_model(load_config(config).model):
        return [f"model.fix_subnet={files[0]}"]
    return [f"algorithm.channel_cfg={','.join(files)}"]


def _subnet_options(args: argparse.Namespace) -> list[str]:
    chosen = re.compile(r"(model|algorithm)\.(channel_cfg|fix_subnet)=")
    return [option for option in args.cfg_options if chosen.match(option)]


def _folder(args: argparse.Namespace, role: str, wanted: str) -> str:
    """Beside the folder of this run."""
    work = Path(args.work_dir or f"work_dirs/{Path(args.config).stem}")
    name = work.name.replace(role, wanted) if role in work.name else f"{work.name}_{wanted}"
    return str(work.with_name(name))


def _options(args: argparse.Namespace, config: str, extra: Sequence[str] = ()) -> list[str]:
    """``--cfg-options`` of the next command: ``extra``, and of those given now what fits ``config`` too."""
    kept: list[str] = []
    carried = [option for option in args.cfg_options if option.startswith(_CARRIED) and not _OWN.match(option)]
    base = read(config) if carried else None
    for option in carried:
        inner = re.sub(r"^(model|algorithm)\.", "model.cfg.", option)
        forms = dict.fromkeys((option, inner, inner.replace("model.cfg.architecture.", "model.cfg.")))
        for form in forms:
            try:
                completed(copy.deepcopy(base), config, [*kept, form])
            except UserError:
                continue
            kept.append(form)
            break
    words = [*extra, *kept]
    return ["--cfg-options", *words] if words else []
