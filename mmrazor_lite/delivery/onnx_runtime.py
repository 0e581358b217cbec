"""``.onnx``, which onnxruntime runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmrazor_lite.errors import UserError, reason
from mmrazor_lite.export import export_onnx
from mmrazor_lite.programs import onnx_model, onnx_session
from mmrazor_lite.programs.onnx_model import place_of
from mmrazor_lite.programs.onnx_session import session_of

from .network import Network
from .runtime import Runner


class OnnxRuntime:
    """See :class:`.Runtime`."""

    name, title, endings = "onnx", "onnxruntime", (".onnx",)
    packages: Mapping[str, str] = {**onnx_model.PACKAGES, **onnx_session.PACKAGES}

    def write(self, network: Network, path: Path) -> None:
        export_onnx(network.module, path, network.shape, network.opset, network.metadata)

    def load(self, path: Path, threads: int) -> Runner:
        try:
            session = session_of(str(path), threads)
        except Exception as error:  # it has a dozen kinds of its own
            raise UserError(f"onnxruntime refuses {path.name}: {place_of(error, str(path))}{reason(error)}") from None

        def run(images: np.ndarray) -> list[np.ndarray]:
            return session.run(None, {"images": images})

        return run

    def loading(self, file: str, outputs: Sequence[str]) -> str:
        return (
            "import onnxruntime\n"
            f'session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])\n'
            'outputs = session.run(None, {"images": images})'
        )
