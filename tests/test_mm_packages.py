"""Without the packages of OpenMMLab: plain networks are analyzed, slimmed and exported, configs say what to install."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from mmrazor_lite import mm_packages

ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
slim = "slim --model my_net.net --data images --size 12 --mean 0 0 0 --std 1 1 1 --budget 50% --images 24 --work-dir "
"""
PLAIN = """
import contextlib, io, json, torch, mmrazor_lite
from mmrazor_lite.cli import main
from mmrazor_lite.export import export_pt2
from my_net import net

with contextlib.redirect_stdout(io.StringIO()) as said:
    assert main("analyze --model my_net.net --input-shape 12 --json".split()) == 0
assert json.loads(said.getvalue())["resources"]["macs"]["max"] == 3 * 16 * 9 * 100 + 16 * 8 * 9 * 64 + 8 * 4
assert main(f"{slim} W".split()) == 0
small = mmrazor_lite.load_subnet("W/slimmed.pth", model=net())
image = torch.randn(1, 3, 12, 12)
export_pt2(small, "again.pt2", (3, 12, 12))
assert torch.allclose(torch.export.load("again.pt2").module()(image), small(image), atol=1e-6)
assert main(["configs", "autoslim_supernet_digits"]) == 0
named = sys.argv[1].split(",")
assert not [name for name in sys.modules if name.partition(".")[0] in named]
print("plain networks need none of", *named)
"""
CONFIGS = """
from mmrazor_lite.cli import main

config = "mmrazor_lite::configs/pruning/autoslim/autoslim_supernet_digits.py"
for words in ("train {}", "search {} my_net.py", "analyze {}", "flops {}", "slim {} --budget 50%", "print-config {}"):
    assert main(words.format(config).split()) == 2, words
assert main(f"{slim} V --tune 1epochs".split()) == 2
"""
NET = """
from torch import nn

def net():
    stem = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU())
    return nn.Sequential(stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
"""


@pytest.fixture
def folder(tmp_path):
    """A network of one's own and some images."""
    import numpy as np
    from PIL import Image

    (tmp_path / "my_net.py").write_text(NET)
    (tmp_path / "images").mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (30, 12, 12, 3), np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
    return tmp_path


def run(root, folder, code: str, absent: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", ABSENT + code, absent]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.wide  # without all of them, slim itself: tests/slimming/test_slim.py
@pytest.mark.parametrize("absent", ["mmpretrain", "mmcv", "mmcv,mmpretrain", "mmengine,mmcv,mmpretrain"])
def test_plain_networks_are_analyzed_slimmed_and_exported(root, folder, absent):
    said = run(root, folder, PLAIN, absent).stdout
    assert "plain networks need none of " + absent.replace(",", " ") in said


@pytest.mark.parametrize("absent", ["mmcv", pytest.param("mmengine,mmcv,mmpretrain", marks=pytest.mark.wide)])
def test_a_config_says_what_to_install(root, folder, absent):
    errors = [text for text in run(root, folder, CONFIGS, absent).stderr.splitlines() if text.startswith("error: ")]
    install = " ".join(f"onedl-{name}" for name in absent.split(","))
    assert len(errors) == 7, errors
    assert [error for error in errors if f": pip install {install} (" not in error] == []
    assert all("autoslim_supernet_digits.py' needs the package" in error for error in errors[:-1])
    assert errors[-1].startswith("error: tune='1epochs' needs the package")


def test_an_import_that_fails_for_another_reason_is_no_such_line():
    assert mm_packages.told(ModuleNotFoundError("No module named 'x'", name="x"), "train") is None
    assert "onedl-mmcv" in mm_packages.told(ModuleNotFoundError("No module named 'mmcv'", name="mmcv.cnn"), "train")


@pytest.fixture
def formatter_cache(tmp_path):
    """An environment with a cache of yapf of its own, whose files are emptied."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import yapf.yapflib.yapf_api"], env=environment, check=True)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files, "yapf keeps its cache elsewhere"
    for path in files:
        path.write_bytes(b"")
    return environment, files


def test_a_cache_that_another_process_just_writes_is_read_when_it_is_whole(formatter_cache):
    environment, files = formatter_cache
    code = (
        "from mmrazor_lite import mm_packages; print('waits', flush=True); mm_packages.load_formatter(600); import yapf"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waits\n"
        time.sleep(0.5)
        assert process.poll() is None
        for path in files:
            path.unlink()
        assert process.wait(60) == 0


def test_a_cache_that_stays_damaged_is_one_line(formatter_cache):
    code = "import sys; from mmrazor_lite.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["print-config", "mmrazor_lite::configs/pruning/autoslim/autoslim_supernet_digits.py"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=formatter_cache[0], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "remove the folder YAPF" in done.stderr
