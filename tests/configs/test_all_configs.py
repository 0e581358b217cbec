"""Every config in configs/ loads with every key known, says how it is run, and builds its model."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mmrazor_lite.cli.config import load_config
from mmrazor_lite.cli.environment import build_model
from mmrazor_lite.models.mutables import MutableOP
from mmrazor_lite.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CODE = ("any_model/my_net.py",)  # what a user would write beside a config
LEAVES = sorted(
    name
    for path in CONFIGS.rglob("*.py")
    if "_base_" not in path.parts and (name := path.relative_to(CONFIGS).as_posix()) not in CODE
)
# Subnets of these come from a search, so no file of them is in the repository.
SUBNETS_OF_A_RUN = ("subnet_digits.py", "subnet_cifar10.py", "spos_subnet_shufflenetv2_cifar10.py")


@pytest.fixture(autouse=True)
def _at_the_root(root, monkeypatch):
    """Import paths in configs start there."""
    monkeypatch.chdir(root)


@pytest.mark.parametrize("name", LEAVES)
def test_head_of_the_file(name):
    lines = (CONFIGS / name).read_text().splitlines()
    head = "\n".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])
    assert head.startswith("# python ./tools/")
    assert f"configs/{name}" in head, "the command names another file"
    assert "# Hardware:" in head


def operators_of(name: str, folder: Path) -> Path:
    """A subnet file for the config of a subnet: the first operator everywhere."""
    backbone = MODELS.build(load_config(CONFIGS / name, []).model.cfg.backbone)
    choices = {key: module for key, module in backbone.named_modules() if isinstance(module, MutableOP)}
    path = folder / "best_subnet.yaml"
    path.write_text(yaml.safe_dump({f"backbone.{key}": {"chosen": module.names[0]} for key, module in choices.items()}))
    return path


@pytest.mark.parametrize("name", LEAVES)
def test_config_is_valid_and_builds(name, tmp_path):
    options = []
    if name.endswith(SUBNETS_OF_A_RUN):
        spos = name.startswith("nas/spos/")
        options = [f"model.fix_subnet={operators_of(name, tmp_path)}" if spos else "algorithm.channel_cfg=None"]
    cfg = load_config(CONFIGS / name, options)
    for key in ("train_dataloader", "val_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        assert cfg.get(key), key
    model = build_model(cfg)
    assert model.cost_model.max()["macs"] > 0
    assert ("search_cfg" in cfg) == ("search" in name)


@pytest.mark.parametrize("name", LEAVES)
def test_searches_never_score_on_images_of_the_training(name):
    cfg = load_config(CONFIGS / name, [])
    if "search_cfg" not in cfg:
        pytest.skip("no search")
    scored, calibrated = (cfg.search_cfg[key].dataset for key in ("dataloader", "calibrate_dataloader"))
    trained = cfg.train_dataloader.dataset
    assert (scored.part, calibrated.part, trained.part) == ("held_out", "train", "train")
    assert scored.fraction == calibrated.fraction == trained.fraction
