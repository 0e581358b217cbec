"""What AutoSlim makes of channel_cfg, and what its checkpoints say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmrazor_lite.engine.optim import SubnetOptimWrapper
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.importance import build
from mmrazor_lite.subnet import write_subnet


@pytest.fixture
def files(make, tmp_path) -> list[str]:
    """Two subnet files; they agree in the width of the stem."""
    space = make().search_space
    rng = np.random.default_rng(0)
    first, second = space.sample(rng).to_dict(), space.sample(rng).to_dict()
    second[next(iter(space))] = first[next(iter(space))]
    paths = []
    for name, choices in zip("AB", (first, second), strict=True):
        paths.append(str(tmp_path / f"{name}.yaml"))
        write_subnet(paths[-1], space.subnet(space.index(choices)), space)
    return paths


def test_supernet_names_and_costs_its_largest_and_smallest_subnet(make):
    algorithm = make()
    space = algorithm.search_space
    assert algorithm.named_subnets() == {"max_subnet": space.max(), "min_subnet": space.min()}
    cost = algorithm.resources()
    assert cost["min_subnet"]["macs"] < cost["max_subnet"]["macs"]
    assert [item.name for item in algorithm.passes(0)][:2] == ["max_subnet", "min_subnet"]


def test_joint_training_has_a_norm_per_subnet_and_labels_for_each(make, files, batch):
    algorithm = make(channel_cfg=files)
    keys = [key for key in algorithm.state_dict() if "backbone.conv1.bn" in key and key.endswith(".weight")]
    assert keys == [f"architecture.backbone.conv1.bn.bns.{i}.weight" for i in range(2)]
    passes = algorithm.passes(0)
    assert [(item.name, item.label, item.soft) for item in passes] == [("subnet_1", 1.0, 0.0), ("subnet_2", 1.0, 0.0)]
    log = algorithm.train_step(batch(), SubnetOptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=0.1)))
    assert set(log) == {"loss", "subnet_1.loss", "subnet_2.loss"}
    stats = [algorithm.state_dict()[f"architecture.backbone.layer1.0.conv.0.bn.bns.{i}.running_mean"] for i in (0, 1)]
    assert all(stat.abs().sum() > 0 for stat in stats)


def test_one_file_is_a_plain_network(make, files, batch):
    algorithm = make(channel_cfg=files[0])
    ours = [type(m).__name__ for m in algorithm.architecture.modules() if hasattr(m, "outputs")]
    assert algorithm.mutator is None and not ours
    assert all(key.startswith("architecture.") for key in algorithm.state_dict())
    cost = algorithm.resources()["subnet"]
    assert cost["params"] == sum(parameter.numel() for parameter in algorithm.parameters())
    log = algorithm.train_step(batch(), SubnetOptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=0.1)))
    assert set(log) == {"loss"}


def test_checkpoint_meta_is_plain_data_and_fits_itself(make, files):
    import yaml

    for channel_cfg, kind in ((None, "supernet"), (files, "joint"), (files[0], "subnet")):
        algorithm = make(channel_cfg=channel_cfg)
        meta = algorithm.checkpoint_meta()
        assert meta["kind"] == kind and yaml.safe_load(yaml.safe_dump(meta)) == meta
        algorithm.check_meta(meta, "C.pth")


@pytest.mark.parametrize(
    ("written", "read", "message"),
    [
        (None, [0, 1], "holds a supernet, the config asks for a joint model of 2 subnets"),
        ([0, 1], None, "holds a joint model of 2 subnets, the config asks for a supernet"),
        ([0, 1], 0, "holds a joint model of 2 subnets, the config asks for one subnet; split it"),
        ([0, 1], [1, 0], r"in another order \(2, 1\)"),
        (1, 0, "holds another subnet than algorithm.channel_cfg: "),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(make, files, written, read, message):
    def pick(which):
        return [files[i] for i in which] if isinstance(which, list) else None if which is None else files[which]

    meta = make(channel_cfg=pick(written)).checkpoint_meta()
    with pytest.raises(UserError, match=f"^C.pth .*{message}"):
        make(channel_cfg=pick(read)).check_meta(meta, "C.pth")


def test_a_checkpoint_of_another_space_is_refused(make, architecture):
    meta = make().checkpoint_meta()
    architecture["backbone"]["stem_channels"] = 12
    with pytest.raises(UserError, match="belongs to another search space"):
        make(architecture=architecture).check_meta(meta, "C.pth")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_cfg": "missing.yaml"}, "missing.yaml"),
        ({"channel_cfg": []}, "give a subnet file, a list of them, or None"),
        ({"channel_cfg": 3}, "give a subnet file"),
        ({"channel_cfg": ""}, "give a subnet file"),
        ({"retraining": True}, "needs algorithm.channel_cfg"),
        ({"retraining": False, "channel_cfg": "A.yaml"}, "trains the supernet"),
        ({"channel_cfg": "A.yaml", "distiller": {"type": "KLDivergence"}}, "is for the supernet"),
        ({"distiller": {"type": "KLDivergense"}}, "did you mean 'KLDivergence'"),
        ({"distiller": {"type": "KLDivergence", "tau": 0}}, "distiller.tau=0: give a number above 0"),
        ({"mutator": {"type": "OneShotChanelMutator"}}, "did you mean 'OneShotChannelMutator'"),
        ({"mutator": {}}, "has no 'type'"),
        ({"num_random_samples": -1}, "from 0 to 1000"),
    ],
)
def test_bad_options_are_refused(make, options, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        make(**options)


def test_the_same_subnet_twice_is_refused(make, files):
    with pytest.raises(UserError, match="hold the same subnet"):
        make(channel_cfg=[files[0], files[1], files[0]])


def test_mixup_of_the_architecture_survives_the_algorithms_preprocessor(make, architecture):
    architecture["train_cfg"] = {"augments": {"type": "Mixup", "alpha": 0.8}}
    preprocessor = {"num_classes": 5, "mean": [1.0] * 3, "std": [2.0] * 3}
    algorithm = make(architecture=architecture, data_preprocessor=preprocessor)
    assert algorithm.data_preprocessor is algorithm.architecture.data_preprocessor
    assert algorithm.data_preprocessor.batch_augments is not None
    assert algorithm.data_preprocessor.mean.flatten().tolist() == [1.0] * 3


def test_pretrained_weights_load_strictly_and_safely(make, tmp_path):
    source = make().architecture.float()
    path = tmp_path / "plain.pth"
    torch.save({"state_dict": source.state_dict()}, path)
    init = {"type": "Pretrained", "checkpoint": str(path)}
    supernet = make(torch.float32, init_cfg=init)
    supernet.init_weights()
    state = supernet.architecture.state_dict()
    assert all(torch.equal(state[key], value) for key, value in source.state_dict().items())
    torch.save({"state_dict": {"head.fc.weight": source.head.fc.weight}}, path)
    with pytest.raises(UserError, match="missing"):
        make(torch.float32, init_cfg=init).init_weights()


def test_pretrained_head_through_its_own_init_cfg(make, architecture, tmp_path):
    source = make().architecture.float()
    path = tmp_path / "plain.pth"
    torch.save({"state_dict": source.state_dict()}, path)
    architecture["head"]["init_cfg"] = {"type": "Pretrained", "checkpoint": str(path), "prefix": "head."}
    algorithm = make(torch.float32, architecture=architecture)
    algorithm.init_weights()
    state = algorithm.architecture.head.state_dict()
    assert all(torch.equal(state[key], value) for key, value in source.head.state_dict().items())


def test_weight_decay_rules_reach_dynamic_and_switchable_layers(make, files):
    """bias, norm and depthwise multipliers of 0 work by type (trap 46)."""
    from mmengine.optim import build_optim_wrapper

    for channel_cfg in (None, files):
        algorithm = make(channel_cfg=channel_cfg)
        optim_wrapper = build_optim_wrapper(
            algorithm,
            {
                "type": "mmrazor_lite.SubnetOptimWrapper",
                "optimizer": {"type": "SGD", "lr": 0.1, "weight_decay": 0.01},
                "paramwise_cfg": {"bias_decay_mult": 0.0, "norm_decay_mult": 0.0, "dwconv_decay_mult": 0.0},
            },
        )
        names = {id(parameter): name for name, parameter in algorithm.named_parameters()}
        groups = optim_wrapper.optimizer.param_groups
        decayed = {names[id(group["params"][0])] for group in groups if group["weight_decay"]}
        expected = {
            name
            for name, parameter in algorithm.named_parameters()
            if name.endswith("weight") and parameter.dim() > 1 and not _is_depthwise(algorithm, name)
        }
        assert decayed == expected and decayed


def _is_depthwise(algorithm, name: str) -> bool:
    module = algorithm.get_submodule(name.rpartition(".")[0])
    return getattr(module, "groups", 1) == getattr(module, "in_channels", 0)


def test_synchronised_norms_are_searchable_in_one_process(make, architecture):
    """In one process they become plain ones, and the space is that of a distributed run."""
    architecture["backbone"]["norm_cfg"] = {"type": "SyncBN"}
    algorithm = make(architecture=architecture)
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in algorithm.modules())
    assert algorithm.search_space.fingerprint == make().search_space.fingerprint


def test_widths_below_those_that_were_trained_are_no_search(make):
    def mutator(smallest: float) -> dict:
        return {"type": "OneShotChannelMutator", "candidate_choices": [smallest, 1.0], "divisor": 2}

    wide, narrow = make(mutator=mutator(0.5)), make(mutator=mutator(0.25))
    meta = wide.checkpoint_meta()
    assert meta["narrowest"] == dict(wide.search_space.min())
    narrow.check_meta(meta)  # a training may start from it
    with pytest.raises(
        UserError, match=r"supernet\.pth was trained with widths of .*candidate_choices of model\.mutator"
    ):
        narrow.check_trained(meta, "supernet.pth")
    wide.check_trained(narrow.checkpoint_meta())
    wide.check_trained({})  # files of others do not say it


def test_a_trained_network_starts_with_its_channels_in_order(make, batch):
    """Sorted once, before the first step, and the network computes what it did; a supernet stays in its order."""
    mutator = {"type": "OneShotChannelMutator", "candidate_choices": [0.5, 1.0], "divisor": 2, "importance": "l1"}
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for meta in (None, {"kind": "supernet"}):
        algorithm = make(mutator=mutator)
        plain = algorithm.mutator.run(images)
        scores = build("l1")(algorithm.mutator)
        algorithm._is_ordered = bool(meta)
        algorithm.train_step(batch(), SubnetOptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=0.0)))
        after = build("l1")(algorithm.mutator)
        for module in algorithm.modules():  # the step changed the statistics
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_running_stats()
        torch.testing.assert_close(algorithm.mutator.run(images), plain, rtol=1e-10, atol=1e-10)
        for name, score in scores.items():
            np.testing.assert_allclose(after[name], score if meta else np.sort(score)[::-1])
        assert any((np.diff(score) > 0).any() for score in scores.values())


@pytest.mark.parametrize(
    ("importance", "options", "message"),
    [
        ("taylor", {}, "importance='taylor' looks at images"),
        ("l3", {}, "mutator.importance='l3': allowed are"),
        ("l1", {"channel_cfg": 0.5}, "orders the channels of a supernet"),
    ],
)
def test_an_order_that_cannot_be_made_is_refused(make, importance, options, message):
    mutator = {"type": "OneShotChannelMutator", "divisor": 2, "importance": importance}
    with pytest.raises(UserError, match=message):
        make(mutator=mutator, **options)
