"""DICOM Segmentation objects, read back with pydicom and highdicom."""

from __future__ import annotations

from pathlib import Path

import cli_support
import cohort_support as support
import nibabel
import numpy as np
import pytest
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import read_scan

highdicom = pytest.importorskip("highdicom", reason="highdicom (extra: dicom) is not installed")
import pydicom  # noqa: E402

UID = "1.2.826.0.1.3680043.10.511.7"
ALGORITHM = ("StrokeLesionSeg test", "1")


def write(path: Path, mask: np.ndarray, source: Path) -> pydicom.Dataset:
    from StrokeLesionSegLib.images.formats.dicom_seg import write_dicom_seg

    write_dicom_seg(path, mask, read_scan(source), ALGORITHM)
    return pydicom.dcmread(path)


def frames_by_source(dataset: pydicom.Dataset) -> dict[str, np.ndarray]:
    """Frames by the SOP instance that each refers to, with pydicom alone."""
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    found = {}
    for pixel, groups in zip(pixels, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        found[str(source.ReferencedSOPInstanceUID)] = pixel
    return found


def test_frames_codes_and_references(tmp_path: Path) -> None:
    folder = cli_support.write_dicom_series(tmp_path / "t1", uid=UID)
    scan = read_scan(folder)
    random = np.random.default_rng(3)
    mask = (random.random(scan.volume.array.shape) > 0.7).astype(np.uint8)
    mask[4] = 0  # a slice without lesion has no frame
    dataset = write(tmp_path / "seg.dcm", mask, folder)

    assert dataset.SOPClassUID == pydicom.uid.SegmentationStorage
    assert dataset.Modality == "SEG"
    source = pydicom.dcmread(next(iter(sorted(folder.iterdir()))))
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert dataset[keyword].value == source[keyword].value
    assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
    referenced = dataset.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == UID
    uids = scan.header["series"]["SOPInstanceUIDs"]
    assert {i.ReferencedSOPInstanceUID for i in referenced.ReferencedInstanceSequence} == set(uids)

    (segment,) = dataset.SegmentSequence
    category = segment.SegmentedPropertyCategoryCodeSequence[0]
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    assert (category.CodingSchemeDesignator, category.CodeValue) == ("SCT", "49755003")
    assert (kind.CodingSchemeDesignator, kind.CodeValue) == ("SCT", "55641003")
    assert kind.CodeMeaning == "Infarct"
    assert segment.AnatomicRegionSequence[0].CodeValue == "12738006"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"

    frames = frames_by_source(dataset)
    assert set(frames) == {uid for k, uid in enumerate(uids) if mask[k].any()}
    for k, uid in enumerate(uids):
        if uid in frames:
            np.testing.assert_array_equal(frames[uid], mask[k])

    read = highdicom.seg.segread(tmp_path / "seg.dcm")
    pixels = read.get_pixels_by_source_instance(
        source_sop_instance_uids=list(uids), assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(pixels[..., 0], mask)


def test_an_empty_mask_is_stored(tmp_path: Path) -> None:
    folder = cli_support.write_dicom_series(tmp_path / "t1", uid=UID)
    shape = read_scan(folder).volume.array.shape
    dataset = write(tmp_path / "seg.dcm", np.zeros(shape, np.uint8), folder)
    assert dataset.NumberOfFrames == shape[0]
    assert not dataset.pixel_array.any()


def test_research_exports_without_patient_data(tmp_path: Path) -> None:
    folder = cli_support.write_dicom_series(tmp_path / "t1", uid=UID)
    for file in folder.iterdir():
        source = pydicom.dcmread(file)
        del source.PatientName, source.PatientID
        source.save_as(file)
    mask = np.zeros(read_scan(folder).volume.array.shape, np.uint8)
    mask[3, 5, 6] = 1
    dataset = write(tmp_path / "seg.dcm", mask, folder)
    assert dataset.PatientID == ""
    assert dataset.NumberOfFrames == 1


@pytest.mark.parametrize("phase", [False, True], ids=["alone", "behind phase images"])
def test_enhanced_multi_frame_source(tmp_path: Path, phase: bool) -> None:
    """Frames stored in another order than space's still get the mask of their own slice."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    folder = cli_support.write_dicom_series(tmp_path / "t1", uid=UID, slices=10)
    classic = [pydicom.dcmread(f) for f in sorted(folder.iterdir())]
    order = np.random.default_rng(1).permutation(len(classic))
    enhanced = Dataset()
    enhanced.update(classic[0])
    enhanced.file_meta = classic[0].file_meta
    enhanced.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedMRImageStorage
    enhanced.SOPClassUID = pydicom.uid.EnhancedMRImageStorage
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(enhanced, keyword)
    if phase:
        order = np.concatenate([order, order])
    enhanced.NumberOfFrames = len(order)
    enhanced.PixelData = b"".join(classic[n].PixelData for n in order)

    def item(keyword: str, **values: object) -> Sequence:
        inner = Dataset()
        for name, value in values.items():
            setattr(inner, name, value)
        return Sequence([inner])

    shared = Dataset()
    shared.PlaneOrientationSequence = item("", ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.PixelMeasuresSequence = item("", PixelSpacing=[2.0, 2.0], SliceThickness=5.0)
    enhanced.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for number, n in enumerate(order):
        frame = Dataset()
        component = "PHASE" if phase and number < len(classic) else "MAGNITUDE"
        frame.MRImageFrameTypeSequence = item("", ComplexImageComponent=component)
        position = classic[n].ImagePositionPatient
        frame.PlanePositionSequence = item("", ImagePositionPatient=position)
        frames.append(frame)
    enhanced.PerFrameFunctionalGroupsSequence = Sequence(frames)
    path = tmp_path / "enhanced.dcm"
    pydicom.dcmwrite(path, enhanced, enforce_file_format=True)

    scan = read_scan(path)
    mask = np.zeros(scan.volume.array.shape, np.uint8)
    for k in range(len(mask)):
        mask[k, k, :3] = 1
    dataset = write(tmp_path / "seg.dcm", mask, path)
    assert dataset.NumberOfFrames == len(mask)
    pixels = dataset.pixel_array
    for pixel, groups in zip(pixels, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        z = groups.PlanePositionSequence[0].ImagePositionPatient[2]
        k = round((z - -30.0) / 5.0)
        np.testing.assert_array_equal(pixel, mask[k])
        frame = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        assert order[frame - 1] == k
        assert not phase or frame > len(classic)

    from StrokeLesionSegLib.images.formats.dicom_rtstruct import write_dicom_rtstruct
    from StrokeLesionSegLib.images.formats.dicom_sr import write_dicom_sr

    write_dicom_rtstruct(tmp_path / "rt.dcm", mask, scan, {1: "Lesion 1"}, ALGORITHM)
    (region,) = pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence
    assert len(region.ContourSequence) == len(mask)
    for contour in region.ContourSequence:
        # Row k of slice k, at the height of the very frame that is named.
        points = np.reshape(contour.ContourData, (-1, 3))
        frame = contour.ContourImageSequence[0].ReferencedFrameNumber
        k = int(order[frame - 1])
        assert points[:, 2] == pytest.approx(-30.0 + 5.0 * k)
        assert points[:, 1].mean() == pytest.approx(-45.0 + 2.0 * k)
    write_dicom_sr(tmp_path / "sr.dcm", mask, scan, [(1, 1.2, "left")], ALGORITHM)
    report = str(pydicom.dcmread(tmp_path / "sr.dcm"))
    assert report.count("'SCOORD'") == len(mask)
    assert "Referenced Frame Number" in report


@pytest.mark.usefixtures("home")
def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cli_support.write_dicom_series(tmp_path / "in" / "t1", uid=UID)
    mask, seg = tmp_path / "m.nii.gz", tmp_path / "m.dcm"
    arguments = ["segment", str(folder), "-o", str(mask), "--dicom-seg", str(seg)]
    assert main([*arguments, *support.QUICK]) == 0
    array = np.asarray(nibabel.load(mask).dataobj).transpose(2, 1, 0)
    assert array.any()
    frames = frames_by_source(pydicom.dcmread(seg))
    for k, uid in enumerate(read_scan(folder).header["series"]["SOPInstanceUIDs"]):
        np.testing.assert_array_equal(frames.get(uid, np.zeros_like(array[k])), array[k])

    assert support.batch(tmp_path / "in", tmp_path / "out", "--dicom-seg") == 0
    capsys.readouterr()
    (batched,) = (tmp_path / "out").rglob("*_seg.dcm")
    assert {u: f.tobytes() for u, f in frames_by_source(pydicom.dcmread(batched)).items()} == {
        u: f.tobytes() for u, f in frames.items()
    }

    scan = cli_support.write_head(tmp_path / "scan.nii.gz")
    again = ["segment", str(scan), "--dicom-seg", str(tmp_path / "x.dcm")]
    assert main([*again, *support.QUICK]) == 2
    assert "is not DICOM" in capsys.readouterr().err
    assert not (tmp_path / "x.dcm").exists()
    assert not (tmp_path / "scan_lesion.nii.gz").exists()


@pytest.mark.usefixtures("home")
def test_report_and_contours_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All three objects; where the series can carry no contours, the others and one line."""
    folder = cli_support.write_dicom_series(tmp_path / "in" / "t1", uid=UID)
    kinds = {"seg": "SEG", "sr": "SR", "rtstruct": "RTSTRUCT"}
    options = [f"--dicom-{kind}" for kind in kinds]
    assert support.batch(tmp_path / "in", tmp_path / "out", *options) == 0
    for kind, modality in kinds.items():
        (file,) = (tmp_path / "out").rglob(f"*_label-lesion_{kind}.dcm")
        dataset = pydicom.dcmread(file)
        assert dataset.Modality == modality
        assert dataset.PatientID == "0"
        assert "_" + file.name.split("_", 1)[1] in str(support.records(tmp_path / "out"))
    rows = support.read_table(next((tmp_path / "out").rglob("*_stats.tsv")))
    volume = sum(float(row["volume_ml"]) for row in rows)
    report = pydicom.dcmread(next((tmp_path / "out").rglob("*_sr.dcm")))
    assert volume > 0
    assert f"{volume:.2f}" in str(report)
    # With another threshold those that are not asked for again would tell of other lesions.
    assert support.batch(tmp_path / "in", tmp_path / "out", "--dicom-sr", "--threshold", "0.4") == 0
    assert [file.name.split("_")[-1] for file in (tmp_path / "out").rglob("*.dcm")] == ["sr.dcm"]

    for file in folder.iterdir():
        source = pydicom.dcmread(file)
        del source.FrameOfReferenceUID
        source.save_as(file)
    capsys.readouterr()
    mask, rt, sr = tmp_path / "m.nii.gz", tmp_path / "rt.dcm", tmp_path / "sr.dcm"
    arguments = ["segment", str(folder), "-o", str(mask), "--dicom-rtstruct", str(rt)]
    assert main([*arguments, "--dicom-sr", str(sr), *support.QUICK]) == 3
    told = [line for line in capsys.readouterr().err.splitlines() if "rt.dcm" in line]
    assert len(told) == 1
    assert "no frame of reference" in told[0]
    assert mask.exists()
    assert sr.exists()
    assert not rt.exists()


def test_without_highdicom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from StrokeLesionSegLib.images.formats import dicom_seg

    monkeypatch.setattr(dicom_seg.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install highdicom"):
        dicom_seg.require_highdicom()
    with pytest.raises(InputError, match="--dicom-sr"):
        dicom_seg.require_highdicom("--dicom-sr")


@pytest.mark.parametrize("keyword", ["SeriesInstanceUID", "FrameOfReferenceUID"])
def test_images_of_several_series_are_refused_before_the_network_runs(
    tmp_path: Path, keyword: str
) -> None:
    from StrokeLesionSegLib.images.formats.dicom_seg import check_dicom_seg

    folder = cli_support.write_dicom_series(tmp_path / "t1", uid=UID)
    for number, file in enumerate(sorted(folder.iterdir())):
        source = pydicom.dcmread(file)
        setattr(source, keyword, f"{UID}.{100 + number}")
        source.save_as(file)
    with pytest.raises(InputError, match="more than one study, series or frame of reference"):
        check_dicom_seg(read_scan(folder))


@pytest.mark.usefixtures("home")
def test_a_report_names_no_side_where_the_scan_was_not_aligned(tmp_path: Path) -> None:
    """The table's sides are those of the scan's middle then, and a note says so."""
    folder = cli_support.write_dicom_series(tmp_path / "t1", uid=UID)
    arguments = ["segment", str(folder), "-o", str(tmp_path / "m.nii.gz"), "--align", "none"]
    assert main([*arguments, "--dicom-sr", str(tmp_path / "sr.dcm"), *support.QUICK]) == 0
    assert "middle of the scan" in (tmp_path / "m.json").read_text(encoding="utf-8")
    report = str(pydicom.dcmread(tmp_path / "sr.dcm"))
    assert "'Lesion 1'" in report
    assert "Laterality" not in report
