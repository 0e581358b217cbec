"""Every command on a config of every kind gives a result, or one line that says what to use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mmrazor_lite.checkpoints import save_checkpoint
from mmrazor_lite.cli import main
from mmrazor_lite.cli.main import SUBCOMMANDS
from mmrazor_lite.config.build import build_model
from mmrazor_lite.config.load import load_config
from mmrazor_lite.engine.runner import RazorRunner
from mmrazor_lite.export import read_checkpoint

SHIPPED = {
    "supernet": "pruning/autoslim/autoslim_supernet_digits.py",
    "search": "pruning/autoslim/autoslim_search_digits.py",
    "subnet": "pruning/autoslim/autoslim_subnet_digits.py",
    "joint": "pruning/autoslim/slimmable_digits.py",
    "sub_model": "pruning/autoslim/autoslim_mbv2_small_subnet_cifar10.py",
    "spos": "nas/spos/spos_supernet_digits.py",
    "spos_subnet": "nas/spos/spos_subnet_digits.py",
    "ofa": "nas/mmcls/onceforall/ofa_supernet_digits.py",
    "tfnas": "nas/tfnas/tfnas_search_digits.py",
}
PLAIN = """_base_ = [{data!r}, {runtime!r}]
model = dict(
    type="ImageClassifier",
    backbone=dict(type="ResNet", depth=18),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=10, in_channels=512, loss=dict(type="CrossEntropyLoss"), topk=(1,)),
)
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.1))
"""
NOT_A_SEARCH = "has no search_cfg: it is not a search config"
NO_FILE = r"the file of model\.(channel_cfg|fix_subnet), '.*', is not there: give --cfg-options"
NO_MODEL = "has no model, only"
JOINT_IS_SPLIT = "what is split is a joint model"
# What a command says of each kind, before anything is built; where nothing is listed, it goes on to build.
SAID = {
    "train": {
        "search": "is a search config: give the trained supernet",
        "subnet": NO_FILE,
        "sub_model": NO_FILE,
        "spos_subnet": NO_FILE,
        "model": "has no train_dataloader, train_cfg, optim_wrapper: training needs",
        "data": NO_MODEL,
        "empty": NO_MODEL,
        "mmrazor_search": "is a search config",
    },
    "test": {
        "subnet": NO_FILE,
        "sub_model": "carries no subnet .it is a supernet.*is not there",
        "spos_subnet": "carries no subnet .it is a supernet.*is not there",
        "model": "has no test_dataloader, test_cfg, test_evaluator: a test needs",
        "data": NO_MODEL,
        "empty": NO_MODEL,
    },
    "search": {
        "supernet": f"{NOT_A_SEARCH}, see .*/autoslim_search_digits.py",
        "subnet": f"{NOT_A_SEARCH}, see .*/autoslim_search_digits.py",
        "joint": rf"{NOT_A_SEARCH}, see configs/pruning/autoslim/\*search\*.py",
        "sub_model": f"{NOT_A_SEARCH} but one of a single subnet, for tools/train.py and tools/test.py",
        "spos": rf"{NOT_A_SEARCH}, see configs/nas/spos/\*search\*.py",
        "spos_subnet": f"{NOT_A_SEARCH} but one of a single subnet",
        "ofa": f"{NOT_A_SEARCH}, see .*/onceforall/ofa_search_digits.py",
        "tfnas": f"{NOT_A_SEARCH}; TF-NAS searches while it trains: tools/train.py",
        "plain": f"{NOT_A_SEARCH}, and ImageClassifier has no subnets",
        "model": rf"{NOT_A_SEARCH}, see configs/pruning/autoslim/\*search\*.py",
        "data": NO_MODEL,
        "empty": NO_MODEL,
    },
    "split": {
        "sub_model": f"is of one subnet, whose checkpoints are a plain network already; {JOINT_IS_SPLIT}",
        "spos_subnet": f"is of one subnet, whose checkpoints are a plain network already; {JOINT_IS_SPLIT}",
        "spos": f"is of a supernet .SPOS.: tools/search.py .*best_subnet.pth; {JOINT_IS_SPLIT}",
        "ofa": f"is of a supernet .OFA.: tools/search.py .*best_subnet.pth; {JOINT_IS_SPLIT}",
        "tfnas": f"is of a TF-NAS search: tools/nas/parse_tfnas.py .*{JOINT_IS_SPLIT}",
        "plain": f"is of ImageClassifier, which has no subnets; {JOINT_IS_SPLIT}",
        "data": NO_MODEL,
        "empty": NO_MODEL,
    },
    "flops": {"subnet": NO_FILE, "sub_model": NO_FILE, "spos_subnet": NO_FILE, "data": NO_MODEL, "empty": NO_MODEL},
    "print-config": {},
}
SAID["predictor-collect"] = SAID["search"]
SAID["specialize"] = {
    **SAID["search"],
    "mmrazor_search": "--macs is the one limit of a search, and the config has target",
}
# What is said when weights of the AutoSlim supernet are loaded into what was built.
NOT_A_JOINT = "holds a supernet model, nothing to split"
BUILT = {
    "test": {
        "joint": "holds a supernet, the config asks for a joint model",
        **dict.fromkeys(("spos", "ofa", "tfnas", "plain"), "do not fit"),
        "mmrazor_search": "search_cfg: .*dataloader",  # which is searched by a test, as by MMRazor 1.x
    },
    "search": {"mmrazor_search": "search_cfg: .*dataloader"},
    "predictor-collect": {"mmrazor_search": "search_cfg.*dataloader"},
    "specialize": {"search": "the macs budget 1,137,920 is not below the largest subnet"},
    "split": dict.fromkeys(("supernet", "search", "joint", "model", "mmrazor_search"), NOT_A_JOINT),
}
BUILT["split"]["subnet"] = NOT_A_JOINT


class Begins(BaseException):
    """A run has come to its first batch, everything was built and loaded; no error that a command tells."""


@pytest.fixture(scope="module")
def folder(root, tmp_path_factory) -> Path:
    """Configs of every kind, and checkpoints of a supernet and of a joint model, not trained."""
    folder = tmp_path_factory.mktemp("kinds")
    configs = root / "configs"
    shared = {"data": str(configs / "_base_/datasets/digits.py"), "runtime": str(configs / "_base_/runtime.py")}
    model = str(configs / "_base_/models/autoslim_digits.py")
    texts = {
        **{name: f"_base_ = {str(configs / path)!r}\n" for name, path in SHIPPED.items()},
        "plain": PLAIN.format(**shared),
        "model": f"_base_ = {model!r}\n",
        "data": f"_base_ = {shared['data']!r}\n",
        "empty": "default_scope = 'mmpretrain'\n",
        "mmrazor_search": f"_base_ = [{model!r}, {shared['data']!r}, {shared['runtime']!r}]\n"
        "test_cfg = dict(type='mmrazor.AutoSlimGreedySearchLoop', target_flops=(0.5,), calibrate_sample_num=0)\n",
    }
    for name in ("supernet", "subnet", "search"):  # under their own names: another step's is looked for beside them
        texts[f"autoslim_{name}_digits"] = texts.pop(name)
    for name in ("supernet", "search"):
        texts[f"ofa_{name}_digits"] = f"_base_ = {str(configs / f'nas/mmcls/onceforall/ofa_{name}_digits.py')!r}\n"
    (folder / "onceforall").mkdir()
    for name, text in texts.items():
        place = folder / "onceforall" if name.startswith("ofa_") else folder
        (place / f"{name}.py").write_text(text)
    for name, options in (("autoslim_supernet_digits", []), ("joint", ["model.channel_cfg=[0.5,1.0]"])):
        algorithm = build_model(load_config(folder / f"{name}.py", options))
        meta = {"mmrazor_lite": algorithm.checkpoint_meta()}
        save_checkpoint({"meta": meta, "state_dict": algorithm.state_dict()}, folder / f"{name}.pth")
    return folder


def path_of(folder: Path, kind: str) -> Path:
    if kind in ("supernet", "subnet", "search"):
        return folder / f"autoslim_{kind}_digits.py"
    return folder / "onceforall" / "ofa_supernet_digits.py" if kind == "ofa" else folder / f"{kind}.py"


KINDS = ["supernet", "search", "subnet", "joint", "sub_model", "spos", "spos_subnet", "ofa", "tfnas", "plain", "model"]
KINDS += ["data", "empty", "mmrazor_search"]


def walk(command: str, said: dict[str, str], folder: Path, capsys) -> None:
    """Run a command on every kind, and compare what it says."""
    checkpoint = str(folder / "autoslim_supernet_digits.pth")
    after = {
        "train": ["--work-dir", "t"],
        "test": [checkpoint, "--work-dir", "t"],
        "search": [checkpoint, "--work-dir", "s"],
        "specialize": [checkpoint, "--macs", "100%", "--work-dir", "s"],
        "predictor-collect": [checkpoint, "-n", "1", "--out", "c.jsonl", "--work-dir", "c"],
        "split": [checkpoint, "--channel-cfgs", "0.5", "--output-dir", "x"],
    }
    for kind in KINDS:
        try:
            code = main([command, str(path_of(folder, kind)), *after.get(command, [])])
        except Begins:
            code = 0
        error = capsys.readouterr().err
        expected = said.get(kind)
        if expected is None:
            assert code == 0, (kind, error)
        else:
            assert re.search(expected, error), (kind, error)
            assert code in (0, 2) and len(error.strip().splitlines()) == (code == 2), (kind, error)


@pytest.mark.parametrize("command", SAID)
def test_goes_on_to_build_or_says_one_line(command, folder, tmp_path, monkeypatch, capsys):
    def begins(*args, **kwargs) -> None:
        raise Begins

    monkeypatch.setattr("mmrazor_lite.cli.environment.build_runner", begins)
    monkeypatch.setattr(SUBCOMMANDS[command], "build_model", begins, raising=False)
    monkeypatch.chdir(tmp_path)
    said = dict(SAID[command])
    if command in ("flops", "split"):  # their subnet files are looked for when the model is built
        said = {kind: text for kind, text in said.items() if text != NO_FILE}
    elif command in ("train", "test"):
        said.pop("subnet")
    walk(command, said, folder, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("command", SAID)
def test_a_result_or_one_line(command, folder, tmp_path, monkeypatch, capsys):
    def call_hook(self, name: str, **kwargs) -> None:
        if name in ("before_train_epoch", "before_test_epoch"):
            raise Begins

    monkeypatch.setattr(RazorRunner, "call_hook", call_hook)
    monkeypatch.setattr("mmrazor_lite.engine.search_loop.SearchLoop.run", lambda self, **kwargs: [])
    monkeypatch.chdir(tmp_path)
    walk(command, {**SAID[command], **BUILT.get(command, {})}, folder, capsys)


@pytest.mark.slow
def test_a_supernets_config_describes_the_joint_model_too(folder, tmp_path, capsys):
    """The same network: what was trained jointly is in the checkpoint."""
    files = {}
    for name in ("joint", "autoslim_supernet_digits"):
        words = ["split", str(folder / f"{name}.py"), str(folder / "joint.pth"), "--channel-cfgs", "0.5"]
        assert main([*words, "--output-dir", str(tmp_path / name)]) == 0, capsys.readouterr().err
        files[name] = read_checkpoint(tmp_path / name / "checkpoint_1.pth")
    first, second = (file["state_dict"] for file in files.values())
    assert first.keys() == second.keys() and all(first[key].equal(second[key]) for key in first)


def test_a_search_names_what_it_leaves_out(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mmrazor_lite.engine.search_loop.SearchLoop.run", lambda self, **kwargs: [])
    config = tmp_path / "search.py"
    config.write_text(
        f"_base_ = {str(folder / 'autoslim_search_digits.py')!r}\n"
        "custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='ResourceHook')]\n"
        "model_wrapper_cfg = dict(type='MMDistributedDataParallel', find_unused_parameters=True)\n"
    )
    assert (
        main(["search", str(config), str(folder / "autoslim_supernet_digits.pth"), "--work-dir", str(tmp_path / "s")])
        == 0
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if "not used by a search" in line]
    assert len(lines) == 1
    assert all(name in lines[0] for name in ("train_dataloader", "val_evaluator", "optim_wrapper", "EMAHook"))
    assert "ResourceHook" not in lines[0]
