"""Files that run without this project: ``.pt2`` with torch alone, ``.onnx`` with any ONNX runtime.

Letters: N batch, C channels, H W space.
"""

from __future__ import annotations

import copy
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import atomic_write
from mmrazor_lite.graph.explain import find_place
from mmrazor_lite.graph.trace import quiet


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
    buffer = io.BytesIO()  # torch's writer of archives ends the process where a disk is full
    torch.export.save(program, buffer)
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(buffer.getbuffer())


def export_onnx(module: nn.Module, path: str | os.PathLike, input_shape: Sequence[int]) -> None:
    """Write ``module`` as ONNX: input ``images`` (N, C, H, W) with any N, output ``logits``, eval mode.

    What was written is run with the ``onnxruntime`` package, where it is installed, and compared with the module.

    Raises:
        UserError: The package is missing (``pip install mmrazor_lite[onnx]``), or the module cannot be written as ONNX
            for any batch size; says why in one line.
    """
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise UserError("ONNX export needs the package 'onnx': pip install 'mmrazor_lite[onnx]'") from None
    model, images = _prepared(module, input_shape)
    names: dict = {"input_names": ["images"], "output_names": ["logits"]}
    names["dynamic_axes"] = {"images": {0: "batch"}, "logits": {0: "batch"}}
    with atomic_write(path) as temporary:
        try:
            with quiet(), _no_dump(), _plain_attention(), warnings.catch_warnings(record=True) as said, torch.no_grad():
                warnings.simplefilter("always")
                # The newer exporter (dynamo=True) needs one more package and gives nothing to a feed-forward network.
                torch.onnx.export(model, (images,), str(temporary), dynamo=False, **names)
        except Exception as error:  # torch raises a dozen kinds
            raise _refusal(module, "as ONNX", _why(error)) from None
        if any(issubclass(warning.category, torch.jit.TracerWarning) for warning in said):
            _program(module, input_shape)  # a Python value was made of a tensor: of its shape, or of what is in it
        _compare(model, images, str(temporary), type(module).__name__)


def _compare(model: nn.Module, images: Tensor, file: str, name: str) -> None:
    """Run the ONNX file on one and on three images, as far as that is possible here."""
    try:
        import onnxruntime
    except ImportError:
        return
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    for count in (1, 3):
        batch = torch.randn((count, *images.shape[1:]), generator=generator).to(images.dtype)
        with torch.no_grad(), _plain_attention():
            expected = tree_leaves(model(batch))[0]
        try:
            found = torch.from_numpy(session.run(["logits"], {"images": batch.numpy()})[0])
        except Exception as error:
            raise UserError(
                f"{name} cannot be written as ONNX: the file does not run on a batch of {count} ({_why(error)}); "
                "take the number of images from the tensor in its code, as in x.flatten(1)"
            ) from None
        if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-2, atol=_error(expected)):
            raise UserError(
                f"{name} cannot be written as ONNX: the file computes something else on a batch of {count}; use its "
                ".pt2 file, or take Python numbers made of tensors out of its code"
            )


def _error(expected: Tensor) -> float:
    """The largest difference of single precision that another order of summation explains."""
    return 1e-3 * max(1e-6, float(expected.abs().max()))


@contextmanager
def _no_dump() -> Iterator[None]:
    """Keep back what the exporter prints of a graph when it fails, past Python's own streams."""
    sys.stdout.flush()
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep torch from running an attention or a whole encoder layer as one fused op, which ONNX does not know."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _prepared(module: nn.Module, input_shape: Sequence[int]) -> tuple[nn.Module, Tensor]:
    """Return a copy of ``module`` on the CPU in eval mode, and two images for it.

    Raises:
        UserError: It does not run on them, or gives no tensor.
    """
    model = _Images(copy.deepcopy(module).cpu())
    model.eval()
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
    images = torch.zeros((2, *input_shape), dtype=dtype)
    try:
        with torch.no_grad():
            outputs = tree_leaves(model(images))
    except Exception as error:  # whatever the code of a model raises
        shape = "x".join(map(str, input_shape))
        raise UserError(f"{type(module).__name__} cannot run on images of {shape}: {_why(error)}") from None
    if not outputs or not all(isinstance(output, Tensor) for output in outputs):
        kinds = ", ".join(sorted({type(output).__name__ for output in outputs})) or "nothing"
        raise UserError(
            f"{type(module).__name__} cannot be exported: it returns {kinds}; wrap it in a module that returns a "
            "tensor, or a tuple, list or dict of tensors"
        )
    return model, images


def _program(module: nn.Module, input_shape: Sequence[int]) -> torch.export.ExportedProgram:
    model, images = _prepared(module, input_shape)
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad(), quiet(), _plain_attention():
            return torch.export.export(model, (images,), dynamic_shapes={"images": {0: batch}})
    except Exception as error:  # torch raises a dozen kinds for a model it cannot trace
        place = find_place(error, model.model)
        found = f"{place}: " if place.line else ""
        raise _refusal(module, "with a free batch size", f"{found}{_why(error)}") from None


def _refusal(module: nn.Module, form: str, reason: str) -> UserError:
    return UserError(f"{type(module).__name__} cannot be exported {form}: {reason}")


def _why(error: Exception) -> str:
    """What torch says, in a line that helps."""
    text = " ".join(str(error).split())
    if "data-dependent" in text:
        return "a Python value is made of a tensor's values"
    if "specialized it to be a constant" in text or "Constraints violated" in text:
        return "its code fixes the number of images; take it from the tensor, as in x.flatten(1)"
    found = re.search(r"operator '([^']+)' to ONNX", text)
    if found:
        return f"ONNX has no operator for '{found[1]}'; use its .pt2 file, or write the op with others"
    return f"{type(error).__name__}: {text[:200]}".rstrip(": ")
