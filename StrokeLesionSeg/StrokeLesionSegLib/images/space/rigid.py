"""Rigid alignment of two scans of one person, through the space halfway between them.

Both scans are resampled, each by half of the movement, so that neither is blurred more than the
other: a bias that passes for change where only one is (Reuter et al., NeuroImage 61 (2012) 1402).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...brief import brief_repr
from ...errors import Cancelled
from ..volume import Grid, Volume

# Heads of one person resemble each other more than those of two: correlation of grey values after
# the alignment, over what both scans show of the head.
SAME_PERSON = 0.85
_STEPS_MM = (6.0, 3.0)
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class RigidAlignment:
    """How scan B lies to scan A.

    Attributes
    ----------
    matrix: 4x4 rigid, RAS mm of A to RAS mm of B.
    similarity: correlation of the two, aligned, over the head that both show; -1 to 1.
    halfway: the grid halfway between them, 1 mm.
    to_half_a, to_half_b: 4x4, RAS mm of A and of B to RAS mm of the halfway space.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Grid, RigidAlignment
    >>> grid = Grid((4, 4, 4), np.eye(4))
    >>> RigidAlignment(np.eye(4), 0.99, grid, np.eye(4), np.eye(4)).same_person
    True
    """

    matrix: NDArray[np.float64]
    similarity: float
    halfway: Grid
    to_half_a: NDArray[np.float64]
    to_half_b: NDArray[np.float64]

    __repr__ = brief_repr

    @property
    def same_person(self) -> bool:
        """Whether the two resemble each other as scans of one person do."""
        return self.similarity >= SAME_PERSON

    @property
    def turn_deg(self) -> float:
        """Angle between the two scans."""
        return float(np.degrees(np.arccos(np.clip((np.trace(self.matrix[:3, :3]) - 1) / 2, -1, 1))))


def nearest_rigid(matrix: NDArray[np.float64], about: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rigid transform nearest to an affine one, which moves the point ``about`` as that does.

    Examples
    --------
    >>> bool(np.allclose(nearest_rigid(np.diag([2.0, 2, 2, 1]), np.zeros(3)), np.eye(4)))
    True
    """
    u, _, vt = np.linalg.svd(matrix[:3, :3])
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rigid = np.eye(4)
    rigid[:3, :3] = u @ flip @ vt
    rigid[:3, 3] = matrix[:3, :3] @ about + matrix[:3, 3] - rigid[:3, :3] @ about
    return rigid


def half_of(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rigid transform that gives ``matrix`` when it is done twice.

    Examples
    --------
    >>> turn = np.array([[0.0, -1, 0, 4], [1, 0, 0, 2], [0, 0, 1, 6], [0, 0, 0, 1]])
    >>> bool(np.allclose(half_of(turn) @ half_of(turn), turn))
    True
    """
    from scipy.spatial.transform import Rotation

    half = np.eye(4)
    turn = Rotation.from_matrix(matrix[:3, :3])
    half[:3, :3] = Rotation.from_rotvec(turn.as_rotvec() / 2).as_matrix()
    half[:3, 3] = np.linalg.solve(half[:3, :3] + np.eye(3), matrix[:3, 3])
    return half


def inverse_of(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of a 4x4."""
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def align_rigid(
    a: Volume,
    b: Volume,
    start: NDArray[np.float64] | None = None,
    *,
    cancel: Callable[[], bool] | None = None,
) -> RigidAlignment:
    """How ``b`` lies to ``a``, two T1-weighted heads of one person on any grids.

    ``start``: 4x4, RAS mm of A to RAS mm of B, roughly; None puts the heads' centres of mass on
    each other. The same input gives the same answer but for rounding.

    Raises ``Cancelled`` if told so. Two heads of different people are aligned too, as well as
    that goes: see ``same_person``.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume, align_rigid
    >>> k, j, i = np.mgrid[-20:21, -20:21, -20:21]
    >>> ball = (k**2 / 300 + j**2 / 200 + (i - 3) ** 2 / 100 < 1) * (100.0 + 2 * i + k)
    >>> head = Volume(ball, np.diag([4.0, 4.0, 4.0, 1.0]))
    >>> bool(align_rigid(head, head).turn_deg < 0.2)
    True
    """
    centre_a = _centre(a)
    if start is None:
        start = np.eye(4)
        start[:3, 3] = _centre(b) - centre_a
    matrix = nearest_rigid(np.asarray(start, dtype=np.float64), centre_a)
    for step in _STEPS_MM:
        if cancel is not None and cancel():
            raise Cancelled("alignment was cancelled")
        matrix = _refined(a, b, matrix, step)
    half = half_of(matrix)
    to_half_b = inverse_of(half)
    similarity = _similarity(a, b, matrix)
    return RigidAlignment(matrix, similarity, _halfway_grid(a, b, matrix, 1.0), half, to_half_b)


def on_grid(
    volume: Volume, to_grid_world: NDArray[np.float64], grid: Grid, *, outside: float = 0.0
) -> NDArray[np.float32]:
    """A volume on another grid: float32 (K, J, I), linear. ``to_grid_world``: 4x4, RAS mm."""
    import SimpleITK as sitk

    # The whole affine goes into the transform: ITK's images know no shear.
    image = sitk.GetImageFromArray(np.asarray(volume.array, dtype=np.float32))
    to_index = np.linalg.inv(to_grid_world @ volume.affine) @ _LPS
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(to_index[:3, :3].ravel().tolist())
    transform.SetTranslation(to_index[:3, 3].tolist())
    like = _image(np.zeros(grid.shape, np.uint8), grid.affine)
    resampled = sitk.Resample(image, like, transform, sitk.sitkLinear, outside, sitk.sitkFloat32)
    return np.asarray(sitk.GetArrayFromImage(resampled))


def covered(
    grid: Grid, to_other: NDArray[np.float64], other: Grid, points: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which of ``points`` (3, N; voxel indices i, j, k of ``grid``) lie in the field of ``other``.

    ``to_other``: 4x4, RAS mm of ``grid`` to RAS mm of ``other``.
    """
    to_index = np.linalg.inv(other.affine) @ to_other @ grid.affine
    at = to_index[:3, :3] @ points + to_index[:3, 3:]
    limits = np.array(other.shape[::-1])[:, None]
    return np.asarray(((at >= -0.5) & (at <= limits - 0.5)).all(axis=0))


def _refined(
    a: Volume, b: Volume, matrix: NDArray[np.float64], step_mm: float
) -> NDArray[np.float64]:
    """``matrix`` after one registration of the two, both resampled halfway at ``step_mm``."""
    import SimpleITK as sitk

    half = half_of(matrix)
    grid = _halfway_grid(a, b, matrix, step_mm)
    spacing = step_mm / 2
    fixed, moving = (
        _image(on_grid(_smoothed(v, spacing), way, grid), grid.affine)
        for v, way in ((a, half), (b, inverse_of(half)))
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=step_mm / 2,
        minStep=0.01,
        numberOfIterations=60,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-6,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    k, j, i = grid.shape
    middle = _LPS @ grid.affine @ np.array([(i - 1) / 2, (j - 1) / 2, (k - 1) / 2, 1.0])
    rigid = sitk.Euler3DTransform()
    rigid.SetCenter(middle[:3].tolist())
    method.SetInitialTransform(rigid, inPlace=True)
    method.SetNumberOfThreads(1)  # sums in the same order every time
    method.Execute(fixed, moving)
    found = np.eye(4)
    found[:3, :3] = np.array(rigid.GetMatrix()).reshape(3, 3)
    centre = np.array(rigid.GetCenter())
    found[:3, 3] = np.array(rigid.GetTranslation()) + centre - found[:3, :3] @ centre
    moved = half @ (_LPS @ found @ _LPS) @ half
    return nearest_rigid(moved, _centre(a))


def _similarity(a: Volume, b: Volume, matrix: NDArray[np.float64]) -> float:
    """Correlation of the two, halfway at 3 mm, over the head that both show."""
    half = half_of(matrix)
    grid = _halfway_grid(a, b, matrix, _STEPS_MM[-1])
    sides = []
    for volume, way in ((a, half), (b, inverse_of(half))):
        grey = on_grid(_smoothed(volume, _STEPS_MM[-1] / 2), way, grid)
        field = on_grid(volume.with_array(np.ones(volume.array.shape, np.float32)), way, grid)
        sides.append((grey, field > 0.99))
    (first, there), (second, here) = sides
    both = there & here
    head = both & ((first > _floor(first[both])) & (second > _floor(second[both])))
    if head.sum() < 1000:
        return 0.0
    # Ranks: what coil, contrast and scaling do to grey values leaves their order nearly as it is.
    x, y = (_ranks(side[head]) for side in (first, second))
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    order = np.empty(len(values))
    order[np.argsort(values, kind="stable")] = np.arange(len(values))
    return order


def _floor(values: NDArray[np.float32]) -> float:
    """A grey value above the background."""
    return float(0.1 * np.percentile(values, 98)) if values.size else 0.0


def _smoothed(volume: Volume, sigma_mm: float) -> Volume:
    from scipy import ndimage

    sigma = [sigma_mm / s for s in volume.spacing[::-1]]
    return volume.with_array(ndimage.gaussian_filter(volume.array.astype(np.float32), sigma))


def _centre(volume: Volume) -> NDArray[np.float64]:
    """Centre of mass of what is bright, RAS mm."""
    array = volume.array[::2, ::2, ::2]
    k, j, i = np.nonzero(array > _floor(array.ravel()))
    if not len(k):
        k, j, i = (np.array([n / 2]) for n in array.shape)
    index = 2.0 * np.array([i.mean(), j.mean(), k.mean()])
    return np.asarray(volume.affine[:3, :3] @ index + volume.affine[:3, 3])


def _halfway_grid(a: Volume, b: Volume, matrix: NDArray[np.float64], spacing: float) -> Grid:
    """RAS grid in the halfway space around what both scans show."""
    half = half_of(matrix)
    boxes = []
    for volume, way in ((a, half), (b, inverse_of(half))):
        k, j, i = volume.array.shape
        corners = np.array(
            [[x, y, z, 1.0] for x in (0, i - 1) for y in (0, j - 1) for z in (0, k - 1)]
        )
        placed = (way @ volume.affine @ corners.T)[:3]
        boxes.append((placed.min(axis=1), placed.max(axis=1)))
    low = np.minimum(boxes[0][0], boxes[1][0])
    high = np.maximum(boxes[0][1], boxes[1][1])
    count = np.maximum(1, np.ceil((high - low) / spacing).astype(int) + 1)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = low
    return Grid((int(count[2]), int(count[1]), int(count[0])), affine)


def _image(array: NDArray, affine: NDArray[np.float64]):  # type: ignore[no-untyped-def]
    """An ITK image on a grid of ours: orthogonal axes."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    matrix = _LPS @ affine
    spacing = np.sqrt((matrix[:3, :3] ** 2).sum(axis=0))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    return image
