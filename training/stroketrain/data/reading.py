"""One scan of ATLAS and its masks on the MNI152 grid, whichever space and axis order it has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from StrokeLesionSegLib.brief import brief_repr
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import (
    MNI_GRID,
    Volume,
    align_to_mni,
    apply_window,
    read_scan,
    to_canonical,
    window_range,
)

from .atlas import AtlasScan

WINDOW = (0.5, 99.5)
# The low end is taken of all voxels, so that it does not depend on how sharp the brain's edge is.
WINDOW_LOW_OF = "volume"
# Headers of a T1 and of its mask differ by rounding; half a voxel is another place.
_SAME_PLACE_MM = 0.25


@dataclass(frozen=True, eq=False)
class Labelled:
    """A windowed T1 (189, 233, 197) uint8 in 0..255 with its mask, uint8 0/1, on the MNI grid;
    ``to_mni`` is the 4x4 that was applied (native RAS mm to MNI RAS mm) or None; ``volume_ml`` is
    the lesion's volume in the scan's own space."""

    image: np.ndarray
    mask: np.ndarray
    to_mni: np.ndarray | None = None
    volume_ml: float = 0.0

    __repr__ = brief_repr


def unite_masks(scan: AtlasScan, t1: Volume) -> Volume:
    """The union of a scan's masks on the grid of its T1, uint8 0/1.

    A mask in another axis order than the T1 is turned; one of another shape or place raises
    ``InputError``, since nobody can know what it marks.
    """
    union = np.zeros(t1.array.shape, np.uint8)
    for path in scan.masks:
        volume = read_scan(path, allow_constant=True).volume
        if volume.grid.same_as(t1.grid, _SAME_PLACE_MM):
            union |= (volume.array > 0).astype(np.uint8)
            continue
        ours, theirs = to_canonical(t1), to_canonical(volume)
        if ours.exact and theirs.exact:
            same = theirs.volume.grid.same_as(ours.volume.grid, _SAME_PLACE_MM)
        else:
            same = False
        if not same:
            raise InputError(
                path,
                f"its grid of {volume.array.shape} voxels is not that of its T1, "
                f"{t1.array.shape} voxels",
                "Leave the scan out, or export the mask again",
            )
        from StrokeLesionSegLib.images import from_canonical

        turned = from_canonical((theirs.volume.array > 0).astype(np.float32), ours)
        union |= (turned.array > 0.5).astype(np.uint8)
    return Volume(union, t1.affine)


def read_labelled(scan: AtlasScan) -> Labelled:
    """Read one scan with its masks and bring both onto the MNI grid.

    Scans of R1 and R2 lie there already, but for the order of their axes. Native ones are aligned;
    the T1 is resampled linearly, the mask linearly and cut at one half.

    Raises ``InputError`` for unreadable files, masks that do not fit, a scan in MNI space on
    another grid, and a native one that cannot be aligned.
    """
    t1 = read_scan(scan.t1).volume
    truth = unite_masks(scan, t1)
    to_mni = None
    if scan.native:
        alignment = align_to_mni(t1)
        if not alignment.ok:
            raise InputError(
                scan.t1, f"alignment to MNI152 failed: {alignment.reason}", "Check the scan"
            )
        to_mni = alignment.matrix
        array = to_canonical(t1, alignment).volume.array
        soft = Volume(truth.array.astype(np.float32), truth.affine)
        mask = to_canonical(soft, alignment).volume.array > 0.5
    else:
        canonical = to_canonical(t1)
        if not (canonical.exact and canonical.volume.grid.same_as(MNI_GRID, 0.01)):
            raise InputError(
                scan.t1,
                f"its grid of {t1.array.shape} voxels is not the {MNI_GRID.shape} of ATLAS in MNI "
                "space",
                "Use the files registered to MNI152NLin2009aSym",
            )
        array = canonical.volume.array
        soft = Volume(truth.array.astype(np.float32), truth.affine)
        mask = to_canonical(soft).volume.array > 0.5
    window = window_range(array, *WINDOW, low_of=WINDOW_LOW_OF)
    image = np.round(apply_window(array, window) * 255).astype(np.uint8)
    volume_ml = float(truth.array.sum()) * t1.grid.voxel_volume_ml
    return Labelled(image, mask.astype(np.uint8), to_mni, volume_ml)
