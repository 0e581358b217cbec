"""Files as MMRazor wrote them. Spaces are made by hand here, as the mutator makes them from a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet import Choice, LayerWidth, SearchSpace, parse_document, read_subnet

# slimmable_networks, apps/autoslim_mobilenet_v2_train_val.yml: the 305M network, which MMRazor calls 320M. Layout:
# stem, out of block 0, (middle, out) of blocks 1 to 16, last conv, classes.
OFFICIAL_305M = [
    8, 8, 96, 16, 96, 16, 96, 24, 144, 24, 144, 24, 144, 56, 288, 56, 288, 56, 288, 56, 288, 96, 432, 96, 432, 96,
    864, 240, 1440, 240, 960, 240, 1440, 480, 1920, 1000,
]  # fmt: skip
BLOCKS = (1, 2, 3, 4, 3, 3, 1)  # blocks per stage of MobileNetV2; those of one stage share their output by residuals


def mobilenet_space(document: dict, step: int = 8) -> SearchSpace:
    """MobileNetV2: the choice of each layer, and the full widths that the file tells."""
    layers: dict[str, str | None] = {"head.fc": None}
    layers |= {f"backbone.{name}": "stem" for name in ("conv1.conv", "conv1.bn", "layer1.0.conv.0.conv")}
    layers |= {"backbone.layer1.0.conv.0.bn": "stem"}
    layers |= {f"backbone.{name}": name for name in ("conv2", "layer1.0.conv.1")}
    for stage, blocks in enumerate(BLOCKS[1:], start=2):
        for block in range(blocks):
            base = f"layer{stage}.{block}"
            layers |= {f"backbone.{base}.conv.{i}": f"{base}.middle" for i in (0, 1)}
            layers |= {f"backbone.{base}.conv.2": f"layer{stage}.out"}
    full: dict[str, LayerWidth] = {}
    for name, entry in document.items():
        name = name.removeprefix("architecture.model.")
        choice = layers[name] if name in layers else layers[name.rpartition(".")[0]]
        full[name] = LayerWidth(choice, entry["raw_out_channels"])
    widths = {width.choice: width.full for width in full.values() if width.choice}
    return SearchSpace([Choice(name, range(step, width + 1, step)) for name, width in widths.items()], full)


def test_channels_of_autoslim_320m(mmrazor_files: Path, tmp_path: Path) -> None:
    path = mmrazor_files / "v0_channel_AUTOSLIM_MBV2_320M_OFFICIAL.yaml"
    document = yaml.safe_load(path.read_text())
    space = mobilenet_space(document)
    found = read_subnet(path, space)
    assert len(space) == 25 and found.path == path
    official = [found.subnet["stem"], found.subnet["layer1.0.conv.1"]]
    for stage, blocks in enumerate(BLOCKS[1:], start=2):
        for block in range(blocks):
            official += [found.subnet[f"layer{stage}.{block}.middle"], found.subnet[f"layer{stage}.out"]]
    assert [*official, found.subnet["conv2"], 1000] == OFFICIAL_305M

    for prefix in ("architecture.model.", "architecture.", "model."):
        prefixed = {f"{prefix}{name}": entry for name, entry in document.items()}
        assert parse_document(prefixed, space, "prefixed").subnet == found.subnet


def test_operators_of_spos(mmrazor_files: Path) -> None:
    path = mmrazor_files / "v0_mutable_SPOS_SHUFFLENETV2_330M_IN1k_PAPER.yaml"
    document = yaml.safe_load(path.read_text())
    operators = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception")
    space = SearchSpace([Choice(name, operators, kind="operator") for name in reversed(document)])
    subnet = read_subnet(path, space).subnet
    assert subnet == space.subnet(space.index({name: entry["chosen"][0] for name, entry in document.items()}))
    assert subnet["stage_0_block_0"] == "shuffle_7x7" and subnet["stage_3_block_3"] == "shuffle_xception"


def test_operators_of_detnas(mmrazor_files: Path) -> None:
    path = mmrazor_files / "v1_fix_subnet_DETNAS.yaml"
    document = yaml.safe_load(path.read_text())
    operators = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception")
    space = SearchSpace([Choice(name, operators, kind="operator") for name in document])
    assert read_subnet(path, space).subnet["backbone.layers.3.3"] == "shuffle_5x5"


def test_everything_of_ofa(mmrazor_files: Path) -> None:
    path = mmrazor_files / "v1_fix_subnet_OFA_NOTE8_LAT22.yaml"
    document = yaml.safe_load(path.read_text())
    choices = []
    for name, entry in document.items():
        chosen = entry["chosen"]
        if name == "input_shape":
            choices.append(Choice(name, range(128, 225, 4), kind="resolution"))
        elif name.endswith("channels"):
            choices.append(Choice(name, range(1, chosen + 1)))
        elif name.endswith("depth"):
            choices.append(Choice(name, tuple(range(1, 5)), kind="depth"))
        else:
            stage, block = name.split(".")[2:4]
            depth = f"backbone.layers.{stage}.depth"
            rule = (depth, tuple(d for d in range(1, 5) if d > int(block)))
            choices.append(Choice(name, tuple(range(1, 8)), kind="value", active_if=rule if int(block) else None))
    space = SearchSpace(choices)
    subnet = read_subnet(path, space).subnet
    assert len(subnet) == len(document)
    row = space.index(subnet)
    for name, on in zip(space, space.active(row[None])[0], strict=True):
        chosen = document[name]["chosen"]
        expected = chosen[0] if isinstance(chosen, list) else chosen
        assert subnet[name] == (expected if on else space[name].candidates[0])
    # Blocks beyond the depth are listed in the file and cannot matter.
    assert not space.active(row[None]).all()


CHANNELS = {
    "conv1": {"in_channels": 3, "out_channels": 16, "raw_in_channels": 3, "raw_out_channels": 48},
    "bn1": {"out_channels": 16, "raw_out_channels": 48},
    "layer1.conv": {"in_channels": 16, "out_channels": 6, "raw_in_channels": 48, "raw_out_channels": 12},
    "fc": {"in_channels": 6, "out_channels": 10, "raw_in_channels": 12, "raw_out_channels": 10},
}


def test_a_layer_k_times_as_wide_as_its_choice() -> None:
    space = SearchSpace([Choice("half", (6, 12, 24))], layers={"conv": LayerWidth("half", 48)})
    read = parse_document({"conv": {"out_channels": 24, "raw_out_channels": 48}}, space, "A")
    assert read.subnet.to_dict() == {"half": 12}
    with pytest.raises(UserError, match="25 channels cannot be made"):
        parse_document({"conv": {"out_channels": 25, "raw_out_channels": 48}}, space, "A")


@pytest.mark.parametrize(
    ("layer", "change", "message"),
    [
        ("conv1", {"out_channels": 64}, "A: layer 'conv1': choice 'conv1': 64 is above the maximum 48"),
        ("conv1", {"raw_out_channels": 32}, "the file is for 32 channels at full width, this model has 48"),
        ("conv1", {"out_channels": "16"}, "'out_channels' must be a whole number of channels, got '16'"),
        ("conv1", {"out_channels": True}, "'out_channels' must be a whole number of channels, got True"),
        ("conv1", {"out_channels": 0}, "'out_channels' must be a whole number of channels, got 0"),
        ("conv1", {"out_channels": 15}, "choice 'conv1': 15 is not a candidate (allowed: 8..48 step 8)"),
        ("bn1", {"out_channels": 24}, "A: layer 'bn1': 24 channels do not agree with layer 'conv1' (16 channels)"),
        ("fc", {"out_channels": 5}, "A: layer 'fc': 5 channels, but this layer always keeps its 10"),
        ("bn1", None, "A: layer 'bn1': 'out_channels' is missing"),
    ],
)
def test_channels_that_do_not_fit(space: SearchSpace, layer: str, change: dict | None, message: str) -> None:
    document = {**CHANNELS, layer: {**CHANNELS[layer], **change} if change else None}
    with pytest.raises(UserError) as error:
        parse_document(document, space, "A")
    assert message in str(error.value)


def test_unknown_and_missing_layers(space: SearchSpace) -> None:
    assert parse_document(CHANNELS, space, "A").subnet.to_dict() == {"conv1": 16, "layer1.conv": 6}
    with pytest.raises(UserError, match=r"A: unknown layer 'layer1\.cnv' \(did you mean 'layer1\.conv'\?\)"):
        parse_document({**CHANNELS, "layer1.cnv": CHANNELS["conv1"]}, space, "A")
    without = {name: entry for name, entry in CHANNELS.items() if name != "layer1.conv"}
    with pytest.raises(UserError, match=r"A: 1 of 2 choices missing: 'layer1\.conv'"):
        parse_document(without, space, "A")
    with pytest.raises(UserError, match="the model has no widths"):
        parse_document(CHANNELS, SearchSpace([Choice("op", ("a", "b"), kind="operator")]), "A")


def test_chosen_that_does_not_fit() -> None:
    space = SearchSpace([Choice("a", ("x", "y"), kind="operator"), Choice("b", ("x", "y"), kind="operator")])
    assert parse_document({"a": {"chosen": "x"}, "b": {"chosen": ["y"]}}, space, "A").subnet["b"] == "y"
    bad = {
        "A: 'a' has 2 values chosen, ['x', 'y']; a subnet has one": {"a": {"chosen": ["x", "y"]}},
        "A: unknown choice 'c'; the file is of another model or config": {"c": {"chosen": "x"}},
        "A: choice 'a': 'z' is not a candidate (allowed: x, y)": {"a": {"chosen": "z"}},
        "A: 1 of 2 choices missing: 'b'": {"a": {"chosen": "x"}},
        "A: 'b': 'chosen' is missing": {"a": {"chosen": "x"}, "b": "x"},
        "A: the choice 'a' is given twice, the second time as 'model.a'": {
            "a": {"chosen": "x"},
            "model.a": {"chosen": "x"},
        },
    }
    for message, document in bad.items():
        with pytest.raises(UserError) as error:
            parse_document(document, space, "A")
        assert str(error.value) == message


BLOCKS_OF_SPOS = (4, 4, 8, 4)
SHUFFLES = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception")


def spos_space() -> SearchSpace:
    """The 20 operators by MMRazor 1.x's names, with those of 0.x as aliases."""
    places = [(stage, block) for stage, blocks in enumerate(BLOCKS_OF_SPOS) for block in range(blocks)]
    names = {f"stage_{stage}_block_{block}": f"backbone.layers.{stage}.{block}" for stage, block in places}
    return SearchSpace([Choice(name, SHUFFLES, kind="operator") for name in names.values()], aliases=names)


def test_aliases_of_spos(mmrazor_files: Path) -> None:
    path = mmrazor_files / "v0_mutable_SPOS_SHUFFLENETV2_330M_IN1k_PAPER.yaml"
    document, space = yaml.safe_load(path.read_text()), spos_space()
    subnet = read_subnet(path, space).subnet
    assert list(subnet) == list(space)
    for name, chosen in subnet.items():
        stage, block = name.split(".")[2:]
        assert document[f"stage_{stage}_block_{block}"]["chosen"] == [chosen]
    # The same list as 1.x writes it, and as the release candidates of 1.0 wrote it.
    assert parse_document({name: {"chosen": value} for name, value in subnet.items()}, space, "A").subnet == subnet
    candidate = {"modules": subnet.to_dict(), "channels": None}
    assert parse_document(candidate, space, "A").subnet == subnet
    prefixed = {"modules": {f"architecture.{name}": value for name, value in subnet.items()}}
    assert parse_document(prefixed, space, "A").subnet == subnet


def test_operators_that_do_not_fit() -> None:
    space = spos_space()
    document = {alias: {"chosen": ["shuffle_3x3"]} for alias in space.aliases}
    full = {"modules": dict.fromkeys(space, "shuffle_3x3")}
    without_last = {alias: entry for alias, entry in document.items() if not alias.startswith("stage_3_block_3")}
    bad = {
        "A: choice 'backbone.layers.2.7': 'shuffle_9x9' is not a candidate "
        "(allowed: shuffle_3x3, shuffle_5x5, shuffle_7x7, shuffle_xception)": {
            **document,
            "stage_2_block_7": {"chosen": ["shuffle_9x9"]},
        },
        "A: unknown choice 'stage_3_block_4' (did you mean 'stage_3_block_3'?); the file is of another model or "
        "config": {**document, "stage_3_block_4": {"chosen": ["shuffle_3x3"]}},
        "A: 1 of 20 choices missing: 'backbone.layers.3.3'": without_last,
        "A: the choice 'backbone.layers.0.0' is given twice, the second time as 'backbone.layers.0.0'": {
            **document,
            "backbone.layers.0.0": {"chosen": "shuffle_3x3"},
        },
        "A: unknown key 'module' beside 'modules' (allowed: modules, channels)": {**full, "module": {}},
        "A: 'channels' beside 'modules' cannot be read, only operators can: {'backbone.conv1': 8}": {
            **full,
            "channels": {"backbone.conv1": 8},
        },
        "A: 'modules' must map names to operators, got ['shuffle_3x3']": {"modules": ["shuffle_3x3"]},
        "A: 'backbone.layers.0.1' has 2 values chosen, ['shuffle_3x3', 'shuffle_5x5']; a subnet has one": {
            "modules": {**full["modules"], "backbone.layers.0.1": ["shuffle_3x3", "shuffle_5x5"]}
        },
    }
    for message, wrong in bad.items():
        with pytest.raises(UserError) as error:
            parse_document(wrong, space, "A")
        assert str(error.value) == message


def test_units_of_1x_are_widths_of_the_layers_that_they_are_called_after(tmp_path: Path) -> None:
    layers = {"conv1.conv": LayerWidth("stem", 48), "conv1.bn": LayerWidth("stem", 48), "fc": LayerWidth(None, 10)}
    space = SearchSpace([Choice("stem", range(8, 49, 8)), Choice("other", (8, 16))], layers)
    name = "conv1.conv_(0, 48)_48"
    for entry, width in (
        ({"chosen": 32}, 32),  # of a slimmable network
        ({"chosen": 0.5}, 24),  # of a search by ratios
        ({"chosen": 0.17}, 8),  # 8.16 channels
        ({"init_args": {"num_channels": 48}, "choice": 16}, 16),  # JSON of units
        ({"chosen": 1.0}, 48),
    ):
        found = parse_document({name: entry}, SearchSpace([space["stem"]], layers), "a.json")
        assert dict(found.subnet) == {"stem": width}
    for entry, message in (
        ({"chosen": 64}, "must be a number of channels, or a share of 48; got 64"),
        ({"chosen": 1.5}, "or a share of 48; got 1.5"),
        ({}, "got None"),
    ):
        with pytest.raises(UserError, match=message):
            parse_document({name: entry}, space, "a.json")
    with pytest.raises(UserError, match="unknown layer 'conv2.conv'"):
        parse_document({"conv2.conv_(0, 8)_8": {"chosen": 8}}, space, "a.json")
    with pytest.raises(UserError, match="the file is for 64 channels at full width, this model has 48"):
        parse_document({"conv1.conv_(0, 64)_64": {"chosen": 8}}, space, "a.json")
