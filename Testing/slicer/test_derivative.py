"""Scan and mask of a batch are found again for the panel, those of a DICOM export too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cli_support
import numpy as np
import pytest
from StrokeLesionSegLib.cohort import find_scans
from StrokeLesionSegLib.cohort.ledger import Ledger
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import Grid, Volume, read_scan, write_volume
from StrokeLesionSegLib.slicerbridge.module.logic import BridgeLogic
from StrokeLesionSegLib.slicerbridge.scene import derivative
from StrokeLesionSegLib.slicerbridge.scene.derivative import read_result
from StrokeLesionSegLib.slicerbridge.scene.patch import Patch
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance
from StrokeLesionSegLib.slicerbridge.scene.results import read_segment, set_segment_voxels
from StrokeLesionSegLib.slicerbridge.scene.volumes import (
    matrix_from_affine,
    set_volume,
    volume_from_node,
    voxels_from_node,
)


def test_of_a_dicom_folder_with_two_scans(tmp_path: Path) -> None:
    for number in (1, 2):
        cli_support.write_dicom_series(
            tmp_path / "in" / "DOE_JANE", uid=f"1.2.3.{number}", shift=7.0 * number
        )
    out = tmp_path / "out"
    found = find_scans(tmp_path / "in").scans
    with pytest.raises(InputError, match="has no mask of sub-x"):
        read_result(tmp_path, "sub-x")
    out.mkdir()
    (out / "dataset_description.json").write_text(json.dumps({"DatasetLinks": {"input": "../in"}}))
    with Ledger(out) as ledger:
        for scan in found:
            folder = out / scan.entities.folder
            folder.mkdir(parents=True, exist_ok=True)
            volume = read_scan(scan.path, series=scan.series).volume
            mask = np.zeros(volume.array.shape, np.uint8)
            mask[4:6, 8:12, 8:12] = 1
            name = f"{scan.stem}_label-lesion_mask"
            write_volume(folder / f"{name}.nii.gz", volume.with_array(mask))
            (folder / f"{name}.json").write_text("{}")
            record = {"record": "scan", "stem": scan.stem, "state": "done", "series": scan.series}
            record |= {"source": scan.relative, "folder": scan.entities.folder.as_posix()}
            ledger.append(record)
    origins = set()
    for scan in found:
        read = read_result(out, scan.stem)
        assert read.mask.array.sum() == 32
        origins.add(float(read.scan.affine[0, 3]))
    assert len(origins) == 2
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is not there"):
        read_result(out, found[0].stem)


@pytest.mark.parametrize("change", [("\t", ";"), ("2.5", "2,5"), ("\tn/a\n", "\n")])
def test_a_table_that_excel_has_saved_hides_no_results(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    record = {"record": "scan", "stem": "sub-01", "state": "done", "lesions": 1, "volume_ml": 2.5}
    with Ledger(tmp_path) as ledger:
        ledger.append(record)
    text = "scan\tstate\tlesions\tvolume_ml\terror\nsub-01\tdone\t1\t2.5\tn/a\n"
    for there in (text, text.replace(*change)):
        (tmp_path / "group_scans.tsv").write_text(there)
        (row,) = derivative.results_in(tmp_path)
        assert (row["scan"], row["state"], row["volume_ml"]) == ("sub-01", "done", 2.5)


def batch_of_one(folder: Path, affine: np.ndarray, second_piece: bool = False) -> tuple[Path, Any]:
    """A folder of results with the scan sub-01, and its mask (K, J, I) of 40 voxels and more."""
    out = folder / "out"
    out.mkdir()
    array = np.arange(16 * 20 * 24, dtype=np.int16).reshape(16, 20, 24)
    write_volume(folder / "sub-01_T1w.nii.gz", Volume(array, affine))
    mask = np.zeros(array.shape, np.uint8)
    mask[4:6, 8:12, 8:13] = 1
    if second_piece:
        mask[9:11, 2:4, 2:4] = 1
    automatic = out / "sub-01_label-lesion_mask.nii.gz"
    write_volume(automatic, Volume(mask, affine))
    write_volume(
        automatic.with_name("sub-01_label-lesion_probseg.nii.gz"),
        Volume(mask * np.float32(0.9), affine),
    )
    automatic.with_name("sub-01_label-lesion_mask.json").write_text("{}")
    (out / "dataset_description.json").write_text(json.dumps({"DatasetLinks": {"input": ".."}}))
    with Ledger(out) as ledger:
        record = {"record": "scan", "stem": "sub-01", "state": "done", "folder": "."}
        ledger.append({**record, "source": "sub-01_T1w.nii.gz"})
    return out, mask != 0


def test_a_correction_is_saved_on_the_grid_of_its_scan(slicer: Any, tmp_path: Path) -> None:
    """Wherever image and segmentation were moved to in the scene meanwhile."""
    out, mask = batch_of_one(tmp_path, np.diag([-1.0, 1.5, 2.0, 1.0]))
    automatic = out / "sub-01_label-lesion_mask.nii.gz"
    read = read_result(out, "sub-01")
    volume, segmentation, segment_id = derivative.add_result(read, Provenance())
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    turned = np.array([[0.0, -1, 0, 12], [1, 0, 0, -7], [0, 0, 1, 31], [0, 0, 0, 1]])
    transform.SetMatrixTransformToParent(matrix_from_affine(turned))
    for node in (volume, segmentation):
        node.SetAndObserveTransformNodeID(transform.GetID())
        node.HardenTransform()
    saved = read_scan(derivative.save_correction(segmentation, segment_id)).volume
    kept = read_scan(automatic).volume
    assert saved.grid.same_as(kept.grid)
    np.testing.assert_array_equal(saved.array != 0, mask)
    # A warp may keep the grid, and is told.
    assert not derivative.changed_image(segmentation)
    voxels = voxels_from_node(volume)
    voxels[:] = np.roll(voxels, 2, axis=1)
    assert derivative.changed_image(segmentation)
    # Other voxels than the scan has are no correction of it.
    set_volume(volume, Volume(np.zeros((8, 10, 12), np.int16), np.diag([2.0, 3, 4, 1])))
    with pytest.raises(InputError, match="resampled"):
        derivative.save_correction(segmentation, segment_id)


def test_a_scan_whose_voxels_were_put_in_another_order_is_no_place_for_its_correction(
    slicer: Any, tmp_path: Path
) -> None:
    """As by Orient Scalar Volume, in place: nothing is seen of it, and the mask would be mirrored.
    One that was filtered alone is."""
    out, mask = batch_of_one(tmp_path, np.diag([-1.0, 1.5, 2.0, 1.0]))
    volume, segmentation, segment_id = derivative.add_result(
        read_result(out, "sub-01"), Provenance()
    )
    there = volume_from_node(volume)
    set_volume(volume, there.with_array(there.array // 2))
    saved = read_scan(derivative.save_correction(segmentation, segment_id)).volume
    np.testing.assert_array_equal(saved.array != 0, mask)
    affine = there.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([there.array.shape[2] - 1, 0, 0])
    affine[:3, 0] *= -1
    set_volume(volume, Volume(there.array[:, :, ::-1].copy(), affine))
    with pytest.raises(InputError, match="resampled"):
        derivative.save_correction(segmentation, segment_id)


def test_a_mask_on_another_grid_than_its_scan_is_named(tmp_path: Path) -> None:
    """The corrected one, which no batch makes anew, or the automatic one."""
    out, mask = batch_of_one(tmp_path, np.eye(4))
    corrected = out / "sub-01_desc-corrected_mask.nii.gz"
    other = Volume(mask.astype(np.uint8), np.diag([2.0, 2, 2, 1]))
    write_volume(corrected, other)
    with pytest.raises(InputError, match=r"desc-corrected_mask.*not on the grid.*or remove it"):
        read_result(out, "sub-01")
    corrected.unlink()
    automatic = out / "sub-01_label-lesion_mask.nii.gz"
    automatic.unlink()
    write_volume(automatic, other)
    with pytest.raises(InputError, match=r"label-lesion_mask.*not on the grid.*batch again"):
        read_result(out, "sub-01")


@pytest.mark.parametrize("way", [1.0, -1.0])
def test_a_saved_scene_keeps_the_order_of_a_scans_slices(
    slicer: Any, tmp_path: Path, way: float
) -> None:
    """Slicer reverses those of a left-handed image when it saves and loads it."""
    out, mask = batch_of_one(tmp_path, np.diag([way, 1.5, 2.0, 1.0]), second_piece=True)
    logic = BridgeLogic()
    _volume, segmentation, segment_id = derivative.add_result(
        read_result(out, "sub-01"), Provenance()
    )
    logic.choose(segmentation, segment_id)
    second = logic.rows(segmentation)[1]
    logic.threshold(segmentation, 0.5, 0.0, [second.seed])
    mask[9:11] = False
    for loaded in (False, True):
        if loaded:
            file = str(tmp_path / "scene.mrb")
            assert slicer.mrmlScene.WriteToMRB(file)
            slicer.mrmlScene.Clear(0)
            slicer.mrmlScene.ReadFromMRB(file, True)
            segmentation = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0]
            logic = BridgeLogic()
        saved = read_scan(derivative.save_correction(segmentation, segment_id)).volume
        np.testing.assert_array_equal(saved.array != 0, mask)
        assert [row.keep for row in logic.rows(segmentation)] == [True, False]


def test_a_corrected_mask_is_none_that_the_sliders_have_made(slicer: Any, tmp_path: Path) -> None:
    """Its own lesions are listed, and the sliders begin a segment beside it."""
    out, mask = batch_of_one(tmp_path, np.eye(4))
    logic = BridgeLogic()

    def opened() -> tuple[Any, str]:
        _volume, segmentation, segment_id = derivative.add_result(
            read_result(out, "sub-01"), Provenance()
        )
        logic.choose(segmentation, segment_id)
        return segmentation, segment_id

    segmentation, segment_id = opened()
    assert not logic.corrected(segmentation)
    assert [row.volume_ml for row in logic.rows(segmentation)] == pytest.approx([0.04])
    corrected = Patch(np.ones((3, 3, 3), np.uint8), (1, 2, 3), Grid(mask.shape, np.eye(4)))
    set_segment_voxels(segmentation, segment_id, corrected)
    derivative.save_correction(segmentation, segment_id)
    segmentation, segment_id = opened()
    assert logic.corrected(segmentation)
    assert [row.volume_ml for row in logic.rows(segmentation)] == pytest.approx([0.027])
    logic.threshold(segmentation, 0.4)
    assert logic.segment_id(segmentation) != segment_id
    kept = read_segment(segmentation, segment_id, logic.volume_of(segmentation))
    assert kept.checksum() == corrected.checksum()


def test_segments_of_a_reader_beside_the_one_that_is_saved_are_named(
    slicer: Any, tmp_path: Path
) -> None:
    out, mask = batch_of_one(tmp_path, np.eye(4))
    logic = BridgeLogic()
    _volume, segmentation, segment_id = derivative.add_result(
        read_result(out, "sub-01"), Provenance()
    )
    logic.choose(segmentation, segment_id)
    assert derivative.left_out(segmentation, segment_id) == []
    drawn = segmentation.GetSegmentation().AddEmptySegment("", "Segment_1")
    assert derivative.left_out(segmentation, segment_id) == [], "nothing is drawn yet"
    patch = Patch(np.ones((3, 3, 3), np.uint8), (1, 2, 3), Grid(mask.shape, np.eye(4)))
    set_segment_voxels(segmentation, drawn, patch)
    assert derivative.left_out(segmentation, segment_id) == ["Segment_1"]
    # What a reader has corrected is left behind where the sliders begin anew beside it.
    set_segment_voxels(segmentation, segment_id, patch)
    logic.threshold(segmentation, 0.4)
    now = logic.segment_id(segmentation)
    assert derivative.left_out(segmentation, now) == ["Stroke lesion", "Segment_1"]


def test_of_a_scan_whose_values_are_put_right(tmp_path: Path) -> None:
    """Clicks are answered by the values that the mask was made of."""
    (tmp_path / "in").mkdir()
    array = np.full((12, 12, 12), -1000, np.float32)
    array[3:9, 3:9, 3:9] = np.arange(216).reshape(6, 6, 6) + 1
    write_volume(tmp_path / "in" / "sub-1_T1w.nii.gz", Volume(array, np.eye(4)))
    out = tmp_path / "out"
    (out / "sub-1").mkdir(parents=True)
    (out / "dataset_description.json").write_text(json.dumps({"DatasetLinks": {"input": "../in"}}))
    mask = Volume((array > 200).astype(np.uint8), np.eye(4))
    write_volume(out / "sub-1" / "sub-1_label-lesion_mask.nii.gz", mask)
    (out / "sub-1" / "sub-1_label-lesion_mask.json").write_text("{}")
    with Ledger(out) as ledger:
        record = {"record": "scan", "stem": "sub-1", "state": "done", "series": None}
        ledger.append({**record, "source": "sub-1_T1w.nii.gz", "folder": "sub-1"})
    assert read_result(out, "sub-1").scan.array.min() == 0
