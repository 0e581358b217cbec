"""Nothing accepted is ignored by a search: what is taken of an absurd value changes what the search finds or writes."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from draws import some
from robustness.test_bad_input import DATA, SEARCH, TINY
from robustness.test_value_walk import drawn, is_good
from robustness.value_walk import ABSURD, found, is_default

from mmrazor_lite.cli import environment, main
from mmrazor_lite.config.files import read
from mmrazor_lite.config.load import completed, load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import SEARCHERS

CONFIG = "configs/pruning/autoslim/autoslim_search_digits.py"
LENGTHS = re.compile(r".*(max_epochs|num_candidates|generations|population)")  # a search is as long as asked
EVOLUTION = "num_candidates=4,top_k=2,num_mutation=2,num_crossover=1,max_epochs=2"
SEARCHES = {
    "GreedySearcher": ["search_cfg.target_macs=80%", "search_cfg.searcher.max_channel_bins=2"],
    "EvolutionSearcher": [
        "search_cfg.target_macs=None",
        "search_cfg.constraints_range.macs=(0,0.15)",
        f"search_cfg.searcher=dict(type=EvolutionSearcher,{EVOLUTION})",
    ],
    "FrontSearcher": [
        "search_cfg.target_macs=80%",
        "search_cfg.searcher=dict(type=FrontSearcher,population=8,generations=3)",
    ],
}
OWN = re.compile(r"search_cfg\.(searcher|target|constraints).*")  # of one searcher; the rest is walked with the first
# What these searches, of seconds on one CPU process, cannot show, with the reason.
UNSEEN = {
    r".*(num_workers|pin_memory|pin_memory_device|persistent_workers|prefetch_factor|timeout)": "how, not what",
    r".*(disable_subprocess_warning|multiprocessing_context|worker_init_fn|cache_gb)": "how, not what",
    r".*evaluator\.(collect_device|collect_dir)": "of several processes",
    r".*(metainfo|classes|data_prefix|data_root|ann_file|lazy_init|serialize_data|max_refetch|filter_cfg).*": "others'",
    r".*dataloader\.(batch_size|num_batch_per_epoch)": "the images are the same",
    r".*score_on_trained_images": "a permission",
    r".*dataloader\.drop_last=0": "the default",
    r".*(init_candidates=\[\]|constraints_range=dict\(\))": "none are none",
    r".*\.test_mode": "of datasets that leave out images",
    r".*evaluator\.prefix=": "an empty one is the default",
    r".*=-0\.0|.*=1e-400": "refused anywhere: tests/config/test_values.py",
}


@pytest.fixture(scope="module")
def search(root, tmp_path_factory) -> Iterator[Callable[..., tuple[int, Path]]]:
    """The command of tiny searches of one supernet."""
    work, runners, build = tmp_path_factory.mktemp("supernet"), [], environment.build_runner
    config = root / "configs/pruning/autoslim/autoslim_supernet_digits.py"
    assert main(["train", str(config), "--work-dir", str(work), "--cfg-options", *TINY, *DATA]) == 0

    def prepared(cfg, note=None) -> Any:
        """The runner of the first search: its network is the same in all, and preparing it takes most of the time."""
        runners.extend([] if runners else [build(cfg)])
        runners[0].logger.info(note)
        return runners[0]

    def run(*options: str) -> tuple[int, Path]:
        folder = tmp_path_factory.mktemp("search")
        words = ["search", root / CONFIG, work / "epoch_1.pth", "--work-dir", folder, "--cfg-options", *options]
        return main([str(word) for word in words]), folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "build_runner", prepared)
        yield run


def accepted(path: Path, given: list[str], first: bool, count: int, per_key: int = 2) -> list[tuple[str, str]]:
    """``count`` pairs of key and value of a search, of each key ``per_key``, that loading takes, and are no default."""
    base, cfg, pairs = read(str(path)), load_config(path, given), []
    for key, name in drawn(cfg._cfg_dict, seed=3, count=10_000, per_key=len(ABSURD)):
        walked = key.startswith("search_cfg.") and (first or OWN.fullmatch(key))
        enough = sum(key == other for other, _ in pairs) == per_key
        endless = LENGTHS.fullmatch(key) and name.startswith("huge")
        unseen = any(re.fullmatch(pattern, text) for pattern in UNSEEN for text in (key, f"{key}={ABSURD[name]}"))
        if not walked or enough or endless or unseen:
            continue
        try:
            changed = completed(copy.deepcopy(base), path, [*given, f"{key}={ABSURD[name]}"])
        except UserError:
            continue
        if changed._cfg_dict != cfg._cfg_dict and not is_default(changed._cfg_dict, key):
            pairs.append((key, name))
        if len(pairs) == count:
            break
    return pairs


@pytest.mark.parametrize("count", [1, pytest.param(10_000, marks=pytest.mark.fuzz)])
@pytest.mark.parametrize("searcher", some(SEARCHES, *list(SEARCHES)[:2]))
def test_what_a_search_accepts_changes_what_it_finds(root, search, capsys, monkeypatch, tmp_path, searcher, count):
    monkeypatch.chdir(tmp_path)
    given = [*TINY, *SEARCH, *SEARCHES[searcher]]
    runs = [search(*given) for _ in range(2)]
    expected = found(runs[0][1])
    assert [status for status, _ in runs] == [0, 0] and expected["results"]
    assert found(runs[1][1]) == expected  # else nothing could be seen to be ignored
    wrong = []
    for key, name in accepted(root / CONFIG, given, searcher == next(iter(SEARCHES)), count):
        capsys.readouterr()
        try:
            status, folder = search(*given, f"{key}={ABSURD[name]}")
        except Exception as error:
            wrong.append((key, name, repr(error)[:300]))
            continue
        log, lines = (text.strip().splitlines() for text in capsys.readouterr())
        unused = any("not used by a search" in line and key in line for line in log)
        if status == 2 and not (len(lines) == 1 and is_good(lines[0], "", name)):
            wrong.append((key, name, lines))
        elif status == 0 and not unused and found(folder) == expected:
            wrong.append((key, name, "accepted and ignored"))
    assert not wrong, "\n".join(map(str, wrong))


def test_every_searcher_is_walked():
    assert set(SEARCHES) == {name for name in SEARCHERS.module_dict if name != "Searcher"}
