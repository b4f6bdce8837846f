"""The simulated head with its stroke, made once in a process: it takes one or two seconds."""

from __future__ import annotations

import functools

from StrokeLesionSegLib.sample_scan import SimulatedStroke, stroke_in_head


@functools.cache
def simulated_head() -> SimulatedStroke:
    """The sample; its arrays are everybody's and stay as they are."""
    return stroke_in_head()
