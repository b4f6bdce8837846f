"""What is measured of a lesion, and of all lesions of a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEFT, RIGHT, BOTH = "left", "right", "both"

# A lesion belongs to a side if at least this share of its volume lies there. Midline structures
# and the error of an affine alignment put a few voxels of nearly every big lesion across.
SIDE_SHARE = 0.95


@dataclass(frozen=True)
class Lesion:
    """One connected component.

    Attributes
    ----------
    label: its number in the label map, 1 for the largest.
    voxels, volume_ml: size.
    centroid_ras_mm: centre of mass in native RAS coordinates, mm.
    centroid_mni_mm: the same in MNI152 RAS mm; None if the scan was not aligned.
    side: ``left`` or ``right`` (the patient's) if at least 95 % of it lie there, else ``both``.
    left_share: the share of its volume on the patient's left, 0 to 1.
    extent_mm: length along the world's axes (right-left, anterior-posterior, superior-inferior)
        from the outer edge of the first to that of the last voxel, mm.
    mean_probability, peak_probability: over its voxels.
    keep: False if a reader rejected it.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import find_lesions
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> mask = np.zeros((8, 8, 8), np.uint8)
    >>> mask[2:4, 2:4, 0:2] = 1
    >>> lesion = find_lesions(mask, np.eye(4), OperatingPoint(0.5)).lesions[0]
    >>> lesion.voxels, lesion.volume_ml, lesion.side, lesion.extent_mm
    (8, 0.008, 'left', (2.0, 2.0, 2.0))
    """

    label: int
    voxels: int
    volume_ml: float
    centroid_ras_mm: tuple[float, float, float]
    centroid_mni_mm: tuple[float, float, float] | None
    side: str
    left_share: float
    extent_mm: tuple[float, float, float]
    mean_probability: float
    peak_probability: float
    keep: bool = True


@dataclass(frozen=True)
class Summary:
    """All kept lesions of one scan.

    Attributes
    ----------
    count: number of lesions.
    volume_ml: their volume in mL; ``left_ml`` and ``right_ml`` add up to it.
    largest_ml: volume of the largest, 0 if there is none.
    side_note: how sides were decided if not in MNI space, else empty.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import find_lesions
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> mask = np.zeros((8, 8, 8), np.uint8)
    >>> mask[2:4, 2:4, 0:2] = 1
    >>> summary = find_lesions(mask, np.eye(4), OperatingPoint(0.5)).summary
    >>> summary.count, summary.volume_ml, summary.right_ml
    (1, 0.008, 0.0)
    """

    count: int
    volume_ml: float
    left_ml: float
    right_ml: float
    largest_ml: float
    side_note: str


def summarise(lesions: Sequence[Lesion], note: str = "") -> Summary:
    """Counts and volumes (mL) of the lesions with ``keep``."""
    kept = [lesion for lesion in lesions if lesion.keep]
    total = sum(x.volume_ml for x in kept)
    left = sum(x.volume_ml * x.left_share for x in kept)
    return Summary(
        count=len(kept),
        volume_ml=total,
        left_ml=left,
        right_ml=max(0.0, total - left),
        largest_ml=max((x.volume_ml for x in kept), default=0.0),
        side_note=note,
    )


def measure_lesions(
    labels: NDArray[np.int32],
    probability: NDArray[Any],
    *,
    offset_kji: tuple[int, ...],
    midline_x_mm: float,
    affine: NDArray[np.float64],
    to_mni: NDArray[np.float64] | None,
) -> tuple[Lesion, ...]:
    """Measure the components 1..n of ``labels``, a box cut out of a volume.

    Parameters
    ----------
    labels, probability: arrays of the box, axes (k, j, i).
    offset_kji: index of the box's first voxel in the volume.
    midline_x_mm: native RAS x of the plane between left and right, used without ``to_mni``.
    affine: 4x4, volume indices (i, j, k, 1) to native RAS mm.
    to_mni: 4x4, native RAS mm to MNI RAS mm.
    """
    inside = np.flatnonzero(labels)
    if inside.size == 0:
        return ()
    owner = labels.reshape(-1)[inside]
    count = int(owner.max())
    sizes = np.bincount(owner, minlength=count + 1)[1:]
    values = np.nan_to_num(np.ascontiguousarray(probability).reshape(-1)[inside].astype(np.float64))
    means = np.bincount(owner, weights=values, minlength=count + 1)[1:] / sizes
    # From here on lesion by lesion, by sorting the few lesion voxels once.
    order = np.argsort(owner, kind="stable")
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    peaks = np.maximum.reduceat(values[order], starts)

    k, j, i = np.unravel_index(inside[order], labels.shape)
    index = np.stack([i + offset_kji[2], j + offset_kji[1], k + offset_kji[0]]).astype(np.float64)
    ras = affine[:3, :3] @ index + affine[:3, 3:]
    centroids = np.add.reduceat(ras, starts, axis=1) / sizes
    # Voxels are boxes: half of each edge, projected on each world axis, sticks out on both ends.
    edge = np.abs(affine[:3, :3]).sum(axis=1, keepdims=True)
    extents = (
        np.maximum.reduceat(ras, starts, axis=1) - np.minimum.reduceat(ras, starts, axis=1) + edge
    )

    if to_mni is not None:
        x = to_mni[0, :3] @ ras + to_mni[0, 3]
        mni = to_mni[:3, :3] @ centroids + to_mni[:3, 3:]
        # The width of a voxel in MNI x decides what "on the midline" means.
        width = float(np.abs(to_mni[0, :3] @ affine[:3, :3]).sum())
    else:
        x = ras[0] - midline_x_mm
        mni = None
        width = float(edge[0, 0])
    # A voxel that the midline cuts gives each side its part, so a symmetric lesion is half left.
    left = np.clip(0.5 - x / width, 0.0, 1.0)
    shares = np.add.reduceat(left, starts) / sizes
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0

    def triple(column: NDArray[np.float64]) -> tuple[float, float, float]:
        return float(column[0]), float(column[1]), float(column[2])

    return tuple(
        Lesion(
            label=n + 1,
            voxels=int(sizes[n]),
            volume_ml=float(sizes[n] * voxel_ml),
            centroid_ras_mm=triple(centroids[:, n]),
            centroid_mni_mm=None if mni is None else triple(mni[:, n]),
            side=side_of(float(shares[n])),
            left_share=float(shares[n]),
            extent_mm=triple(extents[:, n]),
            mean_probability=float(means[n]),
            peak_probability=float(peaks[n]),
        )
        for n in range(count)
    )


def side_of(left_share: float) -> str:
    """``left``, ``right`` or ``both``, from the share of a volume on the patient's left."""
    if left_share >= SIDE_SHARE:
        return LEFT
    if left_share <= 1 - SIDE_SHARE:
        return RIGHT
    return BOTH


def peaks(
    probability: NDArray[Any], labels: NDArray[np.int32], wanted: list[int]
) -> list[tuple[int, ...]]:
    """The voxel of the highest probability of each wanted label, the first where there are ties.

    ``labels`` has to hold every label from 1 on. Sorts only the labelled voxels, for speed.
    """
    if not wanted:
        return []
    inside = np.flatnonzero(labels)
    owner = labels.reshape(-1)[inside]
    # Stable on small integers is a radix sort; within a label memory order stays.
    order = np.argsort(owner.astype(np.uint16 if owner.max() < 2**16 else np.int64), kind="stable")
    values = probability.reshape(-1)[inside[order]]
    starts = np.searchsorted(owner[order], np.arange(1, owner.max() + 1))
    highest = np.maximum.reduceat(values, starts)
    found = []
    for label in wanted:
        first = starts[label - 1]
        last = starts[label] if label < len(starts) else len(values)
        peak = first + int(np.argmax(values[first:last] == highest[label - 1]))
        found.append(tuple(int(v) for v in np.unravel_index(inside[order[peak]], labels.shape)))
    return found
