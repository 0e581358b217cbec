"""What tests share: the optional reference folder, a quiet registration, the repository's root."""

from __future__ import annotations

import gc
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmrazor_lite import mm_packages, shipped

gc.disable()  # while tests are imported: almost nothing of that is garbage
TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
# What is tested speaks of the scripts and reads the configs beside the tests, even of an installed package.
shipped.INSTALLED, shipped.CONFIGS = False, ROOT / "configs"
SLOW = (  # most seconds first, of make test and of the wide run; those of NETWORKS for all that share them
    "cli/test_tfnas_steps.py",
    "models/mutators/test_invariants.py",
    "test_wheel.py",
    "models/mutators/test_elastic_mutator.py",
    "robustness/test_kill_and_resume.py",
    "robustness/test_value_walk_search.py",
    "configs/test_all_configs.py",
    "robustness/test_bad_input.py",
    "models/algorithms/test_ofa.py",
    "docs/test_examples.py",
    "cli/test_ofa_steps.py",
    "cli/test_specialize.py",
    "slimming/test_slim.py",
    "robustness/test_spos_kill_and_resume.py",
    "robustness/test_value_walk.py",
    "robustness/test_spos_bad_input.py",
    "export/test_splitting.py",
    "estimators/test_ofa_numbers.py",
    "export/test_public_networks.py",
    "recipes/test_autoslim_cifar10.py",
    "cli/test_tools.py",
    "models/mutators/test_nas_mutator.py",
    "cli/test_spos_steps.py",
    "cli/test_data.py",
    "robustness/test_every_step.py",
    "robustness/test_ends.py",
    "robustness/test_failing_ranks.py",
    "config/test_values.py",
    "estimators/test_latency_ofa.py",
    "export/test_ofa_checkpoint.py",
    "export/test_any_network.py",
    "engine/search/test_predictor_loop.py",
    "graph/test_computation.py",
    "cli/test_flops_ofa.py",
    "engine/test_runner.py",
    "cli/test_slim.py",
    "cli/test_predictor.py",
    "checkpoints/test_mmrazor_names.py",
    "models/algorithms/test_spos.py",
    "engine/search/test_search_loop.py",
    "estimators/test_measure.py",
    "engine/test_best_checkpoint.py",
    "estimators/test_spos_numbers.py",
    "datasets/test_reading.py",
    # Not in order: long ones of folders that come late, which would begin when all others are done.
    "slimming/test_tune.py",
    "slimming/test_refit.py",
    "slimming/test_slimmer.py",
    "slimming/test_slimmed.py",
    "slimming/test_choosing.py",
    "slimming/test_sensitivity.py",
    "slimming/test_timed.py",
    "robustness/test_readers_of_searches.py",
    "models/mutators/test_choice_modules.py",
    "models/mutators/test_standalone.py",
    "models/ops/test_dynamic_layers.py",
)
LONG = 10.0  # seconds, of a file that belongs into SLOW
DRAWN = re.compile(r"_steps\.py$|/(docs|recipes|visualization)/")
SHARED = Path(os.environ.get("MMRAZOR_LITE_SHARED", ROOT.parent / "shared"))


def shared_path(*parts: str) -> Path:
    """Return a path in the reference folder; skip the test where the folder is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data '{path}' not here (MMRAZOR_LITE_SHARED names its folder)")
    return path


@pytest.fixture(name="shared_path")
def _shared_path():
    return shared_path


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of setup.py."""
    return ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of minutes come first: of several processes none is left with one of them when all others are done."""
    places = {TESTS / name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the order of files is made by: long ones that are not in it, and how long processes had nothing to do."""
    reports = [r for found in terminalreporter.stats.values() for r in found if isinstance(r, pytest.TestReport)]
    seconds: Counter[str] = Counter()
    ends: dict[str, float] = {}
    for report in reports:
        seconds[report.nodeid.partition("::")[0]] += report.duration
        if hasattr(report, "node"):  # of several processes
            ends[report.node.gateway.id] = max(report.stop, ends.get(report.node.gateway.id, 0.0))
    if len(ends) > 1:
        from by_networks import shared_networks

        idle = sum(max(ends.values()) - end for end in ends.values())
        terminalreporter.write_line(f"processes waited {idle:.0f} s for the last one")
        for file, took in seconds.most_common():
            if took >= LONG and file.removeprefix("tests/") not in SLOW and not shared_networks(file):
                terminalreporter.write_line(f"{took:.0f} s in {file}: name it in SLOW of tests/conftest.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: some tests wait, for processes that end or for a time to pass."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object | None:
    """One process runs the files that share networks, each of which is traced once in a process."""
    if config.getvalue("dist") != "loadfile":
        return None
    from by_networks import ByNetworks

    return ByNetworks(config, log)


@pytest.fixture(scope="session", autouse=True)
def _garbage():
    """Garbage is collected seldom: what tests keep, such as networks prepared once, is looked through each time.

    mmengine collects it whenever a dataset is built, a tenth of the time of small runs; Python does it anyway. What has
    been imported is no garbage; extensions would report it as leaked at the exit.
    """
    gc.collect()
    gc.freeze()
    before = gc.get_threshold()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
    with pytest.MonkeyPatch.context() as patch:
        if "mmengine" in sys.modules:
            patch.setattr("mmengine.dataset.base_dataset.gc", SimpleNamespace(collect=lambda: None))
        yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _short_logs():
    """mmengine formats its config four times per run, for the log; that is a third of the time of a tiny run.

    A logger may outlive the test whose captured stream it writes to; that is nobody's error.
    """
    mm_packages.load_formatter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("logging.raiseExceptions", False)
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, *args, **kwargs: (text, False), raising=False)
        yield


@pytest.fixture(scope="module", autouse=True)
def _default_scope():
    """Names without a scope are mmpretrain's, as in a run, whatever a test before has left behind."""
    if "mmpretrain.models" in sys.modules:
        from mmengine.registry import DefaultScope

        current = DefaultScope.get_current_instance()
        if current is None or current.scope_name != "mmpretrain":
            DefaultScope.get_instance(f"tests-{time.time_ns()}", scope_name="mmpretrain")


@pytest.fixture(scope="module", autouse=True)
def _pictures(request: pytest.FixtureRequest):
    """Pages have pictures where they are read, and in chains of commands: elsewhere drawing is a tenth of the time."""
    if DRAWN.search(str(request.path)) or re.search(r"html_pages|page_charts|<svg", request.path.read_text()):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmrazor_lite.visualization.page_html.svg", lambda chart, salt: "<svg></svg>")
        yield


@pytest.fixture(scope="session")
def registered() -> None:
    """Every class is registered, and names resolve as in a run."""
    from mmengine.registry import init_default_scope

    from mmrazor_lite.config.build import register_quietly

    register_quietly()
    init_default_scope("mmpretrain")


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def payload(tmp_path):
    """An object that leaves a trace when it is unpickled, and the trace."""
    trace = tmp_path / "executed"
    return Payload(trace), trace
