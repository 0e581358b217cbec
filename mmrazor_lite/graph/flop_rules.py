"""What MMRazor's flops hold beside macs; one convention for traced ops and for ops that are run."""

from __future__ import annotations

from collections.abc import Sequence

ACTIVATIONS = frozenset({"relu", "leaky_relu", "prelu", "elu"})  # one per element; ReLU6 is a hardtanh from 0


def is_global_pool(shape: Sequence[int], dims: object) -> bool:
    """Whether a mean over ``dims`` of an (N, C, H, W) tensor is a global average pool written by hand."""
    return len(shape) == 4 and isinstance(dims, (list, tuple)) and {dim % 4 for dim in dims} == {2, 3}
