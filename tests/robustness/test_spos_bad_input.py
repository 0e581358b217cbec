"""Bad input to SPOS, as typed: one line that says what, where and how to mend it, status 2, every file as it was."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from robustness.bad_input import Payload, line_of_failure

from mmrazor_lite.cli import main
from mmrazor_lite.export import read_checkpoint, save_checkpoint

CONFIGS = Path(__file__).with_name("spos")
SHORT = ["train_cfg.max_epochs=1", "param_scheduler.end=1", "default_hooks.checkpoint.interval=1"]
SEARCHER = {"max_epochs": 1, "num_candidates": 2, "top_k": 1, "num_mutation": 1, "num_crossover": 1}
OPTIONS = [f"search_cfg.searcher.{key}={value}" for key, value in SEARCHER.items()]


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Path:
    """Folder of a supernet, a search in ``search``, its subnet, and subnet files that are wrong."""
    folder = tmp_path_factory.mktemp("stage")
    words = ["train", CONFIGS / "search.py", "--work-dir", folder / "train", "--cfg-options", "search_cfg=None", *SHORT]
    assert main([str(word) for word in words]) == 0
    (folder / "train" / "epoch_1.pth").rename(folder / "supernet.pth")
    assert main(search(folder)) == 0
    content = read_checkpoint(folder / "supernet.pth")
    content["state_dict"]["architecture.head.fc.bias"] += 1
    save_checkpoint(content, folder / "other_weights.pth")
    best = yaml.safe_load((folder / "search" / "best_subnet.yaml").read_text())
    write_wrong_subnets(folder, best)
    return folder


def write_wrong_subnets(folder: Path, best: dict) -> None:
    """Files that are not quite the subnet ``best``, in our format and in MMRazor's two."""
    first, *others = choices = best["choices"]
    wrong = {
        "operator": {**choices, first: "k5"},
        "short": {name: choices[name] for name in others},
        "long": {**choices, "backbone.layer1.5": "k3"},
    }
    for name, changed in wrong.items():
        document = {**best, "choices": changed}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        ones = {choice: {"chosen": value} for choice, value in changed.items()}
        (folder / f"{name}_1x.yaml").write_text(yaml.safe_dump(ones))
        old = {choice.replace("backbone.layer1.", "stage_0_block_"): {"chosen": [v]} for choice, v in changed.items()}
        (folder / f"{name}_0x.yaml").write_text(yaml.safe_dump(old))


def search(stage: Path, *options: str, checkpoint: str = "supernet.pth", resume: bool = False) -> list[str]:
    """The command line of a search in the work dir of the stage."""
    words = ["search", CONFIGS / "search.py", stage / checkpoint, "--work-dir", stage / "search"]
    words += [*(["--resume"] if resume else []), "--cfg-options", *OPTIONS, *options]
    return [str(word) for word in words]


def retrain(stage: Path, *options: object, subnet: str | None = None) -> list[str]:
    """The command line of a test of one subnet."""
    words = ["test", CONFIGS / "subnet.py", "none", "--work-dir", stage / "test", "--cfg-options", *options]
    words += [] if subnet is None else [f"model.fix_subnet={stage / subnet}"]
    return [str(word) for word in words]


@pytest.fixture
def fails(stage, capsys) -> Callable[..., str]:
    """Run a command line that must fail; return its one line."""
    return lambda words, *parts: line_of_failure(capsys, stage, words, *parts)


BEST = "search/best_subnet.yaml"
SUBNETS = {  # what the line says beside the file's name
    "operator": ["backbone.layer1.0", "'k5'", "allowed: k3, k1, identity"],
    "operator_1x": ["backbone.layer1.0", "k5", "allowed: k3, k1, identity"],
    "operator_0x": ["k5", "allowed: k3, k1, identity"],
    "short": ["backbone.layer1.0", "missing"],
    "short_1x": ["backbone.layer1.0", "missing"],
    "short_0x": ["missing"],
    "long": ["backbone.layer1.5", "unknown"],
    "long_1x": ["backbone.layer1.5", "unknown"],
    "long_0x": ["stage_0_block_5", "unknown"],
    "nowhere": [],
}


@pytest.mark.parametrize("name", SUBNETS)
def test_wrong_subnet_file(stage, fails, name):
    parts = [f"{stage}/{name}.yaml", *SUBNETS[name]]
    fails(retrain(stage, f"model.init_cfg.checkpoint={stage}/search/best_subnet.pth", subnet=f"{name}.yaml"), *parts)
    fails(["flops", CONFIGS / "search.py", "--subnet", stage / f"{name}.yaml"], *parts)


SETTINGS = {  # options, what the line says
    "unreachable": (["search_cfg.constraints_range.flops=(0,0.001)"], ["flops", "1,000", "10,304", "24,"]),
    "above": (["search_cfg.constraints_range.flops=(5,6)"], ["flops", "5,000,000", "10,304"]),
    "reversed": (["search_cfg.constraints_range.flops=(0.02,0.01)"], ["flops"]),
    "top_k": (["search_cfg.searcher.top_k=9"], ["num_candidates=2 is smaller than top_k=9", "smaller top_k"]),
    "children": (["search_cfg.searcher.num_mutation=2"], ["num_mutation=2", "more than num_candidates=2"]),
    "latency": (["search_cfg.constraints_range.latency=(0,5)"], ["latency", "latency_table"]),
    "no-table": (
        ["search_cfg.constraints_range.latency=(0,5)", "search_cfg.latency_table=/nowhere/table.yaml"],
        ["/nowhere/table.yaml", "No such file"],
    ),
    "resource": (["search_cfg.constraints_range.flop=(0,5)"], ["'flop'", "flops"]),
    "mapping": (["search_cfg.constraints_range=dict(flops=(0,0.001))"], ["flops", "1,000", "10,304", "24,"]),
    "no-mapping": (["search_cfg.constraints_range=dict(flops=len('a'))"], ["cannot be read as a mapping"]),
    "calibrate": (["search_cfg.calibrate_sample_num=-5"], ["calibrate_sample_num=-5"]),
    "cache": (["search_cfg.cache_gb=abc"], ["cache_gb='abc'"]),
    "candidates": (["search_cfg.searcher.init_candidates=5"], ["init_candidates"]),
    "shape": (["model.input_shape=8"], ["model.input_shape=8", "a list"]),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_a_search(stage, fails, name):
    options, parts = SETTINGS[name]
    fails(search(stage, *options), *parts)


@pytest.mark.parametrize("kind", ["NoBlock", "MBBlok"])
def test_candidate_that_is_not_registered(stage, fails, tmp_path, kind):
    text = (CONFIGS / "search.py").read_text().replace("../../..", str(CONFIGS.parents[2]))
    (tmp_path / "config.py").write_text(text.replace('type="MBBlock", kernel_size=1', f'type="{kind}", kernel_size=1'))
    parts = ["config.py", "candidates.k1.type", f"'{kind}'", "not registered"]
    line = fails(["search", tmp_path / "config.py", stage / "supernet.pth", "--work-dir", stage / "search"], *parts)
    assert kind != "MBBlok" or "did you mean 'MBBlock'" in line


RESUMED = {  # options, checkpoint, what the line says
    "constraints": (["search_cfg.constraints_range.flops=(0,0.02)"], "supernet.pth", ["constraints was", "24000.0"]),
    "searcher": (["search_cfg.searcher.mutate_prob=0.3"], "supernet.pth", ["searcher.mutate_prob was", "now 0.3"]),
    "supernet": ([], "other_weights.pth", ["supernet was", "sha256:"]),
    "augmentation": (
        ["search_cfg.calibrate_dataloader.dataset.fraction=0.3"],
        "supernet.pth",
        ["evaluator.calibrate_dataloader was"],
    ),
    "space": (["search_cfg.searcher.type=EvolutionSearcher"], "supernet.pth", ["space was", "sha256:"]),
}


@pytest.mark.parametrize("name", RESUMED)
def test_resume_of_another_search(stage, fails, tmp_path, name):
    options, checkpoint, parts = RESUMED[name]
    words = search(stage, *options, checkpoint=checkpoint, resume=True)
    if name == "space":  # a supernet of four blocks, in the work dir of the search
        text = (CONFIGS / "search.py").read_text().replace("../../..", str(CONFIGS.parents[2]))
        (tmp_path / "config.py").write_text(text.replace("[8, 5, 1,", "[8, 4, 1,"))
        content = read_checkpoint(stage / "supernet.pth")
        state = {key: value for key, value in content["state_dict"].items() if ".layer1.4." not in key}
        save_checkpoint({"state_dict": state}, tmp_path / "supernet.pth")
        words[1:3] = [tmp_path / "config.py", tmp_path / "supernet.pth"]
    fails(words, "search_state.json: cannot resume, this is another search", *parts, "another --work-dir")


@pytest.mark.parametrize("resume", [False, True])
def test_images_prepared_otherwise(stage, fails, resume):
    words = search(stage, "data_preprocessor.std=[9,9,9]", resume=resume)
    fails(words, "supernet.pth", "prepared otherwise", "std is (", "(9, 9, 9) in the config")


def test_weights_that_are_broken(stage, fails, tmp_path):
    content = read_checkpoint(stage / "supernet.pth")
    first = next(name for name, value in content["state_dict"].items() if name.endswith("conv.weight"))
    content["state_dict"][first] *= float("nan")
    save_checkpoint(content, stage / "nan.pth")
    words = search(stage, checkpoint="nan.pth")
    words[words.index("--work-dir") + 1] = str(tmp_path)
    fails(words, "nan.pth", f"{first} holds NaN")
    assert not [path for path in tmp_path.glob("*") if path.suffix in (".yaml", ".pth")]


def test_supernet_given_to_a_subnet(stage, fails):
    parts = [f"{stage}/supernet.pth", "supernet", "model.init_weight_from_supernet=True"]
    fails(retrain(stage, f"model.init_cfg.checkpoint={stage}/supernet.pth", subnet=BEST), *parts)
    plain = read_checkpoint(stage / "supernet.pth")["state_dict"]  # MMRazor's say nothing about themselves
    save_checkpoint({"state_dict": plain}, stage / "plain_supernet.pth")
    parts[0] = f"{stage}/plain_supernet.pth"
    fails(retrain(stage, f"model.init_cfg.checkpoint={parts[0]}", subnet=BEST), *parts)


def test_subnet_given_to_a_search(stage, fails):
    fails(search(stage, checkpoint="search/best_subnet.pth"), "best_subnet.pth holds one subnet", "asks for a supernet")
    plain = read_checkpoint(stage / "search/best_subnet.pth")["state_dict"]
    save_checkpoint({"state_dict": plain}, stage / "plain_subnet.pth")
    fails(search(stage, checkpoint="plain_subnet.pth"), "plain_subnet.pth holds one subnet", "asks for a supernet")


@pytest.mark.parametrize("damage", ["missing", "short", "payload"])
def test_damaged_weights(stage, fails, tmp_path, damage):
    good, path, mark = stage / "search" / "best_subnet.pth", tmp_path / "bad.pth", tmp_path / "executed"
    if damage == "short":
        path.write_bytes(good.read_bytes()[:-900])
    elif damage == "payload":
        torch.save({**read_checkpoint(good), "payload": Payload(mark)}, path, pickle_module=pickle)
    part = {"missing": "no such file", "short": "cut short", "payload": "refused"}[damage]
    fails(retrain(stage, f"model.init_cfg.checkpoint={path}", subnet=BEST), str(path), part)
    assert not mark.exists()


PREFIXES = ("architecture.", "architecture.model.", "module.architecture.")


@pytest.mark.parametrize("prefix", ["", *(pytest.param(p, marks=pytest.mark.wide) for p in PREFIXES)])
def test_prefixes_of_checkpoints_load(stage, tmp_path, capsys, prefix):
    content = read_checkpoint(stage / "search" / "best_subnet.pth")
    state = {f"{prefix}{key.removeprefix('architecture.')}": value for key, value in content["state_dict"].items()}
    save_checkpoint({"state_dict": state}, tmp_path / "plain.pth")
    found = []
    for file in (stage / "search" / "best_subnet.pth", tmp_path / "plain.pth"):
        words = [*retrain(stage, f"model.init_cfg.checkpoint={file}", subnet=BEST), "--out", str(tmp_path / "out.json")]
        assert main(words) == 0, capsys.readouterr().err
        found.append((tmp_path / "out.json").read_text())
    assert found[0] == found[1]


def test_no_subnet_at_all(stage, fails):
    fails(
        retrain(stage, f"model.init_cfg.checkpoint={stage}/supernet.pth", "model.fix_subnet=None"), "model.fix_subnet"
    )
