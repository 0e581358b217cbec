"""What a network returns: logits (N, K), with or without more around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmrazor_lite.errors import UserError

_MAIN_KEYS = ("logits", "out")  # of a network that returns a dict; otherwise its first entry counts


def main_logits(outputs: Any) -> Tensor:
    """Return the logits (N, K) among what a network returned."""
    return separate(outputs)[0]


def separate(outputs: Any) -> tuple[Tensor, list[Tensor]]:
    """Return the logits (N, K) and the auxiliary logits: of a tuple, list or dict what has the shape of its main entry.

    Raises:
        UserError: There are no logits in it.
    """
    if isinstance(outputs, Tensor):
        return outputs, []
    if isinstance(outputs, Mapping) and outputs:
        main = next((key for key in _MAIN_KEYS if key in outputs), next(iter(outputs)))
        items = [outputs[main], *(value for key, value in outputs.items() if key != main)]
    else:
        items = list(outputs) if isinstance(outputs, (list, tuple)) else []
    if not items or not isinstance(items[0], Tensor):
        found = type(items[0] if items else outputs).__name__
        raise UserError(f"the network gives a {found}, expected logits: a tensor, or first in a tuple or dict")
    logits, *others = items
    return logits, [item for item in others if isinstance(item, Tensor) and item.shape == logits.shape]


def as_tuple(outputs: Any) -> tuple:
    """Return features as mmpretrain's necks and heads take them: a tuple, the last stage last."""
    if isinstance(outputs, Mapping):
        outputs = outputs.values()
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
