"""Residual U-Net of "Stroke detection by image segmentation with Residual U-Net", section 2.3.2.

The paper replaces every encoder block by a residual block that halves the resolution itself, and
does not say where the skip connections are then taken. Both readings exist (rows A8 and A9):

``skip="block_input"``  the literal one: each skip is the *input* of a residual block, so the
    skips have in_channels, f0, f1, f2 channels at full to 1/8 resolution.
``skip="stem"``  a full-resolution ConvBlock of f0 channels comes first, residual blocks
    f1 .. f4 follow and the skips are the stem and the first three residual blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from .blocks import ConvBlock, ResidualBlock, UpBlock
from .deep_supervision import auxiliary_heads, with_auxiliary
from .unet import PAPER_FILTERS

SKIPS = ("block_input", "stem")


class ResidualUNet(nn.Module):
    """2D U-Net whose encoder is made of stride-2 residual blocks (A8, A9).

    Input (N, in_channels, H, W) with H and W multiples of ``2 ** (len(filters) - 1)``;
    output logits (N, out_channels, H, W). With ``deep_supervision`` it returns a tuple of logits
    while training, see ``deep_supervision.py``.

    Raises ``ValueError`` for an unknown ``skip``.

    Examples
    --------
    >>> import torch
    >>> from StrokeLesionSegLib.networks import ResidualUNet
    >>> network = ResidualUNet(in_channels=4, filters=(4, 8, 16)).eval()
    >>> network(torch.zeros(1, 4, 16, 16)).shape
    torch.Size([1, 1, 16, 16])
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        filters: Sequence[int] = PAPER_FILTERS,
        skip: str = "stem",
        dropout: float = 0.5,
        inner_activation: bool = False,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        if skip not in SKIPS:
            raise ValueError(f"skip must be one of {', '.join(SKIPS)}, not {skip!r}")
        self.skip = skip
        if skip == "stem":
            self.stem: nn.Module = ConvBlock(in_channels, filters[0])
            widths = list(filters)
            skip_channels = list(filters[:-1])
            self.bottleneck: nn.Module = nn.Identity()
        else:
            self.stem = nn.Identity()
            widths = [in_channels, *filters[:-1]]
            skip_channels = [in_channels, *filters[:-2]]
            self.bottleneck = ConvBlock(filters[-2], filters[-1])
        self.encoder = nn.ModuleList(
            ResidualBlock(a, b, dropout, inner_activation) for a, b in itertools.pairwise(widths)
        )
        self.decoder = nn.ModuleList(
            UpBlock(deep, skipped, shallow)
            for deep, skipped, shallow in zip(
                filters[:0:-1], reversed(skip_channels), filters[-2::-1], strict=True
            )
        )
        self.head = nn.Conv2d(filters[0], out_channels, 1)
        self.auxiliary = auxiliary_heads(nn.Conv2d, filters, out_channels, deep_supervision)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = self.stem(x)
        skips = []
        for block in self.encoder:
            skips.append(x)
            x = block(x)
        x = self.bottleneck(x)
        levels = []
        for up, skip in zip(self.decoder, reversed(skips), strict=True):
            x = up(x, skip)
            levels.append(x)
        return with_auxiliary(self, levels)
