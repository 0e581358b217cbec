"""Every layout that MMRazor writes: 0.x and 1.x, supernets, subnets that were trained together, subnets alone.

Writers here rename the weights of a network of ours as the code of each release names them; what is read from such a
file computes the same. Where a layout is from is beside it, as a path in MMRazor's repository.
"""

from __future__ import annotations

import itertools
import logging
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from draws import some
from mmengine.logging import MMLogger
from public_networks import randomise
from torch import Tensor, nn

from mmrazor_lite.config.build import register_quietly
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import load_weights, read_checkpoint, split
from mmrazor_lite.models.algorithms.loading import load_checked

State = dict[str, Tensor]
WIDTHS = [1.0, 0.5, 0.75]
CLASSES = 5


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    register_quietly()


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def images(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def classifier(backbone: dict, channels: int, neck: bool = True) -> dict:
    head = {"type": "LinearClsHead", "num_classes": CLASSES, "in_channels": channels, "topk": (1,)}
    pool = {"type": "GlobalAveragePooling"} if neck else None
    return {"type": "mmpretrain.ImageClassifier", "backbone": backbone, "neck": pool, "head": head}


def autoslim(**options: object) -> nn.Module:
    from mmrazor_lite.models.algorithms import AutoSlim

    backbone = {"type": "mmrazor_lite.MobileNetV1", "stem_channels": 16, "blocks": ((32, 2), (48, 1))}
    return AutoSlim(classifier(backbone, 48), {"type": "OneShotChannelMutator", "divisor": 8}, input_shape=(3, 32, 32),
                    **options).double().eval()  # fmt: skip


@pytest.fixture(scope="module")
def nets(registered: None) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Of each kind a network with weights, and one that gets them from a file."""
    options = {"supernet": {}, "joint": {"channel_cfg": WIDTHS}, "subnet": {"channel_cfg": 0.5}}
    made = {kind: (randomise(autoslim(**given)), autoslim(**given)) for kind, given in options.items()}
    share_equal_widths(made["joint"][0])
    return made


def share_equal_widths(joint: nn.Module) -> None:
    """Let subnets that are equally wide at a place have the same norm there, as they do in 1.x."""
    state, first = joint.state_dict(), {}
    for key, value in state.items():
        norm, _, rest = key.partition(".bns.")
        if rest:
            number, tensor = rest.split(".")
            width = len(state[f"{norm}.bns.{number}.running_mean"])
            value.copy_(first.setdefault((norm, width, tensor), value))
    assert any(".bns." in key for key in state) and len(first) < sum(".bns." in key for key in state)


def full_widths(algorithm: nn.Module) -> dict[str, int]:
    """The full width of each norm, by its name."""
    return {key.removesuffix(".running_mean"): len(value) for key, value in algorithm.state_dict().items()
            if key.endswith(".running_mean")}  # fmt: skip


# Writers: 0.x -------------------------------------------------------------------------------------------------------


def old(state: State) -> State:
    """mmrazor/models/architectures/base.py: the classifier is ``model`` of the architecture."""
    return {key.replace("architecture.", "architecture.model.", 1): value for key, value in state.items()}


def masked(state: State) -> State:
    """mmrazor/models/pruners/structure_pruning.py, add_pruning_attrs: what has a weight gets masks."""
    found = dict(state)
    for key, value in state.items():
        layer, _, tensor = key.rpartition(".")
        if tensor == "weight" and value.ndim == 4:
            found |= {f"{layer}.in_mask": torch.ones(1, value.shape[1], 1, 1),
                      f"{layer}.out_mask": torch.ones(1, len(value), 1, 1)}  # fmt: skip
        elif tensor == "weight" and value.ndim == 2:
            found |= {f"{layer}.in_mask": torch.ones(1, value.shape[1]), f"{layer}.out_mask": torch.ones(1, len(value))}
        elif tensor == "weight":
            found[f"{layer}.out_mask"] = torch.ones(1, len(value), 1, 1)
    return found


def averaged_0x(state: State) -> State:
    """mmcv's EMAHook: a buffer of the model for each weight; the averages are in the weights' own place."""
    return {**state, **{f"ema_{key.replace('.', '_')}": torch.full_like(value, 99) for key, value in state.items()}}


def at_full_width(state: State, widths: dict[str, int]) -> State:
    """mmrazor/models/pruners/utils/switchable_bn.py: a norm of the full width for each subnet, whatever its own is."""
    found = {}
    for key, value in state.items():
        norm = key.partition(".bns.")[0]
        if ".bns." in key and value.ndim:
            value = torch.cat([value, torch.full((widths[norm] - len(value),), 99.0, dtype=value.dtype)])
        found[key] = value
    return found


def distilled_0x(state: State) -> State:
    """mmrazor/models/distillers/single_teacher.py: the teacher, and what aligns the student with it."""
    teacher = {f"distiller.teacher.{key.partition('.')[2]}": value + 1 for key, value in state.items()}
    return {**old(state), **teacher, "distiller.align_modules.component_0.weight": torch.ones(4, 2, 1, 1)}


# Writers: 1.x -------------------------------------------------------------------------------------------------------


def with_units(state: State) -> State:
    """models/mutables/mutable_channel/simple_mutable_channel.py: a mask in each unit of the mutator."""
    return {**state, **{f"mutator.units.{index}.mutable_channel.mask": torch.ones(8) for index in range(3)}}


def by_width(state: State, widths: dict[str, int]) -> State:
    """models/architectures/dynamic_ops/bricks/dynamic_norm.py: the norm itself, and one for each candidate."""
    found = {key: value for key, value in state.items() if ".bns." not in key}
    for key, value in state.items():
        norm, _, rest = key.partition(".bns.")
        if not rest:
            continue
        number, tensor = rest.split(".")
        width = len(state[f"{norm}.bns.{number}.running_mean"])
        candidate = f"{norm}.candidate_bn.{width}.{tensor}"
        # of the full width, the candidate is there and never used
        found[candidate] = value if width < widths[norm] else torch.full_like(value, 99)
        if width == widths[norm]:
            found[f"{norm}.{tensor}"] = value
    return found


def first_candidate_release(state: State) -> State:
    """1.0.0rc0, models/architectures/dynamic_ops/slimmable_dynamic_ops.py: numbered, each at its own width."""
    order = {"0": "2", "1": "0", "2": "1"}  # this file was trained from the smallest to the largest
    return {re.sub(r"\.bns\.(\d)", lambda match: f".bns.{order[match[1]]}", key): value for key, value in state.items()}


def distilled_1x(state: State) -> State:
    """models/algorithms/distill/configurable/single_teacher_distill.py."""
    teacher = {f"teacher.{key.partition('.')[2]}": value + 1 for key, value in state.items()}
    return {**state, **teacher, "distiller.connectors.loss_1.conv.weight": torch.ones(4, 2, 1, 1)}


def with_images(state: State) -> State:
    """mmengine's ImgDataPreprocessor, whose buffers tools and averaged models have saved."""
    mean = {"mean": torch.ones(3, 1, 1), "std": torch.ones(3, 1, 1)}
    return {**state, **{f"{owner}data_preprocessor.{key}": value for key, value in mean.items()
                        for owner in ("", "architecture.")}}  # fmt: skip


def averaged_1x(state: State) -> dict[str, State]:
    """mmengine's EMAHook: what is saved are the averages; what was trained is in ``ema_state_dict``."""
    trained = {f"module.{key}": torch.full_like(value, 99) for key, value in state.items()}
    return {"meta": {}, "state_dict": state, "ema_state_dict": {"steps": torch.tensor(3), **trained}}


def plain(state: State) -> State:
    """tools/pruning/get_static_model_from_algorithm.py: the network alone."""
    return {key.removeprefix("architecture."): value for key, value in state.items()}


LAYOUTS: dict[str, tuple[str, Callable[[State, dict[str, int]], dict]]] = {
    "0.x supernet": ("supernet", lambda s, _: masked(old(s))),
    "0.x supernet in DDP": ("supernet", lambda s, _: {f"module.{key}": value for key, value in masked(old(s)).items()}),
    "0.x supernet, averaged": ("supernet", lambda s, _: averaged_0x(masked(old(s)))),
    "0.x joint": ("joint", lambda s, w: masked(old(at_full_width(s, w)))),
    "0.x joint, averaged": ("joint", lambda s, w: averaged_0x(masked(old(at_full_width(s, w))))),
    "0.x subnet": ("subnet", lambda s, _: old(s)),
    "0.x subnet, distilled": ("subnet", lambda s, _: distilled_0x(s)),
    "1.x supernet": ("supernet", lambda s, _: with_units(s)),
    "1.x supernet, averaged": ("supernet", lambda s, _: averaged_1x(with_units(s))),
    "1.x supernet with mean and std": ("supernet", lambda s, _: with_images(with_units(s))),
    "1.x joint": ("joint", lambda s, w: with_units(by_width(s, w))),
    "1.x joint, averaged": ("joint", lambda s, w: averaged_1x(with_units(by_width(s, w)))),
    "1.0.0rc0 joint": ("joint", lambda s, _: first_candidate_release(s)),
    "1.x subnet deployed": ("subnet", lambda s, _: with_units(s)),
    "1.x subnet exported": ("subnet", lambda s, _: plain(s)),
    "1.x subnet, distilled": ("subnet", lambda s, _: distilled_1x(s)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_of_autoslim(nets, tmp_path, name):
    kind, write = LAYOUTS[name]
    ours, other = nets[kind]
    content = write(ours.state_dict(), full_widths(nets["supernet"][0]))
    torch.save(content if "meta" in content else {"meta": {"epoch": 3}, "state_dict": content}, tmp_path / "a.pth")
    for value in other.state_dict().values():
        value.fill_(3)
    load_checked(other, read_checkpoint(tmp_path / "a.pth"), "a.pth")
    for subnet in [*ours.named_subnets().values(), *([None] if kind == "subnet" else [])]:
        for algorithm in (ours, other) if subnet else ():
            algorithm.mutator.activate(subnet)
        assert torch.equal(other(images()), ours(images()))


@pytest.mark.parametrize("name", ["0.x joint", "1.x joint", "1.0.0rc0 joint"])
def test_subnets_that_were_trained_together_are_split(nets, tmp_path, name):
    ours, other = nets["joint"]
    content = LAYOUTS[name][1](ours.state_dict(), full_widths(nets["supernet"][0]))
    torch.save({"state_dict": content}, tmp_path / "a.pth")
    (part,) = split(other, tmp_path / "a.pth", [0.5])
    alone = nets["subnet"][1]
    load_checked(alone, read_checkpoint(part), str(part))
    ours.mutator.activate(ours.subnets[1])
    assert torch.allclose(alone(images()), ours(images()), atol=1e-5)


@pytest.mark.parametrize(("kind", "file", "said"), [
    ("subnet", "0.x joint", r"norms of 3 subnets .*: tools/model_converters/split_checkpoint\.py CONFIG FILE"),
    ("subnet", "1.x joint", r"norms of 3 subnets .*: tools/model_converters/split_checkpoint\.py CONFIG FILE"),
    ("supernet", "1.x joint", "split_checkpoint.py"),
    ("joint", "1.x subnet deployed", "of another shape"),
    ("supernet", "0.x subnet", "of another shape"),
    ("subnet", "1.x supernet", r"of this network at full width, model\.init_cfg=dict\(type='Pretrained'"),
])  # fmt: skip
def test_a_file_of_something_else_is_one_line(nets, tmp_path, kind, file, said):
    other, (theirs, write) = nets[kind][1], LAYOUTS[file]
    content = write(nets[theirs][0].state_dict(), full_widths(nets["supernet"][0]))
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(UserError, match=said) as caught:
        load_checked(other, {"state_dict": content}, "a.pth")
    assert "\n" not in str(caught.value) and "mask" not in str(caught.value)
    assert all(torch.equal(before[key], value) for key, value in other.state_dict().items())


@pytest.mark.parametrize("name", ["0.x supernet", "1.x supernet"])
def test_one_subnet_takes_its_part_of_a_supernet(nets, tmp_path, name):
    ours = nets["supernet"][0]
    torch.save({"state_dict": LAYOUTS[name][1](ours.state_dict(), {})}, tmp_path / "a.pth")
    net = autoslim(channel_cfg=0.5, init_cfg={"type": "Pretrained", "checkpoint": str(tmp_path / "a.pth")})
    net.init_weights()
    ours.mutator.activate(ours.mutator.uniform(0.5))
    assert torch.allclose(net(images()), ours(images()), atol=1e-5)


def test_subnets_that_are_missing_in_the_list_are_told(nets):
    content = LAYOUTS["0.x joint"][1](nets["joint"][0].state_dict(), full_widths(nets["supernet"][0]))
    with pytest.raises(UserError, match=r"batch norms of 3 subnets, the config names 2: list all .* in the order of"):
        load_weights(autoslim(channel_cfg=[1.0, 0.5]), content, "a.pth")


def test_what_is_not_read_of_a_file_is_said(nets, said):
    ours, other = nets["supernet"]
    load_checked(other, {"state_dict": averaged_0x(masked(old(ours.state_dict())))}, "a.pth")
    weights = len(ours.state_dict())
    assert any("not read of it:" in line and "masks of channels" in line and "averages" in line for line in said)
    load_checked(nets["subnet"][1], {"state_dict": distilled_1x(nets["subnet"][0].state_dict())}, "a.pth")
    assert any(f"1 of its distiller, {weights} of its teacher" in line for line in said)


def test_mean_and_std_in_a_file_are_compared(nets):
    """Where averaged models or tools have saved the buffers of the preprocessor."""
    state = nets["subnet"][0].state_dict()
    images = {"type": "mmpretrain.ClsDataPreprocessor", "mean": [100.0] * 3, "std": [50.0] * 3}
    net = autoslim(channel_cfg=0.5, data_preprocessor=images)
    for mean, told in ((100.0, None), (0.0, r"mean is (0, 0, 0) in the file, (100, 100, 100) in the config")):
        sides = {"mean": torch.full((3, 1, 1), mean), "std": torch.full((3, 1, 1), 50.0)}
        load_checked(net, {"state_dict": {**state, **{f"data_preprocessor.{k}": v for k, v in sides.items()}}}, "a.pth")
        assert (told in net.prepared_otherwise) if told else net.prepared_otherwise is None


@pytest.mark.parametrize("last", range(3))
def test_masks_of_0x_tell_a_list_in_another_order(nets, said, last):
    """They are those of the subnet that was trained last: 0.x, models/algorithms/autoslim.py, train_step."""
    ours, other = nets["joint"]
    state = ours.state_dict()
    content = masked(old(at_full_width(state, full_widths(nets["supernet"][0]))))
    for key, mask in content.items():
        if key.endswith(".bns.0.out_mask"):  # of numbered norms, the trace knew the first alone
            norm = key.removesuffix(".bns.0.out_mask").replace("architecture.model.", "architecture.", 1)
            mask[:, len(state[f"{norm}.bns.{last}.running_mean"]) :] = 0
    load_checked(other, {"state_dict": content}, "a.pth")
    told = [line for line in said if "list the subnets in the order of the training" in line]
    assert (f"which is number {last + 1} of 3 in algorithm.channel_cfg" in told[0]) if last < 2 else not told


@pytest.mark.parametrize("keys", [("epoch", "candidate_pool", "top_k_candidates_with_score"),
                                  ("result_subnet", "flops"), ("_epoch", "candidates", "top_k_candidates"),
                                  ("current_subnet", "searched_subnet")])  # fmt: skip
def test_the_state_of_a_search_holds_no_weights(tmp_path, keys):
    """Pickles (search_epoch_N.pkl, latest.pkl) of both releases, and what SinglePathOneShot keeps by torch.save."""
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({key: [{"a": 1}] for key in keys}, protocol=2))
    with pytest.raises(UserError, match="the state of a search of MMRazor, .*; start the search anew"):
        read_checkpoint(tmp_path / "a.pkl")
    state = {"memory": [], "candidates": [], "vis_dict": {(0, 1): {"err": (1.0, 2.0)}}, "keep_top_k": {10: []}}
    torch.save({**state, "epoch": 1}, tmp_path / "checkpoint.pth.tar")
    with pytest.raises(UserError, match="a search of SinglePathOneShot keeps, and has none: the supernet is in a file"):
        load_weights(nn.Linear(1, 1), read_checkpoint(tmp_path / "checkpoint.pth.tar"))


# Operators: SPOS ----------------------------------------------------------------------------------------------------

SHUFFLE = {"type": "mmrazor_lite.SearchableShuffleNetV2", "arch_setting": ((16, 2), (24, 1)), "last_channels": 32}
MOBILE = {"type": "mmrazor_lite.SearchableMobileNet", "arch_setting": [[16, 1, 1], [24, 2, 2]], "first_channels": 8,
          "last_channels": 32}  # fmt: skip
CHOSEN = {"shuffle": ("shuffle_7x7", "shuffle_xception", "shuffle_3x3"), "mobile": ("mb_k3e1", "identity", "mb_k5e6")}


@pytest.fixture(scope="module")
def operators(registered: None) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Of each space a supernet with weights, and one that gets them."""
    from mmrazor_lite.models.algorithms import SPOS

    def make(backbone: dict) -> nn.Module:
        return SPOS(classifier(backbone, 32), input_shape=(3, 32, 32)).double().eval()

    return {name: (randomise(make(space)), make(space)) for name, space in (("shuffle", SHUFFLE), ("mobile", MOBILE))}


def chosen_of(space: str, supernet: nn.Module) -> dict[str, str]:
    return dict(zip(supernet.search_space, CHOSEN[space][-len(supernet.search_space) :], strict=True))


def chosen_only(state: State, chosen: dict[str, str]) -> State:
    """export() and fix_chosen() of mutables: of each choice, the one operator is left, under its name."""

    def stays(key: str) -> bool:
        place, _, rest = key.removeprefix("architecture.").partition("._candidates.")
        return rest.split(".")[0] == chosen.get(place, rest.split(".")[0])

    return {key: value for key, value in state.items() if stays(key)}


def choices(state: State) -> State:
    """mmrazor/models/mutables/mutable_op.py of 0.x."""
    return {key.replace("._candidates.", ".choices."): value for key, value in old(state).items()}


OPERATORS: dict[str, Callable[[State], State]] = {
    "0.x": choices,
    "0.x, averaged": lambda s: averaged_0x(choices(s)),
    "1.x": lambda s: s,
    "1.x with mean and std": with_images,
}


@pytest.mark.parametrize(
    ("space", "name"),
    some(
        itertools.product(CHOSEN, OPERATORS),
        *(("shuffle", name) for name in OPERATORS),
        *((space, "0.x") for space in CHOSEN if space != "shuffle"),
    ),
)
def test_every_layout_of_a_supernet_of_operators(operators, name, space):
    ours, other = operators[space]
    load_checked(other, {"state_dict": OPERATORS[name](ours.state_dict())}, "a.pth")
    subnet = ours.search_space.subnet(ours.search_space.index(chosen_of(space, ours)))
    for algorithm in (ours, other):
        algorithm.mutator.activate(subnet)
    assert torch.equal(other(images()), ours(images()))


@pytest.mark.parametrize("space", CHOSEN)
def test_every_layout_of_a_subnet_of_operators(operators, tmp_path, space):
    """And of a supernet, whose part the subnet takes; the prefix is what MMRazor's configs say, for both releases."""
    ours, chosen = operators[space][0], chosen_of(space, operators[space][0])
    ours.mutator.activate(ours.search_space.subnet(ours.search_space.index(chosen)))
    fixed = {name: {"chosen": value} for name, value in chosen.items()}
    config = classifier(SHUFFLE if space == "shuffle" else MOBILE, 32)
    for name in ("0.x", "1.x with mean and std"):
        for whole in (False, True):
            state = ours.state_dict() if whole else chosen_only(ours.state_dict(), chosen)
            net = sub_model(config, fixed, OPERATORS[name](state), tmp_path / "a.pth", whole)
            assert torch.allclose(net(images()), ours(images()), atol=1e-4), (name, whole)


def sub_model(config: dict, fixed: dict, state: State, path: Path, whole: bool = False) -> nn.Module:
    """One subnet, with the weights of a file that holds ``state``."""
    from mmrazor_lite.models.algorithms import SubModel

    torch.save({"state_dict": {key: value.float() if value.ndim else value for key, value in state.items()}}, path)
    init = {"type": "Pretrained", "checkpoint": str(path), "prefix": "architecture."}
    return SubModel(config, fix_subnet=fixed, input_shape=(3, 32, 32), init_cfg=init,
                    init_weight_from_supernet=whole).double().eval()  # fmt: skip


@pytest.mark.parametrize("write", [choices, lambda s: s], ids=["0.x", "1.x"])
def test_a_subnet_of_other_operators_is_one_line(operators, tmp_path, write):
    ours, chosen = operators["shuffle"][0], chosen_of("shuffle", operators["shuffle"][0])
    fixed = {name: {"chosen": "shuffle_5x5"} for name in chosen}
    first = r"backbone.layers.0.0 is shuffle_7x7 in the file and shuffle_5x5 in the config"
    with pytest.raises(UserError, match=f"another subnet, 3 of 3 operators are others: {first}") as caught:
        sub_model(classifier(SHUFFLE, 32), fixed, write(chosen_only(ours.state_dict(), chosen)), tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


# Once-for-All -------------------------------------------------------------------------------------------------------

OFA = classifier({"type": "mmrazor_lite.OFAMobileNetV3", "tail_channels": (24, 32), "depths": (1, 2), "arch_setting": [
    [16, 2, 2, "ReLU", False], [24, 2, 2, "HSwish", True]]}, 32, neck=False)  # fmt: skip


def ofa(state: State, masks: bool = True) -> State:
    """models/architectures/backbones/searchable_mobilenet_v3.py, where blocks and masks are.

    A converted file (tools/model_converters/convert_ofa_ckpt.py) has no masks; one of convert_supernet2subnet.py has
    those of the full width.
    """
    words = {"inverted_bottleneck.": "expand_conv.", "depth_conv.se.reduce.": "se.conv1.conv.",
             "depth_conv.se.expand.": "se.conv2.conv.", "depth_conv.": "depthwise_conv.",
             "point_linear.": "linear_conv.", ".transform_": ".trans_matrix_"}  # fmt: skip
    found: State = {}
    for key, value in state.items():
        for mine, theirs in words.items():
            key = key.replace(mine, theirs)
        key = re.sub(r"backbone\.layers\.(\d+)", lambda match: f"backbone.layer{int(match[1]) + 1}", key)
        key = re.sub(r"backbone\.(final_expand|feature_mix)_layer", r"backbone.last_conv.\1_layer", key)
        found[f"architecture.{key.removeprefix('architecture.')}"] = value
    ends = {f"architecture.backbone.{end}_mutable_channels.mask": torch.ones(16) for end in ("first", "last")}
    return {**found, **ends} if masks else found


@pytest.mark.parametrize("masks", [True, False], ids=["trained", "converted"])
def test_every_layout_of_once_for_all(tmp_path, masks):
    from mmrazor_lite.models.algorithms import OFA as Supernet

    ours, other = (Supernet(OFA, input_shape=(3, 32, 32)).double().eval() for _ in range(2))
    randomise(ours)
    torch.save({"meta": {}, "state_dict": ofa(ours.state_dict(), masks)}, tmp_path / "a.pth")
    load_checked(other, read_checkpoint(tmp_path / "a.pth"), "a.pth")
    space = ours.search_space
    for subnet in (space.max(), space.min()):
        for algorithm in (ours, other):
            algorithm.mutator.activate(subnet)
        assert torch.equal(other(images()), ours(images()))
    plain_net = ours.mutator.export(space.min())
    fixed = {"format": "mmrazor_lite.subnet/1", "choices": dict(space.min())}
    net = sub_model(OFA, fixed, ofa(plain_net.state_dict(), masks), tmp_path / "subnet.pth")
    assert torch.allclose(net(images()), ours(images()), atol=1e-4)
    if masks:
        state = {**ofa(ours.state_dict()), "architecture.backbone.layer2.0.shortcut.conv.weight": torch.ones(1)}
        with pytest.raises(UserError, match="names of MMRazor's BigNAS, an AttentiveMobileNetV3 .* is not carried"):
            load_weights(other, state, "a.pth")
