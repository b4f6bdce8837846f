"""Grids in MNI space that scans for training are usually registered to."""

from __future__ import annotations

from dataclasses import dataclass

from ..window_settings import Space


@dataclass(frozen=True)
class MniGrid:
    """``shape`` (I, J, K) and the first voxel's centre (RAS mm), stored RAS; ``size`` in mm."""

    template: str
    shape: tuple[int, int, int]
    origin: tuple[float, float, float]
    size: float = 1.0

    def space(self, name: str, orientation: str) -> Space:
        """The same voxels, stored as ``orientation`` says."""
        pairs = ("RL", "AP", "SI")
        axes = [next(n for n, pair in enumerate(pairs) if c in pair) for c in orientation]
        affine = [[0.0] * 4 for _ in range(3)] + [[0.0, 0.0, 0.0, 1.0]]
        for column, (axis, letter) in enumerate(zip(axes, orientation, strict=True)):
            reverse = letter in "LPI"
            affine[axis][column] = -self.size if reverse else self.size
            last = self.size * (self.shape[axis] - 1)
            affine[axis][3] = self.origin[axis] + (last if reverse else 0.0)
        i, j, k = (self.shape[axis] for axis in axes)
        rows = tuple(tuple(row) for row in affine)
        return Space(name, orientation, (k, j, i), rows, self.template)


#: By the names that ``models install --space`` takes.
MNI_GRIDS = {
    "mni152-fsl-1mm": MniGrid("MNI152 (FSL, 6th generation)", (182, 218, 182), (-91, -126, -72)),
    "mni152-fsl-2mm": MniGrid("MNI152 (FSL, 6th generation)", (91, 109, 91), (-90, -126, -72), 2.0),
    "mni152-2009a-1mm": MniGrid("MNI152 2009a", (197, 233, 189), (-98, -134, -72)),
    "mni152-2009c-1mm": MniGrid("MNI152 2009c", (193, 229, 193), (-96, -132, -78)),
}


def grid_of_shape(shape_kji: tuple[int, ...], spacing: tuple[float, ...]) -> str | None:
    """The grid that scans of this median shape and spacing (both k, j, i) lie on; None if none."""
    for name, grid in MNI_GRIDS.items():
        same = sorted(shape_kji) == sorted(grid.shape)
        if same and all(abs(s - grid.size) < 1e-3 for s in spacing):
            return name
    return None
