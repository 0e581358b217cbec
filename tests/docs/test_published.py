"""Numbers of others that the pages repeat are the published ones, and what was not published is said."""

from __future__ import annotations

import pytest
from figures import figures


@pytest.fixture
def rows(root):
    """The rows of the tables of a page, as lists of cells."""

    def read(page: str) -> list[list[str]]:
        lines = (root / "docs" / page).read_text().splitlines()
        return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("|")]

    return read


def test_autoslim_of_tf2(rows, root):
    facts = figures("autoslim_tf2/results")
    names = {"Mobilev2": "MobileNetV2", "WResNet-40-4": "WRN-40-4", "ResNet-56": "ResNet-56"}
    table = rows("autoslim_cifar10.md")
    for result in facts["results"]:
        start = next(
            i
            for i, row in enumerate(table)
            if row[0] == names[result["arch"]] and len(row) > 2 and row[1] == "baseline"
        )
        for row, fact in zip(table[start : start + 3], result["rows"], strict=True):
            row = row if row[0] == names[result["arch"]] else ["", *row]
            assert row[2] == f"{fact['acc']:.2f} %"
            numbers = [float(cell.split()[0]) for cell in row[3:5]]
            assert numbers == [fact["flops_M"], fact["params_M"]]
            if "flops_ratio" in fact:
                assert row[5] == f"{100 * fact['flops_ratio']:.1f} %"
        plain = result["computed_baseline"]
        assert table[start][6:8] == [f"{plain['macs'] / 1e6:.3f} M", f"{plain['params'] / 1e6:.3f} M"]
    text = (root / "docs" / "autoslim_cifar10.md").read_text()
    assert "read off the bar charts" in text and "4 per element of a norm" in text and "19 norms twice" in text


def test_tfnas(rows, root):
    facts = figures("tfnas/searched_architectures")["published"]
    page = (root / "docs" / "tfnas.md").read_text()
    table = {row[0]: row for row in rows("tfnas.md") if row[0].startswith("TF-NAS-")}
    assert set(table) == {fact["name"] for fact in facts}
    for fact in facts:
        row = table[fact["name"]]
        numbers = [float(cell.split()[0]) for cell in row[1:5]]
        assert numbers == [fact[key] for key in ("flops_M", "top1", "gpu_latency_ms", "cpu_latency_ms")]
        assert (row[5] == "not published") is not fact["architecture_available"]
    assert "TF-NAS-B, C, D, CPU-A and CPU-B were not published" in page
    assert "74.34 ms beside the 80.14 ms published" in page.replace("on the CPU ", "").replace("\n", " ")


def test_once_for_all(root):
    page = (root / "docs" / "ofa.md").read_text().replace("\n", " ")
    assert "0.747 G" in page and "reproduced only at 248 x 248" in page
