"""Segmentations of 3D Slicer (.seg.nrrd): segments with names, in one layer or in several."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError
from ..volume import Volume
from .checks import MAX_VOXELS, checked_scan
from .itk_formats import NRRD_END, affine_of, itk_reason
from .plain_data import text_header
from .reading import read_scan

_FIELD = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer):?=\s*(.*)")
_MOST_LAYERS = 64


@dataclass(frozen=True)
class _Segment:
    name: str
    value: int
    layer: int


def read_labels(path: Path, *, last: Collection[str] = ()) -> tuple[Volume, dict[str, int]]:
    """An image whose values are labels, and the values of its segments by name.

    For an image of any format, ``read_scan`` with constant ones allowed, and no segments. A
    segmentation of several layers becomes one map of labels, numbered anew; where segments
    overlap, a later one lies above, and those called as in ``last`` above all. Segments of one name
    are one.

    Raises ``InputError`` as ``read_scan``.
    """
    segments = _segments(path) if path.name.lower().endswith(".nrrd") else []
    if len({s.layer for s in segments}) > 1:
        return _flattened(path, segments, {name.casefold() for name in last})
    volume = read_scan(path, allow_constant=True).volume
    named: dict[str, int] = {}
    for segment in segments:
        value = named.setdefault(segment.name, segment.value)
        if value != segment.value:
            united = np.where(volume.array == segment.value, np.float32(value), volume.array)
            volume = volume.with_array(united)
    return volume, named


def _segments(path: Path) -> list[_Segment]:
    try:
        text = text_header(path, NRRD_END).decode("utf-8", "replace")
    except OSError:
        return []  # reading says why
    told: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        if match := _FIELD.match(line):
            told.setdefault(int(match[1]), {})[match[2]] = match[3].strip()
    # Before layers were shared each segment had its own, with the value 1.
    return [
        _Segment(
            fields.get("Name") or f"Segment_{number + 1}",
            _whole(fields.get("LabelValue"), 1),
            _whole(fields.get("Layer"), number),
        )
        for number, fields in sorted(told.items())
    ]


def _whole(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isdecimal() else otherwise


def _flattened(
    path: Path, segments: list[_Segment], last: set[str]
) -> tuple[Volume, dict[str, int]]:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(os.fspath(path))
    try:
        reader.ReadImageInformation()
        count, size = reader.GetNumberOfComponents(), reader.GetSize()
        if count > _MOST_LAYERS or np.prod(size, dtype=float) > MAX_VOXELS:
            raise InputError(
                path,
                "its header claims more voxels than any segmentation has",
                "Save it again in 3D Slicer",
            )
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(
            path, f"the file is damaged or incomplete ({itk_reason(error)})", "Copy it again"
        ) from error
    layers = np.atleast_3d(sitk.GetArrayViewFromImage(image))
    if layers.ndim != 4 or any(s.layer >= layers.shape[-1] for s in segments):
        raise InputError(path, "its layers do not match its segments", "Save it again in 3D Slicer")
    labels = np.zeros(layers.shape[:3], np.float32)
    numbered = {s.name: number for number, s in enumerate(segments, start=1)}
    for segment in sorted(segments, key=lambda s: s.name.casefold() in last):
        labels[layers[..., segment.layer] == segment.value] = numbered[segment.name]
    scan = checked_scan(path, labels, affine_of(image), allow_constant=True)
    return scan.volume, numbered
