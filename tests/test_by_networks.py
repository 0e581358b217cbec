"""A test process that dies fails its test, and the run ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = """
import os, time
import pytest
from by_networks import ByNetworks

class Waits(ByNetworks):
    def mark_test_complete(self, *args):
        time.sleep({wait})
        super().mark_test_complete(*args)

@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session):
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw2":  # the first that takes the place of another
        time.sleep({collect})

def pytest_xdist_make_scheduler(config, log):
    return Waits(config, log)
"""
DIES = "import os\ndef test_dies(): os._exit(3)\n"


@pytest.mark.parametrize("ci", ["", "true"])
@pytest.mark.parametrize(("wait", "collect"), [(0, 0), (0.3, 0), (0, 3)])
def test_a_process_that_dies_fails_one_test(tmp_path, wait, collect, ci):
    """Before its last test, in its last, and with files done: each is a way in which the run would wait for ever.

    A run that waits hears that a test is done when the process is dead, and gives it more to do. Of two processes that
    take the place of others the second may have collected its tests first.
    """
    for name in ("first", "second", "third"):
        (tmp_path / f"test_{name}.py").write_text("".join(f"def test_{i}(): pass\n" for i in range(3)))
    (tmp_path / "test_middle.py").write_text("def test_0(): pass\n" + DIES + "def test_2(): pass\n")
    (tmp_path / "test_one.py").write_text(DIES)
    (tmp_path / "conftest.py").write_text(PLUGIN.format(wait=wait, collect=collect))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rf", "-n", "2", "--dist", "loadfile"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTEST_ADDOPTS": "", "CI": ci}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120)
    assert "2 failed, 11 passed" in done.stdout, done.stdout
    # pytest repeats what a test said in the lines of its summary where the environment has CI.
    failed = sorted(line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED"))
    assert failed == ["test_middle.py::test_dies", "test_one.py::test_dies"], done.stdout
    assert done.returncode == 1
