"""The ImageNet recipe of the docs, run as it stands: every step reads what the step before wrote."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

HASH = re.compile(r"(loaded|read|wrote|the search of) (\S+) \(sha256 ([0-9a-f]{16})\)")


def commands(page: Path, other: bool) -> str:
    """The shell blocks of a page, in order; ``other``: with the variables as the text block of the page sets them."""
    text = page.read_text(encoding="utf-8")
    script, others = (
        "\n".join(re.findall(rf"^```{kind}\n(.*?)^```", text, flags=re.S | re.M)) for kind in ("shell", "text")
    )
    for name, value in re.findall(r"^(\w+)=(\w+)$", others, flags=re.M) if other else ():
        script, replaced = re.subn(rf"^{name}=\w+$", f"{name}={value}", script, flags=re.M)
        assert replaced == 1, name
    assert not other or others, "the page has no other network"
    return f"set -e\n{script}"


SPOS = {"supernet/iter_10.pth", "search/best_subnet.pth", "retrain/iter_10.pth"}
EXPECTED = {  # page and whether its other network, the files that later steps read
    ("smoke_imagenet.md", False): {
        *("supernet/epoch_1.pth", "retrain/epoch_1.pth", "split/checkpoint_1.pth"),
        *(f"search/subnet_flops_{size}M.yaml" for size in (500, 300, 200)),
    },
    ("smoke_spos.md", False): SPOS,
    ("smoke_spos.md", True): SPOS,
    ("smoke_ofa.md", False): {"supernet/epoch_1.pth", "macs_100M/best_subnet.pth"},
    ("smoke_tfnas.md", False): {"search/epoch_2.pth", "retrain/epoch_1.pth"},
}


@pytest.mark.slow
@pytest.mark.parametrize(("page", "other"), EXPECTED)
def test_each_step_loads_what_the_step_before_wrote(root, shared_path, tmp_path, page, other):
    with tarfile.open(shared_path("data", "imagenet_sample.tar")) as archive:
        archive.extractall(tmp_path / "data", filter="data")
    with np.load(shared_path("reference", "tfnas", "latency_gpu.npz")) as table:
        table = {name: {w: float(ms) for w, ms in enumerate(values, 1)} for name, values in table.items()}
    (tmp_path / "latency_gpu.pkl").write_bytes(pickle.dumps({**table, "base": table["base"][1]}))
    for name in ("tools", "configs", "mmrazor_lite"):
        (tmp_path / name).symlink_to(root / name)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = commands(root / "docs" / page, other)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

    wrote: dict[str, str] = {}
    used: set[str] = set()
    for action, path, digest in HASH.findall(done.stdout):
        name = "/".join(Path(path).parts[-2:])
        if action == "wrote":
            wrote[name] = digest
        elif name in wrote:
            assert wrote[name] == digest, f"{name} changed between the step that wrote it and the step that read it"
            used.add(name)
    assert EXPECTED[page, other] <= used
