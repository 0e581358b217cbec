"""Tables and pictures of a result; matplotlib and rich are imported when one is shown."""

from .analysis import show_analysis
from .channels import plot_channels
from .layers import plot_layers

__all__ = ["plot_channels", "plot_layers", "show_analysis"]
