"""The simulated head with its stroke, made once in a process: it takes one or two seconds."""

from __future__ import annotations

import functools

import numpy as np
from StrokeLesionSegLib.images import Volume
from StrokeLesionSegLib.sample_scan import SimulatedStroke, stroke_in_head


@functools.cache
def simulated_head(step: int = 1) -> SimulatedStroke:
    """The sample; its arrays are everybody's and stay as they are. ``step``: of its 1 mm voxels
    every so many along each axis, where a test needs no more."""
    if step == 1:
        return stroke_in_head()
    whole, every = simulated_head(), (slice(None, None, step),) * 3
    scale = np.diag([step, step, step, 1.0])
    return SimulatedStroke(
        *(
            Volume(np.ascontiguousarray(volume.array[every]), volume.affine @ scale)
            for volume in (whole.t1, whole.truth)
        )
    )
