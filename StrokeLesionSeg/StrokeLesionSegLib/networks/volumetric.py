"""A residual U-Net over whole heads: works at 2 mm inside, takes and gives 1 mm.

The volumes of 1 mm are unshuffled to 2 mm (eight voxels become eight channels, as pixel shuffle
does in 2D: Shi et al. 2016, sec. 3) and the answer is shuffled back, so that the network does an
eighth of the work and loses no voxel. Five levels with residual blocks, as the residual U-Net of
the stroke papers (training/PAPERS.md), in three dimensions.

Two answers: lesion, and the lateral and third ventricles, which keeps the two apart.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: What the inputs are, and how many channels each has at 2 mm, in their order.
INPUTS = {"t1": 8, "t1_mirrored": 8, "template": 1, "clicks": 2, "previous": 8}
#: Input channels at 2 mm.
CHANNELS = sum(INPUTS.values())


def unshuffle(x: Tensor) -> Tensor:
    """(B, C, K, J, I) at 1 mm to (B, 8 C, K/2, J/2, I/2) at 2 mm; even sides."""
    b, c, k, j, i = x.shape
    x = x.reshape(b, c, k // 2, 2, j // 2, 2, i // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(b, c * 8, k // 2, j // 2, i // 2)


def shuffle(x: Tensor) -> Tensor:
    """(B, 8 C, K, J, I) at 2 mm to (B, C, 2 K, 2 J, 2 I) at 1 mm; undoes ``unshuffle``."""
    b, c, k, j, i = x.shape
    x = x.reshape(b, c // 8, 2, 2, 2, k, j, i).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(b, c // 8, 2 * k, 2 * j, 2 * i)


class HeadNorm(nn.Module):
    """Normalises each channel by its mean and variance over the head: instance normalisation.

    One head at a time through the batch norm kernel, which is several times faster than the
    instance norm one in channels last. A batch of two so equals two batches of one, bit for bit.
    Running statistics would not do: no head is like the mean of all.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        heads = [
            F.batch_norm(one, None, None, self.weight, self.bias, True, 0.0, 1e-5)
            for one in x.split(1)
        ]
        return heads[0] if len(heads) == 1 else torch.cat(heads)


class Conv3d(nn.Conv3d):
    """A convolution that oneDNN computes at every level.

    In float32 torch leaves convolutions of few voxels to slower code of its own, whatever the
    number of channels (``use_mkldnn`` in its ATen/native/Convolution.cpp, 2.5 to 2.13): at the
    deepest levels that is twice to three times the time.
    """

    def forward(self, x: Tensor) -> Tensor:
        if (
            isinstance(self.padding, str)
            or x.device.type != "cpu"
            or x.dtype != torch.float32
            or torch.is_autocast_enabled("cpu")
            or not torch.backends.mkldnn.is_available()
        ):
            return super().forward(x)
        return torch.mkldnn_convolution(
            x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = Conv3d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = HeadNorm(outputs)
        self.conv2 = Conv3d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = HeadNorm(outputs)
        self.skip = (
            Conv3d(inputs, outputs, 1, stride, bias=False)
            if inputs != outputs or stride != 1
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        # Without gradients no intermediate map is needed twice: at the finest level each has 20 MB.
        spare = not torch.is_grad_enabled()
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)), inplace=spare)))
        beside = x if self.skip is None else self.skip(x)
        return F.relu(y.add_(beside) if spare else y + beside, inplace=spare)


class VolumetricUNet(nn.Module):
    """(B, in_channels, K, J, I) at 2 mm to (B, 16, K, J, I) logits.

    The first eight are lesion at the 1 mm voxels of each 2 mm voxel, the other eight ventricle;
    ``shuffle`` brings both to 1 mm. Sides are multiples of 16 and at least twice that.
    ``filters``: channels of the levels, from the finest. With the defaults 4.7 million parameters
    and 43 GMAC for a head of 80 x 96 x 80.

    Examples
    --------
    >>> import torch
    >>> from StrokeLesionSegLib.networks import VolumetricUNet
    >>> network = VolumetricUNet(filters=(4, 8)).eval()
    >>> network(torch.zeros(1, network.in_channels, 32, 32, 32)).shape
    torch.Size([1, 16, 32, 32, 32])
    """

    def __init__(
        self, in_channels: int = CHANNELS, filters: tuple[int, ...] = (16, 32, 64, 128, 192)
    ) -> None:
        super().__init__()
        if len(filters) < 2 or min(filters) < 1 or in_channels < 1:
            raise ValueError(f"at least two levels and one channel, not {filters}, {in_channels}")
        self.in_channels, self.filters = in_channels, tuple(filters)
        sources = (in_channels, *filters[:-1])
        self.encoder = nn.ModuleList(
            _Residual(a, b, 1 if n == 0 else 2)
            for n, (a, b) in enumerate(zip(sources, filters, strict=True))
        )
        pairs = list(pairwise(filters))
        self.up = nn.ModuleList(nn.ConvTranspose3d(deep, fine, 2, 2) for fine, deep in pairs)
        self.decoder = nn.ModuleList(_Residual(2 * fine, fine) for fine, _ in pairs)
        self.head = Conv3d(filters[0], 16, 1)
        if not self.head.weight.is_meta:  # a mere outline, made to look at the shapes
            self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        with torch.no_grad():  # lesions are rare: a new network says no
            self.head.weight.mul_(0.2)
            if self.head.bias is not None:
                self.head.bias.fill_(-3.0)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for level in self.encoder:
            x = level(x)
            kept.append(x)
        kept.pop()
        for n in reversed(range(len(self.decoder))):
            x = self.decoder[n](torch.cat([self.up[n](x), kept.pop()], dim=1))
        return self.head(x)
