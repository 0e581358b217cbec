"""Every hook of mmengine and mmpretrain works in our runs, or is refused in one line before anything is trained."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from engine.test_runner import Killed, assert_equal, kill_at
from mmengine.hooks import Hook

from mmrazor_lite.checkpoints import read_checkpoint
from mmrazor_lite.engine.hooks.admission import admitted
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms import SPOS, TFNAS

ONE_EPOCH = {"by_epoch": True, "max_epochs": 1}
LABEL_SMOOTH = {"type": "LabelSmoothLoss", "label_smooth_val": 0.1, "num_classes": 5}
WORK = {  # arguments; all of them train together
    "mmengine.EMAHook": {"momentum": 0.5},
    "mmpretrain.EMAHook": {"momentum": 0.5, "begin_epoch": 1},
    "mmengine.ProfilerHook": {"json_trace_path": "trace.json"},
    "mmengine.EmptyCacheHook": {"after_iter": True},
    "mmengine.SyncBuffersHook": {},
    "mmengine.LoggerHook": {"interval": 2},
    "mmengine.IterTimerHook": {},
    "mmengine.RuntimeInfoHook": {},
    "mmengine.DistSamplerSeedHook": {},
    "mmengine.CheckpointHook": {"by_epoch": False, "interval": 4},
    "mmengine.EarlyStoppingHook": {"monitor": "max_subnet.accuracy/top1"},
    "mmpretrain.SwitchRecipeHook": {"schedule": [{"action_epoch": 2, "loss": LABEL_SMOOTH, "batch_augments": None}]},
    "mmpretrain.ClassNumCheckHook": {},
    "mmpretrain.VisualizationHook": {"enable": True, "interval": 4, "resize": 20, "draw_score": False},
    "mmpretrain.WarmupParamHook": {
        "param_name": "loss_weight",
        "module_name": "architecture.head.loss_module",
        "warmup_epochs": 1,
    },
}
REFUSED = {  # arguments, and what is said of a supernet
    "mmengine.NPUProfilerHook": ({}, "cannot be built: Failed to import torch_npu"),
    "mmengine.NaiveVisualizationHook": ({}, "use VisualizationHook"),
    "mmengine.ParamSchedulerHook": ({}, "steps every schedule twice"),
    "mmengine.PrepareTTAHook": ({"tta_cfg": {}}, "test-time augmentation is not carried"),
    "mmengine.RFSearchHook": ({"config": {"search": {"step": 0, "max_step": 1}}}, "changes layers"),
    "mmpretrain.DenseCLHook": ({}, "for the model DenseCL, this is AutoSlim"),
    "mmpretrain.SimSiamHook": ({"fix_pred_lr": True, "lr": 0.1}, "for the model SimSiam"),
    "mmpretrain.SwAVHook": ({"batch_size": 4}, "for the model SwAV"),
    "mmpretrain.PrepareProtoBeforeValLoopHook": ({}, "for the model ImageToImageRetriever"),
    "mmpretrain.SetAdaptiveMarginsHook": ({}, "changes layers"),
    "mmpretrain.PreciseBNHook": ({}, "recalibrated for each one"),
}


class Recorder(Hook):
    """Keeps a copy of the weights after every update, and those that a validation uses."""

    priority = "HIGHEST"

    def __init__(self) -> None:
        self.trained: list[dict] = []
        self.validated: list[dict] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.trained.append(weights(runner.algorithm))

    def before_val_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.validated.append(weights(runner.algorithm))


def weights(algorithm) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in algorithm.named_parameters()}


def averaged(steps: list[dict], momentum: float) -> dict[str, torch.Tensor]:
    """The weights after the first update, and of every later one its share."""
    result = dict(steps[0])
    for step in steps[1:]:
        for name, value in step.items():
            result[name] = torch.lerp(result[name], value, momentum)
    return result


@pytest.fixture(autouse=True)
def classes(random_images, monkeypatch):
    monkeypatch.setattr(random_images, "CLASSES", ["a", "b", "c", "d", "e"], raising=False)


def hook(name: str, **arguments) -> dict:
    return {"type": name, **arguments}


def test_every_registered_hook_has_its_line(registered):
    import mmpretrain.registry
    from mmengine.registry import HOOKS

    found = {f"{part.scope}.{name}" for part in (HOOKS, mmpretrain.registry.HOOKS) for name in part.module_dict}
    assert {name for name in found if name.startswith(("mmengine.", "mmpretrain."))} == {*WORK, *REFUSED}


def test_hooks_that_work(runner, run_config, tmp_path):
    hooks = [hook(name, **arguments) for name, arguments in WORK.items()]
    hooks[2]["json_trace_path"] = str(tmp_path / "trace.json")
    config = run_config(custom_hooks=hooks, train_cfg={"by_epoch": True, "max_epochs": 2})
    config["visualizer"] = {"type": "UniversalVisualizer", "vis_backends": [{"type": "LocalVisBackend"}]}
    run = runner(config)
    run.train()
    folder = Path(run.work_dir)
    assert {path.name for path in folder.glob("*.pth")} == {
        f"{n}.pth" for n in "epoch_1 epoch_2 iter_4 iter_8 iter_12".split()
    }
    assert (tmp_path / "trace.json").stat().st_size > 0
    assert type(run.algorithm.architecture.head.loss_module).__name__ == "LabelSmoothLoss"
    assert run.algorithm.data_preprocessor.batch_augments is None
    assert list(folder.glob("*/vis_data/vis_image/*.png"))


def test_hooks_that_are_refused(runner, run_config):
    run = runner(run_config())
    before = len(run._hooks)
    for name, (arguments, message) in REFUSED.items():
        with pytest.raises(UserError, match=message):
            run.register_hook(hook(name, **arguments))
    assert len(run._hooks) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (hook("EMAHook", begin_iter=1000), "hook EMAHook failed in before_train: AssertionError: .*begin_iter: 1000"),
        (
            hook("SwitchRecipeHook", schedule=[{"action_epoch": 2, "train_pipeline": []}]),
            "has no pipeline",
        ),
        (hook("EMAHook", ema_type="Nowhere"), "hook EMAHook failed in before_run: KeyError: .*Nowhere"),
        (hook("EMAHook", evaluate_on_origin=True), "without choosing a subnet"),
    ],
)
def test_what_a_hook_cannot_do_is_told_before_the_first_step(runner, run_config, arguments, message):
    with pytest.raises(UserError, match=message):
        run = runner(run_config(custom_hooks=[arguments]))
        run.train()
    assert not list(Path(run_config()["work_dir"]).glob("*.pth"))


@pytest.mark.parametrize("name", ["mmengine.EMAHook", "mmpretrain.EMAHook"])
def test_averaged_weights_are_validated_saved_and_resumed(runner, run_config, name):
    def config(folder: str, **more) -> dict:
        return run_config(folder, custom_hooks=[hook(name, momentum=0.25)], **more)

    run = runner(config("whole"))
    run.register_hook(recorder := Recorder())
    run.train()
    average, last = averaged(recorder.trained, 0.25), recorder.trained[-1]
    assert any(not torch.allclose(average[key], last[key]) for key in last)
    whole = read_checkpoint(Path(run.work_dir) / "epoch_3.pth")
    for key, value in average.items():
        torch.testing.assert_close(whole["state_dict"][key], value)
        torch.testing.assert_close(recorder.validated[-1][key], value)
        assert torch.equal(whole["ema_state_dict"][f"module.{key}"], last[key])
        assert torch.equal(dict(run.algorithm.named_parameters())[key], last[key])

    killed = runner(config("part"))
    kill_at(killed, 9)
    with pytest.raises(Killed):
        killed.train()
    resumed = runner(config("part", resume=True))
    resumed.train()
    assert_equal(whole, read_checkpoint(Path(resumed.work_dir) / "epoch_3.pth"))

    tested = runner(config("whole", load_from=str(Path(run.work_dir) / "epoch_3.pth")))
    tested.register_hook(recorder := Recorder())
    tested.val()
    for key, value in recorder.validated[0].items():
        assert torch.equal(value, whole["state_dict"][key])


def test_precise_statistics_of_a_plain_subnet(runner, run_config):
    config = run_config(custom_hooks=[hook("PreciseBNHook", num_samples=20)], train_cfg=ONE_EPOCH)
    config["model"]["channel_cfg"] = 0.5
    run = runner(config)
    run.train()
    norm = next(module for module in run.algorithm.modules() if isinstance(module, torch.nn.BatchNorm2d))
    images = torch.stack([run.train_dataloader.dataset[index]["inputs"] for index in run.train_dataloader.sampler][:20])
    with torch.no_grad():
        first = next(module for module in run.algorithm.modules() if isinstance(module, torch.nn.Conv2d))
        seen = first(images)
    expected = torch.stack([part.mean((0, 2, 3)) for part in seen.split(4)]).mean(0)
    torch.testing.assert_close(norm.running_mean, expected, rtol=1e-3, atol=1e-4)


def test_averaged_weights_of_channels_that_change_place_are_refused():
    """TF-NAS sorts channels after every epoch, SPOS never."""

    def of(algorithm: type) -> SimpleNamespace:
        model = algorithm.__new__(algorithm)  # which one it is decides, not what it holds
        torch.nn.Module.__init__(model)
        return SimpleNamespace(model=model, _hooks=[])

    with pytest.raises(UserError, match="the hook EMAHook: widths change after every epoch"):
        admitted(hook("mmengine.EMAHook"), of(TFNAS))
    assert admitted(hook("mmengine.EMAHook", priority="LOW"), of(SPOS)).priority == "LOW"


@pytest.mark.slow
def test_averaged_weights_of_two_processes_survive_a_resume(root, tmp_path):
    config = tmp_path / "ema.py"
    config.write_text(
        f"_base_ = {str(root / 'configs/pruning/autoslim/autoslim_supernet_digits.py')!r}\n"
        "custom_hooks = [dict(type='EMAHook', momentum=0.1)]\n"
        "train_cfg = dict(max_epochs=2, val_interval=1)\n"
        "param_scheduler = dict(end=2)\n"
        "default_hooks = dict(checkpoint=dict(interval=1))\n"
    )

    def train(folder: Path, *flags: str) -> dict:
        words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "mmrazor_lite.cli"]
        words += ["train", str(config), "--launcher", "pytorch", "--work-dir", str(folder), *flags]
        settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(root)}
        done = subprocess.run([sys.executable, *words], env={**os.environ, **settings}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return read_checkpoint(folder / "epoch_2.pth")

    whole = train(tmp_path / "whole")
    assert int(whole["ema_state_dict"]["steps"]) == whole["meta"]["iter"]
    (tmp_path / "part").mkdir()
    shutil.copy(tmp_path / "whole" / "epoch_1.pth", tmp_path / "part")
    (tmp_path / "part" / "last_checkpoint").write_text(str(tmp_path / "part" / "epoch_1.pth"))
    assert_equal(whole, train(tmp_path / "part", "--resume"))
