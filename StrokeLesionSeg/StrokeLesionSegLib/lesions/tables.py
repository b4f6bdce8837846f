"""Tables and sidecars: the lesions of a scan as TSV, everything about the run as JSON.

Columns follow BIDS: tab-separated, snake_case names with units, ``n/a`` for what is not known.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, why_unread
from ..outputs import atomic_file
from .find import LesionMap
from .measure import Lesion

# A number as _cell writes it.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?\Z")

#: The columns of a table of lesions, in their order.
COLUMNS = (
    "lesion",
    "voxels",
    "volume_ml",
    "side",
    "left_share",
    "centroid_r_mm",
    "centroid_a_mm",
    "centroid_s_mm",
    "centroid_mni_x_mm",
    "centroid_mni_y_mm",
    "centroid_mni_z_mm",
    "extent_rl_mm",
    "extent_ap_mm",
    "extent_si_mm",
    "mean_probability",
    "peak_probability",
    "keep",
)
#: What each of ``COLUMNS`` holds, as a BIDS data dictionary.
COLUMN_DESCRIPTIONS: dict[str, dict[str, str]] = {
    "lesion": {"Description": "Number in the label map; 1 is the largest lesion"},
    "voxels": {"Description": "Number of voxels"},
    "volume_ml": {"Description": "Volume", "Units": "mL"},
    "side": {"Description": "Patient's side that holds at least 95 % of the volume, else both"},
    "left_share": {"Description": "Share of the volume on the patient's left, 0 to 1"},
    **{
        f"centroid_{axis}_mm": {
            "Description": f"Centre of mass towards {name}, native RAS coordinates",
            "Units": "mm",
        }
        for axis, name in (("r", "right"), ("a", "anterior"), ("s", "superior"))
    },
    **{
        f"centroid_mni_{axis}_mm": {
            "Description": f"Centre of mass, {axis} in MNI152 (2009a) space; n/a if not aligned",
            "Units": "mm",
        }
        for axis in "xyz"
    },
    **{
        f"extent_{axis}_mm": {"Description": f"Length {name}", "Units": "mm"}
        for axis, name in (
            ("rl", "right to left"),
            ("ap", "anterior to posterior"),
            ("si", "superior to inferior"),
        )
    },
    "mean_probability": {"Description": "Mean probability over the lesion's voxels"},
    "peak_probability": {"Description": "Highest probability in the lesion"},
    "keep": {"Description": "False if a reader rejected the lesion"},
}


def lesion_row(lesion: Lesion) -> dict[str, Any]:
    """One lesion as a row of ``COLUMNS``; None where a value is not known.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import find_lesions, lesion_row
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> lesions = find_lesions(np.ones((4, 4, 4)), np.eye(4), OperatingPoint(0.5)).lesions
    >>> row = lesion_row(lesions[0])
    >>> row["volume_ml"], row["side"], row["centroid_mni_x_mm"]
    (0.064, 'both', None)
    """
    mni = lesion.centroid_mni_mm or (None, None, None)
    values = (
        lesion.label,
        lesion.voxels,
        lesion.volume_ml,
        lesion.side,
        lesion.left_share,
        *lesion.centroid_ras_mm,
        *mni,
        *lesion.extent_mm,
        lesion.mean_probability,
        lesion.peak_probability,
        lesion.keep,
    )
    return dict(zip(COLUMNS, values, strict=True))


def write_table(
    path: str | os.PathLike[str],
    lesions: LesionMap | Sequence[Lesion],
    *,
    leading: Mapping[str, Any] | None = None,
    overwrite: bool = True,
) -> None:
    """Write the lesions of a scan as TSV, one row each, only a header if there are none.

    ``leading`` are constant columns put before the others, for example ``{"subject": "01"}``.
    Raises ``InputError`` if the file exists and ``overwrite`` is false, or cannot be written.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import find_lesions, read_table, write_table
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> found = find_lesions(np.ones((4, 4, 4)), np.eye(4), OperatingPoint(0.5))
    >>> write_table("lesions.tsv", found, leading={"subject": "01"})
    >>> [(row["subject"], row["voxels"]) for row in read_table("lesions.tsv")]
    [('01', 64)]
    """
    if isinstance(lesions, LesionMap):
        lesions = lesions.lesions
    first = dict(leading or {})
    rows = ({**first, **lesion_row(lesion)} for lesion in lesions)
    write_rows(path, (*first, *COLUMNS), rows, overwrite=overwrite)


def write_rows(
    path: str | os.PathLike[str],
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    *,
    overwrite: bool = True,
) -> None:
    """Write any table as TSV in the order of ``columns``; a missing value becomes ``n/a``.

    Raises ``InputError`` as ``write_table`` does, ``ValueError`` for a column twice.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.lesions import write_rows
    >>> rows = [{"subject": "01", "age": 61}, {"subject": "02"}]
    >>> write_rows("ages.tsv", ["subject", "age"], rows)
    >>> Path("ages.tsv").read_text()
    'subject\\tage\\n01\\t61\\n02\\tn/a\\n'
    """
    if len(set(columns)) != len(columns):
        raise ValueError("a column occurs twice")
    lines = ["\t".join(_cell(c) for c in columns)]
    lines += ["\t".join(_cell(row.get(c)) for c in columns) for row in rows]
    write_text(path, "\n".join(lines) + "\n", overwrite=overwrite)


def _cell(value: Any) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            return "n/a"
        # Six decimals are a nanolitre and a nanometre; -0 would only puzzle the reader.
        text = f"{value:.6f}".rstrip("0").rstrip(".")
        return "0" if text in ("-0", "") else text
    # Tabs and line ends in a file's or patient's name must not make new cells.
    text = "".join(c if c.isprintable() else " " for c in str(value)) or "n/a"
    # To pandas, R and Excel a quote at the beginning begins a cell that may go on for lines.
    return '"' + text.replace('"', '""') + '"' if text.startswith('"') else text


def unquoted(cell: str) -> str:
    """A cell of a table without quotes around the whole of it."""
    quoted = len(cell) > 1 and cell.startswith('"') and cell.endswith('"')
    return cell[1:-1].replace('""', '"') if quoted else cell


def read_table(path: str | os.PathLike[str], *, text: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Read a TSV written here: numbers as int or float, true/false as bool, ``n/a`` as None.

    ``text``: columns whose cells are names, and stay text whatever they look like.

    Raises ``InputError`` if it cannot be read or a row has another number of cells.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import read_table, write_rows
    >>> rows = [{"subject": "01", "age": 61}, {"subject": "02"}]
    >>> write_rows("ages.tsv", ["subject", "age"], rows)
    >>> read_table("ages.tsv")
    [{'subject': '01', 'age': 61}, {'subject': '02', 'age': None}]
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            path, f"the table cannot be read ({why_unread(error)})", "Name a readable TSV file"
        ) from error
    columns = lines[0].split("\t")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise InputError(
                path,
                f"line {number} has {len(cells)} cells, not {len(columns)}",
                "Repair the table, or have it written again",
            )
        row = zip(columns, cells, strict=True)
        rows.append({name: unquoted(cell) if name in text else _value(cell) for name, cell in row})
    return rows


def _value(cell: str) -> Any:
    if cell == "n/a":
        return None
    if cell in ("true", "false"):
        return cell == "true"
    # Only what _cell writes is a number: the subject "01" and the name "1e5" stay text.
    if _NUMBER.match(cell):
        return float(cell) if "." in cell else int(cell)
    return unquoted(cell)


def summary_dict(lesion_map: LesionMap) -> dict[str, Any]:
    """Summary, operating point and lesions of a scan, JSON-ready, for a sidecar.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import find_lesions, summary_dict
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> found = find_lesions(np.ones((4, 4, 4)), np.eye(4), OperatingPoint(0.5))
    >>> summary_dict(found)["summary"]["volume_ml"]
    0.064
    """
    return {
        "summary": dataclasses.asdict(lesion_map.summary),
        "operating_point": lesion_map.operating_point.as_dict(),
        "lesions": [lesion_row(lesion) for lesion in lesion_map.lesions],
    }


def write_sidecar(
    path: str | os.PathLike[str], content: Mapping[str, Any], *, overwrite: bool = True
) -> None:
    """Write ``content`` as strict JSON (UTF-8, two spaces, keys in the given order).

    Takes what a run produces: dataclasses, paths, numpy numbers and arrays, tuples and sets;
    numbers that are not finite become null. The caller collects the content: all parameters,
    versions, checksums and timings (seconds).

    Raises ``InputError`` if the file exists and ``overwrite`` is false, or cannot be written, and
    ``TypeError`` for values that have no JSON form.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import read_sidecar, write_sidecar
    >>> write_sidecar("run.json", {"volumes_ml": np.array([1.5, np.nan])})
    >>> read_sidecar("run.json")
    {'volumes_ml': [1.5, None]}
    """
    text = json.dumps(to_json(content), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n", overwrite=overwrite)


def read_sidecar(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON sidecar; raises ``InputError`` if it is missing, unreadable or no object.

    Examples
    --------
    >>> from StrokeLesionSegLib.lesions import read_sidecar, write_sidecar
    >>> write_sidecar("run.json", {"threshold": 0.5})
    >>> read_sidecar("run.json")
    {'threshold': 0.5}
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            path, f"the sidecar cannot be read ({why_unread(error)})", "Name a readable JSON file"
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            path,
            "the sidecar is not a JSON object",
            "Name a sidecar that StrokeLesionSeg has written",
        )
    return content


def to_json(value: Any) -> Any:
    """``value`` in the types of JSON; raises ``TypeError`` if it has no such form."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (set, frozenset)):
        return [to_json(v) for v in sorted(value, key=str)]
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def write_text(path: str | os.PathLike[str], text: str, *, overwrite: bool = True) -> None:
    """Write UTF-8 text complete or not at all: a temporary name beside it, then a rename.

    Raises ``InputError`` if the file exists and ``overwrite`` is false, or cannot be written.
    """
    path = Path(path)
    if not overwrite and path.exists():
        raise InputError(path, "the output exists already", "Use --overwrite or another name")
    with atomic_file(path) as temporary:
        # Strange file names reach Python as lone surrogates, which UTF-8 cannot hold.
        temporary.write_bytes(text.encode("utf-8", "replace"))
