"""What a format is: written, loaded in the runtime that it is for, and run.

Letters: N batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from .network import Network

Runner = Callable[[np.ndarray], list[np.ndarray]]  # images (N, C, H, W) -> every output


class Runtime(Protocol):
    """A format with the runtime that runs it. All that there are stand in :data:`.runtimes.RUNTIMES`."""

    name: str  # what --format says
    title: str  # of the runtime, for people
    endings: tuple[str, ...]  # of its files; the first one is loaded
    packages: Mapping[str, str]  # what is imported -> what is installed

    def write(self, network: Network, path: Path) -> None:
        """Write the network to ``path``, and what belongs to it beside.

        Raises:
            UserError: It cannot be; names the module.
        """

    def load(self, path: Path, threads: int) -> Runner:
        """Make the file ready to run on the CPU with so many threads.

        Raises:
            UserError: The runtime does not take it; names the operator and the module.
        """

    def loading(self, file: str, outputs: Sequence[str]) -> str:
        """Python that loads the file and runs it on an array ``images``: the outputs are ``outputs``."""


@dataclass(frozen=True)
class Written:
    """A file of a delivery.

    Attributes:
        runtime: That runs it.
        precision: ``fp32`` or ``int8``.
        files: All that belong to it; the first one is loaded.
    """

    runtime: Runtime
    precision: str
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        return self.runtime.name if self.precision == "fp32" else f"{self.runtime.name} {self.precision}"

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(path.stat().st_size for path in self.files)
