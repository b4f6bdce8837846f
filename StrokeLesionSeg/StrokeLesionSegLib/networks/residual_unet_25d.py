"""Residual U-Net that sees a slice's neighbours as channels: "2.5D" (PAPERS.md B13)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .residual_unet import ResidualUNet


class ResidualUNet25D(ResidualUNet):
    """2D residual U-Net on ``slices`` neighbouring slices; predicts the middle one.

    Input (N, slices * in_channels, H, W), the slices in ascending order and each with its
    channels; output logits (N, out_channels, H, W) of the middle slice. ``neighbours`` builds the
    input from a volume. Further arguments are those of ``ResidualUNet``.

    Raises ``ValueError`` if ``slices`` is not an odd number of at least 1.

    Examples
    --------
    >>> import torch
    >>> from StrokeLesionSegLib.networks import ResidualUNet25D, neighbours
    >>> network = ResidualUNet25D(slices=5, filters=(4, 8, 16)).eval()
    >>> planes = neighbours(torch.zeros(20, 16, 16), torch.tensor([0, 10]), 5)
    >>> network(planes).shape
    torch.Size([2, 1, 16, 16])
    """

    def __init__(self, slices: int = 5, in_channels: int = 1, **arguments: Any) -> None:
        if slices < 1 or slices % 2 == 0:
            raise ValueError(f"slices must be odd and at least 1, not {slices}")
        super().__init__(in_channels=slices * in_channels, **arguments)
        self.slices = slices


def neighbours(volume: Tensor, index: Tensor, slices: int) -> Tensor:
    """Slices around each of ``index`` as channels.

    ``volume`` (K, H, W), ``index`` (N,) integers in [0, K); returns (N, slices, H, W). Beyond the
    ends the last slice is repeated.

    Examples
    --------
    >>> import torch
    >>> from StrokeLesionSegLib.networks import neighbours
    >>> volume = torch.arange(4.0).view(4, 1, 1)
    >>> neighbours(volume, torch.tensor([0, 2]), 3).flatten(1).tolist()
    [[0.0, 0.0, 1.0], [1.0, 2.0, 3.0]]
    """
    offset = torch.arange(slices, device=volume.device) - slices // 2
    where = (index.to(volume.device).view(-1, 1) + offset).clamp(0, len(volume) - 1)
    return volume[where]
