"""``index.html``: the page of the whole group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..lesions.scorers.values import drawn_voxels
from ..lesions.tables import read_sidecar, read_table, write_text
from ..operating_point import OperatingPoint
from ..outputs import os_input_error
from ..pipeline import TRANSFORM_ENDING, alignment_of
from ..pipeline.runner import matrix_to_mni
from ..report import (
    LICENSES,
    NIIVUE,
    SHARED_FOLDER,
    STUDY_LIST,
    GroupPage,
    GroupScan,
    GroupTraits,
    study_list,
    write_group_report,
)
from ..resources import resource_path
from .dataset import described
from .ledger import DONE
from .participants import read_participants

if TYPE_CHECKING:
    from ..images import Deformation, Volume
    from ..models import Manifest
    from .settings import Settings

_Record = Mapping[str, Any]

INDEX_NAME = "index.html"
#: The lesion frequency map reads masks again; of more scans than this it takes a sample.
MOST_MAPPED = 1000


# What lies beside the page, in the order of its list; other group_* files come after these.
_FILES = {
    "group_scans.tsv": "A row for each scan",
    "group_lesions.tsv": "A row for each lesion",
    "group_regions.tsv": "A row for each region of each scan",
    "group_regions_summary.tsv": "A row for each region",
    "group_change.html": "The page of changes between sessions",
    "group_change.tsv": "A row for each group of lesions of every pair of sessions",
    "group_change_pairs.tsv": "A row for each pair of sessions",
    "group_lesion_symptom.csv": "A row for each scan, for lesion-symptom mapping",
    "group_overlap_count.nii.gz": "Number of scans with a lesion in each voxel of MNI space",
    "group_overlap_share.nii.gz": "The same as a share of the scans",
    "group_overlap_left_count.nii.gz": "The count of scans whose lesions lie on the left",
    "group_overlap_left_share.nii.gz": "Their share",
    "group_overlap_right_count.nii.gz": "The count of scans whose lesions lie on the right",
    "group_overlap_right_share.nii.gz": "Their share",
}


def write_index(
    settings: Settings,
    manifest: Manifest,
    records: Iterable[Mapping[str, Any]],
    source: Path,
    made_by: Mapping[str, Any],
    otherwise: str = "",
) -> tuple[str, ...]:
    """Write the page of the ledger's ``records``, and the list by which pages find each other.

    ``made_by``: the parameters that the page tells; ``otherwise``: of which scans they are not
    those (``made_otherwise``). ``group_lesions.tsv`` is there already.
    Returns what does not fit about ``participants.tsv`` in ``source``. Raises ``InputError`` if a
    file cannot be written.
    """
    from ..report import lesion_frequency

    out = settings.out
    records = list(records)
    scans = [_scan(record) for record in records]
    done = [record for record in records if record["state"] == DONE]
    frequency = None
    if done:
        mapped = done if len(done) <= MOST_MAPPED else _sample(done)
        frequency = replace(lesion_frequency(_masks(out, mapped)), group=len(done))
    traits = _traits(records, source)
    rated = any(scan.page for scan in scans)
    if rated:
        _shared(out, STUDY_LIST, study_list(settings.study, scans))
    root = source if source.is_dir() else source.parent
    title = settings.title or described(root, "Name")
    write_group_report(
        out / INDEX_NAME,
        read_table(out / "group_lesions.tsv"),
        scans,
        GroupPage(
            title or "Stroke lesions",
            frequency=frequency,
            facts=_facts(made_by) | ({"Other settings": otherwise} if otherwise else {}),
            intended_use=manifest.intended_use
            if made_by["model"]["sha256"] == manifest.sha256
            else "",
            convention=settings.convention,
            traits=traits,
            files=group_files(out),
            study=settings.study if rated else None,
        ),
    )
    return () if traits is None else traits.notes


def write_viewer(out: Path) -> None:
    """Put NiiVue, which the pages of all scans use, and its notices beside them."""
    for name in (NIIVUE, LICENSES):
        _shared(out, name, resource_path("Report", name).read_bytes().decode("utf-8"))


def _shared(out: Path, name: str, text: str) -> None:
    """A file that all pages use; ``InputError`` if it cannot be written."""
    folder = out / SHARED_FOLDER
    try:
        folder.mkdir(exist_ok=True)
        if (folder / name).is_file() and (folder / name).read_bytes() == text.encode("utf-8"):
            return
    except OSError as error:
        raise os_input_error(error, folder) from error
    write_text(folder / name, text)


def _traits(records: Sequence[_Record], source: Path) -> GroupTraits | None:
    """What participants.tsv tells of the scans; None if there is no such file."""
    whose = {str(record["stem"]): f"sub-{record['subject']}" for record in records}
    people = read_participants(source, whose.values())
    if people.rows is None and not people.notes:
        return None
    of_scan = {scan: people.of(person) for scan, person in whose.items() if people.of(person)}
    return GroupTraits(people.columns, of_scan, people.notes)


def group_files(out: Path) -> dict[str, str]:
    """The tables and maps of the group that are there, with what each is."""
    found = {file.name for file in out.glob("group_*") if file.is_file()}
    tables = (".tsv", ".csv", ".nii.gz")
    others = sorted(name for name in found - set(_FILES) if name.endswith(tables))
    known = {name: text for name, text in _FILES.items() if name in found}
    return {**known, **{name: _words(name) for name in others}}


def _words(name: str) -> str:
    """A file's name as words."""
    words = name.removeprefix("group_").split(".")[0].replace("_", " ")
    return words.capitalize()


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
        corrected=bool(record.get("corrected")),
    )


def _sample(records: Sequence[_Record]) -> list[_Record]:
    """``MOST_MAPPED`` of the records, spread evenly over them: the same ones every time."""
    return [records[n * len(records) // MOST_MAPPED] for n in range(MOST_MAPPED)]


def _masks(
    out: Path, records: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Volume, NDArray[np.float64] | None]]:
    """Masks with the way to MNI152; a mask that somebody has removed or broken is left out.

    One that was deformed to MNI152 lies there already.
    """
    from ..images import mask_in_mni

    for record in records:
        found = mask_of(out, record)
        if found is None:
            continue
        mask, to_mni = found
        deformation = None if to_mni is None else deformation_of(out, record)
        if to_mni is not None and deformation is not None:
            yield mask_in_mni(mask, to_mni, deformation), np.eye(4)
        else:
            yield found


def mask_file(out: Path, record: Mapping[str, Any]) -> Path:
    """Where a scan's mask lies: the corrected one if the record names one."""
    name = record.get("corrected") or f"{record['stem']}_label-lesion_mask.nii.gz"
    return out / str(record["folder"]) / str(name)


def mask_of(
    out: Path, record: Mapping[str, Any]
) -> tuple[Volume, NDArray[np.float64] | None] | None:
    """A scan's mask (0, 1), and 4x4 from its RAS mm to MNI RAS mm, None if it was not aligned.

    The mask is the corrected one if the record names one.

    None instead of both if somebody has removed or broken the mask.
    """
    from ..images import read_scan

    start = f"{out / record['folder'] / record['stem']}_label-lesion_mask"
    try:
        file = mask_file(out, record)
        mask = read_scan(file, allow_constant=True).volume
        drawn = drawn_voxels(mask.array, file)
        alignment = alignment_of(read_sidecar(f"{start}.json"))
    except (InputError, ValueError):
        return None
    return mask.with_array(drawn.astype(np.uint8)), matrix_to_mni(alignment, mask.grid)


def deformation_of(out: Path, record: Mapping[str, Any]) -> Deformation | None:
    """The deformation of a scan to MNI space, after the matrix of ``mask_of``; None without one.

    Nor is there one if somebody has removed or broken the transform's file.
    """
    from ..images import read_deformation

    start = f"{out / record['folder'] / record['stem']}_"
    try:
        if not (read_sidecar(f"{start}label-lesion_mask.json").get("deformation") or {})["used"]:
            return None
        return read_deformation(f"{start}{TRANSFORM_ENDING}")
    except (InputError, KeyError, TypeError, ValueError):
        return None


def _facts(parameters: Mapping[str, Any]) -> dict[str, str]:
    model = parameters["model"]
    return {
        "StrokeLesionSeg": parameters["version"],
        "Model": f"{model['name']} {model['version']}",
        "SHA-256 of the weights": model["sha256"],
        **dict(OperatingPoint.from_dict(parameters).facts()),
        "Views": parameters["views"],
        "Flipped copies": "yes" if parameters["tta"] else "no",
        "Alignment": parameters["align"],
    }
