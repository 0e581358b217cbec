"""TF-NAS from the latency table to the test of a retrained network, as its users type it, shrunken."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
import yaml
from tfnas import milliseconds

from mmrazor_lite.cli import main
from mmrazor_lite.export import checkpoint_hash, read_checkpoint

TFNAS = "configs/nas/tfnas"
BACKBONE = [
    "{}.backbone.arch_setting=[[8,2,1,'ReLU'],[8,2,1,'ReLU']]",  # alike: one trace serves all blocks
    "{}.backbone.stem_channels=[8,8]",
    "{}.backbone.last_channels=16",
    "{}.head.in_channels=16",
]
TINY = [line.format("model.architecture") for line in BACKBONE]
TINY_NET = [line.format("model.cfg") for line in BACKBONE]
SHORT = [
    "train_cfg.max_epochs=3",
    "train_cfg.val_interval=3",
    "param_scheduler.architecture.0.end=3",
    "model.epochs_without_arch=1",
    "model.target_latency=40%",
    "train_dataloader.batch_size=128",
    "train_cfg.arch_dataloader.batch_size=32",
]
RETRAINED = ["train_cfg.max_epochs=1", "train_cfg.val_interval=1", "param_scheduler.0.end=1"]


def run(capsys, *argv: object) -> str:
    """Run one command and return what it says."""
    code = main([str(word) for word in argv])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def fails(capsys, *argv: object) -> str:
    """Run one command that must fail, and return its one line."""
    assert main([str(word) for word in argv]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    return error


def search(root, folder, table, *options: str, resume: bool = False) -> list:
    """The command of a search."""
    words = ["train", root / TFNAS / "tfnas_search_digits.py", "--work-dir", folder, *(["--resume"] if resume else [])]
    return [*words, "--cfg-options", *TINY, *SHORT, f"model.latency_table={table}", *options]


@pytest.fixture(scope="module")
def table(root, tmp_path_factory):
    """A measured table with times by a formula in the place of the measured ones: they are the same every time."""
    path = tmp_path_factory.mktemp("table") / "latency.json"
    words = ["latency", root / TFNAS / "tfnas_search_digits.py", "-o", path, "--repeats", "1", "--checks", "3"]
    assert main([str(word) for word in [*words, "--threads", "1", "--cfg-options", *TINY]]) == 0
    measured = json.loads(path.read_text())
    assert {len(cell["ms"]) for cell in measured["cells"]} == {8}
    for block, cell in enumerate(measured["cells"]):
        for op, times in enumerate(cell["ms"]):
            assert len(times) == (33 if op % 2 else 17)  # half to all of 8 or 4 times 8 channels
            assert all(a <= b for a, b in itertools.pairwise(times)) and times[0] >= 0
            first = 32 if op % 2 else 16
            cell["ms"][op] = [milliseconds(block, op, first + i) for i in range(len(times))]
    measured["base"]["ms"] = 1.0
    del measured["crc"]  # of what was written; an edited table is read without one
    path.write_text(json.dumps(measured))
    return path


@pytest.fixture(scope="module")
def searched(root, table, tmp_path_factory):
    """Folder of a finished search."""
    folder = tmp_path_factory.mktemp("search")
    assert main([str(word) for word in search(root, folder, table)]) == 0
    return folder


def test_a_search_meets_its_target(searched, table):
    document = yaml.safe_load((searched / "best_subnet.yaml").read_text())
    log = next(searched.glob("*/*.log")).read_text()
    target = float(log.split("target: ")[1].split(" ms")[0])
    assert abs(document["resources"]["latency"] / target - 1) <= 0.01
    checkpoint = read_checkpoint(searched / "epoch_3.pth")
    meta = checkpoint["meta"]["mmrazor_lite"]
    assert meta["kind"] == "supernet" and meta["searched"]["choices"] == document["choices"]
    assert set(checkpoint["optimizer"]) == {"architecture", "arch_parameters"}
    assert "searched_subnet.accuracy/top1" in log


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["sampler.type=RepeatAugSampler"], "sampler 'RepeatAugSampler'"),
        (["num_batch_per_epoch=2"], "num_batch_per_epoch=2"),
    ],
)
def test_images_for_the_architecture_that_end_with_an_epoch_are_refused(root, table, tmp_path, capsys, options, part):
    options = [f"train_cfg.arch_dataloader.{option}" for option in options]
    said = fails(capsys, *search(root, tmp_path, table, *options))
    assert f"train_cfg.arch_dataloader: {part}: it is read on and on" in said and "sampler=dict(type='Defa" in said


def test_parse_retrain_and_test(root, searched, table, tmp_path, capsys):
    net, config = tmp_path / "net.yaml", root / TFNAS / "tfnas_subnet_digits.py"
    options = ["--config", config, "--cfg-options", *TINY_NET, f"model.fix_subnet={searched / 'best_subnet.yaml'}"]
    said = run(capsys, "parse-tfnas", searched / "epoch_3.pth", "-o", net, "--model-config", tmp_path / "m.json",
               "--latency-table", table, *options)  # fmt: skip
    best = yaml.safe_load((searched / "best_subnet.yaml").read_text())
    parsed = yaml.safe_load(net.read_text())
    assert parsed["choices"] == best["choices"]
    assert parsed["resources"]["latency"] == pytest.approx(best["resources"]["latency"], rel=1e-12)
    assert parsed["resources"]["params"] > best["resources"]["params"]  # norms have weights again
    assert f"{parsed['resources']['latency']:.10g} ms" in said
    # The authors' file gives the same network.
    again = tmp_path / "again.yaml"
    run(capsys, "parse-tfnas", tmp_path / "m.json", "-o", again, "--latency-table", table, *options)
    there = yaml.safe_load(again.read_text())
    assert there["resources"] == parsed["resources"]
    # Straight from the checkpoint of the search.
    words = ["train", config, "--work-dir", tmp_path / "w", "--cfg-options", *TINY_NET, *RETRAINED]
    run(capsys, *words, f"model.init_cfg.checkpoint={searched / 'epoch_3.pth'}")
    log = next((tmp_path / "w").glob("*/*.log")).read_text()
    digest = checkpoint_hash(searched / "epoch_3.pth")
    assert f"the search of {searched / 'epoch_3.pth'} (sha256 {digest}) has found; it starts with new weights" in log
    weights = tmp_path / "w" / "epoch_1.pth"
    assert read_checkpoint(weights)["meta"]["mmrazor_lite"]["subnet"]["choices"] == best["choices"]
    out = tmp_path / "test.json"
    run(capsys, "test", config, weights, "--work-dir", tmp_path / "t", "--out", out, "--cfg-options", *TINY_NET)
    assert 0 <= json.loads(out.read_text())["accuracy/top1"] <= 100


def test_drop_connect_by_the_place_in_the_network(root, searched):
    from mmcv.cnn.bricks import DropPath

    from mmrazor_lite.config.build import build_model
    from mmrazor_lite.config.load import load_config

    best = searched / "best_subnet.yaml"
    options = [
        *TINY_NET,
        f"model.fix_subnet={best}",
        "model.cfg.backbone.drop_connect=0.2",
        "model.cfg.backbone.dropout=0.3",
    ]
    model = build_model(load_config(root / TFNAS / "tfnas_subnet_digits.py", options)).train()
    backbone = model.architecture.backbone
    blocks = [backbone.second_stem, *(block for stage in backbone.layers for block in stage)]
    for number, block in enumerate(blocks, start=1):
        (drop,) = [module for module in block.modules() if isinstance(module, DropPath)]
        assert drop.drop_prob == pytest.approx(0.2 * number / len(blocks))
    x = torch.randn(8, 3, 8, 8)
    assert not torch.equal(backbone(x)[0], backbone(x)[0])
    model.eval()
    assert torch.equal(backbone(x)[0], backbone(x)[0])


def test_a_target_that_is_missed_is_an_error(root, table, tmp_path, capsys):
    words = search(
        root, tmp_path / "w", table, "model.tolerance=1e-9", "train_cfg.max_epochs=2", "train_cfg.val_interval=5"
    )
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the network found takes" in error and "within 0.0%" in error
    assert (tmp_path / "w" / "best_subnet.yaml").is_file() and (tmp_path / "w" / "epoch_2.pth").is_file()
    assert "its widths cannot reach" in next((tmp_path / "w").glob("*/*.log")).read_text()


def test_bad_input(root, table, searched, tmp_path, capsys):
    place = tmp_path / "w"
    line = fails(capsys, *search(root, place, table, "model.target_latency=0.5"))
    assert "no network of the space takes 0.5 ms, they take" in line
    assert "no network of the space takes 99 ms" in fails(
        capsys, *search(root, place, table, "model.target_latency=99")
    )
    broken = json.loads(table.read_text())
    broken["cells"][2]["ms"][3][5] = None
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    line = fails(capsys, *search(root, place, tmp_path / "broken.json"))
    assert "1 entries are missing: 'backbone.layers.1.0 candidate=MBI_k5_e6 MBI_k5_e6.mid_channels=37'" in line
    other = json.loads(table.read_text())
    other["space"] = "sha256:0000000000000000"
    (tmp_path / "other.json").write_text(json.dumps(other))
    assert "of the search space" in fails(capsys, *search(root, place, tmp_path / "other.json"))
    assert "latency_table is missing" in fails(capsys, *search(root, place, "None"))
    line = fails(capsys, *search(root, place, table, "custom_hooks=[]", "optim_wrapper.architecture=None"))
    assert "optim_wrapper" in line
    line = fails(capsys, "parse-tfnas", tmp_path / "broken.json", "-o", tmp_path / "x.yaml", "--config",
                 root / TFNAS / "tfnas_subnet_digits.py", "--cfg-options", *TINY_NET)  # fmt: skip
    assert "not a subnet file" in line or "format" in line
    line = fails(capsys, "parse-tfnas", searched / "epoch_3.pth", "-o", tmp_path / "x.yaml", "--config",
                 root / TFNAS / "tfnas_subnet_digits.py")  # fmt: skip
    assert "tfnas_subnet_digits.py: " in line and "a subnet of another space" in line
    words = ["parse-tfnas", searched / "best_subnet.yaml", "-o", tmp_path / "x.yaml"]
    line = fails(capsys, *words, "--config", root / TFNAS / "tfnas_search_digits.py")
    assert "tfnas_search_digits.py: expected is the config of one subnet (model.type='sub_model')" in line
    assert f"{tmp_path} is a folder, a file is to be" in fails(capsys, *words, "--model-config", tmp_path)
    assert f"{tmp_path} is a folder, a file is to be" in fails(capsys, *words[:2], "-o", tmp_path)
    (tmp_path / "best.pth.tar").touch()
    line = fails(capsys, "parse-tfnas", tmp_path / "best.pth.tar", *words[2:])
    assert "best.pth.tar: checkpoints of the authors' code are not read" in line and "model.config" in line
    assert not (tmp_path / "x.yaml").exists()
