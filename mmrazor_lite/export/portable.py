"""Files that run without this project: ``.pt2`` with torch alone, ``.onnx`` with any ONNX runtime.

Letters: N batch, C channels, H W space.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import atomic_write


class _Images(nn.Module):
    """Leave one argument of a model: the images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


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
    program = _program(module, input_shape)
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        torch.export.save(program, file)


def export_onnx(module: nn.Module, path: str | os.PathLike, input_shape: Sequence[int]) -> None:
    """Write ``module`` as ONNX: input ``images`` (N, C, H, W) with any N, output ``logits``, eval mode.

    Raises:
        UserError: The package is missing (``pip install mmrazor_lite[onnx]``).
    """
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise UserError("ONNX export needs the package 'onnx': pip install 'mmrazor_lite[onnx]'") from None
    model, images = _prepared(module, input_shape)
    names: dict = {"input_names": ["images"], "output_names": ["logits"]}
    names["dynamic_axes"] = {"images": {0: "batch"}, "logits": {0: "batch"}}
    with atomic_write(path) as temporary, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # The newer exporter (dynamo=True) needs one more package and gives nothing to a feed-forward network.
        torch.onnx.export(model, (images,), str(temporary), dynamo=False, **names)


def _prepared(module: nn.Module, input_shape: Sequence[int]) -> tuple[nn.Module, Tensor]:
    """Return a copy of ``module`` on the CPU in eval mode, and two images for it."""
    model = _Images(copy.deepcopy(module).cpu())
    model.eval()
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
    return model, torch.zeros((2, *input_shape), dtype=dtype)


def _program(module: nn.Module, input_shape: Sequence[int]) -> torch.export.ExportedProgram:
    model, images = _prepared(module, input_shape)
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad():
            return torch.export.export(model, (images,), dynamic_shapes={"images": {0: batch}})
    except Exception as error:  # torch raises a dozen kinds for a model it cannot trace
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{type(module).__name__} cannot be exported with a free batch size: {reason}") from None
