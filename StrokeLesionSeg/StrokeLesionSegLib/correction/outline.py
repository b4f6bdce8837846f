"""An outline that is drawn in one slice, and what it makes of the slices around it.

In its own slice an outline is the last word. The slices around are moved as far as this one was,
the less the further away they are, and not at all from the next outline on: so a few outlines
correct a whole lesion, and what was right between them follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..boxes import EMPTY, Box, bounding_box, widen
from ..brief import brief_repr
from ..images.volume import Grid
from ..lesions.find import label_components
from .merge_rule import pieces_with

#: How far from its slice an outline reaches.
REACH_MM = 12.0
# Distances from an edge are told apart up to here; beyond lies another part of the head.
_FAR_MM = 12.0
# What the slices around lose contact with by following goes, too, if it is smaller than this.
_CRUMB_ML = 0.03
# Outlines in planes that are turned against each other by less, in degrees, hold one another.
_PARALLEL_COSINE = float(np.cos(np.radians(5)))


@dataclass(frozen=True, eq=False)
class Outline:
    """Where an outline was drawn. ``centre`` and ``normal`` (of length 1): (3,), RAS mm;
    ``radius_mm``: of the circle about the centre that holds it.

    Examples
    --------
    >>> from StrokeLesionSegLib.correction import Outline
    >>> square = np.array([(0.0, 0, 5), (4, 0, 5), (4, 4, 5), (0, 4, 5)])
    >>> drawn = Outline.along(square, np.array([0, 0, 2.0]))
    >>> drawn.centre.tolist(), round(drawn.radius_mm, 2)
    ([2.0, 2.0, 5.0], 2.83)
    """

    centre: NDArray[np.float64]
    normal: NDArray[np.float64]
    radius_mm: float

    __repr__ = brief_repr

    @classmethod
    def along(cls, points_ras: NDArray[np.float64], normal_ras: NDArray[np.float64]) -> Outline:
        """Of its points, (n, 3). Raises ``ValueError`` for none, and for a normal of length 0."""
        points = np.asarray(points_ras, np.float64).reshape(-1, 3)
        length = float(np.linalg.norm(normal_ras))
        if not len(points) or not length > 0 or not np.isfinite(points).all():
            raise ValueError("an outline has points, and a plane with a normal of some length")
        centre = points.mean(axis=0)
        radius = float(np.linalg.norm(points - centre, axis=1).max())
        return cls(centre, np.asarray(normal_ras, np.float64) / length, radius)

    def holds(self, other: Outline) -> float | None:
        """How far along our normal ``other`` lies, if it lies over this one; else None."""
        if abs(float(self.normal @ other.normal)) < _PARALLEL_COSINE:
            return None
        off = other.centre - self.centre
        along = float(off @ self.normal)
        beside = float(np.linalg.norm(off - along * self.normal))
        return along if beside < self.radius_mm + other.radius_mm else None


class _Sheets:
    """A grid in sheets of voxels: the nearest ones to a plane, and to those parallel to it.

    A sheet is (R, C), the grid's two axes that are not ``axis``; sheet 0 is that of the plane.
    """

    def __init__(self, grid: Grid, outline: Outline) -> None:
        slope = outline.normal @ grid.affine[:3, :3]  # along i, j, k
        self.axis = 2 - int(np.argmax(np.abs(slope)))
        self.others = tuple(n for n in range(3) if n != self.axis)
        across = slope[2 - self.axis]
        #: Whether a step up is one along the normal, and how far it leads.
        self.along, self.thickness_mm = across > 0, abs(float(across))
        tilt = [-slope[2 - n] / across for n in self.others]
        self.spacing = [
            float(np.linalg.norm(grid.affine[:3, 2 - n] + t * grid.affine[:3, 2 - self.axis]))
            for n, t in zip(self.others, tilt, strict=True)
        ]
        self._to_index = np.linalg.inv(grid.affine)
        middle = self.places(outline.centre[None])[0]
        rows, columns = np.ogrid[tuple(slice(0, grid.shape[n]) for n in self.others)]
        level = middle[self.axis] + sum(
            t * (place - middle[n])
            for t, place, n in zip(tilt, (rows, columns), self.others, strict=True)
        )
        self.level = np.floor(level + 0.5).astype(np.intp)
        self.count = grid.shape[self.axis]

    def places(self, points_ras: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) k, j, i, fractions."""
        ijk = points_ras @ self._to_index[:3, :3].T + self._to_index[:3, 3]
        return ijk[:, ::-1]

    def sheet(
        self, voxels: NDArray[np.bool_], step: int, window: tuple[slice, slice]
    ) -> tuple[tuple[NDArray[np.intp], ...], NDArray[np.bool_], NDArray[np.bool_]]:
        """Of the sheet that lies ``step`` further, the part in a window: the index of its voxels,
        which of them are in the grid, and what they hold, False beyond."""
        level = self.level[window] + step
        there = (level >= 0) & (level < self.count)
        rows, columns = np.ogrid[window]
        rows, columns = np.broadcast_arrays(rows, columns)
        index: list[NDArray[np.intp]] = [rows[there], columns[there]]
        index.insert(self.axis, level[there])
        held = np.zeros(level.shape, bool)
        held[there] = voxels[tuple(index)]
        return tuple(index), there, held


def outlined(
    mask: NDArray[np.bool_],
    grid: Grid,
    points_ras: NDArray[np.float64],
    normal_ras: NDArray[np.float64],
    *,
    lesion: bool = True,
    reach_mm: float = REACH_MM,
    earlier: Sequence[Outline] = (),
) -> tuple[Box, NDArray[np.bool_]]:
    """What a mask becomes by an outline.

    In its slice the inside is lesion, and every piece of the mask that it meets ends at it; or, if
    it goes around what is no lesion, the inside leaves the mask. How far that moved the edge, in
    mm, moves the edges in the slices around, too, falling to nothing over ``reach_mm``, or at the
    next one of ``earlier`` that lies over it. What that cuts off and is below .03 mL goes, too.

    Parameters
    ----------
    mask : (K, J, I) on ``grid``, any affine.
    points_ras : (n, 3), RAS mm along the outline, which closes itself; of a plane.
    normal_ras : (3,), across the plane, of any length.
    lesion : whether the inside is lesion.
    reach_mm : 0 changes its slice only.
    earlier : outlines whose slices stay as they are.

    Returns
    -------
    The smallest box of voxels that changed, ``EMPTY`` if none did, and the new mask in it.

    Raises
    ------
    ValueError : no points, or a normal of length 0.

    Examples
    --------
    >>> from StrokeLesionSegLib.correction import outlined
    >>> from StrokeLesionSegLib.images import Grid
    >>> grid = Grid((9, 9, 9), np.eye(4))
    >>> square = np.array([(1.5, 1.5, 4), (6.5, 1.5, 4), (6.5, 6.5, 4), (1.5, 6.5, 4)])
    >>> up = np.array([0.0, 0.0, 1.0])
    >>> box, found = outlined(np.zeros(grid.shape, bool), grid, square, up, reach_mm=0)
    >>> box, bool(found.all())
    ((slice(4, 5, None), slice(2, 7, None), slice(2, 7, None)), True)
    """
    drawn = Outline.along(points_ras, normal_ras)
    sheets = _Sheets(grid, drawn)
    whole = (slice(0, sheets.level.shape[0]), slice(0, sheets.level.shape[1]))
    _, there, before = sheets.sheet(mask, 0, whole)
    places = sheets.places(np.asarray(points_ras, np.float64).reshape(-1, 3))
    inside = within_polygon(places[:, sheets.others], before.shape) & there
    after = (before & ~pieces_with(inside, before)) | inside if lesion else before & ~inside
    window = _around(before != after, [_FAR_MM / s for s in sheets.spacing])
    if window is None:
        return EMPTY, np.zeros((0, 0, 0), bool)
    new = mask.copy()
    own, there, _ = sheets.sheet(mask, 0, window)
    new[own] = after[window][there]
    push = _depth(after[window], sheets.spacing) - _depth(before[window], sheets.spacing)
    for side in (1, -1):
        limit = _limit(drawn, earlier, reach_mm, sheets.thickness_mm, (side > 0) == sheets.along)
        step = 1
        while step * sheets.thickness_mm < limit:
            index, there, held = sheets.sheet(mask, side * step, window)
            if not there.any():
                break
            share = 1 - step * sheets.thickness_mm / limit
            new[index] = (_depth(held, sheets.spacing) + share * push > 0)[there]
            step += 1
    drawn_here = np.zeros(mask.shape, bool)
    drawn_here[own] = True
    box = bounding_box(new != mask)
    assert box is not None  # its own slice changed
    part = widen(box, 1, mask.shape)
    new[part] &= ~_crumbs(mask[part], new[part], drawn_here[part], _CRUMB_ML / grid.voxel_volume_ml)
    return box, new[box]


def within_polygon(corners: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which pixels have their middle in a polygon, (n, 2) rows and columns; where it crosses
    itself, those that lie in it an odd number of times."""
    crossed = np.zeros((shape[0], shape[1] + 1), np.int32)
    for (r0, c0), (r1, c1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = np.ceil(min(r0, r1)), np.ceil(max(r0, r1))
        rows = np.arange(max(0, int(low)), min(shape[0], int(high)))
        if len(rows):
            columns = np.ceil(c0 + (rows - r0) * (c1 - c0) / (r1 - r0))
            np.add.at(crossed, (rows, np.clip(columns, 0, shape[1]).astype(np.intp)), 1)
    return np.cumsum(crossed, axis=1)[:, :-1] % 2 == 1


def _crumbs(
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    drawn: NDArray[np.bool_],
    fewer_than: float,
) -> NDArray[np.bool_]:
    """Pieces of so few voxels that were cut off, without those in the slice that was ``drawn`` in.

    All arrays (K, J, I) with a rim in which nothing changed; a piece in it may go on beyond."""
    from scipy import ndimage

    labels = label_components(after, connectivity=26)
    small = np.bincount(labels.ravel()) < fewer_than
    cut = np.zeros(len(small), bool)
    cut[labels[ndimage.binary_dilation(before & ~after, np.ones((3, 3, 3)))]] = True
    for axis in range(3):
        for face in (0, -1):
            small[np.take(labels, face, axis)] = False
    small[labels[drawn]] = False
    small[0] = False
    return np.asarray((small & cut)[labels])


def _around(changed: NDArray[np.bool_], margin: Sequence[float]) -> tuple[slice, slice] | None:
    """The rectangle that holds what changed and a margin, in pixels; None if nothing did."""
    rows, columns = np.nonzero(changed)
    if not len(rows):
        return None
    first, second = (
        slice(max(0, int(n.min() - m)), min(size, int(np.ceil(n.max() + m)) + 1))
        for n, m, size in zip((rows, columns), margin, changed.shape, strict=True)
    )
    return first, second


def _depth(held: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float64]:
    """How deep in mm each pixel lies inside (more than 0) or outside (less)."""
    from scipy import ndimage

    if held.all() or not held.any():
        return np.full(held.shape, _FAR_MM if held.all() else -_FAR_MM)
    half = min(spacing) / 2  # the edge runs between the middles of two pixels
    deep = ndimage.distance_transform_edt(held, sampling=spacing)
    away = ndimage.distance_transform_edt(~held, sampling=spacing)
    return np.clip(np.where(held, deep - half, half - away), -_FAR_MM, _FAR_MM)


def _limit(
    drawn: Outline, earlier: Sequence[Outline], reach_mm: float, thickness_mm: float, along: bool
) -> float:
    """How far it reaches to one side."""
    limit = reach_mm
    for other in earlier:
        far = drawn.holds(other)
        # One in the same slice is replaced.
        if far is not None and abs(far) >= thickness_mm / 2 and (far > 0) == along:
            limit = min(limit, abs(far))
    return limit
