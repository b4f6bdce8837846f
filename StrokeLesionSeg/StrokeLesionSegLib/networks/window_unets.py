"""The networks of nnU-Net v2, written with torch alone: ``PlainConvUNet``, ``ResidualEncoderUNet``.

Plain: Isensee et al., Nature Methods 18 (2021), 203-211; the residual encoder: Isensee et al.,
MICCAI 2024, LNCS 15009, 488-498, with the blocks of ResNet-D (He et al., CVPR 2019). They take one
window at a time, (1, C, [D,] H, W), and return its logits, (1, classes, [D,] H, W): what is only
needed for training (deep supervision, dropout) is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .joined_up import JoinedUp

# torch's types tell tuples of two from tuples of three.
CONVOLUTIONS: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOLS: dict[int, Any] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_MOST_STAGES, _MOST_FEATURES, _MOST_LAYERS = 12, 4096, 64


class WindowNorm(nn.Module):
    """Instance normalisation of a single window, or batch normalisation with kept statistics.

    For one image both are one operation, with the statistics of the image or with those kept; and
    that operation knows channels-last memory, which torch's instance normalisation does not.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, kind: str, eps: float, affine: bool) -> None:
        super().__init__()
        if kind not in ("instance", "batch"):
            raise ValueError(f"normalisation must be instance or batch, not {kind!r}")
        self.kept, self.eps = kind == "batch", eps
        # Whether nobody needs the input any more.
        self.spends = False
        # None: plain numbers 1 and 0, and no tensors in a file.
        self.weight = nn.Parameter(torch.ones(features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(features)) if affine else None
        if self.kept:
            self.register_buffer("running_mean", torch.zeros(features))
            self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        if self.kept:
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, eps=self.eps
            )
        if len(x) != 1:
            return torch.cat([self.forward(one) for one in x.split(1)])
        if x[0, 0].numel() == 1:
            # One voxel has no variance: its difference from the mean is 0.
            shift = torch.zeros_like(x[0, :, :1].flatten()) if self.bias is None else self.bias
            return x * 0 + shift.view(1, -1, *[1] * (x.ndim - 2)).to(x.dtype)
        if self.spends and not torch.is_grad_enabled() and x.device.type == "cpu":
            return self._in_place(x)
        return functional.batch_norm(
            x, None, None, self.weight, self.bias, training=True, eps=self.eps
        )

    def _in_place(self, x: Tensor) -> Tensor:
        """The same operation in the memory of ``x``, which at full resolution is most there is."""
        operation: Any = torch.native_batch_norm
        # Mean and spread are float32 beside weights, which are; without any as the input is.
        kind = x.dtype if self.weight is None else torch.float32
        numbers = [x.new_empty(x.shape[1], dtype=kind) for _ in range(2)]
        return operation(
            x, self.weight, self.bias, None, None, True, 0.0, self.eps, out=(x, *numbers)
        )[0]


@dataclass(frozen=True)
class UnitStyle:
    """What all units of a network have in common: bias of the convolutions; kind, eps and affine of
    the normalisation; slope of the LeakyReLU, None for none; whether it comes first."""

    bias: bool
    norm: tuple[str, float, bool]
    slope: float | None
    activate_first: bool = False


class ConvUnit(nn.Module):
    """Convolution "same", normalisation and LeakyReLU, in this order unless it comes first."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        style: UnitStyle,
    ) -> None:
        super().__init__()
        self.conv = CONVOLUTIONS[len(kernel)](
            inputs,
            outputs,
            tuple(kernel),
            tuple(stride),
            tuple((n - 1) // 2 for n in kernel),
            bias=style.bias,
        )
        self.norm = WindowNorm(outputs, *style.norm)
        self.norm.spends = True
        self.slope, self.activate_first = style.slope, style.activate_first

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.slope is None:
            return self.norm(x)
        if self.activate_first:
            return self.norm(functional.leaky_relu(x, self.slope, inplace=not x.requires_grad))
        return functional.leaky_relu(self.norm(x), self.slope, inplace=not x.requires_grad)


class ResidualUnitD(nn.Module):
    """Two convolutions beside a shortcut: average pooling where they stride, 1x1 where features
    change; LeakyReLU after the sum."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        style: UnitStyle,
    ) -> None:
        super().__init__()
        assert style.slope is not None
        one = [1] * len(kernel)
        bare = replace(style, slope=None)
        self.conv1 = ConvUnit(inputs, outputs, kernel, stride, style)
        self.conv2 = ConvUnit(outputs, outputs, kernel, one, bare)
        self.slope = style.slope
        strided = any(n != 1 for n in stride)
        self.pool = _POOLS[len(kernel)](tuple(stride), tuple(stride)) if strided else None
        changed = inputs != outputs
        plain = replace(bare, bias=False)
        self.shortcut = ConvUnit(inputs, outputs, one, one, plain) if changed else None

    def forward(self, x: Tensor) -> Tensor:
        beside = x if self.pool is None else self.pool(x)
        if self.shortcut is not None:
            beside = self.shortcut(beside)
        x = self.conv2(self.conv1(x)) + beside
        return functional.leaky_relu(x, self.slope, inplace=not x.requires_grad)


class _UNet(nn.Module):
    """What both share: the way up, the head, and how stages are lined up on the way down.

    Parameters (of both networks)
    ----------
    dimensions: 2 or 3. in_channels, classes: channels in, and logits out.
    features, kernels, strides: of each stage on the way down, finest first.
    layers: convolutions (plain) or residual blocks (residual encoder) of each stage.
    decoder_layers: convolutions of each stage on the way up, coarsest first.
    bias: of the convolutions. norm: "instance" or "batch"; eps, affine: of it.
    slope: of the LeakyReLU; 0 is a ReLU. activate_first: before the normalisation (plain only).

    Raises ``ValueError`` for numbers that fit no network.
    """

    encoder: nn.ModuleList

    def __init__(
        self,
        dimensions: int,
        in_channels: int,
        classes: int,
        features: Sequence[int],
        kernels: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        layers: Sequence[int],
        decoder_layers: Sequence[int],
        bias: bool = True,
        norm: str = "instance",
        eps: float = 1e-5,
        affine: bool = True,
        slope: float = 0.01,
        *,
        activate_first: bool = False,
    ) -> None:
        super().__init__()
        self.dimensions, self.in_channels, self.classes = dimensions, in_channels, classes
        self.strides = [tuple(stride) for stride in strides]
        channels = (in_channels, classes)
        _check(dimensions, channels, features, kernels, strides, layers, decoder_layers)
        self._stages = list(zip(features, kernels, strides, layers, strict=True))
        self._style = UnitStyle(bias, (norm, eps, affine), slope, activate_first)
        ups, stages = [], []
        for number, count in enumerate(decoder_layers, 1):
            below, here = features[-number], features[-number - 1]
            stride, kernel = tuple(strides[-number]), kernels[-number - 1]
            ups.append(_TRANSPOSED[dimensions](below, here, stride, stride, bias=bias))
            stages.append(_chain(count, 2 * here, here, kernel, self._style))
        self.ups, self.decoder = nn.ModuleList(ups), nn.ModuleList(stages)
        self.head = CONVOLUTIONS[dimensions](features[0], classes, 1)

    def _way_down(self, inputs: int, stage: Callable[..., nn.Sequential]) -> nn.ModuleList:
        """The stages, each ``stage(count, inputs, outputs, kernel, style, stride)``."""
        stages = []
        for outputs, kernel, stride, count in self._stages:
            stages.append(stage(count, inputs, outputs, kernel, self._style, stride))
            inputs = outputs
        return nn.ModuleList(stages)

    def join(self) -> None:
        """Make each step up one of fewer operations (``JoinedUp``), for a network that is only
        asked any more: its parameters are others then."""
        for number, stage in enumerate(self.decoder):
            unit = cast(ConvUnit, cast(nn.Sequential, stage)[0])
            if not isinstance(self.ups[number], JoinedUp):
                self.ups[number] = JoinedUp(self.ups[number], unit.conv)
                unit.conv = nn.Identity()

    def _encode(self, x: Tensor) -> list[Tensor]:
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        return skips

    def forward(self, x: Tensor) -> Tensor:
        """(1, in_channels, [D,] H, W) to logits (1, classes, [D,] H, W); each axis a multiple of
        the product of its strides."""
        skips = self._encode(x)
        x = skips.pop()
        for up, stage in zip(self.ups, self.decoder, strict=True):
            joined = isinstance(up, JoinedUp)
            x = up(x, skips) if joined else torch.cat([up(x), skips.pop()], 1)
            # One by one: a call of the whole stage would keep its input until the end.
            for unit in cast(nn.Sequential, stage):
                x = unit(x)
        return self.head(x)


class PlainConvUNet(_UNet):
    """A U-Net whose stages are chains of convolutions; see ``_UNet`` for the arguments."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.encoder = self._way_down(self.in_channels, _chain)


class ResidualEncoderUNet(_UNet):
    """A U-Net with residual blocks on the way down; see ``_UNet`` for the arguments.

    ``stem``: features of the convolution before the first stage; None: those of that stage.
    """

    def __init__(self, *arguments: Any, stem: int | None = None, **options: Any) -> None:
        super().__init__(*arguments, activate_first=False, **options)
        features, kernel, *_ = self._stages[0]
        inputs = stem or features
        one = [1] * self.dimensions
        self.stem = ConvUnit(self.in_channels, inputs, kernel, one, self._style)
        self.encoder = self._way_down(inputs, _blocks)

    def _encode(self, x: Tensor) -> list[Tensor]:
        return super()._encode(self.stem(x))


def _chain(
    count: int,
    inputs: int,
    outputs: int,
    kernel: Sequence[int],
    style: UnitStyle,
    stride: Sequence[int] | None = None,
    unit: Callable[..., nn.Module] = ConvUnit,
) -> nn.Sequential:
    one = [1] * len(kernel)
    units = []
    for number in range(count):
        step = stride if stride is not None and number == 0 else one
        units.append(unit(inputs, outputs, kernel, step, style))
        inputs = outputs
    return nn.Sequential(*units)


_blocks = partial(_chain, unit=ResidualUnitD)


def _check(
    dimensions: int,
    channels: Sequence[int],
    features: Sequence[int],
    kernels: Sequence[Sequence[int]],
    strides: Sequence[Sequence[int]],
    layers: Sequence[int],
    decoder_layers: Sequence[int],
) -> None:
    """``channels``: those that go in and come out. Raises ``ValueError``."""
    if dimensions not in CONVOLUTIONS:
        raise ValueError(f"a network of {dimensions} dimensions")
    stages = len(features)
    if not 2 <= stages <= _MOST_STAGES:
        raise ValueError(f"{stages} stages")
    if {len(kernels), len(strides), len(layers), len(decoder_layers) + 1} != {stages}:
        raise ValueError("features, kernels, strides and layers are not of one length")
    if any(not _whole(n, 1, _MOST_FEATURES) for n in (*channels, *features)):
        raise ValueError("impossible numbers of channels")
    if any(not _whole(n, 1, _MOST_LAYERS) for n in (*layers, *decoder_layers)):
        raise ValueError("impossible numbers of layers")
    for row, most, what in ((kernels, 15, "kernels"), (strides, 16, "strides")):
        if any(len(v) != dimensions or not all(_whole(n, 1, most) for n in v) for v in row):
            raise ValueError(f"impossible {what}")
    if any(n % 2 == 0 for kernel in kernels for n in kernel):
        raise ValueError("kernels of even width")


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
