"""Atlases in MNI space that the user supplies, and lesion volumes by their regions."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..brief import brief_repr
from ..errors import InputError
from ..file_formats import split_name
from ..images import Volume, read_scan
from .content import RegionTable, RegionVolume

# Bounds on what a file may ask of us.
MAX_LABEL_BYTES = 4 << 20
MAX_REGIONS = 20_000
MAX_NAME = 120
_LABEL_ENDINGS = (".json", ".csv", ".tsv", ".txt", ".lut")


@dataclass(frozen=True, eq=False)
class Atlas:
    """A label map in MNI152 space.

    Attributes
    ----------
    title: its name. values: (K, J, I) int32, 0 outside every region. affine: 4x4, ijk to MNI RAS
    mm. names: region names by value; a value without one is called "region N". voxels: number of
    voxels by value.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import Atlas
    >>> atlas = Atlas("halves", np.ones((4, 4, 4), np.int32), np.eye(4), {1: "left"}, {1: 64})
    >>> atlas.name(1), atlas.name(2)
    ('left', 'region 2')
    """

    title: str
    values: NDArray[np.int32]
    affine: NDArray[np.float64]
    names: Mapping[int, str]
    voxels: Mapping[int, int]

    __repr__ = brief_repr

    def name(self, value: int) -> str:
        return self.names.get(value, f"region {value}")


def read_atlas(image: Path, labels: Path | None = None) -> Atlas:
    """Read an atlas: a label image in MNI152 space, and the names of its labels.

    ``labels`` is a JSON file (an object of values to names, or one with the list ``labels``
    whose positions are the values), a CSV or TSV (value, name; a heading is skipped), or a text
    file of lines "value|short name|name|..." or "value name". None: regions have no names.

    Raises ``InputError`` if a file cannot be read, the image holds other than whole numbers of 0
    and above or more than ``MAX_REGIONS`` regions, or none of its regions has a name.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.images import Volume, write_volume
    >>> from StrokeLesionSegLib.report import read_atlas
    >>> write_volume("halves.nii.gz", Volume(np.ones((4, 4, 4), np.uint8), np.eye(4)))
    >>> _ = Path("halves.csv").write_text("1,left half")
    >>> read_atlas(Path("halves.nii.gz"), Path("halves.csv")).name(1)
    'left half'
    """
    volume = read_scan(image, allow_constant=True).volume
    array = volume.array
    whole = np.rint(array)
    if not (np.abs(array - whole).max() <= 1e-3 and whole.min() >= 0 and whole.max() < 2**31):
        raise InputError(
            image,
            "is no atlas: its voxels are not whole numbers of 0 and above",
            "Give a label image, not a probability map",
        )
    values = whole.astype(np.int32)
    voxels = _count(values)
    if len(voxels) > MAX_REGIONS:
        raise InputError(
            image, f"has {len(voxels)} labels, at most {MAX_REGIONS} are read", "Give an atlas"
        )
    names = {} if labels is None else read_labels(labels)
    inside = set(voxels) - {0}
    if not inside:
        raise InputError(image, "is no atlas: it is empty", "Give a label image")
    if labels is not None and not inside & set(names):
        raise InputError(
            labels,
            f"names none of the {len(inside)} regions of {Path(image).name}",
            "Give the label file that belongs to the atlas",
        )
    return Atlas(split_name(Path(image))[0], values, volume.affine, names, voxels)


def read_labels(path: Path) -> dict[int, str]:
    """Names by value; see ``read_atlas``. Raises ``InputError`` if there are none in the file."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_LABEL_BYTES:
            raise InputError(path, "is too large for a list of labels", "Check the file")
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read ({error})", "Check the file") from error
    ending = path.suffix.lower()
    if ending == ".json":
        found = _from_json(content, path)
    elif ending in (".csv", ".tsv"):
        found = _from_rows(csv.reader(content.splitlines(), delimiter="\t,"[ending == ".csv"]))
    elif ending in _LABEL_ENDINGS:
        found = _from_lines(content)
    else:
        raise InputError(
            path, "is no list of labels that is known", f"Use one of {', '.join(_LABEL_ENDINGS)}"
        )
    names = {value: _tidy(name) for value, name in found.items() if value > 0}
    if not names:
        raise InputError(path, "names no region", "Give lines of value and name")
    return names


def region_table(atlas: Atlas, mask: Volume, to_mni: NDArray[np.float64]) -> RegionTable:
    """Lesion volume by region, measured on the scan's own voxels.

    ``mask``: lesions (> 0) on any grid; ``to_mni``: 4x4, its RAS mm to MNI RAS mm. Each lesion
    voxel counts for the region at its centre, and for the side of the MNI mid-sagittal plane (in
    it, half each). ``share`` is the lesion's part of the region's volume in MNI space.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.report import Atlas, region_table
    >>> atlas = Atlas("one", np.ones((4, 4, 4), np.int32), np.eye(4), {1: "box"}, {1: 64})
    >>> mask = Volume(np.ones((4, 4, 8), np.uint8), np.eye(4))
    >>> table = region_table(atlas, mask, np.eye(4))
    >>> round(table.rows[0].volume_ml, 3), round(table.outside_ml, 3)
    (0.064, 0.064)
    """
    k, j, i = np.nonzero(mask.array)
    voxel_ml = mask.grid.voxel_volume_ml
    index = np.stack([i, j, k, np.ones(len(k))]).astype(np.float64)
    mni = (to_mni @ mask.affine @ index)[:3]
    at = np.rint((np.linalg.inv(atlas.affine) @ np.vstack([mni, np.ones(len(k))]))[:3])
    limits = np.array(atlas.values.shape[::-1])[:, None]
    inside = ((at >= 0) & (at < limits)).all(axis=0)
    ai, aj, ak = at[:, inside].astype(np.int64)
    value = np.zeros(len(k), dtype=np.int64)
    value[inside] = atlas.values[ak, aj, ai]

    left = np.where(mni[0] < 0, 1.0, np.where(mni[0] > 0, 0.0, 0.5))
    # What the alignment does to volumes, for the share of a region.
    growth = abs(float(np.linalg.det(to_mni[:3, :3])))
    atlas_ml = Volume(atlas.values, atlas.affine).grid.voxel_volume_ml
    rows = []
    for region in np.unique(value[value > 0]).tolist():
        here = value == region
        left_ml = float(left[here].sum() * voxel_ml)
        total_ml = float(here.sum() * voxel_ml)
        share = min(1.0, total_ml * growth / (atlas.voxels[region] * atlas_ml))
        rows.append(RegionVolume(atlas.name(region), left_ml, total_ml - left_ml, share))
    rows.sort(key=lambda row: (-row.volume_ml, row.name))
    return RegionTable(atlas.title, tuple(rows), float((value == 0).sum() * voxel_ml))


def _count(values: NDArray[np.int32]) -> dict[int, int]:
    """Number of voxels by value."""
    if values.max() < 1_000_000:
        counts = np.bincount(values.ravel())
        present = np.flatnonzero(counts)
        return dict(zip(present.tolist(), counts[present].tolist(), strict=True))
    present, counts = np.unique(values, return_counts=True)
    return dict(zip(present.tolist(), counts.tolist(), strict=True))


def _from_json(content: str, path: Path) -> dict[int, str]:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not valid JSON ({error})", "Check the file") from None
    if isinstance(data, Mapping) and isinstance(data.get("labels"), (list, Mapping)):
        data = data["labels"]
    if isinstance(data, list):
        return {n: str(name) for n, name in enumerate(data) if isinstance(name, (str, int))}
    if isinstance(data, Mapping):
        pairs = ((_whole(key), name) for key, name in data.items())
        return {v: name for v, name in pairs if v is not None and isinstance(name, str)}
    raise InputError(path, "holds neither names nor a list of them", "Check the file")


def _from_rows(rows: Any) -> dict[int, str]:
    found = {}
    for row in rows:
        value = _whole(row[0]) if len(row) > 1 else None
        if value is not None:
            found[value] = row[1]
    return found


def _from_lines(content: str) -> dict[int, str]:
    found = {}
    for line in content.splitlines():
        if "|" in line:
            # MRIcroGL's lists: value, abbreviation, full name, group.
            cells = line.split("|")
            name = cells[2] if len(cells) > 2 and cells[2].strip() else cells[1]
        else:
            cells = line.split(None, 1)
            if len(cells) < 2:
                continue
            # Colour tables of FreeSurfer and ITK-SNAP put numbers behind or before the name.
            quoted = re.search(r'"([^"]+)"', cells[1])
            words = [w for w in cells[1].split() if not re.fullmatch(r"[\d.]+", w)]
            name = quoted[1] if quoted else " ".join(words)
        value = _whole(cells[0])
        if value is not None and name.strip():
            found[value] = name
    return found


def _whole(cell: object) -> int | None:
    text = str(cell).strip()
    return int(text) if re.fullmatch(r"\d{1,9}", text) else None


def _tidy(name: str) -> str:
    return " ".join(name.replace("_", " ").split())[:MAX_NAME] or "unnamed"
