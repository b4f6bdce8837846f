"""Lesion volumes by the regions of an atlas."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..images import Deformation, Volume
from ..lesions.measure import LEFT, RIGHT
from ..lesions.regions import UNION, RegionTable, RegionVolume
from .atlas import Atlas, left_of
from .unions import unions_of

# By region and side: lesion volume in the scan and in MNI space, mL.
_Volumes = dict[tuple[str, str], tuple[float, float]]


def region_table(
    mask: Volume,
    to_mni: NDArray[np.float64],
    atlas: Atlas | None = None,
    deformation: Deformation | None = None,
) -> RegionTable:
    """Lesion volume by region and side, measured on the scan's own voxels.

    ``mask``: lesions (> 0) on any grid; ``to_mni``: 4x4, its RAS mm to MNI RAS mm. ``atlas``: None
    takes the one that is shipped. ``deformation``: what comes after ``to_mni``.

    Each lesion voxel counts for the region at its centre. The side
    is the region's, if its name has one; else that of the MNI mid-sagittal plane where the voxel
    lies (in it, half each). ``share_of_region`` is the lesion's part of the region's volume on
    that side, in MNI space.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.atlases import Atlas, region_table
    >>> atlas = Atlas("one", np.ones((4, 4, 4), np.int32), np.eye(4), {1: "box"})
    >>> mask = Volume(np.ones((4, 4, 8), np.uint8), np.eye(4))
    >>> table = region_table(mask, np.eye(4), atlas)
    >>> [(row.side, round(row.volume_ml, 3)) for row in table.rows], round(table.outside_ml, 3)
    ([('right', 0.056), ('left', 0.008)], 0.064)
    """
    if atlas is None:
        from .shipped import shipped_atlas

        atlas = shipped_atlas()
    k, j, i = np.nonzero(mask.array)
    voxel_ml = mask.grid.voxel_volume_ml
    mni = (to_mni @ mask.affine @ np.stack([i, j, k, np.ones(len(k))]).astype(np.float64))[:3]
    # What the alignment does to volumes, for the share of a region.
    growth = np.full(len(k), abs(float(np.linalg.det(to_mni[:3, :3]))))
    if deformation is not None:
        mni = deformation.to_template(mni)
        growth /= np.maximum(deformation.growth_at(mni), 0.05)
    value = _values_at(atlas, mni)
    left = left_of(mni[0])

    present, at = np.unique(value, return_inverse=True)
    every = np.bincount(at, minlength=len(present)) * voxel_ml
    lefts = np.bincount(at, weights=left, minlength=len(present)) * voxel_ml
    # The same in MNI space.
    every_mni = np.bincount(at, weights=growth, minlength=len(present)) * voxel_ml
    lefts_mni = np.bincount(at, weights=left * growth, minlength=len(present)) * voxel_ml
    volumes: _Volumes = {}
    outside = 0.0
    found = zip(present.tolist(), every, lefts, every_mni, lefts_mni, strict=True)
    for region, whole, part, whole_mni, part_mni in found:
        if region == 0:
            outside = float(whole)
            continue
        name, side = atlas.regions[region]
        pieces = {side: (whole, whole_mni)}
        if not side:
            pieces = {LEFT: (part, part_mni), RIGHT: (whole - part, whole_mni - part_mni)}
        for where, (ml, mni_ml) in pieces.items():
            before = volumes.get((name, where), (0.0, 0.0))
            volumes[name, where] = (before[0] + float(ml), before[1] + float(mni_ml))
    total = len(k) * voxel_ml
    rows = _rows(volumes, atlas.sizes_ml, total)
    unions = [
        _union(name, side, members, volumes, atlas.sizes_ml, total)
        for name, side, members in unions_of(atlas.sizes_ml)
    ]
    held = tuple(row for row in unions if row.volume_ml > 0)
    return RegionTable(
        atlas.title, (*rows, *held), outside, atlas.notes, deformable=deformation is not None
    )


def _values_at(atlas: Atlas, mni: NDArray[np.float64]) -> NDArray[np.int64]:
    """The atlas's values at points (3, N) in MNI RAS mm; 0 beyond its edges."""
    inverse = np.linalg.inv(atlas.affine)
    at = np.rint(inverse[:3, :3] @ mni + inverse[:3, 3:])
    limits = np.array(atlas.values.shape[::-1])[:, None]
    inside = ((at >= 0) & (at < limits)).all(axis=0)
    i, j, k = at[:, inside].astype(np.int64)
    value = np.zeros(mni.shape[1], dtype=np.int64)
    value[inside] = atlas.values[k, j, i]
    return value


def _rows(
    volumes: _Volumes, sizes: dict[tuple[str, str], float], total: float
) -> list[RegionVolume]:
    rows = [
        RegionVolume(name, side, ml, _share(mni_ml, sizes[name, side]), ml / total)
        for (name, side), (ml, mni_ml) in volumes.items()
        if ml > 0
    ]
    return sorted(rows, key=lambda row: (-row.volume_ml, row.region, row.side))


def _union(
    name: str,
    side: str,
    members: Iterable[str],
    volumes: _Volumes,
    sizes: dict[tuple[str, str], float],
    total: float,
) -> RegionVolume:
    keys = [(member, side) for member in members]
    parts = [volumes.get(key, (0.0, 0.0)) for key in keys]
    ml, mni_ml = sum(part[0] for part in parts), sum(part[1] for part in parts)
    size = sum(sizes[key] for key in keys)
    return RegionVolume(name, side, ml, _share(mni_ml, size), ml / total if total else None, UNION)


def _share(part: float, whole: float) -> float | None:
    return min(1.0, part / whole) if whole > 0 else None
