"""Each dynamic layer against the static layer of the same slice.

Shape letters: N batch, C channels, H W space.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmrazor_lite.graph import Side, WidthGroup
from mmrazor_lite.models.mutables import ChannelSlice, MutableChannel
from mmrazor_lite.models.ops import SwitchableBatchNorm, export, make_dynamic

DOUBLE = {"dtype": torch.float64}


def slice_of(*parts: tuple[int, int] | int, unit: int = 1) -> ChannelSlice:
    """A side made of pieces: (full, kept) of a group of its own, or a number of channels that always stay."""
    groups, group, units = [], [], []
    for part in parts:
        if isinstance(part, int):
            group += [-1] * part
            units += [0] * part
            continue
        full, kept = part
        mutable = MutableChannel(WidthGroup(f"g{len(groups)}", full // unit, unit, ("a",)), range(unit, full + 1))
        mutable.width = kept
        group += [len(groups)] * full
        units += [i // unit for i in range(full)]
        groups.append(mutable)
    channels = ChannelSlice(Side(np.array(group), np.array(units)), groups)
    channels.refresh()
    return channels


def positions(channels: ChannelSlice) -> list[int]:
    return [i for start, length in channels.pieces for i in range(start, start + length)]


def dynamic(static: nn.Module, inputs: ChannelSlice, outputs: ChannelSlice) -> nn.Module:
    return make_dynamic(static, inputs, outputs)


ONE, TWO, MANY, FIXED = ((8, 5),), ((8, 3), (4, 2)), ((6, 2), 3, (5, 1), (4, 3)), ((4, 2), 4)
SIDES = pytest.mark.parametrize("parts", [ONE, TWO, MANY, FIXED], ids=["prefix", "two", "many", "constant"])


def test_pieces_and_positions():
    assert slice_of(*ONE).pieces == ((0, 5),)
    assert slice_of(*TWO).pieces == ((0, 3), (8, 2))
    assert positions(slice_of(*MANY)) == [0, 1, 6, 7, 8, 9, 14, 15, 16]
    assert slice_of((8, 8), (4, 1)).pieces == ((0, 9),)  # neighbours join
    assert slice_of((8, 4), unit=4).width == 4


def test_units_that_come_again_are_no_prefix():
    mutable = MutableChannel(WidthGroup("g", 3, 2, ("a",)), range(2, 7, 2))
    for units, pieces in (([0, 1, 2, 0, 1, 2], ((0, 2), (3, 2))), ([0, 0, 1, 1, 2, 2], ((0, 4),))):
        channels = ChannelSlice(Side(np.zeros(6, np.int64), np.array(units)), [mutable])
        mutable.width = 4
        channels.refresh()
        assert (channels.pieces, channels.width) == (pieces, 4)


@SIDES
def test_take_and_put(parts):
    channels = slice_of(*parts)
    where = positions(channels)
    tensor = torch.randn(channels.size, 3)
    assert torch.equal(channels.take(tensor), tensor[where])
    assert torch.equal(channels.take(tensor.T, 1), tensor.T[:, where])
    assert channels.width == len(where) and not channels.full
    target = torch.arange(float(channels.size))
    part = channels.take(target)
    part += 100
    channels.put(target, part)
    expected = torch.arange(float(channels.size))
    expected[where] += 100
    assert torch.equal(target, expected)
    if len(channels.pieces) == 1:
        assert channels.take(tensor).data_ptr() == tensor.data_ptr()  # no copy on the hot path


def test_the_index_follows_the_widths():
    channels = slice_of(*MANY)
    before = channels.index(torch.device("cpu"))
    assert channels.index(torch.device("cpu")) is before  # built once per activate
    channels._own[0].width = 6
    channels.refresh()
    assert channels.index(torch.device("cpu")).tolist() == positions(channels) != before.tolist()


@SIDES
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_dense_conv(parts, bias, mode):
    inputs, outputs = slice_of(*parts), slice_of((6, 4), (3, 1))
    static = nn.Conv2d(inputs.size, 9, 3, 2, (1, 2), bias=bias, padding_mode=mode, **DOUBLE)
    layer = dynamic(static, inputs, outputs)
    x = torch.randn(2, inputs.width, 9, 8, **DOUBLE)
    padded = F.pad(x, (2, 2, 1, 1), mode=mode if mode != "zeros" else "constant")
    weight = static.weight[positions(outputs)][:, positions(inputs)]
    expected = F.conv2d(padded, weight, static.bias[positions(outputs)] if bias else None, 2)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    exported = export(layer)
    assert type(exported) is nn.Conv2d and exported.padding_mode == mode
    torch.testing.assert_close(exported(x), expected, rtol=1e-12, atol=1e-12)
    assert exported.weight.untyped_storage().nbytes() == exported.weight.nbytes


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name_and_dilation(padding):
    static = nn.Conv2d(8, 6, 3, padding=padding, dilation=2, **DOUBLE)
    layer = dynamic(static, slice_of(*ONE), slice_of((6, 2)))
    x = torch.randn(2, 5, 9, 9, **DOUBLE)
    expected = F.conv2d(x, static.weight[:2, :5], static.bias[:2], 1, 2 if padding == "same" else 0, 2)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(export(layer)(x), expected, rtol=1e-12, atol=1e-12)


@SIDES
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_conv(parts, multiplier):
    inputs = slice_of(*parts)
    channels = np.repeat(inputs.side.group, multiplier), np.repeat(inputs.side.unit, multiplier)
    outputs = ChannelSlice(Side(*channels), inputs._mutables)
    outputs.refresh()
    static = nn.Conv2d(inputs.size, inputs.size * multiplier, 3, padding=1, groups=inputs.size, **DOUBLE)
    layer = dynamic(static, inputs, outputs)
    x = torch.randn(2, inputs.width, 5, 5, **DOUBLE)
    where = [i * multiplier + k for i in positions(inputs) for k in range(multiplier)]
    expected = F.conv2d(x, static.weight[where], static.bias[where], padding=1, groups=inputs.width)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    exported = export(layer)
    assert exported.groups == exported.in_channels == inputs.width
    torch.testing.assert_close(exported(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_group_conv_drops_whole_groups(kept):
    """Four groups of 3 -> 2 channels; one group left is a plain conv."""
    static = nn.Conv2d(12, 8, 3, padding=1, groups=4, **DOUBLE)
    layer = dynamic(static, slice_of((12, 3 * kept), unit=3), slice_of((8, 2 * kept), unit=2))
    x = torch.randn(2, 12, 5, 5, **DOUBLE)
    expected = static(x)[:, : 2 * kept]  # groups do not mix
    torch.testing.assert_close(layer(x[:, : 3 * kept]), expected, rtol=1e-12, atol=1e-12)
    exported = export(layer)
    assert (exported.groups, exported.in_channels, exported.out_channels) == (kept, 3 * kept, 2 * kept)
    torch.testing.assert_close(exported(x[:, : 3 * kept]), expected, rtol=1e-12, atol=1e-12)


@SIDES
@pytest.mark.parametrize("bias", [True, False])
def test_linear(parts, bias):
    inputs, outputs = slice_of(*parts), slice_of((6, 4), (3, 1))
    static = nn.Linear(inputs.size, 9, bias, **DOUBLE)
    layer = dynamic(static, inputs, outputs)
    x = torch.randn(2, 7, inputs.width, **DOUBLE)
    where = positions(outputs)
    expected = x @ static.weight[where][:, positions(inputs)].T + (static.bias[where] if bias else 0)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    assert type(export(layer)) is nn.Linear
    torch.testing.assert_close(export(layer)(x), expected, rtol=1e-12, atol=1e-12)


def filled_norm(cls: type[nn.Module], channels: int, **options: object) -> nn.Module:
    norm = cls(channels, **options).double()
    for index, tensor in enumerate([*norm.parameters(), *norm.buffers()]):
        if tensor.is_floating_point():
            tensor.data = torch.rand(channels, generator=torch.Generator().manual_seed(index), **DOUBLE) + 0.5
    return norm


@SIDES
@pytest.mark.parametrize("cls", [nn.BatchNorm1d, nn.BatchNorm2d])
@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(parts, cls, momentum, affine):
    """Several batches in train mode, then eval: as a static norm of the active channels; the others do not move."""
    channels = slice_of(*parts)
    where = positions(channels)
    norm = filled_norm(cls, channels.size, momentum=momentum, affine=affine, eps=0.01)
    before = copy.deepcopy(norm)
    layer = dynamic(norm, channels, channels)
    static = export(layer)
    assert type(static) is cls and (static.eps, static.momentum, static.affine) == (0.01, momentum, affine)
    shape = (6, len(where), 4, 4) if cls is nn.BatchNorm2d else (6, len(where))
    for step in range(3):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(step), **DOUBLE) * 3 + 1
        torch.testing.assert_close(layer.train()(x), static.train()(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.eval()(x), static.eval()(x), rtol=1e-12, atol=1e-12)
    rest = [i for i in range(channels.size) if i not in where]
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(layer, name)[where], getattr(static, name), rtol=1e-12, atol=1e-12)
        assert not torch.equal(getattr(layer, name)[where], getattr(before, name)[where])
        assert torch.equal(getattr(layer, name)[rest], getattr(before, name)[rest])
    assert int(layer.num_batches_tracked) == 3


def test_batch_norm_follows_its_widths_from_batch_to_batch():
    channels = slice_of(*MANY)
    norm = filled_norm(nn.BatchNorm2d, channels.size)
    layer = dynamic(norm, channels, channels)
    for kept in (5, 2, 6):
        channels._own[0].width = kept
        channels.refresh()
        static = export(layer)
        x = torch.randn(6, channels.width, 4, 4, **DOUBLE)
        for mode in (True, False):
            torch.testing.assert_close(layer.train(mode)(x), static.train(mode)(x), rtol=1e-12, atol=1e-12)


def test_a_synchronised_norm_is_an_ordinary_one_in_an_export():
    model = nn.Sequential(nn.SyncBatchNorm(4), nn.Conv2d(4, 2, 1)).double().eval()
    x = torch.randn(2, 4, 3, 3, **DOUBLE)
    exported = export(model)
    assert type(exported[0]) is nn.BatchNorm2d and not hasattr(exported[0], "process_group")
    assert torch.equal(exported(x), model(x))
    assert type(export(model, keep_sync=True)[0]) is nn.SyncBatchNorm


def test_batch_norm_without_running_statistics():
    channels = slice_of(*MANY)
    norm = nn.BatchNorm2d(channels.size, track_running_stats=False).double()
    layer = dynamic(norm, channels, channels).eval()
    x = torch.randn(3, channels.width, 4, 4, **DOUBLE)
    torch.testing.assert_close(layer(x), F.batch_norm(x, None, None, training=True), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(export(layer)(x), layer(x), rtol=1e-12, atol=1e-12)


@SIDES
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_takes_its_statistics_over_active_channels(parts, affine):
    channels = slice_of(*parts)
    norm = nn.LayerNorm(channels.size, eps=0.01, elementwise_affine=affine).double()
    if affine:
        norm.weight.data, norm.bias.data = torch.rand(2, channels.size, **DOUBLE)
    layer = dynamic(norm, channels, channels)
    x = torch.randn(2, 5, channels.width, **DOUBLE)
    expected = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 0.01).sqrt()
    if affine:
        expected = expected * norm.weight[positions(channels)] + norm.bias[positions(channels)]
    torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-10)
    assert type(export(layer)) is nn.LayerNorm
    torch.testing.assert_close(export(layer)(x), expected, rtol=1e-10, atol=1e-10)


def test_layer_norm_without_bias():
    channels = slice_of(*ONE)
    layer = dynamic(nn.LayerNorm(8, bias=False).double(), channels, channels)
    assert export(layer).bias is None
    x = torch.randn(2, 5, **DOUBLE)
    torch.testing.assert_close(export(layer)(x), layer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kept", [1, 3])
def test_group_norm_keeps_the_width_of_a_group(kept):
    channels = slice_of((12, 3 * kept), unit=3)
    norm = nn.GroupNorm(4, 12).double()
    norm.weight.data, norm.bias.data = torch.rand(2, 12, **DOUBLE)
    layer = dynamic(norm, channels, channels)
    x = torch.randn(2, 12, 4, 4, **DOUBLE)
    expected = norm(x)[:, : 3 * kept]
    torch.testing.assert_close(layer(x[:, : 3 * kept]), expected, rtol=1e-12, atol=1e-12)
    assert export(layer).num_groups == kept
    torch.testing.assert_close(export(layer)(x[:, : 3 * kept]), expected, rtol=1e-12, atol=1e-12)


STATIC = {
    "conv": nn.Conv2d(8, 8, 3),
    "linear": nn.Linear(8, 8),
    "bn1d": nn.BatchNorm1d(8),
    "bn2d": nn.BatchNorm2d(8),
    "sync": nn.SyncBatchNorm(8),
    "ln": nn.LayerNorm(8),
    "gn": nn.GroupNorm(2, 8),
}


@pytest.mark.parametrize("name", STATIC)
def test_a_dynamic_layer_is_still_what_it_replaces(name):
    """Optimizer rules go by type; tensors are the same objects; copies and state dicts work."""
    static = copy.deepcopy(STATIC[name])
    channels = slice_of((8, 4), unit=4)
    layer = dynamic(static, channels, channels)
    assert isinstance(layer, type(static)) and type(layer) is not type(static)
    assert isinstance(layer, _BatchNorm) == isinstance(static, _BatchNorm)
    assert list(layer.state_dict()) == list(static.state_dict())
    assert all(own is other for own, other in zip(layer.parameters(), static.parameters(), strict=True))
    assert all(own is other for own, other in zip(layer.buffers(), static.buffers(), strict=True))
    assert layer.training == static.training
    clone = copy.deepcopy(layer)
    for value in clone.state_dict().values():
        value.data.fill_(2)
    assert not any((value == 2).all() for value in layer.state_dict().values())
    layer.load_state_dict(clone.state_dict())
    assert all((value == 2).all() for value in static.state_dict().values())
    layer.eval()
    assert static.training  # a module of its own
    assert not export(layer).training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="SyncBatchNorm takes CUDA tensors only")
def test_sync_batch_norm_on_one_process():
    channels = slice_of(*MANY)
    norm = nn.SyncBatchNorm(channels.size).cuda()
    layer = dynamic(norm, channels, channels)
    static = export(layer).cuda()
    assert type(static) is nn.BatchNorm2d
    x = torch.randn(6, channels.width, 4, 4, device="cuda")
    torch.testing.assert_close(layer.train()(x), static.train()(x))
    torch.testing.assert_close(layer.eval()(x), static.eval()(x))


def test_switchable_norms_are_one_per_subnet():
    first, second = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    norm = SwitchableBatchNorm([first, second])
    x = torch.randn(8, 4, 3, 3) + 5
    norm.index = 1
    norm(x)
    assert not first.running_mean.any() and second.running_mean.any()
    static = export(norm)
    assert torch.equal(static.running_mean, second.running_mean) and static.running_mean is not second.running_mean
    assert sorted(name for name, _ in norm.named_parameters()) == [
        "bns.0.bias", "bns.0.weight", "bns.1.bias", "bns.1.weight",
    ]  # fmt: skip


def test_initialisers_by_name_find_what_they_find_in_the_plain_network():
    from mmcv.cnn.bricks import Conv2dAdaptivePadding
    from mmengine.model import BaseModule
    from mmpretrain.models.utils import LayerNorm2d

    from mmrazor_lite.models.mutators import OneShotChannelMutator

    class Net(BaseModule):
        def __init__(self) -> None:
            names = ["Conv2d", "_BatchNorm", "LayerNorm", "GroupNorm", "Linear"]
            super().__init__([{"type": "Normal", "layer": name, "mean": 3.0, "std": 0.1} for name in names])
            convs = [Conv2dAdaptivePadding(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)]
            norms = [nn.BatchNorm2d(8), LayerNorm2d(8), nn.GroupNorm(2, 8), nn.Identity()]
            self.body = nn.Sequential(*(layer for pair in zip(convs, norms, strict=True) for layer in pair))
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            return self.head(self.body(x).mean((2, 3)))

    plain, model = Net(), Net()
    OneShotChannelMutator(divisor=1).prepare(model, (3, 8, 8))
    for net in (plain, model):
        torch.manual_seed(0)
        net.init_weights()
    for (name, own), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(own, other), name
        assert "weight" not in name or abs(float(own.mean()) - 3) < 1, name


def test_statistics_are_whole_outside_the_layers_own_forward():
    """Who resets or reads them means all channels; who asks for the weight gets what is active."""
    norm = make_dynamic(nn.BatchNorm2d(8), slice_of((8, 3)), slice_of((8, 3)))
    assert norm.running_mean.shape == norm.running_var.shape == (8,) and norm.num_features == 8
    assert norm.weight.shape == (3,)
    norm.running_mean.fill_(5.0)
    norm.reset_running_stats()
    assert torch.equal(norm._buffers["running_mean"], torch.zeros(8))
    assert export(norm).num_features == 3 and export(norm).running_mean.shape == (3,)


def test_methods_bound_to_the_layer_are_bound_to_what_takes_its_place():
    class Chooses(nn.Conv2d):
        def __init__(self) -> None:
            super().__init__(8, 8, 1)
            self.forward = self.forward_chosen

        def forward_chosen(self, x):
            return F.conv2d(x, self.weight, self.bias) * 2

    layer = make_dynamic(Chooses(), slice_of((8, 3)), slice_of((8, 5)))
    x = torch.randn(2, 3, 4, 4)
    expected = F.conv2d(x, layer._parameters["weight"][:5, :3], layer._parameters["bias"][:5]) * 2
    assert torch.equal(layer(x), expected)
    static = export(layer)
    assert type(static) is Chooses and static.forward.__self__ is static
    torch.testing.assert_close(static(x), expected)
