"""Backbones of the project; importing the package registers them."""

from .cifar import CifarWideResNet, cifar_mobilenet_v2, cifar_resnet
from .inverted_residual import inverted_residual_net
from .mnasnet import mnasnet
from .mobile_blocks import Identity, MBBlock
from .mobilenet_v1 import MobileNetV1
from .ofa_blocks import OFABlock, SqueezeExcite
from .ofa_networks import OFAMobileNetV3, OFAProxylessNAS
from .searchable_mobilenet import SearchableMobileNet
from .searchable_shufflenet_v2 import SearchableShuffleNetV2
from .shuffle_blocks import ShuffleBlock, ShuffleXception
from .tfnas_block import TFNASBlock
from .tfnas_network import TFNASNet

__all__ = [
    "CifarWideResNet",
    "Identity",
    "MBBlock",
    "MobileNetV1",
    "OFABlock",
    "OFAMobileNetV3",
    "OFAProxylessNAS",
    "SearchableMobileNet",
    "SearchableShuffleNetV2",
    "ShuffleBlock",
    "ShuffleXception",
    "SqueezeExcite",
    "TFNASBlock",
    "TFNASNet",
    "cifar_mobilenet_v2",
    "cifar_resnet",
    "inverted_residual_net",
    "mnasnet",
]
