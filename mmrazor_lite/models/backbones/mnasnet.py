"""torchvision's MNASNet, with a last convolution that widens with the network."""

from __future__ import annotations

from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import MODELS


@MODELS.register_module(name="MNASNet")
def mnasnet(alpha: float = 1.0, last_channels: int = 1280, num_classes: int = 1000, dropout: float = 0.2) -> nn.Module:
    """MnasNet-B1 (arXiv:1807.11626) of torchvision, whose last 1x1 convolution has 1280 channels at any width.

    AutoSlim's has 1920 there. A network of ours is torchvision's class with that convolution, its norm and the
    classifier replaced, initialised alike. (N, 3, H, W) to logits (N, num_classes).

    Args:
        alpha: Width of the other layers, rounded to multiples of 8.
        last_channels: Width of the last convolution.
        num_classes: Number of classes.
        dropout: Before the classifier.

    Raises:
        UserError: A width that makes no layer.
    """
    from torchvision.models import MNASNet  # slow to import

    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not alpha > 0:
        raise UserError(f"MNASNet: alpha={alpha!r} must be a number above 0")
    if type(last_channels) is not int or last_channels < 1:
        raise UserError(f"MNASNet: last_channels={last_channels!r} must be a whole number of 1 or more")
    net = MNASNet(alpha, num_classes, dropout)
    convolution, norm = net.layers[14], net.layers[15]
    if last_channels != convolution.out_channels:
        net.layers[14] = nn.Conv2d(convolution.in_channels, last_channels, 1, bias=False)
        net.layers[15] = nn.BatchNorm2d(last_channels, momentum=norm.momentum)
        net.classifier[1] = nn.Linear(last_channels, num_classes)
        nn.init.kaiming_normal_(net.layers[14].weight, mode="fan_out", nonlinearity="relu")
        nn.init.kaiming_uniform_(net.classifier[1].weight, mode="fan_out", nonlinearity="sigmoid")
        nn.init.zeros_(net.classifier[1].bias)
    return net
