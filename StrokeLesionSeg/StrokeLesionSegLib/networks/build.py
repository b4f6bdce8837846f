"""From the plain dict in a model's manifest to a network, so that no weights file needs pickle."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from .cascade import Cascade
from .cs230 import CS230Network
from .residual_unet import ResidualUNet
from .residual_unet_3d import ResidualUNet3D
from .residual_unet_25d import ResidualUNet25D
from .synthstroke_unet import SynthStrokeUNet
from .unet import UNet
from .volumetric import VolumetricUNet
from .window_unets import PlainConvUNet, ResidualEncoderUNet

#: Networks by the name that a manifest or a recipe gives them.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "unet": UNet,
    "residual_unet": ResidualUNet,
    "residual_unet_25d": ResidualUNet25D,
    "residual_unet_3d": ResidualUNet3D,
    "cs230": CS230Network,
    "cascade": Cascade,
    "volumetric_unet": VolumetricUNet,
    "plain_conv_unet": PlainConvUNet,
    "residual_encoder_unet": ResidualEncoderUNet,
    "synthstroke_unet": SynthStrokeUNet,
}


def build_network(spec: Mapping[str, Any]) -> nn.Module:
    """Build the network that ``spec`` describes, with fresh weights, in training mode.

    ``spec`` is a plain dict: ``name`` picks the class, everything else is its keyword argument,
    for example ``{"name": "residual_unet", "in_channels": 4, "skip": "stem"}``.

    Raises ``ValueError`` for a name or an argument that does not exist.

    Examples
    --------
    >>> from StrokeLesionSegLib.networks import build_network, count_parameters
    >>> network = build_network({"name": "unet", "in_channels": 1, "filters": [4, 8, 16]})
    >>> count_parameters(network)
    7557
    """
    arguments = dict(spec)
    name = arguments.pop("name", None)
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; known are {', '.join(sorted(NETWORKS))}")
    try:
        return NETWORKS[name](**arguments)
    except TypeError as error:
        raise ValueError(f"network {name}: {error}") from error


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters.

    Examples
    --------
    >>> from torch import nn
    >>> from StrokeLesionSegLib.networks import count_parameters
    >>> count_parameters(nn.Conv2d(1, 2, 3))
    20
    """
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_macs(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one forward pass on an input of ``shape`` (N, C, H, W), or
    (N, C, D, H, W) for a volumetric network.

    Examples
    --------
    >>> from torch import nn
    >>> from StrokeLesionSegLib.networks import count_macs
    >>> count_macs(nn.Conv2d(1, 2, 3, padding=1), (1, 1, 16, 16))
    4608
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    # Shapes without numbers cost no time and no memory.
    outline = copy.deepcopy(network).to("meta").eval()
    with torch.inference_mode(False), torch.no_grad(), counter:
        outline(torch.empty(shape, device="meta"))
    return counter.get_total_flops() // 2
