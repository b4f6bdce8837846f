"""Affine alignment of a T1 to MNI152 with SimpleITK: search, rigid, affine, and a verdict.

Everything runs on copies of the image and of the template reduced to 3 mm. The template is a brain
without skull, so the similarity is measured within its slightly dilated brain mask only: there, a
head with skull and a stripped brain look alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Cancelled
from .template import template_brain, template_head, template_t1
from .volume import Volume
from .window import apply_window, foreground_threshold, window_range

_STEP_MM = 3.0
# How far around the brain the similarity is measured: with skull, and without.
_SKULL_MM = 12.0
_RIM_MM = 4.0
# Coarse starts followed per template.
_STARTS = 6
# Starts refined, of all.
_REFINED = 2
# Centre of the template's brain in MNI RAS mm; rotations and scales are about it.
_CENTRE_MM = np.array([0.0, -18.0, 8.0])


@dataclass(frozen=True)
class Alignment:
    """Where a scan lies in MNI152 space, and whether that can be trusted.

    Attributes
    ----------
    matrix: 4x4 float64, native RAS mm to MNI RAS mm (identity if nothing could be found).
    ok: whether overlap, similarity and the matrix are within the bounds of a success.
    reason: one sentence that says why ``ok`` is false; empty if it is true.
    overlap: Dice of the moved image's foreground and the template's brain near the brain, 0 to 1.
    similarity: correlation with the template in the brain, -1 to 1.
    seconds: time it took.
    """

    matrix: NDArray[np.float64]
    ok: bool
    reason: str
    overlap: float
    similarity: float
    seconds: float


def align_to_mni(
    volume: Volume, *, seed: int = 0, cancel: Callable[[], bool] | None = None
) -> Alignment:
    """Affine transform from ``volume`` (RAS mm of its own affine) to MNI152 2009a RAS mm.

    ``volume`` is a T1-weighted head or stripped brain in any axis order; its origin does not
    matter, and neither does a wrong origin. The same input gives the same matrix bit for bit, and
    so does a copy of it with axes permuted or flipped. Nothing is raised for images that cannot be
    aligned: the result then has ``ok`` false and a ``reason``. ``cancel`` is asked at every
    iteration; ``Cancelled`` is raised when it returns true.
    """
    started = time.perf_counter()

    def check() -> None:
        if cancel is not None and cancel():
            raise Cancelled("alignment was cancelled")

    check()
    try:
        reduced = _reduce(volume)
    except ValueError as error:
        return Alignment(
            np.eye(4),
            False,
            f"There is nothing to align: {error}.",
            0.0,
            0.0,
            time.perf_counter() - started,
        )
    # Nobody has to say whether the skull is there: the template that explains the brain better
    # decides, judged within the brain, where both are the same.
    starts = [
        (_quality(reduced, start)[1], skull, start)
        for skull in (False, True)
        for start in _search(reduced, skull, check)
    ]
    starts.sort(key=lambda item: -item[0])
    overlap, similarity, to_native = 0.0, -1.0, np.eye(4)
    for _, skull, start in starts[:_REFINED]:
        candidate = _refine(reduced, skull, start, seed, check)
        quality = _quality(reduced, candidate)
        if quality[1] > similarity:
            (overlap, similarity), to_native = quality, candidate
    reason = _verdict(to_native, overlap, similarity)
    return Alignment(
        np.linalg.inv(to_native),
        not reason,
        reason,
        overlap,
        similarity,
        time.perf_counter() - started,
    )


# ------------------------------------------------------------------ reduced images


def _closest_ras(volume: Volume) -> Volume:
    """The same voxels with i, j, k running towards R, A, S as nearly as the grid allows."""
    from itertools import permutations

    columns = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    order = max(permutations(range(3)), key=lambda p: sum(abs(columns[a, p[a]]) for a in range(3)))
    array = volume.array.transpose(2 - order[2], 2 - order[1], 2 - order[0])
    affine = volume.affine[:, [*order, 3]].astype(np.float64)
    for axis in range(3):
        if affine[axis, axis] < 0:
            affine[:3, 3] += affine[:3, axis] * (array.shape[2 - axis] - 1)
            affine[:3, axis] *= -1
            array = np.flip(array, 2 - axis)
    # Flipping back and forth leaves rounding in the origin; it must not decide anything.
    return Volume(array, np.round(affine, 6))


def _reduce(volume: Volume) -> Volume:
    """Windowed float32 copy at 3 mm on RAS axes, around the origin-free centre of the field."""
    import SimpleITK as sitk

    source = _closest_ras(volume)
    limits = window_range(source.array)
    array = np.ascontiguousarray(source.array, dtype=np.float32)
    if not np.isfinite(array).all():
        array = np.nan_to_num(array, nan=limits[0], posinf=limits[1], neginf=limits[0])
    array = apply_window(array, limits, out=array if array is not volume.array else None)
    image = sitk.GetImageFromArray(array)
    factors = [max(1, int(_STEP_MM / s + 0.01)) for s in source.spacing]
    factors = [min(f, n) for f, n in zip(factors, image.GetSize(), strict=True)]
    image = sitk.BinShrink(image, factors)
    shrunk = np.eye(4)
    shrunk[:3, :3] = np.diag(factors)
    shrunk[:3, 3] = (np.array(factors) - 1) / 2.0
    affine = source.affine @ shrunk  # index of the shrunken grid to RAS mm
    image.SetOrigin((0.0, 0.0, 0.0))
    image.SetSpacing((1.0, 1.0, 1.0))

    size = np.array(image.GetSize())
    corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]) * (size - 1)
    world = corners @ affine[:3, :3].T + affine[:3, 3]
    low, high = world.min(axis=0), world.max(axis=0)
    shape_ijk = [int(n) for n in np.ceil((high - low) / _STEP_MM - 1e-6) + 1]
    transform = sitk.AffineTransform(3)
    inverse = np.linalg.inv(affine)
    transform.SetMatrix(inverse[:3, :3].ravel().tolist())
    transform.SetTranslation(inverse[:3, 3].tolist())
    out = sitk.Resample(
        image,
        shape_ijk,
        transform,
        sitk.sitkLinear,
        low.tolist(),
        (_STEP_MM,) * 3,
        np.eye(3).ravel().tolist(),
        0.0,
    )
    grid = np.eye(4) * _STEP_MM
    grid[3, 3] = 1.0
    grid[:3, 3] = low
    return Volume(_flatten(sitk.GetArrayFromImage(out), _STEP_MM), grid)


def _flatten(array: NDArray[np.float32], step_mm: float) -> NDArray[np.float32]:
    """Even out brightness: tissue about 0.7 everywhere, fat and vessels saturated at 1, air dark.

    Coil shading and bright scalp would otherwise outweigh the anatomy in the correlation.
    """
    from scipy import ndimage

    tissue = array > foreground_threshold(array)
    flat = array
    for _ in range(2):
        level = float(np.median(flat[tissue]))
        flat = np.minimum(flat, 1.5 * level)
        weight = ndimage.gaussian_filter(tissue.astype(np.float32), 25.0 / step_mm, truncate=3.0)
        local = ndimage.gaussian_filter(flat * tissue, 25.0 / step_mm, truncate=3.0)
        local = local / np.maximum(weight, 1e-3)
        flat = flat / np.maximum(local, 0.25 * level)
    return np.clip(0.7 * flat, 0.0, 1.0).astype(np.float32)


def _image(volume: Volume) -> Any:
    """SimpleITK image whose physical points are RAS mm (axis-parallel grids only)."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array, dtype=np.float32))
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetSpacing([float(s) for s in np.diag(volume.affine)[:3]])
    return image


@dataclass(frozen=True)
class _Target:
    """The template as the registration sees it, at 2 mm.

    t1: flattened intensities. mask: where the similarity is measured. brain: the brain itself.
    """

    t1: Volume
    mask: NDArray[np.bool_]
    brain: NDArray[np.bool_]


@lru_cache(maxsize=2)
def _target(skull: bool) -> _Target:
    from scipy import ndimage

    source = template_head() if skull else template_t1()
    brain = template_brain().array >= 128
    distance = ndimage.distance_transform_edt(~brain, sampling=2.0)
    # With skull, scalp belongs to the picture; the face and neck (below the brain) vary too much.
    mask = distance <= (_SKULL_MM if skull else _RIM_MM)
    t1 = ndimage.gaussian_filter(source.array.astype(np.float32) / 255.0, 0.7)
    return _Target(Volume(_flatten(t1, 2.0), source.affine), mask, brain)


@lru_cache(maxsize=8)
def _samples(skull: bool, every: int, sigma_mm: float) -> tuple[NDArray, NDArray, NDArray]:
    """Points (N, 3) in MNI mm, template values (N,) and brain membership, every n-th voxel."""
    from scipy import ndimage

    target = _target(skull)
    t1 = ndimage.gaussian_filter(target.t1.array, sigma_mm / 2.0)
    part = (slice(None, None, every),) * 3
    k, j, i = np.nonzero(target.mask[part])
    affine = target.t1.affine
    points = np.stack([i, j, k], axis=1) * every @ affine[:3, :3].T + affine[:3, 3]
    return points, t1[part][k, j, i].astype(np.float64), target.brain[part][k, j, i]


# ------------------------------------------------------------------ search of the start


def _compose(
    shift: NDArray, rotation_deg: tuple[float, float, float], scale: float, centre: NDArray
) -> NDArray[np.float64]:
    """MNI mm to native mm: scale and rotate about the brain's centre, which goes to ``shift``."""
    x, y, z = np.deg2rad(rotation_deg)
    rx = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    rz = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    out = np.eye(4)
    out[:3, :3] = rz @ ry @ rx * scale
    out[:3, 3] = shift - out[:3, :3] @ centre
    return out


def _search(reduced: Volume, skull: bool, check: Callable[[], None]) -> list[NDArray[np.float64]]:
    """Starts (MNI mm to native mm) whose coarse correlation is a local maximum, best first."""
    from scipy import ndimage

    points, values, _ = _samples(skull, 4, 6.0)
    values = values - values.mean()
    values /= np.linalg.norm(values)
    blurred = ndimage.gaussian_filter(reduced.array, 6.0 / _STEP_MM / 1.2)
    to_index = np.linalg.inv(reduced.affine)

    def score(parameters: NDArray) -> float:
        check()
        matrix = to_index @ _parameters_to_matrix(parameters)
        ijk = points @ matrix[:3, :3].T + matrix[:3, 3]
        seen = ndimage.map_coordinates(blurred, ijk.T[::-1], order=1, mode="constant", cval=0.0)
        seen = seen - seen.mean()
        norm = np.linalg.norm(seen)
        return float(values @ seen / norm) if norm > 1e-6 else -1.0

    trials = []
    for centre in _centres(reduced):
        for pitch in (-30.0, -15.0, 0.0, 15.0, 30.0):
            for dz in (-40.0, -20.0, 0.0, 20.0, 40.0):
                for dy in (-20.0, 0.0, 20.0):
                    p = np.array([*(centre + np.array([0.0, dy, dz])), pitch, 0.0, 0.0, 1.0])
                    trials.append((score(p), p))
    trials.sort(key=lambda item: -item[0])
    chosen: list[tuple[float, NDArray]] = []
    for value, p in trials:
        if all(_apart(p, other) > 20.0 for _, other in chosen):
            chosen.append((value, p))
        if len(chosen) == _STARTS:
            break
    climbed = sorted((_climb(score, p, s) for s, p in chosen), key=lambda item: -item[0])
    found: list[NDArray] = []
    for _, p in climbed:
        if all(_apart(p, other) > 5.0 for other in found):
            found.append(p)
    return [_parameters_to_matrix(p) for p in found]


def _apart(p: NDArray, q: NDArray) -> float:
    """How differently two parameter sets place the brain, in mm (1 degree moves its rim 1 mm)."""
    return float(np.linalg.norm(p[:6] - q[:6]))


def _parameters_to_matrix(p: NDArray) -> NDArray[np.float64]:
    return _compose(p[:3], (p[3], p[4], p[5]), p[6], _CENTRE_MM)


def _climb(
    score: Callable[[NDArray], float], start: NDArray, value: float
) -> tuple[float, NDArray]:
    """Coordinate ascent with shrinking steps (mm, degrees, scale)."""
    steps = np.array([8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 0.08])
    best = start
    while steps[0] >= 1.0:
        improved = False
        for axis in range(7):
            for sign in (1.0, -1.0):
                trial = best.copy()
                trial[axis] += sign * steps[axis]
                if not 0.75 <= trial[6] <= 1.3:
                    continue
                s = score(trial)
                if s > value:
                    best, value, improved = trial, s, True
                    break
        if not improved:
            steps = steps / 2.0
    return value, best


def _centres(reduced: Volume) -> list[NDArray[np.float64]]:
    """Guesses of the brain's centre in native RAS mm."""
    array = reduced.array
    mask = array > foreground_threshold(array)
    k, j, i = np.nonzero(mask)
    origin = reduced.affine[:3, 3]
    points = np.stack([i, j, k], axis=1) * _STEP_MM + origin
    guesses = [points.mean(axis=0)]
    # In a head with neck the brain lies in the upper part: the top 150 mm of what is not noise.
    area = mask.sum(axis=(1, 2)) * _STEP_MM**2
    solid = np.nonzero(area > 1500.0)[0]
    if solid.size:
        top = origin[2] + solid[-1] * _STEP_MM
        upper = points[(points[:, 2] > top - 150.0)]
        guess = upper.mean(axis=0)
        guess[2] = top - 80.0
        guesses.append(guess)
    return guesses


# ------------------------------------------------------------------ refinement


def _refine(
    reduced: Volume, skull: bool, start: NDArray, seed: int, check: Callable[[], None]
) -> NDArray[np.float64]:
    """Rigid with one scale, then affine, by SimpleITK; MNI mm to native mm."""
    import SimpleITK as sitk

    target = _target(skull)
    fixed = _image(target.t1)
    mask = sitk.Cast(
        _image(Volume(target.mask.astype(np.float32), target.t1.affine)), sitk.sitkUInt8
    )
    moving = _image(reduced)

    current = sitk.AffineTransform(3)
    current.SetCenter(_CENTRE_MM.tolist())
    current.SetMatrix(start[:3, :3].ravel().tolist())
    shift = start[:3, :3] @ _CENTRE_MM + start[:3, 3] - _CENTRE_MM
    current.SetTranslation(shift.tolist())

    rigid = sitk.Similarity3DTransform()
    rigid.SetCenter(_CENTRE_MM.tolist())
    rigid.SetMatrix(start[:3, :3].ravel().tolist(), 1e-6)
    rigid.SetTranslation(shift.tolist())

    def run(
        transform: Any, scales: list[float], shrink: list[int], sigmas: list[float], iterations: int
    ) -> None:
        method = sitk.ImageRegistrationMethod()
        # The sums of several threads arrive in varying order; one thread keeps every bit.
        method.SetNumberOfThreads(1)
        method.SetMetricAsCorrelation()
        method.SetMetricFixedMask(mask)
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(0.15, seed=seed + 1)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(
            0.2, 0.005, iterations, relaxationFactor=0.5, gradientMagnitudeTolerance=1e-8
        )
        method.SetOptimizerScales(scales)
        method.SetShrinkFactorsPerLevel(shrink)
        method.SetSmoothingSigmasPerLevel(sigmas)
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        method.SetInitialTransform(transform, inPlace=True)
        stopped = []

        def watch() -> None:
            try:
                check()
            except Cancelled:
                stopped.append(True)
                method.StopRegistration()

        method.AddCommand(sitk.sitkIterationEvent, watch)
        try:
            method.Execute(fixed, moving)
        except RuntimeError:
            # Too few overlapping samples: the verdict judges what has been reached.
            pass
        if stopped:
            raise Cancelled("alignment was cancelled")

    run(rigid, [4000.0] * 3 + [1.0] * 3 + [4000.0], [4], [4.0], 60)
    current.SetMatrix(rigid.GetMatrix())
    current.SetTranslation(rigid.GetTranslation())
    run(current, [1600.0] * 9 + [1.0] * 3, [4, 2], [4.0, 2.0], 100)

    out = np.eye(4)
    out[:3, :3] = np.array(current.GetMatrix()).reshape(3, 3)
    centre = np.array(current.GetCenter())
    out[:3, 3] = np.array(current.GetTranslation()) + centre - out[:3, :3] @ centre
    return out


# ------------------------------------------------------------------ verdict


def _quality(reduced: Volume, to_native: NDArray) -> tuple[float, float]:
    """Overlap and similarity of the image with the template (see :class:`Alignment`)."""
    from scipy import ndimage

    points, values, brain = _samples(False, 2, 2.0)
    matrix = np.linalg.inv(reduced.affine) @ to_native
    ijk = points @ matrix[:3, :3].T + matrix[:3, 3]
    smooth = ndimage.gaussian_filter(reduced.array, 0.7)
    seen = ndimage.map_coordinates(smooth, ijk.T[::-1], order=1, mode="constant", cval=0.0)
    inner = seen[brain]
    similarity = float(np.corrcoef(values[brain], inner)[0, 1]) if inner.std() > 1e-6 else 0.0
    threshold = 0.5 * float(np.median(inner))
    tissue = seen > max(threshold, 1e-3)
    overlap = 2.0 * float((tissue & brain).sum()) / max(1.0, float(tissue.sum() + brain.sum()))
    return overlap, similarity


def _verdict(to_native: NDArray, overlap: float, similarity: float) -> str:
    """Empty if the alignment can be trusted, else why not."""
    if not np.isfinite(to_native).all():
        return "The alignment did not converge."
    scales = np.linalg.svd(to_native[:3, :3], compute_uv=False)
    if np.linalg.det(to_native[:3, :3]) <= 0 or scales.min() < 0.7 or scales.max() > 1.4:
        return (
            "The alignment would stretch the brain beyond human sizes "
            f"(scales {scales.min():.2f} to {scales.max():.2f})."
        )
    if similarity < 0.5:
        return (
            f"The aligned scan does not resemble the MNI152 brain (correlation {similarity:.2f})."
        )
    if overlap < 0.7:
        return f"The aligned scan does not fill the MNI152 brain (overlap {overlap:.2f})."
    return ""
