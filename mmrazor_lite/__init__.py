"""mmrazor_lite: slim a trained network, or search a supernet for its best subnets; plain PyTorch modules come out."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["Slimmer", "__version__", "load_subnet", "slim"]


def __getattr__(name: str) -> Any:
    # Importing the package stays cheap: torch comes in with the first name that needs it.
    if name == "load_subnet":
        from mmrazor_lite.export import load_subnet

        return load_subnet
    if name in ("slim", "Slimmer"):
        from mmrazor_lite import slimming

        return getattr(slimming, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
