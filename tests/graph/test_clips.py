"""Sizes of images and of clips: four numbers are no image with a number too many."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmrazor_lite.cli.main import main
from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators import ResourceEstimator, analyse
from mmrazor_lite.graph import trace
from mmrazor_lite.models.mutators import OneShotChannelMutator
from mmrazor_lite.shapes import image_shape, resized_shape

CLIP = (3, 4, 8, 8)
NETWORK = """
from torch import nn

class Clips(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2),
            nn.Conv3d(8, 12, 1, bias=False),
        )
        self.fc = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))

    def forward(self, x):
        return self.fc(self.net(x).mean((2, 3, 4)))
"""


def network() -> nn.Module:
    scope: dict = {}
    exec(NETWORK, scope)
    return scope["Clips"]()


def counted(shape: tuple[int, ...]) -> int:
    with FlopCounterMode(display=False) as counter:
        network()(torch.zeros(1, *shape))
    return counter.get_total_flops() // 2


def test_a_network_of_clips_is_counted_and_searched():
    torch.manual_seed(0)
    model, mutator = network(), OneShotChannelMutator(divisor=2)
    mutator.prepare(model, CLIP)
    assert list(mutator.search_space) == ["net.0", "net.4", "fc.0"]
    assert {layer.layer for layer in mutator.fixed} == {"fc.2"}
    assert mutator.cost_model.max()["macs"] == counted(CLIP)
    analysis = analyse(mutator, model, CLIP)
    assert analysis.input_shape == CLIP and sum(layer.macs.max for layer in analysis.layers) == counted(CLIP)
    first, places = 3 * 27 * 8 * 256 + 8 * 256, 256
    rest = places * 8 * (2 + 1 + 1) + 32 * 8 * 12  # norm, activation, pool; the second convolution has no bias
    assert mutator.cost_model.max()["flops"] == first + rest + 12 * 16 + 16 + 16 * 5
    subnet = mutator.search_space.min()
    mutator.activate(subnet)
    clips = torch.randn(2, *CLIP)
    torch.testing.assert_close(mutator.export(subnet).eval()(clips), model.eval()(clips))


@pytest.mark.parametrize("shape", [CLIP, (1, *CLIP)])
def test_the_estimator_counts_clips(shape):
    assert ResourceEstimator(input_shape=shape).estimate(network())["macs"] == counted(CLIP)


def test_signals_and_batches_of_one_are_known_by_their_form():
    model = nn.Sequential(nn.Conv1d(2, 6, 3), nn.ReLU(), nn.Conv1d(6, 4, 3))
    assert trace(model, (2, 16)).input_shape == (2, 16)
    assert ResourceEstimator(input_shape=(2, 16)).estimate(model)["macs"] == 14 * 2 * 6 * 3 + 12 * 6 * 4 * 3
    assert image_shape((1, 3, 224, 224)) == image_shape([3, 224, 224]) == (3, 224, 224)
    assert image_shape((1, 1, 8, 32, 32)) == (1, 8, 32, 32)


@pytest.mark.parametrize(
    "shape", [3, None, "224", (), (3,), (3, 0, 8), (3, -8, 8), (3, 8.0, 8), (3, True, 8), (2, 3, 8, 8, 8), (1,) * 6]
)
def test_what_is_no_size_is_refused_in_one_line(shape):
    for call in (image_shape, lambda value: ResourceEstimator(input_shape=value)):
        with pytest.raises(UserError, match=r"input_shape=.*\(C, T, H, W\)") as error:
            call(shape)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="input_shape="):
        OneShotChannelMutator().prepare(network(), shape)


@pytest.mark.parametrize(
    ("shape", "sizes", "expected"),
    [
        ((3, 32, 32), None, (3, 32, 32)),
        ((3, 32, 32), [16], (3, 16, 16)),
        ((1, 28, 28), [16, 24], (1, 16, 24)),
        ((3, 8, 32, 32), [16], (3, 8, 16, 16)),
        ((3, 8, 32, 32), [16, 24], (3, 8, 16, 24)),
        ((3, 8, 32, 32), [4, 16, 24], (3, 4, 16, 24)),
        ((2, 100), [50], (2, 50)),
    ],
)
def test_sizes_of_a_flag_replace_the_last_ones(shape, sizes, expected):
    assert resized_shape(shape, sizes) == expected


@pytest.mark.parametrize(
    ("shape", "sizes", "message"),
    [
        ((3, 32, 32), [1, 2, 3], "give H, or H W, both positive"),
        ((3, 8, 32, 32), [1, 2, 3, 4], "give H, or H W, or T H W, all positive"),
        ((3, 8, 32, 32), [0], "T H W"),
    ],
)
def test_too_many_sizes_are_refused(shape, sizes, message):
    with pytest.raises(UserError, match=message):
        resized_shape(shape, sizes)


def test_both_commands_take_a_config_of_clips(tmp_path, monkeypatch, capsys):
    (tmp_path / "clips.py").write_text(NETWORK)
    config = tmp_path / "config.py"
    config.write_text(
        "model = dict(type='mmrazor_lite.AutoSlim', architecture=dict(type='clips.Clips'), "
        f"mutator=dict(type='mmrazor_lite.OneShotChannelMutator'), input_shape={CLIP})"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for command, total in (
        ("flops", lambda data: data["macs"]),
        ("analyze", lambda data: data["resources"]["macs"]["max"]),
    ):
        for words, shape in (([], CLIP), (["--input-shape", "2", "4", "6"], (3, 2, 4, 6))):
            assert main([command, str(config), *words, "--json"]) == 0
            assert total(json.loads(capsys.readouterr().out)) == counted(shape)
        assert main([command, str(config), "--input-shape", "1", "2", "3", "4"]) == 2
        assert "give H, or H W, or T H W, all positive" in capsys.readouterr().err
