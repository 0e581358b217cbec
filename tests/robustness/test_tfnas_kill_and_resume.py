"""A search by gradients that is killed at any moment goes on to the same end, and two processes share one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from robustness.kills import assert_equal, check_files, kill_and_resume, moments, names
from robustness.processes import KILLED, Write, run, start_server
from tfnas import table_of

from mmrazor_lite.export import read_checkpoint

CONFIG = Path(__file__).with_name("tfnas_runs") / "search.py"
SAVES = {
    "epochs": ([], [Write("epoch_*", 2, "half"), Write("epoch_*", 3, "before"), Write("last_*", 2, "before")]),
    "iterations": (
        ["default_hooks.checkpoint.by_epoch=False", "default_hooks.checkpoint.interval=3"],
        [Write("iter_*", 2, "half"), Write("iter_*", 4, "after"), Write("best_subnet.yaml", 1, "half")],
    ),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """A latency table by a formula."""
    from mmrazor_lite.config.build import build_model
    from mmrazor_lite.config.load import load_config

    path = tmp_path_factory.mktemp("table") / "latency.json"
    table_of(build_model(load_config(CONFIG)).mutator).write(path)
    return path


@pytest.fixture(scope="module")
def search(table, tmp_path_factory) -> Callable:
    """Search in a number of processes that may be killed; returns the exit status and the seconds."""
    context, log = start_server(), tmp_path_factory.mktemp("logs") / "search.log"

    def search(place: Path, *words: str, options: tuple = (), kill: Any = None, ranks: int = 1) -> tuple[int, float]:
        line = ["train", CONFIG, "--work-dir", place, *words, "--cfg-options", f"model.latency_table={table}", *options]
        status, seconds = run(context, line, log, kill, ranks)
        assert status == (0 if kill is None else status if status == 0 else KILLED), log.read_text()[-3000:]
        return status, seconds

    return search


@pytest.mark.wide
@pytest.mark.parametrize("kind", [pytest.param("epochs", marks=pytest.mark.slow), "iterations"])
def test_killed_searches_end_alike(search, tmp_path, kind, kills):
    hooks, writes = SAVES[kind]

    def one(place: Path, *resume: str, kill: Any = None) -> tuple[int, float]:
        return search(place, *resume, options=tuple(hooks), kill=kill)

    whole = tmp_path / "whole"
    _, seconds = one(whole)
    last = Path((whole / "last_checkpoint").read_text()).name
    expected = read_checkpoint(whole / last)
    for place in kill_and_resume(
        one, tmp_path, seconds, moments(kills, 8, 0, writes), check_files, resume=["--resume"]
    ):
        check_files(place)
        assert names(place, "*.pth") == names(whole, "*.pth")
        assert_equal(read_checkpoint(place / last), expected, str(place))
        assert (place / "best_subnet.yaml").read_bytes() == (whole / "best_subnet.yaml").read_bytes()


def test_two_processes_agree_and_go_on_alike(search, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    search(whole, ranks=2)
    search(killed, kill=Write("epoch_*", 3, "before"), ranks=2)
    search(killed, "--resume", ranks=2)
    for name in names(whole, "*.pth"):
        assert_equal(read_checkpoint(killed / name), read_checkpoint(whole / name), name)
    assert (killed / "best_subnet.yaml").read_bytes() == (whole / "best_subnet.yaml").read_bytes()


@pytest.mark.slow
def test_a_finished_search_goes_on_with_more_epochs(search, tmp_path):
    """As the page advises where the network misses its target: it ends as the longer search would have."""
    whole, longer = tmp_path / "whole", tmp_path / "longer"
    search(whole)
    last = Path((whole / "last_checkpoint").read_text()).name
    epochs = int(last.removeprefix("epoch_").removesuffix(".pth"))
    search(longer, options=(f"train_cfg.max_epochs={epochs - 1}",))
    assert (longer / "best_subnet.yaml").exists() and not (longer / last).exists()
    search(longer, "--resume")
    assert_equal(read_checkpoint(longer / last), read_checkpoint(whole / last), last)
    assert (longer / "best_subnet.yaml").read_bytes() == (whole / "best_subnet.yaml").read_bytes()
