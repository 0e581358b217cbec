"""The best checkpoint so far, and early stopping: after a kill they are what they would have been."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmrazor_lite.config.load import load_config
from mmrazor_lite.engine.hooks.best import BestSoFar
from mmrazor_lite.engine.hooks.checkpoint import SafeCheckpointHook
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import read_checkpoint

TOP1 = "max_subnet.accuracy/top1"
EPOCHS = 6


def test_only_what_is_better_than_ever_is_the_best():
    best = BestSoFar(["accuracy/top1", "loss"])
    for top1, loss, better in ((50.0, 2.0, True), (50.0, 2.0, False), (49.9, 2.1, False), (50.1, 1.9, True)):
        metrics = {"accuracy/top1": top1, "loss": loss}
        found = best.improved(metrics)
        assert found == (metrics if better else {})
        best.found.update({key: (value, "file") for key, value in found.items()})
    assert best.improved({"accuracy/top1": float("nan"), "loss": float("nan")}) == {}


def test_files_up_to_a_number_that_are_not_the_best_go(tmp_path):
    best = BestSoFar("accuracy/top1")
    best.found = {"accuracy/top1": (50.0, "best_accuracy_top1_epoch_2.pth")}
    names = {f"best_accuracy_top1_epoch_{number}.pth" for number in (1, 2, 3, 4)} | {"best_loss_epoch_1.pth"}
    for name in names:
        (tmp_path / name).touch()
    best.remove_others(tmp_path, 3)
    gone = {f"best_accuracy_top1_epoch_{number}.pth" for number in (1, 3)}
    assert {path.name for path in tmp_path.iterdir()} == names - gone


@pytest.fixture
def scripted(monkeypatch):
    """Set the accuracies that the validations of epochs 1, 2, ... give; returns the epochs that were validated."""
    from mmrazor_lite.engine.val_loop import SubnetValLoop

    validated: list[int] = []

    def script(scores: list[float]) -> list[int]:
        validated.clear()

        def run(self) -> dict[str, float]:
            self._call_hooks("before_{}")
            self._call_hooks("before_{}_epoch")
            validated.append(self.runner.epoch)
            score = scores[self.runner.epoch - 1]
            metrics = {TOP1: score, "min_subnet.accuracy/top1": score / 2, "min_subnet.loss": 1 / (1 + score)}
            self._call_hooks("after_{}_epoch", metrics=metrics)
            self._call_hooks("after_{}")
            return metrics

        monkeypatch.setattr(SubnetValLoop, "run", run)
        return validated

    return script


def names(config: dict, pattern: str = "best_*.pth") -> list[str]:
    return sorted(path.name for path in Path(config["work_dir"]).glob(pattern))


def config(run_config, work_dir: str = "run", stop: dict | None = None, **checkpoint) -> dict:
    hooks = {"checkpoint": {"type": "CheckpointHook", "interval": 2, "save_best": "auto", **checkpoint}}
    if stop:
        hooks["early_stopping"] = {"type": "EarlyStoppingHook", "monitor": TOP1, "min_delta": 0.0, **stop}
    return run_config(work_dir, train_cfg={"by_epoch": True, "max_epochs": EPOCHS}, default_hooks=hooks)


class Killed(BaseException):
    pass


def killed(run, at: str) -> None:
    """Train until just before or after a file is written."""
    save = run.save_checkpoint

    def saving(folder, name, **options):
        if at == f"before {name}":
            raise Killed
        save(folder, name, **options)
        if at == f"after {name}":
            raise Killed

    run.save_checkpoint = saving
    with pytest.raises(Killed):
        run.train()


def test_a_better_epoch_replaces_the_best(runner, run_config, scripted):
    """A regular checkpoint that knows it comes between: until then a kill would go back to the best before."""
    scripted([20, 50, 40, 50, 60, 30])
    mine = config(run_config)
    runner(mine).train()
    assert names(mine) == ["best_max_subnet.accuracy_top1_epoch_5.pth"]
    best = read_checkpoint(Path(mine["work_dir"]) / names(mine)[0])
    assert best["meta"]["epoch"] == 5 and best["hooks"]["SafeCheckpointHook"] == {TOP1: [60.0, names(mine)[0]]}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"save_best": [TOP1, "min_subnet.loss"]},
            ["best_max_subnet.accuracy_top1_epoch_5.pth", "best_min_subnet.loss_epoch_5.pth"],
        ),
        ({"save_best": TOP1, "rule": "less"}, ["best_max_subnet.accuracy_top1_epoch_1.pth"]),
        ({"save_best": "min_subnet.accuracy/top1", "by_epoch": False}, ["best_min_subnet.accuracy_top1_iter_30.pth"]),
        (
            {"save_best": TOP1, "less_keys": ["top1"], "greater_keys": ["zzz"]},
            ["best_max_subnet.accuracy_top1_epoch_1.pth"],
        ),
    ],
)
def test_options(runner, run_config, scripted, options, expected):
    scripted([20, 50, 40, 50, 60, 30])
    mine = config(run_config, **options)
    runner(mine).train()
    assert names(mine) == expected


SCORES = [30, 50, 40, 55, 20, 10]
MOMENTS = [
    "before epoch_2.pth",
    "after epoch_2.pth",
    "before best_max_subnet.accuracy_top1_epoch_4.pth",
    "after best_max_subnet.accuracy_top1_epoch_4.pth",
    "after epoch_6.pth",
]


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(None, marks=pytest.mark.wide),
        {"patience": 1},
        pytest.param({"stopping_threshold": 52}, marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed_ends_as_uninterrupted(runner, run_config, scripted, stop):
    """The validation that a kill has cut off is made up for; what was stopped stays so."""
    scripted(SCORES)
    whole = config(run_config, "whole", stop)
    runner(whole).train()
    expected = {name: (Path(whole["work_dir"]) / name).read_bytes() for name in names(whole, "*.pth")}
    last = {None: 6, 1: 3}.get((stop or {}).get("patience"), 6) if not (stop or {}).get("stopping_threshold") else 4
    assert f"epoch_{last}.pth" in expected
    for number, moment in enumerate(MOMENTS[1::2] if stop else MOMENTS[::2]):
        mine = config(run_config, f"part{number}", stop)
        try:
            killed(runner(mine), moment)
        except pytest.fail.Exception:
            continue  # stopped before
        runner({**mine, "resume": True}).train()
        assert {name: (Path(mine["work_dir"]) / name).read_bytes() for name in names(mine, "*.pth")} == expected
    validated = scripted(SCORES)
    runner({**whole, "resume": True}).train()
    assert len(validated) == (0 if last == 3 else 1)  # epoch_3 was written after its validation
    assert {name: (Path(whole["work_dir"]) / name).read_bytes() for name in names(whole, "*.pth")} == expected


def test_a_best_file_is_a_checkpoint_as_any_other(runner, run_config, scripted):
    """It is resumed to the end of the run that wrote it, and weights are loaded from it."""
    scripted([30, 20, 50, 10, 10, 10])
    mine = config(run_config)
    runner(mine).train()
    best = Path(mine["work_dir"]) / "best_max_subnet.accuracy_top1_epoch_3.pth"
    other = config(run_config, "other")
    runner({**other, "resume": True, "load_from": str(best)}).train()
    ends = [(Path(one["work_dir"]) / "epoch_6.pth") for one in (mine, other)]
    contents = [read_checkpoint(path) for path in ends]
    assert all(contents[0]["state_dict"][key].equal(value) for key, value in contents[1]["state_dict"].items())


def test_a_best_file_that_is_gone(runner, run_config, scripted):
    scripted([60, 50, 40, 30, 20, 10])
    mine = config(run_config)
    killed(runner(mine), "after epoch_4.pth")
    (Path(mine["work_dir"]) / names(mine)[0]).unlink()
    runner({**mine, "resume": True}).train()
    assert names(mine) == ["best_max_subnet.accuracy_top1_epoch_2.pth"]


def test_refused_before_the_training(runner, run_config, scripted):
    validated = scripted([1] * 6)
    with pytest.raises(
        UserError, match=r"save_best='accuracy/top1': of which subnet\? such as max_subnet.accuracy/top1"
    ):
        runner(config(run_config, save_best="accuracy/top1")).train()
    none = dict.fromkeys(("val_dataloader", "val_evaluator", "val_cfg"))
    with pytest.raises(UserError, match="save_best needs validation"):
        runner({**config(run_config), **none}).train()
    with pytest.raises(UserError, match="the validation gives no such number; it gives max_subnet.accuracy/top1, min"):
        runner(config(run_config, save_best="max_subnet.accuracy/top5")).train()
    assert validated == [1]


@pytest.mark.parametrize("option", [{"rule": "greater"}, {"rule": ""}, {"less_keys": ["loss"]}])
def test_what_is_best_without_a_best(option):
    with pytest.raises(
        UserError, match=rf"default_hooks.checkpoint.{next(iter(option))} says what is best: give save_best"
    ):
        SafeCheckpointHook(**option)
    assert SafeCheckpointHook(greater_keys=[], less_keys=()).best is None


def test_any_name_of_a_default_hook_that_says_its_type(root):
    path = root / "configs/pruning/autoslim/autoslim_supernet_digits.py"
    value = json.dumps({"type": "EarlyStoppingHook", "monitor": TOP1})
    cfg = load_config(path, [f"default_hooks.early={value}"])
    assert cfg.default_hooks.early.monitor == TOP1
    for wrong in ("default_hooks.chekpoint.interval=5", "default_hooks.chekpoint=dict(interval=5)"):
        with pytest.raises(UserError, match=r"unknown key 'chekpoint' in default_hooks \(did you mean 'checkpoint'"):
            load_config(path, [wrong])
