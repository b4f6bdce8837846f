"""Building blocks shared by the networks of the two papers (PAPERS.md rows A7 to A9)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def activation() -> nn.Module:
    return nn.ReLU(inplace=True)


class ConvBlock(nn.Sequential):
    """2 x (3x3 convolution "same", batch normalisation, ReLU): the basic block of the U-Net (A7).

    Input (N, in_channels, H, W), output (N, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            activation(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            activation(),
        )


class ResidualBlock(nn.Module):
    """Downsampling residual block (A8), literal reading of the paper's section 2.3.2:

    ``y = Dropout(BN(ReLU(BN(conv2(conv1_stride2(x)))) + conv1x1_stride2(x)))``

    Input (N, in_channels, H, W), output (N, out_channels, H/2, W/2).

    Parameters
    ----------
    inner_activation: put BN and ReLU between the two convolutions too. The paper names one
        normalisation and one ReLU, after the second convolution, so this is off by default.
    dropout: probability of the closing dropout (0.5 in the paper).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dropout: float = 0.5,
        inner_activation: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.inner = (
            nn.Sequential(nn.BatchNorm2d(out_channels), activation())
            if inner_activation
            else nn.Identity()
        )
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.relu = activation()
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=2)
        self.norm_out = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm2(self.conv2(self.inner(self.conv1(x)))))
        return self.dropout(self.norm_out(y + self.shortcut(x)))


class UpBlock(nn.Module):
    """2x2 transposed convolution of stride 2, concatenation with the skip, ConvBlock (A7).

    ``forward(x, skip)``: x (N, in_channels, H, W), skip (N, skip_channels, 2H, 2W);
    returns (N, out_channels, 2H, 2W).
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.block = ConvBlock(out_channels + skip_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.block(torch.cat([skip, self.up(x)], dim=1))
