"""What differs between the releases of torch that are supported, 2.6 and newer; elsewhere they are treated alike.

Where an older release writes what a model computes in other words, the words of the newest are put in their places.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.fx.config
from torch import fx
from torch.utils import flop_counter

RELEASE = tuple(int(part) for part in torch.__version__.split(".")[:2])
_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # newer releases count it


def macs_counter() -> flop_counter.FlopCounterMode:
    """Counts two flops for every multiplication that runs inside, in attention on the CPU too."""
    known = _ATTENTION in flop_counter.flop_registry
    return flop_counter.FlopCounterMode(display=False, custom_mapping={} if known else {_ATTENTION: _attention_flops})


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return flop_counter.sdpa_flop_count(query, key, value)


@contextmanager
def no_stack_traces() -> Iterator[None]:
    """Inside, torch keeps no stack of calls with each op that it writes; older releases have no such switch."""
    switch = "do_not_emit_stack_traces"
    before = getattr(torch.fx.config, switch, None)
    if before is None:
        yield
        return
    setattr(torch.fx.config, switch, True)
    try:
        yield
    finally:
        setattr(torch.fx.config, switch, before)


def without_times(archive: bytes) -> bytes:
    """A file of ``torch.export.save``: older releases write the time into it, so that equal programs would differ."""
    with zipfile.ZipFile(io.BytesIO(archive)) as found:
        entries = found.infolist()
        if all(entry.date_time[0] == 1980 for entry in entries):
            return archive
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as undated:
            for entry in entries:
                undated.writestr(zipfile.ZipInfo(entry.filename), found.read(entry))
    return written.getvalue()


def in_words_of_the_newest(graph: fx.Graph) -> None:
    """Change a graph, in place, to what the newest release writes of the same model.

    Before torch 2.11, ``x[:, :k]`` is two cuts, of which that of the images leaves all of them.
    """
    if RELEASE >= (2, 11):
        return
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.slice.Tensor and _size(node) == _size(node.args[0]):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _size(node: fx.Node) -> torch.Size | None:
    value = node.meta.get("val")
    return value.shape if isinstance(value, torch.Tensor) else None
