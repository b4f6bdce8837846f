"""Optional deep supervision: a head on every level of a U-Net's decoder, used in training only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn


def auxiliary_heads(
    convolution: Callable[..., nn.Module], filters: Sequence[int], out_channels: int, wanted: bool
) -> nn.ModuleList | None:
    """1x1 heads for the decoder's levels below full resolution, deepest first.

    None where not wanted, so that neither the state dict nor the number of parameters changes.
    """
    if not wanted:
        return None
    return nn.ModuleList(convolution(f, out_channels, 1) for f in filters[-2:0:-1])


def with_auxiliary(network: Any, levels: Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
    """Logits from the decoder's levels (deepest first).

    Outside of training, or without deep supervision, the logits at full resolution. In training
    with it, a tuple from full resolution down, each half the size of the one before.
    """
    full = network.head(levels[-1])
    if network.auxiliary is None or not network.training:
        return full
    deeper = [head(x) for head, x in zip(network.auxiliary, levels[:-1], strict=True)]
    return (full, *reversed(deeper))
