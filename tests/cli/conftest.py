"""A tiny trained supernet of operators, for what is done with one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from mmrazor_lite.cli import main

TINY = Path(__file__).resolve().parents[1] / "robustness" / "spos" / "search.py"
SEARCH = """_base_ = {!r}
train_dataloader = dict(dataset=dict(dataset=dict(indices=640)))
search_cfg = dict(dataloader=dict(dataset=dict(dataset=dict(indices=500))), score_on_trained_images=True)
"""

OTHER = """_candidates = dict(k1=dict(type="MBBlock", kernel_size=1, expand_ratio=1), identity=dict(type="Identity"))
_stage = [8, 5, 1, dict(type="OneShotMutableOP", candidates=_candidates)]
model = dict(architecture=dict(backbone=dict(arch_setting=[_stage])))
"""


class Supernet(NamedTuple):
    """A config of a search over 243 subnets, and a checkpoint of its supernet."""

    config: Path
    checkpoint: Path


@pytest.fixture(scope="session")
def supernet(tmp_path_factory) -> Supernet:
    """Trained until subnets differ in their scores, on 100 images."""
    folder = tmp_path_factory.mktemp("supernet")
    config = folder / "search.py"
    config.write_text(SEARCH.format(str(TINY)))
    assert main(["train", str(config), "--work-dir", str(folder / "run"), "--cfg-options", "search_cfg=None"]) == 0
    return Supernet(config, folder / "run" / "epoch_4.pth")


@pytest.fixture(scope="session")
def other_config(supernet, tmp_path_factory) -> Path:
    """A config of the same search over another space."""
    path = tmp_path_factory.mktemp("other") / "search.py"
    path.write_text(f"_base_ = {str(supernet.config)!r}\n{OTHER}")
    return path


@pytest.fixture(scope="session")
def supernet_space(supernet):
    """Its search space and its costs."""
    from mmrazor_lite.config.build import build_model
    from mmrazor_lite.config.load import load_config

    algorithm = build_model(load_config(supernet.config, []))
    return algorithm.search_space, algorithm.cost_model


@pytest.fixture
def fails(capsys):
    """Run a command that must fail, and return its one line."""

    def fails(*words: object) -> str:
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err.strip()
        assert len(error.splitlines()) == 1 and error.startswith("error: ")
        return error

    return fails
