"""A module as a program of ``torch.export``: what every file and every other runtime is made of.

Letters: N batch, C channels, H W space.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import GetAttrKey, MappingKey, tree_flatten_with_path, tree_leaves

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph.explain import find_place
from mmrazor_lite.graph.trace import quiet


class _Images(nn.Module):
    """Leave one argument of a model: the images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Keep torch from running an attention or a whole encoder layer as one fused op, which ONNX does not know."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def prepared(module: nn.Module, input_shape: Sequence[int], count: int = 2) -> tuple[nn.Module, Tensor]:
    """Return a copy of ``module`` on the CPU in eval mode, and images for it.

    Raises:
        UserError: It does not run on them, or gives no tensor.
    """
    model = _Images(copy.deepcopy(module).cpu())
    model.eval()
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
    images = torch.zeros((count, *input_shape), dtype=dtype)
    try:
        with torch.no_grad():
            outputs = tree_leaves(model(images))
    except Exception as error:  # whatever the code of a model raises
        shape = "x".join(map(str, input_shape))
        raise UserError(f"{type(module).__name__} cannot run on images of {shape}: {why(error)}") from None
    if not outputs or not all(isinstance(output, Tensor) for output in outputs):
        kinds = ", ".join(sorted({type(output).__name__ for output in outputs})) or "nothing"
        raise UserError(
            f"{type(module).__name__} cannot be exported: it returns {kinds}; wrap it in a module that returns a "
            "tensor, or a tuple, list or dict of tensors"
        )
    return model, images


def output_names(outputs: Any) -> tuple[str, ...]:
    """Names of a network's outputs: ``logits`` of one, else the keys of its dict, or their places."""
    leaves, _ = tree_flatten_with_path(outputs)
    if len(leaves) == 1:
        return ("logits",)
    found = ["_".join(_key(key) for key in path) for path, _ in leaves]
    return tuple(f"output_{name}" if name[:1].isdigit() else name for name in found)


def _key(key: Any) -> str:
    """A step into an output, as a part of a name."""
    text = key.key if isinstance(key, MappingKey) else key.name if isinstance(key, GetAttrKey) else key.idx
    return "".join(letter if letter.isalnum() else "_" for letter in str(text))


def program_of(module: nn.Module, input_shape: Sequence[int], count: int | None = None) -> torch.export.ExportedProgram:
    """The program of a module, for any number of images, or for ``count`` of them, which takes less time to make.

    Raises:
        UserError: There is none; names the line of the module's code.
    """
    model, images = prepared(module, input_shape, count or 2)
    free = {"images": {0: torch.export.Dim("batch", min=1)}} if count is None else None
    try:
        with torch.no_grad(), quiet(), plain_attention():
            return torch.export.export(model, (images,), dynamic_shapes=free, strict=False)
    except Exception as error:  # torch raises a dozen kinds for a model it cannot trace
        place = find_place(error, model.model)
        found = f"{place}: " if place.line else ""
        form = "with a free batch size" if count is None else f"for {count} images"
        raise refusal(module, form, f"{found}{why(error)}") from None


def module_of(program: torch.export.ExportedProgram, op: str) -> str:
    """The module that runs the first op of this kind, such as ``aten.svd.default``, as the start of a line."""
    for graph in (program.graph, program.run_decompositions().graph):
        for node in graph.nodes:
            if str(node.target) == op:
                stack = list((node.meta.get("nn_module_stack") or {}).values())
                path = stack[-1][0].removeprefix("model").lstrip(".") if stack else ""
                return f"{path}: " if path else ""
    return ""


def refusal(module: nn.Module, form: str, reason: str) -> UserError:
    """What is said of a module that cannot be written in a form."""
    return UserError(f"{type(module).__name__} cannot be exported {form}: {reason}")


def why(error: Exception) -> str:
    """What torch says, in a line that helps."""
    text = " ".join(str(error).split())
    if "data-dependent" in text:
        return "a Python value is made of a tensor's values"
    if "specialized it to be a constant" in text or "Constraints violated" in text:
        return "its code fixes the number of images; take it from the tensor, as in x.flatten(1)"
    return f"{type(error).__name__}: {text[:200]}".rstrip(": ")
