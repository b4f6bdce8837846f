"""A grid that nothing is aligned with, and an affine from it to MNI space, for several tests."""

from __future__ import annotations

import numpy as np

# Oblique, anisotropic, with the axes of the voxels in another order than RAS.
_TURN = np.deg2rad(12)
AFFINE = np.array(
    [
        [0, -2.0 * np.cos(_TURN), 2.5 * np.sin(_TURN), 40.0],
        [1.5, 0, 0, -50.0],
        [0, 2.0 * np.sin(_TURN), 2.5 * np.cos(_TURN), -20.0],
        [0, 0, 0, 1],
    ]
)
# No voxel centre falls between two voxels: both roundings would be right.
TO_MNI = np.array(
    [
        [1.1013, 0.0207, 0, 3.31],
        [0, 0.9537, 0.1019, -4.17],
        [0, -0.1031, 1.0043, 5.29],
        [0, 0, 0, 1],
    ]
)
