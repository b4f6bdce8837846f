"""Planes through the canonical volume as the network sees them: canonical slices, or oblique."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..inference.views import VIEW_AXES, SliceStack
from .types import Box

_VIEW_OF_AXIS = {axis: view for view, axis in VIEW_AXES.items()}


@dataclass(frozen=True, eq=False)
class Plane:
    """A rectangle of 1 mm pixels in the canonical volume, in size a multiple of the network's.

    Pixel (r, c) lies at ``origin + r * row + c * column`` (canonical ijk, in voxels of 1 mm).

    Attributes
    ----------
    view: the view that it is nearest to. shape: (rows, columns).
    index: the canonical slice that it is; None if it is none.
    wanted: the (rows, columns) that belong to the box that is searched.
    """

    view: str
    origin: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    shape: tuple[int, int]
    index: int | None
    wanted: tuple[slice, slice]

    def sample(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows, columns) float32 of a canonical array; linear, 0 outside of it."""
        if self.index is None:
            from scipy.ndimage import affine_transform

            # Array axes are k, j, i, the vectors i, j, k.
            matrix = np.stack([np.zeros(3), self.row[::-1], self.column[::-1]], axis=1)
            shape = (1, *self.shape)
            plane = affine_transform(array, matrix, self.origin[::-1], shape, order=1)
            return plane[0]
        axis = VIEW_AXES[self.view]
        out = np.zeros(self.shape, np.float32)
        if not 0 <= self.index < array.shape[axis]:
            return out
        plane = np.moveaxis(array, axis, 0)[self.index]
        here, there = self.window(plane.shape)
        out[here] = plane[there]
        return out

    def window(self, shape: tuple[int, int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Of a canonical slice: where it lies in this plane, and that part of the slice's array."""
        here, there = [], []
        for start, extent, size in zip(self.corner, self.shape, shape, strict=True):
            low, high = max(0, start), min(size, start + extent)
            here.append(slice(low - start, high - start))
            there.append(slice(low, high))
        return tuple(here), tuple(there)

    @property
    def corner(self) -> tuple[int, int]:
        """Of a canonical slice: the slice's own (row, column) of pixel (0, 0)."""
        inplane = [axis for axis in range(3) if axis != VIEW_AXES[self.view]]
        first, second = (round(float(self.origin[2 - axis])) for axis in inplane)
        return first, second

    def shifted(self, mm: int) -> Plane:
        """The parallel plane ``mm`` further on: superior, anterior or right of it, by its view."""
        axis = 2 - VIEW_AXES[self.view]
        normal = np.cross(self.row, self.column)
        normal = normal * (np.sign(normal[axis]) / np.linalg.norm(normal))
        index = None if self.index is None else self.index + mm
        return replace(self, origin=self.origin + mm * normal, index=index)

    def sample_mirrored(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """As ``sample``, of the array with left and right (i) exchanged."""
        if self.index is not None:
            return self.sample(array[:, :, ::-1])
        flip = np.array([-1.0, 1.0, 1.0])
        origin = self.origin * flip
        origin[0] += array.shape[2] - 1
        return replace(self, origin=origin, row=self.row * flip, column=self.column * flip).sample(
            array
        )

    def place(self, ijk: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 3) canonical ijk to (..., 3): row, column, and distance from the plane in mm."""
        relative = ijk - self.origin
        normal = np.cross(self.row, self.column)
        return np.stack([relative @ self.row, relative @ self.column, relative @ normal], axis=-1)

    def squared_distance(self, ijk: NDArray[np.float64]) -> NDArray[np.float64]:
        """(rows, columns): squared mm from canonical ``ijk`` to each pixel."""
        row, column, off = self.place(ijk)
        rows, columns = np.ogrid[: self.shape[0], : self.shape[1]]
        return (rows - row) ** 2 + (columns - column) ** 2 + off**2


def view_of(direction_ijk: NDArray[np.float64]) -> str:
    """The view whose slices are most nearly at right angles to ``direction_ijk``."""
    return _VIEW_OF_AXIS[2 - int(np.argmax(np.abs(direction_ijk)))]


def canonical_plane(
    shape: tuple[int, int, int], box: Box, view: str, index: int, multiple: int
) -> Plane:
    """The canonical slice ``index`` of a view, with the window that ``predict_volume`` shows."""
    axis = VIEW_AXES[view]
    stack = SliceStack(shape, box, view, multiple)
    origin, vectors = np.zeros(3), []
    origin[2 - axis] = index
    inplane = [a for a in range(3) if a != axis]
    for a, wanted in zip(inplane, stack.wanted, strict=True):
        origin[2 - a] = box[a].start - wanted.start
        vectors.append(np.eye(3)[2 - a])
    return Plane(view, origin, vectors[0], vectors[1], stack.size, int(index), stack.wanted)


def oblique_plane(
    point: NDArray[np.float64], normal: NDArray[np.float64], box: Box, multiple: int
) -> Plane | None:
    """The plane through ``point`` across ``normal`` (canonical ijk), as far as it is in ``box``.

    Its rows and columns run as nearly as they can along those of the nearest view. None if the
    plane misses the box. Raises ``ValueError`` for a normal of length 0.
    """
    length = float(np.linalg.norm(normal))
    if not length > 0:
        raise ValueError("a plane needs a normal")
    normal = normal / length
    view = view_of(normal)
    axis = VIEW_AXES[view]
    rows, columns = (2 - a for a in range(3) if a != axis)
    column = np.eye(3)[columns] - normal[columns] * normal
    column /= np.linalg.norm(column)
    row = np.cross(column, normal)
    row *= np.sign(row[rows])
    inside = _section(point, normal, box)
    if inside is None:
        return None
    relative = inside - point
    origin, shape, wanted = point.astype(np.float64).copy(), [], []
    for vector in (row, column):
        along = relative @ vector
        # Whole millimetres from the point, so that planes at right angles to an axis hit voxels.
        low, high = int(np.floor(along.min() + 0.01)), int(np.ceil(along.max() - 0.01)) + 1
        size = -(-(high - low) // multiple) * multiple
        before = (size - (high - low)) // 2
        origin += (low - before) * vector
        shape.append(size)
        wanted.append(slice(before, before + high - low))
    return Plane(view, origin, row, column, (shape[0], shape[1]), None, (wanted[0], wanted[1]))


def _section(
    point: NDArray[np.float64], normal: NDArray[np.float64], box: Box
) -> NDArray[np.float64] | None:
    """Corners (n, 3) of the polygon in which a plane cuts ``box``, ijk; None if it does not."""
    bounds = [(part.start, part.stop - 1) for part in box[::-1]]
    corners = np.array(list(itertools.product(*bounds)), np.float64)
    side = (corners - point) @ normal
    found = [corners[np.abs(side) < 1e-6]]
    for a, b in itertools.combinations(range(8), 2):
        if (corners[a] != corners[b]).sum() == 1 and side[a] * side[b] < 0:
            found.append(
                (corners[a] + (corners[b] - corners[a]) * side[a] / (side[a] - side[b]))[None]
            )
    points = np.concatenate(found)
    return points if len(points) else None
