"""Config files of MMRazor 0.x with their bases, helper variables and overrides: trained, searched, retrained."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from migration.v0_layout import CLASSES, autoslim

from mmrazor_lite.cli import main
from mmrazor_lite.config import load_config
from mmrazor_lite.errors import UserError

BASES = "_base_ = ['../../_base_/images.py', '../../_base_/schedule.py', '../../_base_/runtime.py']\n"
SEARCH = (
    "_base_ = ['./supernet.py']\nalgorithm = dict(distiller=None)\n"
    "searcher = dict(type='GreedySearcher', target_flops=[5e8], max_channel_bins=4, metrics='accuracy',\n"
    "                metric_options=dict(topk=(1, )))\n"
)
SUBNET = (
    "_base_ = ['./supernet.py']\nchannel_cfg = 'https://download.openmmlab.com/of_another_net.yaml'\n"
    "algorithm = dict(distiller=None, retraining=True, bn_training_mode=False, channel_cfg=channel_cfg)\n"
    "runner = dict(type='EpochBasedRunner', max_epochs=1)\nfind_unused_parameters = True\n"
)
FOLDERS = {"images": ("data",), "schedule": ("optimizer", "optimizer_config", "lr_config", "runner")}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Configs in the folders of 0.x, and a few images."""
    root = tmp_path_factory.mktemp("checkout")
    generator = np.random.default_rng(0)
    for part, count in (("train", 3), ("val", 1)):
        for number in range(CLASSES):
            for image in range(count):
                path = root / "images" / part / f"class_{number}" / f"{image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), generator.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    config = autoslim()
    config["data"] = _in(root, config["data"])
    algorithm = config.pop("algorithm")
    (root / "configs/_base_").mkdir(parents=True)
    (root / "configs/pruning/net").mkdir(parents=True)
    for name, keys in FOLDERS.items():
        _write(root / f"configs/_base_/{name}.py", {key: config.pop(key) for key in keys})
    _write(root / "configs/_base_/runtime.py", config)
    model = algorithm["architecture"].pop("model")
    model["backbone"] |= {"norm_cfg": "norm_cfg", "settings": [[1, 12, 1, 1]]}
    text = f"{BASES}norm_cfg = dict(type='BN')\nmodel = {model!r}\nalgorithm = {algorithm!r}\n"
    text = text.replace("'norm_cfg': 'norm_cfg'", "'norm_cfg': norm_cfg")  # helper variables, as people write them
    text = text.replace("{'type': 'MMClsArchitecture'}", "{'type': 'MMClsArchitecture', 'model': model}")
    (root / "configs/pruning/net/supernet.py").write_text(text)
    return root


def _in(root: Path, data: dict) -> dict:
    parts = {
        key: {**data[key], "data_prefix": f"{root}/{data[key]['data_prefix']}"} for key in ("train", "val", "test")
    }
    return {**data, **parts}


def _write(path: Path, keys: dict) -> None:
    path.write_text("".join(f"{key} = {value!r}\n" for key, value in keys.items()))


def step(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def test_each_step_takes_what_the_one_before_wrote(checkout, tmp_path):
    folder, sizes = checkout / "configs/pruning/net", ["--cfg-options", "data.samples_per_gpu=9"]
    step("train", folder / "supernet.py", "--work-dir", tmp_path / "w1", *sizes, "runner.max_epochs=1")
    (folder / "search.py").write_text(SEARCH)
    target = "search_cfg.target_flops=[95%]"  # in our words, beside one of theirs
    step("search", folder / "search.py", tmp_path / "w1/epoch_1.pth", "--work-dir", tmp_path / "w2", *sizes, target)
    (found,) = (tmp_path / "w2").glob("subnet_*.yaml")
    (folder / "subnet.py").write_text(SUBNET)
    subnet = f"algorithm.channel_cfg={found}"
    step("train", folder / "subnet.py", "--work-dir", tmp_path / "w3", *sizes, subnet)
    step("test", folder / "subnet.py", tmp_path / "w3/epoch_1.pth", *sizes, subnet)


def load(checkout: Path, text: str, *options: str):
    path = checkout / "configs/pruning/net/tried.py"
    path.write_text("_base_ = ['./supernet.py']\n" + text)
    return load_config(path, options)


def test_overrides_are_in_the_words_of_the_file_and_in_ours(checkout):
    options = ["data.train_dataloader.drop_last=True", "optimizer.lr=0.3", "algorithm.num_sample_training=3"]
    options += ["val_cfg.calibrate_sample_num=7", "model.init_cfg.type=Pretrained", "fp16.loss_scale=dynamic", "seed=5"]
    cfg = load(checkout, "", *options)
    assert cfg.train_dataloader.drop_last is True and cfg.optim_wrapper.optimizer.lr == 0.3
    assert (cfg.model.num_random_samples, cfg.val_cfg.calibrate_sample_num, cfg.randomness.seed) == (1, 7, 5)
    assert cfg.model.init_cfg.type == "Pretrained" and cfg.optim_wrapper.loss_scale == "dynamic"
    for option, said in (
        ("norm_cfg.type=SyncBN", "norm_cfg.type: 'norm_cfg' is a helper variable"),
        ("model.head.num_classes=5", "model.head.num_classes: 'model' is a helper variable"),
        ("optimiser.lr=1", "did you mean 'optim"),
        ("data.trian.pipeline=[]", "data.trian: unknown key (did you mean 'train'?)"),
        ("runner.max_epochs.x=1", "runner.max_epochs is a int"),
    ):
        with pytest.raises(UserError) as error:
            load(checkout, "", option)
        assert said in str(error.value)


def test_all_problems_of_a_file_are_one_line(checkout):
    text = "lr_config = dict(policy='polly', _delete_=True)\nrunner = dict(max_iters=3)\noptimiser = dict(lr=1)\n"
    text += (
        "algorithm = dict(num_samples=3, distiller=None)\nworkflow = [('test', 1)]\nmine = 3\nother = dict(a=mine)\n"
    )
    with pytest.raises(UserError) as error:
        load(checkout, text)
    line = str(error.value)
    assert "\n" not in line and "mine" not in line
    for said in (
        "lr_config.policy='polly'",
        "runner.max_iters=3",
        "optimiser: nothing reads it (did you mean 'optimizer'?)",
        "algorithm.num_samples: unknown key",
        "algorithm.distiller=None",
        "workflow=",
        "other: nothing reads it",
    ):
        assert said in line


def test_both_generations_in_one_file_are_one_line(checkout):
    with pytest.raises(
        UserError, match="keys of MMRazor 0.x .*algorithm.* beside those of 1.x .param_sch.*tion$"
    ) as said:
        load(checkout, "param_scheduler = dict(type='PolyLR')\nfree = 1\n_own = free\nfp16 = None\n")
    assert "free" not in str(said.value)
    with pytest.raises(UserError, match="keys of MMRazor 0.x.*; unknown key 'optim_wraper' .*mean 'optim_wrapper'"):
        load(checkout, "param_scheduler = dict(type='PolyLR')\noptim_wraper = dict(lr=1)\n")
