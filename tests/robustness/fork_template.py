"""What a fork server imports once: processes forked from it start a command in milliseconds."""

from __future__ import annotations

import gc
import io
from pathlib import Path

import matplotlib.backends.backend_agg
import matplotlib.pyplot  # noqa: F401  mmengine's visualizer imports both, a fifth of the time of a tiny run
import torch
import torch.export
import torch.utils.cpp_extension
import yapf.yapflib.yapf_api
from sklearn.datasets import load_digits

import mmrazor_lite.cli.data_check  # noqa: F401
from mmrazor_lite.cli.config import load_config
from mmrazor_lite.cli.environment import build_model, register_quietly

torch.set_num_threads(1)
register_quietly()
load_digits()
with torch.no_grad():  # with a batch of any size, written and read: the first time takes as long as ten others
    program = torch.export.export(
        torch.nn.Sequential(torch.nn.Conv2d(2, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.ReLU()).eval(),
        (torch.zeros(2, 2, 2, 2),),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    torch.export.save(program, file := io.BytesIO())
    torch.export.load(io.BytesIO(file.getvalue())).module()(torch.zeros(3, 2, 2, 2))
build_model(load_config(Path(__file__).with_name("spos") / "search.py", []))  # parts that were traced are known
# mmengine formats its config four times per run, for the log; that would be a third of the time of a tiny run.
yapf.yapflib.yapf_api.FormatCode = lambda text, *args, **kwargs: (text, False)
gc.freeze()  # datasets collect garbage when they are built, which would go through all that was imported
