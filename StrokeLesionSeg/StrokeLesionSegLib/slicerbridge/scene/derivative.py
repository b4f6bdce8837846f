"""Results of a batch in the scene: opened for correction, saved beside the automatic mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...images import Volume, read_scan
from ...lesions.scorers.values import drawn_voxels
from ...pipeline.source import read_repaired
from ..engine_words import said
from ..i18n import tr as _
from .patch import Patch
from .provenance import TAG, Provenance
from .results import (
    IMAGE_ATTRIBUTE,
    PROBABILITY_ROLE,
    add_map,
    add_segment,
    add_segmentation,
    changed,
    edited_on,
    read_own,
    read_segment,
    set_maps,
)
from .volumes import add_volume_node, fingerprint, image_of, same_voxels, voxels_from_node

# Of a segmentation: the folder of the derivative, and the begin of the names of the scan's files.
_FOLDER, _STEM = "StrokeLesionSeg.derivative", "StrokeLesionSeg.stem"


@dataclass(frozen=True, eq=False)
class ReadResult:
    """A scan of a derivative with its mask (0, 1), the ``corrected`` one if there is one; arrays
    only."""

    folder: Path
    stem: str
    scan: Volume
    mask: Volume
    probability: Volume | None
    sidecar: dict[str, Any]
    corrected: bool = False


def results_in(folder: Path) -> list[dict[str, Any]]:
    """The rows of a derivative's table of scans, with those that a batch has changed since: it
    writes the table at its end. ``corrected`` is true where somebody has saved a corrected mask."""
    from ...cohort import read_ledger
    from ...cohort.corrected import corrected_masks

    rows = _table_of_scans(folder)
    try:
        records = read_ledger(folder).scans
        corrected = {mask.stem for mask in corrected_masks(folder)}
    except InputError:
        return []
    known = {str(row["scan"]): row for row in rows}
    for stem in sorted(records):
        record, state = records[stem], known.get(stem, {}).get("state")
        if record["state"] != state:
            names = ("state", "lesions", "volume_ml", "error")
            known[stem] = {"scan": stem, **{name: record.get(name) for name in names}}
    for stem in known.keys() & records.keys():
        warnings = records[stem].get("warnings") or ()
        known[stem]["warnings"] = " ".join(said(str(warning)) for warning in warnings)
    return [{**row, "corrected": stem in corrected} for stem, row in known.items()]


def _table_of_scans(folder: Path) -> list[dict[str, Any]]:
    """The rows that are as batch has written them; Excel saves tables with semicolons, and numbers
    with commas."""
    from ...lesions import read_table

    try:
        rows = read_table(folder / "group_scans.tsv")
    except InputError:
        return []
    numbers = ("lesions", "volume_ml")
    return [
        row
        for row in rows
        if {"scan", "state", *numbers} <= row.keys()
        and not any(isinstance(row[name], str) for name in numbers)
    ]


def read_result(folder: Path, stem: str) -> ReadResult:
    """Read scan and mask of a derivative; touches no node. Raises ``InputError``."""
    from ...cohort.corrected import SourceScans, corrected_masks
    from ...lesions import read_sidecar

    record = _record(folder, stem)
    source = SourceScans(folder).find(str(record["source"]))
    if source is None:
        raise InputError(folder, _("does not say where its scans are"), _("Run the batch again"))
    if not source.exists():
        remedy = _("Move the input folder back to where it was")
        raise InputError(source, _("is not there"), remedy)
    begin = folder / str(record["folder"]) / stem
    automatic = Path(f"{begin}_label-lesion_mask.nii.gz")
    corrected = next((m.mask for m in corrected_masks(folder) if m.stem == stem), None)
    scan = read_repaired(source, record.get("series")).volume
    shown = corrected or automatic
    mask = read_scan(shown, allow_constant=True).volume
    drawn = mask.with_array(drawn_voxels(mask.array, shown).astype(np.uint8))
    if not mask.grid.same_as(scan.grid):
        remedy = _("Run the batch again")
        if corrected is not None:
            remedy = _("Save it on the grid of the automatic mask, or remove it")
        raise InputError(shown, _("is not on the grid of its scan"), remedy)
    file = Path(f"{begin}_label-lesion_probseg.nii.gz")
    probability = read_scan(file, allow_constant=True).volume if file.is_file() else None
    sidecar = read_sidecar(Path(f"{begin}_label-lesion_mask.json"))
    return ReadResult(folder, stem, scan, drawn, probability, sidecar, corrected is not None)


def _record(folder: Path, stem: str) -> dict[str, Any]:
    from ...cohort import read_ledger

    record = read_ledger(folder).scans.get(stem)
    if record is None or record.get("state") != "done":
        cause = _("has no mask of {scan}").format(scan=stem)
        raise InputError(folder, cause, _("Run the batch again"))
    return dict(record)


def add_result(read: ReadResult, made: Provenance) -> tuple[Any, Any, str]:
    """Put it into the scene: (volume node, segmentation node, segment id)."""
    volume = add_volume_node(_right_handed(read.scan), read.stem)
    segmentation = add_segmentation(volume)
    segmentation.SetAttribute(_FOLDER, str(read.folder.resolve()))
    segmentation.SetAttribute(_STEM, read.stem)
    image = fingerprint(voxels_from_node(volume))
    segmentation.SetAttribute(IMAGE_ATTRIBUTE, image)
    mask = _right_handed(read.mask)
    patch = Patch(mask.array, (0, 0, 0), mask.grid)
    segment_id = add_segment(segmentation, patch, made, image=image)
    if read.corrected:
        # No checksum: what a person has made of it is not what the sliders would make.
        segmentation.GetSegmentation().GetSegment(segment_id).SetTag(TAG + "Written", "corrected")
    if read.probability is not None:
        node = add_map(_right_handed(read.probability), volume, "probability", image)
        segmentation.SetNodeReferenceID(PROBABILITY_ROLE, node.GetID())
        set_maps(segmentation, segment_id, (node, None))
    return volume, segmentation, segment_id


def _right_handed(volume: Volume) -> Volume:
    """The volume with its slices in reverse if its axes are left-handed: Slicer would do that to
    the image, and not to its segmentation, when the scene is saved and loaded."""
    if not volume.grid.left_handed:
        return volume
    return Volume(volume.array[::-1], volume.grid.slices_reversed().affine)


def belongs_to(segmentation_node: Any) -> bool:
    """Whether it was opened from a derivative that is still there."""
    folder = segmentation_node.GetAttribute(_FOLDER)
    return bool(folder and Path(folder).is_dir())


def changed_image(segmentation_node: Any) -> str:
    """The ``fingerprint`` of the scan's voxels where they are others than when it was opened: it
    was filtered, which does a correction no harm, or warped, after which that does not lie on the
    scan as it is stored. Empty if they are not."""
    kept = segmentation_node.GetAttribute(IMAGE_ATTRIBUTE)
    node = image_of(segmentation_node)
    if not kept or node is None or node.GetImageData() is None:
        return ""
    voxels = voxels_from_node(node)
    return "" if same_voxels(kept, voxels) else fingerprint(voxels)


def left_out(segmentation_node: Any, segment_id: str) -> list[str]:
    """Names of the segments that somebody has drawn or corrected beside this one, which are no part
    of what ``save_correction`` saves; empty ones do not count."""
    node, segmentation = image_of(segmentation_node), segmentation_node.GetSegmentation()
    names = []
    for n in range(segmentation.GetNumberOfSegments()):
        segment, other = segmentation.GetNthSegment(n), segmentation.GetNthSegmentID(n)
        patch = read_own(segmentation_node, other, node)
        if other != segment_id and patch.mask.any() and changed(segment, patch):
            names.append(str(segment.GetName()))
    return names


def save_correction(segmentation_node: Any, segment_id: str, who: str = "") -> Path:
    """Write the segment as it is now as the corrected mask of its scan; returns the file.

    On the scan's own grid, wherever image and segmentation were moved to in the scene. ``who``: a
    pseudonym of the person. Raises ``InputError``, also if the image was resampled or turned.
    """
    from ...cohort import corrections

    node = image_of(segmentation_node)
    patch = read_segment(segmentation_node, segment_id, node)
    folder = Path(segmentation_node.GetAttribute(_FOLDER))
    record = _record(folder, segmentation_node.GetAttribute(_STEM))
    automatic = folder / str(record["folder"]) / f"{record['stem']}_label-lesion_mask.nii.gz"
    kept = read_scan(automatic, allow_constant=True).volume
    # Other voxels elsewhere may be the same ones in another order.
    turned = changed_image(segmentation_node) and not edited_on(segmentation_node, node)
    if turned or kept.array.shape != patch.grid.shape:
        cause = _("was warped, resampled or turned in the scene")
        raise InputError(node.GetName(), cause, _("Open the scan again and correct that"))
    mask = patch.full()[::-1] if kept.grid.left_handed else patch.full()
    return corrections.save_correction(folder, record, kept.with_array(mask), who)
