"""``.xml`` and ``.bin``: OpenVINO's own format, by its own converter."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError
from mmrazor_lite.programs.openvino_model import PACKAGES, compiled, last_line, openvino_of

from .network import Network
from .runtime import Runner

RUN_INFO = "mmrazor_lite"  # where the model says what it takes


class OpenVino:
    """See :class:`.Runtime`."""

    name, title, endings = "openvino", "OpenVINO", (".xml", ".bin")
    packages: Mapping[str, str] = PACKAGES

    def write(self, network: Network, path: Path) -> None:
        model = openvino_of(network.module, network.shape, network.title, network.outputs)
        for key, value in network.metadata.items():
            model.set_rt_info(value, [RUN_INFO, key])
        save(model, path)

    def load(self, path: Path, threads: int) -> Runner:
        try:
            ready = compiled(str(path), threads)
        except Exception as error:
            raise UserError(f"OpenVINO refuses {path.name}: {last_line(error)}") from None
        outputs = ready.outputs

        def run(images: np.ndarray) -> list[np.ndarray]:
            found = ready({"images": images})
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
        raise UserError(f"{path.name} cannot be written: {last_line(error)}") from error
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
