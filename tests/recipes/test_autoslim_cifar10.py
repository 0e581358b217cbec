"""The CIFAR-10 recipe: a whole table in small, cut off and gone on with, and what is refused."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from html_pages import parsed

from mmrazor_lite.cli import main
from mmrazor_lite.cli.main import build_parser
from mmrazor_lite.datasets.cifar10 import CLASSES
from mmrazor_lite.errors import UserError
from mmrazor_lite.recipes import autoslim_cifar10, autoslim_report, steps, workspace
from mmrazor_lite.visualization import read_page

SMALL = ["--arch", "wrn40_4", "--small", "--width", "0.25", "--epochs", "1", "--seeds", "1", "--device", "cpu"]
IMAGES = ["--images-per-class", "10", "--batch-size", "16", "--calibrate-images", "16"]


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """--device cpu hides the GPUs of the process: not for the tests after these."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The archives of CIFAR-10 in small: images of one colour per class, with noise."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for label, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.normal(25 * label, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / split / name / f"{number}.png"), pixels)
        with tarfile.open(folder / f"cifar10_{split}.tar.gz", "w:gz") as tar:
            tar.add(folder / split, f"cifar10/{split}")
        (folder / split).rename(folder / f"unpacked_{split}")
    return folder


def command(data: Path, work: Path, *words: str) -> list[str]:
    return ["autoslim-cifar10", *SMALL, *IMAGES, "--data-root", str(data), "--work-dir", str(work), *words]


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture(scope="module")
def table(data, tmp_path_factory) -> tuple[Path, list[str]]:
    """The work dir of a recipe that was cut off in its fourth command, and the commands of its second start."""
    work = tmp_path_factory.mktemp("work") / "table"
    run_step = workspace.run_step
    started: list[str] = []

    def step(cli, name, *words):
        started.append(name)
        if name == "autoslim_seed0" and started.count(name) == 1:
            raise Killed
        return run_step(cli, name, *words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setattr(workspace, "run_step", step)
        with pytest.raises(Killed):
            main(command(data, work))
        before = len(started)
        assert main(command(data, work)) == 0
    return work, started[before:]


def test_what_is_done_is_not_run_again(table, data, monkeypatch):
    work, again = table
    assert again == [
        "autoslim_seed0", "autoslim_seed0, test", "uniform_seed0", "uniform_seed0, test",
        "autoslim_from_supernet_seed0", "autoslim_from_supernet_seed0, test",
    ]  # fmt: skip
    before = json.loads((work / "results.json").read_text())
    monkeypatch.setattr(workspace, "run_step", None)  # nothing may be started
    assert main(command(data, work)) == 0
    assert json.loads((work / "results.json").read_text()) == before


def test_rows_have_the_costs_of_their_files(table):
    work, _ = table
    report = json.loads((work / "results.json").read_text())
    rows = {row["row"]: row for row in report["rows"]}
    assert list(rows) == ["baseline", "autoslim", "uniform", "autoslim_from_supernet"]
    for row in rows.values():
        resources = yaml.safe_load((work / row["file"]).read_text())["resources"]
        assert {key: row[key] for key in ("macs", "flops", "params")} == {
            key: resources[key] for key in ("macs", "flops", "params")
        }
        assert len(row["accuracies"]) == 1
        assert row["standard_error"] is None
    assert rows["autoslim"]["flops"] <= rows["baseline"]["flops"] / 2
    assert 0.9 * rows["autoslim"]["macs"] < rows["uniform"]["macs"] <= rows["autoslim"]["macs"]
    assert rows["autoslim"]["file"] == rows["autoslim_from_supernet"]["file"]
    ratios = set()
    full = yaml.safe_load((work / "baseline.yaml").read_text())["choices"]
    for name, width in yaml.safe_load((work / "uniform.yaml").read_text())["choices"].items():
        ratios.add((width - 0.5, width + 0.5, full[name]))
    low, high = max(low / size for low, _, size in ratios), min(high / size for _, high, size in ratios)
    assert low <= high  # one ratio rounds to all of them


def test_the_report_holds_no_folder_of_this_machine(table, data):
    work, _ = table
    for name in ("results.json", "results.md", "report.html", "report.json"):
        text = (work / name).read_text()
        assert str(work) not in text
        assert str(data) not in text
        assert str(steps.ROOT) not in text
    assert (work / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert (work / "channels.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_of_the_recipe(table):
    work, _ = table
    page, html = read_page(work / "report.json"), parsed((work / "report.html").read_text())
    report = json.loads((work / "results.json").read_text())
    assert [dict(one.costs)["macs"] for one in page.outcomes] == [row["macs"] for row in report["rows"]]
    charts = {part.name: part.chart for part in page.sections}
    assert {"front", "progress", "widths", "macs", "time", "commands", "settings", "files"} == set(charts)
    assert sum(charts["macs"].values[1][1]) == report["rows"][1]["macs"]
    assert dict(zip(charts["time"].names, charts["time"].values[0][1], strict=True)) == report["seconds"]
    assert html.pictures == 5 and all((work / link).is_file() for link in html.links) and len(html.links) > 7


def test_the_command_of_the_report_makes_the_same_table(table):
    work, _ = table
    report = json.loads((work / "results.json").read_text())
    words = report["recipe"].split()
    assert words[:2] == ["python", "tools/recipes/autoslim_cifar10.py"]
    args = vars(build_parser().parse_args(["autoslim-cifar10", *words[2:]]))
    assert {key: args[key] for key in report["settings"] if key != "command"} == {
        key: value for key, value in report["settings"].items() if key != "command"
    }


def test_the_supernet_gave_its_weights_to_one_row_only(table):
    import torch

    from mmrazor_lite.export import read_checkpoint

    work, _ = table
    report = json.loads((work / "results.json").read_text())
    words = report["commands"]
    assert "init_weight_from_supernet=True" in words["autoslim_from_supernet_seed0"]
    assert "init_weight_from_supernet" not in words["autoslim_seed0"]
    names = ("autoslim", "autoslim_from_supernet")
    states = [read_checkpoint(work / f"{name}_seed0/epoch_1.pth")["state_dict"] for name in names]
    assert not torch.equal(*(state["architecture.backbone.conv1.weight"] for state in states))


def test_other_settings_are_refused_in_the_same_folder(table, data, capsys):
    work, _ = table
    before = sorted(path.name for path in work.iterdir())
    assert main(command(data, work, "--epochs", "2")) == 2
    assert "holds the pieces of other settings ({'epochs': 1}, now {'epochs': 2})" in capsys.readouterr().err
    assert sorted(path.name for path in work.iterdir()) == before


# parts ----------------------------------------------------------------------------------------------------------


def plan(*words: str) -> autoslim_cifar10.Plan:
    return autoslim_cifar10.Plan(build_parser().parse_args(["autoslim-cifar10", "--arch", "mbv2", *words]))


def test_the_default_is_the_schedule_of_the_reference():
    options = plan().options("subnet")
    assert "train_cfg.max_epochs=200" in options
    assert "param_scheduler.milestones=[60,120,160]" in options
    assert plan().warm_up == 60
    assert plan("--epochs", "10").warm_up == 3
    assert "param_scheduler.milestones=[1,2]" in plan("--epochs", "2").options("subnet")


@pytest.mark.parametrize("words", [(), ("--small",), ("--width", "0.5"), ("--images-per-class", "5", "--small")])
@pytest.mark.parametrize("step", ["supernet", "search", "subnet"])
def test_every_step_accepts_its_options(step, words, registered, tmp_path):
    from mmrazor_lite.config.load import load_config

    chosen = plan(*words)
    size = {"--small": "MobileNetV2 0.25x", "--width": "MobileNetV2 x0.5"}
    assert chosen.title == next((size[word] for word in words if word in size), "MobileNetV2")
    cfg = load_config(chosen.config(step), chosen.options(step))
    architecture = cfg.model.cfg.architecture if step == "subnet" else cfg.model.architecture
    if "--width" in words:
        assert (architecture.backbone.widen_factor, architecture.head.in_channels) == (0.5, 640)
    if step == "search":
        assert cfg.search_cfg.target_flops == ["50%"]
        per_class = cfg.search_cfg.dataloader.dataset.dataset.dataset.get("per_class")
        assert per_class == cfg.search_cfg.calibrate_dataloader.dataset.dataset.dataset.get("per_class")
        assert per_class == (5 if "--images-per-class" in words else None)


@pytest.mark.parametrize("flag", ["--epochs", "--seeds", "--batch-size", "--images-per-class"])
def test_numbers_below_one_are_refused(flag, tmp_path, capsys):
    assert main(["autoslim-cifar10", "--arch", "mbv2", flag, "0", "--work-dir", str(tmp_path / "w")]) == 2
    assert f"{flag} 0: give a whole number above 0" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


TARGET = "give one percentage above 0% and below 100%, such as 50%"


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        *(("--target", value, TARGET) for value in ("50%,30%", "300M", "50", "0%", "100%", "-5%", "nan%", "%", "")),
        *(
            (flag, value, "give a finite number above 0")
            for flag in ("--width", "--lr")
            for value in ("0", "-1", "nan")
        ),
        ("--lr", "inf", "give a finite number above 0"),
        *(("--calibrate-images", value, "give a whole number above 1, or 0 for none") for value in ("-1", "1")),
        ("--target", "3%", "the smallest network of the search has 8.39% of the flops"),
        ("--images-per-class", "13", "has 12 train images of a class: give at most so many"),
        ("--val-images-per-class", "5", "has 4 test images of a class: give at most so many"),
        ("--batch-size", "81", "more than the 80 images that are trained on (80% of 100): give a smaller one"),
        ("--images-per-class", "1", "--batch-size 16: more than the 8 images that are trained on (80% of 10)"),
    ],
)
def test_values_are_refused_before_anything_is_written(flag, value, message, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(workspace, "run_step", None)  # nothing may be started
    assert main(command(data, tmp_path / "w", f"{flag}={value}")) == 2
    error = capsys.readouterr().err
    assert flag in error and message in error and error.count("\n") == 1
    assert not (tmp_path / "w").exists()


def test_a_device_that_is_not_there_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["autoslim-cifar10", "--arch", "mbv2", "--device", "cuda", "--work-dir", str(tmp_path / "w")]) == 2
    assert "--device cuda: torch sees no GPU" in capsys.readouterr().err


def test_curves_survive_a_kill(tmp_path):
    """Validations of two starts, the last line of the first cut off."""
    work = workspace.Workspace(None, tmp_path, {})
    starts = {
        "1": '{"accuracy/top1": 10.0, "step": 1}\n{"accuracy/top1": 2',
        "2": '{"loss": 1}\n{"accuracy/top1": 20.0, "step": 2}\n',
    }
    for start, text in starts.items():
        path = tmp_path / "net" / start / "vis_data" / "scalars.json"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert work.curve("net") == {1: 10.0, 2: 20.0}


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *((file, damage) for file in ("settings.json", "seconds.json", "a/test.json") for damage in ("", '{"a', "[1]")),
        *(("a/search_log.json", damage) for damage in ("", "{}", '{"results": {}}', '{"results": [{}]}')),
        ("seconds.json", '{"a": "1"}'),
        ("a/test.json", "{}"),
        ("a/test.json", '{"accuracy/top1": NaN}'),
    ],
)
def test_damaged_files_are_named(file, damage, tmp_path, monkeypatch):
    monkeypatch.setattr(workspace, "run_step", None)  # what is there counts as done
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(damage)
    with pytest.raises(UserError, match=f"'{path}' is truncated or was edited .*: delete it and") as error:
        work = workspace.Workspace(None, tmp_path, {"epochs": 1})
        (work.search if "search" in file else work.test)("a", "config.py", tmp_path / "a.pth", [])
    assert "\n" not in str(error.value)


def test_standard_error():
    assert autoslim_report.summary([1.0, 2.0, 6.0]) == {"mean": 3.0, "standard_error": round((7 / 3) ** 0.5, 4)}
    assert autoslim_report.summary([5.0]) == {"mean": 5.0, "standard_error": None}


def test_other_settings_raise(tmp_path):
    workspace.Workspace(None, tmp_path, {"epochs": 1, "arch": "a"})
    workspace.Workspace(None, tmp_path, {"epochs": 1, "arch": "a"})
    with pytest.raises(UserError, match="other settings"):
        workspace.Workspace(None, tmp_path, {"epochs": 1, "arch": "b"})
