"""The formats that there are: each is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.programs.extras import require

from .onnx_runtime import OnnxRuntime
from .openvino_ir import OpenVino
from .runtime import Runtime
from .torch_program import TorchProgram
from .torchscript import TorchScript

_ALL: tuple[Runtime, ...] = (
    TorchProgram(),
    OnnxRuntime(),
    OpenVino(),
    TorchScript(),
)
RUNTIMES: Mapping[str, Runtime] = {runtime.name: runtime for runtime in _ALL}


def runtimes_of(names: Sequence[str]) -> list[Runtime]:
    """The formats of these names, with what they need installed.

    Raises:
        UserError: There is none of a name, one is given twice, or a package is missing: says which to install.
    """
    if isinstance(names, str) or not names:
        raise UserError(f"formats={names!r}: give a list of them (allowed: {', '.join(RUNTIMES)})")
    for name in names:
        if name not in RUNTIMES:
            raise UserError(f"format '{name}' is unknown{nearest(name, RUNTIMES)} (allowed: {', '.join(RUNTIMES)})")
        require(RUNTIMES[name].packages, f"format '{name}'")
    if len(set(names)) < len(names):
        raise UserError(f"format '{next(name for name in names if list(names).count(name) > 1)}' is given twice")
    return [RUNTIMES[name] for name in names]


def versions(runtimes: Sequence[Runtime], more: Sequence[str] = ()) -> dict[str, str]:
    """Of torch, and of what the formats need."""
    names = dict.fromkeys(["torch", *(name for runtime in runtimes for name in runtime.packages.values()), *more])
    return {name: version(name) for name in names}
