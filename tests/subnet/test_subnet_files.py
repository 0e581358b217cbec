from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet import (
    Choice,
    SearchSpace,
    parse_document,
    read_subnet,
    subnet_document,
    write_subnet,
)

GOOD = "format: mmrazor_lite.subnet/1\nchoices: {conv1: 16, layer1.conv: 6}\n"


def refused(path: Path, space: SearchSpace, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        read_subnet(path, space)
    message = str(error.value)
    assert "\n" not in message and message.startswith(str(path)) and len(message) < 500 + len(str(path))
    return message.removeprefix(f"{path}: ")


def test_write_read_and_bytes(tmp_path: Path, space: SearchSpace) -> None:
    path = tmp_path / "new" / "subnet.yaml"
    subnet = space.sample(np.random.default_rng(0))
    resources = {"macs": np.int64(305066400), "latency": np.float32(1.5)}
    made_by = {"tool": "search", "checkpoint": Path("a.pth"), "budgets": (300, "1e6"), "version": "0.1.0"}
    for _ in range(2):
        write_subnet(path, subnet, space, resources, {"accuracy/top1": np.float64(72.7)}, made_by)
        assert path.read_text() == (
            f"format: mmrazor_lite.subnet/1\nspace: {space.fingerprint}\nchoices:\n"
            f"  conv1: {subnet['conv1']}\n  layer1.conv: {subnet['layer1.conv']}\n"
            "resources:\n  macs: 305066400\n  latency: 1.5\nscore:\n  accuracy/top1: 72.7\n"
            "made_by:\n  tool: search\n  checkpoint: a.pth\n  budgets:\n  - 300\n  - 1e6\n  version: 0.1.0\n"
        )
    assert [p.name for p in path.parent.iterdir()] == ["subnet.yaml"]
    found = read_subnet(path, space)
    assert found.subnet == subnet and hash(found.subnet) == hash(subnet) and found.path == path
    assert found.resources == {"macs": 305066400, "latency": 1.5} and found.score == {"accuracy/top1": 72.7}
    assert found.made_by["budgets"] == [300, "1e6"]
    assert parse_document(subnet_document(subnet, space), space, "checkpoint").subnet == subnet


def test_every_subnet_survives_with_all_kinds_of_choices(tmp_path: Path, nested: SearchSpace) -> None:
    path = tmp_path / "s.yaml"
    for row in np.unique(nested.sample_indices(np.random.default_rng(0), 200), axis=0):
        subnet = nested.subnet(row)
        write_subnet(path, subnet, nested)
        assert read_subnet(path, nested).subnet == subnet


def test_a_bad_subnet_leaves_the_file_as_it_was(tmp_path: Path, space: SearchSpace) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("before")
    with pytest.raises(UserError, match="above the maximum"):
        write_subnet(path, {"conv1": 64, "layer1.conv": 6}, space)
    with pytest.raises(ValueError, match="finite"):
        write_subnet(path, space.max(), space, {"macs": float("nan")})
    with pytest.raises(ValueError, match="plain data"):
        write_subnet(path, space.max(), space, made_by={"model": object()})
    assert path.read_text() == "before"


def test_written_by_hand_without_space(tmp_path: Path, space: SearchSpace) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(GOOD)
    found = read_subnet(path, space)
    assert found.subnet.to_dict() == {"conv1": 16, "layer1.conv": 6}
    assert (found.resources, found.score, found.made_by) == ({}, None, None)


def test_another_grid_of_the_same_network_is_the_same_space(tmp_path: Path, space: SearchSpace) -> None:
    any_width = SearchSpace([Choice("conv1", range(1, 49)), Choice("layer1.conv", range(1, 13))])
    write_subnet(tmp_path / "s.yaml", space.min(), space)
    assert read_subnet(tmp_path / "s.yaml", any_width).subnet == space.min()
    write_subnet(tmp_path / "s.yaml", {"conv1": 7, "layer1.conv": 5}, any_width)
    assert "7 is not a candidate" in refused(tmp_path / "s.yaml", space, (tmp_path / "s.yaml").read_bytes())


def test_of_another_space(tmp_path: Path, space: SearchSpace) -> None:
    path = tmp_path / "s.yaml"
    renamed = SearchSpace([Choice("conv1", (48,)), Choice("layer2.conv", (12,))])
    write_subnet(path, renamed.max(), renamed)
    message = refused(path, space, path.read_bytes())
    assert renamed.fingerprint in message and space.fingerprint in message and "another space" in message
    assert "only in the file: 'layer2.conv'; only in the model: 'layer1.conv'" in message
    wider = SearchSpace([Choice("conv1", (96,)), Choice("layer1.conv", (12,))])
    write_subnet(path, wider.max(), wider)
    assert "choice 'conv1': 96 is above the maximum 48" in refused(path, space, path.read_bytes())
    wider = SearchSpace([Choice("conv1", (8, 96)), Choice("layer1.conv", (12,))])
    write_subnet(path, wider.min(), wider)
    assert "other full widths" in refused(path, space, path.read_bytes())


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not a subnet file: expected a mapping, got None"),
        ("[1, 2]", "not a subnet file: expected a mapping, got [1, 2]"),
        ("just text", "not a subnet file"),
        ("a: 1\nb: [1\n", "line 3: not valid YAML"),
        ("a: 1\na: 2\n", "line 2: not valid YAML: the key 'a' is given twice"),
        ("a: !!python/object/apply:os.system ['true']", "line 1: not valid YAML: the tag 'tag:yaml.org,2002:python/"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", "line 2: not valid YAML: merge keys (<<) are not read"),
        ("a: \x00", "not valid YAML"),
        ("[" * 100, "nested too deep"),
        (b"\xff\xfe\x00PK", "not a text file"),
        ("8: 8\n", "the key 8 is not text"),
        ("conv1: 16\nlayer1.conv: 6\n", "not a subnet file: expected 'mmrazor_lite.subnet/1', or MMRazor's"),
        (GOOD.replace("/1", "/2"), "format 'mmrazor_lite.subnet/2' is not known here (allowed: mmrazor_lite.subnet/1)"),
        ("choices: {conv1: 16}", "the key 'format' is missing (allowed: mmrazor_lite.subnet/1)"),
        ("format: mmrazor_lite.subnet/1", "'choices' must map names to values, got None"),
        (GOOD + "resource: {macs: 1}", "unknown key 'resource' (did you mean 'resources'?)"),
        (GOOD + "resources: {macs: 1e6}", "resources: macs must be a plain number, got '1e6'"),
        (GOOD + "score: 72.7", "'score' must be a mapping, got 72.7"),
        (GOOD.replace("16", "1e6"), "choice 'conv1': '1e6' is text, not a number (allowed: 8..48 step 8)"),
        (GOOD.replace("16", "true"), "choice 'conv1': True is not a number"),
        (GOOD.replace("16", "56"), "choice 'conv1': 56 is above the maximum 48"),
        (GOOD.replace("conv1: 16, ", ""), "1 of 2 choices missing: 'conv1'"),
        (GOOD.replace("conv1: 16", "conv1: 16, con1: 8"), "unknown choice 'con1' (did you mean 'conv1'?)"),
        (GOOD.replace("conv1: 16", "conv1: 16, 5: 8"), "unknown choice 5"),
        (GOOD.replace("16", "[" + "x, " * 999 + "x]"), "is not a number"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, space: SearchSpace, text: str | bytes, part: str) -> None:
    assert part in refused(tmp_path / "s.yaml", space, text)


def test_missing_file_and_folder(tmp_path: Path, space: SearchSpace) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: cannot read the subnet file \(No such file"):
        read_subnet(tmp_path / "none.yaml", space)
    with pytest.raises(UserError, match="a folder, expected the subnet file"):
        read_subnet(tmp_path, space)


def test_a_file_that_expands_without_end_is_refused_quickly(tmp_path: Path, space: SearchSpace) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20)]
    lines += ["format: mmrazor_lite.subnet/1", "choices: *a19"]
    assert "not valid YAML: more than 50,000 entries" in refused(tmp_path / "s.yaml", space, "\n".join(lines))
    assert "stands inside of what it stands for" in refused(tmp_path / "s.yaml", space, "made_by: &a [*a]")
    text = "made_by: {a: &a [1, 2], b: *a}\nformat: mmrazor_lite.subnet/1\nchoices: {conv1: &w 16, layer1.conv: 6}\n"
    (tmp_path / "s.yaml").write_text(text)  # as PyYAML writes what stands in two places
    assert read_subnet(tmp_path / "s.yaml", space).made_by == {"a": [1, 2], "b": [1, 2]}


def test_the_document_is_plain(space: SearchSpace) -> None:
    document = subnet_document(space.max(), space, {"macs": np.int32(7)}, made_by={"a": np.float64(0.5)})
    assert yaml.safe_load(yaml.safe_dump(document)) == document
    assert type(document["resources"]["macs"]) is int and "score" not in document
