"""What a fork server imports once: processes forked from it start a command in milliseconds."""

from __future__ import annotations

import gc

import matplotlib.backends.backend_agg
import matplotlib.pyplot  # noqa: F401  mmengine's visualizer imports both, a fifth of the time of a tiny run
import torch
import torch.export
import torch.utils.cpp_extension
import yapf.yapflib.yapf_api
from sklearn.datasets import load_digits

import mmrazor_lite.cli.config
import mmrazor_lite.cli.data_check  # noqa: F401
from mmrazor_lite.cli.environment import register_quietly

torch.set_num_threads(1)
register_quietly()
load_digits()
with torch.no_grad():
    torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
# mmengine formats its config four times per run, for the log; that would be a third of the time of a tiny run.
yapf.yapflib.yapf_api.FormatCode = lambda text, *args, **kwargs: (text, False)
gc.freeze()  # datasets collect garbage when they are built, which would go through all that was imported
