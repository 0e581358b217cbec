"""Pictures of a result; matplotlib is imported when one is drawn."""

from .channels import plot_channels

__all__ = ["plot_channels"]
