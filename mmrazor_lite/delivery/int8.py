"""Files of 8-bit integers, made of those of float32 and some images by the tools of each runtime.

Static quantisation: the ranges of activations come from the images. Weights have a scale per channel.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError, reason
from mmrazor_lite.graph.trace import quiet
from mmrazor_lite.programs.extras import require
from mmrazor_lite.programs.no_telemetry import without_telemetry

from .openvino_ir import save
from .runtime import Written

IMAGES = 300  # that ranges are measured with, as NNCF has it


@dataclass(frozen=True)
class Quantiser:
    """What makes files of 8-bit integers for one runtime.

    Attributes:
        write: Reads the file of float32, writes the other one; of images in batches.
        packages: What is imported -> what is installed.
        tool: For people.
    """

    write: Callable[[Path, Path, Sequence[np.ndarray]], None]
    packages: Mapping[str, str]
    tool: str


def quantised(file: Written, images: Sequence[np.ndarray], paths: tuple[Path, ...]) -> Written:
    """Make a file of 8-bit integers of one of float32.

    Args:
        file: That of float32.
        images: Batches (N, C, H, W) as the file takes them.
        paths: Of what is written.

    Raises:
        UserError: The tool does not take the file.
    """
    try:
        QUANTISERS[file.runtime.name].write(file.files[0], paths[0], images)
    except (UserError, OSError):
        raise
    except Exception as error:  # whatever a tool raises
        raise UserError(f"{file.name}: cannot be quantised: {reason(error)}; leave out --int8") from None
    return Written(file.runtime, "int8", paths)


def check_int8(formats: Sequence[str]) -> None:
    """Raise :class:`UserError` where none of the formats has 8-bit integers, or a package is missing."""
    chosen = [name for name in formats if name in QUANTISERS]
    if not chosen:
        raise UserError(f"int8 is for the formats {' and '.join(QUANTISERS)}; asked for: {', '.join(formats)}")
    for name in chosen:
        require(QUANTISERS[name].packages, f"int8 of format '{name}'")


def _onnx(source: Path, target: Path, images: Sequence[np.ndarray]) -> None:
    """By onnxruntime, as pairs of QuantizeLinear and DequantizeLinear.

    Weights have 7 bits: on CPUs without VNNI the sums of an 8-bit product saturate, which costs accuracy there.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches: Iterator[np.ndarray] = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"images": batch}

    settled = target.with_suffix(".settled.onnx")
    try:
        with quiet():
            quant_pre_process(str(source), str(settled), skip_symbolic_shape=True)
            quantize_static(
                str(settled),
                str(target),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=True,
            )
    finally:
        settled.unlink(missing_ok=True)
    made, plain = onnx.load(str(target)), onnx.load(str(source))
    del made.metadata_props[:]
    made.metadata_props.extend(plain.metadata_props)
    onnx.save(made, str(target))


def _openvino(source: Path, target: Path, images: Sequence[np.ndarray]) -> None:
    """By NNCF."""
    with without_telemetry():
        import nncf
        import openvino

        nncf.set_log_level(logging.ERROR)
        model: Any = openvino.Core().read_model(str(source))
        singles = [image[None] for batch in images for image in batch]
        with quiet():
            made = nncf.quantize(model, nncf.Dataset(singles), subset_size=len(singles))
    save(made, target)


QUANTISERS: Mapping[str, Quantiser] = {
    "onnx": Quantiser(_onnx, {"onnxruntime.quantization": "onnxruntime", "sympy": "sympy"}, "onnxruntime"),
    "openvino": Quantiser(_openvino, {"nncf": "nncf"}, "NNCF"),
}
