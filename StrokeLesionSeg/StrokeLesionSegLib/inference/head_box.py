"""The part of the MNI152 grid that the volumetric network sees: 160 x 192 x 160 mm.

It holds the brain of an aligned scan with at least 7 mm to spare. Its sides are multiples of 32,
for the five levels of the network at 2 mm. The plane x = 0 lies at index 80 of axis i, so that
mirroring takes index i to 160 - i.
"""

from __future__ import annotations

from ..boxes import Box

#: Slices k, j, i into the (189, 233, 197) grid: z -70 to 89, y -116 to 75, x -80 to 79 mm.
HEAD_BOX = (slice(2, 162), slice(18, 210), slice(18, 178))
#: Its shape (K, J, I).
HEAD_SHAPE = (160, 192, 160)
#: MNI152 coordinates (z, y, x) in mm of voxel (0, 0, 0).
HEAD_ORIGIN_ZYX = (-70, -116, -80)
#: The shape at 2 mm, at which the network works.
INNER_SHAPE = (80, 96, 80)


def at_1_mm(box: Box) -> Box:
    """A box in voxels of 2 mm in those of 1 mm."""
    k, j, i = (slice(2 * part.start, 2 * part.stop) for part in box)
    return k, j, i
