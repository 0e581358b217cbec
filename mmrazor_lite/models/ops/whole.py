"""A network whose widths are choices, as the plain network of full size that it was made of."""

from __future__ import annotations

import copy

from torch import nn

from .dynamic import active_of, export


def whole_copy(network: nn.Module) -> nn.Module:
    """A copy of a network with tensors of its own; where widths are choices, a plain one at the full widths.

    ``network`` stays as it is, with the subnet that is active in it.
    """
    twin = copy.deepcopy(network)
    found = [active for module in twin.modules() if (active := active_of(module)) is not None]
    for _ in range(2):  # several groups meet in one side: each has its width before the last ones read them
        for active in found:
            for channels in active.slices():
                channels.widen()
    return export(twin) if found else twin
