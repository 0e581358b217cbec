"""Every config in configs/ loads with every key known, says how it is run, and builds its model."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from mmrazor_lite.config.build import build_model
from mmrazor_lite.config.load import load_config
from mmrazor_lite.export.rebuild import carried, check_architecture, rebuild_mutator
from mmrazor_lite.models.classifiers import offline
from mmrazor_lite.models.mutables import ElasticBlock, MutableDepth, MutableOP
from mmrazor_lite.registry import MODELS
from mmrazor_lite.subnet import write_subnet

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CODE = ("any_model/my_net.py",)  # what a user would write beside a config
LEAVES = sorted(
    name
    for path in CONFIGS.rglob("*.py")
    if "_base_" not in path.parts and (name := path.relative_to(CONFIGS).as_posix()) not in CODE
)
# The smallest of each kind in the normal run, all in that of .ci/run.
EACH = pytest.mark.parametrize(
    "name", [name if "digits" in name else pytest.param(name, marks=pytest.mark.every_config) for name in LEAVES]
)
# Subnets of these come from a search, so no file of them is in the repository.
SUBNETS_OF_A_RUN = ("subnet_digits.py", "subnet_cifar10.py", "spos_subnet_shufflenetv2_cifar10.py")


@pytest.fixture(autouse=True)
def _at_the_root(root, monkeypatch):
    """Import paths in configs start there."""
    monkeypatch.chdir(root)


@functools.cache
def loaded(name: str) -> Config:
    """A config as it is, for looking at it: reading one takes as long as building a small model."""
    return load_config(CONFIGS / name, [])


@EACH
def test_head_of_the_file(name):
    lines = (CONFIGS / name).read_text().splitlines()
    head = "\n".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])
    assert re.match(r"# (python|bash|CUDA_VISIBLE_DEVICES=0 PORT=\d+) \./tools/", head)
    assert f"configs/{name}" in head, "the command names another file"
    assert "Hardware:" in head


def first_of_each(name: str, folder: Path) -> Path:
    """A subnet file for the config of a subnet: the first operator, depth, kernel, ratio and size everywhere."""
    inner = loaded(name).model.cfg
    backbone = MODELS.build((inner.get("architecture") or inner).backbone)
    sizes = (inner.get("mutator") or {}).get("resolutions")
    chosen = {"resolution": sizes[0]} if sizes else {}
    for key, module in backbone.named_modules():
        if isinstance(module, MutableOP):
            chosen[f"backbone.{key}"] = module.names[0]
            widths = {choice.name: choice.candidates for choice in module.offer().choices[1:]}
            if f"{module.names[0]}.mid_channels" in widths:
                width = f"{module.names[0]}.mid_channels"
                chosen[f"backbone.{key}.{width}"] = widths[width][0]
        elif isinstance(module, MutableDepth) and len(module.depths) > 1:
            chosen[f"backbone.{key}.depth"] = module.depths[0]
        elif isinstance(module, ElasticBlock) and module.is_elastic:
            chosen[f"backbone.{key}.kernel_size"] = module.kernel_sizes[0]
            chosen[f"backbone.{key}.expand_ratio"] = module.expand_ratios[0]
    path = folder / "best_subnet.yaml"
    path.write_text(yaml.safe_dump({key: {"chosen": value} for key, value in chosen.items()}))
    return path


def smallest(name: str, folder: Path) -> Path:
    """A subnet file for the config of a subnet of widths: the smallest of its supernet."""
    algorithm = build_model(load_config(CONFIGS / name.replace("subnet", "supernet"), []))
    subnet = algorithm.search_space.min()
    write_subnet(folder / "smallest.yaml", subnet, algorithm.search_space, algorithm.cost_model.of(subnet))
    return folder / "smallest.yaml"


@pytest.fixture(scope="module")
def built() -> dict[str, dict[str, int]]:
    """Costs of the largest subnet by the text of the model's config: a search has the model of its supernet."""
    return {}


@EACH
def test_config_is_valid_and_builds(name, tmp_path, built):
    options = []
    if name.endswith("_small_subnet_cifar10.py"):
        options = [f"model.fix_subnet={smallest(name, tmp_path)}"]
    elif name.endswith(SUBNETS_OF_A_RUN):
        nas = name.startswith(("nas/spos/", "nas/tfnas/")) or "/onceforall/" in name
        options = [f"model.fix_subnet={first_of_each(name, tmp_path)}" if nas else "algorithm.channel_cfg=None"]
    cfg = load_config(CONFIGS / name, options) if options else loaded(name)
    for key in ("train_dataloader", "val_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        assert cfg.get(key), key
    key = repr([cfg.model.to_dict(), cfg.get("data_preprocessor"), cfg.default_scope])
    if key not in built:
        built[key] = build_model(cfg).cost_model.max()
    assert built[key]["macs"] > 0
    assert ("search_cfg" in cfg) == ("search" in name and not name.startswith("nas/tfnas/"))  # that one is a training


@EACH
def test_files_can_carry_the_network(name):
    """But one of the user's own, whose code is never imported from a file."""
    model = loaded(name).model.to_dict()
    inner = model.get("cfg", model)
    architecture = inner.get("architecture", inner)
    if str(architecture["type"]).startswith("configs."):
        pytest.skip("own code")
    check_architecture(carried(offline(architecture)), name)
    rebuild_mutator(carried(inner.get("mutator") or {"type": "NasMutator"}), name)


@EACH
def test_searches_never_score_on_images_of_the_training(name):
    cfg = loaded(name)
    if "search_cfg" not in cfg:
        pytest.skip("no search")
    scored, calibrated = (cfg.search_cfg[key].dataset for key in ("dataloader", "calibrate_dataloader"))
    trained = cfg.train_dataloader.dataset
    assert (scored.part, calibrated.part, trained.part) == ("held_out", "train", "train")
    assert scored.fraction == calibrated.fraction == trained.fraction
