"""The step up of a U-Net in fewer operations: transposed convolution and the convolution after it.

Between the two nothing but the skip is put beside, so that one transposed convolution with a wider
kernel says the same: its weights are the one kernel folded with the other. Of a step of 2 with a
kernel of 3 it multiplies 8 times per channel, where the two multiply 27 times and once; and nobody
has to hold both halves side by side.
"""

from __future__ import annotations

import itertools
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

_CONVOLVE: dict[int, Any] = {2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSE: dict[int, Any] = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}

# Numbers of a layer from which on its memory counts.
_LARGE = 1 << 25


def ready_to_ask(network: nn.Module, dimensions: int, device: str = "cpu") -> nn.Module:
    """A finished network of ``dimensions`` on ``device``, in the memory layout that is fastest; on
    a CPU with its steps up joined, if it has such. It is changed, and trains no more then."""
    if device == "cpu" and isinstance(network, Joins):
        network.join()
    on_device: Any = network.to(device)
    last = torch.channels_last if dimensions == 2 else torch.channels_last_3d
    return cast(nn.Module, on_device.to(memory_format=last))


@runtime_checkable
class Joins(Protocol):
    """A network that can join its steps up."""

    def join(self) -> None: ...


class JoinedUp(nn.Module):
    """``conv(cat([up(low), skip]))`` of a finished network, without what lies in between.

    Parameters
    ----------
    up: a transposed convolution whose kernel is its step.
    conv: a convolution "same", of odd kernel and step 1, of ``up``'s channels and the skip's.
    """

    def __init__(self, up: nn.Module, conv: nn.Module) -> None:
        super().__init__()
        first, second = cast(nn.ConvTranspose3d, up), cast(nn.Conv3d, conv)
        self.stride, self.padding = first.stride, cast("tuple[int, ...]", second.padding)
        self._dimensions = len(self.stride)
        convolve = _CONVOLVE[self._dimensions]
        with torch.no_grad():
            above, beside = second.weight.split(
                [first.out_channels, second.in_channels - first.out_channels], 1
            )
            wide = tuple(n - 1 for n in second.kernel_size)
            kernel = convolve(first.weight, above, padding=wide)
            self.kernel = nn.Parameter(kernel)
            self.beside = nn.Parameter(beside.clone())
            self.bias = None if second.bias is None else nn.Parameter(second.bias.clone())
            # What the first bias adds through each weight of the second kernel, (O, weights).
            self.through: nn.Parameter | None = None
            if first.bias is not None:
                through = torch.einsum("oi...,i->o...", above, first.bias)
                self.through = nn.Parameter(through.flatten(1))

    def forward(self, low: Tensor, skips: list[Tensor]) -> Tensor:
        """(1, C, [D,] H, W) and the last of ``skips``, ``stride`` times as long along each axis, to
        (1, O, ...) of that length. It is taken from ``skips``, so that its memory can be used."""
        y = _CONVOLVE[self._dimensions](skips.pop(), self.beside, self.bias, padding=self.padding)
        # In two halves where it is large, or the sum would be the most memory that a window takes;
        # bfloat16, where that is half as much, would lose time.
        halves = 2 if y.numel() >= _LARGE and y.dtype == torch.float32 else 1
        done = 0
        for kernel in self.kernel.chunk(halves, 1):
            part = y.narrow(1, done, kernel.shape[1])
            part += _TRANSPOSE[self._dimensions](
                low, kernel, stride=self.stride, padding=self.padding
            )
            done += kernel.shape[1]
        if self.through is not None:
            width = [2 * n + 1 for n in self.padding]
            self._add_bias(y, self.through.unflatten(1, width))
        return y

    def _add_bias(self, y: Tensor, through: Tensor) -> None:
        """Add the first bias: the same everywhere but at the border, where the second kernel
        reaches beyond the image."""
        axes = []
        for size, reach in zip(y.shape[2:], self.padding, strict=True):
            # Which of the kernel's weights lie in the image, by voxel; and voxels of one kind.
            kinds: dict[tuple[int, int], list[int]] = {}
            for n in range(size):
                inside = (max(0, reach - n), min(2 * reach + 1, size - n + reach))
                kinds.setdefault(inside, []).append(n)
            axes.append([(slice(*inside), slice(n[0], n[-1] + 1)) for inside, n in kinds.items()])
        for kind in itertools.product(*axes):
            weights = through[(slice(None), *(inside for inside, _ in kind))]
            part = y[(slice(None), slice(None), *(voxels for _, voxels in kind))]
            part += weights.flatten(1).sum(1).view(1, -1, *[1] * self._dimensions).to(y.dtype)
