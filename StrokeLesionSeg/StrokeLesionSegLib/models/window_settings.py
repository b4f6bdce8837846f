"""How a network of others is asked: windows, intensities, space (manifest field ``windows``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .settings import is_number

RULES = ("nnunet", "monai")
NORMALIZATIONS = ("zscore", "zscore_mask", "rescale01", "none", "ct", "histogram")
RESAMPLINGS = ("spline", "torch", "none")
NATIVE_SPACE = "native"
_INTENSITY = ("mean", "std", "percentile_00_5", "percentile_99_5")
_ORIENTATION = re.compile(r"(?=.*[RL])(?=.*[AP])(?=.*[SI])[RLAPSI]{3}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True)
class Resampling:
    """How nnU-Net brings an image to the plans' spacing, or logits back.

    Attributes
    ----------
    kind: "spline" (its default), "torch" (linear) or "none".
    order: of the spline in plane; order_z: along the thick axis, where that is done by itself.
    separate: whether the thick axis is done by itself; None: where voxels are thrice as thick.
    """

    kind: str = "spline"
    order: int = 3
    order_z: int = 0
    separate: bool | None = None
    anisotropy: float = 3.0

    @classmethod
    def from_dict(cls, content: Any, where: str) -> Resampling:
        """Raises ``ValueError`` that names ``where``."""
        if not isinstance(content, Mapping) or content.get("kind", "spline") not in RESAMPLINGS:
            raise ValueError(f"{where}.kind must be one of {', '.join(RESAMPLINGS)}")
        order, order_z = content.get("order", 3), content.get("order_z", 0)
        if not (_whole(order, 0, 5) and _whole(order_z, 0, 5)):
            raise ValueError(f"{where} has an impossible order")
        separate, anisotropy = content.get("separate"), content.get("anisotropy", 3.0)
        if separate is not None and not isinstance(separate, bool):
            raise ValueError(f"{where}.separate must be true, false or null")
        if not is_number(anisotropy, 1, 1e6):
            raise ValueError(f"{where}.anisotropy must be a number from 1 on")
        return cls(content.get("kind", "spline"), order, order_z, separate, float(anisotropy))


@dataclass(frozen=True)
class Space:
    """The grid that a network wants its scan on.

    Attributes
    ----------
    name: "native" (the scan's own voxels), or the name of a grid in MNI space.
    orientation: what the array's axes run along, slowest index last, as nibabel says it: "RAS" is
        i to the right, j to the front, k upwards. On a grid in MNI space that of the grid.
    shape: (K, J, I) of the grid; affine: 4x4, ijk to MNI RAS mm; None for "native".
    template: which MNI152 it is, in words.
    """

    name: str = NATIVE_SPACE
    orientation: str = "RAS"
    shape: tuple[int, int, int] | None = None
    affine: tuple[tuple[float, ...], ...] | None = None
    template: str = ""

    @property
    def is_native(self) -> bool:
        return self.name == NATIVE_SPACE

    @property
    def in_words(self) -> str:
        """For lists and the panel: "native, RAS" or "MNI152, 182 x 218 x 182"."""
        if self.shape is None:
            return f"native, {self.orientation}"
        k, j, i = self.shape
        return f"{self.template or self.name}, {i} x {j} x {k}"

    @classmethod
    def from_dict(cls, content: Any) -> Space:
        """Raises ``ValueError`` that names the field at fault."""
        where = "manifest field windows.space"
        if not isinstance(content, Mapping) or not isinstance(content.get("name"), str):
            raise ValueError(f"{where}.name must be text")
        name, orientation = content["name"], content.get("orientation", "RAS")
        if not _NAME.match(name):
            raise ValueError(f"{where}.name may hold letters, digits, '.', '_' and '-' only")
        if not is_orientation(orientation):
            raise ValueError(f"{where}.orientation must be three letters such as RAS or LPS")
        shape, affine = content.get("shape"), content.get("affine")
        if (shape is None) != (name == NATIVE_SPACE) or (affine is None) != (shape is None):
            raise ValueError(f"{where}: shape and affine belong to a grid in MNI space, and to it")
        if shape is not None:
            shape = _numbers(shape, 3, 1, 2048, f"{where}.shape", whole=True)
            if not isinstance(affine, (list, tuple)) or len(affine) != 4:
                raise ValueError(f"{where}.affine must be 4 rows of 4 numbers")
            rows = [_numbers(row, 4, -1e6, 1e6, f"{where}.affine") for row in affine]
            affine = tuple(tuple(float(v) for v in row) for row in rows)
            if affine[3] != (0.0, 0.0, 0.0, 1.0):
                raise ValueError(f"{where}.affine must end with 0, 0, 0, 1")
        template = content.get("template", "")
        if not isinstance(template, str):
            raise ValueError(f"{where}.template must be text")
        return cls(name, orientation, shape, affine, template)


@dataclass(frozen=True)
class WindowSettings:
    """What a sliding-window network of others was trained with.

    Attributes
    ----------
    rule: "nnunet" or "monai": whose windows, weights and mirroring.
    patch: voxels of a window along the network's axes: two for a network that sees slices.
    transpose: which of the array's axes (0: slowest) is the network's first, second and third.
    spacing: mm along the network's axes; two for slices, whose distance stays; None: as it is.
    crop_to_nonzero: leave out what is 0 all around.
    normalization: one of ``NORMALIZATIONS``; intensity: the training set's numbers, for "ct".
    resample_image, resample_logits: to ``spacing`` and back.
    mirror_axes: axes of the network that the mean over mirrored windows mirrors.
    step: of the windows, in widths of a window.
    classes: channels of the answer; lesion: the one that is kept. activation: "softmax" or
        "sigmoid" (labels that lie in one another).
    labels: what the channels mean. folds: names of the networks whose logits are averaged.
    space: where the scan is brought.
    measured: of one window on the computer that installed the model: "seconds" in float32,
        "threads", and "peak_mb" of the process; empty where nobody measured.
    """

    rule: str
    patch: tuple[int, ...]
    transpose: tuple[int, int, int]
    spacing: tuple[float, ...] | None
    crop_to_nonzero: bool
    normalization: str
    mirror_axes: tuple[int, ...]
    classes: int
    lesion: int
    labels: tuple[str, ...]
    folds: tuple[str, ...]
    space: Space
    step: float = 0.5
    activation: str = "softmax"
    intensity: dict[str, float] = field(default_factory=dict)
    resample_image: Resampling = Resampling()
    resample_logits: Resampling = Resampling(order=1)
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def passes(self) -> int:
        """How often a window is seen by one network: once for each way to mirror it."""
        return 1 << len(self.mirror_axes)

    @classmethod
    def from_dict(cls, content: Any) -> WindowSettings:
        """Check and read the manifest's ``windows``; ``ValueError`` names the field at fault."""
        where = "manifest field windows"
        if not isinstance(content, Mapping):
            raise ValueError(f"{where} must be an object")
        for key, allowed in (("rule", RULES), ("normalization", NORMALIZATIONS)):
            if content.get(key) not in allowed:
                raise ValueError(f"{where}.{key} must be one of {', '.join(allowed)}")
        if content.get("activation", "softmax") not in ("softmax", "sigmoid"):
            raise ValueError(f"{where}.activation must be softmax or sigmoid")
        patch = _numbers(content.get("patch"), (2, 3), 1, 1024, f"{where}.patch", whole=True)
        transpose = _numbers(content.get("transpose"), 3, 0, 2, f"{where}.transpose", whole=True)
        if sorted(transpose) != [0, 1, 2]:
            raise ValueError(f"{where}.transpose must name each axis once")
        spacing = content.get("spacing")
        if spacing is not None:
            spacing = _numbers(spacing, len(patch), 0.05, 50, f"{where}.spacing")
        axes = content.get("mirror_axes", ())
        if axes:
            axes = _numbers(axes, (1, 2, 3), 0, len(patch) - 1, f"{where}.mirror_axes", whole=True)
        if len(set(axes)) != len(axes):
            raise ValueError(f"{where}.mirror_axes names an axis twice")
        classes: Any = content.get("classes")
        lesion: Any = content.get("lesion")
        labels, folds = content.get("labels", ()), content.get("folds")
        if not _whole(classes, 1, 256) or not _whole(lesion, 0, classes - 1):
            raise ValueError(f"{where}.lesion must be one of the classes")
        for key, names in (("labels", labels), ("folds", folds)):
            if not isinstance(names, (list, tuple)) or not all(isinstance(v, str) for v in names):
                raise ValueError(f"{where}.{key} must be a list of texts")
        if not folds or len(folds) > 64:
            raise ValueError(f"{where}.folds must name 1 to 64 networks")
        if not isinstance(content.get("crop_to_nonzero", False), bool):
            raise ValueError(f"{where}.crop_to_nonzero must be true or false")
        step = content.get("step", 0.5)
        if not is_number(step, 0.05, 1):
            raise ValueError(f"{where}.step must be a share of a window")
        return cls(
            content["rule"],
            patch,
            transpose,
            spacing,
            content.get("crop_to_nonzero", False),
            content["normalization"],
            tuple(axes),
            classes,
            lesion,
            tuple(labels),
            tuple(folds),
            Space.from_dict(content.get("space")),
            float(step),
            content.get("activation", "softmax"),
            _intensity(content, where),
            Resampling.from_dict(content.get("resample_image", {}), f"{where}.resample_image"),
            Resampling.from_dict(
                content.get("resample_logits", {"order": 1}), f"{where}.resample_logits"
            ),
            _measured(content.get("measured", {}), where),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what ``from_dict`` reads."""
        content = asdict(self)
        if self.space.shape is None:
            del content["space"]["shape"], content["space"]["affine"]
        return content


def is_orientation(value: Any) -> bool:
    """Whether ``value`` is three letters that name each axis once, such as "RAS"."""
    return isinstance(value, str) and _ORIENTATION.match(value) is not None


def _intensity(content: Mapping[str, Any], where: str) -> dict[str, float]:
    if content["normalization"] != "ct":
        return {}
    numbers = content.get("intensity")
    if not isinstance(numbers, Mapping) or not all(
        is_number(numbers.get(key), -1e9, 1e9) for key in _INTENSITY
    ):
        raise ValueError(f"{where}.intensity must give {', '.join(_INTENSITY)}")
    return {key: float(numbers[key]) for key in _INTENSITY}


def _measured(content: Any, where: str) -> dict[str, float]:
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and is_number(value, 0, 1e9) for key, value in content.items()
    ):
        raise ValueError(f"{where}.measured must give numbers by name")
    return {key: float(value) for key, value in content.items()}


def _numbers(
    values: Any,
    count: int | tuple[int, ...],
    low: float,
    high: float,
    where: str,
    *,
    whole: bool = False,
) -> tuple[Any, ...]:
    counts = (count,) if isinstance(count, int) else count
    good = _whole if whole else is_number
    if (
        not isinstance(values, (list, tuple))
        or len(values) not in counts
        or not all(good(v, low, high) for v in values)
    ):
        kind = "whole numbers" if whole else "numbers"
        wanted = " or ".join(map(str, counts))
        raise ValueError(f"{where} must be {wanted} {kind} from {low:g} to {high:g}")
    return tuple(values)


def _whole(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
