"""From a probability map to lesions: thresholds, connected components, smallest volume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..boxes import bounding_box
from ..brief import brief_repr
from ..operating_point import OperatingPoint
from .measure import Lesion, Summary, measure_lesions, summarise


@dataclass(frozen=True, eq=False)
class LesionMap:
    """The lesions of one scan.

    Attributes
    ----------
    mask: (K, J, I) uint8, 1 inside lesions.
    labels: (K, J, I) int32, 0 outside, n inside ``lesions[n - 1]``.
    lesions: by volume, largest first; equal volumes in the order of their first voxel.
    summary: counts and volumes of the whole scan.
    affine: 4x4 float64, (i, j, k, 1) to native RAS mm.
    operating_point: what made it of the probability.

    The map never changes. For another threshold call ``find_lesions`` again; to drop lesions that
    a reader rejects use ``keeping``.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import find_lesions
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> probability = np.zeros((8, 8, 8), np.float32)
    >>> probability[1:3, 1:3, 1:3], probability[5:8, 5:8, 5:8] = 0.7, 0.9
    >>> found = find_lesions(probability, np.eye(4), OperatingPoint(0.5))
    >>> int(found.keeping({1}).mask.sum())
    27
    """

    mask: NDArray[np.uint8]
    labels: NDArray[np.int32]
    lesions: tuple[Lesion, ...]
    summary: Summary
    affine: NDArray[np.float64]
    operating_point: OperatingPoint

    __repr__ = brief_repr

    def keeping(self, labels: set[int] | frozenset[int]) -> LesionMap:
        """A copy whose other lesions have ``keep=False`` and are gone from mask and labels.

        The lesions keep their numbers, so that tables before and after can be compared; the
        summary counts the kept ones. Raises ``ValueError`` for a label that does not exist.
        """
        known = {lesion.label for lesion in self.lesions}
        if not labels <= known:
            raise ValueError(f"no lesion {min(labels - known)}; there are {len(known)}")
        table = np.zeros(len(self.lesions) + 1, dtype=np.int32)
        for label in labels:
            table[label] = label
        kept = table[self.labels]
        lesions = tuple(replace(x, keep=x.keep and x.label in labels) for x in self.lesions)
        return replace(
            self,
            mask=(kept > 0).astype(np.uint8),
            labels=kept,
            lesions=lesions,
            summary=summarise(lesions, note=self.summary.side_note),
        )


def find_lesions(
    probability_kji: ArrayLike,
    affine: ArrayLike,
    point: OperatingPoint,
    *,
    to_mni: ArrayLike | None = None,
    midline_x_mm: float | None = None,
) -> LesionMap:
    """Apply an operating point to a probability map and measure the lesions.

    Parameters
    ----------
    probability_kji: (K, J, I) probabilities in [0, 1]; a binary mask works too.
    affine: 4x4, (i, j, k, 1) to native RAS mm.
    point: thresholds, smallest volume and least mean probability of a lesion. One of exactly a
        bound stays. Voxel volume is the affine's determinant.
    to_mni: 4x4, native RAS mm to MNI152 RAS mm; gives MNI centroids and decides sides.
    midline_x_mm: native RAS x of the plane between left and right, used without ``to_mni``; by
        default the middle of the map. A caller that passes a part of a scan has to give it.

    Components are 26-connected. NaN counts as 0. The same input always gives the same result.

    Raises ``ValueError`` for arrays that are not 3D and an affine that is not 4x4, finite and
    invertible.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import find_lesions
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> probability = np.zeros((8, 8, 8), np.float32)
    >>> probability[1:3, 1:3, 1:3], probability[5:8, 5:8, 5:8] = 0.7, 0.9
    >>> find_lesions(probability, np.eye(4), OperatingPoint(0.5)).summary.count
    2
    >>> find_lesions(probability, np.eye(4), OperatingPoint(0.5, 0.8)).summary.count
    1
    """
    probability = np.asarray(probability_kji)
    affine = check_affine(affine, "affine")
    mni = None if to_mni is None else check_affine(to_mni, "to_mni")
    if probability.ndim != 3:
        raise ValueError(f"a probability map has three axes, not {probability.ndim}")
    if midline_x_mm is None:
        middle = (np.array(probability.shape[::-1], dtype=np.float64) - 1) / 2
        midline_x_mm = float(affine[0, :3] @ middle + affine[0, 3])

    labels = np.zeros(probability.shape, dtype=np.int32)
    candidates = probability >= point.threshold
    box = bounding_box(candidates)
    lesions: tuple[Lesion, ...] = ()
    if box is not None:
        cropped = label_components(candidates[box], connectivity=26)
        inside = np.flatnonzero(cropped)
        owner = cropped.reshape(-1)[inside]
        sizes = np.bincount(owner)
        keep = _kept(point, cropped, owner, sizes, probability[box], affine)
        # Written backwards, the first voxel of each component is what remains.
        first = np.zeros(len(sizes), dtype=np.int64)
        first[owner[::-1]] = inside[::-1]
        old = np.flatnonzero(keep)
        old = old[np.lexsort((first[old], -sizes[old]))]
        table = np.zeros(len(sizes), dtype=np.int32)
        table[old] = np.arange(1, len(old) + 1, dtype=np.int32)
        cropped = table[cropped]
        labels[box] = cropped
        lesions = measure_lesions(
            cropped,
            probability[box],
            offset_kji=tuple(s.start for s in box),
            midline_x_mm=midline_x_mm,
            affine=affine,
            to_mni=mni,
        )
    note = (
        ""
        if mni is not None
        else "sides are relative to the middle of the scan: the scan is not aligned to MNI"
    )
    return LesionMap(
        mask=(labels > 0).astype(np.uint8),
        labels=labels,
        lesions=lesions,
        summary=summarise(lesions, note=note),
        affine=affine,
        operating_point=point,
    )


def _kept(
    point: OperatingPoint,
    labels: NDArray[np.int32],
    owner: NDArray[np.int32],
    sizes: NDArray[np.integer],
    probability: NDArray[Any],
    affine: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Which components of ``labels`` stay, by label; ``owner``: the label of each voxel that has
    one, in memory order, ``sizes``: their voxels by label."""
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0
    second = point.second_threshold
    reached = None if second is None else labels[probability >= second]
    keep = kept_components(sizes, voxel_ml, point.min_volume_ml, reached)
    if point.min_mean_probability > 0:
        inside = probability[labels > 0].astype(np.float64)
        sums = np.bincount(owner, inside, minlength=len(sizes))
        # The margin forgives the rounding of the mean of equal numbers.
        keep &= sums >= point.min_mean_probability * sizes * (1 - 1e-6)
    return keep


def check_affine(value: ArrayLike, name: str) -> NDArray[np.float64]:
    """``value`` as 4x4 float64; ``ValueError`` if it is not one that can be inverted."""
    matrix = np.array(value, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"{name} must be a finite 4x4 matrix")
    if abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
        raise ValueError(f"{name} cannot be inverted")
    return matrix


def kept_components(
    sizes: NDArray[np.integer],
    voxel_ml: float,
    min_volume_ml: float,
    reached: NDArray[np.integer] | None = None,
) -> NDArray[np.bool_]:
    """Which components stay, by label; the background, label 0, never does.

    sizes: voxels of each label. min_volume_ml: smaller ones go; one of exactly this volume stays.
    reached: labels of the voxels that are above the second threshold, repeated or not; components
        without any go. None: there is no second threshold.
    """
    # The margin forgives the rounding of "20 voxels of 0.001 mL are 0.02 mL", also where the
    # affine went through a float32 header (a relative error of up to 2e-7 in the volume).
    keep = sizes * voxel_ml >= max(min_volume_ml, 0.0) * (1 - 1e-6)
    if reached is not None:
        high = np.zeros(len(sizes), dtype=bool)
        high[reached] = True
        keep &= high
    keep[0] = False
    return keep


def label_components(mask: NDArray[np.bool_], connectivity: int) -> NDArray[np.int32]:
    """Connected components of a 3D mask, numbered from 1.

    ``connectivity`` is 6 (faces), 18 (and edges) or 26 (and corners).
    """
    from scipy import ndimage

    rank = {6: 1, 18: 2, 26: 3}[connectivity]
    labels, _ = ndimage.label(mask, structure=ndimage.generate_binary_structure(3, rank))
    return labels.astype(np.int32, copy=False)
