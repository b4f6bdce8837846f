"""From a start to the best pose: Gauss-Newton steps on the correlation with the template.

Steps of gradient descent are short where the valley is narrow; here a dozen of them reach what
takes it a hundred. What correlates best is what a line through template and scan leaves the least
of, so that each step solves for line and pose together (variable projection, Golub and Pereyra,
Inverse Problems 19, 2003), with Levenberg's and Marquardt's damping.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..volume import Volume
from .registration_start import (
    CENTRE_MM,
    STEP_MM,
    correlation,
    healthy_points,
    sample,
    smooth_copy,
    target,
)

# Distance of the brain's rim from its centre: what one radian moves it by.
_RIM_MM = 60.0
# The farthest one step may move the rim, and where stepping ends.
_LONGEST_MM = 15.0
_ENOUGH_MM = 0.05
_STEPS = 30
_DAMPING = 1e-3
_MOST_DAMPING = 10.0


@dataclass(frozen=True)
class Slopes:
    """A blurred scan with its derivatives along x, y, z per mm, float32."""

    volume: Volume
    slopes: tuple[Volume, ...]


def blurred(reduced: Volume, sigma_mm: float) -> Slopes:
    """What one stage of :func:`refine` climbs on; ``reduced`` from ``reduce_scan``."""
    volume = smooth_copy(reduced, sigma_mm)
    along_kji = np.gradient(volume.array, STEP_MM)
    return Slopes(volume, tuple(volume.with_array(s) for s in along_kji[::-1]))


def refine(
    coarse: Slopes,
    fine: Slopes,
    start: NDArray[np.float64],
    skull: bool,
    check: Callable[[], None],
) -> NDArray[np.float64]:
    """Rigid with one scale, then affine; ``start`` and result 4x4, MNI mm to native mm.

    ``coarse`` and ``fine`` come from :func:`blurred` with 4 and 2 mm. What is unlike any healthy
    brain under ``start`` is left out (cost-function masking, Brett et al., NeuroImage 14, 2001):
    the affine stage would else shrink or fill it. ``check`` is called at every step and may raise.
    """
    kept = healthy_points(fine.volume, start, skull)
    pose = start
    for seen, sigma_mm, step_mm, affine in (
        (coarse, 4.0, 8, False),
        (coarse, 4.0, 8, True),
        (fine, 2.0, 4, True),
    ):
        points, values = target(skull, step_mm, sigma_mm).only(kept[step_mm])
        pose = _climb(seen, points, values, pose, affine, check)
    return pose


def _climb(
    seen: Slopes,
    points: NDArray[np.float64],
    values: NDArray[np.float64],
    pose: NDArray[np.float64],
    affine: bool,
    check: Callable[[], None],
) -> NDArray[np.float64]:
    """The pose near ``pose`` where template ``values`` (N,) at ``points`` (3, N) fit best."""
    values = values - values.mean()
    about = (points - CENTRE_MM[:, None]) / _RIM_MM
    now = sample(seen.volume, pose, points)
    fit = correlation(values, now)
    damping = _DAMPING
    for _ in range(_STEPS):
        check()
        slopes = np.stack([sample(s, pose, points) for s in seen.slopes])
        if affine:
            change = slopes[:, None] * np.concatenate([about, np.ones_like(about[:1])])
            change = change.reshape(12, -1)
        else:
            arm = np.einsum("ij,jn->in", pose[:3, :3], about)
            turned = np.cross(arm, slopes, axis=0)
            change = np.concatenate([turned, (arm * slopes).sum(axis=0)[None], slopes])
        rows = np.concatenate([change, now[None]])
        rows -= rows.mean(axis=1, keepdims=True)
        normal = np.einsum("in,jn->ij", rows, rows)
        wanted = np.einsum("in,n->i", rows, values)
        while damping <= _MOST_DAMPING:
            damped = normal.copy()
            damped[np.diag_indices(len(change))] *= 1.0 + damping
            solved = np.linalg.lstsq(damped, wanted, rcond=1e-12)[0]
            if solved[-1] <= 0:  # dark for bright: there is nothing to climb
                return pose
            step = solved[:-1] / solved[-1]
            far = float(np.linalg.norm(step))
            step *= min(1.0, _LONGEST_MM / max(far, 1e-12))
            trial = (_affine_step if affine else _similarity_step)(pose, step)
            trial_now = sample(seen.volume, trial, points)
            trial_fit = correlation(values, trial_now)
            if trial_fit > fit:
                break
            damping *= 10.0
        else:
            return pose
        pose, now, fit = trial, trial_now, trial_fit
        damping = max(damping / 10.0, _DAMPING)
        if far < _ENOUGH_MM:
            break
    return pose


def _affine_step(pose: NDArray, step: NDArray) -> NDArray[np.float64]:
    """``step`` (12,): rows of what is added to matrix and shift about the brain's centre, in mm."""
    step = step.reshape(3, 4)
    return _about_centre(
        pose[:3, :3] + step[:, :3] / _RIM_MM, pose[:3, :3] @ CENTRE_MM + pose[:3, 3] + step[:, 3]
    )


def _similarity_step(pose: NDArray, step: NDArray) -> NDArray[np.float64]:
    """``step`` (7,): rotation about x, y, z and growth, as the rim's way in mm, and shift in mm."""
    x, y, z, growth = step[:4] / _RIM_MM
    left, _, right = np.linalg.svd(np.array([[1, -z, y], [z, 1, -x], [-y, x, 1]]))
    return _about_centre(
        (1.0 + growth) * left @ right @ pose[:3, :3],
        pose[:3, :3] @ CENTRE_MM + pose[:3, 3] + step[4:],
    )


def _about_centre(matrix: NDArray, place: NDArray) -> NDArray[np.float64]:
    """4x4 of ``matrix`` that brings the template's centre to ``place``."""
    out = np.eye(4)
    out[:3, :3] = matrix
    out[:3, 3] = place - matrix @ CENTRE_MM
    return out
