"""The published figures are in the repository, with their sources: a clone proves its numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from figures import DATA

OUTSIDE = {  # what is not ours to give on: images, weights, and tables of measurements
    "data",
    "data/imagenet_sample.tar",
    "reference/ofa/accuracy_predictor_mbv3_w1.2.safetensors",
    "reference/ofa/accuracy_predictor_resnet50.safetensors",
    "reference/ofa/note10_latency.json",
    "reference/ofa/proxyless_mobile_trim_latency.json",
    "reference/tfnas/latency_cpu.npz",
    "reference/tfnas/latency_gpu.npz",
}
FILES = sorted(DATA.rglob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_names_its_paper_and_where_it_was_published(path):
    if path.name.startswith("net_config"):  # as published; the README says where
        assert f"`{path.parent.name}/`" in (DATA / "README.md").read_text()
        return
    content = json.loads(path.read_text())
    assert "arXiv:" in content["paper"] and all(re.search(r"https://\S+ \(\w{7}", line) for line in content["source"])


def test_they_are_small():
    assert len(FILES) > 15 and sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 300_000


def test_tests_skip_for_images_weights_and_tables_alone():
    used = set()
    for path in Path(__file__).parent.rglob("*.py"):
        for words in re.findall(r"shared_path\(((?:\s*f?\"[^\"]*\",?)+)\s*\)", path.read_text()):
            name = "/".join(re.findall(r'"([^"]*)"', words))
            used |= {name.replace("{device}", device) for device in ("cpu", "gpu")}
    assert used == OUTSIDE
