"""Backbones of the project; importing the package registers them."""

from .inverted_residual import inverted_residual_net
from .mobile_blocks import Identity, MBBlock
from .ofa import OFAMobileNetV3, OFAProxylessNAS
from .ofa_blocks import OFABlock, SqueezeExcite
from .searchable_mobilenet import SearchableMobileNet
from .searchable_shufflenet_v2 import SearchableShuffleNetV2
from .shuffle_blocks import ShuffleBlock, ShuffleXception

__all__ = [
    "Identity",
    "MBBlock",
    "OFABlock",
    "OFAMobileNetV3",
    "OFAProxylessNAS",
    "SearchableMobileNet",
    "SearchableShuffleNetV2",
    "ShuffleBlock",
    "ShuffleXception",
    "SqueezeExcite",
    "inverted_residual_net",
]
