"""Files that run without this project: ``.pt2``, for torch alone.

Letters: N batch, C channels, H W space.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence

import torch
from torch import nn

from mmrazor_lite.fileio import atomic_write
from mmrazor_lite.graph.versions import without_times
from mmrazor_lite.programs.program import program_of


def export_pt2(module: nn.Module, path: str | os.PathLike, input_shape: Sequence[int]) -> None:
    """Write ``module`` as a program of ``torch.export``: eval mode, any batch size, on the CPU.

    ``torch.export.load(path).module()(images)`` runs it, with torch alone.

    Args:
        module: A plain module; it is not changed.
        path: The file, appears whole or not at all.
        input_shape: (C, H, W) of one image.

    Raises:
        UserError: The model cannot be traced with a free batch size.
    """
    program = program_of(module, input_shape)
    buffer = io.BytesIO()  # torch's writer of archives ends the process where a disk is full
    torch.export.save(program, buffer)
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(without_times(buffer.getvalue()))


def read_pt2(path: str | os.PathLike) -> nn.Module:
    """The program of a file that :func:`export_pt2` wrote, as a module.

    Such a file runs code: this is for those that were just written.
    """
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")  # torch 2.11 of its own reading
        return torch.export.load(file).module()
