"""The stages of a prediction, and the two hooks by which a caller follows and stops it."""

from __future__ import annotations

from collections.abc import Callable

#: Called with the stage, what is done of it, and how much there is to do.
Progress = Callable[[str, int, int], None]
#: Asked between steps; True stops the run.
Cancel = Callable[[], bool]

#: In their order, as progress tells them and timings name them: aligning to MNI152, placing on the
#: predictor's grid, its intensity step, the network, and back to the scan's own grid.
STAGES = ("align", "canonical", "window", "network", "back")
