"""Algorithms and searchers of MMRazor 0.x: the networks, widths, operators and limits that they are of."""

from __future__ import annotations

import pytest
from migration.v0_layout import autoslim, ours, spos, translated

from mmrazor_lite.config.build import build_model, register_quietly


@pytest.fixture(scope="module", autouse=True)
def names():
    register_quietly()


def named(config: dict):
    """The model in our own form, with the names under which classes are registered."""
    from mmengine.config import Config

    from mmrazor_lite.config import names

    found = Config({key: value for key, value in ours(config).items() if key in ("model", "data_preprocessor")})
    names.normalise(found._cfg_dict)
    return found


def network(config: dict):
    """The classifier alone, which no mutator has prepared."""
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope("mmpretrain")
    return MODELS.build(named(config).model.architecture)


@pytest.fixture(scope="module")
def supernet():
    return build_model(named(autoslim(num_sample_training=3)))


def test_widths_are_the_ratios_rounded_as_the_pruner_does_it(supernet):
    choices = [choice for choice in supernet.search_space.values() if choice.kind == "width"]
    assert len(choices) > 5
    for choice in choices:
        full = choice.candidates[-1]
        if full * 0.25 % 1 != 0.5:  # Python rounds halves to even numbers, a width to more
            assert choice.candidates == tuple(sorted({max(1, round(full * ratio)) for ratio in (1 / 4, 0.6, 1.0)}))
    assert supernet.input_shape == (3, 32, 32) and supernet.kind == "supernet"


def test_the_sandwich_and_its_soft_labels(supernet):
    assert [item.name for item in supernet.passes(0)] == ["max_subnet", "min_subnet", "random0_subnet"]
    assert (supernet.distiller.tau, supernet.distiller.loss_weight) == (2, 0.5)
    assert ours(autoslim())["model"]["num_random_samples"] == 2  # of four in a step


def test_layers_that_keep_their_width():
    mutator = ours(autoslim(pruner=dict(type="RatioPruner", ratios=[0.5, 1.0], except_start_keys=["backbone.conv1"])))
    assert mutator["model"]["mutator"]["exclude"] == ["backbone.conv1*"]
    assert "exclude" not in ours(autoslim())["model"]["mutator"]


def test_retraining_is_of_one_subnet_or_of_several():
    several = ours(autoslim(retraining=True, channel_cfg=["a.yaml", "b.yaml"], distiller=None))["model"]
    assert several["channel_cfg"] == ["a.yaml", "b.yaml"] and "distiller" not in several
    one = ours(autoslim(retraining=True, channel_cfg="a.yaml"))["model"]
    assert one["channel_cfg"] == "a.yaml"
    unused = translated(autoslim(channel_cfg="a.yaml"))
    assert "channel_cfg" not in unused.config["model"] and any("channel_cfg" in line for line in unused.changes)


def operators(model) -> list:
    from mmrazor_lite.models.mutables import MutableOP

    return [module for module in model.modules() if isinstance(module, MutableOP)]


def test_the_usual_operators_are_those_of_the_backbone():
    found = ours(spos())["model"]
    assert "arch_setting" not in found["architecture"]["backbone"] and found["mutator"] == {"type": "NasMutator"}
    places = operators(network(spos()))
    names = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception")
    assert [place.names for place in places] == [names] * 20


def test_other_operators_stand_in_the_places_of_the_backbone():
    config = spos()
    choices = dict(small=dict(type="ShuffleBlock", kernel_size=3), wide=dict(type="ShuffleBlock", kernel_size=7))
    config["algorithm"]["mutator"]["placeholder_mapping"]["all_blocks"]["choices"] = choices
    found, plain = operators(network(config)), operators(network(spos()))
    assert [place.alias for place in found] == [place.alias for place in plain]
    for place, other in zip(found, plain, strict=True):
        for name, usual in (("small", "shuffle_3x3"), ("wide", "shuffle_7x7")):
            assert str(place.candidate(name)) == str(other.candidate(usual))


def mobile(**candidate) -> dict:
    """The space of MobileNet, as the configs of 0.x write it; ``candidate`` changes one operator."""
    config = spos()
    options = dict(norm_cfg=dict(type="BN"), act_cfg=dict(type="ReLU6"))
    blocks = {
        f"mb_k{k}e{e}": dict(type="MBBlock", kernel_size=k, expand_ratio=e, **options)
        for e in (3, 6)
        for k in (3, 5, 7)
    }
    blocks["mb_k5e6"] |= candidate
    first = {"mb_k3e1": dict(type="MBBlock", kernel_size=3, expand_ratio=1, **options)}
    mapping = dict(
        searchable_blocks=dict(type="OneShotOP", choices={**blocks, "identity": dict(type="Identity")}),
        first_blocks=dict(type="OneShotOP", choices=first),
    )
    config["algorithm"]["mutator"]["placeholder_mapping"] = mapping
    network = config["algorithm"]["architecture"]["model"]
    network["backbone"] = dict(
        type="SearchableMobileNet",
        first_channels=8,
        last_channels=64,
        widen_factor=0.1,
        arch_setting_type="proxyless_gpu",
    )
    network["head"]["in_channels"] = 64
    return config


def test_the_space_of_mobilenet_has_its_operators_in_their_places():
    usual = ours(mobile())["model"]["architecture"]["backbone"]
    assert usual["arch_setting_type"] == "proxyless_gpu" and "arch_setting" not in usual
    changed, plain = operators(network(mobile(expand_ratio=4))), operators(network(mobile()))
    assert [place.alias for place in changed] == [place.alias for place in plain] and len(plain) == 22
    for place, other in zip(changed, plain, strict=True):
        assert place.names == other.names
        for name in place.names:
            assert (str(place.candidate(name)) == str(other.candidate(name))) == (name != "mb_k5e6")


def test_retraining_of_operators_is_a_sub_model():
    found = ours(spos(retraining=True, mutable_cfg="a.yaml"))["model"]
    assert (found["type"], found["fix_subnet"], found["input_shape"]) == ("sub_model", "a.yaml", (3, 32, 32))
    assert found["cfg"]["backbone"]["type"] == "SearchableShuffleNetV2"


def test_the_greedy_search():
    config = {**autoslim(distiller=None)}
    config["searcher"] = dict(type="GreedySearcher", target_flops=[5e8, 2500000, 123], max_channel_bins=12)
    found = ours(config)["search_cfg"]
    assert found["target_flops"] == [500, 2.5, 0.000123]
    assert found["searcher"] == dict(type="GreedySearcher", max_channel_bins=12)
    assert found["score_key"] == "accuracy/top1" and found["evaluator"]["topk"] == (1, 5)
    assert found["dataloader"]["dataset"]["data_prefix"] == "images/val"
    assert found["calibrate_dataloader"]["dataset"]["data_prefix"] == "images/train"


def test_the_evolution():
    config = spos(bn_training_mode=False)
    config["searcher"] = dict(
        type="EvolutionSearcher",
        candidate_pool_size=6,
        candidate_top_k=2,
        constraints=dict(flops=330 * 1e6),
        max_epoch=3,
        num_mutation=3,
        num_crossover=2,
        mutate_prob=0.2,
        score_key="accuracy_top-5",
    )
    found = ours(config)["search_cfg"]
    assert found["searcher"] == dict(
        type="EvolutionSearcher",
        num_candidates=6,
        top_k=2,
        max_epochs=3,
        num_mutation=3,
        num_crossover=2,
        mutate_prob=0.2,
    )
    assert found["constraints_range"] == {"flops": (0, 330)} and found["score_key"] == "accuracy/top5"
    assert found["calibrate_sample_num"] == 0  # 0.x scores with the statistics of the supernet then


@pytest.mark.parametrize(
    ("config", "key"),
    [(autoslim(), "max_subnet.accuracy/top1"), (spos(retraining=True, mutable_cfg="a.yaml"), "accuracy/top1")],
)
def test_the_best_checkpoint_is_told_by_the_first_subnet(config, key):
    config["evaluation"] = dict(interval=1, save_best="accuracy_top-1", rule="greater")
    found = ours(config)["default_hooks"]["checkpoint"]
    assert (found["save_best"], found["rule"]) == (key, "greater")


def changed(config: dict, *path: str, value) -> dict:
    node = config
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return config


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (autoslim(type="Darts"), "algorithm.type='Darts': known are AutoSlim, SPOS"),
        (autoslim(distiller=None), "algorithm.distiller=None: small subnets learn from the largest"),
        (autoslim(pruner=dict(type="FancyPruner")), "algorithm.pruner: is 'FancyPruner'"),
        (autoslim(retraining=True), "algorithm.channel_cfg: is missing"),
        (autoslim(num_sample_training=1), "algorithm.num_sample_training=1"),
        (autoslim(numb=1), "algorithm.numb: unknown key"),
        (spos(retraining=True), "algorithm.mutable_cfg: is missing"),
        (spos(distiller=dict(type="SelfDistiller")), "algorithm.distiller="),
        (spos(mutator=dict(type="OneShotMutator")), "algorithm.mutator.placeholder_mapping=None"),
        (mobile(se_cfg=dict(ratio=4)), "placeholder_mapping.searchable_blocks.choices.mb_k5e6.se_cfg="),
        (
            changed(autoslim(), "algorithm", "distiller", "components", value=[]),
            "algorithm.distiller.components: one loss between outputs of head.fc",
        ),
        (
            changed(autoslim(), "algorithm", "architecture", "type", value="MMDetArchitecture"),
            "algorithm.architecture.type='MMDetArchitecture'",
        ),
        ({**spos(), "searcher": dict(type="GridSearcher")}, "searcher.type='GridSearcher': known are GreedySearcher"),
        ({**spos(), "searcher": dict(type="EvolutionSearcher", max_epochs=3)}, "searcher.max_epochs: unknown key"),
        (
            {**spos(), "searcher": dict(type="EvolutionSearcher", constraints=dict(params=3))},
            "searcher.constraints.params: unknown key",
        ),
    ],
)
def test_what_has_no_counterpart_is_told_by_its_key(config, said):
    problems = translated(config).problems
    assert problems and problems[0].startswith(said)
