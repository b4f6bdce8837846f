"""Batch normalisations of a network in evaluation mode, folded into their convolutions.

Exact up to rounding. A network that we do not know keeps what cannot be folded.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import nn


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """A copy of ``network`` (in evaluation mode, float32) with its batch normalisations folded.

    Folded are convolution and normalisation that follow each other in an ``nn.Sequential``, and
    the residual blocks of our own networks. The network given is not changed.
    Raises ``ValueError`` for a network in training mode.
    """
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    if network.training:
        raise ValueError("batch normalisations are folded in evaluation mode only")
    folded = copy.deepcopy(network)
    for module in list(folded.modules()):
        if isinstance(module, nn.Sequential):
            steps: Any = module  # torch's types know no item assignment
            for first in range(len(steps) - 1):
                conv, norm = steps[first], steps[first + 1]
                # Exactly these types: a subclass may compute something else.
                if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d:
                    steps[first] = fuse_conv_bn_eval(conv, norm)
                    steps[first + 1] = nn.Identity()
        for name, child in list(module.named_children()):
            replacement = _folded_residual(child)
            if replacement is not None:
                setattr(module, name, replacement)
    return folded


def _folded_residual(block: nn.Module) -> nn.Module | None:
    """The residual block (A8) without normalisations; None if ``block`` is none."""
    import torch
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    from ..networks.blocks import ResidualBlock

    if type(block) is not ResidualBlock:
        return None

    class FoldedResidualBlock(nn.Module):
        """BN(y + shortcut) = scale * y + BN(shortcut): one pass over memory instead of three."""

        scale: torch.Tensor

        def __init__(self, block: ResidualBlock) -> None:
            super().__init__()
            norm: Any = block.norm_out
            self.conv1 = block.conv1
            self.inner = inner = cast(Any, block.inner)
            if len(inner._modules) == 2:  # BN and ReLU between the convolutions
                self.conv1 = fuse_conv_bn_eval(block.conv1, inner[0])
                self.inner = inner[1]
            self.conv2 = fuse_conv_bn_eval(block.conv2, block.norm2)
            self.relu = block.relu
            self.shortcut = fuse_conv_bn_eval(block.shortcut, norm)
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            self.register_buffer("scale", scale.detach().clone().view(1, -1, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.relu(self.conv2(self.inner(self.conv1(x))))
            return torch.addcmul(self.shortcut(x), y, self.scale)

    return FoldedResidualBlock(block).eval()
