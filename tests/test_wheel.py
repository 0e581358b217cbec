"""What is built from the repository: a wheel that needs no clone, and a source distribution that is as good as one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

import mmrazor_lite
from mmrazor_lite.visualization import read_page

# The top of the repository; what else lies there is a reader's own: environments, data, runs.
SOURCE = (
    ".ci benchmarks configs docs mmrazor_lite tests tools CHANGELOG.md LICENSE Makefile README.md mkdocs.yml "
    "pyproject.toml requirements.txt setup.py"
).split()
LEFT_OVER = shutil.ignore_patterns("__pycache__", ".*_cache", ".hypothesis")
BUILD = """
import sys
from setuptools import build_meta
print(build_meta.build_sdist(sys.argv[1]) if sys.argv[2] == "sdist" else build_meta.build_wheel(sys.argv[1]))
"""


class Built(NamedTuple):
    """The files from which it was built, the two that were, and the wheel's content as pip lays it down."""

    source: dict[str, bytes]
    wheel: Path
    sdist: Path
    site: Path


def build(source: Path, folder: Path, kind: str) -> Path:
    """What pip calls for it, without isolation and network."""
    done = subprocess.run([sys.executable, "-c", BUILD, folder, kind], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def built(root, tmp_path_factory) -> Built:
    folder = tmp_path_factory.mktemp("wheel")
    source, site = folder / "source", folder / "site"
    source.mkdir()
    for name in SOURCE:
        if (root / name).is_dir():
            shutil.copytree(root / name, source / name, ignore=LEFT_OVER)
        else:
            shutil.copy(root / name, source)
    files = below(source)
    wheel, sdist = (build(source, folder, kind) for kind in ("wheel", "sdist"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return Built(files, wheel, sdist, site)


def below(folder: Path) -> dict[str, bytes]:
    """Path below ``folder`` -> content, of all files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_wheel_is_the_package_and_its_configs(built):
    parts = {"mmrazor_lite/": "mmrazor_lite/", "configs/": "mmrazor_lite/configs/"}
    expected = {
        path.replace(part, to, 1): content
        for path, content in built.source.items()
        for part, to in parts.items()
        if path.startswith(part)
    }
    found, info = below(built.site), f"mmrazor_lite-{mmrazor_lite.__version__}.dist-info"
    meta = {path: found.pop(path) for path in [*found] if path.startswith(info)}
    assert found == expected
    assert {"mmrazor_lite/py.typed", "mmrazor_lite/configs/_base_/runtime.py"} <= set(found)
    assert b"mmrazor-lite = mmrazor_lite.cli:main" in meta[f"{info}/entry_points.txt"]
    assert f"\nVersion: {mmrazor_lite.__version__}\n".encode() in meta[f"{info}/METADATA"]
    assert f"{info}/licenses/LICENSE" in meta


def test_the_source_distribution_is_a_clone(built, tmp_path):
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / f"mmrazor_lite-{mmrazor_lite.__version__}"
    assert built.source.items() <= below(unpacked).items()
    with zipfile.ZipFile(build(unpacked, tmp_path, "wheel")) as again, zipfile.ZipFile(built.wheel) as first:
        assert sorted(again.namelist()) == sorted(first.namelist())
        assert all(again.read(name) == first.read(name) for name in again.namelist() if not name.endswith("RECORD"))


COMMANDS = """
import sys
from pathlib import Path
import mmrazor_lite
from mmrazor_lite.cli import main

assert Path(mmrazor_lite.__file__).is_relative_to(sys.argv[1]), mmrazor_lite.__file__
named = "mmrazor_lite::configs/pruning/autoslim/autoslim_supernet_digits.py"
Path("mine.py").write_text(f"_base_ = {named!r}\\ntrain_cfg = dict(max_epochs=1)\\n")
for words in (
    "flops mine.py",
    f"print-config {named}",
    "configs copy autoslim_search_digits configs",
    "print-config configs/pruning/autoslim/autoslim_search_digits.py",
):
    status = main(words.split())
    assert status == 0, words
assert main(["train", "configs/pruning/autoslim/autoslim_search_digits.py"]) == 2
"""


def run(built: Built, folder: Path, *words: str) -> subprocess.CompletedProcess:
    """A command in a folder of its own, with the wheel alone."""
    environment = {**os.environ, "PYTHONPATH": str(built.site), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_commands_of_the_wheel_need_no_clone(built, tmp_path):
    assert run(built, tmp_path, "-m", "mmrazor_lite.cli", "--version").stdout.strip() == mmrazor_lite.__version__
    listed = run(built, tmp_path, "-m", "mmrazor_lite.cli", "configs", "autoslim_s*_digits.py").stdout.split()
    start = "mmrazor_lite::configs/pruning/autoslim/autoslim"
    assert listed == [f"{start}_{step}_digits.py" for step in ("search", "subnet", "supernet")]
    said = run(built, tmp_path, "-c", COMMANDS, str(built.site))
    assert "or as mmrazor-lite search CONFIG CKPT" in said.stderr  # no script of a clone
    assert "1,137,920" in said.stdout  # macs of the network of digits
    assert (tmp_path / "configs/_base_/runtime.py").is_file()


@pytest.mark.wide
def test_the_demo_of_the_wheel(built, tmp_path):
    said = run(built, tmp_path, "-m", "mmrazor_lite.cli", "demo").stdout
    assert "mmrazor-lite train mmrazor_lite::configs/pruning/autoslim/autoslim_mbv2_supernet_cifar10.py" in said
    assert (tmp_path / "work_dirs/demo/split/checkpoint_2.pt2").is_file()
    assert (tmp_path / "work_dirs/demo/slim/slimmed.pth").is_file()
    assert read_page(tmp_path / "work_dirs/demo/report.json").kind == "demo"
    assert 'load_subnet("work_dirs/demo/split/checkpoint_2.pth")' in said.splitlines()[-1]
