"""Operators with a width each inside stages of any depth: what must hold for every subnet."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import assert_close, assert_same_bits, count, memory
from tfnas import BLOCKS, OPERATORS, SHAPE, images, operators, prepared

from mmrazor_lite.estimators.resource import plain_cost
from mmrazor_lite.models.mutators import NasMutator
from mmrazor_lite.subnet import read_subnet, write_subnet


def subnets(mutator: NasMutator, number: int = 5, seed: int = 0) -> list:
    space, rng = mutator.search_space, np.random.default_rng(seed)
    return [space.max(), space.min(), *(space.sample(rng) for _ in range(number))]


def test_choices_and_their_conditions():
    space = prepared()[2].search_space
    block, late = "backbone.layers.0.0", "backbone.layers.1.1"
    assert space[block].candidates == OPERATORS and space[block].active_if is None
    assert space[late].active_if == ("backbone.layers.1.depth", (2,))
    assert space[f"{late}.MBI_k5_e6_se.mid_channels"].active_if == (late, ("MBI_k5_e6_se",))
    assert space[f"{block}.MBI_k3_e3.mid_channels"].candidates == range(12, 25)  # 6 channels come in
    assert space[f"{block}.MBI_k3_e6.mid_channels"].candidates == range(24, 49)
    assert "backbone.layers.2.depth" not in space  # one block: nothing to choose
    per_block = {cin: 4 * (2 * cin + 1) + 4 * (4 * cin + 1) for cin in (6, 8, 12)}
    one, two = per_block[6] * (1 + per_block[8]), per_block[8] * (1 + per_block[12])
    assert space.size == one * two * per_block[12]


def test_prepare_changes_nothing():
    plain, model, mutator = prepared()
    for module in plain.modules():
        if hasattr(module, "active"):
            module.active = OPERATORS[-1]
    mutator.activate(mutator.search_space.max())
    for mode in (False, True):
        assert_same_bits(model.train(mode)(images()), plain.train(mode)(images()))
    assert list(operators(mutator)) == BLOCKS


def test_activated_equals_exported_with_gradients():
    _, model, mutator = prepared()
    for subnet in subnets(mutator):
        static = mutator.export(subnet)
        mutator.activate(subnet)
        for mode in (False, True):
            ours, theirs = model.train(mode)(images()), static.train(mode)(images())
            assert_close(ours, theirs)
        model.zero_grad(set_to_none=True)
        ours.square().sum().backward()
        theirs.square().sum().backward()
        total = sum(float(p.grad.abs().sum()) for p in static.parameters())
        assert_close(
            torch.tensor(sum(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None)),
            torch.tensor(total),
        )


def test_a_subnet_is_the_max_one_with_channels_at_zero():
    _, model, mutator = prepared()
    model.eval()
    for subnet in subnets(mutator, 3):
        mutator.activate(subnet)
        active = model(images())
        widths = {}
        for name in BLOCKS:
            block = operators(mutator)[name].chosen
            widths[block] = block.depth_conv.conv.weight.shape[0]
        handles = []
        mutator.activate_widths({name: c.candidates[-1] for name, c in mutator.search_space.items() if "mid" in name})
        for block, width in widths.items():
            for part in (*block.inverted_bottleneck, *block.depth_conv):
                handles.append(part.register_forward_hook(lambda _, args, out, width=width: _zeroed(out, width)))
            if block.squeeze_excite is not None:
                handles.append(
                    block.squeeze_excite.register_forward_hook(lambda _, args, out, width=width: _zeroed(out, width))
                )
        assert_close(model(images()), active)
        for handle in handles:
            handle.remove()


def _zeroed(out: torch.Tensor, width: int) -> torch.Tensor:
    return torch.cat([out[:, :width], torch.zeros_like(out[:, width:])], 1)


@pytest.mark.parametrize("draws", [3, pytest.param(24, marks=pytest.mark.wide)])
def test_costs_equal_a_count_on_the_export(draws):
    _, _, mutator = prepared()
    model = mutator.cost_model
    drawn = subnets(mutator, draws)
    costs = model(np.stack([mutator.search_space.index(subnet) for subnet in drawn]))
    for index, subnet in enumerate(drawn):
        static = mutator.export(subnet).float()
        counted = count(static, SHAPE)
        assert {key: int(costs[key][index]) for key in counted} == counted, subnet
        if index < 3:
            assert int(costs["memory"][index]) == memory(static, SHAPE)
            assert plain_cost(static, SHAPE)["macs"] == counted["macs"]


def test_extremes_are_those_of_the_space():
    _, _, mutator = prepared()
    rows = mutator.search_space.sample_indices(np.random.default_rng(0), 20000)
    costs = mutator.cost_model(rows)
    for name, values in costs.items():
        assert mutator.cost_model.min()[name] <= values.min() and values.max() <= mutator.cost_model.max()[name]


def test_files_of_both_grids(tmp_path):
    plain, _, mutator = prepared()
    any_width = NasMutator()
    any_width.prepare(plain.float(), SHAPE, any_width=True)
    assert any_width.search_space.fingerprint == mutator.search_space.fingerprint
    for subnet in subnets(mutator):
        costs = mutator.cost_model.of(subnet)
        write_subnet(tmp_path / "a.yaml", subnet, mutator.search_space)
        there = read_subnet(tmp_path / "a.yaml", any_width.search_space).subnet
        assert any_width.cost_model.of(there) == costs
        write_subnet(tmp_path / "b.yaml", there, any_width.search_space)
        assert read_subnet(tmp_path / "b.yaml", mutator.search_space).subnet == subnet


def test_sorting_by_the_kernels_keeps_what_every_operator_computes():
    plain, network, mutator = prepared()
    scores = {}
    for name, groups in mutator.inner_groups.items():
        (group,) = groups
        scores[group] = network.get_submodule(name).importance
    assert mutator.sort_channels(scores) == []
    for operator, name in enumerate(OPERATORS):
        for block in BLOCKS:
            old, new = (net.get_submodule(block).candidate(name) for net in (plain, network))
            assert torch.equal(new.importance, old.importance.sort(descending=True).values)
            plain.get_submodule(block).activate({".": name})
        row = [operator if n in BLOCKS else len(c.candidates) - 1 for n, c in mutator.search_space.items()]
        mutator.activate(mutator.search_space.subnet(np.array(row)))
        assert_close(network.eval()(images()), plain.eval()(images()))
