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
    """
    offset = torch.arange(slices, device=volume.device) - slices // 2
    where = (index.to(volume.device).view(-1, 1) + offset).clamp(0, len(volume) - 1)
    return volume[where]
