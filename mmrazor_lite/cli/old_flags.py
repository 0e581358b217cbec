"""Flags of MMRazor's and mmcls's tools in our words, or what to type instead."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from mmrazor_lite.errors import UserError

_RUNS = ("train", "search", "test")
_GPU = "the environment says which GPUs: write CUDA_VISIBLE_DEVICES={} in front of the command"
_EACH = ", and tools/dist_{}.sh CONFIG ... {} for a process on each"
_METRICS = (
    "metrics and their options are those of test_evaluator: --cfg-options test_evaluator.topk=1,5, or --metrics NAME"
)
_FILES = "the metrics are written by --out FILE.json; images are not drawn: a VisualizationHook in custom_hooks draws"
_GATHER = "leave it out: results are gathered as torch.distributed does it"
NO_VALIDATION = ("val_dataloader=None", "val_cfg=None", "val_evaluator=None")

# What a flag is here: (commands, the words in its place), where {} is its value.
_SAME: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "--resume-from": (("train",), ("--resume", "{}")),
    "--auto-resume": (("train",), ("--resume",)),
    "--no-validate": (("train",), ("--cfg-options", *NO_VALIDATION)),
    "--work_dir": (_RUNS, ("--work-dir", "{}")),
}
# What to type instead of a flag; a function is given its values and the command.
_INSTEAD: dict[str, tuple[tuple[str, ...], str | Callable[[Sequence[str], str], str]]] = {
    "--gpu-id": (_RUNS, lambda ids, command: _gpus(ids, command)),
    "--gpu-ids": (_RUNS, lambda ids, command: _gpus(ids, command)),
    "--gpus": (_RUNS, lambda count, command: _processes(count, command)),
    "--device": (_RUNS, lambda device, command: _device(device)),
    "--diff_seed": (_RUNS, "leave it out: processes draw alike what must be alike, and the rest by rank"),
    "--diff-seed": (_RUNS, "leave it out: processes draw alike what must be alike, and the rest by rank"),
    "--resume-from": (
        ("search",),
        "give the same --work-dir and --resume; search states of MMRazor are pickles and not read",
    ),
    "--auto-resume": (("search",), "write --resume"),
    "--show": (("test",), _FILES),
    "--show-dir": (("test",), _FILES),
    "--show-options": (("test",), _FILES),
    "--out-items": (("test",), _FILES),
    "--metric-options": (("test",), _METRICS),
    "--eval": (("test",), _METRICS),
    "--tmpdir": (("test",), _GATHER),
    "--gpu_collect": (("test",), _GATHER),
    "--gpu-collect": (("test",), _GATHER),
    "--size-divisor": (
        ("flops",),
        "leave it out: the network is counted for the size of --shape, which need not be divisible",
    ),
}
_RANK = ("--local_rank", "--local-rank")


def ours(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with MMRazor's flags in ours; the first word is the command.

    Raises:
        UserError: A flag that has no counterpart, with what to type instead.
    """
    if not words or words[0] not in (*_RUNS, "flops", "print-config"):
        return list(words)
    command, rest = words[0], list(words[1:])
    found, behind, size = [command], [], {}
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=") if word.startswith("-") else (word, "", "")
        values = [value] if equals else []
        if flag in _RANK and command in _RUNS:
            _check_rank(values or _taken(rest, 1))
        elif flag in ("-H", "-W") and command == "flops":
            size[flag] = (values or _taken(rest, 1) or [""])[0]
        elif command in _SAME.get(flag, ((), ()))[0]:
            behind += _replaced(flag, values, rest)  # behind all: an optional value would take the next word
        elif flag == "--options":  # of get_flops and print_config
            found += ["--cfg-options", *values]
        elif command in _INSTEAD.get(flag, ((), ""))[0]:
            _refuse(command, flag, values or _taken(rest, len(rest)))
        else:
            _check_value(command, word, rest)
            found.append(word)
    if size:
        behind += ["--input-shape", size.get("-H", "224"), size.get("-W", "224")]
    return found + behind


def _taken(rest: list[str], most: int) -> list[str]:
    """Take the values of a flag from the words behind it."""
    values = []
    while rest and len(values) < most and not re.match(r"-\D", rest[0]):
        values.append(rest.pop(0))
    return values


def _replaced(flag: str, values: list[str], rest: list[str]) -> list[str]:
    words = _SAME[flag][1]
    if "{}" not in words:
        return list(words)
    values = values or _taken(rest, 1)
    if not values:
        raise UserError(f"{flag}: expected one value")
    return [values[0] if word == "{}" else word for word in words]


def _refuse(command: str, flag: str, values: Sequence[str]) -> None:
    answer = _INSTEAD[flag][1]
    raise UserError(f"{flag}: {answer if isinstance(answer, str) else answer(values, command)}")


def _gpus(ids: Sequence[str], command: str) -> str:
    chosen = [word for word in ids if word.isdecimal()] or ["0"]
    return _GPU.format(",".join(chosen)) + (_EACH.format(command, len(chosen)) if len(chosen) > 1 else "")


def _processes(count: Sequence[str], command: str) -> str:
    number = next((word for word in count if word.isdecimal()), "N")
    return f"type tools/dist_{command}.sh CONFIG ... {number}: a process on each of {number} GPUs"


def _device(device: Sequence[str]) -> str:
    if device[:1] == ["cpu"]:
        return "write CUDA_VISIBLE_DEVICES= in front of the command: without a GPU the CPU is used"
    return "leave it out: a GPU is used where there is one; CUDA_VISIBLE_DEVICES says which"


def _check_rank(values: Sequence[str]) -> None:
    """Leave out the rank that an old launcher gives, where the environment says the same; refuse another."""
    if values[:1] != [os.environ.get("LOCAL_RANK")]:
        raise UserError(
            f"--local_rank {' '.join(values)}: the rank is LOCAL_RANK of the environment, "
            f"{os.environ.get('LOCAL_RANK', 'which is not set')}: start the processes by tools/dist_*.sh or torchrun"
        )


def _check_value(command: str, word: str, rest: Sequence[str]) -> None:
    """Refuse two values that MMRazor's commands take and ours would misread."""
    if command == "test" and word == "--out" and rest and rest[0].endswith((".pkl", ".pickle")):
        raise UserError(f"--out {rest[0]}: metrics are written as JSON: --out {os.path.splitext(rest[0])[0]}.json")
    if word.startswith("dist_params.port="):
        raise UserError(f"--cfg-options {word}: write PORT={word.partition('=')[2]} in front of the command")
