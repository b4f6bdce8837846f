"""``index.html``: the page of the whole group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..lesions.tables import read_sidecar, read_table
from ..report import RADIOLOGICAL, GroupScan, write_group_report
from .ledger import DONE

if TYPE_CHECKING:
    from ..images import Volume
    from ..models import Manifest
    from .scan_job import Settings

_Record = Mapping[str, Any]

INDEX_NAME = "index.html"
#: The lesion frequency map reads masks again; of more scans than this it takes a sample.
MOST_MAPPED = 1000


def write_index(
    settings: Settings, manifest: Manifest, records: Iterable[Mapping[str, Any]]
) -> None:
    """Write the page of the ledger's ``records``; ``group_lesions.tsv`` is there already.

    Raises ``InputError`` if it cannot be written.
    """
    from ..report import lesion_frequency

    out = settings.out
    records = list(records)
    done = [record for record in records if record["state"] == DONE]
    frequency = None
    if done:
        mapped = done if len(done) <= MOST_MAPPED else _sample(done)
        frequency = replace(lesion_frequency(_masks(out, mapped)), group=len(done))
    write_group_report(
        out / INDEX_NAME,
        read_table(out / "group_lesions.tsv"),
        [_scan(record) for record in records],
        frequency=frequency,
        facts=_facts(settings),
        intended_use=manifest.intended_use,
        convention=settings.report.convention if settings.report else RADIOLOGICAL,
    )


def _scan(record: Mapping[str, Any]) -> GroupScan:
    page = record.get("report")
    return GroupScan(
        name=record["stem"],
        state=record["state"],
        reason=record.get("error", ""),
        page=f"{record['folder']}/{page}" if page else None,
        aligned=record.get("aligned"),
        alignment_reason=record.get("alignment_reason", ""),
        seconds=record["seconds"],
        warnings=tuple(record.get("warnings", ())),
    )


def _sample(records: Sequence[_Record]) -> list[_Record]:
    """``MOST_MAPPED`` of the records, spread evenly over them: the same ones every time."""
    return [records[n * len(records) // MOST_MAPPED] for n in range(MOST_MAPPED)]


def _masks(
    out: Path, records: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Volume, NDArray[np.float64] | None]]:
    """Masks with the way to MNI152; a mask that somebody has removed or broken is left out."""
    for record in records:
        found = mask_of(out, record)
        if found is not None:
            yield found


def mask_of(
    out: Path, record: Mapping[str, Any]
) -> tuple[Volume, NDArray[np.float64] | None] | None:
    """A scan's mask, and 4x4 from its RAS mm to MNI RAS mm, None if it was not aligned.

    None instead of both if somebody has removed or broken the mask.
    """
    from ..images import MNI_GRID, read_scan

    start = f"{out / record['folder'] / record['stem']}_label-lesion_mask"
    try:
        mask = read_scan(f"{start}.nii.gz", allow_constant=True).volume
        alignment = read_sidecar(f"{start}.json").get("alignment")
        to_mni = None if alignment is None else _matrix(alignment)
    except (InputError, KeyError, TypeError, ValueError):
        return None
    if alignment is None and mask.grid.same_as(MNI_GRID):
        to_mni = np.eye(4)
    return mask, to_mni


def _matrix(alignment: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """The matrix of a sidecar's alignment, None if it failed; ``ValueError`` if it is none."""
    if not alignment["ok"]:
        return None
    matrix = np.array(alignment["matrix_ras_mm_to_mni_mm"], dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.linalg.det(matrix):
        raise ValueError("no matrix")
    return matrix


def _facts(settings: Settings) -> dict[str, str]:
    parameters = settings.parameters
    model = settings.manifest
    return {
        "StrokeLesionSeg": parameters["version"],
        "Model": f"{model['name']} {model['version']}",
        "SHA-256 of the weights": model["sha256"],
        **dict(settings.point.facts()),
        "Views": parameters["views"],
        "Flipped copies": "yes" if parameters["tta"] else "no",
        "Alignment": parameters["align"],
    }
