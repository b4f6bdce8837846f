"""Affine alignment of a T1 to MNI152 with SimpleITK: search, rigid, affine, and a verdict.

Everything runs on copies of the scan and of the template reduced to 2 to 3 mm, and in RAS mm.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import Cancelled
from ..volume import Volume
from .alignment import Alignment
from .registration_start import (
    CENTRE_MM,
    fit_quality,
    healthy_mask,
    healthy_similarity,
    reduce_scan,
    search_starts,
    smooth_copy,
    target,
)

# Starts refined at most; the second only if the first did not convince.
_REFINED = 2
_CONVINCING = 0.76

# Bounds of a success. Scans reach a similarity of 0.84 to 0.95, with a cavity of 300 mL too. Axes
# with wrong labels (front for back), phantoms, noise, half a head, inverted contrast: 0.70 at most.
_MIN_SIMILARITY = 0.73
_MIN_OVERLAP = 0.75
_SCALES = (0.65, 1.35)
_MAX_ANISOTROPY = 1.6


def align_to_mni(
    volume: Volume, *, seed: int = 0, cancel: Callable[[], bool] | None = None
) -> Alignment:
    """Affine transform from ``volume`` (RAS mm of its own affine) to MNI152 2009a RAS mm.

    ``volume`` is a T1-weighted head or stripped brain in any axis order. Its origin does not
    matter, and tilts up to about 30 degrees do not; an image whose header has left and right or
    top and bottom wrong cannot be aligned (left for right is not noticed). The same input gives
    the same matrix bit for bit, and so does a copy of it with axes permuted or flipped. Nothing is
    raised for images that cannot be aligned: the result then has ``ok`` false and a ``reason``.

    ``seed`` places the samples of the similarity. ``cancel`` is asked at every iteration;
    ``Cancelled`` is raised when it returns true.
    """
    started = time.perf_counter()

    def check() -> None:
        if cancel is not None and cancel():
            raise Cancelled("alignment was cancelled")

    def result(matrix: NDArray, reason: str, overlap: float, similarity: float) -> Alignment:
        seconds = time.perf_counter() - started
        return Alignment(matrix, not reason, reason, overlap, similarity, seconds)

    check()
    try:
        reduced = reduce_scan(volume)
    except (ValueError, np.linalg.LinAlgError) as error:
        return result(np.eye(4), f"There is nothing to align: {error}.", 0.0, 0.0)
    smooth = smooth_copy(reduced)
    starts = [(fit_quality(smooth, start)[1], start) for start in search_starts(reduced, check)]
    starts.sort(key=lambda item: -item[0])
    best, overlap, fit, similarity = np.eye(4), 0.0, -1.0, -1.0
    for before, start in starts[:_REFINED]:
        # Nobody has to say whether the skull is there: the template that fits better goes first.
        for skull in sorted((False, True), key=lambda s: -fit_quality(smooth, start, s)[1]):
            pose = _refine(reduced, smooth, start, skull, seed, check)
            quality = fit_quality(smooth, pose)
            # The refinement fits the outline too, which may cost a little within; not more.
            sound = not _absurd(pose) and quality[1] > before - 0.1
            if sound:
                break
        if not sound:
            pose, quality = start, fit_quality(smooth, start)
        if quality[1] > fit:
            best, (overlap, fit) = pose, quality
            similarity = healthy_similarity(smooth, best)
        if similarity >= _CONVINCING:
            break
    return result(np.linalg.inv(best), _verdict(best, overlap, similarity), overlap, similarity)


def _image(volume: Volume) -> Any:
    """SimpleITK image whose physical points are RAS mm (axis-parallel grids only)."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array, dtype=np.float32))
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetSpacing([float(s) for s in np.diag(volume.affine)[:3]])
    return image


def _refine(
    reduced: Volume,
    smooth: Volume,
    start: NDArray,
    skull: bool,
    seed: int,
    check: Callable[[], None],
) -> NDArray[np.float64]:
    """Rigid with one scale, then affine, by SimpleITK; ``start`` and result MNI mm to native mm."""
    import SimpleITK as sitk

    goal = target(skull)
    fixed = _image(goal.t1)
    mask = sitk.Cast(_image(goal.t1.with_array(healthy_mask(smooth, start, skull))), sitk.sitkUInt8)
    moving = _image(reduced)
    centre = CENTRE_MM.tolist()

    def run(
        transform: Any,
        scales: list[float],
        shrink: list[int],
        sigmas_mm: list[float],
        iterations: int,
    ) -> None:
        method = sitk.ImageRegistrationMethod()
        # The sums of several threads arrive in varying order; one thread keeps every bit.
        method.SetNumberOfThreads(1)
        method.SetMetricAsCorrelation()
        method.SetMetricFixedMask(mask)
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(0.15, seed=seed + 1)
        method.SetInterpolator(sitk.sitkLinear)
        # A first step of 1 leaps out of the valley in the affine stage.
        method.SetOptimizerAsRegularStepGradientDescent(
            0.2, 0.005, iterations, relaxationFactor=0.5, gradientMagnitudeTolerance=1e-8
        )
        method.SetOptimizerScales(scales)
        method.SetShrinkFactorsPerLevel(shrink)
        method.SetSmoothingSigmasPerLevel(sigmas_mm)
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        method.SetInitialTransform(transform, inPlace=True)
        stopped: list[BaseException] = []

        def watch() -> None:
            # An exception must not cross SimpleITK's C++; it is raised again afterwards.
            try:
                check()
            except BaseException as error:
                stopped.append(error)
                method.StopRegistration()

        method.AddCommand(sitk.sitkIterationEvent, watch)
        try:
            method.Execute(fixed, moving)
        except RuntimeError:
            # Too few overlapping samples: what has been reached so far is judged by its quality.
            if not stopped:
                return
        finally:
            # The method holds the command, which holds the method: neither would ever be freed.
            method.RemoveAllCommands()
        if stopped:
            raise stopped[0]

    # Scales: one radian or unit of scale moves the brain's rim by about 60 mm.
    similarity = sitk.Similarity3DTransform()
    similarity.SetCenter(centre)
    similarity.SetMatrix(start[:3, :3].ravel().tolist(), 1e-6)
    similarity.SetTranslation((start[:3, :3] @ CENTRE_MM + start[:3, 3] - CENTRE_MM).tolist())
    run(similarity, [4000.0] * 3 + [1.0] * 3 + [4000.0], [4], [4.0], 60)

    affine = sitk.AffineTransform(3)
    affine.SetCenter(centre)
    affine.SetMatrix(similarity.GetMatrix())
    affine.SetTranslation(similarity.GetTranslation())
    run(affine, [1600.0] * 9 + [1.0] * 3, [4, 2], [4.0, 2.0], 100)

    out = np.eye(4)
    out[:3, :3] = np.array(affine.GetMatrix()).reshape(3, 3)
    out[:3, 3] = np.array(affine.GetTranslation()) + CENTRE_MM - out[:3, :3] @ CENTRE_MM
    return out


def _absurd(to_native: NDArray) -> str:
    """Why no human head could be placed so, or an empty string."""
    if not np.isfinite(to_native).all():
        return "The alignment did not converge."
    scales = np.linalg.svd(to_native[:3, :3], compute_uv=False)
    if (
        np.linalg.det(to_native[:3, :3]) <= 0
        or scales[2] < _SCALES[0]
        or scales[0] > _SCALES[1]
        or scales[0] / scales[2] > _MAX_ANISOTROPY
    ):
        return (
            "The alignment would stretch the brain beyond human sizes "
            f"(scales {scales[2]:.2f} to {scales[0]:.2f})."
        )
    return ""


def _verdict(to_native: NDArray, overlap: float, similarity: float) -> str:
    """Empty if the alignment can be trusted, else why not."""
    if reason := _absurd(to_native):
        return reason
    if similarity < _MIN_SIMILARITY:
        return (
            "The aligned scan does not resemble the MNI152 brain "
            f"(correlation {similarity:.2f}, at least {_MIN_SIMILARITY:.2f} needed)."
        )
    if overlap < _MIN_OVERLAP:
        return (
            "The aligned scan does not fill the MNI152 brain "
            f"(overlap {overlap:.2f}, at least {_MIN_OVERLAP:.2f} needed)."
        )
    return ""
