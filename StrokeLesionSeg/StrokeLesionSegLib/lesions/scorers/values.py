"""What the values of an image say: a mask, a map of labels, or a soft map; and the mask in it.

Masks of 255 and of .9999 are masks. A map of labels needs to be told which of them is lesion, and
a soft map (probabilities, percent, a mask resampled with interpolation) where to cut it: every
voxel above 0 would be lesion else, and the scores silently wrong.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import InputError

Kind = Literal["empty", "mask", "labels", "soft"]

# Values this close to 0, to 1 and to whole numbers are meant to be these.
_CLOSE = 0.01
# Label maps consist of areas: of neighbours this share is equal. In soft maps nearly none is.
_AREAS = 0.5
_FEW_LABELS = 5
# What a soft map's highest value may be, by the value that means certain.
_SCALES = ((1.0, 1.02), (100.0, 101.0), (255.0, 255.5))
_LISTED = 12
_LESION = re.compile(r"lesion|stroke|infarct|cavit|encephalomalac", re.IGNORECASE)

# The values of masks that are nothing but masks.
_PLAIN = (1, 255)

#: A label's value or its segment's name; several are united.
Labels = Sequence[int | str]


@dataclass(frozen=True)
class Values:
    """What an image holds.

    Attributes
    ----------
    kind: "empty", "mask" (one value), "labels" or "soft".
    labels: the values but 0 of a mask or a map of labels, ascending.
    scale: of a soft map, the value that means certain: 1, 100 or 255; 0 if that is not clear.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions.scorers.values import look_at
    >>> look_at(np.array([[[0, 1, 2]]], np.uint8)).labels
    (1, 2)
    """

    kind: Kind
    labels: tuple[int, ...] = ()
    scale: float = 1.0


def look_at(values: ArrayLike) -> Values:
    """What an image (K, J, I) holds; NaN counts as 0.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions.scorers.values import look_at
    >>> look_at(np.array([[[0, 0.9999, 1]]])).kind, look_at(np.array([[[0, 0.4, 0.8]]])).kind
    ('mask', 'soft')
    """
    array = np.asarray(values)
    if array.dtype.kind == "b":
        return Values("mask", (1,)) if array.any() else Values("empty")
    some = array[array != 0]
    if array.dtype.kind == "f":
        some = some[~np.isnan(some)]
    if not some.size or (array.dtype.kind == "f" and float(np.abs(some).max()) <= _CLOSE):
        return Values("empty")
    distinct = np.unique(some).astype(np.float64)
    whole = np.rint(distinct)
    labels = tuple(int(v) for v in np.unique(whole) if v) if np.isfinite(whole).all() else ()
    low, top = float(distinct[0]), float(distinct[-1])
    scale = _scale(top) if low >= -_CLOSE else 0.0
    if np.abs(distinct - whole).max() <= _CLOSE:
        if len(labels) == 1:
            return Values("mask", labels)
        if len(labels) > _FEW_LABELS and labels[0] > 0 and scale and not _has_areas(array):
            return Values("soft", scale=scale)
        return Values("labels", labels)
    # A mask that was multiplied or went through a float format.
    all_or_none = (distinct >= top * (1 - _CLOSE)) | (np.abs(distinct) <= top * _CLOSE)
    if top >= 1 - _CLOSE and all_or_none.all():
        return Values("mask", (round(top),))
    return Values("soft", scale=scale)


def drawn_voxels(values: ArrayLike, where: str | os.PathLike[str]) -> NDArray[np.bool_]:
    """What somebody has drawn in the mask that was read from ``where``: all but 0 and traces of
    resampling.

    Raises ``InputError`` for a soft map, which would be as large as all its traces, and for a map
    of labels: of lesion and ventricle only one is lesion.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions.scorers.values import drawn_voxels
    >>> drawn_voxels(np.array([[[0, 1e-6, 0.9999, 1]]]), "mask.nii").tolist()
    [[[False, False, True, True]]]
    """
    array, found = np.asarray(values), look_at(values)
    if found.kind in ("soft", "labels"):
        cause = "is a soft or probability map" if found.kind == "soft" else _several(found)
        raise InputError(where, cause, "Give a mask of the lesions alone")
    least = max(found.labels[0], 0) / 2 if found.kind == "mask" else 0
    return np.asarray(array > (_CLOSE if found.kind == "empty" else least))


def _scale(top: float) -> float:
    return next((scale for scale, most in _SCALES if top <= most), 0.0)


def _has_areas(array: NDArray) -> bool:
    """Whether most neighbours, but those at the highest value, are equal, as in label maps."""
    same = pairs = 0
    top = array.max()
    for axis in range(array.ndim):
        a = np.moveaxis(array, axis, 0)
        both = (a[1:] > 0) & (a[:-1] > 0) & ~((a[1:] == top) & (a[:-1] == top))
        pairs += int(both.sum())
        same += int(((a[1:] == a[:-1]) & both).sum())
    return pairs == 0 or same > _AREAS * pairs


def lesion_mask(
    values: ArrayLike,
    *,
    label: Labels | None = None,
    threshold: float | None = None,
    segments: Mapping[str, int] | None = None,
    strict: bool = False,
) -> tuple[NDArray[np.bool_], str]:
    """The mask in an image, and a note where that was a choice ("" else).

    Parameters
    ----------
    values: (K, J, I).
    label: which labels are lesion. A mask of nothing but 1 or 255 is taken whole all the same, and
        the note says so, unless ``strict``.
    threshold: of the probability, 0 to 1, from which on a voxel of a soft map is lesion.
    segments: names of labels. If just one of them speaks of lesions, it is taken.

    Raises ``ValueError`` for an array that is not 3D, a map of labels or a soft map without what
    it needs, a label that no segment has, and a soft map of unknown scale.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions.scorers.values import lesion_mask
    >>> lesion_mask(np.array([[[0, 1, 2]]], np.uint8), label=[2])[0].tolist()
    [[[False, False, True]]]
    >>> lesion_mask(np.array([[[0, 40, 80.5]]]), threshold=0.5)[0].tolist()
    [[[False, False, True]]]
    """
    array = np.asarray(values)
    if array.ndim != 3:
        raise ValueError(f"a mask has three axes, not {array.ndim}")
    if array.dtype.kind == "b":
        return array, ""
    found = look_at(array)
    named = dict(segments or {})
    if found.kind == "soft":
        return _cut(array, found, threshold), ""
    plain = found.kind == "mask" and found.labels[0] in _PLAIN
    if label is not None and (strict or named or not plain):
        wanted = _wanted(label, found, named)
        return np.isin(np.rint(np.nan_to_num(array)), wanted), ""
    if found.kind == "empty":
        return np.zeros(array.shape, bool), ""
    if found.kind == "labels" or len(named) > 1:
        lesions = [name for name in named if _LESION.search(name)]
        if len(lesions) == 1:
            value = named[lesions[0]]
            return np.rint(np.nan_to_num(array)) == value, f'its segment "{lesions[0]}" is scored'
        raise ValueError(_parts(found, named))
    if found.labels[0] < 0:
        raise ValueError(f"its only value but 0 is {found.labels[0]}, and no mask is below 0")
    note = ""
    if label is not None and found.labels[0] not in label:
        note = f"it is a mask of one value ({found.labels[0]}), taken whole"
    # Half of the value, since resampling leaves traces beside a mask.
    return np.nan_to_num(array) > found.labels[0] / 2, note


def _cut(array: NDArray, found: Values, threshold: float | None) -> NDArray[np.bool_]:
    if threshold is None:
        raise ValueError("it is a soft or probability map, and a mask is needed or a threshold")
    if not found.scale:
        low, top = float(np.nanmin(array)), float(np.nanmax(array))
        raise ValueError(
            f"its values lie between {low:.4g} and {top:.4g}: neither probabilities nor percent"
        )
    return np.asarray(np.nan_to_num(array) >= threshold * found.scale)


def _wanted(label: Labels, found: Values, named: Mapping[str, int]) -> list[int]:
    wanted = []
    for one in label:
        if isinstance(one, str):
            meant = [value for name, value in named.items() if name.casefold() == one.casefold()]
            if not meant:
                raise ValueError(f'it has no segment "{one}": {_parts(found, named)}')
            wanted += meant
        else:
            wanted.append(one)
    return wanted


def _parts(found: Values, named: Mapping[str, int]) -> str:
    if named:
        return "its segments are " + ", ".join(
            f"{n} ({v})" for n, v in list(named.items())[:_LISTED]
        )
    return f"it {_several(found)}"


def _several(found: Values) -> str:
    shown = ", ".join(map(str, found.labels[:_LISTED]))
    more = f" and {len(found.labels) - _LISTED} more" if len(found.labels) > _LISTED else ""
    return f"holds several labels ({shown}{more})"
