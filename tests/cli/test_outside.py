"""An algorithm and a searcher from outside of the package, named in a config's ``custom_imports``, in every step."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import mmrazor_lite
from mmrazor_lite.cli import main
from mmrazor_lite.config import build_model, load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import MODELS, SEARCHERS

ALGORITHM = '''
from mmrazor_lite.models.algorithms import Algorithm, Pass
from mmrazor_lite.models.algorithms.construct import build_part
from mmrazor_lite.models.algorithms.widths import subnet_of
from mmrazor_lite.registry import DISTILLERS, MODELS


@MODELS.register_module()
class FromSmallToLarge(Algorithm):
    """Trains a random subnet and the smallest on soft labels, then the largest; or given subnets together."""

    kinds = frozenset({"supernet", "joint"})
    subnet_option = "algorithm.channel_cfg"

    def __init__(
        self, architecture, mutator, channel_cfg=None, data_preprocessor=None, input_shape=(3, 8, 8), init_cfg=None
    ):
        super().__init__(architecture, mutator, data_preprocessor, input_shape, init_cfg)
        self.mutator.prepare(self.architecture, self.input_shape, any_width=channel_cfg is not None)
        self.search_space, self.cost_model = self.mutator.search_space, self.mutator.cost_model
        self.distiller = build_part(DISTILLERS, {"type": "KLDivergence"}, "distiller")
        if channel_cfg is not None:
            self.kind, self.subnets = "joint", [subnet_of(entry, self.mutator) for entry in channel_cfg]
            self.mutator.make_switchable(self.subnets)

    def passes(self, step):
        if self.kind == "joint":
            return [Pass(subnet, name=name) for name, subnet in self.named_subnets().items()]
        small = {"random": self.search_space.sample(self.rng(step, 0)), "min": self.search_space.min()}
        soft = [Pass(subnet, label=0.0, soft=1.0, teacher="max", name=name) for name, subnet in small.items()]
        return [*soft, Pass(self.largest, name="max")]

    def named_subnets(self):
        if self.kind == "joint":
            return {f"subnet_{number}": subnet for number, subnet in enumerate(self.subnets)}
        return {"max": self.largest, "min": self.search_space.min()}
'''
SEARCHER = '''
import numpy as np

from mmrazor_lite.registry import SEARCHERS
from mmrazor_lite.search import Result


@SEARCHERS.register_module()
class SomeDraws:
    """The best of a few random subnets within each budget."""

    takes = ("budgets",)

    def __init__(self, space, cost, budgets, seed=0, draws=5):
        rows = np.unique(space.sample_indices(np.random.default_rng(seed), draws), axis=0)
        self.rows = np.concatenate([rows, space.index(space.min())[None]])
        self.cost, self.budgets, self.told = cost, budgets, []

    @property
    def done(self):
        return bool(self.told)

    def ask(self):
        return self.rows[:0] if self.done else self.rows

    def tell(self, rows, metrics):
        self.told = [dict(metric) for metric in metrics]

    def results(self):
        return [self._best(budget) for budget in self.budgets] if self.done else []

    def _best(self, budget):
        within = np.flatnonzero(self.cost(self.rows)[budget.resource] <= budget.limit)
        best = max(within, key=lambda index: self.told[index]["score"])
        return Result(budget, self.rows[best], self.told[best])

    def progress(self):
        return float(self.done), f"{len(self.told)} of {len(self.rows)} draws"

    def state_dict(self):
        return {"told": self.told}

    def load_state_dict(self, state):
        self.told = state["told"]
'''
CONFIG = """_base_ = {base!r}
custom_imports = dict(imports=["outside_algorithm"])
_net = dict(
    type="ImageClassifier",
    backbone=dict(type="InvertedResidualNet", stem_channels=8, settings=[[2, 12, 2, 1]], last_channels=24),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=10, in_channels=24, loss=dict(type="CrossEntropyLoss"), topk=(1,)),
)
model = dict(
    _delete_=True, type="FromSmallToLarge", input_shape=(3, 8, 8), architecture=_net, mutator=_base_.model.mutator
)
train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = dict(end=1)
train_dataloader = dict(batch_size=256)
"""
SEARCH = """
custom_imports = dict(imports=["outside_algorithm", "outside_searcher"])
search_cfg = dict(_delete_=True, **{{**_base_.search_cfg, "target_macs": ["60%"],
    "searcher": dict(type="SomeDraws", draws=4)}})
"""


@pytest.fixture(scope="module")
def folder(root, tmp_path_factory) -> Path:
    """Configs of both; the process has read another config before, and knows neither class."""
    folder = tmp_path_factory.mktemp("outside")
    autoslim = root / "configs/pruning/autoslim"
    load_config(autoslim / "autoslim_search_digits.py")
    (folder / "outside_algorithm.py").write_text(ALGORITHM)
    (folder / "outside_searcher.py").write_text(SEARCHER)
    (folder / "a_supernet.py").write_text(CONFIG.format(base=str(autoslim / "autoslim_supernet_digits.py")))
    search = CONFIG.format(base=str(autoslim / "autoslim_search_digits.py")).partition("train_cfg")[0]
    (folder / "a_search.py").write_text(search + SEARCH.format())
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    MODELS.module_dict.pop("FromSmallToLarge", None)
    SEARCHERS.module_dict.pop("SomeDraws", None)


@pytest.mark.wide  # in make test: tests/docs/test_examples.py, of an algorithm and a searcher that the pages show
def test_train_search_and_split(folder, capsys):
    def run(*words: object) -> str:
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        return captured.out

    run("train", folder / "a_supernet.py", "--work-dir", folder / "supernet")
    told = run("search", folder / "a_search.py", folder / "supernet/epoch_1.pth", "--work-dir", folder / "search")
    assert "5 of 5 draws" in told
    found = json.loads((folder / "search/search_log.json").read_text())["results"][0]
    supernet = build_model(load_config(folder / "a_supernet.py"))
    assert 0 < found["resources"]["macs"] <= 0.6 * supernet.cost_model.max()["macs"]
    file = folder / "search" / found["file"]
    together = ["--cfg-options", f"model.channel_cfg=[{file},0.5]"]
    run("train", folder / "a_supernet.py", "--work-dir", folder / "joint", *together)
    run("split", folder / "a_supernet.py", folder / "joint/epoch_1.pth", "--channel-cfgs", file)
    model = mmrazor_lite.load_subnet(folder / "joint/checkpoint_1.pth")
    assert sum(parameter.numel() for parameter in model.parameters()) == found["resources"]["params"]
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 10)


def test_a_supernet_of_outside_says_what_it_is_not(folder, capsys):
    assert main(["search", str(folder / "a_supernet.py"), str(folder / "outside_searcher.py")]) == 2
    assert "is not a search config, see " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("registry", "name"), [("mmrazor_lite", "AutoSlim"), ("mmengine", "SPOS"), ("mmrazor_lite", "GreedySearcher")]
)
def test_who_has_a_name(tmp_path, monkeypatch, root, registry, name):
    kind = "SEARCHERS" if name.endswith("Searcher") else "MODELS"
    module = f"taken_{name}_{registry}"
    text = f"from {registry}.registry import {kind}\n@{kind}.register_module()\nclass {name}:\n    pass\n"
    (tmp_path / f"{module}.py").write_text(text)
    base = root / "configs/nas/spos/spos_supernet_digits.py"
    (tmp_path / "config.py").write_text(f"_base_ = {str(base)!r}\ncustom_imports = dict(imports=[{module!r}])\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"'{name}' is taken in the registry '.*' by mmrazor_lite.*{name} ") as error:
        load_config(tmp_path / "config.py")
    if registry == "mmengine":
        import mmengine.registry

        mmengine.registry.MODELS.module_dict.pop(name)
        assert f"give {module}.{name} ({tmp_path / module}.py) another name" in str(error.value)
    file = sys.modules[{"AutoSlim": "mmrazor_lite.models.algorithms.autoslim"}.get(name, "json")].__file__
    assert name != "AutoSlim" or file in str(error.value)
