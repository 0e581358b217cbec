"""Published latency tables: every number of the reference, and what does not fit a space."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from figures import figures, specialised
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.latency_ofa import official_table, read_official
from mmrazor_lite.estimators.latency_reading import read_table
from mmrazor_lite.estimators.latency_table import LatencyTable
from mmrazor_lite.models.backbones import OFAMobileNetV3, OFAProxylessNAS
from mmrazor_lite.models.mutators import NasMutator

NOTE10 = (160, 176, 192, 208, 224)


def prepared(backbone: nn.Module, features: int, resolutions=NOTE10, classes: int = 1000) -> NasMutator:
    network = nn.Sequential()
    network.add_module("backbone", backbone)
    network.add_module("first", _First())
    network.add_module("head", nn.Linear(features, classes))
    mutator = NasMutator(resolutions=resolutions)
    mutator.prepare(network, (3, 224, 224) if resolutions is None else (3, resolutions[-1], resolutions[-1]))
    return mutator


class _First(nn.Module):
    def forward(self, features):
        return features[0]


@pytest.fixture(scope="module")
def wide() -> NasMutator:
    return prepared(OFAMobileNetV3(width_mult=1.2), 1536)


@pytest.fixture(scope="module")
def proxyless() -> NasMutator:
    return prepared(OFAProxylessNAS(width_mult=1.0, expand_ratios=(3, 6)), 1280, None)


def subnet_of(space, ks, e, d, resolution) -> dict:
    """The subnet of a published config, whose lists have four blocks per stage."""
    subnet = {"resolution": resolution, **{f"backbone.layers.{s + 1}.depth": depth for s, depth in enumerate(d)}}
    for slot, (kernel, ratio) in enumerate(zip(ks, e, strict=True)):
        if slot % 4 < d[slot // 4]:
            name = f"backbone.layers.{slot // 4 + 1}.{slot % 4}"
            subnet |= {f"{name}.kernel_size": kernel, f"{name}.expand_ratio": ratio}
    return {name: subnet[name] for name in space if name in subnet}


def test_the_latencies_of_the_reference(wide, shared_path):
    table = read_table(shared_path("reference", "ofa", "note10_latency.json"), wide)
    examples = figures("ofa/accuracy_predictor_examples")["mbv3_w1_2"]["examples"]
    assert len(examples) == 21
    subnets = [subnet_of(wide.search_space, *(case[k] for k in ("ks", "e", "d", "resolution"))) for case in examples]
    found = table(np.stack([wide.search_space.index(subnet) for subnet in subnets]))
    expected = [case["note10_latency_ms"] for case in examples]
    assert found == pytest.approx(expected, rel=1e-13)
    assert [table.of(subnet) for subnet in subnets] == pytest.approx(expected, rel=1e-13)


def test_a_specialised_net_takes_what_its_name_says(wide, shared_path):
    table = read_table(shared_path("reference", "ofa", "note10_latency.json"), wide)
    net = next(net for net in specialised().values() if net["net_id"].startswith("note10_lat@30ms"))
    case = (net["ks_padded"], net["e_padded"], net["depth"], net["resolution"])
    assert net["width_mult"] == 1.2
    assert round(table.of(subnet_of(wide.search_space, *case)), 2) == 29.97


def test_the_ends_are_those_of_a_search_by_hand(wide, shared_path):
    table = read_table(shared_path("reference", "ofa", "note10_latency.json"), wide)
    rows = wide.search_space.sample_indices(np.random.default_rng(0), 2000)
    rows = np.concatenate([rows, wide.search_space.canonical(np.zeros_like(rows[:1]))])
    times = table(rows)
    assert table.extreme(False) <= times.min() and times.max() <= table.extreme(True)
    assert table.extreme(True) == pytest.approx(table.of(wide.search_space.max()))


def test_proxyless_is_the_sum_of_its_layers(proxyless, shared_path):
    path = shared_path("reference", "ofa", "proxyless_mobile_trim_latency.json")
    layers = {name: value[0] for name, value in json.loads(path.read_text())["table"].items()}
    table, space = read_table(path, proxyless), proxyless.search_space
    plain = "Conv-input:224x224x3-output:112x112x32 Conv_1-input:7x7x320-output:7x7x1280 "
    plain += "Logits-input:7x7x1280-output:1000 "
    plain += "expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0"
    maps = {24: (112, 56), 40: (56, 28), 80: (28, 14), 96: (14, 14), 192: (14, 7), 320: (7, 7)}
    for seed in range(20):
        subnet = space.sample(np.random.default_rng(seed))
        total, before = sum(layers[name] for name in plain.split()), 16
        for stage, (channels, (size, out)) in enumerate(maps.items(), 1):
            for block in range(subnet.get(f"backbone.layers.{stage}.depth", 1)):
                name = f"backbone.layers.{stage}.{block}"
                words = f"expanded_conv-input:{size}x{size}x{before}-output:{out}x{out}x{channels}"
                words += f"-expand:{subnet[f'{name}.expand_ratio']}-kernel:{subnet[f'{name}.kernel_size']}"
                total += layers[f"{words}-stride:{size // out}-idskip:{int(before == channels)}"]
                size, before = out, channels
        assert table.of(subnet) == pytest.approx(total, rel=1e-13)


def test_a_converted_table_is_the_same_table(wide, shared_path, tmp_path):
    table = read_table(shared_path("reference", "ofa", "note10_latency.json"), wide)
    table.write(tmp_path / "table.json")
    again = LatencyTable.read(tmp_path / "table.json", wide.search_space)
    rows = wide.search_space.sample_indices(np.random.default_rng(0), 100)
    assert again(rows).tolist() == table(rows).tolist() and again.digest == table.digest
    assert read_table(tmp_path / "table.json", wide).digest == table.digest
    with pytest.raises(UserError, match="build_table.py CONFIG --official FILE"):
        LatencyTable.read(shared_path("reference", "ofa", "note10_latency.json"), wide.search_space)


def test_the_layout_of_the_authors(wide, shared_path, tmp_path):
    path = shared_path("reference", "ofa", "note10_latency.json")
    tables = json.loads(path.read_text())["tables"]
    for resolution, table in tables.items():
        layout = {layer: {"mean": mean, "std": std, "count": count} for layer, (mean, std, count) in table.items()}
        (tmp_path / f"{resolution}_lookup_table.yaml").write_text(yaml.safe_dump(layout))
    found = read_official(sorted(tmp_path.glob("*.yaml")))
    assert found == read_official([path]) and list(found) == list(NOTE10)
    with pytest.raises(UserError, match="the table of resolution 160 is given twice"):
        read_official([path, tmp_path / "160_lookup_table.yaml"])


def problem(action) -> str:
    with pytest.raises(UserError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_table_that_does_not_fit(proxyless, shared_path):
    note10 = shared_path("reference", "ofa", "note10_latency.json")
    stage = [[24, 4, 2, "ReLU", False]]  # what is refused is refused of a small network too
    narrow = prepared(OFAMobileNetV3(arch_setting=stage, width_mult=1.0), 1280)
    text = problem(lambda: read_table(note10, narrow))
    assert "entries are missing: 'Conv-input:160x160x3-output:80x80x16', " in text and " more; " in text
    assert "its stem has 24 channels, the model's 16: set the width of the table, model.width_mult" in text

    text = problem(lambda: read_table(note10, prepared(OFAMobileNetV3(arch_setting=stage), 1280, (128, 160, 240))))
    assert "has no resolution 128, 240" in text and "model.mutator.resolutions=[160,176,192,208,224]" in text

    assert "is a table of OFAMobileNetV3, the model is an OFAProxylessNAS" in problem(
        lambda: read_table(note10, proxyless)
    )


@pytest.mark.wide
def test_a_table_of_another_network_or_other_choices(shared_path):
    note10 = shared_path("reference", "ofa", "note10_latency.json")
    mobile = shared_path("reference", "ofa", "proxyless_mobile_trim_latency.json")
    one = prepared(OFAMobileNetV3(width_mult=1.2), 1536, None)
    assert "is a table of OFAProxylessNAS, the model is an OFAMobileNetV3" in problem(lambda: read_table(mobile, one))
    assert read_table(note10, one).of(one.search_space.max()) == pytest.approx(92.39803799478005, rel=1e-13)

    ratios = prepared(OFAProxylessNAS(width_mult=1.0), 1280, None)
    text = problem(lambda: read_table(mobile, ratios))
    assert "-expand:4-kernel:3-" in text and "choose kernel sizes and ratios that the table has" in text


def test_entries_that_are_missing_are_named(wide, shared_path):
    tables = read_official([shared_path("reference", "ofa", "note10_latency.json")])
    lost = sorted(tables[192])[7:9]
    tables[192] = {layer: value for layer, value in tables[192].items() if layer not in lost}
    text = problem(lambda: official_table(tables, wide, "t"))
    assert text.startswith("t: 2 entries are missing: ") and all(f"'{layer}'" in text for layer in lost)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[1]", "not a published latency table"),
        ("{}", "not a published latency table"),
        ("a: [", "not valid YAML"),
        ('{"Conv-input:224x224x3-output:112x112x24": "x"}', "must be milliseconds: a number, a list or a mapping"),
        ('{"Conv-input:224x224x3-output:112x112x24": [-1]}', "must be milliseconds"),
        ('{"tables": {"224": 3}}', "not a published latency table"),
    ],
)
def test_what_is_no_published_table(tmp_path, text, part):
    path = tmp_path / "table.yaml"
    path.write_text(text)
    assert part in problem(lambda: read_official([path]))


def test_a_network_of_another_kind():
    class Other:
        search_space, resolutions, input_shape = None, None, (3, 224, 224)
        architecture = nn.Sequential(nn.Conv2d(3, 8, 3))

    tables = {224: {"Conv-input:224x224x3-output:112x112x24": 1.0}}
    assert "tables are of OFAMobileNetV3 and OFAProxylessNAS" in problem(lambda: official_table(tables, Other(), "t"))
