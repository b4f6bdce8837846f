"""A probability map ready for quick thresholds, and the lesions that a threshold finds in it.

Only the box where the probability could ever count is worked on, which keeps a whole-head volume
within the time of a hand's movement. Arrays only: no node is touched here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...boxes import bounding_box
from ...calibration import Calibration
from ...images.volume import Volume
from ...operating_point import OperatingPoint
from .patch import Patch

Seed = tuple[int, int, int]
# Probabilities below this show nothing of the overlay; also the floor of the threshold slider.
SHOWN_FROM = 0.05


@dataclass(frozen=True)
class Found:
    """What a threshold finds.

    ``lesion_map``: of the box that was worked on. ``patch``: the mask, without dropped lesions.
    ``seeds``: for each lesion its voxel (k, j, i) of the highest probability on the whole grid.
    ``dropped``: the labels of the dropped lesions; they stay in the map and can be taken back.
    ``expected_dice``: of the mask with a rater's; None if nobody can tell, as after dropping some.
    """

    lesion_map: Any
    patch: Patch
    seeds: tuple[Seed, ...]
    dropped: frozenset[int]
    expected_dice: float | None = None

    def labels_with_start(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The label map of the box, and where the box starts (k, j, i) in the whole grid."""
        return self.lesion_map.labels, np.array(self.patch.start)


class ProbabilityMap:
    """A lesion probability, ready for quick thresholds.

    ``volume``: float (K, J, I) on the scan's own grid. ``to_mni``: 4x4 from native RAS mm to MNI
    RAS mm, or None. Values below ``floor`` are never looked at unless a threshold is below it.
    ``calibration``: of the model's probabilities; without it no Dice is expected.
    """

    def __init__(
        self,
        volume: Volume,
        to_mni: NDArray[np.float64] | None = None,
        floor: float = SHOWN_FROM,
        calibration: Calibration | None = None,
    ) -> None:
        self.volume = volume
        self.to_mni = to_mni
        self.floor = floor
        self.calibration = calibration
        # One voxel where there is nothing.
        self._box = bounding_box(volume.array >= floor) or (slice(0, 1),) * 3
        self._cropped = np.ascontiguousarray(volume.array[self._box])

    def lesions(
        self,
        point: OperatingPoint,
        dropped: Iterable[Seed] = (),
    ) -> Found:
        """Apply an operating point; a component that holds a voxel of ``dropped`` is left out of
        the mask.

        ``dropped`` are voxels (k, j, i) of the whole grid, such as the seeds found before.
        """
        from ...lesions import find_lesions
        from ...lesions.measure import peaks

        box, cropped = self._box, self._cropped
        if point.threshold < self.floor:
            box = tuple(slice(0, n) for n in self.volume.array.shape)
            cropped = self.volume.array
        start = np.array([s.start for s in box])
        affine = self.volume.affine.copy()
        affine[:3, 3] = (affine @ np.array([*start[::-1], 1.0]))[:3]
        # What is left and right is decided by the whole scan, not by the box.
        middle = (np.array(self.volume.array.shape[::-1]) - 1) / 2
        midline_x = self.volume.affine[0, :3] @ middle + self.volume.affine[0, 3]
        found = find_lesions(
            cropped,
            affine,
            point,
            to_mni=self.to_mni,
            midline_x_mm=float(midline_x),
        )
        mask = np.array(found.mask, dtype=np.uint8)
        out = {label_at(found.labels, np.array(seed) - start) for seed in dropped} - {0}
        expected = None
        if out:
            # By its probability the model still expects what a reader has dropped.
            mask[np.isin(found.labels, list(out))] = 0
        else:
            expected = self._expected_dice(cropped, mask)
        seeds = tuple(
            (int(peak[0] + start[0]), int(peak[1] + start[1]), int(peak[2] + start[2]))
            for peak in peaks(cropped, found.labels, [lesion.label for lesion in found.lesions])
        )
        first = (int(start[0]), int(start[1]), int(start[2]))
        patch = Patch(mask, first, self.volume.grid)
        return Found(found, patch, seeds, frozenset(out), expected)

    def _expected_dice(
        self, probability: NDArray[np.floating], mask: NDArray[np.uint8]
    ) -> float | None:
        from ...lesions import expected_dice

        if self.calibration is None:
            return None
        # Beyond the box the probability is so low that it counts as 0.
        return expected_dice(probability, mask, calibration=self.calibration).value


def seeds_to_text(seeds: Iterable[Seed]) -> str:
    """Voxels (k, j, i) as a parameter of the scene: "k j i; k j i"."""
    return "; ".join(" ".join(map(str, seed)) for seed in seeds)


def seeds_from_text(text: str) -> tuple[Seed, ...]:
    """The reverse; what cannot be read is left out."""
    seeds = []
    for part in text.split(";"):
        numbers = part.split()
        if len(numbers) == 3 and all(n.isdigit() for n in numbers):
            seeds.append((int(numbers[0]), int(numbers[1]), int(numbers[2])))
    return tuple(seeds)


def label_at(labels: NDArray[np.int32], index: NDArray[np.int64]) -> int:
    """The label at a voxel (k, j, i); 0 outside the array."""
    if (index < 0).any() or (index >= labels.shape).any():
        return 0
    return int(labels[tuple(index)])
