"""Configs of SPOS in the spelling of MMRazor 1.x load, and take its users through search and retraining."""

from __future__ import annotations

import json
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
    assert settings["searcher"]["num_candidates"] == 2 and settings["constraints_range"] == {"flops": (0, 330)}
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


SHORT = ["train_cfg.max_iters=1", "train_cfg.val_interval=1", "default_hooks.checkpoint.interval=1"]
UNITS = {  # two subnets: half of every layer and all of it
    f"{name}_(0, {full})_{full}": {"init_args": {"num_channels": full, "candidate_choices": [full // 2, full]}}
    for name, full in (
        ("backbone.conv1.conv", 8),
        ("backbone.layer2.0.conv.0.conv", 16),
        ("backbone.layer2.0.conv.2.conv", 16),
        ("backbone.conv2.conv", 32),
    )
}


def run(capsys, *words) -> str:
    """Run one command; return what it said."""
    assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.wide
def test_widths_from_a_supernet_by_a_search_in_a_test_to_several_subnets_and_one(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("units.json").write_text(json.dumps(UNITS))
    run(capsys, "train", CONFIGS / "slim_supernet.py", "--work-dir", "W1", "--cfg-options", *SHORT)
    run(capsys, "test", CONFIGS / "slim_search.py", "W1/iter_1.pth", "--work-dir", "W2", "--cfg-options",
        "test_cfg.target_flops=(0.2,)")  # fmt: skip
    counted = run(capsys, "flops", CONFIGS / "slim_supernet.py", "--json", "--subnet", "W2/subnet_flops_0.2M.yaml")
    assert json.loads(counted)["flops"] <= 200_000
    run(capsys, "train", CONFIGS / "slim_joint.py", "--work-dir", "W3", "--cfg-options", *SHORT)
    half, whole = (
        json.loads(
            run(capsys, "flops", CONFIGS / "slim_subnet.py", "--json", "--cfg-options", f"model.deploy_index={k}")
        )
        for k in (0, 1)
    )
    assert half["params"] == 730 and whole["params"] == 1930
    run(capsys, "train", CONFIGS / "slim_subnet.py", "--work-dir", "W4", "--cfg-options", *SHORT,
        "model.channel_cfg=W2/subnet_flops_0.2M.yaml")  # fmt: skip
    run(capsys, "test", CONFIGS / "slim_subnet.py", "W4/iter_1.pth", "--work-dir", "W4", "--cfg-options",
        "model.channel_cfg=W2/subnet_flops_0.2M.yaml")  # fmt: skip


@pytest.mark.wide
def test_once_for_all_in_mmrazors_form_with_a_predictor_that_the_search_fits(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(capsys, "train", CONFIGS / "ofa_supernet.py", "--work-dir", "W1")
    said = run(
        capsys, "train", CONFIGS / "ofa_search.py", "--work-dir", "W2", "--cfg-options", "load_from=W1/iter_2.pth"
    )
    assert "predictor fitted to 16 subnets; on 4 held out" in said and Path("W2/predictor.safetensors").is_file()
    subnet = ["--cfg-options", "model.fix_subnet=W2/best_subnet.yaml"]
    run(capsys, "flops", CONFIGS / "ofa_subnet.py", *subnet)  # the address of its weights is not read
    assert main(["train", str(CONFIGS / "ofa_subnet.py"), "--work-dir", "W3", *subnet]) == 2
    assert "only local files are read; download it and give its path" in capsys.readouterr().err
    run(capsys, "train", CONFIGS / "ofa_subnet.py", "--work-dir", "W3", "--cfg-options", *SHORT,
        "model.init_cfg.checkpoint=W2/best_subnet.pth")  # fmt: skip
    run(capsys, "test", CONFIGS / "ofa_subnet.py", "W3/iter_1.pth", "--work-dir", "W3")
