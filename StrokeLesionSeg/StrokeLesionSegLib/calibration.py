"""What a model's probabilities are worth: the map from what it says to what comes true."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Nearer to 0 or 1 than this, a float32 probability says no more about its logit.
_CLEAR_OF = 1e-6


@dataclass(frozen=True)
class Calibration:
    """Platt's scaling of a probability: sigmoid(slope logit(p) + shift).

    It never changes a mask: thresholds are of the probability that the model gives. It serves the
    expected Dice alone. Source: Platt 1999, Probabilistic outputs for support vector machines.

    Attributes
    ----------
    slope: above 0, at most 10; below 1 for a model that is overconfident.
    shift: -10 to 10; below 0 for a model that marks too much.

    Raises ``ValueError`` for values out of range.

    Examples
    --------
    >>> from StrokeLesionSegLib.calibration import Calibration
    >>> Calibration(slope=0.5).of([0.1, 0.5, 0.9]).round(3).tolist()
    [0.25, 0.5, 0.75]
    """

    slope: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and 0 < self.slope <= 10):
            raise ValueError(f"the slope must be above 0 and at most 10, not {self.slope}")
        if not abs(self.shift) <= 10:
            raise ValueError(f"the shift must be from -10 to 10, not {self.shift}")

    def of(self, probability: ArrayLike) -> NDArray[np.float64]:
        """Of probabilities in [0, 1], any shape; 0 and 1 stay what they are."""
        p = np.asarray(probability, dtype=np.float64)
        q = np.clip(p, _CLEAR_OF, 1 - _CLEAR_OF)
        scaled = 1 / (1 + np.exp(-(self.slope * np.log(q / (1 - q)) + self.shift)))
        return np.where(p <= 0, 0.0, np.where(p >= 1, 1.0, scaled))

    @classmethod
    def from_dict(cls, content: Any, where: str = "") -> Calibration:
        """From ``{"slope": ..., "shift": ...}``; ``ValueError`` that begins with ``where``."""
        if not isinstance(content, Mapping) or not content.keys() <= {"slope", "shift"}:
            raise ValueError(f"{where} must give slope and shift")
        for name, value in content.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"{where}.{name} must be a number")
        try:
            return cls(**content)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    def as_dict(self) -> dict[str, float]:
        """JSON-ready; what ``from_dict`` reads."""
        return asdict(self)
