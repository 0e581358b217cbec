"""Whole runs: what is written, that a resumed run ends as an uninterrupted one, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from draws import some

from mmrazor_lite.checkpoints import read_checkpoint, save_checkpoint
from mmrazor_lite.errors import UserError

VAL = ("val_dataloader", "val_evaluator", "val_cfg")


def without_val(config: dict) -> dict:
    return {**config, **dict.fromkeys(VAL)}


class Killed(Exception):
    """Stands for SIGKILL: nothing after it runs."""


def kill_at(runner, iteration: int) -> None:
    """Make the run stop dead before the given iteration trains."""
    step = runner.model.train_step

    def train_step(data, optim_wrapper):
        if optim_wrapper.batch_index == iteration:
            raise Killed
        return step(data, optim_wrapper)

    runner.model.train_step = train_step


def assert_equal(first, second, path: str = "") -> None:
    assert type(first) is type(second), path
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), path
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for key in first:
            assert_equal(first[key], second[key], f"{path}.{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), path
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_equal(*pair, f"{path}.{index}")
    else:
        assert first == second, path


def test_a_run_validates_max_and_min_and_writes_what_it_holds(runner, run_config):
    run = runner(run_config(train_cfg={"by_epoch": True, "max_epochs": 1}))
    run.train()
    folder = Path(run.work_dir)
    checkpoint = read_checkpoint(folder / "epoch_1.pth")
    assert Path((folder / "last_checkpoint").read_text()) == folder / "epoch_1.pth"
    meta = checkpoint["meta"]
    assert (meta["epoch"], meta["iter"], meta["seed"]) == (1, 6, 3)
    assert meta["mmrazor_lite"]["kind"] == "supernet"
    assert meta["mmrazor_lite"]["architecture"]["type"] == "ImageClassifier"
    metrics = run.val_loop.run()
    assert set(metrics) == {"max_subnet.accuracy/top1", "min_subnet.accuracy/top1"}
    assert not list(folder.glob(".*.tmp"))


def test_runs_of_one_second_do_not_share_their_loggers(monkeypatch, runner, run_config):
    monkeypatch.setattr("mmengine.runner.runner.time.strftime", lambda *args: "20260101_000000")
    runs = [runner(run_config()) for _ in range(3)]
    kept = [(run.log_dir, id(run.logger), id(run.message_hub), id(run.visualizer)) for run in runs]
    assert all(len(set(column)) == len(runs) for column in zip(*kept, strict=True))


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_without_workers_their_options_do_not_matter(runner, run_config, loader):
    config = run_config(train_cfg={"by_epoch": True, "max_epochs": 1})
    config[loader] = {**config[loader], "num_workers": 0, "persistent_workers": True, "prefetch_factor": 2}
    run = runner(config)
    run.train()
    built = (run.train_loop if loader == "train_dataloader" else run.val_loop).dataloader
    assert not built.persistent_workers and built.prefetch_factor is None


def test_images_that_make_no_batch_are_refused(runner, run_config):
    config = run_config()
    config["train_dataloader"] = {**config["train_dataloader"], "batch_size": 23, "drop_last": True}
    with pytest.raises(UserError, match="22 images make no batch of 23 with drop_last=True"):
        runner(config).train()


def test_a_refused_run_leaves_the_config_of_the_one_before(runner, run_config):
    run = runner(run_config(train_cfg={"by_epoch": True, "max_epochs": 1}))
    run.train()
    files = {path: path.read_text() for path in Path(run.work_dir).glob("*.py")}
    assert files
    with pytest.raises(UserError):
        runner(run_config(load_from="nowhere.pth")).train()
    assert {path: path.read_text() for path in Path(run.work_dir).glob("*.py")} == files


@pytest.mark.parametrize(
    ("section", "options"),
    [
        ("optim_wrapper", {"optim_wrapper": {"optimizer": {"type": "SGD", "lr": -1}}}),
        ("train_cfg", {"train_cfg": {"by_epoch": True, "max_epochs": "many"}}),
        ("train_dataloader", {"train_dataloader": {"batch_size": 0}}),
    ],
)
def test_what_cannot_be_built_names_its_section(runner, run_config, section, options):
    config = run_config()
    for key, value in options.items():
        config[key] = {**config[key], **value}
    with pytest.raises(UserError, match=f"^{section} cannot be built: .*MMRAZOR_LITE_TRACEBACK=1"):
        runner(config).train()


@pytest.mark.parametrize("workers", some([0, 2], 0))  # with workers, in make test: tests/robustness
def test_resumed_equals_uninterrupted(runner, run_config, workers):
    """Killed in the second epoch, resumed from the end of the first; validation in between must not matter."""
    whole = runner(run_config("whole", workers))
    whole.train()
    killed = runner(run_config("part", workers))
    kill_at(killed, 9)
    with pytest.raises(Killed):
        killed.train()
    resumed = runner(without_val(run_config("part", workers, resume=True)))
    resumed.train()
    assert resumed.iter == 18
    names = ("whole", "part")
    folders = [Path(whole.work_dir).parent / name / "epoch_3.pth" for name in names]
    assert_equal(*(read_checkpoint(path) for path in folders))
    assert folders[0].read_bytes() == folders[1].read_bytes()


def by_iterations(config: dict, loop: dict) -> dict:
    hooks = {"checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": 4}}
    scheduler = {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": 15}
    return {**without_val(config), "train_cfg": loop, "default_hooks": hooks, "param_scheduler": scheduler}


BY_ITERATION = {"by_epoch": False, "max_iters": 15, "val_interval": 100}
BY_EPOCH = {"by_epoch": True, "max_epochs": 3}


@pytest.mark.parametrize(
    ("loop", "iteration", "newest"),
    some(
        [(loop, *kill) for loop in (BY_ITERATION, BY_EPOCH) for kill in ((10, "iter_8.pth"), (13, "iter_12.pth"))],
        (BY_ITERATION, 10, "iter_8.pth"),
        (BY_EPOCH, 13, "iter_12.pth"),
    ),
)
def test_resumed_equals_uninterrupted_by_iterations(runner, run_config, loop, iteration, newest):
    """Checkpoints within an epoch, or after its last batch: the resumed run reads on from there."""
    whole = runner(by_iterations(run_config("whole"), loop))
    whole.train()
    killed = runner(by_iterations(run_config("part"), loop))
    kill_at(killed, iteration)
    with pytest.raises(Killed):
        killed.train()
    assert (Path(killed.work_dir) / "last_checkpoint").read_text().endswith(newest)
    resumed = runner(by_iterations(run_config("part", resume=True), loop))
    resumed.train()
    last = (Path(whole.work_dir) / "last_checkpoint").read_text().rpartition("/")[2]
    files = [Path(run.work_dir) / last for run in (whole, resumed)]
    assert_equal(*(read_checkpoint(path) for path in files))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_resume_without_a_checkpoint_starts_from_the_beginning(runner, run_config):
    run = runner(without_val(run_config(resume=True, train_cfg={"by_epoch": True, "max_epochs": 1})))
    run.train()
    assert run.iter == 6


def test_seed_of_the_checkpoint_goes_on(runner, run_config):
    config = without_val(run_config(train_cfg={"by_epoch": True, "max_epochs": 1}))
    runner(config).train()
    resumed = runner({**config, "resume": True, "randomness": {"seed": 8}})
    resumed.train()
    assert resumed.seed == resumed.algorithm.seed == resumed.train_dataloader.sampler.seed == 3


def test_a_moved_work_dir_resumes(runner, run_config, tmp_path):
    runner(without_val(run_config("old", train_cfg={"by_epoch": True, "max_epochs": 1}))).train()
    (tmp_path / "old").rename(tmp_path / "new")
    resumed = runner(without_val(run_config("new", resume=True)))
    resumed.load_or_resume()
    assert resumed.epoch == 1


def test_nan_stops_with_step_and_subnet_and_keeps_the_last_checkpoint(runner, run_config):
    run = runner(without_val(run_config()))
    parameter = next(run.algorithm.parameters())

    def poison(optimizer, args, kwargs):
        if run.optim_wrapper.batch_index == 8:
            with torch.no_grad():
                parameter.fill_(float("nan"))

    run.optim_wrapper = run.build_optim_wrapper(run.optim_wrapper)
    run.optim_wrapper.optimizer.register_step_post_hook(poison)
    with pytest.raises(UserError, match="step 8: the loss of max_subnet is nan"):
        run.train()
    folder = Path(run.work_dir)
    assert sorted(path.name for path in folder.glob("*.pth")) == ["epoch_1.pth"]
    assert (folder / "last_checkpoint").read_text().endswith("epoch_1.pth")


def test_weights_that_are_not_finite_are_never_written(runner, run_config):
    """The last update of an epoch spoils them: no loss shows it before the checkpoint is due."""
    run = runner(without_val(run_config()))
    parameter = next(run.algorithm.parameters())

    def poison(optimizer, args, kwargs):
        if run.optim_wrapper.batch_index == 12:
            with torch.no_grad():
                parameter[0].fill_(float("inf"))

    run.optim_wrapper = run.build_optim_wrapper(run.optim_wrapper)
    run.optim_wrapper.optimizer.register_step_post_hook(poison)
    with pytest.raises(UserError, match=r"not finite, so epoch_2\.pth was not written"):
        run.train()
    assert [path.name for path in Path(run.work_dir).glob("*.pth")] == ["epoch_1.pth"]


@pytest.fixture
def trained(runner, run_config) -> Path:
    run = runner(without_val(run_config("trained", train_cfg={"by_epoch": True, "max_epochs": 1})))
    run.train()
    return Path(run.work_dir) / "epoch_1.pth"


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("resume", [False, True])
def test_nothing_in_a_checkpoint_is_executed(runner, run_config, trained, tmp_path, resume):
    mark, path = tmp_path / "executed", tmp_path / "bad.pth"
    checkpoint = read_checkpoint(trained)
    config = without_val(run_config("next", load_from=str(path), resume=resume))
    with open(path, "wb") as file:
        torch.save({**checkpoint, "payload": Payload(mark)}, file, pickle_module=pickle)
    with pytest.raises(UserError, match="refused"):
        runner(config).train()
    code = f"import pathlib; pathlib.Path({str(mark)!r}).touch()"
    save_checkpoint({**checkpoint, "meta": {**checkpoint["meta"], "config": code, "cfg": code}}, path)
    runner({**config, "train_cfg": {"by_epoch": True, "max_epochs": 1}}).train()
    assert not mark.exists()


def test_a_checkpoint_of_another_architecture_changes_nothing(runner, run_config, trained):
    config = without_val(run_config("next", load_from=str(trained)))
    config["model"]["architecture"]["head"]["num_classes"] = 7
    run = runner(config)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    with pytest.raises(UserError, match=r"head.fc.weight \(5, 16\) in the file and \(7, 16\)"):
        run.load_or_resume()
    assert_equal(before, dict(run.model.state_dict()))


def test_what_is_no_number_in_an_optimizer_is_not_resumed(runner, run_config, trained, tmp_path):
    content = read_checkpoint(trained)
    momentum = content["optimizer"]["state"][1]["momentum_buffer"]
    config = without_val(run_config("next", load_from=str(tmp_path / "a.pth"), resume=True))
    for value in ("nan", "inf"):
        momentum[0] = float(value)
        save_checkpoint(content, tmp_path / "a.pth")
        run = runner(config)
        if value == "nan":
            with pytest.raises(UserError, match=r"a\.pth cannot be resumed: state\.1\.momentum_buffer .* not a number"):
                run.load_or_resume()
        else:  # an overflow of Adam's second moment, for one, only stops its parameter
            run.load_or_resume()


def test_weights_alone_cannot_be_resumed(runner, run_config, trained, tmp_path):
    path = tmp_path / "weights.pth"
    save_checkpoint({"state_dict": read_checkpoint(trained)["state_dict"]}, path)
    with pytest.raises(UserError, match="cannot be resumed, it holds weights only"):
        runner(without_val(run_config("next", load_from=str(path), resume=True))).train()


def test_a_run_of_another_program_cannot_be_resumed(runner, run_config, trained, tmp_path):
    """As MMRazor writes it: of the same names, with an optimizer, and without a word of what it is of."""
    content = read_checkpoint(trained)
    content["meta"].pop("mmrazor_lite")
    save_checkpoint(content, tmp_path / "a.pth")
    run = runner(without_val(run_config("next", load_from=str(tmp_path / "a.pth"), resume=True)))
    with pytest.raises(UserError, match="a.pth cannot be resumed: another program wrote it, .* load_from"):
        run.load_or_resume()


def test_another_optimizer_cannot_be_resumed(runner, run_config, trained):
    config = without_val(run_config("next", load_from=str(trained), resume=True))
    adam = {"optimizer": {"type": "AdamW", "lr": 0.05}}
    with pytest.raises(UserError, match=r"another optimizer \(optim_wrapper.optimizer.type SGD -> AdamW\)"):
        runner({**config, "optim_wrapper": adam}).train()
    wrapper = {**config["optim_wrapper"], "paramwise_cfg": {"norm_decay_mult": 0.0}}
    with pytest.raises(UserError, match="trained with another optimizer"):
        runner({**config, "optim_wrapper": wrapper}).train()


def test_random_weights_are_never_tested(runner, run_config, trained):
    config = run_config("test")
    for key in ("optim_wrapper", "param_scheduler", "train_cfg"):
        config.pop(key)
    config |= {"test_" + key.removeprefix("val_"): config.pop(key) for key in VAL}
    train_dataloader = config.pop("train_dataloader")
    config["test_cfg"] = {"calibrate_sample_num": 8, "calibrate_dataloader": train_dataloader}
    with pytest.raises(UserError, match="no weights to test"):
        runner(config).test()
    metrics = runner({**config, "load_from": str(trained)}).test()
    config["model"]["init_cfg"] = {"type": "Pretrained", "checkpoint": str(trained)}
    assert runner(config).test() == metrics


def test_joint_training_splits_into_files_that_plain_networks_test(runner, run_config, tmp_path):
    """joint training -> split -> test of one subnet: equal accuracy; and a plain run's checkpoint loads by itself."""
    from mmrazor_lite import load_subnet
    from mmrazor_lite.export import split
    from mmrazor_lite.subnet import write_subnet

    config = run_config("joint", train_cfg={"by_epoch": True, "max_epochs": 1})
    space = runner(config).algorithm.search_space
    paths = [str(tmp_path / name) for name in ("A.yaml", "B.yaml")]
    for path, subnet in zip(paths, (space.max(), space.min()), strict=True):
        write_subnet(path, subnet, space)
    config["model"]["channel_cfg"] = paths
    joint = runner(config)
    joint.train()
    metrics = joint.val_loop.run()
    split(joint.algorithm, Path(joint.work_dir) / "epoch_1.pth", paths, tmp_path / "split")
    for number, path in enumerate(paths, start=1):
        config["model"]["channel_cfg"] = path
        load_from = str(tmp_path / "split" / f"checkpoint_{number}.pth")
        assert runner({**config, "load_from": load_from}).val() == {
            "accuracy/top1": metrics[f"subnet_{number}.accuracy/top1"]
        }
    with pytest.raises(UserError, match="holds another subnet than algorithm.channel_cfg"):
        runner({**config, "load_from": str(tmp_path / "split" / "checkpoint_1.pth")}).val()
    plain = runner({**without_val(config), "work_dir": str(tmp_path / "plain")})
    plain.train()
    loaded = load_subnet(Path(plain.work_dir) / "epoch_1.pth")
    images = torch.randn(2, 3, 8, 8)
    plain.algorithm.eval()
    assert torch.equal(loaded(images), plain.algorithm(images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"randomness": {"seed": 0, "diff_rank_seed": True}}, "diff_rank_seed: remove it"),
        ({"sync_bn": "torch"}, "sync_bn: the norms are part of the search space"),
        ({"model_wrapper_cfg": {"type": "MMDistributedDataParallel"}}, "allowed is SubnetDDP"),
        ({"default_hooks": {"checkpoint": {"type": "CheckpointHook", "max_keep_ckpt": 3}}}, "mean 'max_keep_ckpts'"),
    ],
)
def test_options_that_would_do_harm_are_refused(runner, run_config, change, message):
    with pytest.raises(UserError, match=message):
        runner(run_config(**change))
