from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from robustness.processes import start_server


@pytest.fixture(scope="session")
def tiny(registered):
    """The module ``tiny.py`` beside this file."""
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def processes():
    """What starts processes that have imported everything."""
    return start_server()


@pytest.fixture(scope="session")
def algorithm(tiny):
    return tiny.build_algorithm(dropout=0.5)


@pytest.fixture(scope="session")
def make_evaluator(tiny):
    from mmrazor_lite.engine.evaluator import ScoringSettings, SubnetEvaluator

    def make(algorithm, **changes):
        config = tiny.search_cfg(**changes)
        options = {key: value for key, value in config.items() if key not in ("type", "target_macs")}
        return SubnetEvaluator(algorithm, ScoringSettings(**options))

    return make
