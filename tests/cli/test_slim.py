"""``slim``: a network and images in, whole files and a report out; resumed to the same bytes; bad input in one line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from robustness.bad_input import files, line_of_failure

import mmrazor_lite
from mmrazor_lite.checkpoints import save_checkpoint
from mmrazor_lite.cli import main, slim

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 24, 3, stride=2), nn.ReLU(), nn.Conv2d(24, 16, 3, padding=1), nn.ReLU(),
        )
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(x.mean((2, 3)))


class Untraceable(Net):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)
"""
FOLDER = ["--data", "images", "--size", "8", "--mean", "0.5", "0.5", "0.5", "--std", "0.25", "0.25", "0.25"]
MODEL = ["--model", "net_of_slim.Net"]
SLIM = ["slim", *MODEL, *FOLDER, "--images", "40"]
LIMITED = [*SLIM, "--weights", "w.pth", "--budget", "params=70%", "macs=60%", "--keep", "body.3", "--divisor", "2"]
MOVING = ("report", "slim_state")  # hold seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Code, 60 images of three classes, and what is none of these."""
    folder = tmp_path_factory.mktemp("slim")
    rng = np.random.default_rng(0)
    for number in range(60):
        path = folder / "images" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3)) // 2 + 100 * (number % 3 == np.arange(3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    (folder / "net_of_slim.py").write_text(CODE)
    (folder / "c.py").write_text("default_scope = 'mmpretrain'\n")
    save_checkpoint({"state_dict": torch.nn.Sequential(torch.nn.Linear(2, 2)).state_dict()}, folder / "other.pth")
    for name in ("empty", "damaged"):
        (folder / name).mkdir()
    (folder / "damaged" / "x.png").write_bytes(b"no image")
    for name in "ab":
        shutil.copytree(folder / "images" / name, folder / "others" / name)
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    """The folder, where the commands are typed."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    sys.modules.pop("net_of_slim", None)


@pytest.fixture(scope="module")
def whole(folder):
    """The folder of a run that nothing has interrupted, and what it said."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.chdir(folder)
        patch.setattr(sys, "path", [str(folder), *sys.path])
        torch.save({"model": network().state_dict()}, "w.pth")
        assert main([*LIMITED, "--work-dir", "whole"]) == 0
    return folder / "whole", said.getvalue()


def network():
    from net_of_slim import Net

    return Net().eval()


def results(folder: str | Path) -> dict[str, bytes]:
    """The files of a result that hold no times."""
    found = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return {name: data for name, data in found.items() if not any(word in name for word in MOVING)}


def test_files_and_report(whole, here):
    work, said = whole
    assert "60 images of 'images' in 3 classes" in said and "as given: resized to cover 8x8" in said
    written = [Path(line.removeprefix("wrote ")) for line in said.splitlines() if line.startswith("wrote ")]
    names = {"slimmed.pth", "slimmed.pt2", "slimmed.yaml", "slimmed_report.json", "report.html", "report.json"}
    assert {path.name for path in written} == names and all(path.is_file() for path in written)
    data = json.loads((work / "slimmed_report.json").read_text())
    full, small = data["costs"]["original"], data["costs"]["slimmed"]
    assert 0.3 * full["macs"] < small["macs"] <= 0.6 * full["macs"] and small["params"] <= 0.7 * full["params"]
    kept = {group["name"]: group["kept"] for group in data["groups"]}
    assert kept.get("body.3", 24) == 24 and all(width % 2 == 0 for width in kept.values())
    assert data["model"] == "net_of_slim.Net" and any("as given" in note for note in data["notes"])
    assert not (work / "run.lock").exists()
    images = torch.randn(4, 3, 8, 8)
    loaded = mmrazor_lite.load_subnet(work / "slimmed.pth", architecture=network())
    torch.testing.assert_close(torch.export.load(work / "slimmed.pt2").module()(images), loaded(images))
    assert sum(p.numel() for p in loaded.parameters()) == small["params"]


def test_values_of_a_network_are_no_classes(here, capsys):
    words = ["slim", *MODEL, *FOLDER, "--images", "20", "--budget", "60%", "--work-dir", "values", "--json"]
    assert main([*words, "--values"]) == 0
    printed = capsys.readouterr()
    data = json.loads(printed.out)
    assert all(stage["held_out"]["agreement"] is None for stage in data["stages"])
    steps = [line.partition(": ")[2] for line in printed.err.splitlines() if line.startswith("slim, ")]
    assert [step.split()[0] for step in steps] == ["ranking", "choosing", "refitting", "timing"]
    assert main([*words, "--resume"]) == 2 and "values was True, now it is None" in capsys.readouterr().err


class Ended(BaseException):
    """As a kill: nothing catches it."""


@pytest.mark.parametrize("number", [2, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 3, 4, 5, 7))])
def test_a_killed_run_goes_on_to_the_same_files(here, whole, capsys, monkeypatch, number):
    """Before the writing of this number: steps come first, then the files of the result, all at once."""
    work, replace, seen, expected = f"killed_{number}", os.replace, [], results(whole[0])
    words = [*LIMITED, "--work-dir", work]

    def dying(source, target) -> None:
        seen.append(target)
        if len(seen) == number:
            raise Ended
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(Ended):
        patch.setattr(os, "replace", dying)
        main(words)
    before = files(here / work)
    if number > 1:
        said = "holds a run of slim (slim_state.json): --resume goes on with it"
        capsys.readouterr()
        line_of_failure(capsys, here / work, words, said)
        assert files(here / work) == before
    assert main([*words, "--resume"]) == 0
    assert results(work) == expected and expected.keys() >= {"slimmed.pth", "slimmed.pt2", "slimmed.yaml"}


def test_a_run_that_has_ended_is_resumed_to_the_same_and_no_other(here, whole, capsys):
    """With ``--json``, which prints nothing but the report."""
    first = results(whole[0])
    capsys.readouterr()
    assert main([*LIMITED, "--work-dir", "whole", "--resume", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data == json.loads((whole[0] / "slimmed_report.json").read_text()) and results(whole[0]) == first
    other = [*SLIM, "--budget", "50%", "--work-dir", "whole", "--resume"]
    line_of_failure(capsys, whole[0], other, "cannot resume", "was")


def test_files_that_were_there_before_a_run_that_is_refused_stay(here, capsys):
    """A table of the user's may have the name that one of a run has."""
    before = {"latency_table.json": b"{}", "latency_table.json.journal": b"measured"}
    Path("own").mkdir()
    for name, data in before.items():
        Path("own", name).write_bytes(data)
    words = [*SLIM, "--table", "own/latency_table.json", "--work-dir", "own", "--budget", "1ms"]
    assert main(words) == 2 and "error: " in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("own").iterdir()} == before


def test_a_limit_that_is_measured_to_be_out_of_reach_leaves_nothing(here, capsys):
    line_of_failure(capsys, here, [*SLIM, "--budget", "latency=0.0001%", "--work-dir", "fast"], "out of reach")
    assert not Path("fast").exists()


BAD = {
    "no network": (["slim", *FOLDER, "--budget", "50%"], "give a config or --model NAME, one of them"),
    "two networks": (["slim", "c.py", *MODEL, "--budget", "50%"], "not both"),
    "unknown network": (
        ["slim", "--model", "torchvision.resnet500", *FOLDER, "--budget", "50%"],
        "has no model 'resnet500'",
    ),
    "no weights": ([*SLIM, "--weights", "none.pth", "--budget", "50%"], "--weights 'none.pth' not found"),
    "other weights": (
        [*SLIM, "--weights", "other.pth", "--budget", "50%"],
        "the weights do not fit the Net",
        "0.weight",
    ),
    "no data": (["slim", *MODEL, "--budget", "50%"], "--data is missing"),
    "no data, and a size": (["slim", *MODEL, "--size", "8", "--budget", "50%"], "--data is missing"),
    "data that is nowhere": ([*SLIM, "--data", "nowhere", "--budget", "50%"], "--data 'nowhere' does not exist"),
    "data that is a file": ([*SLIM, "--data", "other.pth", "--budget", "50%"], "--data 'other.pth' is a file"),
    "size for a config": ([*SLIM, "--data", "c.py", "--budget", "50%"], "--size is for a folder of images"),
    "empty folder": (["slim", *MODEL, *FOLDER, "--data", "empty", "--budget", "50%"], "has no image"),
    "damaged image": (["slim", *MODEL, *FOLDER, "--data", "damaged", "--budget", "50%"], "x.png", "--skip-unreadable"),
    "unknown transform": (["slim", *MODEL, "--data", "images", "--budget", "50%"], "give --size, --mean, --std"),
    "budget of nothing": ([*SLIM, "--budget", "fast"], "budget 'fast' is not a budget"),
    "unknown resource": ([*SLIM, "--budget", "mac=50%"], "unknown resource 'mac' (did you mean 'macs'?)"),
    "nameless budgets": (
        [*SLIM, "--budget", "50%", "params=1M"],
        "'50%' is half a limit: say of what, such as macs=50%",
    ),
    "half a limit": ([*SLIM, "--budget", "params=1M", "latency"], "'latency' is half a limit: give latency=LIMIT"),
    "values of nothing": ([*SLIM, "--budget", "50%", "--values", "boxes"], "has no output 'boxes'"),
    "folders of other classes": (
        ["slim", *MODEL, *FOLDER, "--data", "others", "--min-accuracy", "50%"],
        "'others' has 2 class folders, the network tells 3 classes apart: no accuracy can be told",
    ),
    "twice": ([*SLIM, "--budget", "macs=50%", "macs=40%"], "a resource is given twice"),
    "out of reach": ([*SLIM, "--budget", "0.0001%"], "macs"),
    "no reduction": ([*SLIM, "--budget", "100%"], "the network meets it as it is"),
    "unknown measure": ([*SLIM, "--budget", "50%", "--importance", "tailor"], "tailor", "did you mean 'taylor'?"),
    "tune 0": ([*SLIM, "--budget", "50%", "--tune", "0"], "tune"),
    "accuracy of nothing": ([*SLIM, "--min-accuracy", "high"], "min_accuracy='high': give percent"),
    "few images": ([*SLIM, "--budget", "50%", "--images", "0"], "images=0"),
    "layers": ([*SLIM, "--budget", "50%", "--keep", "layer9"], "keep: 'layer9' matches no layer"),
    "untraceable": (["slim", "--model", "net_of_slim.Untraceable", *FOLDER, "--budget", "50%"], "cannot be traced"),
    "no width": (["slim", "--model", "net_of_slim.Fixed", *FOLDER, "--budget", "50%"], "no width"),
    "device": ([*SLIM, "--budget", "50%", "--device", "abacus"], "--device abacus"),
    "empty config": (["slim", "c.py", "--budget", "50%"], "has no model"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_nothing_is_left(here, capsys, case):
    words, *parts = BAD[case]
    before = files(here)
    line_of_failure(capsys, here, [*words, "--work-dir", "W"], *parts)
    assert not Path("W").exists()
    assert all("__pycache__" in path.parts for path in files(here).keys() - before.keys())


FIRST = {
    "tune": ["--budget", "50%", "--tune", "0"],
    "budget": ["--budget", "0%"],
    "importance": ["--budget", "50%", "--importance", "nope"],
    "images": ["--budget", "50%", "--images", "1"],
    "--device abacus": ["--budget", "50%", "--device", "abacus"],
    "--data": ["--budget", "50%", "--data", "nowhere"],
    "--work-dir": ["--budget", "50%", "--work-dir", ""],
}


@pytest.mark.parametrize("case", FIRST)
def test_values_are_told_before_the_network_is_built(here, capsys, monkeypatch, case):
    monkeypatch.setattr(slim, "_network", lambda args: pytest.fail("built"))
    line_of_failure(capsys, here, [*SLIM, *FIRST[case]], case)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "50%", "--divisor", "0"], "argument --divisor: '0' is no divisor"),
        (["--budget", "50%", "--seed", "x"], "argument --seed: 'x' is no seed"),
        ([], "one of the arguments --budget --min-accuracy --max-drop is required"),
        (["--budget", "50%", "--max-drop", "1"], "--max-drop: not allowed with argument --budget"),
    ],
)
def test_a_call_that_cannot_be_read_is_one_line(capsys, words, said):
    with pytest.raises(SystemExit, match="2"):
        main([*SLIM, *words])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line and "mmrazor-lite slim --help" in line
