"""The residual U-Net's blocks in three dimensions (PAPERS.md B13)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import activation

# Volumes leave room for one or two in a batch: statistics over a batch would be noise, so each
# volume is normalised by itself unless asked otherwise.
NORMS: dict[str, type[nn.Module]] = {"instance": nn.InstanceNorm3d, "batch": nn.BatchNorm3d}


def normalisation(norm: str, channels: int) -> nn.Module:
    """``norm`` is "instance" or "batch"; both with learned scale and shift."""
    return NORMS[norm](channels, affine=True)


class ConvBlock3D(nn.Sequential):
    """2 x (3x3x3 convolution "same", normalisation, ReLU).

    Input (N, in_channels, D, H, W), output (N, out_channels, D, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__(
            nn.Conv3d(in_channels, out_channels, 3, padding=1),
            normalisation(norm, out_channels),
            activation(),
            nn.Conv3d(out_channels, out_channels, 3, padding=1),
            normalisation(norm, out_channels),
            activation(),
        )


class ResidualBlock3D(nn.Module):
    """``y = Dropout(norm(ReLU(norm(conv2(conv1_stride2(x)))) + conv1x1x1_stride2(x)))``.

    The paper's block (A8) with a third axis: input (N, in_channels, D, H, W), output
    (N, out_channels, D/2, H/2, W/2). Dropout silences whole channels.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, stride=2, padding=1)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, padding=1)
        self.norm2 = normalisation(norm, out_channels)
        self.relu = activation()
        self.shortcut = nn.Conv3d(in_channels, out_channels, 1, stride=2)
        self.norm_out = normalisation(norm, out_channels)
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm2(self.conv2(self.conv1(x))))
        return self.dropout(self.norm_out(y + self.shortcut(x)))


class UpBlock3D(nn.Module):
    """2x2x2 transposed convolution of stride 2, concatenation with the skip, ConvBlock3D.

    ``forward(x, skip)``: x (N, in_channels, D, H, W), skip (N, skip_channels, 2D, 2H, 2W);
    returns (N, out_channels, 2D, 2H, 2W).
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(in_channels, out_channels, 2, stride=2)
        self.block = ConvBlock3D(out_channels + skip_channels, out_channels, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.block(torch.cat([skip, self.up(x)], dim=1))
