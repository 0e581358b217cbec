"""``flops`` prints the published numbers of the shipped subnets."""

from __future__ import annotations

import json

import pytest

from mmrazor_lite.cli import main

AUTOSLIM = "configs/pruning/autoslim"
# params and flops: MMRazor's README and file names; macs: the AutoSlim paper, table 3 (305 M).
PUBLISHED = {
    "320M": ("305.07", "320.25", "5.77"),
    None: ("672.83", "702.90", "6.86"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(capsys, root, name):
    config = root / AUTOSLIM / "autoslim_mbv2_supernet_8xb256_in1k.py"
    subnet = ["--subnet", str(root / AUTOSLIM / f"AUTOSLIM_MBV2_{name}_OFFICIAL.yaml")] if name else []
    assert main(["flops", str(config), "--json", *subnet]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert set(counts) == {"macs", "flops", "params", "memory", "unscaled"}
    assert counts["unscaled"] is True
    assert tuple(f"{counts[key] / 1e6:.2f}" for key in ("macs", "flops", "params")) == PUBLISHED[name]


def test_shape_is_an_alias(capsys, root):
    config = str(root / AUTOSLIM / "autoslim_supernet_digits.py")
    tiny = ["--cfg-options", "model.architecture.backbone.settings=[]"]
    counts = []
    for flag in ("--shape", "--input-shape"):
        assert main(["flops", config, flag, "16", "24", "--json", *tiny]) == 0
        counts.append(json.loads(capsys.readouterr().out))
    assert counts[0] == counts[1]
    assert main(["flops", config, *tiny]) == 0
    assert "1x3x8x8" in capsys.readouterr().out
