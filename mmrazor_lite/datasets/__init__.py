"""Datasets of the project; importing the package registers them."""

from .cifar10 import Cifar10Images
from .device_images import DeviceImages
from .digits import Digits
from .held_out import HeldOut
from .image_folders import CustomDataset, ImageNet

__all__ = ["Cifar10Images", "CustomDataset", "DeviceImages", "Digits", "HeldOut", "ImageNet"]
