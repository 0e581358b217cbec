"""TF-NAS: two paths per weight step, a mixture of everything per architecture step, widths that meet a latency."""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapperDict
from tfnas import BLOCKS, OPERATORS, OPTIONS, SHAPE, images, milliseconds, operators, table_of

from mmrazor_lite.engine.optim import SubnetOptimWrapper
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms import TFNAS
from mmrazor_lite.subnet import parse_document

CLASSES = 5
NORM = {"type": "BN", "affine": False, "track_running_stats": False}  # as published
STAGES = [[8, 2, 1, "ReLU"], [8, 2, 1, "ReLU"], [8, 1, 1, "ReLU"]]  # alike: one trace serves all blocks
WARM = 2


def architecture(**options) -> dict:
    return {
        "type": "mmpretrain.ImageClassifier",
        "backbone": {
            "type": "mmrazor_lite.TFNASNet",
            **OPTIONS,
            "arch_setting": STAGES,
            "stem_channels": (8, 8),
            "norm_cfg": NORM,
            **options,
        },
        "head": {"type": "LinearClsHead", "num_classes": CLASSES, "in_channels": 16},
    }


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("table") / "latency.json"
    table_of(TFNAS(architecture(), input_shape=SHAPE).mutator).write(path)
    return str(path)


@pytest.fixture
def make(table):
    from mmengine.model import BaseDataPreprocessor

    def build(**options) -> TFNAS:
        torch.manual_seed(0)
        algorithm = TFNAS(
            **{
                "architecture": architecture(),
                "input_shape": SHAPE,
                "data_preprocessor": BaseDataPreprocessor(),
                "latency_table": table,
                "target_latency": "50%",
                "epochs_without_arch": WARM,
                **options,
            }
        )
        return algorithm.double().train()

    return build


def batch(seed: int = 0, n: int = 4) -> dict:
    from mmpretrain.structures import DataSample

    return {"inputs": images(n, seed), "data_samples": [DataSample().set_gt_label(i % CLASSES) for i in range(n)]}


def wrappers(algorithm: TFNAS) -> OptimWrapperDict:
    sgd = torch.optim.SGD(algorithm.architecture.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    adam = torch.optim.Adam(algorithm.arch_parameters.parameters(), lr=0.05)
    return OptimWrapperDict(architecture=SubnetOptimWrapper(sgd), arch_parameters=SubnetOptimWrapper(adam))


def weights_of(algorithm: TFNAS) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in algorithm.architecture.named_parameters()}


def test_the_published_beginning(make):
    algorithm = make()
    for parameter in algorithm.arch_parameters.parameters():
        assert torch.allclose(parameter.exp(), torch.full_like(parameter, 1 / len(parameter)))
    for block, inputs in enumerate((8, 8, 8, 8, 8)):
        assert algorithm.widths[block].tolist() == [inputs * (3 if "e3" in name else 6) for name in OPERATORS]


def test_temperature_falls_after_the_epochs_without_architecture(make):
    algorithm = make(temperature=4.0, temperature_decay=0.5)
    found = []
    for epoch in range(5):
        algorithm.start_epoch(epoch)
        found.append(algorithm.temperature)
    assert found == [4.0, 4.0, 4.0, 2.0, 1.0]


def test_two_paths_that_differ_in_every_block(make):
    algorithm = make()
    algorithm.start_epoch(0)
    assert [item.name for item in algorithm.passes(0)] == ["gumbel_path"]
    algorithm.start_epoch(WARM)
    pairs, first, second = Counter(), Counter(), Counter()
    for step in range(400):
        one, two = (item.subnet for item in algorithm.passes(step))
        for name in BLOCKS:
            assert one[name] != two[name]
            pairs[one[name], two[name]] += 1
            first[one[name]] += 1
            second[two[name]] += 1
    assert len(pairs) == 56  # every operator after every other one
    total = 400 * len(BLOCKS)
    for counts in (first, second):  # uniform: 250 each, with a deviation of about 15
        assert all(abs(counts[name] - total / 8) < 75 for name in OPERATORS)


def test_paths_follow_the_probabilities(make):
    algorithm = make()
    algorithm.start_epoch(WARM)
    with torch.no_grad():
        algorithm.arch_parameters.alphas[2].copy_(torch.log_softmax(torch.tensor([0.0, 0, 0, 4, 0, 0, 0, 0]), 0))
    algorithm.start_epoch(WARM)
    names = Counter(algorithm.passes(step)[0].subnet[BLOCKS[2]] for step in range(300))
    share = float(algorithm.arch_parameters.alphas[2].detach().exp()[3])
    assert abs(names[OPERATORS[3]] / 300 - share) < 0.08


def test_a_weight_step_is_the_sum_of_both_paths(make):
    algorithm = make()
    algorithm.start_epoch(WARM)
    twin, optim = copy.deepcopy(algorithm), wrappers(algorithm)
    expected = []
    for item in twin.passes(0):
        twin.mutator.activate(item.subnet)
        with twin.arch_parameters.sinks():
            logits = twin.architecture.head(twin.architecture.backbone(batch()["inputs"]))
        expected.append(F.cross_entropy(logits, torch.arange(4) % CLASSES))
    sum(expected).backward()
    before = weights_of(algorithm)
    log = algorithm.train_step({"weights": batch(), "arch": None}, optim)
    assert torch.isclose(log["loss"], sum(expected).detach())
    for (name, value), other in zip(
        algorithm.architecture.named_parameters(), twin.architecture.parameters(), strict=True
    ):
        if other.grad is None:
            assert torch.equal(value, before[name]), name  # neither momentum nor decay moved it
        else:
            assert torch.allclose(value, before[name] - 0.1 * (other.grad + 0.1 * before[name]), atol=1e-10), name
    assert all(parameter.grad is None for parameter in algorithm.arch_parameters.parameters())


def test_an_architecture_step_moves_probabilities_only(make):
    algorithm = make()
    algorithm.start_epoch(WARM)
    optim = wrappers(algorithm)
    algorithm.train_step({"weights": batch(), "arch": None}, optim)
    before, state = weights_of(algorithm), copy.deepcopy(algorithm.arch_parameters.state_dict())
    old = algorithm._arch_step(batch(1), optim["arch_parameters"], algorithm, step=1)
    assert all(torch.equal(value, before[name]) for name, value in algorithm.architecture.named_parameters())
    assert all(parameter.requires_grad for parameter in algorithm.architecture.parameters())
    for name, parameter in algorithm.arch_parameters.state_dict().items():
        assert not torch.equal(parameter, state[name]), name
        assert torch.isclose(parameter.exp().sum(), torch.tensor(1.0, dtype=parameter.dtype))
    assert set(old) == {"arch.loss", "arch.latency"}


def test_an_architecture_step_leaves_no_gradient_to_the_next_weight_step(make):
    algorithm = make()
    algorithm.start_epoch(WARM)
    optim = wrappers(algorithm)
    log = algorithm.train_step({"weights": batch(), "arch": batch(1)}, optim)
    assert "arch.loss" in log
    assert all(parameter.grad is None for parameter in algorithm.architecture.parameters())


def test_the_mixture_by_hand(make):
    algorithm = make()
    algorithm.start_epoch(WARM)
    with torch.no_grad():
        for parameter in algorithm.arch_parameters.parameters():
            parameter.copy_(torch.randn_like(parameter))
        algorithm.arch_parameters.normalise()
    noise = [torch.from_numpy(block) for block in algorithm._noise(7, k=2)]
    algorithm.mutator.activate_widths(algorithm._width_choices())
    x = images()
    with algorithm.arch_parameters.mixed(noise, 3.0) as weights:
        ours = algorithm.architecture.backbone.layers(algorithm.architecture.backbone.second_stem(
            algorithm.architecture.backbone.first_stem(x)))  # fmt: skip
        latency = algorithm._expected_latency(weights)
    out = algorithm.architecture.backbone.second_stem(algorithm.architecture.backbone.first_stem(x))
    total, alphas = 1.0, algorithm.arch_parameters.alphas
    betas = {"backbone.layers.0": 0, "backbone.layers.1": 1}
    block = 0
    for stage in range(3):
        outputs, times = [], []
        for _ in range(2 if stage < 2 else 1):
            name = BLOCKS[block]
            soft = ((alphas[block] + noise[block]) / 3.0).softmax(0)
            choice = operators(algorithm.mutator)[name]
            out = sum(w * choice.candidate(op)(out) for w, op in zip(soft, OPERATORS, strict=True))
            row = [milliseconds(block, op, int(algorithm.widths[block, op])) for op in range(8)]
            times.append(float((soft * torch.tensor(row, dtype=torch.float64)).sum()) + (times[-1] if times else 0.0))
            outputs.append(out)
            block += 1
        if stage < 2:
            depth = algorithm.arch_parameters.betas[betas[f"backbone.layers.{stage}"]].softmax(0)
            out = sum(w * part for w, part in zip(depth, outputs, strict=True))
            total += sum(float(w) * part for w, part in zip(depth, times, strict=True))
        else:
            total += times[-1]
    assert torch.allclose(ours, out, rtol=1e-10)
    assert float(latency) == pytest.approx(total, rel=1e-5)


def test_latency_alone_pulls_towards_the_target(make):
    """With the loss of the labels out of the way, expected latency approaches the target from both sides."""
    for target, sign in ((2.0, -1), (6.0, 1)):
        algorithm = make(target_latency=target, lambda_lat=1e6)
        algorithm.start_epoch(WARM)
        optim = wrappers(algorithm)
        logs = []
        for step in range(6):
            optim["architecture"]._inner_count = step
            logs.append(
                float(algorithm._arch_step(batch(step), optim["arch_parameters"], algorithm, step)["arch.latency"])
            )
        expected = _expected(algorithm)
        assert sign * (expected - _expected(make(target_latency=target))) > 0, (target, logs)


def _expected(algorithm: TFNAS) -> float:
    algorithm.start_epoch(WARM)
    weights = [alpha.softmax(0) for alpha in algorithm.arch_parameters.alphas]
    return float(algorithm._expected_latency(weights))


@pytest.mark.parametrize(
    "target", [pytest.param("30%", marks=pytest.mark.wide), "45%", pytest.param("70%", marks=pytest.mark.wide)]
)
def test_widths_meet_the_target_after_an_epoch(make, target):
    algorithm = make(target_latency=target)
    algorithm.start_epoch(WARM)
    rng = np.random.default_rng(0)
    for _ in range(3):
        for parameter in algorithm.arch_parameters.parameters():
            parameter.data.copy_(torch.from_numpy(rng.normal(size=len(parameter))))
        algorithm.start_epoch(WARM)
        found = algorithm.end_epoch()
        costs = algorithm.cost_model.of(algorithm.searched)
        assert costs["latency"] == found["after"]
        subnet = algorithm.searched
        for name, value in subnet.items():
            if name.endswith("mid_channels"):
                assert value in algorithm.search_space[name].candidates
        assert abs(found["after"] / algorithm.target - 1) < algorithm.tolerance


def _make_sure(algorithm: TFNAS, operator: int, depth: int, others: dict[int, float]) -> None:
    """One operator in all blocks and one depth in all stages are sure, by 5 of log probability and ``others`` less."""
    with torch.no_grad():
        for block, alpha in enumerate(algorithm.arch_parameters.alphas):
            alpha.fill_(-5.0)[operator] = 0.0
            alpha[(operator + 1) % 8] = others.get(block, -5.0)
        for beta in algorithm.arch_parameters.betas:
            beta.fill_(-5.0)[depth] = 0.0


@pytest.mark.parametrize(("target", "operator", "depth"), [("65%", 7, 1), ("55%", 1, 0)])
def test_a_network_that_cannot_meet_the_target_gives_way_to_the_next_that_can(make, target, operator, depth):
    """Sure of the slowest network beside a lower target, or of a fast one beside a higher one."""
    algorithm = make(target_latency=target)
    algorithm.start_epoch(WARM)
    _make_sure(algorithm, operator, depth, {2: -0.5})
    blocks, chosen = algorithm._running(*algorithm.arch_parameters.most_probable())
    low, high = (
        algorithm.latency.base + sum(ends[block, op] for block, op in zip(blocks, chosen, strict=True))
        for ends in (algorithm.latency.least, algorithm.latency.most)
    )
    assert low > 1.01 * algorithm.target if depth else high < 0.99 * algorithm.target
    found = algorithm.end_epoch()
    assert found["less_probable"] > 1
    assert algorithm.meets(found["after"])
    assert algorithm.cost_model.of(algorithm.searched)["latency"] == found["after"]
    other = make(target_latency=target)
    other.load_state_dict(algorithm.state_dict())
    assert other.searched == algorithm.searched


def test_a_network_far_from_the_target_gives_way_to_one_that_meets_it(make):
    algorithm = make(target_latency="30%")
    algorithm.start_epoch(WARM)
    _make_sure(algorithm, 7, 1, {})
    found = algorithm.end_epoch()
    assert algorithm.meets(found["after"]) and found["less_probable"] == pytest.approx(np.exp(5 * _moved(algorithm)))


def _moved(algorithm: TFNAS) -> int:
    """How many operators and depths of the network found are not those that it was sure of."""
    searched, moved = algorithm.searched, 0
    for stage in algorithm.search_space.stages:
        depth = len(stage.blocks) if stage.depth is None else searched[stage.depth]
        moved += (depth != len(stage.blocks)) + sum(searched[name] != OPERATORS[7] for name in stage.blocks[:depth])
    return moved


def test_the_most_probable_network_stays_where_no_network_meets_the_target(make):
    algorithm = make(target_latency="30%")
    algorithm.target = 0.5 * (algorithm.latency.base + float(algorithm.latency.least.min()))
    algorithm.start_epoch(WARM)
    _make_sure(algorithm, 7, 1, {})
    found = algorithm.end_epoch()
    assert found["less_probable"] == 1 and not algorithm.meets(found["after"])
    assert {name: algorithm.searched[name] for name in BLOCKS} == dict.fromkeys(BLOCKS, OPERATORS[7])


def test_the_most_probable_network_is_found_where_it_meets_the_target(make):
    algorithm = make(target_latency="65%")
    algorithm.start_epoch(WARM)
    _make_sure(algorithm, 3, 1, {})
    found = algorithm.end_epoch()
    assert found["less_probable"] == 1 and algorithm.meets(found["after"])
    assert {name: algorithm.searched[name] for name in BLOCKS} == dict.fromkeys(BLOCKS, OPERATORS[3])


def test_channels_are_sorted_where_widths_change(make):
    algorithm = make(target_latency="40%")
    algorithm.start_epoch(WARM)
    before = algorithm.widths.clone()
    weights = weights_of(algorithm)
    algorithm.end_epoch()
    changed = (algorithm.widths != before).nonzero().tolist()
    assert changed
    for block, name in enumerate(BLOCKS):
        for op, operator in enumerate(OPERATORS):
            module = operators(algorithm.mutator)[name].candidate(operator)
            sums = module.depth_conv.conv._parameters["weight"].abs().sum((1, 2, 3))
            is_sorted = bool((sums[:-1] >= sums[1:]).all())
            key = f"{name}._candidates.{operator}.depth_conv.conv.weight"
            assert is_sorted == ([block, op] in changed)
            if [block, op] not in changed:
                assert torch.equal(module.depth_conv.conv._parameters["weight"], weights[key])


def test_no_widths_change_in_the_epochs_before(make):
    algorithm = make()
    before = algorithm.widths.clone()
    algorithm.start_epoch(WARM - 1)
    found = algorithm.end_epoch()
    assert torch.equal(algorithm.widths, before) and found["before"] == found["after"]


def test_architecture_steps_are_counted_alike_from_anywhere(make):
    algorithm = make(arch_interval=3)
    done = 0
    for epoch in range(5):
        for index in range(7):
            assert algorithm.arch_steps(epoch, index, 7) == done
            done += algorithm.trains_arch(epoch, index)


def test_the_checkpoint_holds_the_network_found(make):
    algorithm = make()
    algorithm.start_epoch(WARM)
    algorithm.end_epoch()
    meta = algorithm.checkpoint_meta()
    found = parse_document(meta["searched"], algorithm.search_space, "meta")
    assert found.subnet == algorithm.searched
    assert found.resources["latency"] == algorithm.cost_model.of(found.subnet)["latency"]
    other = make()
    other.load_state_dict(algorithm.state_dict())
    assert other.searched == algorithm.searched


def test_steps_are_repeatable_and_evaluation_changes_nothing(make):
    states = []
    for _ in range(2):
        algorithm = make()
        algorithm.start_epoch(WARM)
        optim = wrappers(algorithm)
        for step in range(2):
            algorithm.train_step({"weights": batch(step), "arch": batch(10 + step)}, optim)
            algorithm.eval()
            algorithm.mutator.activate(algorithm.searched)
            algorithm.architecture(batch()["inputs"])
            algorithm.train()
        states.append(algorithm.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_bad_input(make, tmp_path):
    for target in (0.5, 100.0):
        with pytest.raises(UserError, match=r"target_latency=.*no network of the space takes .* ms, they take"):
            make(target_latency=target)
    for name, value in (("lambda_lat", 0), ("arch_interval", 0), ("epochs_without_arch", -1), ("temperature", "hot")):
        with pytest.raises(UserError, match=rf"model\.{name}=.*: give a"):
            make(**{name: value})
    with pytest.raises(UserError, match="latency_table is missing"):
        make(latency_table=None).start_epoch(0)
    with pytest.raises(UserError, match="operators with widths of their own"):
        make(architecture={
            "type": "mmpretrain.ImageClassifier",
            "backbone": {"type": "mmrazor_lite.SearchableMobileNet", "arch_setting": [[8, 1, 1], [12, 2, 2]],
                         "first_channels": 8, "last_channels": 16},
            "neck": {"type": "GlobalAveragePooling"},
            "head": {"type": "LinearClsHead", "num_classes": CLASSES, "in_channels": 16},
        }, latency_table=None)  # fmt: skip
    algorithm = make()
    with torch.no_grad():
        algorithm.arch_parameters.alphas[3][2] = float("nan")
    with pytest.raises(UserError, match=rf"epoch 1: the architecture parameters of '{BLOCKS[3]}' are not finite"):
        algorithm.start_epoch(0)


def test_a_loss_that_is_not_finite_stops_before_the_update(make):
    algorithm = make()
    algorithm.start_epoch(WARM)
    optim = wrappers(algorithm)
    bad = batch(1)
    bad["inputs"][0, 0, 0, 0] = float("nan")
    before = copy.deepcopy(algorithm.arch_parameters.state_dict())
    with pytest.raises(UserError, match="step 0: the loss of the architecture step is nan"):
        algorithm.train_step({"weights": batch(), "arch": bad}, optim)
    assert all(torch.equal(value, before[name]) for name, value in algorithm.arch_parameters.state_dict().items())
    assert all(parameter.requires_grad for parameter in algorithm.architecture.parameters())
