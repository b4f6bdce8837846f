"""Masks that somebody has corrected, in the place of the automatic ones in tables, maps and pages.

``<stem>_desc-corrected_mask.nii.gz`` lies beside the automatic mask, with a ``.json`` that says who
corrected it (a pseudonym), when, from which model's mask, and what the T1's contents were. No batch
writes or removes one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlases import AtlasChoice, region_table
from ..errors import InputError
from ..lesions import find_lesions, lesion_row, read_sidecar, write_sidecar
from ..lesions.scorers.values import drawn_voxels
from ..operating_point import OperatingPoint
from ..outputs import OutputSet
from .corrected import ENDING, Corrected, corrected_masks
from .index_page import deformation_of, mask_of
from .ledger import DONE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..images import Volume
    from ..lesions import LesionMap

# All of a mask is lesion, however small its pieces.
_WHOLE = OperatingPoint(0.5)


def save_correction(out: Path, record: Mapping[str, Any], mask: Volume, who: str) -> Path:
    """Write a corrected mask of the scan of ``record`` (of the ledger of ``out``) and its JSON.

    ``mask``: on the scan's grid, not 0 is lesion. ``who``: the reader's pseudonym.

    Raises ``InputError`` if they cannot be written; those of an earlier correction are left as they
    were then. Returns the mask's path.
    """
    from ..images import write_volume

    folder = out / record["folder"]
    path = folder / f"{record['stem']}{ENDING}.nii.gz"
    sidecar = path.with_name(f"{record['stem']}{ENDING}.json")
    automatic = folder / f"{record['stem']}_label-lesion_mask"
    known = read_sidecar(automatic.with_name(f"{automatic.name}.json"))
    facts = {
        "Description": "Chronic stroke lesions, corrected by a reader",
        "Type": "Lesion",
        "Sources": known.get("Sources"),
        "source": {"sha256": (record.get("input") or {}).get("sha256")},
        "model": known.get("model"),
        "corrected": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "corrected_by": who,
    }
    with OutputSet([path], [(sidecar, ".json")], overwrite=True) as outputs:
        write_volume(outputs.staged(path), mask.with_array((mask.array != 0).astype(np.uint8)))
        write_sidecar(outputs.staged(sidecar), facts)
        outputs.commit()
    return path


def with_corrections(
    out: Path, records: Iterable[Mapping[str, Any]], atlas: AtlasChoice | None = None
) -> tuple[list[dict[str, Any]], list[str], str]:
    """The ledger's records with the lesions of corrected masks, what is odd, and a checksum.

    A record that has one says so in ``corrected`` (the mask's name) and ``correction`` (a
    ``Corrected``), its lesions are in ``corrected_lesions``, rows as ``lesions.lesion_row`` makes
    them, and with an ``atlas`` its volumes by region in ``corrected_regions``. ``drawn`` tells
    whether the correction is that of another time. A mask that was drawn on other
    contents of the T1, or on another grid, is named and not used. The checksum tells whether the
    corrections are those of another time.
    """
    found = {mask.stem: mask for mask in corrected_masks(out)}
    told, notes, used = [], [], []
    for record in records:
        new = dict(record)
        correction = found.get(record["stem"])
        if correction is not None and record["state"] == DONE:
            cause = _why_not(record, correction)
            changed = None if cause else _corrected(out, record, correction, atlas)
            if changed is None:
                cause = cause or (
                    "it cannot be read, lies on another grid than the scan, is a soft map, or "
                    "holds several labels"
                )
                notes.append(f"{correction.mask.name} is not used: {cause}.")
            else:
                status = correction.mask.stat()
                drawn = f"{correction.mask.name} {status.st_size} {status.st_mtime_ns}"
                drawn = f"{drawn} {correction.who} {correction.when}"
                new |= {**changed, "correction": correction, "drawn": drawn}
                used.append(drawn)
                if (
                    atlas is not None
                    and changed["corrected_regions"] is None
                    and _by_region(out, record)
                ):
                    notes.append(
                        f"{correction.mask.name} is not in the tables of regions: its scan was "
                        "measured by another atlas."
                    )
        told.append(new)
    text = "\n".join((*used, *notes))
    return told, notes, hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


def drawn_lesions(mask: Volume, to_mni: NDArray[np.float64] | None) -> LesionMap:
    """The lesions of a mask that somebody has drawn (> 0): all of it, however small its pieces."""
    return find_lesions((mask.array > 0).astype(np.float32), mask.affine, _WHOLE, to_mni=to_mni)


def _by_region(out: Path, record: Mapping[str, Any]) -> bool:
    """Whether the scan has a table of regions."""
    return (out / record["folder"] / f"{record['stem']}_desc-lesions_regions.tsv").is_file()


def _why_not(record: Mapping[str, Any], correction: Corrected) -> str:
    known = (record.get("input") or {}).get("sha256")
    if correction.sha256 is not None and known is not None and correction.sha256 != known:
        return "the T1 has changed since it was drawn"
    return ""


def _corrected(
    out: Path,
    record: Mapping[str, Any],
    correction: Corrected,
    atlas: AtlasChoice | None,
) -> dict[str, Any] | None:
    """What of a record is another with the corrected mask; None if that cannot be used."""
    from ..images import read_scan

    automatic = mask_of(out, {**record, "corrected": None})
    try:
        mask = read_scan(correction.mask, allow_constant=True).volume
        drawn = drawn_voxels(mask.array, correction.mask)
    except InputError:
        return None
    if automatic is None or not mask.grid.same_as(automatic[0].grid, 0.01):
        return None
    mask = mask.with_array(drawn.astype(np.uint8))
    lesions = drawn_lesions(mask, automatic[1])
    regions = None
    if atlas is not None and automatic[1] is not None:
        deformation = deformation_of(out, record)
        table = region_table(mask, automatic[1], atlas.read(), deformation)
        stem = out / str(record["folder"]) / str(record["stem"])
        # The rows of one table are by one atlas.
        if read_sidecar(f"{stem}_label-lesion_mask.json").get("atlas") in (None, table.title):
            regions = table.table_rows()
    summary = lesions.summary
    # Where nobody predicted, there is no probability.
    nothing = {"mean_probability": None, "peak_probability": None}
    return {
        "corrected": correction.mask.name,
        "corrected_lesions": [{**lesion_row(lesion), **nothing} for lesion in lesions.lesions],
        "corrected_regions": regions,
        "lesions": summary.count,
        "volume_ml": round(summary.volume_ml, 6),
        "left_ml": round(summary.left_ml, 6),
        "right_ml": round(summary.right_ml, 6),
        "largest_ml": round(summary.largest_ml, 6),
        "mean_probability": None,
        "expected_dice": None,
        "look_at": [],
    }
