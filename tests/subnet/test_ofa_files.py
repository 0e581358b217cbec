"""Subnets of Once-for-All in the formats of its authors and of MMRazor 1.x."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import yaml
from elastic_space import make_space
from figures import DATA, specialised

from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet import Choice, SearchSpace, Subnet, parse_document, read_subnet
from mmrazor_lite.subnet.elastic_stages import stages_of

WIDTHS = {
    ("ofa_mbv3", 1.0): (24, 40, 80, 112, 160),
    ("ofa_mbv3", 1.2): (32, 48, 96, 136, 192),
    ("ofa_proxyless", 1.3): (32, 56, 104, 128, 248, 416),
}
NOTE8 = "note8_lat-22ms_top1-70.4_finetune-25"


SPACE = make_space(WIDTHS["ofa_mbv3", 1.0])


@pytest.fixture
def published() -> dict[str, dict]:
    return specialised()


def lists(entry: dict) -> dict:
    return {"ks": entry["ks_padded"], "e": entry["e_padded"], "d": entry["depth"], "r": [entry["resolution"]]}


def short_form(subnet: Subnet, space: SearchSpace) -> dict[str, list]:
    """A subnet as lists, as those of Once-for-All write it: blocks that do not run have 0."""
    found: dict[str, list] = {"ks": [], "e": [], "d": []}
    for stage in stages_of(space):
        depth = len(stage.blocks) if stage.depth is None else subnet[stage.depth]
        if stage.depth is not None:
            found["d"].append(depth)
        for index, block in enumerate(stage.blocks):
            for key, what in (("ks", "kernel_size"), ("e", "expand_ratio")):
                found[key].append(subnet[f"{block}.{what}"] if index < depth else 0)
    return {**found, "r": [subnet["resolution"]]} if "resolution" in space else found


def net_config(entry: dict) -> dict:
    """The network in its authors' words: one layer after another."""
    strides = (2, 2, 2, 1, 2, 1)
    width, blocks = entry["first_block_out"], []

    def add(entered: int, left: int, kernel: int, ratio: int, stride: int) -> None:
        layer = {"in_channels": entered, "out_channels": left, "kernel_size": kernel, "stride": stride}
        blocks.append({"mobile_inverted_conv": {**layer, "expand_ratio": ratio, "mid_channels": None}})

    add(entry["stem"], width, 3, 1, 1)
    for out, stride, kernels, ratios in zip(
        entry["stage_out"], strides, entry["kernel_sizes"], entry["expand_ratios"], strict=False
    ):
        for index, (kernel, ratio) in enumerate(zip(kernels, ratios, strict=True)):
            add(width, out, kernel, ratio, 1 if index else stride)
            width = out
    return {"blocks": blocks, "image_size": entry["resolution"]}


def mmrazor(entry: dict, start: int = 1, squeeze: int = 0) -> dict:
    """The network in MMRazor's words; ``squeeze`` is added to the ratio of squeeze-and-excitation."""
    chosen = {f"layers.{start}.depth": 1, f"layers.{start}.0.kernel_size": 3, f"layers.{start}.0.expand_ratio": 1}
    chosen |= {"first_channels": entry["first_block_out"], f"layers.{start}.out_channels": entry["first_block_out"]}
    for stage, depth in enumerate(entry["depth"]):
        name = f"layers.{stage + start + 1}"
        chosen |= {f"{name}.depth": depth, f"{name}.out_channels": entry["stage_out"][stage]}
        for block in range(4):
            runs = block < depth
            ratio = entry["expand_ratios"][stage][block] if runs else 5  # of a block that does not run: anything
            chosen[f"{name}.{block}.kernel_size"] = entry["kernel_sizes"][stage][block] if runs else 3
            chosen[f"{name}.{block}.expand_ratio"] = ratio
            chosen[f"{name}.{block}.expand_ratio_se"] = ratio + squeeze
    document = {f"backbone.{name}": {"chosen": value} for name, value in chosen.items()}
    return {**document, "input_shape": {"chosen": [entry["resolution"]] * 2}}


def error_of(document: object, space: SearchSpace = SPACE) -> str:
    with pytest.raises(UserError) as caught:
        parse_document(document, space, "net.config")
    said = str(caught.value)
    assert said.startswith("net.config") and "\n" not in said
    return said


def example() -> dict:
    return {"ks": [3, 5, 7, 3] * 5, "e": [3, 4, 6, 3] * 5, "d": [2, 3, 4, 2, 3], "r": [160]}


def test_every_published_network_is_one_subnet_in_all_formats(published):
    for entry in published.values():
        widths = WIDTHS[entry["space"], entry["width_mult"]]
        space = make_space(widths, len(widths))
        subnet = parse_document(lists(entry), space, "lists").subnet
        long = {"ks_padded": entry["ks_padded"], "e_padded": entry["e_padded"], "depth": entry["depth"]}
        assert parse_document({**long, "resolution": entry["resolution"]}, space, "lists").subnet == subnet
        assert parse_document(net_config(entry), space, "net.config").subnet == subnet
        for start in (0, 1) if len(widths) == 5 else ():
            assert parse_document(mmrazor(entry, start), space, "mmrazor").subnet == subnet
        assert short_form(subnet, space) == lists(entry)
        assert subnet["resolution"] == entry["resolution"]
        for stage, kernels in enumerate(entry["kernel_sizes"], start=1):
            for block, kernel in enumerate(kernels):
                assert subnet[f"backbone.layers.{stage}.{block}.kernel_size"] == kernel


def test_published_files(published, tmp_path):
    reference = DATA / "ofa"
    for file, name in (("net_config_note8_31ms.json", "note8_lat-31ms"), ("net_config_cpu_15ms.json", "cpu_lat-15ms")):
        entry = next(entry for key, entry in published.items() if key.startswith(name))
        widths = WIDTHS[entry["space"], entry["width_mult"]]
        expected = parse_document(lists(entry), make_space(widths, len(widths)), "lists").subnet
        folder = tmp_path / name  # as published: the image size is in the file beside
        folder.mkdir()
        (folder / "net.config").write_text((reference / file).read_text())
        with pytest.raises(UserError, match="image size"):
            read_subnet(folder / "net.config", make_space(widths, len(widths)))
        (folder / "run.config").write_text(json.dumps({"image_size": entry["resolution"]}))
        assert read_subnet(folder / "net.config", make_space(widths, len(widths))).subnet == expected
        found = read_subnet(reference / file, make_space(widths, len(widths), sizes=False)).subnet
        assert found.to_dict() == {key: value for key, value in expected.items() if key != "resolution"}


def test_the_file_of_mmrazor(published, mmrazor_files, caplog):
    path = mmrazor_files / "v1_fix_subnet_OFA_NOTE8_LAT22.yaml"
    with caplog.at_level(logging.WARNING):
        subnet = read_subnet(path, SPACE).subnet
    assert subnet == parse_document(lists(published[NOTE8]), SPACE, "lists").subnet
    odd = [line for line in caplog.messages if "expand_ratio_se" in line]
    assert len(odd) == 1 and "backbone.layers.3.0" in odd[0]  # of blocks that run; one more of those that do not


@pytest.mark.parametrize("write", [mmrazor, net_config])
def test_widths_that_the_space_does_not_know_are_said(published, caplog, write):
    with caplog.at_level(logging.WARNING):
        parse_document(write(published[NOTE8]), make_space(), "file")
    assert any("not compared" in line and "'backbone.layers.1'" in line for line in caplog.messages)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        parse_document(net_config(published[NOTE8]), SPACE, "file")
    assert not caplog.messages


def test_lists_survive_for_random_subnets():
    for stages, sizes in ((5, True), (6, True), (5, False)):
        space = make_space(stages=stages, sizes=sizes)
        for row in space.sample_indices(np.random.default_rng(stages), 20):
            subnet = space.subnet(row)
            short = short_form(subnet, space)
            assert parse_document(short, space, "lists").subnet == subnet
            assert parse_document(json.loads(json.dumps(short)), space, "lists").subnet == subnet
            assert sum(kernel > 0 for kernel in short["ks"]) == sum(short["d"]) + (stages == 6)


def test_lists_of_blocks_that_do_not_run_are_ignored(tmp_path: Path):
    document = example()
    expected = parse_document(document, SPACE, "lists").subnet
    document["ks"][2:4], document["e"][2:4] = [0, 99], [0, None]  # the first stage has two blocks
    assert parse_document({**document, "wid": None}, SPACE, "lists").subnet == expected
    (tmp_path / "lists.json").write_text(json.dumps(document))
    (tmp_path / "lists.yaml").write_text(yaml.safe_dump(document))
    assert read_subnet(tmp_path / "lists.json", SPACE).subnet == expected
    assert read_subnet(tmp_path / "lists.yaml", SPACE).subnet == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ks": [9, 5, 7, 3] * 5}, "backbone.layers.1.0.kernel_size"),
        ({"e": [3, 5, 6, 3] * 5}, "backbone.layers.1.1.expand_ratio"),
        ({"d": [2, 3, 5, 2, 3]}, "backbone.layers.3.depth"),
        ({"d": [1, 3, 4, 2, 3]}, "backbone.layers.1.depth"),
        ({"d": [2, 3]}, "'d' has 2 numbers, the space needs 5"),
        ({"ks": [3] * 21}, "'ks' has 21 numbers, the space needs 20"),
        ({"e": 3}, "'e' has 3, the space needs 20"),
        ({"r": [161]}, "'resolution': 161"),
        ({"r": [160, 192]}, "one size"),
        ({"r": "large"}, "'resolution'"),
        ({"wid": [0, 1]}, "'wid'"),
        ({"kernels": [3]}, "unknown key 'kernels'"),
        ({"ks_padded": [3] * 20}, "both 'ks' and 'ks_padded'"),
    ],
)
def test_bad_lists(change, said):
    assert said in error_of({**example(), **change})


def test_no_size_and_no_elastic_blocks():
    document = example()
    del document["r"]
    assert "image_size" in error_of(document)
    assert parse_document(document, make_space(sizes=False), "lists")
    assert "no elastic blocks" in error_of(document, SearchSpace([Choice("width", (8, 16))]))


def test_bad_net_configs(published):
    def changed(index: int, **values: object) -> dict:
        document = net_config(published[NOTE8])
        document["blocks"][index]["mobile_inverted_conv"].update(values)
        return document

    assert "backbone.layers.1.0.kernel_size" in error_of(changed(1, kernel_size=9))
    assert "backbone.layers.1.1.expand_ratio" in error_of(changed(2, expand_ratio=5))
    assert "block 2: mid_channels 80" in error_of(changed(2, mid_channels=80))
    assert "block 0 has kernel 5" in error_of(changed(0, kernel_size=5))
    assert "block 3 is no inverted residual" in error_of(changed(3, stride="two"))
    assert "block 2 reads 24 channels, block 1 gives 32" in error_of(changed(1, out_channels=32))
    assert "6 stages behind" in error_of(net_config(next(e for e in published.values() if e["space"] != "ofa_mbv3")))
    document = net_config(published[NOTE8])
    del document["blocks"][2]
    assert "backbone.layers.1.depth" in error_of(document)
    document = net_config(next(e for e in published.values() if e["space"] != "ofa_mbv3"))
    said = error_of({**document, "name": "ProxylessNASNets"})
    assert "it is a ProxylessNASNets, use configs/nas/mmcls/onceforall/ofa_proxyless_supernet_32xb64_in1k.py" in said
    document = net_config(next(e for e in published.values() if e["width_mult"] == 1.2))
    said = error_of({**document, "classifier": {"in_features": 1536}})
    assert "this model has 24; choose the width with model.width_mult=1.2" in said
    assert error_of({"blocks": [], "image_size": 160})
    assert error_of({"blocks": [3], "image_size": 160})


def test_bad_mmrazor_files(published):
    def changed(key: str, value: object) -> dict:
        return {**mmrazor(published[NOTE8]), key: {"chosen": value}}

    assert "backbone.layers.1.0.kernel_size" in error_of(changed("backbone.layers.2.0.kernel_size", 9))
    assert "backbone.layers.5.1.expand_ratio" in error_of(changed("backbone.layers.6.1.expand_ratio", 5))
    assert "backbone.layers.2.depth" in error_of(changed("backbone.layers.3.depth", 6))
    assert "this model has 40" in error_of(changed("backbone.layers.3.out_channels", 48))
    assert "7 stages" in error_of(changed("backbone.layers.7.depth", 1))
    assert "of the first block" in error_of(changed("backbone.layers.1.0.expand_ratio", 3))
    assert "'resolution': 141" in error_of(changed("input_shape", [141, 141]))
    assert "no entry" in error_of(changed("head.fc", 3))
    document = mmrazor(published[NOTE8])
    del document["backbone.layers.4.1.kernel_size"]
    assert "backbone.layers.4.1.kernel_size is missing" in error_of(document)
