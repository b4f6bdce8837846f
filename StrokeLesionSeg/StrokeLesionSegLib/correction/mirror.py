"""The scan flipped across its mid-sagittal plane, so that both sides can be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Cancelled
from ..images.volume import Volume

if TYPE_CHECKING:
    from ..images import Alignment

Cancel = Callable[[], bool]

# The plane is looked for on a copy of about this voxel size, and then on a finer one.
_COARSE_MM, _FINE_MM = 6.0, 3.0
# How far the plane may be turned from the world's, in degrees, at the first look.
_TURNS = (-20, -10, 0, 10, 20)


def reflection(normal: NDArray[np.float64], offset: float) -> NDArray[np.float64]:
    """4x4 RAS mm to RAS mm: across the plane ``normal . x = offset``, ``normal`` of length 1."""
    matrix = np.eye(4)
    matrix[:3, :3] -= 2 * np.outer(normal, normal)
    matrix[:3, 3] = 2 * offset * normal
    return matrix


def mni_reflection(native_to_mni: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """4x4 native RAS mm to native RAS mm: left for right in MNI152 space.

    ``native_to_mni`` None stands for a scan that lies there already.
    """
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    if native_to_mni is None:
        return flip
    return np.linalg.inv(native_to_mni) @ flip @ native_to_mni


def mirrored_scan(
    volume: Volume, alignment: Alignment | None, cancel: Cancel | None = None
) -> NDArray[np.float32]:
    """The scan flipped across its mid-sagittal plane, float32 on its own grid and in its own
    intensities.

    The plane is that of ``alignment`` if there is one that holds (for a scan on the MNI grid it is
    the grid's), else the one about which the scan is most like its own mirror image, which takes
    one to three seconds.

    Parameters
    ----------
    volume : the scan, (K, J, I).
    alignment : of the scan, or None.
    cancel : asked while the plane is looked for.

    Returns
    -------
    (K, J, I) float32; see ``mirror``.

    Raises
    ------
    Cancelled : told so.

    Examples
    --------
    >>> from StrokeLesionSegLib.correction import mirrored_scan
    >>> from StrokeLesionSegLib.images import Alignment, Volume
    >>> affine = np.diag([1.0, 1.0, 1.0, 1.0])
    >>> affine[0, 3] = -1.0
    >>> as_it_lies = Alignment(np.eye(4), True, "", 1.0, 1.0, 0.0)
    >>> scan = Volume(np.array([[[1.0, 2.0, 5.0]]], np.float32), affine)
    >>> mirrored_scan(scan, as_it_lies).ravel().tolist()
    [5.0, 2.0, 1.0]
    """
    from ..images import lies_on_mni_grid

    if alignment is not None and alignment.ok:
        across = mni_reflection(alignment.matrix)
    elif alignment is None and lies_on_mni_grid(volume.grid):
        across = mni_reflection(None)
    else:
        across = reflection(*find_mirror_plane(volume, cancel))
    return mirror(volume, across)


def mirror(volume: Volume, across: NDArray[np.float64]) -> NDArray[np.float32]:
    """``volume`` at the mirror image of each voxel, float32 on its own grid; linear.

    Beyond its field of view: 0, or its minimum if that is negative. NaN counts as 0.
    """
    from ..images.space import resample

    array = np.asarray(volume.array, dtype=np.float32)
    if not np.isfinite(array.sum(dtype=np.float64)):
        array = np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)
    matrix = np.linalg.inv(volume.affine) @ across @ volume.affine
    fill = min(0.0, float(array.min()))
    shape = volume.grid.shape
    return resample.gather(array, matrix[:3, :3], matrix[:3, 3], shape, fill)


def find_mirror_plane(
    volume: Volume, cancel: Cancel | None = None
) -> tuple[NDArray[np.float64], float]:
    """(normal, offset in mm) of the plane about which the scan is most like its mirror image.

    Looked for among planes up to some 25 degrees from sagittal: normals near the RAS x axis. Takes
    one to three seconds. Raises ``Cancelled``. An image without contrast gives its middle plane.
    """
    from scipy.optimize import minimize

    def check() -> None:
        if cancel is not None and cancel():
            raise Cancelled("looking for the mirror plane was cancelled")

    check()
    points, values, _ = _reduced(volume, _COARSE_MM)
    if not len(points):
        k, j, i = volume.array.shape
        middle = volume.affine @ [(i - 1) / 2, (j - 1) / 2, (k - 1) / 2, 1.0]
        return np.array([1.0, 0.0, 0.0]), float(middle[0])
    weights = np.maximum(values, 0)
    centre = (points * weights[:, None]).sum(axis=0) / max(weights.sum(), 1e-9)
    coarse = _Likeness(volume, _COARSE_MM, centre)
    starts = [(a, b, 0.0) for a in np.radians(_TURNS) for b in np.radians(_TURNS)]
    scores = []
    for start in starts:
        check()
        scores.append(coarse(np.array(start)))
    best = np.array(starts[int(np.argmin(scores))])
    for likeness in (coarse, _Likeness(volume, _FINE_MM, centre)):
        simplex = best + np.array([[0, 0, 0], [0.08, 0, 0], [0, 0.08, 0], [0, 0, 0.3]])
        options = {"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-6, "maxiter": 120}
        likeness.check = check
        best = minimize(likeness, best, method="Nelder-Mead", options=options).x
    return _plane(best, centre)


def _plane(
    pose: NDArray[np.float64], centre: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Two turns in radians and a shift in cm to a normal and an offset in mm."""
    turn, tilt, shift = pose
    normal = np.array([1.0, np.tan(turn), np.tan(tilt)])
    normal /= np.linalg.norm(normal)
    return normal, float(normal @ centre + 10.0 * shift)


def _reduced(volume: Volume, step_mm: float) -> tuple[NDArray[Any], NDArray[Any], Volume]:
    """Places (n, 3) in RAS mm and values of the tissue in a reduced copy, and that copy."""
    from scipy.ndimage import uniform_filter

    array = np.asarray(volume.array, dtype=np.float32)
    if not np.isfinite(array.sum(dtype=np.float64)):
        array = np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)
    spacing = volume.grid.spacing[::-1]
    sides = zip(spacing, array.shape, strict=True)
    steps = [max(1, min(int(step_mm / s + 0.01), n)) for s, n in sides]
    smooth = uniform_filter(array, steps, mode="nearest") if max(steps) > 1 else array
    small = smooth[tuple(slice(s // 2, None, s) for s in steps)].astype(np.float64)
    affine = volume.affine.copy()
    affine[:3, :3] = volume.affine[:3, :3] * steps[::-1]
    affine[:3, 3] += volume.affine[:3, :3] @ [s // 2 for s in steps[::-1]]
    low, high = np.percentile(small, [1, 99])
    small = np.clip((small - low) / max(high - low, 1e-9), 0, 1)
    kji = np.argwhere(small > 0.1)
    places = kji[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
    return places, small[tuple(kji.T)], Volume(small, affine)


class _Likeness:
    """Minus the correlation of the reduced scan with its mirror image."""

    def __init__(self, volume: Volume, step_mm: float, centre: NDArray[np.float64]) -> None:
        self._points, self._values, self._small = _reduced(volume, step_mm)
        self._inverse = np.linalg.inv(self._small.affine)
        self._centre = centre
        self.check: Callable[[], None] = lambda: None

    def __call__(self, pose: NDArray[np.float64]) -> float:
        from scipy.ndimage import map_coordinates

        self.check()
        across = reflection(*_plane(pose, self._centre))
        whole = self._inverse @ across
        ijk = self._points @ whole[:3, :3].T + whole[:3, 3]
        other = map_coordinates(self._small.array, ijk[:, ::-1].T, order=1, mode="constant")
        a, b = self._values - self._values.mean(), other - other.mean()
        size = np.sqrt((a**2).sum() * (b**2).sum())
        return -float((a * b).sum() / size) if size > 0 else 0.0
