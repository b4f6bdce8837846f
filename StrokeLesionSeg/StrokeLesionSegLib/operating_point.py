"""Where a probability map becomes a mask: the operating point, and how one is chosen.

Command line, batch, Python API, correction session, Slicer and the bench all end in
``OperatingPointChoice.resolve``: what a user asks for, completed by what the model recommends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .errors import InputError


@dataclass(frozen=True)
class OperatingPoint:
    """What counts as a lesion in a probability map.

    Attributes
    ----------
    threshold: a voxel belongs to a lesion if its probability is at least this, in (0, 1].
    second_threshold: above ``threshold``; a lesion needs a voxel of at least this probability.
        None: there is no such rule.
    min_volume_ml: a lesion needs at least this volume in mL; 0 keeps all.
    min_mean_probability: a lesion needs at least this mean probability, in [0, 1]; 0 keeps all.

    Raises ``ValueError`` for values out of range, and for a second threshold that is not above the
    first.

    Examples
    --------
    >>> OperatingPoint(0.5, second_threshold=0.8).thresholds
    (0.5, 0.8)
    """

    threshold: float
    second_threshold: float | None = None
    min_volume_ml: float = 0.0
    min_mean_probability: float = 0.0

    def __post_init__(self) -> None:
        # At 0 every voxel of the background would be a lesion.
        if not 0 < self.threshold <= 1:
            raise ValueError(f"a threshold must be above 0 and at most 1, not {self.threshold}")
        second = self.second_threshold
        if second is not None and not self.threshold < second <= 1:
            raise ValueError(
                f"the second threshold must be above the threshold of {self.threshold:g} and at "
                f"most 1, not {second}"
            )
        if not (self.min_volume_ml >= 0 and math.isfinite(self.min_volume_ml)):
            raise ValueError(f"the smallest volume must be at least 0 mL, not {self.min_volume_ml}")
        if not 0 <= self.min_mean_probability <= 1:
            raise ValueError(
                "the least mean probability must be at least 0 and at most 1, "
                f"not {self.min_mean_probability}"
            )

    @classmethod
    def at(
        cls,
        threshold: float,
        second_threshold: float | None,
        min_volume_ml: float = 0.0,
        min_mean_probability: float = 0.0,
    ) -> OperatingPoint:
        """The point at a threshold that may be moved freely: a second threshold that is not above
        it says nothing more and is left out."""
        holds = second_threshold is not None and second_threshold > threshold
        second = second_threshold if holds else None
        return cls(threshold, second, min_volume_ml, min_mean_probability)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The one or two probabilities that decide, ascending."""
        if self.second_threshold is None:
            return (self.threshold,)
        return (self.threshold, self.second_threshold)

    def as_dict(self) -> dict[str, float | None]:
        """JSON-ready, by the names of the attributes."""
        return asdict(self)

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Title and text of each value, for reports."""
        second = self.second_threshold
        facts = [
            ("Threshold", f"{self.threshold:g}"),
            ("Second threshold", "none" if second is None else f"{second:g}"),
            ("Smallest lesion", f"{self.min_volume_ml:g} mL"),
        ]
        if self.min_mean_probability > 0:
            facts.append(("Least mean probability", f"{self.min_mean_probability:g}"))
        return tuple(facts)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> OperatingPoint:
        """The reverse; other keys are ignored and missing ones have their defaults.

        Raises ``ValueError`` for values that make no operating point.
        """
        known = {item.name for item in fields(cls)}
        try:
            return cls(**{key: value for key, value in content.items() if key in known})
        except TypeError as error:
            raise ValueError(f"not an operating point: {dict(content)}") from error


@dataclass(frozen=True)
class OperatingPointChoice:
    """What a user asks for; None leaves a value to the model.

    Attributes
    ----------
    threshold, min_volume_ml, min_mean_probability: see ``OperatingPoint``.
    second_threshold: see ``OperatingPoint``; 0 switches it off.
    """

    threshold: float | None = None
    second_threshold: float | None = None
    min_volume_ml: float | None = None
    min_mean_probability: float | None = None

    def resolve(self, recommended: OperatingPoint) -> OperatingPoint:
        """The operating point: what was asked for, completed by ``recommended``.

        A recommended second threshold holds as long as it is above the threshold that was asked
        for, and is left out where it is not.

        Raises ``InputError`` for a second threshold that was asked for and is not above the
        threshold, and for other values that are out of range or no numbers.

        Examples
        --------
        >>> model = OperatingPoint(0.1, second_threshold=0.95, min_volume_ml=0.1)
        >>> OperatingPointChoice(threshold=0.3).resolve(model).thresholds
        (0.3, 0.95)
        >>> OperatingPointChoice(threshold=0.97).resolve(model).thresholds
        (0.97,)
        """
        try:
            threshold = _first(self.threshold, recommended.threshold)
            volume = _first(self.min_volume_ml, recommended.min_volume_ml)
            mean = _first(self.min_mean_probability, recommended.min_mean_probability)
            if self.second_threshold is None:
                return OperatingPoint.at(threshold, recommended.second_threshold, volume, mean)
            return OperatingPoint(threshold, self.second_threshold or None, volume, mean)
        except (TypeError, ValueError) as error:
            raise InputError("operating point", str(error), "Correct the value") from None


def _first(asked: float | None, recommended: float) -> float:
    return float(recommended if asked is None else asked)
