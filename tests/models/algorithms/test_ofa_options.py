"""Options of Once-for-All: what they change, and which contradict each other."""

from __future__ import annotations

import pytest
from ofa_runs import batch, make

from mmrazor_lite.errors import UserError


def test_width_mult_overrides_that_of_the_backbone_and_the_head(registered):
    wide = make(width_mult=2.0)
    assert wide.architecture.head.fc.in_features == wide.architecture.backbone.out_channels == 64
    assert wide.cost_model.max()["params"] > 2 * make().cost_model.max()["params"]
    with pytest.raises(UserError, match="width_mult"):
        make({"type": "mmpretrain.ImageClassifier", "backbone": {"type": "ResNet", "depth": 18}}, width_mult=2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"training": "shrinking"}, r"algorithm\.training='shrinking' is unknown \(allowed: progressive_shrinking, s"),
        ({"training": "progressive_shrinking"}, r"needs algorithm\.phase"),
        ({"training": "sandwich", "phase": "kernel"}, r"algorithm\.phase='kernel' is of progressive shrinking"),
        ({"phase": "depth_2"}, r"algorithm\.phase='depth_2' is unknown.*teacher, kernel, depth_1, expand_1, expand_2"),
        ({"num_subnets": 0}, r"algorithm\.num_subnets=0: give a whole number from 1"),
        ({"num_subnets": 1.5}, r"algorithm\.num_subnets=1\.5: give a"),
        ({"num_subnets": True}, r"algorithm\.num_subnets=True: give a"),
        ({"num_random_samples": -1}, r"algorithm\.num_random_samples=-1: give a whole number from 0"),
        ({"kd_ratio": -0.5}, r"algorithm\.kd_ratio=-0\.5: give a number of 0 or more"),
        ({"kd_ratio": "1"}, r"algorithm\.kd_ratio='1': give a"),
        ({"kd_ratio": True}, r"algorithm\.kd_ratio=True: give a"),
        ({"kd_ratio": float("nan")}, r"algorithm\.kd_ratio=nan: give a"),
        ({"input_shape": (3, 6, 6)}, r"mutator\.resolutions end at 8"),
        ({"mutator": {"type": "NasMutator", "resolutions": [8, 6]}}, r"mutator\.resolutions=\[8, 6\]"),
    ],
)
def test_options_that_contradict_are_refused(registered, options, message):
    with pytest.raises(UserError, match=message) as error:
        make(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"phase": "kernel", "num_random_samples": 2},
        {"num_subnets": 3},
        {"teacher": "x.pth"},
        {"kd_ratio": 0.5},
        {"phase": "teacher", "num_subnets": 3},
        {"phase": "teacher", "teacher": "x.pth"},
        {"phase": "teacher", "kd_ratio": 0.5},
        {"phase": "teacher", "distiller": {"type": "KLDivergence"}},
        {"phase": "kernel", "kd_ratio": 0, "distiller": {"type": "KLDivergence"}},
    ],
)
def test_options_of_the_other_training_are_refused(registered, options):
    """Nothing accepted is ignored."""
    with pytest.raises(UserError, match=rf"algorithm\.{list(options)[-1]}"):
        make(**options)


def test_images_go_around_blocks_while_the_max_subnet_is_trained(registered):
    """The later the block, the more often; only in the stages asked for, and never anywhere else."""
    model = make(training="sandwich", drop_path_rate=0.8, drop_path_stages=[2])
    blocks = [block for stage in model.architecture.backbone.layers for block in stage]
    largest, smallest = model.passes(0)[:2]
    for item, rates in ((largest, [0, 0.2, 0.4, 0]), (smallest, [0] * 4)):
        with model.regularised(item):
            assert [block.drop_path_rate for block in blocks] == pytest.approx(rates)
            if item is largest:
                model.mutator.activate(item.subnet)
                images = batch()["inputs"]
                assert blocks[2].residual and not model(images).equal(model(images))
        assert not any(block.drop_path_rate for block in blocks)
    everywhere = make(training="sandwich", drop_path_rate=0.8)
    assert list(everywhere._drop_paths.values()) == pytest.approx([0, 0.2, 0.4, 0.6])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_path_rate": 1.5}, "drop_path_rate=1.5: give a number from 0 to 0.9"),
        ({"drop_path_rate": 0.1, "drop_path_stages": [0]}, "drop_path_stages=0: give a whole number of 1 or more"),
        ({"drop_path_rate": 0.1, "drop_path_stages": [4]}, "there is no stage 4, the last one is 3"),
        ({"drop_path_stages": [2]}, "drop_path_stages is read with algorithm.drop_path_rate above 0"),
        ({"drop_path_rate": 0.1, "phase": "kernel"}, "drop_path_rate is of the sandwich, not of phase 'kernel'"),
    ],
)
def test_options_of_the_drop_path(registered, options, message):
    with pytest.raises(UserError, match=message):
        make(**options)
