"""Receptive fields: how much of a slice the deepest layer sees (PAPERS.md B10).

The CS230 paper wants the deepest convolution to see about a lesion (section 5): compare
``encoder_receptive_field`` in pixels (mm on the 1 mm grid) with the lesions' diameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from .blocks import ResidualBlock
from .blocks3d import ResidualBlock3D
from .cs230 import CS230Network
from .unet import UNet

_REACHING = (nn.Conv2d, nn.Conv3d, nn.MaxPool2d, nn.AvgPool2d)


@dataclass(frozen=True)
class ReceptiveField:
    """``size``: pixels that one unit sees along an axis; ``stride``: pixels between two
    neighbouring units."""

    size: int
    stride: int


def receptive_field(layers: Iterable[tuple[int, int]]) -> ReceptiveField:
    """Receptive field after a chain of layers given as (kernel, stride), from the input on.

    Each layer adds ``(kernel - 1)`` units of the stride so far.

    Examples
    --------
    >>> from StrokeLesionSegLib.networks import receptive_field
    >>> receptive_field([(3, 1), (2, 2), (3, 1)])
    ReceptiveField(size=8, stride=2)
    """
    size = stride = 1
    for kernel, step in layers:
        size += (kernel - 1) * stride
        stride *= step
    return ReceptiveField(size, stride)


def _first(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]


def _chain(module: nn.Module) -> list[nn.Module]:
    """Convolutions and poolings of ``module`` in order; of a residual block the longer way."""
    if isinstance(module, (ResidualBlock, ResidualBlock3D)):
        return [module.conv1, module.conv2]
    if isinstance(module, _REACHING):
        return [module]
    return [layer for child in module.children() for layer in _chain(child)]


def contracting_path(network: nn.Module) -> list[nn.Module]:
    """Convolutions and poolings from the input to the deepest layer.

    For the U-Nets, residual U-Nets (2D, 2.5D, 3D) and the CS230 network up to its fully connected
    layers. Raises ``ValueError`` for another network.
    """
    if isinstance(network, CS230Network):
        return _chain(network.encoder)
    if isinstance(network, UNet):
        pool: list[nn.Module] = [network.pool]
        path = [layer for block in network.encoder for layer in _chain(block) + pool]
        return path + _chain(network.bottleneck)
    parts = dict(network.named_children())
    if "stem" in parts and "encoder" in parts:
        path = _chain(parts["stem"]) + _chain(parts["encoder"])
        return path + (_chain(parts["bottleneck"]) if "bottleneck" in parts else [])
    raise ValueError(f"no contracting path known for {type(network).__name__}")


def encoder_receptive_field(network: nn.Module) -> ReceptiveField:
    """Receptive field of one unit of the deepest layer, see ``contracting_path``.

    Examples
    --------
    >>> from StrokeLesionSegLib.networks import UNet, encoder_receptive_field
    >>> encoder_receptive_field(UNet(filters=(4, 8, 16)))
    ReceptiveField(size=32, stride=4)
    """
    return receptive_field(
        (_first(layer.kernel_size), _first(layer.stride))  # type: ignore[arg-type]
        for layer in contracting_path(network)
    )


def measured_receptive_field(path: Iterable[nn.Module], size: int, channels: int = 1) -> int:
    """The same measured: pixels of a ``size`` x ``size`` input with influence on one deep unit.

    Runs copies of the layers with all weights one and mean instead of maximum, so that no
    influence cancels, and looks at the gradient. For 2D paths; the check of the formula.
    """
    layers: list[nn.Module] = []
    for layer in path:
        if isinstance(layer, nn.Conv2d):
            same = nn.Conv2d(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,  # type: ignore[arg-type]
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                bias=False,
            ).double()
            nn.init.constant_(same.weight, 1.0 / same.weight[0].numel())
            layers.append(same)
        else:
            layers.append(nn.AvgPool2d(_first(layer.kernel_size)))  # type: ignore[arg-type]
    x = torch.zeros(1, channels, size, size, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        y = nn.Sequential(*layers)(x)
        y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
    assert x.grad is not None
    hit = torch.nonzero(x.grad[0].abs().sum(dim=(0, 2)))
    return int(hit.max() - hit.min()) + 1
