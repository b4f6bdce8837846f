"""U-Net of "Stroke detection by image segmentation with Residual U-Net", section 2.3.1 (A7)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from .blocks import ConvBlock, UpBlock
from .deep_supervision import auxiliary_heads, with_auxiliary

PAPER_FILTERS = (32, 64, 128, 256, 512)


class UNet(nn.Module):
    """Plain 2D U-Net.

    Input (N, in_channels, H, W) with H and W multiples of ``2 ** (len(filters) - 1)``;
    output logits (N, out_channels, H, W): the paper's sigmoid is left to the caller, since the
    losses are more stable on logits.

    With the paper's filters and one channel it has 7,765,409 parameters. With
    ``deep_supervision`` it returns a tuple of logits while training, see ``deep_supervision.py``.

    Examples
    --------
    >>> import torch
    >>> from StrokeLesionSegLib.networks import UNet
    >>> network = UNet(filters=(4, 8, 16)).eval()
    >>> network(torch.zeros(1, 1, 16, 16)).shape
    torch.Size([1, 1, 16, 16])
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        filters: Sequence[int] = PAPER_FILTERS,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        widths = [in_channels, *filters]
        self.encoder = nn.ModuleList(ConvBlock(a, b) for a, b in itertools.pairwise(widths[:-1]))
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = ConvBlock(filters[-2], filters[-1])
        self.decoder = nn.ModuleList(
            UpBlock(deep, shallow, shallow)
            for deep, shallow in zip(filters[:0:-1], filters[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(filters[0], out_channels, 1)
        self.auxiliary = auxiliary_heads(nn.Conv2d, filters, out_channels, deep_supervision)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottleneck(x)
        levels = []
        for up, skip in zip(self.decoder, reversed(skips), strict=True):
            x = up(x, skip)
            levels.append(x)
        return with_auxiliary(self, levels)
