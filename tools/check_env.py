"""Refuse an environment in which the original OpenMMLab packages share import names with the maintained ones."""

import sys
from importlib.metadata import distributions

ORIGINALS = ("mmengine", "mmengine-lite", "mmcv", "mmcv-lite", "mmcv-full", "mmpretrain", "mmcls", "mmrazor")

names = {(found.metadata["Name"] or "").lower().replace("_", "-") for found in distributions()}
clash = [name for name in ORIGINALS if name in names]
if clash:
    onedl = " ".join(sorted(name for name in names if name.startswith("onedl-mm")))
    print(
        f"error: {', '.join(clash)} in {sys.prefix} uses the same import names as onedl-mmengine, onedl-mmcv and "
        f"onedl-mmpretrain: run '{sys.executable} -m pip uninstall -y {' '.join(clash)} {onedl}'".rstrip()
        + " and try again, use a fresh virtual environment, or keep them, without make: docs/get_started.md",
        file=sys.stderr,
    )
    sys.exit(2)
