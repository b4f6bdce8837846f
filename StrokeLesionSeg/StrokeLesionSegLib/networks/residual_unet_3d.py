"""The volumetric model that the CS230 paper proposes next (section 6; PAPERS.md B13)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from .blocks3d import NORMS, ConvBlock3D, ResidualBlock3D, UpBlock3D
from .deep_supervision import auxiliary_heads, with_auxiliary


class ResidualUNet3D(nn.Module):
    """3D residual U-Net with a full-resolution stem, the volume sibling of ``ResidualUNet``.

    Input (N, in_channels, D, H, W) with D, H and W multiples of ``2 ** (len(filters) - 1)`` in the
    axis order (k, j, i); output logits (N, out_channels, D, H, W). With instance normalisation
    the deepest level needs more than one voxel while training.

    Parameters
    ----------
    norm: "instance" or "batch".
    deep_supervision: see ``deep_supervision.py``.

    Raises ``ValueError`` for an unknown ``norm``.

    Examples
    --------
    >>> import torch
    >>> from StrokeLesionSegLib.networks import ResidualUNet3D
    >>> network = ResidualUNet3D(filters=(4, 8, 16)).eval()
    >>> network(torch.zeros(1, 1, 8, 16, 16)).shape
    torch.Size([1, 1, 8, 16, 16])
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        filters: Sequence[int] = (16, 32, 64, 128),
        dropout: float = 0.1,
        norm: str = "instance",
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}, not {norm!r}")
        self.stem = ConvBlock3D(in_channels, filters[0], norm)
        self.encoder = nn.ModuleList(
            ResidualBlock3D(a, b, norm, dropout) for a, b in itertools.pairwise(filters)
        )
        self.decoder = nn.ModuleList(
            UpBlock3D(deep, shallow, shallow, norm)
            for deep, shallow in zip(filters[:0:-1], filters[-2::-1], strict=True)
        )
        self.head = nn.Conv3d(filters[0], out_channels, 1)
        self.auxiliary = auxiliary_heads(nn.Conv3d, filters, out_channels, deep_supervision)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = self.stem(x)
        skips = []
        for block in self.encoder:
            skips.append(x)
            x = block(x)
        levels = []
        for up, skip in zip(self.decoder, reversed(skips), strict=True):
            x = up(x, skip)
            levels.append(x)
        return with_auxiliary(self, levels)
