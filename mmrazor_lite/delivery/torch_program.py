"""``.pt2``: the program of ``torch.export``, which torch alone runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from mmrazor_lite.export.portable import export_pt2, read_pt2

from .network import Network
from .runtime import Runner


class TorchProgram:
    """See :class:`.Runtime`."""

    name, title, endings = "pt2", "torch, the program of torch.export", (".pt2",)
    packages: Mapping[str, str] = {}

    def write(self, network: Network, path: Path) -> None:
        export_pt2(network.module, path, network.shape)

    def load(self, path: Path, threads: int) -> Runner:
        program = read_pt2(path)

        def run(images: np.ndarray) -> list[np.ndarray]:
            with torch.inference_mode():
                return [output.numpy() for output in tree_leaves(program(torch.from_numpy(images)))]

        return run

    def loading(self, file: str, outputs: Sequence[str]) -> str:
        return (
            f'import torch\nprogram = torch.export.load("{file}").module()\noutputs = program(torch.from_numpy(images))'
        )
