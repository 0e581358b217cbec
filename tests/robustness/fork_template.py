"""What a fork server imports once: processes forked from it start a command in milliseconds."""

from __future__ import annotations

import gc
import io

import matplotlib.backends.backend_agg
import matplotlib.pyplot  # noqa: F401  mmengine's visualizer imports both, a fifth of the time of a tiny run
import torch
import torch.export
import torch.utils.cpp_extension
import yapf.yapflib.yapf_api
from sklearn.datasets import load_digits

from mmrazor_lite.config.build import register_quietly

torch.set_num_threads(1)
register_quietly()
load_digits()
with torch.no_grad():  # with a batch of any size: the first time takes as long as ten others
    program = torch.export.export(
        torch.nn.Sequential(torch.nn.Conv2d(2, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.ReLU()).eval(),
        (torch.zeros(2, 2, 2, 2),),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    torch.export.save(program, file := io.BytesIO())
    # Written and read, but never run: after a forward pass, autograd in a forked process now and then ends in
    # "Invalid thread pool". Nothing that runs one may stand here, such as the building of a model.
    torch.export.load(io.BytesIO(file.getvalue()))
# mmengine formats its config four times per run, for the log; that would be a third of the time of a tiny run.
yapf.yapflib.yapf_api.FormatCode = lambda text, *args, **kwargs: (text, False)
gc.freeze()  # datasets collect garbage when they are built, which would go through all that was imported
