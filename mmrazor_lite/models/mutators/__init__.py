"""Mutators: find or insert choices in an architecture, activate a subnet, export it."""

from typing import TYPE_CHECKING

from mmrazor_lite.late import late

from .width import OneShotChannelMutator

if TYPE_CHECKING:
    from .nas import NasMutator

__all__ = ["NasMutator", "OneShotChannelMutator"]

__getattr__ = late(__name__, {"NasMutator": "nas"})  # of networks that are built of mmcv's parts
