"""Losses by name (PAPERS.md A10, B3, B8): MONAI's and torch's, on logits, over the whole batch.

=====================  =======================================================================
``dice``               soft Dice, smooth 1 (A10)
``dice_ce``            soft Dice plus cross entropy (A10's alternative)
``weighted_ce``        cross entropy with lesion pixels weighted by ``positive_weight`` (B3)
``tversky``            ``1 - (TP + s) / (TP + a FP + b FN + s)``, s = 1 (B8): a = b = 1 is the
                       paper's equation 3, a = b = .5 is Dice
``focal``              focal loss, ``gamma``
``dice_focal``         soft Dice plus focal loss
=====================  =======================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from monai.losses import DeepSupervisionLoss, DiceCELoss, DiceFocalLoss, DiceLoss, FocalLoss
from monai.losses import TverskyLoss as MonaiTversky
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.networks import Cascade, true_boxes
from torch import Generator, Tensor, nn

_SMOOTH = {"smooth_nr": 1.0, "smooth_dr": 1.0}


def _weighted_ce(positive_weight: float = 1.0) -> nn.Module:
    return nn.BCEWithLogitsLoss(pos_weight=torch.tensor(float(positive_weight)))


def _tversky(a: float = 1.0, b: float = 1.0) -> nn.Module:
    return MonaiTversky(sigmoid=True, batch=True, alpha=a, beta=b, **_SMOOTH)


LOSSES: dict[str, Callable[..., nn.Module]] = {
    "dice": lambda: DiceLoss(sigmoid=True, batch=True, **_SMOOTH),
    "dice_ce": lambda: DiceCELoss(sigmoid=True, batch=True, **_SMOOTH),
    "weighted_ce": _weighted_ce,
    "tversky": _tversky,
    "focal": lambda gamma=2.0: FocalLoss(gamma=gamma),
    "dice_focal": lambda gamma=2.0: DiceFocalLoss(sigmoid=True, batch=True, gamma=gamma, **_SMOOTH),
}


class _InFloat32(DeepSupervisionLoss):
    """Under mixed precision logits come as bfloat16, whose sums over a batch are coarse."""

    def forward(self, input: Tensor | tuple[Tensor, ...], target: Tensor) -> Tensor:
        if isinstance(input, tuple):
            return super().forward([level.float() for level in input], target)
        return super().forward(input.float(), target)


def build_loss(spec: Mapping[str, Any]) -> nn.Module:
    """The loss that ``spec`` names: ``{"name": "tversky", "a": 0.3, "b": 0.7}``.

    Called with logits and a 0/1 mask of the same shape, (N, 1, H, W) or (N, 1, D, H, W). A tuple
    of logits, as networks with deep supervision give while training, is weighted 1, 1/2, 1/4 ...
    against the mask at each level's size.

    Raises ``InputError`` for an unknown name or option.
    """
    options = dict(spec)
    name = options.pop("name", None)
    if name not in LOSSES:
        raise InputError("loss", f"unknown loss {name!r}", f"Use {', '.join(LOSSES)}")
    try:
        return _InFloat32(LOSSES[name](**options))
    except TypeError as error:
        raise InputError("loss", f"{name}: {error}", "See papers/losses.py") from error


def cascade_loss(
    g: Generator, network: Cascade, x: Tensor, mask: Tensor, pixels: nn.Module
) -> Tensor:
    """Each part of the cascade on its own task: cross entropy for the slice, smooth L1 for the
    box of slices that have one, ``pixels`` for the mask within true boxes, shaken a little so that
    it learns to live with boxes that are not exact."""
    boxes, found = true_boxes(mask)
    loss = F.binary_cross_entropy_with_logits(network.slice_logits(x).float(), found.float())
    if not bool(found.any()):
        return loss
    loss = loss + F.smooth_l1_loss(network.boxes(x)[found].float(), boxes[found], beta=0.1)
    noise = torch.rand(boxes.shape, generator=g, device=g.device).to(boxes.device) - 0.5
    shaken = (boxes + 0.2 * noise * boxes[:, 2:].repeat(1, 2)).clamp(0.02, 1.0)
    crops = network.cut(torch.cat([x, mask], dim=1)[found], shaken[found])
    truth = (crops[:, -1:] > 0.5).float()
    return loss + pixels(network.mask(crops[:, :-1]), truth)
