"""Where an alignment starts: reduced copies of scan and template, and a coarse search.

The search looks at the inside of the brain only, where a head with skull and a stripped brain are
alike. (With the rim included, the outline of a head fits the outline of the template's brain well
enough to be taken for it.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...brief import brief_repr
from ..volume import Volume
from ..window import apply_window, foreground_threshold, window_range
from .grid_map import nearest_ras
from .template import template_brain, template_head, template_t1

#: Voxel size of the reduced scan in mm.
STEP_MM = 3.0
#: Centre of the template's brain in MNI RAS mm; rotations and scales are about it.
CENTRE_MM = np.array([0.0, -18.0, 8.0])

# How far around the brain the similarity is measured in the refinement: with skull, and without.
_SKULL_MM = 12.0
_RIM_MM = 4.0
# Air around the reduced scan, so that points beyond its field of view count as background.
_MARGIN_MM = 30.0
# Wider fields of view are refused: they cost minutes, and what is in them is no head.
_WIDEST_MM = 700.0
# Starts followed to their local maximum: at most, and before the others.
_STARTS = 6
_FIRST_STARTS = 2
# Heads are smaller than MNI152's, which is larger than the average head.
_USUAL_SCALE = 0.9
# How wide brightness is evened out, and the blocks that this is found on.
_LOCAL_MM = 25.0
_BLOCK_MM = 12.0
# Share of the brain that a similarity is computed from.
_KEPT = 0.85
# Misfit (tissue being 0.7) that counts as a lesion, after smoothing, and the largest share of it.
_MISFIT = 0.2
_MISFIT_SIGMA_MM = 5.0
_MOST_EXCLUDED = 0.3
# The same for the verdict, where only what is darker than it should be counts as a lesion.
_MOST_HOLLOW = 0.35


@dataclass(frozen=True, eq=False)
class Target:
    """The template as the registration sees it: places and what is seen there.

    points: (3, N) in MNI mm, brain and rim, from a grid of 4 or 8 mm. values: (N,), flattened and
    blurred T1. brain: (N,), true within. mask: (K, J, I) of that grid, true at the N places, in
    whose order they stand.
    """

    points: NDArray[np.float64]
    values: NDArray[np.float64]
    brain: NDArray[np.bool_]
    mask: NDArray[np.bool_]

    __repr__ = brief_repr

    def only(self, kept: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points and values where ``kept`` (N,) is true."""
        return np.ascontiguousarray(self.points[:, kept]), self.values[kept]


@lru_cache(maxsize=2)
def _flat_template(skull: bool) -> NDArray[np.float32]:
    from scipy import ndimage

    source = template_head() if skull else template_t1()
    return flatten(ndimage.gaussian_filter(source.array.astype(np.float32) / 255.0, 0.7), 2.0)


@lru_cache(maxsize=8)
def target(skull: bool, step_mm: int, sigma_mm: float) -> Target:
    """The template with or without the skull around the brain, every 4 or 8 mm."""
    from scipy import ndimage

    template = template_brain()
    t1 = ndimage.gaussian_filter(_flat_template(skull), sigma_mm / 2.0)
    # Both grids in the same way, so that the coarse one is every second place of the other.
    brain = template.array[::2, ::2, ::2] >= 128
    mask = ndimage.distance_transform_edt(~brain, sampling=4.0) <= (_SKULL_MM if skull else _RIM_MM)
    thin = (slice(None, None, step_mm // 4),) * 3
    brain, mask = brain[thin], mask[thin]
    kji = np.nonzero(mask)
    scaled = template.affine[:3, :3] * (step_mm / 2.0)
    points = np.einsum("ij,jn->in", scaled, np.stack(kji[::-1]).astype(np.float64))
    values = t1[(slice(None, None, step_mm // 2),) * 3][mask].astype(np.float64)
    return Target(points + template.affine[:3, 3:], values, brain[mask], mask)


def reduce_scan(volume: Volume) -> Volume:
    """Flattened float32 copy at 3 mm on RAS axes, with air around it.

    Raises ``ValueError`` for an image without contrast or wider than any scan of a head.
    """
    import SimpleITK as sitk

    # In one axis order, whatever the file's, so that the result is the same bit for bit. Flipping
    # leaves rounding in the origin, which must not decide anything either.
    reorder = nearest_ras(volume.grid)
    source = Volume(reorder.apply(volume.array), np.round(reorder.grid.affine, 6))
    widest = max(n * s for n, s in zip(source.array.shape[::-1], source.spacing, strict=True))
    if widest > _WIDEST_MM:
        raise ValueError(f"the scan spans {widest:.0f} mm, so its voxel spacing must be wrong")
    array = np.ascontiguousarray(source.array, dtype=np.float32)
    if not np.isfinite(array.sum(dtype=np.float64)):
        array = np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)
    image = sitk.GetImageFromArray(array)
    factors = [max(1, int(STEP_MM / s + 0.01)) for s in source.spacing]
    factors = [min(f, n) for f, n in zip(factors, image.GetSize(), strict=True)]
    image = sitk.BinShrink(image, factors)
    shrunk = np.diag([*factors, 1.0])
    shrunk[:3, 3] = (np.array(factors) - 1) / 2.0
    affine = source.affine @ shrunk  # index on the shrunken grid to RAS mm
    # Index space as physical space: SimpleITK's directions could not hold a sheared affine.
    image.SetOrigin((0.0, 0.0, 0.0))
    image.SetSpacing((1.0, 1.0, 1.0))
    small = sitk.GetArrayViewFromImage(image)
    air = float(small.min())

    size = np.array(image.GetSize())
    corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]) * (size - 1)
    world = corners @ affine[:3, :3].T + affine[:3, 3]
    low, high = world.min(axis=0) - _MARGIN_MM, world.max(axis=0) + _MARGIN_MM
    shape_ijk = [int(n) for n in np.ceil((high - low) / STEP_MM - 1e-6) + 1]
    to_index = np.linalg.inv(affine)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(to_index[:3, :3].ravel().tolist())
    transform.SetTranslation(to_index[:3, 3].tolist())
    out = sitk.Resample(
        image,
        shape_ijk,
        transform,
        sitk.sitkLinear,
        low.tolist(),
        (STEP_MM,) * 3,
        np.eye(3).ravel().tolist(),
        air,
    )
    grid = np.diag([STEP_MM, STEP_MM, STEP_MM, 1.0])
    grid[:3, 3] = low
    scaled = apply_window(sitk.GetArrayFromImage(out), window_range(small))
    return Volume(flatten(scaled, STEP_MM), grid)


def flatten(array: NDArray[np.float32], step_mm: float) -> NDArray[np.float32]:
    """Even out brightness: tissue about 0.7 everywhere, fat and vessels saturated at 1, air dark.

    Coil shading and bright scalp would otherwise outweigh the anatomy in the correlation.
    Raises ``ValueError`` for an image without contrast.
    """
    tissue = array > foreground_threshold(array)
    flat = array
    for _ in range(2):
        level = float(np.median(flat[tissue]))
        flat = np.minimum(flat, np.float32(1.5 * level))
        local = _local_mean(flat, tissue, step_mm)
        flat = flat / np.maximum(local, np.float32(0.25 * level))
    return np.clip(np.float32(0.7) * flat, 0.0, 1.0).astype(np.float32)


def _local_mean(
    array: NDArray[np.float32], where: NDArray[np.bool_], step_mm: float
) -> NDArray[np.float32]:
    """Gaussian mean of ``array`` over where it counts: found on blocks, linear between them."""
    from scipy import ndimage

    size = int(_BLOCK_MM / step_mm)
    sums = (_block_sums(array * where, size), _block_sums(where.astype(np.float32), size))
    sigma = _LOCAL_MM / (size * step_mm)
    above, below = (ndimage.gaussian_filter(s, sigma, mode="constant") for s in sums)
    out = above / np.maximum(below, np.float32(1e-3 * size**3))
    for axis in (2, 1, 0):
        n = array.shape[axis]
        place = np.clip((np.arange(n) + 0.5) / size - 0.5, 0.0, out.shape[axis] - 1.0)
        low = place.astype(int)
        high = np.minimum(low + 1, out.shape[axis] - 1)
        part = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        out = np.take(out, low, axis) * (1 - part) + np.take(out, high, axis) * part
    return out


def _block_sums(array: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    for axis in range(3):
        array = np.add.reduceat(array, np.arange(0, array.shape[axis], size), axis)
    return array


def sample(volume: Volume, pose: NDArray, points: NDArray) -> NDArray[np.float64]:
    """``volume`` where ``pose`` (4x4) brings ``points`` (3, N), between voxels; 0 outside.

    Here as below sums go without BLAS, which on few numbers loses time with its threads, and
    whose last digits depend on their number.
    """
    from scipy import ndimage

    matrix = np.linalg.inv(volume.affine) @ pose
    ijk = np.einsum("ij,jn->in", matrix[:3, :3], points) + matrix[:3, 3:]
    return ndimage.map_coordinates(
        volume.array, ijk[::-1], order=1, mode="constant", cval=0.0, output=np.float64
    )


def correlation(a: NDArray, b: NDArray) -> float:
    """Pearson's correlation; 0 if one of the two is constant."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 1e-9 else 0.0


def line_fit(values: NDArray, seen: NDArray) -> NDArray[np.float64]:
    """``seen`` minus its best linear prediction from ``values``."""
    return seen - seen.mean() - slope(values, seen) * (values - values.mean())


def slope(values: NDArray, seen: NDArray) -> float:
    """Of the line that predicts ``seen`` from ``values`` best; 0 if the latter are constant."""
    values = values - values.mean()
    power = float((values * values).sum())
    return float((values * (seen - seen.mean())).sum()) / power if power > 1e-12 else 0.0


def robust_correlation(values: NDArray, seen: NDArray) -> float:
    """Correlation without the part that disagrees most: a large cavity must not decide."""
    misfit = np.abs(line_fit(values, seen))
    last = int(_KEPT * (misfit.size - 1))
    kept = misfit <= np.partition(misfit, last)[last]
    return correlation(values[kept], seen[kept])


def smooth_copy(reduced: Volume, sigma_mm: float = 2.0) -> Volume:
    """The reduced scan blurred; with 2 mm, which take the noise off, for :func:`fit_quality`."""
    from scipy import ndimage

    return reduced.with_array(ndimage.gaussian_filter(reduced.array, sigma_mm / STEP_MM))


def fit_quality(
    smooth: Volume, to_native: NDArray, skull: bool | None = None
) -> tuple[float, float]:
    """Overlap and similarity of a scan with the template under ``to_native`` (MNI to native mm).

    overlap: Dice of the brain with what is brighter than half the brain's median, within the mask
    of ``skull``'s target. similarity: robust correlation; with ``skull`` None within the brain
    alone, else within that whole mask. ``smooth`` comes from :func:`smooth_copy`.
    """
    goal = target(bool(skull), 4, 2.0)
    brain = goal.brain
    seen = sample(smooth, to_native, goal.points)
    part = brain if skull is None else slice(None)
    similarity = robust_correlation(goal.values[part], seen[part])
    tissue = seen > max(0.5 * float(np.median(seen[brain])), 1e-3)
    overlap = 2.0 * float((tissue & brain).sum()) / max(1.0, float(tissue.sum() + brain.sum()))
    return overlap, similarity


def healthy_similarity(smooth: Volume, to_native: NDArray) -> float:
    """Robust correlation within the brain, without what looks like a cavity; -1 to 1.

    A cavity is a compact part of the brain, at most 35 % of it, that is darker than the template
    and the rest of the scan predict. Leaving it out helps no scan that lies wrongly: there, as much
    is too bright as too dark. ``smooth`` and ``to_native`` as in :func:`fit_quality`.
    """
    from scipy import ndimage

    goal = target(False, 4, 2.0)
    points, values = goal.only(goal.brain)
    seen = sample(smooth, to_native, points)
    place = tuple(axis[goal.brain] for axis in np.nonzero(goal.mask))

    def blurred(of: NDArray) -> NDArray[np.float32]:
        volume = np.zeros(goal.mask.shape, dtype=np.float32)
        volume[place] = of
        return ndimage.gaussian_filter(volume, _MISFIT_SIGMA_MM / 4.0)[place]

    weight = blurred(np.ones_like(values))
    kept = np.ones(values.shape, dtype=bool)
    for _ in range(3):  # the line through the healthy part moves once the cavity is out
        misfit = (
            seen
            - seen[kept].mean()
            - slope(values[kept], seen[kept]) * (values - values[kept].mean())
        )
        misfit = blurred(misfit) / weight
        kept = misfit >= min(-_MISFIT, float(np.quantile(misfit, _MOST_HOLLOW)))
    return robust_correlation(values[kept], seen[kept])


def healthy_points(smooth: Volume, to_native: NDArray, skull: bool) -> dict[int, NDArray[np.bool_]]:
    """Which of the target's points to align by: not those where the scan is unlike any brain.

    For steps of 4 and 8 mm, true or false for each of the target's points. The lesion is found by
    its misfit under the pose ``to_native``. ``smooth`` as in :func:`fit_quality`.
    """
    from scipy import ndimage

    goal = target(skull, 4, 2.0)
    points, values = goal.only(goal.brain)
    place = tuple(axis[goal.brain] for axis in np.nonzero(goal.mask))
    misfit = np.zeros(goal.mask.shape, dtype=np.float32)
    misfit[place] = line_fit(values, sample(smooth, to_native, points))
    # Sulci and the pose's own error make thin misfits, which the smoothing levels out.
    misfit = np.abs(ndimage.gaussian_filter(misfit, _MISFIT_SIGMA_MM / 4.0))
    limit = max(_MISFIT, float(np.quantile(misfit[place], 1.0 - _MOST_EXCLUDED)))
    kept = goal.mask.copy()
    kept[place] = misfit[place] <= limit
    thin = (slice(None, None, 2),) * 3
    return {4: kept[goal.mask], 8: kept[thin][goal.mask[thin]]}


def search_starts(
    reduced: Volume, check: Callable[[], None]
) -> Iterator[list[NDArray[np.float64]]]:
    """Poses (4x4, MNI mm to native mm) where the coarse correlation has a maximum.

    In two groups: from the most promising places, which nearly always suffice, and then from the
    others; each best first. ``check`` is called often and may raise to stop.
    """
    goal = target(False, 8, 6.0)
    points, values = goal.only(goal.brain)
    blurred = smooth_copy(reduced, 5.0)

    def score(parameters: NDArray) -> float:
        check()
        return robust_correlation(values, sample(blurred, _pose(parameters), points))

    trials = []
    for centre in _centres(reduced):
        for pitch in (-30.0, -15.0, 0.0, 15.0, 30.0):
            for dz in (-40.0, -20.0, 0.0, 20.0, 40.0):
                for dy in (-20.0, 0.0, 20.0):
                    shift = centre + np.array([0.0, dy, dz])
                    p = np.array([*shift, pitch, 0.0, 0.0, _USUAL_SCALE])
                    trials.append((score(p), p))
    trials.sort(key=lambda item: -item[0])
    chosen: list[tuple[float, NDArray]] = []
    for value, p in trials:
        if all(_apart(p, other) > 20.0 for _, other in chosen):
            chosen.append((value, p))
        if len(chosen) == _STARTS:
            break
    found: list[NDArray] = []
    for group in (chosen[:_FIRST_STARTS], chosen[_FIRST_STARTS:]):
        first = len(found)
        climbed = sorted((_climb(score, p, s) for s, p in group), key=lambda item: -item[0])
        for _, p in climbed:
            if all(_apart(p, other) > 5.0 for other in found):
                found.append(p)
        yield [_pose(p) for p in found[first:]]


def _pose(p: NDArray) -> NDArray[np.float64]:
    """MNI mm to native mm: the brain's centre goes to p[:3]; rotation p[3:6] in degrees; scale."""
    # Not scipy's Rotation: it differs in the last bits, and with them in what a mask contains.
    x, y, z = np.deg2rad(p[3:6])
    rx = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    rz = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    out = np.eye(4)
    out[:3, :3] = rz @ ry @ rx * p[6]
    out[:3, 3] = p[:3] - out[:3, :3] @ CENTRE_MM
    return out


def _apart(p: NDArray, q: NDArray) -> float:
    """How differently two parameter sets place the brain, in mm (1 degree moves its rim 1 mm)."""
    return float(np.linalg.norm(p[:6] - q[:6]))


def _climb(
    score: Callable[[NDArray], float], start: NDArray, value: float
) -> tuple[float, NDArray[np.float64]]:
    """Coordinate ascent with shrinking steps (mm, degrees, scale)."""
    steps = np.array([8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 0.08])
    best = start
    while steps[0] >= 1.0:
        improved = False
        for axis in range(7):
            for sign in (1.0, -1.0):
                trial = best.copy()
                trial[axis] += sign * steps[axis]
                if not 0.7 <= trial[6] <= 1.3:
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
    mask = reduced.array > foreground_threshold(reduced.array)
    k, j, i = np.nonzero(mask)
    origin = reduced.affine[:3, 3]
    points = np.stack([i, j, k], axis=1) * STEP_MM + origin
    guesses = [points.mean(axis=0)]
    # In a head with neck the brain lies in the upper part: the top 150 mm of what is not noise.
    area = mask.sum(axis=(1, 2)) * STEP_MM**2
    solid = np.nonzero(area > 1500.0)[0]
    if solid.size:
        top = origin[2] + solid[-1] * STEP_MM
        guess = points[points[:, 2] > top - 150.0].mean(axis=0)
        guess[2] = top - 80.0
        guesses.append(guess)
    return guesses
