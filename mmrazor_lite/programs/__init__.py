"""A module as other runtimes take it: a program of ``torch.export``, ONNX, OpenVINO; and what runs these."""

from .onnx_model import onnx_of
from .onnx_session import session_of
from .openvino_model import compiled, openvino_of
from .program import program_of

__all__ = ["compiled", "onnx_of", "openvino_of", "program_of", "session_of"]
