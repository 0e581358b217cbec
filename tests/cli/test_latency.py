"""``tools/latency/build_table.py``: tables of the shipped configs, and what it refuses."""

from __future__ import annotations

import argparse
import importlib
import json
import re

import pytest
import torch

from mmrazor_lite.cli import latency, main
from mmrazor_lite.config.build import build_model
from mmrazor_lite.config.load import load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.latency_reading import read_table
from mmrazor_lite.estimators.latency_table import LatencyTable
from mmrazor_lite.models.mutators import OneShotChannelMutator

OFA = "configs/nas/mmcls/onceforall"
DIGITS = f"{OFA}/ofa_supernet_digits.py"
QUICK = ["--threads", "1", "--repeats", "1", "--checks", "3"]


@pytest.fixture(autouse=True)
def _in_the_root(root, monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.chdir(root)
    yield
    torch.set_num_threads(threads)


def mutator_of(config: str, *options: str):
    return build_model(load_config(config, options)).mutator


def test_a_table_of_an_elastic_space(tmp_path, capsys):
    path = tmp_path / "table.json"
    assert main(["latency", DIGITS, "-o", str(path), *QUICK]) == 0
    said, journal = capsys.readouterr(), (tmp_path / "table.json.journal").read_bytes()
    assert "36 entries from 24 measurements" in said.out and "check on 3 random subnets of" in said.out
    assert "stored, not applied" in said.out or "no linear correction" in said.out
    assert "measured 32 of " in said.err
    space = mutator_of(DIGITS).search_space
    table = LatencyTable.read(path, space)
    assert 0 < table.extreme(False) < table.extreme(True) and table.device["backend"] == "torch"
    assert main(["latency", DIGITS, "-o", str(path), *QUICK]) == 0  # nothing is left to measure
    assert capsys.readouterr().out == said.out and (tmp_path / "table.json.journal").read_bytes() == journal
    assert LatencyTable.read(path, space).digest == table.digest
    assert main(["latency", DIGITS, "-o", str(path), *QUICK, "--batch-size", "2"]) == 2
    assert "is of another measurement: batch_size was 1, is 2" in capsys.readouterr().err


def test_a_table_is_of_one_width(tmp_path):
    path = tmp_path / "table.json"
    assert main(["latency", DIGITS, "-o", str(path), *QUICK]) == 0
    same, wider = mutator_of(DIGITS), mutator_of(DIGITS, "model.width_mult=3.0")
    assert same.search_space.fingerprint == wider.search_space.fingerprint
    assert read_table(path, same).extreme(True) > 0
    with pytest.raises(UserError, match="is of a network of other widths"):
        read_table(path, wider)


def test_a_table_of_operators(tmp_path, capsys):
    config, path = "configs/nas/spos/spos_supernet_digits.py", tmp_path / "table.json"
    assert main(["latency", config, "-o", str(path), *QUICK]) == 0
    assert LatencyTable.read(path, mutator_of(config).search_space).extreme(True) > 0


AUTOSLIM = "configs/pruning/autoslim/autoslim_supernet_digits.py"


@pytest.mark.slow
def test_a_table_of_widths_that_were_found_by_tracing(tmp_path, capsys):
    path = tmp_path / "table.json"
    assert main(["latency", AUTOSLIM, "-o", str(path), *QUICK, "--clock", "cpu", "--channels-last"]) == 0
    said = capsys.readouterr().out
    assert "check on 3 random subnets of" in said and "channels_last True, clock cpu" in said
    table = read_table(path, mutator_of(AUTOSLIM))
    assert 0 < table.extreme(False) < table.extreme(True) and table.device["channels_last"] is True


def test_a_table_of_a_network_by_its_name(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "table.json"
    assert main(["latency", "--model", "my_net.Net", "--size", "8", "10", "-o", str(path), *QUICK]) == 0
    mutator = OneShotChannelMutator()
    mutator.prepare(importlib.import_module("my_net").Net(), (3, 8, 10), any_width=True)
    assert read_table(path, mutator).device["input_shape"] == [3, 8, 10]
    assert main(["latency", "--model", "my_net.Net", "--size", "8", "--keep", "9", "-o", str(path), *QUICK]) == 2
    assert "keep: '9' matches no layer of Net" in capsys.readouterr().err


def test_some_resolutions_only(tmp_path, capsys):
    path = tmp_path / "table.json"
    assert main(["latency", DIGITS, "-o", str(path), *QUICK, "--resolutions", "6"]) == 0
    small = mutator_of(DIGITS, "model.mutator.resolutions=[6]", "model.input_shape=[3,6,6]").search_space
    assert LatencyTable.read(path, small).base.choices == ("resolution",)
    assert json.loads(path.read_text())["space"] == small.fingerprint != mutator_of(DIGITS).search_space.fingerprint
    capsys.readouterr()
    assert main(["latency", DIGITS, "-o", str(path), *QUICK, "--resolutions", "6", "7"]) == 2
    assert f"--resolutions 7: not in the space of '{DIGITS}' (allowed: [6, 8])" in capsys.readouterr().err


@pytest.mark.wide
def test_a_published_table(tmp_path, shared_path, capsys):
    note10 = str(shared_path("reference", "ofa", "note10_latency.json"))
    config, path = f"{OFA}/ofa_mobilenet_supernet_32xb64_in1k.py", tmp_path / "note10.json"
    resolutions = ["--resolutions", *"160 176 192 208 224".split()]
    command = ["latency", config, "-o", str(path), "--official", note10, *resolutions]
    assert main([*command, "--cfg-options", "model.width_mult=1.2"]) == 0
    document = json.loads(path.read_text())
    assert document["space"] in capsys.readouterr().out
    largest = document["base"]["ms"][-1] + sum(cell["ms"][-1][-1][-1] for cell in document["cells"])
    assert largest == pytest.approx(92.39803799478005, rel=1e-13)
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "entries are missing" in error and "model.width_mult" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        "--device cpu",
        "--backend torch",
        "--threads 1",
        "--batch-size 1",
        "--dtype float32",
        "--channels-last",
        "--clock wall",
        "--repeats 11",
        "--checks 0",
        "--seed 0",
        "--apply-correction",
    ],
)
def test_a_published_table_is_not_measured(words, tmp_path, capsys):
    """What a measurement is told is refused beside one, also where it says what is the default."""
    flag = words.split()[0]
    assert main(["latency", DIGITS, "-o", str(tmp_path / "t.json"), "--official", DIGITS, *words.split()]) == 2
    said = f"error: latency: {flag} is of a measurement, --official takes published times; leave one of them out\n"
    assert capsys.readouterr().err == said
    assert not list(tmp_path.iterdir())


def test_defaults_are_those_of_the_help():
    parser = argparse.ArgumentParser()
    latency.add_arguments(parser)
    told = {action.dest: re.search(r"default: (\w+)", action.help or "") for action in parser._actions}
    for name, value in latency.DEFAULTS.items():
        if told[name]:
            assert value is None or str(value) == told[name][1]
        else:
            assert value is False


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "give a config or --model NAME, one of them"),
        ([DIGITS, "--model", "torchvision.resnet18"], "not both"),
        ([DIGITS, "--keep", "fc"], "latency: --keep is for --model; leave it out"),
        (["--model", "torchvision.resnet18", "--resolutions", "8"], "latency: --resolutions is for a config"),
        (["--model", "torchvision.resnet18", "--size", "0"], "--size 0: give H, or H W"),
        ([DIGITS, "--clock", "cpu", "--threads", "2"], "clock='cpu' counts what one thread of the CPU computes"),
        ([DIGITS, "--official", "none.json"], "published table 'none.json' not found"),
        ([DIGITS, "--official", DIGITS], "not"),
        ([DIGITS, "--threads", "0"], "threads=0 must be a whole number, 1 or more"),
        ([DIGITS, "--repeats", "0"], "repeats=0 must be a whole number, 1 or more"),
        (["configs/none.py"], "config file 'configs/none.py' not found"),
    ],
)
def test_what_it_refuses(words, part, tmp_path, capsys):
    assert main(["latency", *words, "-o", str(tmp_path / "t.json")]) == 2
    error = capsys.readouterr().err
    assert part in error and error.startswith("error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
