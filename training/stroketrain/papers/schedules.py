"""Learning-rate schedules by name (PAPERS.md B7), as factors of the first rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from StrokeLesionSegLib.errors import InputError


def _constant(progress: float) -> float:
    return 1.0


def _two_stage(progress: float, switch: float = 0.6, drop: float = 0.1) -> float:
    """The CS230 paper's by hand: train on from the weights with a smaller rate."""
    return 1.0 if progress < switch else drop


def _poly(progress: float, power: float = 0.9) -> float:
    return (1.0 - progress) ** power


def _cosine(progress: float, floor: float = 0.01, warm: float = 0.03) -> float:
    rise = min(1.0, progress / warm + 1e-3) if warm > 0 else 1.0
    return min(rise, floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


SCHEDULES = {"constant": _constant, "two_stage": _two_stage, "poly": _poly, "cosine": _cosine}


def rate_factor(schedule: dict[str, Any], progress: float) -> float:
    """Factor of the learning rate at ``progress`` in [0, 1] of the run.

    ``schedule`` is ``{"name": "two_stage", "switch": 0.6, "drop": 0.1}`` or the like. Raises
    ``InputError`` for an unknown name or option.
    """
    options = dict(schedule)
    name = options.pop("name", None)
    if name not in SCHEDULES:
        raise InputError("schedule", f"unknown schedule {name!r}", f"Use {', '.join(SCHEDULES)}")
    try:
        return SCHEDULES[name](min(1.0, max(0.0, progress)), **options)
    except TypeError as error:
        raise InputError("schedule", f"{name}: {error}", "See papers/schedules.py") from error


def relative_swing(values: Sequence[float], last: int = 5) -> float | None:
    """(highest - lowest) / highest of the last evaluations: the oscillation that the paper reads
    off its curves. None for fewer than two evaluations or where nothing was found at all."""
    recent = list(values)[-last:]
    if len(recent) < 2 or max(recent) <= 0:
        return None
    return (max(recent) - min(recent)) / max(recent)
