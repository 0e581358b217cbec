"""Packages that not everybody has: what needs one says which to install."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from mmrazor_lite.errors import UserError

from .no_telemetry import without_telemetry

DELIVER = "mmrazor_lite[deliver]"


def require(packages: Mapping[str, str], what: str, extra: str = DELIVER) -> None:
    """Raise :class:`UserError` where a package cannot be imported.

    Args:
        packages: What is imported -> what is installed.
        what: Needs them.
        extra: Of this project, that has them.
    """
    for module, package in packages.items():
        try:
            with without_telemetry():
                importlib.import_module(module)
        except ImportError:
            raise UserError(f"{what} needs the package '{package}': pip install '{extra}'") from None
