"""Malformed ``--cfg-options``: one line that names the option, soon, or an option that is in the config afterwards."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Iterator

import pytest

from mmrazor_lite.config.build import register_quietly
from mmrazor_lite.config.files import read
from mmrazor_lite.config.load import completed
from mmrazor_lite.config.overrides import parse
from mmrazor_lite.errors import UserError, one_line

CONFIG = "configs/pruning/autoslim/autoslim_search_digits.py"
LONGEST, PATIENCE = 1300, 2.0  # characters of a line, seconds
PLACES = (
    *("a", "model", "model.input_shape", "model.mutator", "model.architecture.backbone.type", "work_dir"),
    *("resume", "load_from", "search_cfg", "search_cfg.target_macs", "param_scheduler", "param_scheduler.0"),
    *("visualizer", "train_dataloader.batch_size", "val_evaluator", "default_hooks.logger", "custom_hooks"),
    *("randomness.seed", "search_cfg.constraints_range", "train_dataloader.dataset", "optim_wrapper"),
    *("log_level", "algorithm"),
)
KEYS = (  # of a place, with what comes before and after
    *("{}", ".{}", "{}.", "{}..b", "..{}", "{}[0]", "{}.0", "{}.-1", "{}.99", "{}.²", "{}.\u0663", "{}.0.0.0"),
    *(" {}", "{}\n", "{}.\x00", "{}.ü", "{}.\ud800", "{}.__class__", "{}._delete_", "{}._scope_", "{}.type"),
    *("{}.x.y.z", "{}.None", "'{}'", "{}.'a'", "{}.{{}}", "{}.()", "{}.%s", "-{}", "--{}", "{}.a b", "{}\t"),
    *("", "=", ".", "{}." + "x" * 10_000, "x" * 10_000 + ".{}", "{}" + ".a" * 50, "{}" + ".a" * 5000),
    *("{}.items", "{}._cfg_dict", "_base_", "{}.imports"),
)
TEXTS = (
    *("1", "", "=", "==1", "a=b", "'", '"', "'a", 'a"', "\"a'", "'1'", "[", "]", "(", ")", "][", ")(", "[)"),
    *("(]", "[1", "1]", "[[1]", "[1]]", "[,]", "[1,,2]", ",", ",,", "(,)", "()", "[]", "{}", "{", "}", "{1}"),
    *("{1:2}", "{[]:1}", "{None:1}", "{**{}}", "{'a'}", "dict", "dict(", "dict)", "dict()", "dict(1)"),
    *("dict(a)", "dict(**a)", "dict(*a)", "dict(a=1,a=2)", "{'a':1,'a':2}", "dict(a=)", "dict(=1)"),
    *("dict(a=1j)", "dict(a=b'x')", "dict(a={1})", "dict(a=...)", "dict(a=lambda:0)", "dict(a=f'{1}')"),
    *("dict(_delete_=5)", "dict(_delete_=True)", "dict(type=dict)", "dict(a=1)(b)", "[dict(a=1)]", "[dict(a)]"),
    *("[{]}", "[dict(type=__import__('os'))]", "__import__('os').abort()", "1+1", "[1+1]", "lambda: 0"),
    *("[x for x in 'ab']", "{{ fileDirname }}", "${HOME}", "$(id)", "`id`", "%(x)s", "ü", "\ud800", "\x00"),
    *("\n", "a\nb", "\x1b[31m", "\\", "\\x00", "nan", "inf", "1e999", "0x10", "1_000", "\u0661", "None"),
    *("none", "True", "9" * 5000, "x" * 10_000, "[" * 5000 + "]" * 5000, "(" * 70 + ")" * 70),
    *("dict(a=" * 90 + "1" + ")" * 90, "{'a':" * 500 + "}" * 500, "[" + "1," * 20_000 + "1]"),
    *("dict(a=" + "-" * 5000 + "1)", "dict(a=" + "1+" * 5000 + "1)", "'" * 9999, "(" + "'" * 99),
)


@pytest.fixture(scope="module")
def base(root):
    register_quietly()
    path = root / CONFIG
    return read(str(path)), path


def pairs(seed: int, count: int) -> Iterator[str]:
    """Every key and every text once in turn, each with a drawn other part; then both drawn."""
    rng = random.Random(seed)
    keys, texts = rng.sample(KEYS, len(KEYS)), rng.sample(TEXTS, len(TEXTS))
    for number in range(count):
        key = keys[number // 2 % len(keys)] if number % 2 else rng.choice(("{}", "{}.type", "{}.x"))
        text = rng.choice(TEXTS) if number % 2 else texts[number // 2 % len(texts)]
        yield f"{key.replace('{}', rng.choice(PLACES))}={text}"


def at(cfg: object, key: str) -> object:
    for part in key.split("."):
        cfg = cfg[int(part)] if isinstance(cfg, list | tuple) else cfg[part]
    return cfg


def problem(pair: str, base: tuple, plain: dict) -> str | None:
    """What is wrong with how one option is met."""
    cfg, path = base
    began = time.process_time()
    try:
        found = completed(copy.deepcopy(cfg), path, [pair])._cfg_dict
    except UserError as error:
        line, key = one_line(error), pair.partition("=")[0].replace("algorithm", "model").split() or [""]
        named = "--cfg-options" in line or key[0].rpartition(".")[2] in line or key[0].partition(".")[0] in line
        if len(line) > LONGEST or "\n" in line or not named:
            return line[:300]
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    else:
        ((key, value),) = parse([pair]).items()
        if found == plain and value != {} and at(plain, key) != value:
            return "accepted and ignored"
    return "slow" if time.process_time() - began > PATIENCE else None


@pytest.mark.parametrize("count", [60, pytest.param(1200, marks=pytest.mark.fuzz)])
def test_a_malformed_option_is_one_line(base, count):
    plain = completed(copy.deepcopy(base[0]), base[1])._cfg_dict
    found = {pair: problem(pair, base, plain) for pair in pairs(count, count)}
    wrong = [f"{pair[:100]!a}: {what!a}" for pair, what in found.items() if what]
    assert not wrong, "\n".join(wrong)


def test_what_is_lost_or_misread_is_refused():
    """Names twice, unpacked mappings, an end of a quote alone, and deletions that replace nothing."""
    for pair in ("a=dict(b=1,b=2)", "a={'b':1,'b':2}", "a=dict(**b)", "a='1", 'a=b"', "a._delete_=True", "a..b=1"):
        with pytest.raises(UserError, match=r"^--cfg-options '"):
            parse([pair])
    assert parse(["a=[dict(b=C,d=[1]),{'e':true}]"]) == {"a": [{"b": "C", "d": [1]}, {"e": True}]}
    assert parse(["a='b c'", "d=it's so", "e=''"]) == {"a": "b c", "d": "it's so", "e": ""}
