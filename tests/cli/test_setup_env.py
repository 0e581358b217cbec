"""The script behind ``make``: no suitable Python, a clash of packages, a stamp that is up to date."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def clone(root, tmp_path) -> Path:
    """A copy of the files that the script reads."""
    for name in ("setup.py", "requirements.txt", "tools/setup_env.sh", "tools/setup_floor.sh", "tools/check_env.py"):
        target = tmp_path / "clone" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((root / name).read_text())
    return tmp_path / "clone"


def setup(clone: Path, *extra: str, name: str = "setup_env", **env: str) -> subprocess.CompletedProcess:
    base = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    script = clone / f"tools/{name}.sh"
    return subprocess.run(["/bin/sh", script, *extra], capture_output=True, text=True, env={**base, **env})


def fake_environment(folder: Path, pip: str) -> Path:
    """A virtual environment whose pip only writes down that it was called."""
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin/python"
    python.write_text(f'#!/bin/sh\ncase "$1 $2" in "-m pip") {pip};; *) exec {sys.executable} "$@";; esac\n')
    python.chmod(0o755)
    return python


def test_no_suitable_python(clone, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("dirname", "sh"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    done = setup(clone, PATH=str(tools))
    assert done.returncode == 2
    assert done.stderr.startswith("error: no Python 3.10 to 3.13 found")


def test_installs_once_into_the_active_environment(clone, tmp_path):
    calls = tmp_path / "calls"
    python = fake_environment(tmp_path / "env", f'echo "$@" >> {calls}')
    for _ in range(2):
        done = setup(clone, VIRTUAL_ENV=str(tmp_path / "env"))
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{python}\n"
    installs = [line for line in calls.read_text().splitlines() if " install " in line]
    assert len(installs) == 1
    assert installs[0].endswith(f"--editable {clone}[tests]")
    (clone / "requirements.txt").write_text("numpy\n")
    assert setup(clone, VIRTUAL_ENV=str(tmp_path / "env")).returncode == 0
    assert calls.read_text().count(" install ") == 2


def test_another_extra_is_installed_when_it_is_asked_for(clone, tmp_path):
    calls = tmp_path / "calls"
    fake_environment(tmp_path / "env", f'echo "$@" >> {calls}')
    for extra in ((), ("docs",), ("docs",), ()):
        assert setup(clone, *extra, VIRTUAL_ENV=str(tmp_path / "env")).returncode == 0
    installs = [line.rpartition("[")[2] for line in calls.read_text().splitlines() if " install " in line]
    assert installs == ["tests]", "docs]"]


def test_failed_installation_leaves_no_stamp(clone, tmp_path):
    fake_environment(tmp_path / "env", 'case "$3" in install) exit 1;; esac')
    done = setup(clone, VIRTUAL_ENV=str(tmp_path / "env"))
    assert done.returncode == 2
    assert "error: the installation failed" in done.stderr
    assert not (tmp_path / "env/.mmrazor_lite").exists()


def test_original_mmengine_is_named_with_the_fix(clone, tmp_path):
    found = tmp_path / "site/mmengine-0.10.7.dist-info"
    found.mkdir(parents=True)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: mmengine\nVersion: 0.10.7\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    check = clone / "tools/check_env.py"
    done = subprocess.run([sys.executable, check], capture_output=True, text=True, env=env)
    assert done.returncode == 2
    assert done.stderr.startswith("error: mmengine in ")
    assert "pip uninstall -y mmengine" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# the oldest versions ---------------------------------------------------------------------------------------------


def test_the_oldest_versions_are_those_of_the_requirements(clone, tmp_path):
    calls = tmp_path / "calls"
    python = fake_environment(tmp_path / "env", f'echo "$@" >> {calls}')
    for _ in range(2):
        done = setup(clone, name="setup_floor", FLOOR_ENV=str(tmp_path / "env"))
        assert (done.returncode, done.stdout) == (0, f"{python}\n"), done.stderr
    (install,) = calls.read_text().splitlines()
    lines = [line for line in (clone / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    lines = [line for line in lines if line.startswith("torch") or sys.version_info < (3, 13)]
    assert lines and [word for word in install.split() if "==" in word] == [line.replace(">=", "==") for line in lines]
    assert install.endswith(f"--editable {clone}[tests]")


def test_oldest_versions_that_cannot_be_had_are_an_error(clone, tmp_path):
    fake_environment(tmp_path / "env", 'case "$3" in install) exit 1;; esac')
    for _ in range(2):
        done = setup(clone, name="setup_floor", FLOOR_ENV=str(tmp_path / "env"))
        assert (done.returncode, done.stdout) == (2, "")
        assert "error: the oldest versions cannot be installed" in done.stderr


def test_no_python_for_the_oldest_versions(clone, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("dirname", "sh"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    done = setup(clone, name="setup_floor", PATH=str(tools), HOME=str(tmp_path), PYENV_ROOT=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: the oldest versions need Python 3.10")


def test_the_row_of_what_was_tried_takes_the_place_of_the_last(root, tmp_path):
    spec = importlib.util.spec_from_file_location("tried", root / ".ci/tried.py")
    tried = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tried)
    page = (root / "docs/install.md").read_text()
    row = tried.row("all of it")
    once = tried.with_row(page, row)
    assert once.count(row) == 1 and tried.with_row(once, row) == once
    newer = tried.with_row(once, row.replace("all of it", "more"))
    assert "all of it" not in newer and len(newer.splitlines()) == len(once.splitlines())
    other = tried.with_row(once, "| 3.10.99 | 2.5.0, 0.20.0 | - | - | a | b | c |")
    assert len(other.splitlines()) == len(once.splitlines()) + 1
