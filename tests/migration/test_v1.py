"""Sections of MMRazor 1.x's configs in our own form: plain data in, plain data out."""

from __future__ import annotations

import copy
import json

import pytest

from mmrazor_lite.migration import Translated, translate

KL = {"type": "KLDivergence", "tau": 2, "loss_weight": 3}
RECORDER = {"fc": {"type": "ModuleOutputs", "source": "head.fc"}}
DISTILLER = {
    "type": "ConfigurableDistiller",
    "teacher_recorders": RECORDER,
    "student_recorders": RECORDER,
    "distill_losses": {"kl": KL},
    "loss_forward_mappings": {
        "kl": {
            "preds_S": {"recorder": "fc", "from_student": True},
            "preds_T": {"recorder": "fc", "from_student": False},
        }
    },
}
PARSE = {"type": "ChannelAnalyzer", "demo_input": (1, 3, 32, 48), "tracer_type": "BackwardTracer"}
UNITS = {
    f"{layer}_(0, {full})_{full}": {"init_args": {"num_channels": full, "candidate_choices": widths}, "choice": full}
    for layer, full, widths in (("conv1.conv", 16, [8, 16]), ("layer1.0.conv", 24, [16, 24]))
}
PREPROCESSOR = {"type": "ImgDataPreprocessor", "mean": [1.0] * 3, "std": [2.0] * 3, "bgr_to_rgb": True}


def model(kind: str, **more) -> dict:
    return {"_scope_": "mmrazor", "type": kind, "architecture": {"type": "mmcls.ImageClassifier"}, **more}


def autoslim(**more) -> dict:
    unit = {"type": "OneShotMutableChannelUnit", "default_args": {"choice_mode": "ratio", "divisor": 8}}
    mutator = {"type": "OneShotChannelMutator", "channel_unit_cfg": unit, "parse_cfg": PARSE}
    return model("AutoSlim", **{"mutator": mutator, "distiller": DISTILLER, **more})


def slimmable(units, **more) -> dict:
    unit = {"type": "SlimmableChannelUnit", "units": units}
    mutator = {"type": "SlimmableChannelMutator", "channel_unit_cfg": unit, "parse_cfg": PARSE}
    return model("SlimmableNetwork", mutator=mutator, **more)


def ours(config: dict) -> dict:
    """The translation, which must have no problem and leave what it was given."""
    before = copy.deepcopy(config)
    found = translate(config, "a.py")
    assert found.generation == "1.x" and not found.problems and found.changes
    assert config == before
    return found.config


def problems(config: dict) -> list[str]:
    return translate(config, "a.py").problems


def test_autoslim():
    found = ours({"model": autoslim(bn_training_mode=True, num_random_samples=2)})["model"]
    assert found["mutator"] == {"type": "OneShotChannelMutator", "choice_mode": "ratio", "divisor": 8}
    assert found["distiller"] == {"type": "KLDivergence", "tau": 2, "loss_weight": 3}
    assert found["input_shape"] == (3, 32, 48) and found["num_random_samples"] == 2
    assert "bn_training_mode" not in found


def test_units_of_a_supernet_are_options_of_layers(tmp_path):
    file = tmp_path / "units.json"
    file.write_text(json.dumps(UNITS))
    for units in (UNITS, str(file)):
        mutator = {"type": "OneShotChannelMutator", "channel_unit_cfg": {"units": units}}
        found = ours({"model": autoslim(mutator=mutator)})["model"]["mutator"]
        assert found["units"] == {
            "conv1.conv": {"candidate_choices": [8, 16]},
            "layer1.0.conv": {"candidate_choices": [16, 24]},
        }


@pytest.mark.parametrize("is_file", [True, False])
def test_a_slimmable_network_lists_its_subnets(tmp_path, is_file):
    file = tmp_path / "units.json"
    file.write_text(json.dumps(UNITS))
    found = ours({"model": slimmable(str(file) if is_file else UNITS)})["model"]
    narrow, wide = ({name: {"chosen": unit["init_args"]["candidate_choices"][k]} for name, unit in UNITS.items()}
                    for k in (0, 1))  # fmt: skip
    assert found["type"] == "AutoSlim" and found["channel_cfg"] == [narrow, wide]
    assert found["mutator"] == {"type": "OneShotChannelMutator"} and found["input_shape"] == (3, 32, 48)
    deployed = ours({"model": slimmable(str(file), deploy_index=1)})["model"]
    assert deployed["channel_cfg"] == wide and "deploy_index" not in deployed
    for units in (UNITS, "missing.json"):  # which is not read
        assert ours({"model": slimmable(units, channel_cfg="a.yaml")})["model"]["channel_cfg"] == "a.yaml"


def test_what_a_config_of_one_subnet_has_from_its_supernet_is_left_out():
    left = {"mutators": {"type": "NasMutator"}, "distiller": DISTILLER, "drop_path_rate": 0.1, "norm_training": True}
    found = ours({"model": model("sub_model", cfg={"type": "ImageClassifier"}, fix_subnet="a.yaml", **left)})["model"]
    assert set(found) == {"_scope_", "type", "cfg", "fix_subnet"}


def classifier(**more) -> dict:
    backbone = {
        "type": "mmrazor.AttentiveMobileNetV3",
        "arch_setting": {
            "kernel_size": [[3, 3, 1], [3, 7, 2], [3, 5, 2]],
            "num_blocks": [[1, 1, 1], [1, 2, 1], [2, 4, 2]],
            "expand_ratio": [[1, 1, 1], [3, 6, 1], [3, 6, 1], [6, 6, 1]],
            "num_out_channels": [[16, 16, 8], [8, 8, 8], [16, 24, 8], [24, 40, 8], [1024, 1280, 256]],
        },
        "out_indices": (3,),
        "stride_list": [1, 2, 1],
        "with_se_list": [False, True, False],
        "act_cfg_list": ["HSwish", "ReLU", "ReLU", "HSwish", "Swish", "HSwish"],
        "conv_cfg": {"type": "OFAConv2d"},
        "norm_cfg": {"type": "mmrazor.DynamicBatchNorm2d", "momentum": 0.2},
        "fine_grained_mode": True,
        "with_attentive_shortcut": False,
        **more,
    }
    return {
        "_scope_": "mmrazor",
        "type": "SearchableImageClassifier",
        "backbone": backbone,
        "neck": {"type": "mmcls.GlobalAveragePooling"},
        "head": {"type": "DynamicLinearClsHead", "num_classes": 9, "in_channels": 1280},
        "input_resizer_cfg": {"input_sizes": [[64, 64], [32, 32]]},
        "connect_head": {"connect_with_backbone": "backbone.last_mutable_channels"},
    }


def test_the_space_of_once_for_all():
    options = {"mutators": {"type": "mmrazor.NasMutator"}, "backbone_dropout_stages": [2, 3, 4]}
    found = ours({"model": model("BigNAS", architecture=classifier(), **options)})["model"]
    assert found["type"] == "OFA" and found["training"] == "sandwich" and found["input_shape"] == (3, 64, 64)
    assert found["mutator"] == {"type": "NasMutator", "resolutions": [32, 64]} and "mutators" not in found
    assert (found["drop_path_rate"], found["drop_path_stages"]) == (0.2, [2, 3])  # there are three stages
    for none in ({}, {**options, "drop_path_rate": 0.0}):
        other = ours({"model": model("BigNAS", architecture=classifier(), **none)})["model"]
        assert not {"drop_path_rate", "drop_path_stages", "backbone_dropout_stages"} & other.keys()
    network = found["architecture"]
    assert set(network) == {"type", "backbone", "head"} and network["head"]["type"] == "mmpretrain.LinearClsHead"
    assert network["backbone"] == {
        "type": "OFAMobileNetV3",
        "arch_setting": [[24, 2, 2, "ReLU", True], [40, 4, 1, "HSwish", False]],
        "width_mult": 1.0,
        "kernel_sizes": [[3, 5, 7], [3, 5]],
        "expand_ratios": [3, 4, 5, 6],
        "depths": [[1, 2], [2, 4]],
        "stem_channels": 16,
        "first_channels": 8,
        "tail_channels": [240, 1280],
        "dropout": 0.0,
        "zero_init_residual": True,
        "norm_cfg": {"type": "BN", "momentum": 0.2},
    }
    inner = ours({"model": model("sub_model", cfg=classifier())})["model"]["cfg"]
    assert inner["architecture"] == network and inner["mutator"]["resolutions"] == [32, 64]


def test_a_search_is_the_search_cfg():
    images, trained = {"dataset": {"type": "A"}}, {"dataset": {"type": "B"}}
    evolution = {
        **{"type": "mmrazor.EvolutionSearchLoop", "dataloader": images, "max_epochs": 3, "calibrate_sample_num": -1},
        "predictor_cfg": {"type": "mmrazor.MetricPredictor", "train_samples": 25},
    }
    found = ours({"model": model("SPOS", norm_training=True), "train_cfg": evolution, "train_dataloader": trained})
    search = found["search_cfg"]
    assert "train_cfg" not in found and "norm_training" not in found["model"]
    assert search["type"] == "SearchLoop" and search["calibrate_dataloader"] == trained
    assert search["searcher"]["type"] == "EvolutionSearcher" and search["constraints_range"] == {"flops": (0, 330)}
    numbers = {"max_epochs": 3, "num_candidates": 50, "top_k": 10, "num_mutation": 25, "num_crossover": 25}
    assert numbers.items() < search["searcher"].items() and search["predictor"] == {"samples": 25}
    greedy = {"type": "mmrazor.AutoSlimGreedySearchLoop", "dataloader": images, "target_flops": (5.0, 3.0)}
    found = ours({"model": autoslim(), "test_cfg": greedy, "train_dataloader": None})["search_cfg"]
    assert found == {
        "type": "SearchLoop", "dataloader": images, "target_flops": (5.0, 3.0), "calibrate_dataloader": images,
    }  # fmt: skip


def test_a_predictor_of_too_few_subnets_gets_more():
    loop = {"type": "mmrazor.EvolutionSearchLoop", "predictor_cfg": {"type": "MetricPredictor"}}
    found = translate({"model": model("SPOS"), "train_cfg": loop}, "a.py")
    assert found.config["search_cfg"]["predictor"] == {"samples": 20}
    assert any("fitted to 20 subnets (not 2: fewer say nothing)" in line for line in found.changes)


def test_loops_wrappers_and_preprocessors():
    found = ours(
        {
            "model": slimmable(UNITS, data_preprocessor=PREPROCESSOR),
            "val_cfg": {"type": "mmrazor.SlimmableValLoop"},
            "test_cfg": {"type": "mmrazor.SubnetValLoop", "calibrate_sample_num": 8},
            "model_wrapper_cfg": {"type": "mmrazor.SlimmableNetworkDDP", "broadcast_buffers": False},
        }
    )
    assert found["val_cfg"] == {"type": "SubnetValLoop"}
    assert found["test_cfg"] == {"type": "SubnetTestLoop", "calibrate_sample_num": 8}
    assert found["model_wrapper_cfg"] == {"type": "SubnetDDP", "broadcast_buffers": False}
    wanted = {"type": "mmpretrain.ClsDataPreprocessor", "mean": [1.0] * 3, "std": [2.0] * 3, "to_rgb": True}
    assert found["model"]["data_preprocessor"] == wanted


def loss(**more) -> dict:
    return {**DISTILLER, "distill_losses": {"kl": {**KL, **more}}}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            autoslim(distiller={**DISTILLER, "connectors": {"a": {}}}),
            "model.distiller: connectors is not carried; give",
        ),
        (autoslim(distiller=loss(type="L2Loss")), "its loss 'kl' is L2Loss, what is carried is KLDivergence"),
        (autoslim(distiller=loss(reduction="sum")), "another reduction"),
        (autoslim(distiller=loss(taw=1)), "unknown key 'taw'"),
        (autoslim(distiller={**DISTILLER, "loss_forward_mappings": {}}), "no preds_S and preds_T of 'kl'"),
        (
            autoslim(distiller={**DISTILLER, "student_recorders": {"fc": {"type": "ModuleOutputs", "source": "neck"}}}),
            "it compares the outputs of 'neck'",
        ),
        (autoslim(mutator={"parse_cfg": {"type": "Config"}}), "model.mutator.parse_cfg: type=Config"),
        (autoslim(mutator={"channel_unit_cfg": {"unit": {}}}), "unknown key 'unit'"),
        (slimmable("missing.json"), "the file 'missing.json' is not there; give --cfg-options model.mutator"),
        (slimmable(UNITS, deploy_index=2), "model.deploy_index=2: the units list 2 subnets; give 0 to 1"),
        (slimmable({"a_(0, 8)_8": {"init_args": {}}}), "every unit needs the same number of candidate_choices"),
        (model("BigNAS", architecture=classifier(with_attentive_shortcut=True)), "AttentiveNAS's network"),
        (model("BigNAS", architecture=classifier(conv_cfg={"type": "BigNasConv2d"})), "kernels are made by matrices"),
        (model("BigNAS", architecture=classifier(stride_list=[2, 2, 1])), "the first stage is one block"),
        (model("BigNAS", architecture=classifier(arch_setting={})), "arch_setting must have the keys"),
    ],
)
def test_what_cannot_be_translated_is_said(section, message):
    (found,) = problems({"model": section})
    assert message in found


@pytest.mark.parametrize(
    ("loop", "message"),
    [
        ({"resume_from": "a.pkl"}, "train_cfg.resume_from: a search goes on by --resume"),
        ({"estimator_cfg": {"flops_params_cfg": {"input_shape": (1, 3, 9, 9)}}}, "is not the model's (3, 224, 224)"),
        ({"predictor_cfg": {"type": "MetricPredictor", "handler_ckpt": "a.pth"}}, "handler_ckpt: weights of MMRazor's"),
        ({"predictor_cfg": {"type": "MetricPredictor", "train_sample": 9}}, "unknown key train_sample"),
    ],
)
def test_what_a_search_cannot_do_is_said(loop, message):
    (found,) = problems({"model": model("SPOS"), "train_cfg": {"type": "mmrazor.EvolutionSearchLoop", **loop}})
    assert message in found


def test_all_problems_are_told_at_once():
    section = slimmable("missing.json")
    section["mutator"]["parse_cfg"] = {"type": "Predefined"}
    loop = {"type": "mmrazor.EvolutionSearchLoop", "resume_from": "a.pkl"}
    found: Translated = translate({"model": section, "train_cfg": loop}, "a.py")
    assert len(found.problems) == 3


def test_sections_of_its_mutators_alone_tell_1x():
    """They are read here, and nowhere else."""
    unit = {"default_args": {"candidate_choices": [4, 8], "choice_mode": "number"}, "units": {"b.0": {"divisor": 4}}}
    found = translate({"model": {"type": "AutoSlim", "mutator": {"channel_unit_cfg": unit}}}, "a.py")
    assert found.generation == "1.x" and not found.problems
    mutator = found.config["model"]["mutator"]
    assert mutator == {"candidate_choices": [4, 8], "choice_mode": "number", "units": {"b.0": {"divisor": 4}}}
