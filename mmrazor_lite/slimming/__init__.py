"""Slim a trained network in minutes: which channels to keep, how many where, and the repair of what is left.

Needs no mmengine; but a config of a data set, and tuning, do.
"""

from .folder_of_images import image_folder
from .images import Images, read_images
from .report import GroupRow, Latency, Quality, Report, Stage
from .run import slim
from .slimmed import Slimmed
from .slimmer import Slimmer

__all__ = [
    "GroupRow",
    "Images",
    "Latency",
    "Quality",
    "Report",
    "Slimmed",
    "Slimmer",
    "Stage",
    "image_folder",
    "read_images",
    "slim",
]
