"""The lesion table: what is in a segment now, measured by the engine, kept as a table node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...operating_point import OperatingPoint
from ..i18n import tr as _
from ..scene.patch import Patch
from ..scene.probability_map import Found, ProbabilityMap, Seed
from ..scene.provenance import Provenance
from ..scene.results import place_beside, read_segment

TABLE_ROLE = "StrokeLesionSeg.table"


@dataclass(frozen=True)
class LesionRow:
    """One lesion of the table. ``seed`` is its voxel (k, j, i) of the highest probability, by
    which a lesion is known again after the threshold has moved. RAS mm are the volume's own."""

    number: int
    keep: bool
    volume_ml: float
    side: str
    centroid_ras_mm: tuple[float, float, float]
    centroid_mni_mm: tuple[float, float, float] | None
    mean_probability: float
    peak_probability: float
    longest_mm: float
    seed: Seed


# (column, VTK type, unit, what it is, value of a row)
_COLUMNS: tuple[tuple[str, str, str, str, Any], ...] = (
    ("Lesion", "int", "", "1 is the largest", lambda r: r.number),
    ("Keep", "int", "", "0 if a reader dropped it", lambda r: int(r.keep)),
    ("Volume (mL)", "double", "mL", "voxels times voxel volume", lambda r: r.volume_ml),
    ("Side", "string", "", "the patient's side", lambda r: r.side),
    ("R (mm)", "double", "mm", "centre in the image, to the right", lambda r: r.centroid_ras_mm[0]),
    ("A (mm)", "double", "mm", "centre in the image, to the front", lambda r: r.centroid_ras_mm[1]),
    ("S (mm)", "double", "mm", "centre in the image, to the top", lambda r: r.centroid_ras_mm[2]),
    ("MNI", "string", "mm", "centre in MNI152 space", lambda r: _triple(r.centroid_mni_mm)),
    ("Mean probability", "double", "", "over its voxels", lambda r: r.mean_probability),
    ("Peak probability", "double", "", "of its voxels", lambda r: r.peak_probability),
    ("Extent (mm)", "double", "mm", "longest along R, A or S", lambda r: r.longest_mm),
    ("Seed", "string", "", "its voxel k j i", lambda r: " ".join(map(str, r.seed))),
)


def rows_of(found: Found) -> list[LesionRow]:
    """The rows of what a threshold found, dropped lesions with ``keep`` False."""
    return [
        LesionRow(
            lesion.label,
            lesion.keep and lesion.label not in found.dropped,
            lesion.volume_ml,
            lesion.side,
            lesion.centroid_ras_mm,
            lesion.centroid_mni_mm,
            lesion.mean_probability,
            lesion.peak_probability,
            max(lesion.extent_mm),
            seed,
        )
        for lesion, seed in zip(found.lesion_map.lesions, found.seeds, strict=True)
    ]


def measure_segment(
    segmentation_node: Any,
    segment_id: str,
    volume_node: Any,
    probability: ProbabilityMap | None = None,
) -> list[LesionRow]:
    """Measure a segment as it is now, whoever drew it; see ``lesions_of_segment``."""
    return rows_of(lesions_of_segment(segmentation_node, segment_id, volume_node, probability))


def lesions_of_segment(
    segmentation_node: Any,
    segment_id: str,
    volume_node: Any,
    probability: ProbabilityMap | None = None,
) -> Found:
    """The lesions of a segment on the volume's whole grid; probabilities 1 if no map is given.

    Each 26-connected piece of the segment is a lesion. Sides and MNI coordinates use the
    alignment that is kept in the segment's tags, if there is one. Raises ``ValueError`` if there
    is no such segment.
    """
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    if segment is None:
        raise ValueError(_("there is no segment {name}").format(name=segment_id))
    to_mni = Provenance.from_segment(segment).to_mni
    patch = read_segment(segmentation_node, segment_id, volume_node)
    return lesions_of_patch(patch, to_mni, probability)


def lesions_of_patch(
    patch: Patch, to_mni: NDArray[np.float64] | None, probability: ProbabilityMap | None
) -> Found:
    """As ``lesions_of_segment``, of voxels that were read before: touches arrays only."""
    from ...lesions import find_lesions
    from ...lesions.measure import peaks

    mask = patch.full()
    found = find_lesions(mask, patch.grid.affine, OperatingPoint(0.5), to_mni=to_mni)
    values = mask.astype(np.float32) if probability is None else probability.volume.array
    labels = [lesion.label for lesion in found.lesions]
    inside = np.flatnonzero(found.labels)
    owner, value = found.labels.reshape(-1)[inside], values.reshape(-1)[inside]
    sums = np.bincount(owner, weights=value, minlength=len(labels) + 1)
    lesions = []
    seeds = []
    for lesion, seed in zip(found.lesions, peaks(values, found.labels, labels), strict=True):
        seeds.append((seed[0], seed[1], seed[2]))
        lesions.append(
            replace(
                lesion,
                mean_probability=float(sums[lesion.label] / lesion.voxels),
                peak_probability=float(values[seed]),
            )
        )
    measured = replace(found, lesions=tuple(lesions))
    return Found(measured, patch, tuple(seeds), frozenset())


def add_table(rows: list[LesionRow], volume_node: Any, segmentation_node: Any) -> Any:
    """The table node of a segmentation, made at first use, with these rows."""
    node = own_table(TABLE_ROLE, "lesion table", volume_node, segmentation_node)
    fill_table(node, rows)
    return node


def own_table(role: str, title: str, volume_node: Any, segmentation_node: Any) -> Any:
    """The table node that a segmentation refers to by ``role``, made at first use, beside its
    image and with its name."""
    import slicer

    node = segmentation_node.GetNodeReference(role)
    if node is None:
        name = slicer.mrmlScene.GenerateUniqueName(f"{volume_node.GetName()} {title}")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
        place_beside(node, volume_node)
        segmentation_node.SetNodeReferenceID(role, node.GetID())
    return node


def fill_table(node: Any, rows: list[LesionRow]) -> None:
    """Replace the content of a table node, with units and descriptions of the columns."""
    fill_columns(node, _COLUMNS, rows)


def fill_columns(
    node: Any, columns: Sequence[tuple[str, str, str, str, Any]], rows: Iterable[Any]
) -> None:
    """``fill_table`` with other columns: (name, VTK type, unit, what it is, value of a row)."""
    import vtk

    rows = list(rows)

    types = {"int": vtk.vtkIntArray, "double": vtk.vtkDoubleArray, "string": vtk.vtkStringArray}
    modified = node.StartModify()
    try:
        node.RemoveAllColumns()
        for name, kind, unit, description, value in columns:
            column = types[kind]()
            column.SetName(name)
            for row in rows:
                column.InsertNextValue(value(row))
            node.AddColumn(column)
            if unit:
                node.SetColumnUnitLabel(name, unit)
            node.SetColumnDescription(name, description)
        node.SetUseColumnTitleAsColumnHeader(False)
        node.SetLocked(True)
    finally:
        node.EndModify(modified)


def table_rows(node: Any) -> list[dict[str, Any]]:
    """The rows of a table node by column name; for scripts and tests."""
    table = node.GetTable()
    names = [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())]
    return [
        {name: _plain(table.GetValueByName(r, name)) for name in names}
        for r in range(table.GetNumberOfRows())
    ]


def total_text(rows: list[LesionRow], expected_dice: float | None = None) -> str:
    """One line for the panel. ``expected_dice``: of the kept lesions, if it is known."""
    kept = [row for row in rows if row.keep]
    if not rows:
        return _("No lesion at these settings. Lower the threshold to see what was doubtful.")
    volume = f"{sum(row.volume_ml for row in kept):.2f}"
    text = (
        _("{count} lesion, {volume} mL in all")
        if len(kept) == 1
        else _("{count} lesions, {volume} mL in all")
    ).format(count=len(kept), volume=volume)
    if len(kept) < len(rows):
        text += ", " + _("{count} dropped").format(count=len(rows) - len(kept))
    if expected_dice is not None:
        text += "; " + _("expected Dice {value:.2f}").format(value=expected_dice)
    return text


def segment_statistics(
    segmentation_node: Any, segment_id: str, volume_node: Any
) -> dict[str, float] | None:
    """Slicer's own numbers of a segment, from its module Segment Statistics; None without it.

    By Slicer's names, such as "LabelmapSegmentStatisticsPlugin.volume_cm3" (mL). They come from
    Slicer's plugins and not from us: the self test holds our table against them.
    """
    import slicer
    import slicer.util

    try:
        import SegmentStatistics
    except ImportError:
        return None
    kind = "vtkMRMLScriptedModuleNode"
    before = {node.GetID() for node in slicer.util.getNodesByClass(kind)}
    logic = SegmentStatistics.SegmentStatisticsLogic()
    # Its own parameters stay as the user has them.
    parameters = slicer.mrmlScene.AddNode(logic.createParameterNode())
    try:
        logic.setParameterNode(parameters)
        parameters.SetParameter("Segmentation", segmentation_node.GetID())
        parameters.SetParameter("ScalarVolume", volume_node.GetID())
        logic.computeStatistics()
        found = dict(logic.getStatistics())
    finally:
        for node in slicer.util.getNodesByClass(kind):
            if node.GetID() not in before:
                slicer.mrmlScene.RemoveNode(node)
    return {
        key[1]: float(value)
        for key, value in found.items()
        if isinstance(key, tuple) and key[0] == segment_id and isinstance(value, (int, float))
    }


def _triple(point: tuple[float, float, float] | None) -> str:
    return "" if point is None else ", ".join(f"{v:.0f}" for v in point)


def _plain(variant: Any) -> Any:
    if variant.IsString():
        return variant.ToString()
    return variant.ToInt() if variant.IsInt() else variant.ToDouble()
