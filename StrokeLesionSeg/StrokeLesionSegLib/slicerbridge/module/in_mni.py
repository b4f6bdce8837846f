"""A segment in MNI space: its volumes by region, and its files there.

Nodes are read where the object is made, in the main thread; the rest touches arrays only.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...images.volume import Volume
from ..i18n import tr as _
from ..scene.patch import Patch
from ..scene.probability_map import ProbabilityMap
from ..scene.provenance import Provenance
from ..scene.results import read_segment
from ..scene.volumes import image_of
from .measure import fill_columns, own_table
from .report import safe_name

if TYPE_CHECKING:
    from ...lesions import RegionTable

REGIONS_ROLE = "StrokeLesionSeg.regions"
# Of that table: the segment and its voxels, as they were counted.
_COUNTED = "StrokeLesionSeg.counted"

# (column, VTK type, unit, what it is, value of a row)
_COLUMNS: tuple[tuple[str, str, str, str, Any], ...] = (
    ("Region", "string", "", "of the Allen Human Reference Atlas", lambda r: r["region"]),
    ("Side", "string", "", "the patient's side", lambda r: r["side"] or ""),
    ("Kind", "string", "", "region, or union of several", lambda r: r["kind"]),
    ("Volume (mL)", "double", "mL", "lesion in it", lambda r: r["volume_ml"]),
    ("Share of region", "double", "", "0 to 1", lambda r: _number(r["share_of_region"])),
    ("Share of lesion", "double", "", "0 to 1", lambda r: _number(r["share_of_lesion"])),
)


class SegmentInMni:
    """A segment as it is now, and the way to MNI space that its run has found.

    Raises ``ValueError`` if it was not aligned, or if there is no such segment.
    """

    def __init__(
        self,
        segmentation_node: Any,
        segment_id: str,
        volume_node: Any,
        probability: ProbabilityMap | None,
    ) -> None:
        segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
        if segment is None:
            raise ValueError(_("there is no segment {name}").format(name=segment_id))
        to_mni = Provenance.from_segment(segment).to_mni
        if to_mni is None:
            raise ValueError(
                _("This image was not aligned to MNI152, so that it has no place there.")
            )
        self._to_mni = to_mni
        patch = read_segment(segmentation_node, segment_id, volume_node)
        #: What its regions are counted in, see ``forget_regions``.
        self.counted = _counted(segment_id, patch)
        self._mask = Volume(patch.full(), patch.grid.affine)
        self._probability = None if probability is None else probability.volume
        self._name = safe_name(volume_node.GetName() or "scan")

    def regions(self) -> RegionTable:
        """Volumes by the regions of the shipped atlas."""
        from ...atlases import region_table

        return region_table(self._mask, self._to_mni)

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Mask, probability and transform in MNI space by their BIDS names; the paths.

        Raises ``InputError`` if one is there already or cannot be written; then there is none.
        """
        from ...images import (
            NiftiFields,
            mask_in_mni,
            probability_in_mni,
            write_transform,
            write_volume,
        )
        from ...lesions.find import label_components
        from ...outputs import OutputSet, os_input_error
        from ...pipeline import mni_names

        names = mni_names(Path(folder) / f"{self._name}.nii.gz")
        transform = names["mni_transform"]
        labels = self._mask.with_array(label_components(self._mask.array > 0, connectivity=26))
        volumes = [(names["mni_mask"], mask_in_mni(labels, self._to_mni))]
        if self._probability is not None:
            moved = probability_in_mni(self._probability, self._to_mni)
            volumes.append((names["mni_probability"], moved))
        with OutputSet(
            [path for path, _volume in volumes], [(transform, ".h5")], overwrite=False
        ) as outputs:
            for path, volume in volumes:
                write_volume(outputs.staged(path), volume, nifti=NiftiFields(code=4))
            try:
                write_transform(outputs.staged(transform), self._to_mni)
            except OSError as error:
                raise os_input_error(error, transform) from error
            outputs.commit()
        return [*(path for path, _volume in volumes), transform]


def add_region_table(
    table: RegionTable, volume_node: Any, segmentation_node: Any, counted: str
) -> Any:
    """The table node with a segmentation's volumes by region, made at first use; ``counted``: what
    ``SegmentInMni`` says of it."""
    node = own_table(REGIONS_ROLE, "regions", volume_node, segmentation_node)
    fill_columns(node, _COLUMNS, table.table_rows())
    node.SetAttribute(_COUNTED, counted)
    return node


def forget_regions(segmentation_node: Any, segment_id: str) -> None:
    """Take the volumes by region out of the scene if the segment is another one by now, or has
    other voxels: they would be saved and read as its own."""
    import slicer

    node = segmentation_node.GetNodeReference(REGIONS_ROLE)
    volume_node = image_of(segmentation_node)
    counted = "" if node is None else node.GetAttribute(_COUNTED)
    if not counted or volume_node is None:
        return
    if counted != _counted(segment_id, read_segment(segmentation_node, segment_id, volume_node)):
        slicer.mrmlScene.RemoveNode(node)


def _counted(segment_id: str, patch: Patch) -> str:
    return f"{segment_id} {patch.checksum()}"


def _number(share: float | None) -> float:
    return float(np.nan) if share is None else share
