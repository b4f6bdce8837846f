"""What belongs to the output folder as a whole: its BIDS description and the group tables."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .. import __version__
from ..errors import InputError
from ..lesions.regions import REGION_COLUMNS, SUMMARY_COLUMNS, region_summary
from ..lesions.tables import (
    COLUMN_DESCRIPTIONS,
    COLUMNS,
    read_table,
    write_rows,
    write_sidecar,
    write_text,
)
from ..outputs import os_input_error, read_json_object
from .ledger import DONE, LEDGER_NAME

BIDS_VERSION = "1.10.0"
DESCRIPTION = "dataset_description.json"
#: The columns of group_scans.tsv.
SCAN_COLUMNS = {
    "participant_id": "Subject",
    "session_id": "Session; n/a if there is none",
    "scan": "Begin of the names of the scan's outputs",
    "source": "The scan, relative to the input folder",
    "state": "done, or failed",
    "lesions": "Number of lesions",
    "volume_ml": "Volume of all lesions",
    "left_ml": "Part of it on the patient's left",
    "right_ml": "Part of it on the patient's right",
    "largest_ml": "Volume of the largest lesion",
    "corrected": "Whether the numbers are those of a mask that a reader has corrected",
    "mean_probability": "Mean probability over all lesion voxels; n/a without lesions",
    "expected_dice": "Dice coefficient to expect with a rater's mask, estimated from the "
    "probabilities; n/a for corrected masks, and for models without a calibration",
    "look_at": "Reasons to look at the result before it is used; n/a if there are none",
    "rating": "Rating in the quality control: accepted, correct (is to be corrected) or rejected; "
    "n/a without one",
    "rating_comment": "Comment that came with it",
    "aligned": "Whether the alignment to MNI152 succeeded; n/a if none was needed or wanted",
    "seconds": "Time from reading to writing, without waiting for other scans",
    "warnings": "What was odd, but dealt with",
    "error": "Why it failed, and what to do",
}
_UNITS = {"ml": "mL", "mm": "mm", "percent": "%", "seconds": "s"}
LEFT_OUT = "group_left_out.tsv"
# What the BIDS standard has no names for (yet).
_IGNORED = "\n".join(
    ["logs/", "pages", "group_*", "ratings*", "index.html", "scores", "scores_*",
     "*_stats.*", "**/*_stats.*",
     "*_regions.*", "**/*_regions.*", "**/*.dcm", "**/*_report.html", "**/*_xfm.h5",
     "**/.stroke-lesion-seg-*"]
)  # fmt: skip
_README = """\
# Chronic stroke lesions

Masks (`*_label-lesion_mask.nii.gz`), probabilities (`*_label-lesion_probseg.nii.gz`) and tables
(`*_desc-lesions_stats.tsv`, by region `*_desc-lesions_regions.tsv`) of chronic stroke lesions in
T1-weighted MRI, on the grid of each scan, made by StrokeLesionSeg. For research; not a medical
device. Look at every mask.

`group_scans.tsv` lists all scans, `group_lesions.tsv` all lesions and `group_regions.tsv` their
volumes by region; `group_regions_summary.tsv` has a row for each region.
`logs/scans.jsonl` is the ledger: what was done with every scan, when, with which model and
parameters.
"""


def check_out(out: Path, source: Path) -> None:
    """Raise ``InputError`` if ``out`` is the input, no folder, or another program's data set."""
    remedy = "Give another output folder"
    if os.path.lexists(out) and not out.is_dir():
        raise InputError(out, "is not a folder", remedy)
    if out.is_dir() and source.is_dir() and os.path.samefile(out, source):
        raise InputError(out, "the output folder is the input folder", remedy)
    if not out.is_dir() or (out / LEDGER_NAME).is_file():
        return
    described = out / DESCRIPTION
    if described.is_file():
        try:
            content = json.loads(described.read_text(encoding="utf-8"))
            makers = [maker.get("Name") for maker in content.get("GeneratedBy", [])]
        except (OSError, ValueError, AttributeError, TypeError):
            makers = []
        if "StrokeLesionSeg" not in makers:
            raise InputError(out, "contains another data set", remedy)
    elif any(out.glob("sub-*")):
        raise InputError(out, "contains subjects of another data set", remedy)


def made_otherwise(records: Iterable[Mapping[str, Any]], digest: str) -> str:
    """How many scans were made with other settings than those of ``digest``; empty if none was.

    Examples
    --------
    >>> from StrokeLesionSegLib.cohort.dataset import made_otherwise
    >>> records = [{"state": "done", "settings": name} for name in ("new", "old")]
    >>> made_otherwise(records, "new")
    '1 of 2 scans was made with other settings; the sidecar of each mask tells its own'
    """
    made = [record.get("settings") for record in records if record["state"] == DONE]
    count = sum(settings != digest for settings in made)
    if not count:
        return ""
    scans = f"{count} of {len(made)} scan{'s' * (len(made) != 1)}"
    return (
        f"{scans} {'was' if count == 1 else 'were'} made with other settings; "
        "the sidecar of each mask tells its own"
    )


def write_description(
    out: Path, source: Path, parameters: Mapping[str, Any], otherwise: str = ""
) -> None:
    """``dataset_description.json``, ``README.md``, ``.bidsignore`` and the columns' meanings.

    ``otherwise``: what ``made_otherwise`` says of scans that these ``parameters`` are not those of.
    Only the description is written again if it is there. Raises ``InputError`` if it cannot be.
    """
    root = source if source.is_dir() else source.parent
    try:
        link = quote(os.fsencode(Path(os.path.relpath(root, out)).as_posix()))
    except ValueError:  # another drive
        link = root.as_uri()
    content = {
        "Name": "Chronic stroke lesions found by StrokeLesionSeg",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "StrokeLesionSeg",
                "Version": __version__,
                "Description": "For research. Not a medical device."
                + (f" {otherwise}." if otherwise else ""),
                "Parameters": dict(parameters),
            }
        ],
        "DatasetLinks": {"input": link},
        "HowToAcknowledge": "Name StrokeLesionSeg, its version and the model in GeneratedBy.",
    }
    if doi := _doi(root):
        content["SourceDatasets"] = [{"DOI": doi}]
    write_sidecar(out / DESCRIPTION, content)
    for name, text in (("README.md", _README), (".bidsignore", _IGNORED + "\n")):
        if not (out / name).exists():
            write_text(out / name, text)
    write_sidecar(out / "desc-lesions_stats.json", COLUMN_DESCRIPTIONS)
    write_sidecar(out / "desc-lesions_regions.json", REGION_COLUMNS)


def _doi(root: Path) -> str:
    return described(root, "DatasetDOI")


def described(root: Path, key: str) -> str:
    """A text of the data set's description in ``root``; empty if there is none.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort.dataset import described
    >>> described(Path("no such folder"), "Name")
    ''
    """
    return str(read_json_object(root / DESCRIPTION).get(key) or "")


def write_group_tables(out: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """``group_scans.tsv``, a row for each record, ``group_lesions.tsv``, one for each lesion, and
    ``group_regions.tsv``, one for each scan, region and side that holds lesion.

    ``records`` are the ledger's, in the order of the rows. Raises ``InputError`` if a table cannot
    be written.
    """
    records = list(records)
    try:
        write_rows(out / "group_scans.tsv", tuple(SCAN_COLUMNS), map(_scan_row, records))
        leading = ("participant_id", "session_id", "scan")
        write_rows(out / "group_lesions.tsv", (*leading, *COLUMNS), _lesion_rows(out, records))
        tables = [(record, _regions_of(out, record)) for record in records]
        regions = [
            {**_whose(record), **row} for record, rows in tables if rows is not None for row in rows
        ]
        write_rows(out / "group_regions.tsv", (*leading, *REGION_COLUMNS), regions)
        aligned = sum(rows is not None for _, rows in tables)
        summary = region_summary(regions, aligned)
        write_rows(out / "group_regions_summary.tsv", tuple(SUMMARY_COLUMNS), summary)
    except OSError as error:
        raise os_input_error(error, out) from error
    write_sidecar(out / "group_regions_summary.json", SUMMARY_COLUMNS)
    write_sidecar(out / "group_scans.json", with_units(SCAN_COLUMNS))
    described = {name: {"Description": SCAN_COLUMNS[name]} for name in leading}
    write_sidecar(out / "group_lesions.json", {**described, **COLUMN_DESCRIPTIONS})
    write_sidecar(out / "group_regions.json", {**described, **REGION_COLUMNS})


def with_units(columns: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Columns and what they mean as a sidecar tells them, with the units that their names end in.

    Examples
    --------
    >>> from StrokeLesionSegLib.cohort.dataset import with_units
    >>> with_units({"left_ml": "On the left"})
    {'left_ml': {'Description': 'On the left', 'Units': 'mL'}}
    """
    told = {name: {"Description": text} for name, text in columns.items()}
    for name, entry in told.items():
        if unit := _UNITS.get(name.split("_")[-1]):
            entry["Units"] = unit
    return told


def write_left_out(out: Path, left_out: Mapping[str, str]) -> None:
    """``group_left_out.tsv``: images of the input that are no scans, and why; none, no file.

    Raises ``InputError`` if it cannot be written.
    """
    file = out / LEFT_OUT
    try:
        if left_out:
            rows = ({"image": name, "reason": why} for name, why in sorted(left_out.items()))
            write_rows(file, ("image", "reason"), rows)
        else:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise os_input_error(error, file) from error


def _scan_row(record: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: record.get(name) for name in SCAN_COLUMNS}
    return {
        **row,
        **_whose(record),
        "corrected": bool(record.get("corrected")) if record["state"] == DONE else None,
        "look_at": " ".join(record.get("look_at") or ()) or None,
        "warnings": " ".join(record.get("warnings") or ()) or None,
    }


def _lesion_rows(out: Path, records: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for record in records:
        if record["state"] == DONE and record.get("lesions"):
            table = out / record["folder"] / f"{record['stem']}_desc-lesions_stats.tsv"
            rows = record.get("corrected_lesions")
            for row in read_table(table) if rows is None else rows:
                yield {**_whose(record), **row}


def _regions_of(out: Path, record: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """A scan's rows by region, those of its corrected mask first; None if it was not aligned."""
    table = out / record["folder"] / f"{record['stem']}_desc-lesions_regions.tsv"
    if record["state"] != DONE or not table.is_file():
        return None
    rows = record.get("corrected_regions")
    # An atlas may call its regions by numbers, as Brodmann did: they are names all the same.
    return read_table(table, text=("region",)) if rows is None else rows


def _whose(record: Mapping[str, Any]) -> dict[str, Any]:
    session = record.get("session")
    return {
        "participant_id": f"sub-{record['subject']}",
        "session_id": f"ses-{session}" if session else None,
        "scan": record["stem"],
    }
