"""``.xml`` and ``.bin``: OpenVINO's own format, by its own converter."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError
from mmrazor_lite.export.portable import module_of, program_of, why
from mmrazor_lite.graph.trace import quiet

from .network import Network
from .no_telemetry import without_telemetry
from .runtime import Runner

RUN_INFO = "mmrazor_lite"  # where the model says what it takes
_OPS = re.compile(r"No conversion rule found for operations: (\S+)")


class OpenVino:
    """See :class:`.Runtime`."""

    name, title, endings = "openvino", "OpenVINO", (".xml", ".bin")
    packages: Mapping[str, str] = {"openvino": "openvino"}

    def write(self, network: Network, path: Path) -> None:
        with without_telemetry():
            import openvino

        program = program_of(network.module, network.shape)
        try:
            with quiet(), without_telemetry():
                model = openvino.convert_model(program)
        except Exception as error:  # its front end has a dozen kinds
            raise UserError(f"{network.title} cannot be exported as OpenVINO: {_reason(error, program)}") from None
        model.inputs[0].get_tensor().set_names({"images"})
        for name, output in zip(network.outputs, model.outputs, strict=True):
            output.get_tensor().set_names({name})
        model.reshape({"images": openvino.PartialShape([-1, *network.shape])})
        for key, value in network.metadata.items():
            model.set_rt_info(value, [RUN_INFO, key])
        save(model, path)

    def load(self, path: Path, threads: int) -> Runner:
        import openvino

        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        try:
            compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        except Exception as error:
            raise UserError(f"OpenVINO refuses {path.name}: {_first(error)}") from None
        outputs = compiled.outputs

        def run(images: np.ndarray) -> list[np.ndarray]:
            found = compiled({"images": images})
            return [np.array(found[output]) for output in outputs]

        return run

    def loading(self, file: str, outputs: Sequence[str]) -> str:
        return (
            "import openvino\n"
            f'compiled = openvino.Core().compile_model("{file}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})\n'
            'outputs = list(compiled({"images": images}).values())'
        )


def save(model: Any, path: Path) -> None:
    """Write a model in full precision; a file that is cut off by a full disk is an error of the disk."""
    import openvino

    try:
        openvino.save_model(model, str(path), compress_to_fp16=False)
    except RuntimeError as error:
        _check_disk(path)
        raise UserError(f"{path.name} cannot be written: {_first(error)}") from error
    _check_disk(path)


def _check_disk(path: Path) -> None:
    """Raise what a write to the disk raises, where there is no room: OpenVINO does not say why it failed."""
    probe = path.with_suffix(".probe")
    try:
        with open(probe, "wb") as file:
            file.write(bytes(1 << 16))
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)


def _reason(error: Exception, program: Any) -> str:
    found = _OPS.search(str(error))
    if found is None:
        return why(error)
    op = found[1].rstrip(",;")
    return (
        f"{module_of(program, op)}OpenVINO has no operator for '{op}'; use its .pt2 file, or write the op with others"
    )


def _first(error: Exception) -> str:
    """The last line of what OpenVINO says: those before name its own files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
