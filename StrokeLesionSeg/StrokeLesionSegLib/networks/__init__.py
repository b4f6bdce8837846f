"""The papers' networks and ours. Importing this package imports torch."""

from .build import NETWORKS, build_network, count_macs, count_parameters
from .residual_unet import ResidualUNet
from .unet import UNet

__all__ = ["NETWORKS", "ResidualUNet", "UNet", "build_network", "count_macs", "count_parameters"]
