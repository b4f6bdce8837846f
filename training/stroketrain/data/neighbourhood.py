"""Which planes of a scan are cut out with a slice: its neighbours and its mirror image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from StrokeLesionSegLib.models.channels import MIRROR, offset_mm
from torch import Tensor


@dataclass(frozen=True)
class Planes:
    """The planes beside a slice that a network is shown.

    Attributes
    ----------
    offsets: mm (voxels of the MNI grid) along the view's axis, in the order of the channels.
    mirror: whether the slice's mirror image is one of them, behind all others.
    """

    offsets: tuple[int, ...] = ()
    mirror: bool = False

    @staticmethod
    def of_channels(channels: Sequence[str]) -> Planes:
        """What channels of these names (``models.channels``) hold."""
        offsets = [offset_mm(name) for name in channels]
        return Planes(tuple(n for n in offsets if n is not None), MIRROR in channels)

    def of_image(self) -> list[tuple[int, bool]]:
        """(offset, mirrored) of every image plane, the slice itself first."""
        planes = [(n, False) for n in (0, *self.offsets)]
        return planes + [(0, True)] * self.mirror

    def names(self, channels: Sequence[str]) -> list[str]:
        """The channels that the image planes belong to, in their order."""
        beside = [name for name in channels if offset_mm(name) is not None]
        return ["t1", *beside] + [MIRROR] * self.mirror


SLICE_ALONE = Planes()


def painted_mirror(
    painted: Tensor, mirrored: Tensor, axis: int, places: Tensor, width: int
) -> Tensor:
    """The mirror image of slices that were painted since they were cut, as far as they reach.

    ``painted`` (B, 1, H, W): the slices; ``mirrored`` the same shape: their mirror images as cut
    out of the scan. ``places`` (B, 4): as in ``SliceStream``; ``width`` of the volumes along i. A
    sagittal slice's mirror image is another slice, and is returned as it is.
    """
    if axis == 2:
        return mirrored
    columns = torch.arange(painted.shape[-1], device=painted.device)
    # Column c of the patch is i = first + c, and shows width - 1 - i in the mirror.
    source = width - 1 - 2 * places[:, 3].to(painted.device).view(-1, 1) - columns
    there = (source >= 0) & (source < painted.shape[-1])
    index = source.clamp(0, painted.shape[-1] - 1).view(-1, 1, 1, painted.shape[-1])
    taken = painted.gather(3, index.expand_as(painted))
    return torch.where(there.view(-1, 1, 1, painted.shape[-1]), taken, mirrored)
