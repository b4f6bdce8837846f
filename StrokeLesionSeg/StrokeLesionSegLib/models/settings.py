"""The parts of a manifest that decide how a model is run: ``preprocessing`` and ``inference``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..calibration import Calibration
from ..operating_point import OperatingPoint

VIEWS = ("axial", "triplanar")
#: How a model looks at a head: slice by slice, the whole head at once, or window by window.
KINDS = ("slices", "volumetric", "windows")
_POINT = ("threshold", "second_threshold", "min_volume_ml", "min_mean_probability")


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a scan before the network sees it.

    Attributes
    ----------
    grid: name of the grid that the model was trained on.
    window_percentiles: percentiles of the foreground that become 0 and 1.
    window_low_of: "foreground" or "volume": what the lower percentile is taken of.
    pad_multiple: slices are padded to a multiple of this, in pixels; 1 for other kinds of model.
    brain_mask_margin_mm: nothing further from the MNI brain than this is a lesion, in mm; None for
        no such rule.
    extra: fields that this version does not know, kept for writing back.

    ``from_dict`` raises ``ValueError`` that names the field at fault.

    Examples
    --------
    >>> from StrokeLesionSegLib.models import Preprocessing
    >>> content = {"grid": "mni152-2009a-1mm", "window_percentiles": [1, 99], "pad_multiple": 16}
    >>> Preprocessing.from_dict(content).window_percentiles
    (1.0, 99.0)
    """

    grid: str
    window_percentiles: tuple[float, float]
    window_low_of: str
    pad_multiple: int
    brain_mask_margin_mm: float | None
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], kind: str = "slices") -> Preprocessing:
        """Check and read the manifest's ``preprocessing`` of a model of ``kind``."""
        where = "manifest field preprocessing."
        if not isinstance(content.get("grid"), str):
            raise ValueError(f"{where}grid must be text")
        # A model of windows scales intensities as its manifest's ``windows`` says.
        window = content.get("window_percentiles", (0, 100) if kind == "windows" else None)
        if (
            not isinstance(window, (list, tuple))
            or len(window) != 2
            or not all(is_number(p, 0, 100) for p in window)
            or window[0] >= window[1]
        ):
            raise ValueError(f"{where}window_percentiles must be two ascending percentiles")
        low_of = content.get("window_low_of", "foreground")
        if low_of not in ("foreground", "volume"):
            raise ValueError(f"{where}window_low_of must be foreground or volume")
        multiple = content.get("pad_multiple", None if kind == "slices" else 1)
        if isinstance(multiple, bool) or not isinstance(multiple, int) or not 1 <= multiple <= 1024:
            raise ValueError(f"{where}pad_multiple must be a whole number of pixels")
        margin = content.get("brain_mask_margin_mm")
        if margin is not None and not is_number(margin, 0, 1000):
            raise ValueError(f"{where}brain_mask_margin_mm must be null or mm")
        return cls(
            content["grid"],
            (float(window[0]), float(window[1])),
            low_of,
            multiple,
            None if margin is None else float(margin),
            _unknown(content, cls),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what ``from_dict`` reads."""
        return {
            "grid": self.grid,
            "window_percentiles": list(self.window_percentiles),
            "window_low_of": self.window_low_of,
            "pad_multiple": self.pad_multiple,
            "brain_mask_margin_mm": self.brain_mask_margin_mm,
            **self.extra,
        }


@dataclass(frozen=True)
class Inference:
    """What a model recommends for running it.

    Attributes
    ----------
    operating_point: for ``views``, and for all others that ``of_views`` does not name.
    views: "axial" or "triplanar"; only slices have views.
    flip_axes: axes along which test-time augmentation mirrors: "i" (left-right), "j"
        (front-back), "k" (up-down).
    of_views: operating points where views want another: the mean of three views is rarely as high
        as that of one.
    calibration: of the probabilities, for the expected Dice; None: they are taken as they are.
    extra: fields that this version does not know, kept for writing back.

    ``from_dict`` raises ``ValueError`` that names the field at fault.

    Examples
    --------
    >>> from StrokeLesionSegLib.models import Inference
    >>> inference = Inference.from_dict({"threshold": 0.5, "min_volume_ml": 0.1})
    >>> inference.views, inference.point_of().min_volume_ml
    ('axial', 0.1)
    """

    operating_point: OperatingPoint
    views: str = "axial"
    flip_axes: tuple[str, ...] = ("i",)
    of_views: dict[str, OperatingPoint] = field(default_factory=dict)
    calibration: Calibration | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def point_of(self, views: str | None = None) -> OperatingPoint:
        """The operating point that is recommended for ``views``; None: the recommended views."""
        return self.of_views.get(views or self.views, self.operating_point)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Inference:
        """Check and read the manifest's ``inference``.

        An entry of ``of_views`` need only give what differs from the values beside it.
        """
        where = "manifest field inference."
        point = _read_point(content, where)
        special = content.get("of_views", {})
        if not isinstance(special, Mapping) or not all(
            views in VIEWS and isinstance(own, Mapping) and own.keys() <= set(_POINT)
            for views, own in special.items()
        ):
            raise ValueError(f"{where}of_views must give {', '.join(_POINT)} by views")
        views = content.get("views", "axial")
        if views not in VIEWS:
            raise ValueError(f"{where}views must be one of {', '.join(VIEWS)}")
        axes = content.get("flip_axes", ("i",))
        if (
            not isinstance(axes, (list, tuple))
            or not all(isinstance(axis, str) and axis in ("i", "j", "k") for axis in axes)
            or len(set(axes)) != len(axes)
        ):
            raise ValueError(f"{where}flip_axes must be a list of i, j and k, each at most once")
        calibration = content.get("calibration")
        return cls(
            point,
            views,
            tuple(axes),
            {
                name: _read_point({**content, **own}, f"{where}of_views.{name}.")
                for name, own in special.items()
            },
            None
            if calibration is None
            else Calibration.from_dict(calibration, f"{where}calibration"),
            _unknown(content, cls, _POINT),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what ``from_dict`` reads."""
        of_views = {name: point.as_dict() for name, point in self.of_views.items()}
        return {
            **self.operating_point.as_dict(),
            "views": self.views,
            "flip_axes": list(self.flip_axes),
            **({"of_views": of_views} if of_views else {}),
            **({"calibration": self.calibration.as_dict()} if self.calibration else {}),
            **self.extra,
        }


def is_number(value: Any, low: float, high: float) -> bool:
    """Whether ``value`` is a finite number from ``low`` to ``high``."""
    # bool is an int to Python, but true is no percentile.
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
    )


def _read_point(content: Mapping[str, Any], where: str) -> OperatingPoint:
    threshold = content.get("threshold")
    if threshold is None or not is_number(threshold, 0, 1) or threshold == 0:
        raise ValueError(f"{where}threshold must be a probability above 0")
    second = content.get("second_threshold")
    if second is not None and (not is_number(second, 0, 1) or second <= threshold):
        raise ValueError(f"{where}second_threshold must be null or a probability above threshold")
    volume, mean = content.get("min_volume_ml", 0.0), content.get("min_mean_probability", 0.0)
    if not is_number(volume, 0, 1e6):
        raise ValueError(f"{where}min_volume_ml must be a volume in mL")
    if not is_number(mean, 0, 1):
        raise ValueError(f"{where}min_mean_probability must be a probability")
    return OperatingPoint(
        float(threshold), None if second is None else float(second), float(volume), float(mean)
    )


def _unknown(content: Mapping[str, Any], cls: type, more: tuple[str, ...] = ()) -> dict[str, Any]:
    known = {*cls.__dataclass_fields__, *more} - {"extra"}  # type: ignore[attr-defined]
    return {key: value for key, value in content.items() if key not in known}
