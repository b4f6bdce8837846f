"""Affine alignment of a T1 to MNI152: search, rigid, affine, and a verdict.

Everything runs on copies of the scan and of the template reduced to 2 to 3 mm, and in RAS mm.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...errors import Cancelled
from ..volume import Volume
from .alignment import Alignment
from .registration_fit import Slopes, blurred, refine
from .registration_start import (
    fit_quality,
    healthy_similarity,
    reduce_scan,
    search_starts,
)

# Starts refined at most of each group; the next one only if there is no success yet.
_REFINED = 2
#: Seconds after which an alignment is given up; a usual head takes one.
BUDGET_S = 15.0

# Bounds of a success. Scans reach a similarity of 0.81 to 0.95, with a cavity of 300 mL too. Axes
# with wrong labels (front for back), phantoms, noise, half a head, inverted contrast: 0.74 at most.
_MIN_SIMILARITY = 0.76
_MIN_OVERLAP = 0.75
_SCALES = (0.65, 1.35)
_MAX_ANISOTROPY = 1.6


class _OutOfTime(Exception):
    """The budget is spent."""


def align_to_mni(
    volume: Volume,
    *,
    budget_s: float | None = BUDGET_S,
    cancel: Callable[[], bool] | None = None,
) -> Alignment:
    """Affine transform from ``volume`` (RAS mm of its own affine) to MNI152 2009a RAS mm.

    ``volume`` is a T1-weighted head or stripped brain in any axis order. Its origin does not
    matter, and tilts up to about 30 degrees do not; an image whose header has left and right or
    top and bottom wrong cannot be aligned (left for right is not noticed). The same input gives
    the same matrix bit for bit, and so does a copy of it with axes permuted or flipped. Nothing is
    raised for images that cannot be aligned: the result then has ``ok`` false and a ``reason``.

    ``budget_s`` is processor time in seconds, None for as long as it takes. It changes no answer:
    what is not finished by then is given up, with the identity for a matrix. ``cancel`` is asked
    at every step; ``Cancelled`` is raised when it returns true.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume, align_to_mni
    >>> noise = Volume(np.random.default_rng(0).random((20, 20, 20)), np.eye(4))
    >>> align_to_mni(noise).ok
    False
    """
    # Processor time: on a busy machine a good scan takes longer, and is good all the same.
    started, spent = time.perf_counter(), time.thread_time()

    def check() -> None:
        if cancel is not None and cancel():
            raise Cancelled("alignment was cancelled")
        if budget_s is not None and time.thread_time() - spent > budget_s:
            raise _OutOfTime

    try:
        matrix, reason, overlap, similarity = _align(volume, check)
    except _OutOfTime:
        reason = f"The alignment was given up after {budget_s:g} seconds."
        matrix, overlap, similarity = np.eye(4), 0.0, 0.0
    seconds = time.perf_counter() - started
    return Alignment(matrix, not reason, reason, overlap, similarity, seconds)


def _align(volume: Volume, check: Callable[[], None]) -> tuple[NDArray, str, float, float]:
    """Matrix, reason, overlap and similarity of an :class:`Alignment`."""
    check()
    try:
        reduced = reduce_scan(volume)
    except (ValueError, np.linalg.LinAlgError) as error:
        return np.eye(4), f"There is nothing to align: {error}.", 0.0, 0.0
    check()
    coarse, fine = blurred(reduced, 4.0), blurred(reduced, 2.0)
    smooth = fine.volume
    check()
    best, overlap, fit, similarity = np.eye(4), 0.0, -1.0, -1.0
    for group in search_starts(reduced, check):
        starts = [(fit_quality(smooth, start)[1], start) for start in group]
        starts.sort(key=lambda item: -item[0])
        for before, start in starts[:_REFINED]:
            pose, quality = _refined(coarse, fine, start, before, check)
            if quality[1] > fit:
                best, (overlap, fit) = pose, quality
                similarity = healthy_similarity(smooth, best)
            if similarity >= _MIN_SIMILARITY:
                break
        if similarity >= _MIN_SIMILARITY:
            break
    return np.linalg.inv(best), _verdict(best, overlap, similarity), overlap, similarity


def _refined(
    coarse: Slopes,
    fine: Slopes,
    start: NDArray[np.float64],
    before: float,
    check: Callable[[], None],
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Pose and its ``fit_quality``: the refined one, or ``start`` if that one is not sound.

    ``before`` is the similarity at ``start``.
    """
    smooth = fine.volume
    # Nobody has to say whether the skull is there: the template that fits better goes first.
    for skull in sorted((False, True), key=lambda s: -fit_quality(smooth, start, s)[1]):
        pose = refine(coarse, fine, start, skull, check)
        quality = fit_quality(smooth, pose)
        # The refinement fits the outline too, which may cost a little within; not more.
        if not _absurd(pose) and quality[1] > before - 0.1:
            return pose, quality
    return start, fit_quality(smooth, start)


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
