"""The packages of OpenMMLab: configs, training and search need them; plain networks do not.

What needs them says so before its work, in one line, where they are not installed.
"""

from __future__ import annotations

import importlib.util
import pickle
import time

from mmrazor_lite.errors import UserError

# What is imported -> what is installed: the maintained packages keep the import names of the originals.
PROJECTS = {"mmengine": "onedl-mmengine", "mmcv": "onedl-mmcv", "mmpretrain": "onedl-mmpretrain"}


def require(what: str) -> None:
    """Raise :class:`UserError` where one of the packages that ``what`` needs is not installed; nothing is imported."""
    missing = [package for name, package in PROJECTS.items() if not _is_there(name)]
    if missing:
        raise UserError(_line(what, missing))


def told(error: ModuleNotFoundError, what: str) -> str | None:
    """Return the line for an import that has failed, or None where it is of another package."""
    package = PROJECTS.get(str(error.name).partition(".")[0])
    return package and _line(what, [package])


def load_formatter(attempts: int = 20) -> None:
    """Import yapf, with which mmengine writes a config as text, before several processes do it at once.

    A process that imports it for the first time writes a cache, which another one can read while it is still empty.

    Raises:
        UserError: The cache stays unreadable.
    """
    for attempt in range(attempts):
        try:
            import yapf.yapflib.yapf_api  # noqa: F401
        except (EOFError, pickle.UnpicklingError) as error:
            if attempt == attempts - 1:
                raise UserError(
                    f"the cache of yapf, which writes configs as text, is damaged ({error}): remove the folder YAPF in "
                    "~/.cache, or where your system keeps caches, then start again"
                ) from error
            time.sleep(0.1)
        else:
            return


def _line(what: str, missing: list[str]) -> str:
    named, plural = " and ".join(missing), "s" if len(missing) > 1 else ""
    how = f"pip install {' '.join(missing)}"
    return f"{what} needs the package{plural} {named}: {how} (a network by --model, or in Python, is slimmed without)"


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
