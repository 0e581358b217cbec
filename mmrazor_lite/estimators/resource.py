"""The resource estimator of config files: costs of a whole model or of one subnet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from mmrazor_lite.graph import LayerKinds, find_width_groups, layer_table, trace
from mmrazor_lite.shapes import image_shape
from mmrazor_lite.subnet import SearchSpace

from .cost_model import CostModel


class ResourceEstimator:
    """Costs by closed form, from one trace.

    Args:
        input_shape: (C, H, W) of one image, (C, T, H, W) of a clip; a batch of one in front, as MMRazor writes it, is
            dropped.
    """

    def __init__(self, input_shape: Sequence[int] = (3, 224, 224)) -> None:
        self.input_shape = image_shape(input_shape)

    def estimate(self, model: nn.Module, subnet: Mapping[str, int] | None = None) -> dict[str, Any]:
        """``macs``, ``flops``, ``params`` and ``memory`` (bytes) as plain integers.

        Args:
            model: an algorithm of ours, or any module.
            subnet: the subnet to cost (algorithms only); None costs the largest, or the module as it is.
        """
        mutator = getattr(model, "mutator", None)
        architecture = getattr(model, "architecture", model)
        if mutator is None:
            if subnet is not None:
                raise ValueError("a subnet can only be costed on an algorithm with a search space")
            return plain_cost(architecture, self.input_shape)
        if tuple(mutator.input_shape) == self.input_shape:
            return mutator.cost_model.of(mutator.search_space.max() if subnet is None else subnet)
        return plain_cost(mutator.export(mutator.search_space.max() if subnet is None else subnet), self.input_shape)


def plain_cost(model: nn.Module, input_shape: Sequence[int]) -> dict[str, int]:
    """Costs of a module as it is."""
    traced = trace(model, input_shape)
    graph = find_width_groups(traced, LayerKinds())  # none: all stays at full width
    return CostModel(SearchSpace([]), layer_table(traced, graph), graph.groups).of({})
