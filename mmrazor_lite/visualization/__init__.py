"""Tables and pictures of a result; matplotlib and rich are imported when one is shown."""

from .analysis_tables import show_analysis
from .channel_chart import layer_channels, plot_channels
from .curves import plot_curves
from .layers import plot_layers
from .page import Page, Section
from .page_file import read_page, write_page

__all__ = [
    "Page",
    "Section",
    "layer_channels",
    "plot_channels",
    "plot_curves",
    "plot_layers",
    "read_page",
    "show_analysis",
    "write_page",
]
