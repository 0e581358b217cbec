"""A run that is resumed with another config goes on at the place of that config's own schedule, and says so."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import PARAM_SCHEDULERS

from mmrazor_lite.engine.schedule import put_at, restore
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import read_checkpoint

EPOCHS, LENGTH = 7, 5
SCHEDULES = {
    "warmup and cosine": [
        dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=11),
        dict(type="CosineAnnealingLR", T_max=5, eta_min=1e-4, by_epoch=True, begin=2, end=7),
    ],
    "poly": [dict(type="PolyLR", power=0.9, by_epoch=False, end=30)],
    "steps": [
        dict(type="MultiStepLR", milestones=[2, 5], by_epoch=True),
        dict(type="MultiStepMomentum", milestones=[9], by_epoch=False),
    ],
    "exponential": [dict(type="ExponentialLR", gamma=0.9, by_epoch=False), dict(type="StepLR", step_size=3)],
    "one cycle": [dict(type="OneCycleLR", eta_max=0.4, total_steps=EPOCHS * LENGTH, by_epoch=False)],
    "restarts": [
        dict(type="CosineRestartLR", periods=[9, 9, 40], restart_weights=[1, 0.5, 0.2], eta_min=0.0, by_epoch=False)
    ],
    "none": [],
}


def built(schedule: list[dict], lr: float = 0.1, groups: int = 6) -> tuple[OptimWrapper, list]:
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(groups)]
    options = [{"params": [p], "lr": lr * (1 + index % 3)} for index, p in enumerate(parameters)]
    wrapper = OptimWrapper(torch.optim.SGD(options, lr=lr, momentum=0.9))
    return wrapper, [PARAM_SCHEDULERS.build({**config, "optimizer": wrapper}) for config in schedule]


def options(wrapper: OptimWrapper) -> list[dict]:
    return [{key: value for key, value in group.items() if key != "params"} for group in wrapper.param_groups]


def step(wrapper: OptimWrapper, schedulers: list, start: int, end: int) -> list[list[dict]]:
    """Iterations as the training and mmengine's hook do them; the options used in each."""
    used = []
    for iteration in range(start, end):
        used.append(options(wrapper))
        loss = sum((p**2).sum() for group in wrapper.optimizer.param_groups for p in group["params"])
        wrapper.update_params(loss)
        for scheduler in schedulers:
            if not scheduler.by_epoch:
                scheduler.step()
        if (iteration + 1) % LENGTH == 0:
            for scheduler in schedulers:
                if scheduler.by_epoch:
                    scheduler.step()
    return used


@pytest.mark.parametrize("name", SCHEDULES)
def test_put_at_a_place_is_as_if_stepped_there(name):
    wrapper, schedulers = built(SCHEDULES[name])
    places = [0, *(epoch * LENGTH + done for epoch in range(EPOCHS) for done in (2, LENGTH))]  # inside an epoch too
    for start, end in itertools.pairwise(places):
        step(wrapper, schedulers, start, end)
        other, placed = built(SCHEDULES[name])
        put_at(other, placed, end // LENGTH, end, LENGTH)
        assert options(other) == options(wrapper)
        assert [s.state_dict() for s in placed] == [s.state_dict() for s in schedulers]


def saved(wrapper: OptimWrapper, schedulers: list) -> dict:
    return {"optimizer": wrapper.state_dict(), "param_schedulers": [s.state_dict() for s in schedulers]}


@pytest.mark.parametrize("before", ["poly", "none"])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("lr", [0.1, 0.3])
def test_the_schedule_of_the_config_holds(name, before, lr):
    """The rates after a resume are those of a run that was started with the config; momentum is the checkpoint's."""
    first, mine = built(SCHEDULES[before])
    step(first, mine, 0, 10)
    checkpoint = saved(first, mine)
    wrapper, schedulers = built(SCHEDULES[name], lr)
    changed = restore(wrapper, schedulers, checkpoint, {}, (2, 10, LENGTH), "file")
    whole, all_along = built(SCHEDULES[name], lr)
    expected = step(whole, all_along, 0, EPOCHS * LENGTH)
    momentum = [state["momentum_buffer"] for state in wrapper.optimizer.state.values()]
    assert all(map(torch.equal, momentum, [s["momentum_buffer"] for s in first.optimizer.state.values()]))
    assert step(wrapper, schedulers, 10, EPOCHS * LENGTH) == expected[10:]
    assert bool(changed) == ((name, lr) != (before, 0.1))
    if name != "one cycle":  # begins at a rate of its own
        assert ("optim_wrapper.optimizer.lr" in changed) == (lr != 0.1)


def test_each_of_several_optimizers_is_put_at_its_own_place():
    parts, schedules = zip(*(built(SCHEDULES[name]) for name in ("poly", "none")), strict=True)
    for wrapper, schedulers in zip(parts, schedules, strict=True):
        step(wrapper, schedulers, 0, 10)
    checkpoint = saved(OptimWrapperDict(a=parts[0], b=parts[1]), [*schedules[0], *schedules[1]])
    now = {"a": built(SCHEDULES["poly"]), "b": built(SCHEDULES["steps"], 0.2)}
    wrappers = OptimWrapperDict(**{name: wrapper for name, (wrapper, _) in now.items()})
    changed = restore(
        wrappers, {name: mine for name, (_, mine) in now.items()}, checkpoint, {}, (2, 10, LENGTH), "file"
    )
    assert changed["optim_wrapper.b.optimizer.lr"] == (0.1, 0.2) and not any(".a" in key for key in changed)
    assert options(wrappers["a"]) == options(parts[0])
    whole, schedulers = built(SCHEDULES["steps"], 0.2)
    assert step(*now["b"], 10, 30) == step(whole, schedulers, 0, 30)[10:]


def test_a_schedule_that_follows_the_metrics_cannot_be_changed():
    schedule = [dict(type="ReduceOnPlateauLR", monitor="loss", rule="less")]
    first, mine = built(schedule)
    step(first, mine, 0, 5)
    wrapper, schedulers = built(schedule)
    assert restore(wrapper, schedulers, saved(first, mine), {}, (1, 5, LENGTH), "file") == {}
    wrapper, schedulers = built(schedule, lr=0.5)
    with pytest.raises(
        UserError, match=r"optim_wrapper.optimizer.lr 0.1 -> 0.5.* cannot be told; resume with the same"
    ):
        restore(wrapper, schedulers, saved(first, mine), {}, (1, 5, LENGTH), "file")


@pytest.mark.parametrize(
    ("kind", "then", "now"),
    [("AdamW", {}, {"amsgrad": True}), ("RMSprop", {}, {"centered": True}), ("RMSprop", {}, {"momentum": 0.9})],
)
def test_options_whose_state_the_file_lacks_are_refused(kind, then, now):
    first, second = (
        OptimWrapper(getattr(torch.optim, kind)([torch.nn.Parameter(torch.ones(2))], lr=0.1, **extra))
        for extra in (then, now)
    )
    step(first, [], 0, 2)
    with pytest.raises(UserError, match="another optimizer"):
        restore(second, [], saved(first, []), {}, (0, 2, LENGTH), "file")


def run_with(runner, config: dict) -> tuple[list[float], str]:
    """Train; the learning rates of every step, and the log."""
    run = runner({**config, "log_level": "INFO", **dict.fromkeys(("val_dataloader", "val_evaluator", "val_cfg"))})
    rates: list[float] = []
    train_step = run.model.train_step

    def recorded(data, optim_wrapper):
        rates.append(optim_wrapper.get_lr()["lr"][0])
        return train_step(data, optim_wrapper)

    run.model.train_step = recorded
    run.train()
    return rates, Path(run.log_dir, f"{run.timestamp}.log").read_text()


def test_a_finished_run_goes_on_with_more_epochs_and_another_rate(runner, run_config):
    """Never at the end of the old schedule, where the learning rate is 0."""
    poly = {"type": "PolyLR", "eta_min": 0.0, "by_epoch": True, "convert_to_iter_based": True}
    wrapper = run_config()["optim_wrapper"]
    new = {"optimizer": {**wrapper["optimizer"], "lr": 0.2, "weight_decay": 1e-3}}
    short, long = ({"by_epoch": True, "max_epochs": number} for number in (1, 3))
    run_with(runner, run_config(train_cfg=short, param_scheduler=poly))
    rates, log = run_with(runner, run_config(train_cfg=long, param_scheduler=poly, optim_wrapper=new, resume=True))
    expected, _ = run_with(runner, run_config("whole", train_cfg=long, param_scheduler=poly, optim_wrapper=new))
    assert rates == expected[6:] and len(rates) == 12 and all(rates[:-1])
    line = next(line for line in log.splitlines() if "the config holds where it differs" in line)
    for change in ("lr 0.05 -> 0.2", "weight_decay 0.0001 -> 0.001", "train_cfg.max_epochs 1 -> 3"):
        assert change in line
    last = read_checkpoint(Path(run_config()["work_dir"]) / "epoch_3.pth")
    assert last["optimizer"]["param_groups"][0]["weight_decay"] == 1e-3


def test_other_batches_per_epoch_move_the_place_in_the_schedule(runner, run_config):
    schedule = {"type": "PolyLR", "eta_min": 0.01, "by_epoch": False, "end": 30}
    loader = run_config()["train_dataloader"]
    run_with(runner, run_config(param_scheduler=schedule, train_cfg={"by_epoch": True, "max_epochs": 1}))
    longer = {"param_scheduler": schedule, "train_dataloader": {**loader, "batch_size": 2}}
    rates, log = run_with(runner, run_config(**longer, resume=True))
    assert rates == run_with(runner, run_config("whole", **longer))[0][11:]
    assert "batch_size 4 -> 2" in log


def test_a_frozen_first_group_is_not_what_the_log_shows(runner, run_config):
    wrapper = run_config()["optim_wrapper"]
    frozen = {**wrapper, "paramwise_cfg": {"custom_keys": {"backbone": {"lr_mult": 0.0}}}}
    _, log = run_with(runner, run_config(optim_wrapper=frozen, param_scheduler=None))
    assert " lr: 5.0000e-02" in log and " lr: 0.0000e+00" not in log


def test_a_changed_loss_scale_is_not_the_checkpoints():
    class Scaled(OptimWrapper):
        scale = None

        def load_state_dict(self, state):
            self.scale = state.pop("loss_scaler", {}).get("scale")
            super().load_state_dict(state)

    def fresh() -> Scaled:
        return Scaled(torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1))

    state = {**fresh().state_dict(), "loss_scaler": {"scale": 7.0}}
    for now, expected in ((512, 7.0), (64, None)):
        wrapper = fresh()
        checkpoint = {"optimizer": dict(state), "meta": {"settings": {"optim_wrapper": {"loss_scale": 512}}}}
        changed = restore(wrapper, [], checkpoint, {"optim_wrapper": {"loss_scale": now}}, (0, 1, LENGTH), "file")
        assert wrapper.scale == expected
        assert changed == ({} if now == 512 else {"optim_wrapper.loss_scale": (512, 64)})


def test_a_rate_of_zero_is_said_once(runner, run_config):
    schedule = {"type": "PolyLR", "eta_min": 0.0, "by_epoch": True, "convert_to_iter_based": True, "end": 1}
    hooks = {"logger": {"type": "LoggerHook", "interval": 6}}
    _, log = run_with(runner, run_config(param_scheduler=schedule, default_hooks=hooks))
    lines = [line for line in log.splitlines() if "the learning rate is 0 since iteration" in line]
    assert len(lines) == 1 and "since iteration 6," in lines[0] and "WARNING" in lines[0]
    shown = [line for line in log.splitlines() if "Epoch(train)" in line]
    assert " lr: 0.0000e+00" not in shown[0] and " lr: 0.0000e+00" in shown[-1]
