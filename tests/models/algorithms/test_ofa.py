"""Once-for-All's steps: every phase and the sandwich against a computation by hand, and what each run starts from."""

from __future__ import annotations

import copy
import itertools
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from draws import some
from ofa_runs import (
    LR,
    NUMBER,
    PHASES,
    SHRINKING,
    SIZES,
    architecture,
    at,
    batch,
    labels,
    make,
    save,
    sgd,
    start,
)

from mmrazor_lite.errors import UserError
from mmrazor_lite.export import read_checkpoint, save_checkpoint
from mmrazor_lite.models.algorithms import OFA, SubModel
from mmrazor_lite.models.algorithms.base import resized
from mmrazor_lite.models.calibration import batch_norms, recalibrated
from mmrazor_lite.models.mutables import ElasticBlock
from mmrazor_lite.registry import MODELS, SCOPE


@pytest.fixture(scope="module")
def files(registered, tmp_path_factory) -> dict[str, str]:
    """A checkpoint of every phase, all with other weights."""
    folder = tmp_path_factory.mktemp("phases")
    return {phase: save(make(phase=phase, seed=index), folder / f"{phase}.pth") for index, phase in enumerate(PHASES)}


def starts_from(files: dict[str, str], phase: str) -> str:
    return files[PHASES[PHASES.index(phase) - 1]]


def begun(files: dict[str, str], phase: str, **options) -> OFA:
    """A run of a phase that was given all that it needs."""
    if phase == "teacher":
        return make(phase=phase)
    return start(make(phase=phase, seed=9, **{"teacher": files["teacher"], **options}), starts_from(files, phase))


# steps ------------------------------------------------------------------------------------------------------------


def by_hand(network: OFA, passes: list, data: dict, soft: float, teacher: torch.nn.Module | None) -> tuple:
    """Cross entropy of every subnet and ``soft`` times the divergence from the teacher; gradients and total."""
    network.zero_grad()
    total = 0.0
    target = None
    for item in passes:
        images = at(data["inputs"], item.subnet["resolution"])
        if teacher is not None and target is None:
            with torch.no_grad():
                target = F.softmax(teacher(images), dim=1)
        network.mutator.activate(item.subnet)
        logits = network.architecture(images)
        loss = F.cross_entropy(logits, labels(data))
        if target is not None:
            divergence = (target * (target.log() - F.log_softmax(logits, dim=1))).sum(1).mean()
            loss = loss + soft * divergence
        loss.backward()
        total += float(loss.detach())
    return {name: parameter.grad for name, parameter in network.named_parameters()}, total


@pytest.mark.parametrize(
    ("phase", "soft"),
    some(itertools.product(PHASES, (1.0, 0.3)), *((phase, 1.0) for phase in PHASES), ("depth_1", 0.3)),
)
def test_a_step_of_a_phase_is_the_sum_computed_by_hand(files, phase, soft):
    algorithm, data = begun(files, phase, kd_ratio=soft), batch()
    network = copy.deepcopy(algorithm)
    network.before_first_step()
    teacher = None
    if phase != "teacher":
        teacher = start(make(phase="teacher", seed=5), files["teacher"]).mutator
        teacher = teacher.export(teacher.search_space.max()).train()  # its norms use the batch
    expected, total = by_hand(network, algorithm.passes(0), data, soft, teacher)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    log = algorithm.train_step(data, sgd(algorithm))
    assert log["loss"].item() == pytest.approx(total, rel=1e-12)
    for name, parameter in algorithm.named_parameters():
        step = torch.zeros_like(parameter) if expected[name] is None else LR * expected[name]
        torch.testing.assert_close(before[name] - parameter, step, rtol=1e-9, atol=1e-13, msg=name)
        if expected[name] is None:
            assert torch.equal(before[name], parameter)
    names = {item.name for item in algorithm.passes(0)}
    assert len(names) == NUMBER[phase] == len(algorithm.passes(0))


def test_the_sandwich_is_bignas_rule(registered):
    """The max subnet learns from the labels; the others from its output alone; all at one resolution."""
    algorithm, data = make(), batch()
    network = copy.deepcopy(algorithm)
    passes = algorithm.passes(0)
    space = algorithm.search_space
    size = passes[0].subnet["resolution"]
    drawn = [space.sample(np.random.default_rng([algorithm.seed, 0, k])) for k in range(2)]
    wanted = [{**subnet, "resolution": size} for subnet in (space.max(), space.min(), *drawn)]
    assert [dict(item.subnet) for item in passes] == wanted
    images = at(data["inputs"], size)
    network.mutator.activate(wanted[0])
    logits = network.architecture(images)
    total = F.cross_entropy(logits, labels(data))
    total.backward()
    target = F.softmax(logits.detach(), dim=1)
    for subnet in wanted[1:]:
        network.mutator.activate(subnet)
        student = F.log_softmax(network.architecture(images), dim=1)
        soft = (target * (target.log() - student)).sum(1).mean()
        soft.backward()
        total = total + soft
    before = {name: value.detach().clone() for name, value in algorithm.named_parameters()}
    log = algorithm.train_step(data, sgd(algorithm))
    assert log["loss"].item() == pytest.approx(total.item(), rel=1e-12)
    gradients = {name: value.grad for name, value in network.named_parameters()}
    for name, parameter in algorithm.named_parameters():
        step = torch.zeros_like(parameter) if gradients[name] is None else LR * gradients[name]
        torch.testing.assert_close(before[name] - parameter, step, rtol=1e-9, atol=1e-13, msg=name)


def test_one_class_under_two_names(registered):
    assert MODELS.get("OFA") is MODELS.get("BigNAS") is OFA


@pytest.mark.parametrize("number", [0, 3])
def test_how_many_subnets_is_an_option(files, number):
    assert len(make(num_random_samples=number).passes(0)) == number + 2
    if number:
        assert len(begun(files, "kernel", num_subnets=number).passes(0)) == number


def test_the_distiller_is_an_option(files):
    data, losses = batch(), []
    for weight in (1.0, 3.0):
        algorithm = begun(files, "kernel", distiller={"type": "KLDivergence", "loss_weight": weight})
        losses.append(algorithm.train_step(data, sgd(algorithm)))
    assert losses[1]["random0_subnet.soft_loss"] == pytest.approx(3 * losses[0]["random0_subnet.soft_loss"].item())


# what is drawn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [*PHASES, None])
def test_subnets_depend_on_seed_and_step_alone(files, phase, monkeypatch):
    """So every rank trains the same, and so does a run that was resumed."""
    algorithm = make(phase=phase)
    first = [[item.subnet for item in algorithm.passes(step)] for step in range(12)]
    np.random.seed(1), torch.manual_seed(1)
    monkeypatch.setattr("mmrazor_lite.models.algorithms.base.get_rank", lambda: 3)
    other = make(phase=phase, seed=4)
    other.mutator.activate(other.search_space.min())
    assert [[item.subnet for item in other.passes(step)] for step in reversed(range(12))] == first[::-1]
    other.seed = 1
    assert [[item.subnet for item in other.passes(step)] for step in range(12)] != first


@pytest.mark.parametrize("phase", [*PHASES, None])
def test_one_resolution_per_step_and_all_of_them_in_time(registered, phase):
    algorithm, seen = make(phase=phase), []
    for step in range(60):
        sizes = {item.subnet["resolution"] for item in algorithm.passes(step)}
        assert len(sizes) == 1
        seen.extend(sizes)
    assert set(seen) == set(SIZES) and 15 < seen.count(6) < 45


@pytest.mark.parametrize("phase", PHASES)
def test_subnets_of_a_step_are_of_the_phase(registered, phase):
    algorithm, seen = make(phase=phase), set()
    for step in range(20):
        for item in algorithm.passes(step):
            row = algorithm.search_space.index(item.subnet)
            active = algorithm.search_space.active(row[None])[0]
            for name, on in zip(algorithm.search_space, active, strict=True):
                assert not on or item.subnet[name] in algorithm.phase.space[name].candidates
            seen.add(item.subnet)
    assert len(seen) == 2 if phase == "teacher" else len(seen) > 5


def test_without_resolutions_images_stay(registered):
    algorithm = make(mutator={"type": "NasMutator"})
    assert "resolution" not in algorithm.search_space and algorithm.resolution is None
    sizes = []
    algorithm.architecture.backbone.register_forward_pre_hook(lambda module, args: sizes.append(args[0].shape[-1]))
    algorithm.train_step(batch(), sgd(algorithm))
    assert set(sizes) == {8}


@pytest.mark.parametrize("phase", [None, "depth_1"])
def test_validation_shows_the_ends_of_what_is_trained(registered, phase):
    algorithm = make(phase=phase)
    named = algorithm.named_subnets()
    assert list(named) == ["max_subnet", "min_subnet", "random0_subnet"] and named == make(phase=phase).named_subnets()
    assert named["max_subnet"] == algorithm.search_space.max()
    smallest = {"depth": 1, "kernel_size": 3, "expand_ratio": 2 if phase is None else 4, "resolution": 6}
    space, row = algorithm.search_space, algorithm.search_space.index(named["min_subnet"])
    for (name, value), on in zip(named["min_subnet"].items(), space.active(row[None])[0], strict=True):
        assert not on or value == smallest[name.rpartition(".")[2]]
    costs = algorithm.resources()
    assert costs["min_subnet"]["macs"] < costs["random0_subnet"]["macs"] <= costs["max_subnet"]["macs"]


# resolution -------------------------------------------------------------------------------------------------------


def test_images_are_resized_to_what_the_active_subnet_is_meant_for(registered):
    images = batch()["inputs"]
    assert resized(images, None) is images and resized(images, 8) is images
    assert torch.equal(resized(images, 6), at(images, 6)) and resized(images, 6).shape == (4, 3, 6, 6)
    algorithm = make().eval()
    for size in SIZES:
        algorithm.mutator.activate({**algorithm.search_space.max(), "resolution": size})
        assert algorithm.resolution == size
        assert torch.equal(algorithm(images), algorithm.architecture(at(images, size)))


def test_a_subnet_alone_keeps_its_resolution(registered):
    algorithm = make()
    subnet = algorithm.search_space.subnet(algorithm.search_space.index({**algorithm.search_space.min()}))
    alone = SubModel({"type": "OFA", **_config()}, {key: {"chosen": value} for key, value in subnet.items()})
    assert alone.resolution == 6 and alone.input_shape == (3, 6, 6)
    alone.double().eval().architecture.load_state_dict(algorithm.mutator.export(subnet).state_dict())
    algorithm.eval().mutator.activate(subnet)
    images = batch()["inputs"]
    torch.testing.assert_close(alone(images), algorithm(images), rtol=1e-10, atol=1e-12)
    assert alone.resources() == {"subnet": algorithm.cost_model.of(subnet)}


def _config() -> dict:
    return {
        "architecture": architecture(),
        "mutator": {"type": "NasMutator", "resolutions": list(SIZES)},
        "input_shape": (3, 8, 8),
    }


def test_evaluating_a_subnet_changes_nothing(registered):
    algorithm = make()
    algorithm.mutator.activate(algorithm.search_space.sample(np.random.default_rng(5)))
    active, before = algorithm.mutator.active, copy.deepcopy(algorithm.state_dict())
    modes = [module.training for module in algorithm.modules()]
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    outputs = []
    for subnet in (algorithm.search_space.min(), algorithm.search_space.max(), algorithm.search_space.min()):
        algorithm.mutator.activate(subnet)
        with recalibrated(algorithm, [batch(seed) for seed in range(2)]), torch.no_grad():
            outputs.append(algorithm(batch(3)["inputs"]))
    algorithm.mutator.activate(active)
    assert torch.equal(outputs[0], outputs[2]) and not torch.equal(outputs[0], outputs[1])
    assert all(torch.equal(before[key], value) for key, value in algorithm.state_dict().items())
    assert [module.training for module in algorithm.modules()] == modes
    assert random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert all(norm.momentum == 0.1 for norm in batch_norms(algorithm))


# the teacher ------------------------------------------------------------------------------------------------------


def test_the_teacher_is_no_part_of_the_model_and_does_not_change(files):
    algorithm = begun(files, "kernel")
    keys = set(algorithm.state_dict())
    before = copy.deepcopy(algorithm.state_dict())
    teacher = algorithm._teacher[0]
    assert all(torch.equal(before[key], value) for key, value in algorithm.state_dict().items())
    assert algorithm.phase.name == "kernel"
    weights = {name: value.clone() for name, value in teacher.named_parameters()}
    own = read_checkpoint(files["teacher"])["state_dict"]
    assert all(torch.equal(own[f"architecture.{name}"], weights[name]) for name in ("head.fc.weight", "head.fc.bias"))
    wrapper = sgd(algorithm)
    for step in range(3):
        algorithm.train_step(batch(step), wrapper)
    assert algorithm._teacher[0] is teacher
    assert all(torch.equal(weights[name], value) for name, value in teacher.named_parameters())
    assert not any(value.requires_grad or value.grad is not None for value in teacher.parameters())
    assert set(algorithm.state_dict()) == keys
    held = {id(parameter) for parameter in algorithm.parameters()}
    assert not held & {id(parameter) for parameter in teacher.parameters()}
    assert teacher not in set(algorithm.modules())


def test_the_teacher_uses_the_statistics_of_the_batch_and_no_dropout(files):
    algorithm = begun(files, "kernel", architecture=architecture(dropout=0.5))
    images = {"inputs": batch()["inputs"]}
    subnet = algorithm.passes(0)[0].subnet
    first = algorithm.teacher_outputs(images, subnet)
    assert torch.equal(first, algorithm.teacher_outputs(images, subnet))
    alone = torch.cat([algorithm.teacher_outputs({"inputs": image[None]}, subnet) for image in images["inputs"]])
    assert not torch.allclose(first, alone)
    for module in algorithm._teacher[0].modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.fill_(7.0)
    assert torch.equal(first, algorithm.teacher_outputs(images, subnet))


def test_the_teacher_sees_what_the_student_sees(files):
    algorithm = begun(files, "kernel")
    images = batch()["inputs"]
    for size in SIZES:
        logits = algorithm.teacher_outputs({"inputs": images}, {"resolution": size})
        torch.testing.assert_close(logits, algorithm._teacher[0](at(images, size)))
        assert not logits.requires_grad


@SHRINKING
def test_labels_alone_need_no_teacher(files, phase):
    algorithm = begun(files, phase, kd_ratio=0, teacher=None)
    log = algorithm.train_step(batch(), sgd(algorithm))
    assert torch.isfinite(log["loss"]) and not any("soft" in key for key in log)


@SHRINKING
@pytest.mark.parametrize("teacher", [None, ""])
def test_a_phase_without_a_teacher_is_refused_before_the_first_update(files, phase, teacher):
    algorithm = begun(files, phase, teacher=teacher)
    message = rf"algorithm\.phase='{phase}' learns from .*algorithm\.teacher .*algorithm\.kd_ratio=0"
    with pytest.raises(UserError, match=message):
        algorithm.train_step(batch(), sgd(algorithm))


def test_a_teacher_of_another_space_is_refused_and_the_model_stays(files, tmp_path):
    wrong = architecture()
    wrong["backbone"]["expand_ratios"] = [2, 4]
    file = save(make(wrong, phase="teacher"), tmp_path / "wrong.pth")
    algorithm = begun(files, "kernel", teacher=file)
    before = copy.deepcopy(algorithm.state_dict())
    with pytest.raises(UserError, match=r"wrong\.pth belongs to another search space"):
        algorithm.train_step(batch(), sgd(algorithm))
    assert all(torch.equal(before[key], value) for key, value in algorithm.state_dict().items())
    assert algorithm.phase.name == "kernel"
    with pytest.raises(UserError, match="nowhere"):
        begun(files, "kernel", teacher=str(tmp_path / "nowhere.pth")).train_step(batch(), sgd(algorithm))


# the order of phases ----------------------------------------------------------------------------------------------


@SHRINKING
def test_a_phase_without_a_start_is_refused(files, phase):
    algorithm = make(phase=phase, teacher=files["teacher"])
    message = rf"algorithm\.phase='{phase}' starts from a checkpoint of phase '.*': set load_from=FILE"
    with pytest.raises(UserError, match=message) as error:
        algorithm.train_step(batch(), sgd(algorithm))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("phase", some(PHASES, "teacher", "depth_1"))
def test_a_phase_starts_from_the_one_before_or_itself(files, phase):
    index = PHASES.index(phase)
    for other in PHASES:
        algorithm = make(phase=phase, teacher=None if phase == "teacher" else files["teacher"], seed=7)
        before = copy.deepcopy(algorithm.state_dict())
        if PHASES.index(other) in (index, index - 1):
            start(algorithm, files[other])
            assert torch.equal(
                algorithm.state_dict()["architecture.head.fc.weight"],
                read_checkpoint(files[other])["state_dict"]["architecture.head.fc.weight"],
            )
            continue
        with pytest.raises(UserError, match=rf"was trained up to phase '{other}', .*the order is: teacher, kern") as e:
            start(algorithm, files[other])
        assert "\n" not in str(e.value)
        assert all(torch.equal(before[key], value) for key, value in algorithm.state_dict().items())


def test_a_checkpoint_says_its_phase(files):
    for phase, file in files.items():
        assert read_checkpoint(file)["meta"][SCOPE]["phase"] == phase
    assert "phase" not in make().checkpoint_meta()


@pytest.mark.parametrize("phase", PHASES)
def test_a_search_takes_the_checkpoint_of_any_phase(files, phase):
    algorithm = start(make(), files[phase])
    weights = read_checkpoint(files[phase])["state_dict"]
    assert all(torch.equal(weights[key], value) for key, value in algorithm.state_dict().items())


def _trains_from(algorithm: OFA, file: str) -> bool:
    """Whether it takes the weights of a file, and a step changes them."""
    weights = read_checkpoint(file)["state_dict"]
    assert all(torch.equal(weights[key], value) for key, value in start(algorithm, file).state_dict().items())
    log = algorithm.train_step(batch(), sgd(algorithm))
    return bool(torch.isfinite(log["loss"])) and any(
        not torch.equal(weights[f"architecture.{name}"], value)
        for name, value in algorithm.architecture.named_parameters()
    )


def test_a_sandwich_may_be_shrunken_further(files, tmp_path):
    """What says no phase may start any."""
    file = save(make(), tmp_path / "sandwich.pth")
    assert _trains_from(make(phase="expand_1", teacher=files["teacher"]), file)


def test_weights_that_say_nothing_start_any_phase(files, tmp_path):
    """Such as those converted from another project's file."""
    save_checkpoint({"state_dict": make(seed=3).state_dict()}, tmp_path / "plain.pth")
    assert _trains_from(make(phase="depth_1", teacher=files["teacher"]), str(tmp_path / "plain.pth"))


# the order of channels --------------------------------------------------------------------------------------------


def marked(algorithm: OFA) -> OFA:
    """Give every expanded channel its number, as a statistic."""
    algorithm.mutator.activate(algorithm.search_space.max())
    for block in blocks(algorithm):
        block.depth_conv.bn.running_mean.copy_(torch.arange(block.depth_conv.bn.num_features))
    return algorithm


def blocks(algorithm: OFA) -> list[ElasticBlock]:
    return [m for m in algorithm.architecture.modules() if isinstance(m, ElasticBlock) and m.is_elastic]


def orders(algorithm: OFA) -> list[list[int]]:
    return [block.depth_conv.bn._buffers["running_mean"].long().tolist() for block in blocks(algorithm)]


@SHRINKING
def test_channels_are_sorted_before_an_expand_phase_alone(files, phase):
    algorithm = marked(begun(files, phase))
    before = orders(algorithm)
    algorithm.eval()
    full = algorithm.search_space.max()
    algorithm.mutator.activate(full)
    reference = algorithm.architecture(batch()["inputs"])
    algorithm.mutator.activate(algorithm.search_space.min())
    algorithm.before_first_step()
    assert algorithm.mutator.active == algorithm.search_space.min()
    assert (orders(algorithm) != before) == phase.startswith("expand")
    algorithm.mutator.activate(full)
    torch.testing.assert_close(algorithm.architecture(batch()["inputs"]), reference, rtol=1e-11, atol=1e-12)
    for block, order in zip(blocks(algorithm), orders(algorithm), strict=True):
        widths = sorted(block.inner_widths(ratio)[0] for ratio in block.expand_ratios)
        assert sorted(order) == list(range(widths[-1]))
        if phase == "expand_2":  # the phase before has trained the ratios 3 and 4
            assert sorted(order[: widths[1]]) == list(range(widths[1]))
            assert order[: widths[1]] != sorted(order[: widths[1]])


def test_channels_are_sorted_once(files, monkeypatch):
    calls = []
    monkeypatch.setattr(OFA, "sort_channels", lambda self: calls.append(self.phase.name))
    algorithm = begun(files, "expand_1")
    wrapper = sgd(algorithm)
    for step in range(2):
        algorithm.train_step(batch(step), wrapper)
    assert calls == ["expand_1"]
    saved = wrapper.state_dict()
    resumed = begun(files, "expand_1")
    wrapper = sgd(resumed)
    wrapper.load_state_dict(saved)
    wrapper.initialize_count_status(resumed, 2, 4)
    resumed.train_step(batch(2), wrapper)
    assert calls == ["expand_1"]


def test_a_phase_that_goes_on_from_its_own_checkpoint_keeps_its_order(files, tmp_path):
    """The ratio that the phase has been training is no more among the trained ones of the phase before."""
    algorithm = begun(files, "expand_1")
    algorithm.train_step(batch(), sgd(algorithm))
    file = save(marked(algorithm), tmp_path / "expand_1.pth")
    again = start(make(phase="expand_1", teacher=files["teacher"]), file)
    before = orders(again)
    again.before_first_step()
    assert orders(again) == before
    following = start(make(phase="expand_2", teacher=files["teacher"]), file)
    following.before_first_step()
    assert orders(following) != before
