"""The cascade that the CS230 paper proposes next (section 6; PAPERS.md B13): is there a lesion in
the slice, where is it, and which pixels are it; three networks, each trained for its own task."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ConvBlock, ResidualBlock
from .unet import UNet

# Logit of what lies outside of the box: 6e-6, small enough to be nothing and still finite.
OUTSIDE = -12.0


class SliceTrunk(nn.Sequential):
    """Stem and residual blocks down to a 4 x 4 map, then ``outputs`` numbers per slice.

    The map keeps a coarse position, which a global mean would lose and the box needs.
    Input (N, in_channels, H, W) of any size of at least 2 ** (len(filters) - 1) pixels; output
    (N, outputs).
    """

    def __init__(self, in_channels: int, filters: Sequence[int], outputs: int, dropout: float):
        blocks = [ResidualBlock(a, b, dropout) for a, b in itertools.pairwise(filters)]
        super().__init__(
            ConvBlock(in_channels, filters[0]),
            *blocks,
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(filters[-1] * 16, outputs),
        )


class Cascade(nn.Module):
    """Slice classifier, bounding box and mask in turn.

    Input (N, in_channels, H, W); output logits (N, 1, H, W). A pixel's probability is the slice's
    probability of holding lesion times the pixel's inside the predicted box, and about 0 outside
    of the box.

    Parameters
    ----------
    filters: widths of the classifier's and the box network's trunks.
    mask_filters: widths of the mask's U-Net.
    crop: height and width in pixels to which the box is resampled for the mask's network;
        multiples of ``2 ** (len(mask_filters) - 1)``.
    margin: share by which the box grows on each side before it is cut out, as it is rarely exact.

    Raises ``ValueError`` if ``crop`` does not suit ``mask_filters``.

    Examples
    --------
    >>> import torch
    >>> from StrokeLesionSegLib.networks import Cascade
    >>> network = Cascade(filters=(4, 8), mask_filters=(4, 8), crop=(16, 16)).eval()
    >>> network(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 1, 32, 32])
    """

    def __init__(
        self,
        in_channels: int = 1,
        filters: Sequence[int] = (16, 32, 64, 128),
        mask_filters: Sequence[int] = (32, 64, 128, 256),
        crop: Sequence[int] = (96, 96),
        margin: float = 0.2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        multiple = 2 ** (len(mask_filters) - 1)
        if any(n % multiple for n in crop):
            raise ValueError(f"crop must be multiples of {multiple}, not {tuple(crop)}")
        self.crop = (int(crop[0]), int(crop[1]))
        self.margin = margin
        self.classifier = SliceTrunk(in_channels, filters, 1, dropout)
        self.box = SliceTrunk(in_channels, filters, 4, dropout)
        self.mask = UNet(in_channels, 1, mask_filters)

    def slice_logits(self, x: Tensor) -> Tensor:
        """(N,) logits that a slice holds lesion."""
        return self.classifier(x)[:, 0]

    def boxes(self, x: Tensor) -> Tensor:
        """(N, 4) boxes (centre row, centre column, height, width) as shares of the image."""
        return torch.sigmoid(self.box(x))

    def cut(self, x: Tensor, boxes: Tensor) -> Tensor:
        """The grown boxes resampled to ``crop``: (N, C, *crop); 0 beyond the image."""
        theta = _theta(self.grow(boxes))
        grid = F.affine_grid(theta, [*x.shape[:2], *self.crop], align_corners=False)
        return F.grid_sample(x, grid, "bilinear", "zeros", align_corners=False)

    def grow(self, boxes: Tensor) -> Tensor:
        """Boxes with the margin on each side; none smaller than an eighth of the image, where
        resampling would only blow up noise."""
        size = (boxes[:, 2:] * (1 + 2 * self.margin)).clamp(0.125, 1.0)
        return torch.cat([boxes[:, :2], size], dim=1)

    def paste(self, crop: Tensor, boxes: Tensor, shape: Sequence[int]) -> Tensor:
        """The inverse of ``cut`` for logits: (N, 1, *shape), ``OUTSIDE`` beyond the box."""
        grown = self.grow(boxes)
        size = grown[:, 2:]
        theta = torch.zeros(len(boxes), 2, 3, device=crop.device, dtype=crop.dtype)
        theta[:, 0, 0] = 1 / size[:, 1]
        theta[:, 1, 1] = 1 / size[:, 0]
        theta[:, 0, 2] = (1 - 2 * grown[:, 1]) / size[:, 1]
        theta[:, 1, 2] = (1 - 2 * grown[:, 0]) / size[:, 0]
        grid = F.affine_grid(theta, [len(crop), 1, *shape], align_corners=False)
        # Shifted so that the sampler's zero outside of the crop means OUTSIDE.
        return F.grid_sample(crop - OUTSIDE, grid, "bilinear", "zeros", align_corners=False) + (
            OUTSIDE
        )

    def forward(self, x: Tensor) -> Tensor:
        boxes = self.boxes(x)
        pixels = self.paste(self.mask(self.cut(x, boxes)), boxes, x.shape[-2:])
        gate = self.slice_logits(x).view(-1, 1, 1, 1)
        log_p = (F.logsigmoid(gate) + F.logsigmoid(pixels)).clamp(max=-1e-6)
        return log_p - torch.log(-torch.expm1(log_p))


def _theta(boxes: Tensor) -> Tensor:
    """Affine maps (N, 2, 3), for ``affine_grid``, from a crop's unit square to the image's."""
    theta = torch.zeros(len(boxes), 2, 3, device=boxes.device, dtype=boxes.dtype)
    theta[:, 0, 0] = boxes[:, 3]
    theta[:, 1, 1] = boxes[:, 2]
    theta[:, 0, 2] = 2 * boxes[:, 1] - 1
    theta[:, 1, 2] = 2 * boxes[:, 0] - 1
    return theta


def true_boxes(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Bounding boxes of masks (N, 1, H, W), as ``Cascade.boxes`` gives them, and which slices
    have one: (N, 4) float, (N,) bool. An empty slice gets the whole image.

    Examples
    --------
    >>> import torch
    >>> from StrokeLesionSegLib.networks import true_boxes
    >>> mask = torch.zeros(2, 1, 8, 8)
    >>> mask[0, 0, 2:4, 4:8] = 1
    >>> boxes, found = true_boxes(mask)
    >>> boxes[0].tolist(), found.tolist()
    ([0.375, 0.75, 0.25, 0.5], [True, False])
    """
    height, width = mask.shape[-2:]
    hit = mask[:, 0] > 0.5
    found = hit.flatten(1).any(dim=1)
    sides = []
    for axis, length in ((2, height), (1, width)):
        along = hit.any(dim=axis).float()
        index = torch.arange(length, device=mask.device, dtype=torch.float32)
        first = torch.where(along > 0, index, torch.full_like(index, float(length))).amin(dim=1)
        last = (along * (index + 1)).amax(dim=1)
        sides.append((first / length, last / length))
    (top, bottom), (left, right) = sides
    boxes = torch.stack([(top + bottom) / 2, (left + right) / 2, bottom - top, right - left], dim=1)
    whole = torch.tensor([0.5, 0.5, 1.0, 1.0], device=mask.device)
    return torch.where(found.view(-1, 1), boxes, whole), found
