"""Values of a config that make no sense are refused when it is loaded, whatever step it is for."""

from __future__ import annotations

import functools
import operator
import random
import sys
from pathlib import Path

import pytest

from mmrazor_lite.cli import main
from mmrazor_lite.config.annotations import fits, may_fit, parameters_of
from mmrazor_lite.config.load import load_config
from mmrazor_lite.errors import UserError, check_number, one_line, short

AUTOSLIM = "configs/pruning/autoslim"

NONSENSE = {  # option -> what the line says
    "log_level=debug": "did you mean 'DEBUG'",
    "train_cfg.val_interval=0": "a whole number of 1 or more",
    "train_cfg.max_epochs=-3": "a whole number of 1 or more",
    "train_cfg.max_epochs=2.5": "a whole number of 1 or more",
    "param_scheduler.end=abc": "a whole number of 1 or more",
    "param_scheduler.T_max=0": "param_scheduler",
    "randomness.seed=-1": "from 0 to 4294967295",
    "val_evaluator.topk=abc": "a whole number of 1 or more, or a list",
    "val_evaluator=[5]": "a dict, or a list of them",
    "optim_wrapper.optimizer.lr=-5": "a number of 0 or more",
    "optim_wrapper.optimizer.nesterov=maybe": "True or False",
    "optim_wrapper.clip_grad.max_norm=0": "a number above 0",
    "channels_last=banana": "True or False",
    "default_hooks.checkpoint.interval=x": "a whole number",
    "default_hooks.logger.interval=0": "a whole number of 1 or more",
    "default_hooks.timer=5": "give a dict",
    "env_cfg.mp_cfg.mp_start_method=banana": "'spawn'",
    "env_cfg.dist_cfg=5": "give a dict",
    "train_dataloader.batch_size=0": "a whole number of 1 or more",
    "train_dataloader.sampler=banana": "give a dict",
    "data_preprocessor.std=[1,0,1]": "a number above 0",
    "train_dataloader.dataset.dataset.indices=0": "takes no image",
    "search_cfg.dataloader.dataset.dataset.indices=[]": "takes no image",
    "val_dataloader.dataset.indices=banana": "give a whole number, a list of them or None",
    "data_preprocessor.mean=None": "std is given alone",
    "data_preprocessor.std=None": "mean is given alone",
    "optim_wrapper.clip_grad=dict(norm_type=2)": "give max_norm too",
    "optim_wrapper.clip_grad=dict(type=value)": "give clip_value too",
    "model=5": "give a dict",
    "model.type=[a,b]": "the name of a class",
    "model.architecture=5": "give a dict",
    "model.num_random_samples=two": "a whole number",
    "model.init_cfg=banana": "a dict, or a list of them",
    "model.distiller.tau=nan": "tau is nan",
    "launcher=banana": "'slurm'",
    "runner_type=banana": "'RazorRunner'",
    "custom_hooks=banana": "a dict, or a list of them",
    "model_wrapper_cfg.process_group=5": "a config does not say this",
    "custom_imports=dict(imports=os)": "read with the config file",
    "search_cfg.work_dir=elsewhere": "no 'work_dir' in search_cfg",
    "search_cfg.score_key=5": "give text",
    "optim_wrapper.optimizer.lr=-0.0": "lr is -0.0: give 0, or another number",
    "model.channel_cfg=-0.0": "channel_cfg is -0.0",
    "optim_wrapper.optimizer.lr=1e-400": "1e-400 is too small",
    "optim_wrapper.optimizer.betas=[0.9,-.5E-999]": "-.5E-999 is too small",
    "param_scheduler.0=dict(type='ConstantLR',factor=0.1e-330)": "0.1e-330 is too small",
    "val_evaluator=[]": "a list of at least one",
    "search_cfg.evaluator=[]": "a list of at least one",
    "model.distiller=[]": "a list of at least one",
    "model.architecture.backbone=[]": "a list of at least one",
    "val_evaluator.topk=[0]": "a whole number of 1 or more",
    "search_cfg.evaluator.topk=[]": "a whole number of 1 or more",
    "model.architecture.head.topk=0": "a whole number of 1 or more",
    "model.architecture=[]": "give a dict",
    "model.data_preprocessor=[0]": "give a dict",
    "search_cfg.latency_table=[]": "search_cfg.latency_table",
    "train_dataloader.dataset.dataset=[]": "give a dict",
    "model.init_cfg=dict(type='Pretrained',": "quote a pair with spaces",
    f"randomness.seed={'9' * 4000}": "from 0 to 4294967295",
    f"work_dir={'[' * 100}{']' * 100}": "levels deep",
}


@pytest.mark.parametrize("option", NONSENSE, ids=lambda option: option[:40])
def test_nonsense_is_refused_in_a_search_config_too(root, option):
    """Also in sections that the step of the config does not read."""
    config = root / AUTOSLIM / "autoslim_search_digits.py"
    with pytest.raises(UserError) as error:
        load_config(config, [option])
    line = one_line(error.value)
    assert NONSENSE[option] in line and len(line) < 400, line


TAKEN = {
    "train_cfg.max_epochs=1e1": 10.0,
    "randomness.seed=None": None,
    "optim_wrapper.optimizer.lr=1": 1,
    "optim_wrapper.optimizer.lr=0.0e5": 0.0,
    "optim_wrapper.optimizer.lr=5e-324": 5e-324,
    "optim_wrapper.clip_grad=dict(max_norm=5,norm_type=inf)": {"max_norm": 5, "norm_type": float("inf")},
    "optim_wrapper.clip_grad=dict(type=value,clip_value=5)": {"type": "value", "clip_value": 5},
    "data_preprocessor=dict(mean=None,std=None)": {
        "type": "ClsDataPreprocessor",
        "num_classes": 10,
        "mean": None,
        "std": None,
        "to_rgb": False,
    },
    "val_dataloader.dataset.indices=-5": -5,
    "val_dataloader.dataset.indices=[3,0]": [3, 0],
    "resume=0": 0,
    "param_scheduler.begin=0": 0,
    "param_scheduler=[]": [],
    "val_evaluator.topk=[1,5]": [1, 5],
    "model.architecture.head.topk=1": 1,
    "default_hooks.checkpoint=None": None,
    "custom_hooks=[]": [],
    "experiment_name=v1e-400": "v1e-400",
    "log_level=WARNING": "WARNING",
}


@pytest.mark.parametrize("option", TAKEN)
def test_what_makes_sense_is_taken(root, option):
    config = load_config(root / AUTOSLIM / "autoslim_search_digits.py", [option])
    assert functools.reduce(operator.getitem, option.partition("=")[0].split("."), config) == TAKEN[option]


@pytest.mark.parametrize("count", [8, pytest.param(None, marks=pytest.mark.fuzz)])
def test_no_value_of_a_published_config_is_refused(count):
    """mmpretrain's own configs: whatever else speaks against one, it is not a value."""
    import mmpretrain

    files = sorted(Path(mmpretrain.__file__).parent.glob(".mim/configs/*/*.py"))
    files = [file for file in files if file.parent.name != "_base_"]
    assert len(files) > 400
    for file in files if count is None else random.Random(0).sample(files, count):
        try:
            load_config(file)
        except UserError as error:
            told = str(error).replace("runner_type='FlexibleRunner': allowed are", "")  # of large models, not ours
            assert ": give " not in told and ": allowed are" not in told, error


def test_types_of_signatures():
    assert fits(3, float) and fits([1, 2], tuple[int, int]) and fits(1, bool) and fits(None, int | None)
    assert not fits(3.5, int) and not fits(True, int) and not fits("a", list[str]) and not fits(2, bool)
    assert may_fit((0, 1), int) and not may_fit("abc", int) and not may_fit(["a"], list[int] | int)

    class Base:
        def __init__(self, size: int = 3) -> None: ...

    class Child(Base):
        def __init__(self, name: str, **kwargs) -> None: ...

    assert parameters_of(Child)["size"] == (int, 3) and parameters_of(Child)["name"][0] is str


def test_messages_are_short_whatever_the_value_is():
    assert len(short("x" * 10_000)) <= 120 and len(short([[["y" * 999] * 99] * 99] * 99)) <= 120
    assert "digits" in short(10**5000)
    with pytest.raises(UserError, match="give a whole number of 1 or more"):
        check_number("key", 10**5000, 1, whole=True)
    line = one_line(UserError(f"file '/{'a' * 10_000}/name.py' not found\nin {'b ' * 5000}"))
    assert len(line) <= 1200 and "\n" not in line


def test_a_checkpoint_beside_the_one_of_the_command(root, capsys, tmp_path):
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).touch()
    for step in ("search", "test"):
        words = [step, root / AUTOSLIM / "autoslim_search_digits.py", tmp_path / "a.pth", "--work-dir", tmp_path / "w"]
        assert main([*map(str, words), "--cfg-options", f"load_from={tmp_path}/b.pth"]) == 2
        assert "would not be read" in capsys.readouterr().err


def test_a_config_file_that_raises(tmp_path):
    (tmp_path / "config.py").write_text("x = 1 / 0\n")
    with pytest.raises(UserError, match=r"config\.py' cannot be read: ZeroDivisionError"):
        load_config(tmp_path / "config.py")


def test_a_number_of_a_config_file_that_reads_as_zero(tmp_path):
    (tmp_path / "base.py").write_text("decay = 0.0\nlr = [0.1,\n      1_0e-40_0]\n")
    (tmp_path / "config.py").write_text("_base_ = './base.py'\n")
    with pytest.raises(UserError, match=r"base\.py: line 3: 10e-400 is too small"):
        load_config(tmp_path / "config.py")


def test_a_config_file_that_is_based_on_itself(tmp_path):
    (tmp_path / "a.py").write_text("_base_ = ['./b.py']\n")
    (tmp_path / "b.py").write_text("_base_ = ['./a.py']\n")
    with pytest.raises(UserError, match=r"a\.py is a _base_ of itself; take it out of the _base_ of .*b\.py"):
        load_config(tmp_path / "a.py")


def test_an_option_imports_no_folder_that_happens_to_be_here(root, tmp_path, monkeypatch):
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "broken.py").write_text("raise RuntimeError('no')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    config = root / AUTOSLIM / "autoslim_search_digits.py"
    with pytest.raises(UserError, match="not registered"):
        load_config(config, ["optim_wrapper.optimizer.type=no_such_package.SGD"])
    assert str(tmp_path) not in sys.path
    with pytest.raises(UserError, match=r"'broken\.SGD' cannot be imported: RuntimeError: no"):
        load_config(config, ["optim_wrapper.optimizer.type=broken.SGD"])
