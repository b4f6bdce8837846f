"""What a run of a sliding-window model will take here, told before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .options import SegmentOptions
from .window_grid import starts
from .window_plan import at_once

if TYPE_CHECKING:
    from ..models import Manifest
    from ..models.window_settings import WindowSettings

# A brain with its margin in mm along k, j, i, and a whole head.
_BRAIN_MM = (161.0, 189.0, 153.0)
_HEAD_MM = (189.0, 233.0, 197.0)
# Scan, logits and what they are resampled through, besides what a window takes.
_VOLUMES_MB = 300.0


@dataclass(frozen=True)
class Expectation:
    """``windows`` of a head, seconds in float32 on the computer that installed the model, and the
    most memory of the process in MB.

    Examples
    --------
    >>> from StrokeLesionSegLib.inference import Expectation
    >>> Expectation(8, 320.0, 2100.0).in_words
    'about 5 minutes, 2.1 GB'
    """

    windows: int
    seconds: float
    peak_mb: float

    @property
    def in_words(self) -> str:
        """For people: "about 5 minutes, 2.1 GB"."""
        return f"about {self.time_in_words}, {self.memory_in_words}"

    @property
    def time_in_words(self) -> str:
        """Seconds, minutes or hours, in round numbers."""
        for least, size, unit in ((5400, 3600, "hours"), (90, 60, "minutes")):
            if self.seconds >= least:
                return f"{self.seconds / size:.0f} {unit}"
        return f"{max(1, self.seconds):.0f} s"

    @property
    def memory_in_words(self) -> str:
        """In GB."""
        return f"{self.peak_mb / 1000:.1f} GB"


def expected_run(manifest: Manifest, options: SegmentOptions | None = None) -> Expectation | None:
    """What one scan takes; None for other kinds of model, and where nobody measured.

    Examples
    --------
    >>> from StrokeLesionSegLib.inference import expected_run
    >>> from StrokeLesionSegLib.models import Manifest, find_model
    >>> expected_run(Manifest.from_file(find_model())) is None  # no model of windows
    True
    """
    settings = manifest.windows
    if settings is None or "seconds" not in settings.measured:
        return None
    options = options or SegmentOptions()
    count = _windows(settings, exact=options.exact)
    passes = settings.passes if options.mirror else 1
    seconds = count * passes * len(settings.folds) * settings.measured["seconds"]
    whole = math.prod(_in_voxels(_HEAD_MM, settings))
    peak = settings.measured.get("peak_mb", 0.0) + _VOLUMES_MB + settings.classes * whole * 12 / 1e6
    return Expectation(count, seconds, peak)


def _windows(settings: WindowSettings, *, exact: bool) -> int:
    """Of a head; where not all are asked in any case, half of those that a lesion may call for."""
    size_mm = _HEAD_MM
    if settings.space.shape is not None:
        steps = np.linalg.norm(np.array(settings.space.affine)[:3, 2::-1], axis=0)
        k, j, i = (float(n * mm) for n, mm in zip(settings.space.shape, steps, strict=True))
        size_mm = (k, j, i)
    sizes, brains = _in_voxels(size_mm, settings), _in_voxels(_BRAIN_MM, settings)
    flat = len(sizes) - len(settings.patch)
    every = soon = most = 1
    for size, brain, width in zip(sizes[flat:], brains[flat:], settings.patch, strict=True):
        places = starts(max(size, width), width, settings.step, settings.rule)
        low = max(0, (size - brain) // 2)
        high = min(size, low + brain)
        every *= len(places)
        soon *= len(at_once(places, width, low, high))
        most *= sum(n < high and low < n + width for n in places)
    if exact:
        return every * (sizes[0] if flat else 1)
    return math.ceil((soon + most) / 2) * (brains[0] if flat else 1)


def _in_voxels(size_mm: tuple[float, ...], settings: WindowSettings) -> tuple[int, ...]:
    sizes = settings.spacing or (1.0, 1.0, 1.0)
    if len(sizes) == 2:
        sizes = (1.0, *sizes)
    along = [size_mm[axis] for axis in settings.transpose]
    return tuple(max(1, round(mm / s)) for mm, s in zip(along, sizes, strict=True))
