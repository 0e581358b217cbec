"""The command that a step ends with: of every config that is shipped, and of a config of one's own."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest
from cli.next_commands import checked

from mmrazor_lite.cli import next_step
from mmrazor_lite.cli.main import build_parser
from mmrazor_lite.cli.next_step import AFTER, line, show
from mmrazor_lite.cli.purpose import sibling
from mmrazor_lite.config.load import load_config

ROOT = Path(__file__).resolve().parents[2]
PATHS = (path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.py"))
CONFIGS = sorted(str(path) for path in PATHS if "_base_" not in path.parts and path.name != "my_net.py")
FEW = {
    "configs/pruning/autoslim/autoslim_supernet_digits.py": "search",
    "configs/pruning/autoslim/autoslim_mbv2_supernet_8xb256_in1k.py": "search",
    "configs/pruning/autoslim/autoslim_mbv2_subnet_8xb256_in1k.py": "split",
    "configs/pruning/autoslim/slimmable_digits.py": "split",
    "configs/pruning/autoslim/us_digits.py": "test",
    "configs/nas/spos/spos_supernet_digits.py": "search",
    "configs/nas/spos/spos_subnet_digits.py": "test",
    "configs/nas/mmcls/onceforall/ofa_teacher_digits.py": "train",
    "configs/nas/mmcls/onceforall/ofa_expand_2_digits.py": "search",
    "configs/nas/tfnas/tfnas_search_1xb32_in1k100.py": "parse-tfnas",
}


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """A folder for files; the commands are typed in the repository."""
    monkeypatch.chdir(ROOT)
    return tmp_path


def after(command: str, words: list, result) -> argparse.Namespace | None:
    """The command after one that was typed and gave ``result``."""
    args = build_parser().parse_args([str(word) for word in [command, *words]])
    found = AFTER[command](args, result)
    return None if found is None else checked(shlex.split(line(found)))


def file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def of_config(config: str, work: Path) -> argparse.Namespace | None:
    checkpoint = file(work / "W" / "epoch_3.pth")
    model = load_config(config).model
    chosen = model.get("channel_cfg")
    options = [f"model.teacher={checkpoint}"] if "teacher" in model else []
    if isinstance(chosen, list) and isinstance(chosen[0], str):
        options.append(f"algorithm.channel_cfg={file(work / 'A.yaml')},{file(work / 'B.yaml')}")
    if load_config(config).get("search_cfg"):
        results = [{"file": file(work / "W" / "best_subnet.yaml")}]
        found = after("search", [config, checkpoint, "--work-dir", work / "W"], results)
    else:
        words = [config, "--work-dir", work / "W", *(["--cfg-options", *options] if options else [])]
        found = after("train", words, checkpoint)
    if found is not None:
        load_config(found.config, found.cfg_options)  # its options are those of its config
        assert not Path(getattr(found, "work_dir", None) or "new").exists(), "a run of its own"
    return found


@pytest.mark.parametrize("config", FEW)
def test_after_training(config, work):
    assert of_config(config, work).command == FEW[config]


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_after_every_config(config, work):
    found = of_config(config, work)
    assert found is not None or "proxyless" in config


def test_the_chain_of_one_network(work):
    folder = "configs/pruning/autoslim"
    checkpoint, config = file(work / "supernet" / "epoch_3.pth"), f"{folder}/autoslim_supernet_digits.py"
    width = "model.architecture.head.in_channels=16"
    words = [config, "--work-dir", work / "supernet", "--cfg-options", width, "train_cfg.max_epochs=3"]
    found = after("train", words, checkpoint)
    assert (found.command, found.config) == ("search", f"{folder}/autoslim_search_digits.py")
    assert found.checkpoint == str(checkpoint) and found.work_dir == str(work / "search")
    assert found.cfg_options == [width], "what makes the network goes on, what was of the training does not"
    files = [file(work / "search" / f"subnet_{name}.yaml") for name in "ab"]
    words = [found.config, checkpoint, "--work-dir", work / "search"]
    found = after("search", words, [{"file": path} for path in files])
    assert (found.command, found.config) == ("train", f"{folder}/autoslim_subnet_digits.py")
    assert found.cfg_options == [f"algorithm.channel_cfg={files[0]},{files[1]}"]
    assert found.work_dir == str(work / "retrain")
    joint = file(work / "retrain" / "epoch_3.pth")
    options = ["--cfg-options", *found.cfg_options]
    found = after("train", [found.config, "--work-dir", work / "retrain", *options], joint)
    assert (found.command, found.checkpoint) == ("split", str(joint))
    assert found.channel_cfgs == [str(path) for path in files]
    parts = [file(work / "retrain" / f"checkpoint_{number}.pth") for number in (1, 2)]
    found = after("split", [found.config, joint, "--channel-cfgs", *files], parts)
    assert (found.command, found.checkpoint) == ("test", str(parts[0]))
    assert found.cfg_options == [f"algorithm.channel_cfg={files[0]}"]


def test_a_search_without_a_config_beside(work):
    """The search's own config trains what it has found, where its algorithm trains given subnets."""
    for base, said in (
        ("pruning/autoslim/autoslim_search_digits.py", "train"),
        ("nas/spos/spos_evolution_search_digits.py", None),
    ):
        config = work / f"{said}.py"
        config.write_text(f"_base_ = {str(ROOT / 'configs' / base)!r}\n")
        files = [file(work / "S" / f"subnet_{name}.yaml") for name in "ab"]
        words = [
            config,
            file(work / "epoch_3.pth"),
            "--work-dir",
            work / "S",
            "--cfg-options",
            "model.input_shape=(3,8,8)",
        ]
        found = after("search", words, [{"file": path} for path in files])
        assert (found and found.command) == said
        if found is not None:
            cfg = load_config(found.config, found.cfg_options)
            assert cfg.search_cfg is None and cfg.model.channel_cfg == [str(path) for path in files]
            assert cfg.model.distiller is cfg.model.num_random_samples is None
            assert found.cfg_options[-1] == "model.input_shape=(3,8,8)" and found.work_dir == str(work / "S_retrain")


def test_what_was_specialized_has_its_weights(work):
    config = "configs/nas/mmcls/onceforall/ofa_search_digits.py"
    checkpoint, best = file(work / "epoch_3.pth"), file(work / "S" / "macs_1M" / "best_subnet.yaml")
    weights = file(best.with_suffix(".pth"))
    words = [config, checkpoint, "--macs", "1M", "--work-dir", work / "S"]
    found = after("specialize", words, [{"file": best}])
    assert (found.command, found.checkpoint) == ("test", str(weights))
    assert found.config == "configs/nas/mmcls/onceforall/ofa_subnet_digits.py"


@pytest.mark.parametrize(
    ("config", "roles", "expected"),
    [
        ("pruning/autoslim/autoslim_mbv2_supernet_cifar10", ("supernet", "search"), "autoslim_mbv2_search_cifar10"),
        ("pruning/autoslim/autoslim_mbv2_supernet_1xb128_cifar10", ("supernet", "search"),
         "autoslim_mbv2_search_1xb128_cifar10"),
        ("nas/spos/spos_evolution_search_shufflenetv2_8xb2048_in1k", ("search", "subnet"),
         "spos_subnet_shufflenetv2_8xb128_in1k"),
        ("nas/spos/spos_supernet_mobilenet_proxyless_gpu_8xb128_in1k", ("supernet", "search"),
         "spos_evolution_search_mobilenet_proxyless_gpu_flops465_8xb512_in1k"),
        ("nas/tfnas/tfnas_search_1xb32_in1k100", ("search", "subnet"), "tfnas_subnet_2xb512_in1k"),
        ("any_model/my_net_search_cifar10", ("search", "subnet"), "my_net_subnet_cifar10"),
        ("pruning/autoslim/us_digits", ("supernet", "search"), None),
    ],
)  # fmt: skip
def test_the_config_beside(config, roles, expected):
    found = sibling(ROOT / "configs" / f"{config}.py", *roles)
    assert (found and Path(found).stem) == expected


def test_a_config_of_ones_own_has_no_chain_and_no_error(work, capsys):
    config = work / "mine.py"
    config.write_text(f"_base_ = {str(ROOT / 'configs/nas/spos/spos_evolution_search_digits.py')!r}\n")
    args = build_parser().parse_args(["search", str(config), "x.pth"])
    show(args, [{"file": work / "A.yaml"}])
    show(args, None)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("or as tools/search.py CONFIG CKPT", "or as mmrazor-lite search CONFIG CKPT"),
        ("python ./tools/nas/parse_tfnas.py X", "mmrazor-lite parse-tfnas X"),
        ("bash tools/dist_train.sh CONFIG ... 8", "mmrazor-lite launch --nproc N train CONFIG ... 8"),
        ("'/home/tools/train.py' and my-tools/train.py", "'/home/tools/train.py' and my-tools/train.py"),
        ("tools/mine.py", "tools/mine.py"),
    ],
)
def test_an_installed_package_speaks_of_commands_not_of_scripts(monkeypatch, text, expected):
    assert next_step.as_typed(text) == text
    monkeypatch.setattr("mmrazor_lite.shipped.INSTALLED", True)
    assert next_step.as_typed(text) == expected
