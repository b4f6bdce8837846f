"""Lesion overlap of a group in MNI space, and the table for lesion-symptom mapping."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..lesions.measure import LEFT, RIGHT, side_of
from ..lesions.tables import write_sidecar, write_text
from ..outputs import beside_mask, remove_file
from ..spaces import MNI_SPACE
from .corrected import ENDING
from .index_page import deformation_of, mask_of
from .ledger import DONE
from .participants import PARTICIPANTS, Participants, read_participants

OVERLAP_TABLE = "group_lesion_symptom.csv"
_GROUPS = {
    "": "all scans that were aligned",
    LEFT: "scans whose lesions lie on the patient's left (at least 95 % of their volume)",
    RIGHT: "scans whose lesions lie on the patient's right (at least 95 % of their volume)",
}
#: The columns that come before those of participants.tsv.
OVERLAP_COLUMNS = (
    *("participant_id", "session_id", "scan", "mask", "side"),
    *("volume_ml", "left_ml", "right_ml", "mni_volume_ml", "rating"),
)


def overlap_names(out: Path, side: str = "") -> tuple[Path, Path]:
    """The files of counts and shares, of the whole group or of one side."""
    part = f"{side}_" if side else ""
    return out / f"group_overlap_{part}count.nii.gz", out / f"group_overlap_{part}share.nii.gz"


def write_overlap(out: Path, records: Iterable[Mapping[str, Any]], source: Path) -> tuple[str, ...]:
    """Write ``group_overlap_*`` and ``group_lesion_symptom.csv`` of the ledger's ``records``.

    A count is the number of scans with a lesion in a voxel of the template's 1 mm grid, a share
    that number divided by the scans that were added up, those without lesion included. The maps of
    a side hold the scans whose lesions lie there. One mask is in memory at a time.

    Returns what does not fit about ``participants.tsv`` in ``source``. Raises ``InputError`` if a
    file cannot be written.
    """
    from ..images import MNI_GRID, mask_in_mni

    counts = {side: np.zeros(MNI_GRID.shape, dtype=np.int32) for side in _GROUPS}
    scans = dict.fromkeys(_GROUPS, 0)
    left_out = 0
    rows: list[dict[str, Any]] = []
    for record in records:
        if record["state"] != DONE:
            continue
        found = mask_of(out, record)
        if found is None or found[1] is None:
            left_out += 1
            continue
        mask, to_mni = found
        assert to_mni is not None
        moved = mask_in_mni(_labelled(mask), to_mni, deformation_of(out, record)).array
        _write_corrected(out, record, moved)
        total_ml = float(np.count_nonzero(mask.array > 0)) * mask.grid.voxel_volume_ml
        share = _left_share(moved)
        side = side_of(share) if total_ml > 0 else ""
        for group in {"", side} & set(_GROUPS):
            counts[group] += moved
            scans[group] += 1
        volumes = {
            "volume_ml": total_ml,
            "left_ml": total_ml * share,
            "right_ml": total_ml * (1 - share),
            "mni_volume_ml": float(moved.sum()) * MNI_GRID.voxel_volume_ml,
        }
        rows.append(_row(out, record, side, volumes))
    people = read_participants(source, {row["participant_id"] for row in rows})
    for side in _GROUPS:
        _write_maps(out, side, counts[side], scans[side], left_out)
    _write_table(out / OVERLAP_TABLE, rows, people)
    own = [name for name in people.columns if name in OVERLAP_COLUMNS]
    if own:
        told = f"{PARTICIPANTS}: {OVERLAP_TABLE} has columns of its own for {', '.join(own)}."
        return (*people.notes, told)
    return people.notes


def remove_overlap(out: Path) -> None:
    """Take away what ``write_overlap`` has written; ``InputError`` if that cannot be done."""
    maps = [path for side in _GROUPS for path in overlap_names(out, side)]
    for path in (*maps, *(beside_mask(path, ".json") for path in maps), out / OVERLAP_TABLE):
        remove_file(path)


def _labelled(mask: Any) -> Any:
    """The mask with its lesions numbered, so that none of them is lost on the way."""
    from ..lesions.find import label_components

    return mask.with_array(label_components(mask.array > 0, connectivity=26))


def _left_share(mask: NDArray[np.uint8]) -> float:
    """Share of a mask on ``MNI_GRID`` that lies on the patient's left; half of the midline's."""
    from ..images import MNI_GRID

    middle = round(float(-MNI_GRID.affine[0, 3]))
    total = float(mask.sum())
    left = float(mask[:, :, :middle].sum()) + 0.5 * float(mask[:, :, middle].sum())
    return left / total if total else 0.0


def _row(
    out: Path, record: Mapping[str, Any], side: str, volumes: dict[str, float]
) -> dict[str, Any]:
    path = _corrected_file(out, record) if record.get("corrected") else _mni_file(out, record)
    file = "" if path is None else path.relative_to(out).as_posix()
    session = record.get("session")
    return {
        "participant_id": f"sub-{record['subject']}",
        "session_id": f"ses-{session}" if session else "",
        "scan": record["stem"],
        "mask": file if file and (out / file).is_file() else "",
        "side": side or "none",
        **{name: f"{volume:.6g}" for name, volume in volumes.items()},
        "rating": record.get("rating") or "",
    }


def _mni_file(out: Path, record: Mapping[str, Any]) -> Path | None:
    """A scan's automatic mask in MNI space; None if it was not written."""
    name = record.get("mni_mask")
    return out / record["folder"] / name if name else None


def _corrected_file(out: Path, record: Mapping[str, Any]) -> Path | None:
    """The same of a corrected mask."""
    automatic = _mni_file(out, record)
    if automatic is None:
        return None
    start = automatic.name.removesuffix("_mask.nii.gz")
    return automatic.with_name(f"{start}{ENDING}.nii.gz")


def _write_corrected(out: Path, record: Mapping[str, Any], moved: NDArray[np.uint8]) -> None:
    """The corrected mask in MNI space beside the automatic one; a stale one is removed."""
    from ..images import MNI_GRID, NiftiFields, Volume, write_volume

    path = _corrected_file(out, record)
    if path is None:
        return
    sidecar = beside_mask(path, ".json")
    if not record.get("corrected"):
        for file in (path, sidecar):
            remove_file(file)
        return
    volume = Volume(moved.astype(np.uint8), MNI_GRID.affine)
    write_volume(path, volume, overwrite=True, nifti=NiftiFields(code=4))
    told = {
        "Description": "Chronic stroke lesions as a reader has corrected them, resampled: 1 where "
        "at least half of a voxel is lesion",
        "Type": "Lesion",
        "SpatialReference": f"StrokeLesionSeg template, {MNI_SPACE}, 1 mm",
        "Sources": [f"bids::{record['folder']}/{record['corrected']}"],
        "Resolution": "1 mm",
    }
    write_sidecar(sidecar, told)


def _write_maps(out: Path, side: str, counts: Any, scans: int, left_out: int) -> None:
    from ..images import MNI_GRID, NiftiFields, Volume, write_volume

    share = (counts / max(scans, 1)).astype(np.float32)
    for path, array, told in zip(
        overlap_names(out, side),
        (counts, share),
        ("Number of scans with a lesion here", "Share of the scans with a lesion here, 0 to 1"),
        strict=True,
    ):
        write_volume(
            path, Volume(array, MNI_GRID.affine), overwrite=True, nifti=NiftiFields(code=4)
        )
        write_sidecar(
            beside_mask(path, ".json"),
            {
                "Description": f"{told}; {_GROUPS[side]}",
                "Space": MNI_SPACE,
                "NumberOfScans": scans,
                "NotAligned": left_out,
                "GeneratedBy": {"Name": "StrokeLesionSeg", "Version": __version__},
            },
        )


def _write_table(path: Path, rows: list[dict[str, Any]], people: Participants) -> None:
    """A row for each scan, with what ``participants.tsv`` says of the person."""
    extra = [name for name in people.columns if name not in OVERLAP_COLUMNS]
    text = io.StringIO()
    writer = csv.DictWriter(text, (*OVERLAP_COLUMNS, *extra), restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        known = people.of(row["participant_id"])
        # BIDS says n/a, which programs for statistics take for a word.
        told = {name: "" if known.get(name) == "n/a" else known.get(name, "") for name in extra}
        writer.writerow({**row, **told})
    write_text(path, text.getvalue())
