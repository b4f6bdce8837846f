"""Lists of an atlas's labels, in the forms that atlases come with, and sides in their names."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, why_unread
from ..file_formats import split_name
from ..lesions.measure import LEFT, RIGHT

# Bounds on what a file may ask of us.
MAX_LABEL_BYTES = 4 << 20
MAX_NAME = 120
_LABEL_ENDINGS = (".json", ".csv", ".tsv", ".txt", ".lut")
# "L_Insula", "insula left", "Insula (R)", "lh.insula", "ctx-rh-insula", "insula_L".
_SIDES = re.compile(r"(?:^|[\s_.\-(])(?P<side>left|right|lh|rh|l|r)(?:$|[\s_.\-)])", re.IGNORECASE)
# Colour tables put three numbers or more before a name (ITK-SNAP, FSLeyes), three or four behind it
# (FreeSurfer). Fewer belong to the name: "Brodmann area 17". Numbers alone are no name.
_COLOURS = re.compile(r"\A(?:[\d.]+\s+){3,}|(?:\s+[\d.]+){3,4}\Z|\A[\d.\s]+\Z")


def labels_beside(image: Path) -> Path | None:
    """The list of labels of an atlas by its name: ``atlas.csv`` beside ``atlas.nii.gz``."""
    stem = split_name(image)[0]
    for ending in _LABEL_ENDINGS:
        for name in (stem, f"{stem}_labels", f"{stem}-labels"):
            if (file := image.with_name(name + ending)).is_file():
                return file
    return None


def without_side(name: str) -> tuple[str, str]:
    """A region's name without the side that it names, and that side: "left", "right" or "".

    Examples
    --------
    >>> without_side("L Superior Corona Radiata"), without_side("lobule")
    (('Superior Corona Radiata', 'left'), ('lobule', ''))
    """
    found = list(_SIDES.finditer(name))
    if len(found) != 1:
        return name, ""
    start, end = found[0].span()
    rest = " ".join(f"{name[:start]} {name[end:]}".replace("()", " ").split()).strip(" ,-_.")
    side = LEFT if found[0]["side"].lower().startswith("l") else RIGHT
    return (rest, side) if rest else (name, "")


def read_labels(path: Path) -> dict[int, str]:
    """Names by value; see ``read_atlas``. Raises ``InputError`` if there are none in the file."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_LABEL_BYTES:
            raise InputError(path, "is too large for a list of labels", "Check the file")
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read ({why_unread(error)})", "Check the file") from error
    ending = path.suffix.lower()
    if ending == ".json":
        found = _from_json(content, path)
    elif ending in (".csv", ".tsv"):
        # A comma or a semicolon in a name begins no cell that follows a whole number.
        readings = (csv.reader(content.splitlines(), delimiter=mark) for mark in ",;\t")
        found = max(map(_from_rows, readings), key=len)
    elif ending in _LABEL_ENDINGS:
        found = _from_lines(content)
    else:
        raise InputError(
            path, "is not a known kind of label list", f"Use one of {', '.join(_LABEL_ENDINGS)}"
        )
    names = {value: _tidy(name) for value, name in found.items() if value > 0}
    if not names:
        raise InputError(path, "names no region", "Give one value and name per line")
    return names


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
    raise InputError(path, "contains no names of regions", "Check the file")


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
            quoted = re.search(r'"([^"]+)"', cells[1])
            name = quoted[1] if quoted else _COLOURS.sub("", cells[1].strip())
        value = _whole(cells[0])
        if value is not None and name.strip():
            found[value] = name
    return found


def _whole(cell: object) -> int | None:
    text = str(cell).strip()
    return int(text) if re.fullmatch(r"\d{1,9}", text) else None


def _tidy(name: str) -> str:
    return " ".join(name.replace("_", " ").split())[:MAX_NAME] or "unnamed"
