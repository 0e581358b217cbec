"""Bad input, as typed: one line that says what, where and how to mend it, status 2, and every file as it was.

Missing configs, ``none`` without a checkpoint and unknown metrics are in ``tests/cli/test_errors.py``.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from draws import some
from robustness.bad_input import Payload, line_of_failure

from mmrazor_lite import load_subnet
from mmrazor_lite.cli import main
from mmrazor_lite.config.build import build_model
from mmrazor_lite.config.load import load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import read_checkpoint, save_checkpoint
from mmrazor_lite.subnet import write_subnet

AUTOSLIM = "configs/pruning/autoslim"
TINY = [
    "model.architecture.backbone.settings=[[1,12,1,1],[2,16,2,1]]",
    "model.architecture.backbone.stem_channels=8",
    "model.architecture.backbone.last_channels=16",
    "model.architecture.head.in_channels=16",
]
DATA = [
    "train_dataloader.dataset.dataset.indices=60",
    "train_dataloader.batch_size=16",
    "val_dataloader.dataset.indices=20",
    "test_dataloader.dataset.indices=20",
    "train_cfg.max_epochs=1",
    "param_scheduler.end=1",
]
SEARCH = [
    "search_cfg.dataloader.dataset.dataset.indices=60",
    "search_cfg.calibrate_dataloader.dataset.dataset.indices=40",
    "search_cfg.calibrate_sample_num=20",
]


@dataclass(frozen=True)
class Stage:
    """What an earlier, successful use of the project left behind, in one folder."""

    folder: Path
    configs: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def config(self, name: str) -> Path:
        return self.configs / f"autoslim_{name}.py"

    def words(self, step: str, *argv: object, options: Sequence[str] = ()) -> list[str]:
        """A command line on the tiny network and a few images, in the work dir of the earlier run of that step."""
        name = {"train": "supernet", "test": "supernet", "split": "subnet", "flops": "supernet"}.get(step, step)
        work = [] if step in ("split", "flops") else ["--work-dir", self / ("search" if step == "search" else "train")]
        data = [] if step in ("split", "flops") else SEARCH if step == "search" else DATA
        words = [step, self.config(f"{name}_digits"), *argv, *work, "--cfg-options", *TINY, *data, *options]
        return [str(word) for word in words]


@pytest.fixture(scope="module")
def stage(root, tmp_path_factory) -> Stage:
    """A supernet, a search, two subnet files, a joint model, its parts, and subnet files that are wrong."""
    stage = Stage(tmp_path_factory.mktemp("stage"), root / AUTOSLIM)
    assert main(stage.words("train")) == 0
    supernet = stage / "train" / "epoch_1.pth"
    assert main(stage.words("search", supernet, options=["search_cfg.target_macs=95%"])) == 0
    space = build_model(load_config(stage.config("supernet_digits"), TINY)).search_space
    write_subnet(stage / "a.yaml", space.min(), space)
    write_subnet(stage / "b.yaml", space.max(), space)
    other = dict(space.max(), **{next(iter(space)): space.min()[next(iter(space))]})
    write_subnet(stage / "c.yaml", other, space)
    chosen = f"algorithm.channel_cfg={stage / 'a.yaml'},{stage / 'b.yaml'}"
    joint = [stage.config("subnet_digits"), "--work-dir", stage / "joint", "--cfg-options", *TINY, *DATA, chosen]
    assert main(["train", *map(str, joint)]) == 0
    (stage / "joint" / "epoch_1.pth").rename(stage / "joint.pth")
    parts = ["--channel-cfgs", stage / "a.yaml", stage / "b.yaml", "--output-dir", stage.folder]
    assert main(stage.words("split", stage / "joint.pth", *parts)) == 0
    write_wrong_subnets(stage, space)
    content = read_checkpoint(supernet)
    content["state_dict"]["architecture.head.fc.bias"] += 1
    save_checkpoint(content, stage / "other_weights.pth")
    supernet.rename(stage / "supernet.pth")
    save_checkpoint(read_checkpoint(stage / "supernet.pth"), supernet)
    return stage


def write_wrong_subnets(stage: Stage, space: Any) -> None:
    """Files that are not quite a subnet of the space."""
    document = yaml.safe_load((stage / "b.yaml").read_text())
    first, *others = document["choices"]
    changes = {
        "above": {"choices": {**document["choices"], first: 1000}},
        "unknown": {"choices": {**document["choices"], first + "x": 8}},
        "missing": {"choices": {name: document["choices"][name] for name in others}},
        "space": {"space": "sha256:0123456789abcdef", "choices": {"backbone.other": 8}},
    }
    for name, change in changes.items():
        (stage / f"{name}.yaml").write_text(yaml.safe_dump({**document, **change}, sort_keys=False))
    layers = {
        name: {"in_channels": 1, "raw_in_channels": 1, "out_channels": layer.full, "raw_out_channels": layer.full}
        for name, layer in space.layers.items()
    }
    name = next(name for name, layer in space.layers.items() if layer.choice == others[-1])
    mates = [key for key, layer in space.layers.items() if layer.choice == others[-1]]
    old = {
        "old_above": {**layers, name: {**layers[name], "out_channels": 1000}},
        "old_unknown": {**layers, name + "x": layers[name]},
        "old_missing": {key: layer for key, layer in layers.items() if key not in mates},
        "old_space": {**layers, name: {**layers[name], "raw_out_channels": 1000}},
    }
    for name, document in old.items():
        (stage / f"{name}.yaml").write_text(yaml.safe_dump(document))


@pytest.fixture
def fails(stage, capsys) -> Callable[..., str]:
    """Run a command line that must fail; return its one line."""

    def fails(words: Sequence[str], *parts: str) -> str:
        return line_of_failure(capsys, stage.folder, words, *parts)

    return fails


OPTIONS = {  # step, options, what the line says
    "key": ("train", ["model.distilller=None"], ["no 'distilller' in model", "did you mean 'distiller'"]),
    "path": ("test", ["test_cfgs.fp16=True"], ["no 'test_cfgs' in the config", "did you mean 'test_cfg'"]),
    "deep-path": ("search", ["search_cfg.dataloader.batchsize=3"], ["'batchsize'", "did you mean 'batch_size'"]),
    "search-key": ("search", ["search_cfg.target_mac=1"], ["'target_mac'", "did you mean 'target_macs'"]),
    "algorithm": ("train", ["algorithm.type=AutoSlm"], ["model.type is", "AutoSlm", "did you mean 'AutoSlim'"]),
    "mutator": ("flops", ["model.mutator.type=OneShotChannelMutatr"], ["did you mean 'OneShotChannelMutator'"]),
    "backbone": ("split", ["model.architecture.backbone.type=InvertedResidualNets"], ["'InvertedResidualNet'"]),
    "searcher": ("search", ["search_cfg.searcher.type=GreedySearch"], ["did you mean 'GreedySearcher'"]),
    "dataset": ("train", ["train_dataloader.dataset.dataset.type=Digit"], ["not registered", "'Digits'"]),
    "optimizer": ("train", ["optim_wrapper.optimizer.type=SDG"], ["optim_wrapper.optimizer.type", "not registered"]),
    "dotted-type": ("train", ["model.architecture.type=no.such.Model"], ["model.architecture.type", "not registered"]),
    "small-budget": ("search", ["search_cfg.target_macs=0.001"], ["smallest subnet", "largest", "macs"]),
    "large-budget": ("search", ["search_cfg.target_macs=[50%,5000]"], ["smallest", "largest subnet", "macs"]),
    "unscaled-budget": ("search", ["search_cfg.target_macs=3e8"], ["3e+08", "a bare number is in M", "'300M'"]),
    "unit": ("search", ["search_cfg.target_macs=20ms"], ["macs budget '20ms'", "unknown unit", "'300M'"]),
    "no-budget": ("search", ["search_cfg.target_macs=None"], ["no budget", "target_flops"]),
    "topk": (
        "search",
        ["search_cfg.target_macs=95%", "search_cfg.evaluator.topk=[1,50]"],
        ["evaluator.topk=50: the model has 10 classes"],
    ),
    "topk-val": ("train", ["val_evaluator.topk=[1,50]"], ["val_evaluator.topk=50: the model has 10 classes"]),
    "no-inputs": (
        "search",
        ["search_cfg.target_macs=95%", "search_cfg.calibrate_dataloader.dataset.dataset.pipeline=[]"],
        ["calibrate_dataloader", "their pipeline must end in PackInputs"],
    ),
    "no-bool": ("search", ["search_cfg.target_macs=True"], ["search_cfg.target_macs=True", "give a number or text"]),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(stage, fails, name):
    step, options, parts = OPTIONS[name]
    argv = {
        "search": [stage / "supernet.pth"],
        "test": [stage / "supernet.pth"],
        "split": [stage / "joint.pth", "--channel-cfgs", stage / "a.yaml"],
    }.get(step, [])
    fails(stage.words(step, *argv, options=options), *parts)


def test_unknown_key_in_a_file(stage, fails, tmp_path):
    text = f"_base_ = '{stage.config('supernet_digits')}'\nmodel = dict(num_random_sample=3)\n"
    (tmp_path / "config.py").write_text(text)
    parts = ["config.py", "unknown key 'num_random_sample' in model", "did you mean 'num_random_samples'"]
    fails(["train", str(tmp_path / "config.py")], *parts)


# Every way in for a checkpoint file, of which make test tries some with each kind of file:
# (step, words with the file, options with the file, the right kind of file).
WAYS: dict[str, tuple[str, list[str], list[str], str]] = {
    "load_from": ("train", [], ["load_from={}"], "supernet.pth"),
    "resume": ("train", ["--resume", "{}"], [], "supernet.pth"),
    "init_cfg": ("train", [], ["model.init_cfg.type=Pretrained", "model.init_cfg.checkpoint={}"], "supernet.pth"),
    "inner-init_cfg": (
        "test",
        ["none"],
        ["model.architecture.init_cfg.type=Pretrained", "model.architecture.init_cfg.checkpoint={}"],
        "supernet.pth",
    ),
    "search": ("search", ["{}"], ["search_cfg.target_macs=95%"], "supernet.pth"),
    "test": ("test", ["{}"], [], "supernet.pth"),
    "split": ("split", ["{}", "--channel-cfgs", "a.yaml", "--output-dir", "parts"], [], "joint.pth"),
}


def way_in(stage: Stage, way: str, file: Path) -> list[str]:
    step, words, options, _ = WAYS[way]
    words = [str(stage / word) if word in ("a.yaml", "parts") else word.format(file) for word in words]
    return stage.words(step, *words, options=[option.format(file) for option in options])


@pytest.mark.parametrize("way", some(WAYS, "load_from", "inner-init_cfg", "split"))
def test_missing_checkpoint(stage, fails, way):
    fails(way_in(stage, way, stage / "supernt.pth"), "supernt.pth", "did you mean 'supernet.pth'")


@pytest.mark.parametrize("way", some(WAYS, "resume", "test", "search"))
def test_truncated_checkpoint(stage, fails, tmp_path, way):
    data = (stage / WAYS[way][3]).read_bytes()
    (tmp_path / "short.pth").write_bytes(data[: len(data) * 2 // 3])
    fails(way_in(stage, way, tmp_path / "short.pth"), f"{tmp_path}/short.pth", "cut short", "copy or write it again")


@pytest.mark.parametrize("way", some(WAYS, "init_cfg", "test", "split"))
def test_pickle_payload(stage, fails, tmp_path, way):
    content = read_checkpoint(stage / WAYS[way][3])
    path, mark = tmp_path / "bad.pth", tmp_path / "executed"
    torch.save({**content, "payload": Payload(mark)}, path, pickle_module=pickle)
    fails(way_in(stage, way, path), f"{path}: refused", "open' while loading")
    assert not mark.exists()


def forged(file: Path, mark: Path) -> dict[str, Any]:
    """Content of ``file`` with text that mmengine executes on resume, and a config that names a function to call."""
    content = read_checkpoint(file)
    text = f"open({str(mark)!r}, 'w')"
    call = {"type": "builtins.open", "file": str(mark), "mode": "w"}
    ours = {**content["meta"]["mmrazor_lite"], "architecture": call, "mutator": call, "data_preprocessor": call}
    return {**content, "meta": {**content["meta"], "config": text, "cfg": text, "mmrazor_lite": ours}}


@pytest.mark.parametrize("way", some(WAYS, "resume", "inner-init_cfg", "search"))
def test_carried_config_is_neither_executed_nor_built(stage, tmp_path, way, capsys):
    """These steps have a config of their own and do not look at the file's."""
    path, mark = tmp_path / "bad.pth", tmp_path / "executed"
    save_checkpoint(forged(stage / WAYS[way][3], mark), path)
    words = [word.replace(str(stage.folder), str(tmp_path / "stage")) for word in way_in(stage, way, path)]
    words = [str(stage / "a.yaml") if word.endswith("/a.yaml") else word for word in words]
    assert main(words) == 0, capsys.readouterr().err
    assert not mark.exists()


def test_load_subnet(stage, tmp_path):
    path, mark = tmp_path / "bad.pth", tmp_path / "executed"
    good = stage / "checkpoint_1.pth"
    torch.save({**read_checkpoint(good), "payload": Payload(mark)}, path)
    with pytest.raises(UserError, match=r"bad\.pth: refused"):
        load_subnet(path)
    save_checkpoint(forged(good, mark), path)
    with pytest.raises(UserError, match=r"bad\.pth: architecture.type: 'builtins.open' is not a registered"):
        load_subnet(path)
    path.write_bytes(good.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"bad\.pth: not a checkpoint, or cut short"):
        load_subnet(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("way", "change"),
    some(
        itertools.product(WAYS, ("head", "width")),
        *(("load_from", "head"), ("resume", "width"), ("inner-init_cfg", "width"), ("test", "head"), ("split", "head")),
    ),
)
def test_checkpoint_of_another_architecture(stage, fails, tmp_path, way, change):
    if change == "head":
        option = "model.architecture.head.num_classes=7"
        parts = ["head.fc.weight (10, 16) in the file and (7, 16) in the model"]
    else:
        option = "model.architecture.backbone.settings=[[1,12,1,1],[2,20,2,1]]"
        parts = ["of another shape: backbone.", ".weight (16, 24, 1, 1) in the file and (20, 24, 1, 1) in the model"]
    words = [*way_in(stage, way, stage / WAYS[way][3]), option]
    if way == "split":  # its subnet file is one of the model, as the checkpoint is not
        space = build_model(load_config(stage.config("supernet_digits"), [*TINY, option])).search_space
        write_subnet(tmp_path / "a.yaml", space.min(), space)
        words = [str(tmp_path / "a.yaml") if word.endswith("/a.yaml") else word for word in words]
    line = fails(words, WAYS[way][3], *parts)
    assert len(line) < 1600


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            ["test", "joint.pth"],
            ["joint.pth holds a joint model of 2 subnets, the config asks for a supernet", "split it"],
        ),
        (["search", "checkpoint_1.pth"], ["holds one subnet, the config asks for a supernet"]),
        (["split", "supernet.pth", "--channel-cfgs", "a.yaml"], ["holds a supernet model, nothing to split", "joint"]),
    ],
)
def test_checkpoint_of_another_step(stage, fails, words, parts):
    step, *rest = words
    fails(stage.words(step, *(word if word.startswith("--") else stage / word for word in rest)), *parts)


def chosen(stage: Stage, step: str, *words: object, subnets: Sequence[str]) -> list[str]:
    """A command line of the subnet config for files of the stage."""
    value = ",".join(str(stage / subnet) for subnet in subnets)
    value = f"[{value},]" if len(subnets) > 1 else value
    command = [step, stage.config("subnet_digits"), *words, "--work-dir", stage / "train"]
    return [str(word) for word in [*command, "--cfg-options", *TINY, *DATA, f"algorithm.channel_cfg={value}"]]


SUBNETS = {
    "above": ["1000", "allowed"],
    "unknown": ["x'", "did you mean"],
    "missing": ["missing"],
    "space": ["another space", "sha256:0123456789abcdef", "backbone.other"],
    "old_above": ["layer '", "1000"],
    "old_unknown": ["unknown layer", "did you mean"],
    "old_missing": ["missing"],
    "old_space": ["1000 channels at full width, this model has"],
}


@pytest.mark.parametrize("name", SUBNETS)
def test_wrong_subnet_file(stage, fails, name):
    fails(stage.words("flops", "--subnet", stage / f"{name}.yaml"), f"{stage.folder}/{name}.yaml", *SUBNETS[name])


@pytest.mark.parametrize("name", ["above", "old_missing", "nowhere"])
def test_wrong_subnet_file_of_every_step(stage, fails, name):
    parts = [f"{stage.folder}/{name}.yaml", *SUBNETS.get(name, [])]
    fails(chosen(stage, "train", subnets=["a.yaml", f"{name}.yaml"]), *parts)
    fails(chosen(stage, "test", stage / "checkpoint_1.pth", subnets=[f"{name}.yaml"]), *parts)
    fails(stage.words("split", stage / "joint.pth", "--channel-cfgs", stage / f"{name}.yaml"), *parts)
    fails(stage.words("flops", "--subnet", stage / f"{name}.yaml"), *parts)


def test_subnets_that_do_not_fit_the_checkpoint(stage, fails):
    words = ["split", stage / "joint.pth", "--channel-cfgs"]
    fails(stage.words(*words, stage / "a.yaml", stage / "c.yaml"), "c.yaml", "was not trained for this", "it holds")
    fails(stage.words(*words, stage / "a.yaml", stage / "a.yaml"), "hold the same subnet")
    assert {"checkpoint_1.pth", "checkpoint_2.pth"} == {path.name for path in stage.folder.glob("checkpoint_*.pth")}


def test_part_of_another_subnet(stage, fails):
    words = chosen(stage, "test", stage / "checkpoint_1.pth", subnets=["b.yaml"])
    fails(
        words, "checkpoint_1.pth holds another subnet than algorithm.channel_cfg", "in the checkpoint and", "give the"
    )
    fails(
        chosen(stage, "test", stage / "joint.pth", subnets=["a.yaml"]), "holds a joint model of 2 subnets", "split it"
    )
    words = chosen(stage, "test", stage / "joint.pth", subnets=["b.yaml", "a.yaml"])
    fails(words, "in another order", "list them as trained")


@pytest.mark.parametrize("kind", ["missing", "empty", "no-images"])
@pytest.mark.parametrize(("step", "split"), [("train", "train"), ("test", "test"), ("search", "train")])
def test_data_folder(stage, fails, tmp_path, kind, step, split):
    for name in ("train", "test"):
        if kind != "missing":
            (tmp_path / name / ("cat" if kind == "no-images" else "")).mkdir(parents=True)
    name = "search" if step == "search" else "supernet"
    words = [step, stage.config(f"mbv2_{name}_cifar10"), *([stage / "supernet.pth"] if step != "train" else [])]
    words += ["--work-dir", tmp_path / "work", "--cfg-options", f"data_root={tmp_path}"]
    said = {"missing": "not found", "empty": "has no class folders", "no-images": "has no images"}[kind]
    fails([str(word) for word in words], f"{tmp_path}/{split}", said, "CLASS/IMAGE.jpg", "--cfg-options data_root=DIR")


RESUMED = {
    "budget": (["search_cfg.target_macs=90%"], "supernet.pth", ["budgets was"]),
    "supernet": (["search_cfg.target_macs=95%"], "other_weights.pth", ["supernet was", "sha256:"]),
    "grid": (["search_cfg.target_macs=95%", "model.mutator.candidate_choices=[0.5,1.0]"], "supernet.pth", ["grid was"]),
    "images": (["search_cfg.target_macs=95%", "search_cfg.calibrate_sample_num=10"], "supernet.pth", ["images was 20"]),
}


@pytest.mark.parametrize("name", RESUMED)
def test_resume_of_another_search(stage, fails, name):
    options, checkpoint, parts = RESUMED[name]
    words = stage.words("search", stage / checkpoint, "--resume", options=options)
    fails(words, "search_state.json: cannot resume, this is another search", *parts, "another --work-dir")


def test_loss_that_is_no_number(stage, fails, tmp_path):
    """The learning rate explodes after the first epoch, whose checkpoint stays."""
    schedule = "dict(_delete_=True, type='MultiStepLR', milestones=[1], gamma=1e30, by_epoch=True)"
    text = f"_base_ = '{stage.config('supernet_digits')}'\nparam_scheduler = {schedule}\n"
    (tmp_path / "config.py").write_text(text)
    options = [*TINY, *DATA[:-2], "train_cfg.max_epochs=3", "default_hooks.checkpoint.interval=1"]
    words = ["train", tmp_path / "config.py", "--work-dir", tmp_path / "work", "--cfg-options", *options]
    line = fails([str(word) for word in words], "the loss of ", "_subnet is ", "optim_wrapper.optimizer.lr", "--resume")
    assert any(f"step {step}: " in line for step in (3, 4, 5)), line  # 48 images, 3 batches per epoch
    assert [path.name for path in (tmp_path / "work").glob("*.pth")] == ["epoch_1.pth"]
    assert read_checkpoint(tmp_path / "work" / "epoch_1.pth")["meta"]["epoch"] == 1
    assert (tmp_path / "work" / "last_checkpoint").read_text().endswith("epoch_1.pth")


@pytest.mark.parametrize("step", ["train", "search", "test"])
def test_more_processes_than_gpus(stage, fails, monkeypatch, step):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for key, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(key, value)
    checkpoint = [] if step == "train" else [stage / "supernet.pth"]
    words = stage.words(step, *checkpoint, "--launcher", "pytorch")
    fails(words, "2 processes on this machine, it has 1 GPUs", "CUDA_VISIBLE_DEVICES=")


def test_halving_the_budget_gives_another_subnet(stage, tmp_path):
    found = []
    for budget in ("90%", "45%"):
        words = stage.words("search", stage / "supernet.pth", options=[f"search_cfg.target_macs={budget}"])
        words[words.index("--work-dir") + 1] = str(tmp_path / budget)
        assert main(words) == 0
        (path,) = (tmp_path / budget).glob("*.yaml")
        found.append(yaml.safe_load(path.read_text()))
    assert found[1]["choices"] != found[0]["choices"]
    assert found[1]["resources"]["macs"] <= found[0]["resources"]["macs"] / 1.5
