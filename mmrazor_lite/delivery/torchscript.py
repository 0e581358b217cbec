"""``.pt``: a program of TorchScript, for what still runs these (LibTorch in C++, PyTorch Mobile)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph.trace import quiet
from mmrazor_lite.programs.program import plain_attention, prepared, why

from .network import Network
from .runtime import Runner


class TorchScript:
    """See :class:`.Runtime`."""

    name, title, endings = "torchscript", "torch, a program of TorchScript", (".pt",)
    packages: Mapping[str, str] = {}

    def write(self, network: Network, path: Path) -> None:
        model, images = prepared(network.module, network.shape)
        try:
            with quiet(), plain_attention(), warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                traced = torch.jit.trace(model, (images,), check_trace=False, strict=False)
                buffer = io.BytesIO()
                torch.jit.save(torch.jit.freeze(traced), buffer)
        except Exception as error:  # whatever its tracer raises
            raise UserError(f"{network.title} cannot be exported as TorchScript: {why(error)}") from None
        # Not the view getbuffer(): kept by the error of a full disk, it crashes Python 3.12.1 (gh-111049).
        path.write_bytes(buffer.getvalue())

    def load(self, path: Path, threads: int) -> Runner:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.jit.load(io.BytesIO(path.read_bytes()))

        def run(images: np.ndarray) -> list[np.ndarray]:
            with torch.inference_mode():
                return [output.numpy() for output in tree_leaves(program(torch.from_numpy(images)))]

        return run

    def loading(self, file: str, outputs: Sequence[str]) -> str:
        return (
            "import torch\n"
            f'program = torch.jit.load("{file}")\n'
            "with torch.inference_mode():\n"
            "    outputs = program(torch.from_numpy(images))"
        )
