"""The papers' networks and ours. Importing this package imports torch."""

from .build import NETWORKS, build_network, count_macs, count_parameters
from .cascade import Cascade, true_boxes
from .cs230 import CS230Network
from .receptive_field import encoder_receptive_field, receptive_field
from .residual_unet import ResidualUNet
from .residual_unet_3d import ResidualUNet3D
from .residual_unet_25d import ResidualUNet25D, neighbours
from .unet import UNet
from .volumetric import VolumetricUNet

__all__ = [
    "NETWORKS",
    "CS230Network",
    "Cascade",
    "ResidualUNet",
    "ResidualUNet3D",
    "ResidualUNet25D",
    "UNet",
    "VolumetricUNet",
    "build_network",
    "count_macs",
    "count_parameters",
    "encoder_receptive_field",
    "neighbours",
    "receptive_field",
    "true_boxes",
]
