"""``.onnx``, which onnxruntime runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError, reason
from mmrazor_lite.export import export_onnx

from .network import Network
from .runtime import Runner

SCOPES = "pkg.torch.onnx.name_scopes"  # of a node: the modules that run it, from the outside in


class OnnxRuntime:
    """See :class:`.Runtime`."""

    name, title, endings = "onnx", "onnxruntime", (".onnx",)
    packages: Mapping[str, str] = {"onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"}

    def write(self, network: Network, path: Path) -> None:
        export_onnx(network.module, path, network.shape, network.opset, network.metadata)

    def load(self, path: Path, threads: int) -> Runner:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it has a dozen kinds of its own
            raise UserError(f"onnxruntime refuses {path.name}: {place_of(error, path)}{reason(error)}") from None

        def run(images: np.ndarray) -> list[np.ndarray]:
            return session.run(None, {"images": images})

        return run

    def loading(self, file: str, outputs: Sequence[str]) -> str:
        return (
            "import onnxruntime\n"
            f'session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])\n'
            'outputs = session.run(None, {"images": images})'
        )


def place_of(error: Exception, path: Path) -> str:
    """The operator and the module that an error names by its node, as the start of a line."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    named = set(re.findall(r"[\w.:/]+", str(error)))
    node: Any = next((node for node in graph.node if node.name and node.name in named), None)
    if node is None:
        return ""
    scopes = next((prop.value for prop in node.metadata_props if prop.key == SCOPES), "")
    modules = [part for part in re.findall(r"'([^']*)'", scopes)[:-1] if part]
    return f"operator {node.op_type} of {modules[-1]}: " if modules else f"operator {node.op_type}: "
