"""Calls of layers: what is seen of a run is what the layer computes with."""

import pytest
import torch
from torch import nn

from mmrazor_lite.models.calls import Call, Calls, weights_of


def matrix_of(call: Call) -> torch.Tensor:
    """(groups, K, outputs of a group): where ``as_weight`` takes each number from, turned round."""
    shape = (call.groups, call.inputs, call.weight.numel() // call.groups // call.inputs)
    numbers = call.as_weight(torch.arange(call.weight.numel()).reshape(shape))
    return (
        torch.empty_like(call.weight).flatten().index_copy(0, numbers.flatten(), call.weight.flatten()).reshape(shape)
    )


class Rebuild:
    """A watcher that computes the outputs of each call from its patches."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.seen, self.error = network, [], 0.0

    def before(self, call: Call) -> None:
        pass

    def after(self, call: Call, y: torch.Tensor) -> None:
        self.seen.append((call.layer, call.index))
        some = torch.tensor([0, call.places(y) - 1, call.places(y) // 2])
        for places in (None, some):
            patches = call.patches(places)
            found = torch.einsum("pgk,gko->pgo", patches, matrix_of(call)).flatten(1)
            found = found if call.bias is None else found + call.bias
            self.error = max(self.error, float((found - call.outputs(y, places)).abs().max()))

    def other(self, *_: object) -> None:
        pass


LAYERS = {
    "plain": (nn.Conv2d(3, 8, 3), (2, 3, 9, 8)),
    "stride, padding, dilation": (nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2)), (2, 4, 9, 8)),
    "same": (nn.Conv2d(4, 6, (4, 3), padding="same", dilation=2), (2, 4, 9, 8)),
    "valid": (nn.Conv2d(4, 6, 3, padding="valid"), (2, 4, 9, 8)),
    "reflect": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 9, 8)),
    "groups": (nn.Conv2d(6, 8, 3, groups=2, bias=False), (2, 6, 9, 8)),
    "depthwise": (nn.Conv2d(6, 6, 3, groups=6, padding=1), (2, 6, 9, 8)),
    "1d": (nn.Conv1d(3, 5, 3, 2), (2, 3, 9)),
    "3d": (nn.Conv3d(2, 3, 2, padding=(1, 0, 1)), (2, 2, 4, 5, 3)),
    "transposed": (nn.ConvTranspose2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 0)), (2, 4, 5, 4)),
    "transposed, groups": (nn.ConvTranspose2d(4, 6, 3, 2, groups=2, dilation=2, bias=False), (2, 4, 5, 4)),
    "transposed, padding beyond": (nn.ConvTranspose1d(3, 5, 2, 3, 2), (2, 3, 6)),
    "transposed 3d": (nn.ConvTranspose3d(2, 3, 2, 2), (2, 2, 3, 2, 3)),
    "linear": (nn.Linear(7, 4), (3, 7)),
    "linear of tokens": (nn.Linear(7, 4), (3, 5, 7)),
}


@pytest.mark.parametrize("case", LAYERS)
def test_patches_times_weights_are_the_outputs(case):
    layer, shape = LAYERS[case]
    network = nn.Sequential(layer).double()
    watcher = Rebuild(network)
    with torch.no_grad(), Calls(weights_of(network), watcher):
        network(torch.randn(shape, dtype=torch.float64))
    assert watcher.seen == [("0", 0)]
    assert watcher.error < 1e-12


def test_a_layer_that_runs_twice_is_seen_twice_in_every_run():
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
    for _ in range(2):
        watcher = Rebuild(network)
        with torch.no_grad(), Calls(weights_of(network), watcher):
            network(network(torch.randn(2, 4, 3, 3)))
        assert watcher.seen == [("0", 0), ("0", 1)]


def test_an_input_put_in_place_of_another_is_the_one_that_is_read():
    network = nn.Sequential(nn.Linear(3, 2), nn.ReLU())

    class Zero(Rebuild):
        def before(self, call: Call) -> None:
            call.x = torch.zeros_like(call.x)

    with torch.no_grad(), Calls(weights_of(network), Zero(network)):
        found = network(torch.randn(5, 3))
    assert torch.equal(found, network[0].bias.relu().expand(5, 2))


def test_the_projections_of_an_attention_are_seen():
    network = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)).double().eval()
    x, watcher = torch.randn(3, 5, 8, dtype=torch.float64), Rebuild(network)
    with torch.no_grad(), Calls(weights_of(network), watcher):
        seen = network(x)
    names = ["0.self_attn.in_proj_weight", "0.self_attn.out_proj", "0.linear1", "0.linear2"]
    assert watcher.seen == [(name, 0) for name in names]
    assert watcher.error < 1e-12
    with torch.no_grad():
        assert torch.allclose(seen, network(x), atol=1e-12)
