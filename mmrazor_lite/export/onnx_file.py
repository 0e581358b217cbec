"""``.onnx`` by torch's current exporter, from the same program that a ``.pt2`` holds.

Letters: N batch, C channels, H W space.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import atomic_write
from mmrazor_lite.programs.onnx_model import onnx_of, place_of
from mmrazor_lite.programs.onnx_session import session_of
from mmrazor_lite.programs.program import plain_attention, prepared, why


def export_onnx(
    module: nn.Module,
    path: str | os.PathLike,
    input_shape: Sequence[int],
    opset: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write ``module`` as ONNX: input ``images`` (N, C, H, W) with any N, eval mode.

    The output is ``logits``; of several, each has its key in the network's dict, or ``output_0`` and so on. The graph
    is simplified by the optimiser of onnxscript. What was written is run with the ``onnxruntime`` package, where it is
    installed, and compared with the module.

    Args:
        module: A plain module; it is not changed.
        path: The file, appears whole or not at all.
        input_shape: (C, H, W) of one image.
        opset: Version of ONNX's operators; None: the one that torch's exporter is made for.
        metadata: What the file says of itself: names and values.

    Raises:
        UserError: A package is missing (``pip install mmrazor_lite[onnx]``), or the module cannot be written as ONNX
            for any batch size; says why in one line, with the module that has the operator.
    """
    written = onnx_of(module, input_shape, opset, metadata)
    model, images = prepared(module, input_shape)
    with atomic_write(path) as temporary:
        written.save(str(temporary), external_data=False)
        _compare(model, images, str(temporary), type(module).__name__)


def _compare(model: nn.Module, images: Tensor, file: str, name: str) -> None:
    """Run the ONNX file on one and on three images, as far as that is possible here."""
    try:
        session = session_of(file, torch.get_num_threads())
    except ImportError:
        return
    except Exception as error:
        refused = f"onnxruntime does not take it: {place_of(error, file)}{why(error)}"
        raise UserError(f"{name} cannot be written as ONNX: {refused}") from None
    generator = torch.Generator().manual_seed(0)
    for count in (1, 3):
        batch = torch.randn((count, *images.shape[1:]), generator=generator).to(images.dtype)
        with torch.no_grad(), plain_attention():
            expected = tree_leaves(model(batch))
        try:
            found = [torch.from_numpy(output) for output in session.run(None, {"images": batch.numpy()})]
        except Exception as error:
            raise UserError(
                f"{name} cannot be written as ONNX: the file does not run on a batch of {count} ({why(error)}); "
                "take the number of images from the tensor in its code, as in x.flatten(1)"
            ) from None
        if len(found) != len(expected) or not all(map(_alike, found, expected)):
            raise UserError(
                f"{name} cannot be written as ONNX: the file computes something else on a batch of {count}; use its "
                ".pt2 file, or take Python numbers made of tensors out of its code"
            )


def _alike(found: Tensor, expected: Tensor) -> bool:
    """Whether two outputs differ by no more than another order of summation explains."""
    if not expected.is_floating_point() or not expected.numel():
        return found.shape == expected.shape
    most = 1e-3 * max(1e-6, float(expected.abs().max()))
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-2, atol=most)
