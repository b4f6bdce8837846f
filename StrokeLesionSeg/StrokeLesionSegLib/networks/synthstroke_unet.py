"""SynthStroke's network: MONAI's residual U-Net, written with torch alone.

Kerfoot et al., STACOM 2018, LNCS 11395, 371-380, as SynthStroke configures it (Chalcroft et al.,
MELBA 3 (2025), 317-346): residual units on the way down that begin with a stride, transposed
convolutions and one residual unit on the way up, instance normalisation without scale and shift,
PReLU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .window_unets import WindowNorm, _whole

_MOST_UNITS, _MOST_STAGES, _MOST_FEATURES = 8, 10, 4096
_EPS = 1e-5


class _Unit(nn.Module):
    """Convolution, instance normalisation, PReLU; ``plain``: the convolution alone."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        bias: bool,
        *,
        up: bool = False,
        plain: bool = False,
    ) -> None:
        super().__init__()
        padding = (kernel - 1) // 2
        self.conv: nn.Module
        if up:
            self.conv = nn.ConvTranspose3d(
                inputs, outputs, kernel, stride, padding, output_padding=stride - 1, bias=bias
            )
        else:
            self.conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=bias)
        self.norm = None if plain else WindowNorm(outputs, "instance", _EPS, False)
        if self.norm is not None:
            self.norm.spends = True
        self.act = None if plain else nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm is None or self.act is None:
            return x
        return self.act(self.norm(x))


class _ResidualUnit(nn.Module):
    """A chain of units and a shortcut, which is a convolution where size or features change."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        count: int,
        bias: bool,
        *,
        last_plain: bool = False,
    ) -> None:
        super().__init__()
        units = []
        for number in range(count):
            plain = last_plain and number == count - 1
            units.append(
                _Unit(
                    outputs if number else inputs,
                    outputs,
                    kernel,
                    1 if number else stride,
                    bias,
                    plain=plain,
                )
            )
        self.units = nn.Sequential(*units)
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            width = 1 if stride == 1 else kernel
            self.shortcut = nn.Conv3d(inputs, outputs, width, stride, (width - 1) // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        beside = x if self.shortcut is None else self.shortcut(x)
        return self.units(x) + beside


class SynthStrokeUNet(nn.Module):
    """The residual U-Net of MONAI in three dimensions.

    Parameters
    ----------
    in_channels, classes: channels in, and logits out.
    features: of each level, finest first; strides: between them, one fewer.
    units: units in a residual unit on the way down, at least 1.
    kernel, up_kernel: widths of the convolutions, odd. bias: of the convolutions.

    Raises ``ValueError`` for numbers that fit no network.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 2,
        features: Sequence[int] = (32, 64, 128, 256, 320, 320),
        strides: Sequence[int] = (2, 2, 2, 2, 2),
        units: int = 1,
        kernel: int = 3,
        up_kernel: int = 3,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if not 2 <= len(features) <= _MOST_STAGES or len(strides) != len(features) - 1:
            raise ValueError("features and strides do not fit each other")
        if not all(_whole(n, 1, _MOST_FEATURES) for n in (in_channels, classes, *features)):
            raise ValueError("impossible numbers of channels")
        if not all(_whole(n, 1, 16) for n in strides) or not _whole(units, 1, _MOST_UNITS):
            raise ValueError("impossible strides or numbers of units")
        if any(not _whole(n, 1, 15) or n % 2 == 0 for n in (kernel, up_kernel)):
            raise ValueError("kernels must be odd")
        self.in_channels, self.classes, self.dimensions = in_channels, classes, 3
        self.strides = [(1, 1, 1), *((n, n, n) for n in strides)]
        inputs = [in_channels, *features[:-1]]
        # The bottom level follows without a stride.
        self.down = nn.ModuleList(
            _ResidualUnit(a, b, kernel, stride, units, bias)
            for a, b, stride in zip(inputs, features, (*strides, 1), strict=True)
        )
        outputs = [classes, *features[:-2]]
        joined = [2 * n for n in features[:-2]] + [features[-2] + features[-1]]
        self.up = nn.ModuleList(
            nn.Sequential(
                _Unit(a, b, up_kernel, stride, bias, up=True),
                _ResidualUnit(b, b, kernel, 1, 1, bias, last_plain=level == 0),
            )
            for level, (a, b, stride) in enumerate(zip(joined, outputs, strides, strict=True))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(1, in_channels, X, Y, Z) to logits (1, classes, X, Y, Z); each axis a multiple of the
        product of the strides."""
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        skips.pop()
        for level in reversed(self.up):
            x = level(torch.cat([skips.pop(), x], 1))
        return x
