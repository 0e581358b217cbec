"""Configs of SPOS in the spelling of MMRazor 1.x load, and take its users through search and retraining."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mmrazor_lite.cli import main
from mmrazor_lite.cli.search import is_search, search_settings
from mmrazor_lite.config.build import build_model
from mmrazor_lite.config.load import load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.mutables import MutableOP

CONFIGS = Path(__file__).parent / "mmrazor_1x"


def load(name: str, *options: str):
    return load_config(CONFIGS / f"{name}.py", options)


def test_names_become_those_of_here():
    cfg = load("supernet")
    assert cfg.model.type == "mmrazor_lite.SPOS" and cfg.model.mutator.type == "mmrazor_lite.NasMutator"
    choice = cfg.model.architecture.backbone.arch_setting[0][2]
    assert choice.type == "mmrazor_lite.OneShotMutableOP" and "_scope_" not in choice
    assert cfg.model.architecture._scope_ == "mmpretrain"
    assert cfg.val_cfg.type == "mmrazor_lite.SubnetValLoop"
    assert cfg.train_dataloader.dataset.pipeline[0].type == "mmpretrain.PackInputs"
    assert cfg.default_scope == "mmpretrain"


def test_supernet_has_the_choices_of_the_config():
    model = build_model(load("supernet"))
    assert {name: choice.candidates for name, choice in model.search_space.items()} == {
        f"backbone.layers.0.{block}": ("shuffle_3x3", "shuffle_xception") for block in (0, 1)
    }
    norms = [part.eps for part in model.architecture.backbone.layers[0].modules() if hasattr(part, "running_mean")]
    assert norms and set(norms) == {0.001}


def test_search_is_one_and_recalibrates_on_training_images():
    cfg = load("search")
    assert is_search(cfg) and not is_search(load("supernet")) and not is_search(load("subnet"))
    settings = search_settings(cfg, "search.py")
    assert settings["num_candidates"] == 2 and settings["constraints_range"] == {"flops": (0, 330)}
    assert settings["calibrate_dataloader"] == cfg.train_dataloader
    off = search_settings(load("search", "train_cfg.calibrate_sample_num=0"), "search.py")
    assert "calibrate_dataloader" not in off


def test_subnet_is_a_plain_network():
    cfg = load("subnet")
    assert cfg.model.type == "mmrazor_lite.sub_model" and cfg.model_wrapper_cfg is None
    model = build_model(cfg)
    assert dict(model.subnets[0]) == {
        "backbone.layers.0.0": "shuffle_xception",
        "backbone.layers.0.1": "shuffle_3x3",
    }
    assert not [part for part in model.modules() if isinstance(part, MutableOP)]


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("subnet", "model.fix_subnets=x.yaml", "no 'fix_subnets' in model .did you mean 'fix_subnet'"),
        ("subnet", "model.cfg.backbone.widen_facto=2", "did you mean 'widen_factor'"),
        ("subnet", "model.cfg.head.num_clases=2", "did you mean 'num_classes'"),
        ("subnet", "model.cfg.type=ImageClasifier", "model.cfg.type is 'ImageClasifier'.*'ImageClassifier'"),
        ("search", "train_cfg.num_mutations=2", "did you mean 'num_mutation'"),
    ],
)
def test_mistakes_are_named(name, option, message):
    with pytest.raises(UserError, match=message):
        load(name, option)


def test_supernet_search_retraining_and_test(capsys, tmp_path):
    w1, w2, w3 = (tmp_path / f"W{number}" for number in (1, 2, 3))
    supernet = f"load_from={w1 / 'iter_4.pth'}"
    best = f"model.init_cfg.checkpoint={w2 / 'best_subnet.pth'}"
    short = ["train_cfg.max_iters=1", "train_cfg.val_interval=1", "default_hooks.checkpoint.interval=1"]
    steps = [
        ["train", CONFIGS / "supernet.py", "--work-dir", w1],
        [
            "train",
            CONFIGS / "search.py",
            "--work-dir",
            w2,
            "--cfg-options",
            supernet,
            "train_cfg.calibrate_sample_num=64",
        ],
        ["train", CONFIGS / "subnet.py", "--work-dir", w3, "--cfg-options", best, *short],
        ["test", CONFIGS / "subnet.py", w3 / "iter_1.pth", "--work-dir", w3],
    ]
    for words in steps:
        assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    assert "subnet: the one that" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("val_cfg.evaluate_fixed_subnet=True", "evaluate_fixed_subnet=True: the model is no fixed subnet"),
        ("val_cfg.estimator_cfg.flops_params_cfg.input_shape=(1,3,224,224)", "input_shape .* is not the model's"),
    ],
)
def test_options_of_the_validation_that_would_change_nothing(capsys, tmp_path, option, message):
    words = ["train", str(CONFIGS / "supernet.py"), "--work-dir", str(tmp_path), "--cfg-options", option]
    assert main(words) == 2
    assert re.search(message, capsys.readouterr().err)
