"""Subnet files of every format, after anything happened to them: a subnet of the space, or one short line, at once."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from elastic_space import make_space
from mutators_of_bytes import hopeless, mutations

from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet import Choice, LayerWidth, SearchSpace, Stage, read_subnet, write_subnet
from mmrazor_lite.subnet.subnet_file import image_size
from mmrazor_lite.subnet.yamlio import load_yaml

LONGEST = 700  # characters of a message, the path apart
SECONDS = 2

WIDTHS = SearchSpace(
    [Choice("conv1", range(8, 49, 8)), Choice("layer1.conv", (4, 6, 12))],
    layers={"conv1": LayerWidth("conv1", 48), "layer1.conv": LayerWidth("layer1.conv", 12), "fc": LayerWidth(None, 10)},
)
OPERATORS = SearchSpace(
    [Choice(f"layers.{place}", ("shuffle_3x3", "shuffle_5x5"), kind="operator") for place in range(2)],
    aliases={f"stage_0_block_{place}": f"layers.{place}" for place in range(2)},
)
ELASTIC = make_space((24, 40), stages=2)
BLOCKS = SearchSpace(
    [
        Choice(f"stages.0.{block}", ("MBI_k3_e3", "MBI_k3_e6"), kind="operator")
        for block in range(2)
    ]
    + [
        Choice(f"stages.0.{block}.{name}.mid_channels", range(8, 49, 8), active_if=(f"stages.0.{block}", (name,)))
        for block in range(2)
        for name in ("MBI_k3_e3", "MBI_k3_e6")
    ],
    layers={"stages.0": LayerWidth(None, 8)},
    stages=[Stage("stages.0", ("stages.0.0", "stages.0.1"))],
)  # fmt: skip


def inverted(inputs: int, out: int, kernel: int, ratio: int, stride: int) -> dict:
    conv = {"in_channels": inputs, "out_channels": out, "kernel_size": kernel, "stride": stride, "expand_ratio": ratio}
    return {"name": "MobileInvertedResidualBlock", "mobile_inverted_conv": {**conv, "mid_channels": None}}


def channels(out: int, full: int) -> dict:
    return {"in_channels": 3, "out_channels": out, "raw_in_channels": 3, "raw_out_channels": full}


OFA = [inverted(16, 16, 3, 1, 1), inverted(16, 24, 5, 3, 2), inverted(24, 24, 3, 4, 1), inverted(24, 40, 7, 6, 2),
       inverted(40, 40, 3, 3, 1)]  # fmt: skip
TFNAS = {"in_channels": 8, "mid_channels": 24, "se_channels": 0, "out_channels": 8, "kernel_size": 3, "stride": 1}
MMRAZOR_OFA = {f"backbone.layers.{stage}.{key}": {"chosen": value} for stage in (2, 3) for key, value in
               [("depth", 2), ("out_channels", {2: 24, 3: 40}[stage])]
               + [(f"{block}.{what}", value) for block in (0, 1) for what, value in (("kernel_size", 3),
                  ("expand_ratio", 4), ("expand_ratio_se", 4))]}  # fmt: skip
MMRAZOR_OFA |= {"backbone.layers.1.depth": {"chosen": 1}, "input_shape": {"chosen": [160, 160]}}
FORMATS: dict[str, tuple[SearchSpace, object]] = {
    "channels of 0.x": (WIDTHS, {"architecture.model.conv1": channels(16, 48), "layer1.conv": channels(6, 12)}),
    "mutable of 0.x": (OPERATORS, {f"stage_0_block_{i}": {"chosen": ["shuffle_3x3"]} for i in (0, 1)}),
    "fix_subnet of 1.x": (OPERATORS, {f"layers.{i}": {"chosen": "shuffle_5x5"} for i in (0, 1)}),
    "modules of 1.0 rc": (OPERATORS, {"modules": {f"layers.{i}": "shuffle_5x5" for i in (0, 1)}, "channels": {}}),
    "fix_subnet of OFA": (ELASTIC, MMRAZOR_OFA),
    "net.config": (ELASTIC, {"name": "MobileNetV3", "blocks": OFA, "image_size": 176}),
    "lists of OFA": (ELASTIC, {"ks": [3, 5, 7, 3] * 2, "e": [3, 4, 6, 3] * 2, "d": [2, 3], "r": [160]}),
    "model.config": (BLOCKS, {"first_stem": {}, "second_stem": {}, "stage1": [TFNAS, TFNAS], "classifier": {}}),
}


def whole(name: str, folder: Path) -> tuple[SearchSpace, Path]:
    """A file of the format that is read, and its space."""
    if name == "ours":
        path, space = folder / "ours.yaml", make_space((24, 40), stages=2)
        about = {"tool": "search", "budgets": [300, "1e6"], "version": "0.1"}
        subnet = space.sample(np.random.default_rng(0))
        write_subnet(path, subnet, space, {"macs": 305066400, "latency": 1.5}, {"top1": 72.7}, about)
        return space, path
    space, document = FORMATS[name]
    text = json.dumps(document, indent=1) if name in ("net.config", "model.config") else yaml.safe_dump(document)
    (folder / "subnet").write_text(text)
    return space, folder / "subnet"


NAMES = ("ours", *FORMATS)


def check(path: Path, space: SearchSpace) -> bool:
    """Read a file that may be damaged; tell whether it gave a subnet."""
    began = time.process_time()
    try:
        found = read_subnet(path, space)
    except UserError as error:
        said = str(error)
        assert str(path) in said and "\n" not in said and len(said.replace(str(path), "")) < LONGEST, said
        return False
    finally:
        assert time.process_time() - began < SECONDS
    space.validate(found.subnet)
    assert found.subnet == space.subnet(space.index(found.subnet))
    return True


def damaged(name: str, folder: Path, n: int, seed: int) -> Iterator[tuple[SearchSpace, Path]]:
    space, path = whole(name, folder)
    assert check(path, space)
    for content in mutations(path.read_bytes(), np.random.default_rng([seed, NAMES.index(name)]), n):
        path.write_bytes(content)
        yield space, path


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_gives_a_subnet_or_one_line(tmp_path, name):
    read = [check(path, space) for space, path in damaged(name, tmp_path, 40, seed=0)]
    assert read.count(False) > 10


@pytest.mark.fuzz
@pytest.mark.parametrize("name", NAMES)
def test_thousands_of_damaged_files(tmp_path, name):
    for space, path in damaged(name, tmp_path, 400, seed=1):
        check(path, space)


@pytest.mark.parametrize("name", hopeless())
def test_what_is_no_subnet_file(tmp_path, name):
    (tmp_path / "a").write_bytes(hopeless()[name])
    for space in (WIDTHS, ELASTIC):
        assert not check(tmp_path / "a", space)
    (tmp_path / "net.config").write_text(json.dumps({"name": "MobileNetV3", "blocks": OFA}))
    (tmp_path / "run.config").write_bytes(hopeless()[name])
    began = time.process_time()
    for read in (lambda path: read_subnet(path, ELASTIC), image_size):
        try:
            assert read(tmp_path / "net.config") is None  # a file that says no size
        except UserError as error:
            assert "config" in str(error) and "\n" not in str(error) and len(str(error)) < LONGEST + len(str(tmp_path))
    assert time.process_time() - began < SECONDS


NUMBERS = (
    *("1e6", "1E1", "0x10", "0o20", "020", "1_6", "0b10000", "1:30", ".inf", "-.inf", ".nan", "16.0", "1.6e+1", "+16"),
    *("9" * 4000, "9" * 100_000, "-16", "!!int 16", "'16'", "yes", "~", "2026-01-01", "1,6"),
)


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_of_every_form(tmp_path, number):
    """A width is a decimal number; what YAML 1.1 would also take for one, such as 020 for 16, is refused."""
    path = tmp_path / "s.yaml"
    path.write_text(f"format: mmrazor_lite.subnet/1\nchoices: {{conv1: {number}, layer1.conv: 6}}\n")
    assert check(path, WIDTHS) == (number in ("+16",))
    path.write_text(
        f"format: mmrazor_lite.subnet/1\nchoices: {{conv1: 16, layer1.conv: 6}}\nresources: {{macs: {number}}}\n"
    )
    assert check(path, WIDTHS) == (number in ("+16", "-16", "16.0", "1.6e+1"))


TEXTS = {
    "duplicate": "a: 1\na: 2\n",
    "tag": "a: !!python/object/apply:os.system ['true']\n",
    "set": "a: !!set {x, y}\n",
    "binary": "a: !!binary aGVsbG8=\n",
    "merge": "a: &a {x: 1}\nb:\n  <<: *a\n",
    "merge bomb": "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9) if i else ''}]}}\n" for i in range(12)),
    "itself": "a: &a [*a]\n",
    "two documents": "a: 1\n---\na: 2\n",
    "million": "a: [" + "1," * 1_000_000 + "]\n",
    "deep blocks": "".join(" " * i + "a:\n" for i in range(500)),
    "deep flow": "a: " + "[" * 20_000,
    "deep keys": "? " * 20_000,
    "many keys": "{" + ",".join(f"k{i}" for i in range(400_000)) + "}",
    "unhashable": "? [1]\n: 2\n",
    "tabs": "a:\n\t- 1\n",
    "colons": ":" * 500_000,
    "quote": '"' + "x" * 1_000_000,
}


@pytest.mark.parametrize("name", TEXTS)
def test_yaml_that_no_subnet_needs(tmp_path, name):
    (tmp_path / "a.yaml").write_text(TEXTS[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert not check(tmp_path / "a.yaml", WIDTHS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "latin-1"])
def test_encodings(tmp_path, encoding):
    text = "# größe\nformat: mmrazor_lite.subnet/1\nchoices: {conv1: 16, layer1.conv: 6}\n"
    (tmp_path / "a.yaml").write_bytes(text.encode(encoding))
    assert check(tmp_path / "a.yaml", WIDTHS) == (encoding == "utf-8-sig")


def test_what_is_no_file(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "none", tmp_path / ("x" * 300)):
        assert not check(path, WIDTHS)
    (tmp_path / "large").write_bytes(b"a: 1\n" * 1_000_000)
    with pytest.raises(UserError, match="more than the"):
        load_yaml(tmp_path / "large")
