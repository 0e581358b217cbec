"""The subnet that a search found, with its part of the supernet's weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import nn

from mmrazor_lite.checkpoints import checkpoint_hash, save_checkpoint
from mmrazor_lite.export.extraction import compare, extract, read_back
from mmrazor_lite.fileio import FileSet
from mmrazor_lite.models.calibration import activated, unchanged
from mmrazor_lite.subnet import Subnet


def write_best_checkpoint(
    algorithm: nn.Module,
    subnet: Subnet,
    path: str | os.PathLike,
    score: Mapping[str, Any] | None = None,
    calibrated: Callable[[], AbstractContextManager] | None = None,
    files: FileSet | None = None,
) -> Path:
    """Write the weights of ``subnet`` in the format of a split file: it says which subnet of which architecture it is.

    Where the architecture's config is carried, the file is read back and compared before it gets its name. Weights,
    statistics, modes and the active subnet of the supernet are as before.

    Args:
        algorithm: The supernet with its weights.
        subnet: One of its search space.
        path: The file; appears whole or not at all.
        score: Metrics of the subnet, carried in the file.
        calibrated: Returns a block in which the supernet has batch-norm statistics of the active subnet, such as
            ``lambda: recalibrated(algorithm, batches)``. By default those of the supernet are written, an average
            over all subnets, which fits none: only for a file that is retrained.
        files: The set that the file is one of; by default it stands alone.

    Returns:
        ``path``.

    Raises:
        UserError: The subnet is not one of the space, or the file read back computes something else.
    """
    path = Path(path)
    with activated(algorithm.mutator, subnet), unchanged(algorithm), calibrated() if calibrated else nullcontext():
        algorithm.eval()
        found = extract(algorithm, subnet, score)
    with nullcontext(files) if files else FileSet() as all_files:
        temporary = all_files.new(path)
        save_checkpoint(found.content, temporary)
        compare(lambda: read_back(algorithm, temporary, found.module), found, path)
        digest = checkpoint_hash(temporary)
    print_log(f"wrote {path} (sha256 {digest})", logger="current")
    return path
