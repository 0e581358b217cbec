"""Backbones of the project; importing the package registers them."""

from .inverted_residual import inverted_residual_net
from .mobile_blocks import Identity, MBBlock
from .searchable_mobilenet import SearchableMobileNet
from .searchable_shufflenet_v2 import SearchableShuffleNetV2
from .shuffle_blocks import ShuffleBlock, ShuffleXception

__all__ = [
    "Identity",
    "MBBlock",
    "SearchableMobileNet",
    "SearchableShuffleNetV2",
    "ShuffleBlock",
    "ShuffleXception",
    "inverted_residual_net",
]
