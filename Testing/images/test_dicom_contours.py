"""Contours and reports in DICOM, read back by pydicom alone and judged by dciodvfy."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cli_support
import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon
from pydicom.dataelem import RawDataElement
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import Scan, read_scan
from StrokeLesionSegLib.images.formats.dicom_contours import no_contours, pixel_contours
from StrokeLesionSegLib.images.formats.dicom_rtstruct import write_dicom_rtstruct
from test_read_dicom import _enhanced

UID = "1.2.826.0.1.3680043.10.511.7"
ALGORITHM = ("StrokeLesionSeg test", "1")
_TURN = np.deg2rad(20.0)
# Directions of rows and columns: as they are, sagittal, and turned about two axes.
PLANES = {
    "axial": ([1, 0, 0], [0, 1, 0]),
    "sagittal": ([0, 1, 0], [0, 0, -1]),
    "oblique": (
        [np.cos(_TURN), np.sin(_TURN) * 0.6, np.sin(_TURN) * 0.8],
        [-np.sin(_TURN), np.cos(_TURN) * 0.6, np.cos(_TURN) * 0.8],
    ),
}


def series(folder: Path, plane: str = "axial") -> Path:
    """A series whose slices lie in ``plane``, with pixels of 1.5 by 2 mm."""
    cli_support.write_dicom_series(folder, uid=UID)
    rows, columns = (np.array(v, dtype=float) for v in PLANES[plane])
    normal = np.cross(rows, columns)
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        number = int(data.InstanceNumber) - 1
        data.ImageOrientationPatient = [f"{v:.10f}" for v in (*rows, *columns)]
        data.ImagePositionPatient = [f"{v:.8f}" for v in (-31.0, 17.0, 4.0) + 5.0 * number * normal]
        data.PixelSpacing = [1.5, 2.0]
        data.StudyDate, data.StudyTime, data.StudyID = "20260102", "030405", "1"
        data.PatientBirthDate, data.PatientSex, data.AccessionNumber = "", "O", ""
        data.save_as(file)
    return folder


def rough_labels(shape: tuple[int, ...]) -> np.ndarray:
    """Two lesions: a shell with a hollow and an island in it, and specks that touch at corners."""
    k, j, i = np.ogrid[: shape[0], : shape[1], : shape[2]]
    away = np.sqrt((2 * (k - 5.0)) ** 2 + (j - 20.0) ** 2 + (i - 16.0) ** 2)
    labels = np.where(((away < 11) & (away > 6)) | (away < 3), 1, 0)
    random = np.random.default_rng(2)
    specks = np.zeros(shape, bool)
    specks[2:9, 34:44, 4:14] = random.random((7, 10, 10)) > 0.5
    labels[specks & (labels == 0)] = 2
    return labels


def filled(dataset: pydicom.Dataset, number: int, scan: Scan) -> np.ndarray:
    """One region as a mask, from its contours in mm, by even-odd filling with another's code."""
    uids = scan.header["series"]["SOPInstanceUIDs"]
    to_voxel = np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ scan.volume.affine)
    mask = np.zeros(scan.volume.array.shape, bool)
    j, i = np.meshgrid(*(np.arange(n) for n in mask.shape[1:]), indexing="ij")
    centres = np.column_stack([i.ravel(), j.ravel()])
    (region,) = [r for r in dataset.ROIContourSequence if r.ReferencedROINumber == number]
    for contour in region.ContourSequence:
        assert contour.ContourGeometricType == "CLOSED_PLANAR"
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        assert len(points) == contour.NumberOfContourPoints
        voxels = points @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        k = uids.index(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)
        # On the plane of the very image that it names.
        assert np.abs(voxels[:, 2] - k).max() < 1e-3
        inside = Polygon(np.vstack([voxels[:, :2], voxels[:1, :2]]), closed=True)
        mask[k] ^= inside.contains_points(centres).reshape(mask.shape[1:])
    return mask


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def problems(file: Path) -> list[str]:
    """What dciodvfy finds wrong."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("no DICOM validator: install Debian's package dicom3tools")
    run = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
    return [line for line in run.stderr.splitlines() if line.startswith("Error")]


def test_all_three_objects_are_on_the_disk_when_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from StrokeLesionSegLib.images.formats import dicom_contours
    from StrokeLesionSegLib.images.formats.dicom_seg import write_dicom_seg
    from StrokeLesionSegLib.images.formats.dicom_sr import write_dicom_sr

    scan = read_scan(series(tmp_path / "t1"))
    labels = rough_labels(scan.volume.array.shape)
    synced: list[int] = []
    monkeypatch.setattr(dicom_contours.os, "fsync", lambda descriptor: synced.append(descriptor))
    write_dicom_seg(tmp_path / "seg.dcm", labels, scan, ALGORITHM)
    write_dicom_sr(tmp_path / "sr.dcm", labels * 0, scan, [], ALGORITHM)
    write_dicom_rtstruct(tmp_path / "rt.dcm", labels * 0, scan, {}, ALGORITHM)
    assert len(synced) == 3
    for name in ("seg", "sr", "rt"):
        assert (tmp_path / f"{name}.dcm").read_bytes()[128:132] == b"DICM"


def test_a_scan_without_a_lesion_says_so(tmp_path: Path) -> None:
    scan = read_scan(series(tmp_path / "t1"))
    file = tmp_path / "rt.dcm"
    write_dicom_rtstruct(file, np.zeros(scan.volume.array.shape, int), scan, {}, ALGORITHM)
    made = pydicom.dcmread(file)
    assert [region.ROIName for region in made.StructureSetROISequence] == ["No lesion found"]
    assert "ContourSequence" not in made.ROIContourSequence[0]
    assert problems(file) == []


@pytest.mark.parametrize("plane", PLANES)
def test_contours_give_the_mask_back(tmp_path: Path, plane: str) -> None:
    scan = read_scan(series(tmp_path / "t1", plane))
    labels = rough_labels(scan.volume.array.shape)
    file = tmp_path / "rt.dcm"
    write_dicom_rtstruct(file, labels, scan, {1: "Läsion 1", 2: "Lesion 2"}, ALGORITHM)
    dataset = pydicom.dcmread(file)
    assert dataset.SOPClassUID == pydicom.uid.RTStructureSetStorage
    assert [r.ROIName for r in dataset.StructureSetROISequence] == ["Läsion 1", "Lesion 2"]
    for number in (1, 2):
        assert dice(filled(dataset, number, scan), labels == number) >= 0.98
    source = pydicom.dcmread(next((tmp_path / "t1").iterdir()))
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert dataset[keyword].value == source[keyword].value
    assert problems(file) == []


def test_a_contour_of_many_points_is_read_as_numbers(tmp_path: Path) -> None:
    """More than 64 kB, as a ragged lesion with holes in a fine scan has."""
    scan = read_scan(series(tmp_path / "t1", "oblique"))
    labels = np.zeros(scan.volume.array.shape, int)
    labels[3] = 1
    labels[3, 1:-1:2, 1:-1:2] = 0
    file = tmp_path / "rt.dcm"
    write_dicom_rtstruct(file, labels, scan, {1: "Lesion 1"}, ALGORITHM)
    dataset = pydicom.dcmread(file)
    (contour,) = dataset.ROIContourSequence[0].ContourSequence
    assert contour.NumberOfContourPoints > 2500
    np.testing.assert_array_equal(filled(dataset, 1, scan), labels == 1)
    assert problems(file) == []


def test_a_hole_is_cut_out_of_one_contour() -> None:
    """A ring is one contour, which no way of filling closes; an island in it is another."""
    mask = np.ones((9, 9), bool)
    mask[2:7, 2:7] = False
    mask[4, 4] = True
    contours = pixel_contours(mask)
    assert len(contours) == 2
    ring = max(contours, key=len)
    j, i = np.mgrid[:9, :9]
    inside = Polygon(np.vstack([ring, ring[:1]]), closed=True).contains_points(
        np.column_stack([i.ravel(), j.ravel()])
    )
    expected = mask.copy()
    expected[4, 4] = False
    np.testing.assert_array_equal(inside.reshape(9, 9), expected)
    # The signed area leaves the hole out, so the way around it is the other one.
    x, y = ring.T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    assert area == expected.sum()


def test_any_mask_survives() -> None:
    random = np.random.default_rng(5)
    j, i = np.mgrid[:14, :17]
    centres = np.column_stack([i.ravel(), j.ravel()])
    for share in (0.1, 0.4, 0.6, 0.9):
        mask = random.random((14, 17)) < share
        back = np.zeros_like(mask)
        for points in pixel_contours(mask):
            inside = Polygon(np.vstack([points, points[:1]]), closed=True)
            back |= inside.contains_points(centres).reshape(mask.shape)
        np.testing.assert_array_equal(back, mask)


@pytest.mark.parametrize("plane", ["axial", "oblique"])
def test_report(tmp_path: Path, plane: str) -> None:
    """Volumes, codes and contours of each lesion, found by walking through the plain data set."""
    pytest.importorskip("highdicom", reason="highdicom (extra: dicom) is not installed")
    from StrokeLesionSegLib.images.formats.dicom_sr import write_dicom_sr

    scan = read_scan(series(tmp_path / "t1", plane))
    labels = rough_labels(scan.volume.array.shape)
    file = tmp_path / "sr.dcm"
    write_dicom_sr(file, labels, scan, [(1, 12.3456, "left"), (2, 0.5, "both")], ALGORITHM)
    dataset = pydicom.dcmread(file)
    assert dataset.Modality == "SR"
    assert dataset.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    groups = items(dataset, "125007")
    assert [text(group, "112039") for group in groups] == ["All lesions", "Lesion 1", "Lesion 2"]
    for group, volume in zip(groups, (12.8456, 12.3456, 0.5), strict=True):
        (measured,) = items(group, "118565006")
        value = measured.MeasuredValueSequence[0]
        assert float(value.NumericValue) == pytest.approx(volume)
        assert value.MeasurementUnitsCodeSequence[0].CodeValue == "mL"
        (finding,) = items(group, "121071")
        code = finding.ConceptCodeSequence[0]
        assert (code.CodingSchemeDesignator, code.CodeValue) == ("SCT", "55641003")
        (site,) = items(group, "363698007")
        assert site.ConceptCodeSequence[0].CodeValue == "12738006"
    sides = [items(group, "272741003")[0].ConceptCodeSequence[0].CodeValue for group in groups[1:]]
    assert sides == ["7771000", "51440002"]
    uids = scan.header["series"]["SOPInstanceUIDs"]
    j, i = np.mgrid[: labels.shape[1], : labels.shape[2]]
    # In a report the corner of the first pixel is 0, 0.
    centres = np.column_stack([i.ravel(), j.ravel()]) + 0.5
    for number, group in enumerate(groups[1:], start=1):
        mask = np.zeros(labels.shape, bool)
        for region in (x for x in walk(group) if x.get("ValueType") == "SCOORD"):
            (image,) = region.ContentSequence
            k = uids.index(image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
            inside = Polygon(np.reshape(region.GraphicData, (-1, 2)), closed=True)
            mask[k] |= inside.contains_points(centres).reshape(mask.shape[1:])
        assert dice(mask, labels == number) >= 0.98
    assert problems(file) == []


def test_report_of_no_lesion(tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="highdicom (extra: dicom) is not installed")
    from StrokeLesionSegLib.images.formats.dicom_sr import write_dicom_sr

    scan = read_scan(series(tmp_path / "t1"))
    nothing = np.zeros(scan.volume.array.shape, int)
    write_dicom_sr(tmp_path / "sr.dcm", nothing, scan, [], ALGORITHM)
    (group,) = items(pydicom.dcmread(tmp_path / "sr.dcm"), "125007")
    (measured,) = items(group, "118565006")
    assert measured.MeasuredValueSequence[0].NumericValue == 0
    assert problems(tmp_path / "sr.dcm") == []


def walk(item: pydicom.Dataset) -> list[pydicom.Dataset]:
    return [x for child in item.get("ContentSequence", []) for x in (child, *walk(child))]


def items(item: pydicom.Dataset, code: str) -> list[pydicom.Dataset]:
    """Everything below ``item`` whose concept has this code."""
    return [
        x
        for x in walk(item)
        if "ConceptNameCodeSequence" in x and x.ConceptNameCodeSequence[0].CodeValue == code
    ]


def text(item: pydicom.Dataset, code: str) -> str:
    return str(items(item, code)[0].TextValue)


def test_a_series_that_cannot_carry_contours(tmp_path: Path) -> None:
    folder = series(tmp_path / "t1")
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        del data.FrameOfReferenceUID
        data.save_as(file)
    scan = read_scan(folder)
    assert "no frame of reference" in no_contours(scan)
    labels = np.zeros(scan.volume.array.shape, int)
    with pytest.raises(InputError, match="no frame of reference"):
        write_dicom_rtstruct(tmp_path / "rt.dcm", labels, scan, {}, ALGORITHM)


def edited(folder: Path, edit: Callable[[pydicom.Dataset], None]) -> Path:
    """A series whose headers are changed by ``edit``."""
    for file in series(folder).iterdir():
        data = pydicom.dcmread(file)
        edit(data)
        data.save_as(file)
    return folder


def all_three(folder: Path, scan: Scan) -> list[pydicom.Dataset]:
    """Segmentation, report and structure set of one lesion, without a fault."""
    pytest.importorskip("highdicom", reason="highdicom (extra: dicom) is not installed")
    from StrokeLesionSegLib.images.formats.dicom_seg import write_dicom_seg
    from StrokeLesionSegLib.images.formats.dicom_sr import write_dicom_sr

    labels = np.zeros(scan.volume.array.shape, int)
    labels[3:6, 10:20, 10:20] = 1
    files = [folder / f"{name}.dcm" for name in ("seg", "sr", "rt")]
    write_dicom_seg(files[0], labels, scan, ALGORITHM)
    write_dicom_sr(files[1], labels, scan, [(1, 3.2, "left")], ALGORITHM)
    write_dicom_rtstruct(files[2], labels, scan, {1: "Lesion 1"}, ALGORITHM)
    assert [problems(file) for file in files] == [[], [], []]
    return [pydicom.dcmread(file) for file in files]


@pytest.mark.parametrize(
    ("source", "name"), [("T1\\MPR", "T1 MPR"), ("T1 " + 61 * "x", "T1 " + 40 * "x")]
)
def test_descriptions_tell_the_objects_from_their_source(
    tmp_path: Path, source: str, name: str
) -> None:
    """A backslash makes two values of a description; a long one leaves no room behind it."""
    folder = edited(tmp_path / "t1", lambda data: setattr(data, "SeriesDescription", source))
    made = [str(data.SeriesDescription) for data in all_three(tmp_path, read_scan(folder))]
    ends = (" lesions", " lesion volumes", " lesion contours")
    assert [text.startswith(name) for text in made] == [True] * 3
    assert [text.endswith(end) for text, end in zip(made, ends, strict=True)] == [True] * 3
    assert max(map(len, made)) <= 64


@pytest.mark.parametrize("keyword", ["PatientID", "StudyDescription", "StudyID"])
def test_a_backslash_in_a_text_makes_no_two_values_of_it(tmp_path: Path, keyword: str) -> None:
    """In DICOM it stands between values, and these elements hold one."""
    folder = edited(tmp_path / "t1", lambda data: setattr(data, keyword, "Kopf\\MRT"))
    segmentation, _, _ = all_three(tmp_path, read_scan(folder))
    if keyword in segmentation:
        assert segmentation[keyword].value == "Kopf MRT"


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_an_empty_uid_is_none(tmp_path: Path, keyword: str) -> None:
    """As anonymisers leave it; an object that takes it over is invalid."""
    from StrokeLesionSegLib.images.formats.dicom_seg import check_dicom_seg
    from StrokeLesionSegLib.images.formats.dicom_sr import check_dicom_sr

    scan = read_scan(edited(tmp_path / "t1", lambda data: setattr(data, keyword, "")))
    assert no_contours(scan)
    with pytest.raises(InputError, match="lack what DICOM SEG needs"):
        check_dicom_seg(scan)
    if keyword == "StudyInstanceUID":
        with pytest.raises(InputError, match="lack what a DICOM report needs"):
            check_dicom_sr(scan)
    else:  # its contours are of pixels
        check_dicom_sr(scan)


@pytest.mark.parametrize("thickness", [None, "", "0"])
def test_images_without_a_slice_thickness(tmp_path: Path, thickness: str | None) -> None:
    """Images may leave it empty, a Segmentation may not: it is the distance between slices."""

    def without(data: pydicom.Dataset) -> None:
        del data.SliceThickness
        if thickness is not None:
            data.SliceThickness = thickness

    segmentation, _, _ = all_three(tmp_path, read_scan(edited(tmp_path / "t1", without)))
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SliceThickness) == 5.0


def test_a_multi_frame_file_without_a_slice_thickness(tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="highdicom (extra: dicom) is not installed")
    from StrokeLesionSegLib.images.formats.dicom_seg import write_dicom_seg

    def without(data: pydicom.Dataset) -> None:
        data.PatientName = data.PatientID = "0"
        measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        thickness.append(float(measures.SliceThickness))
        del measures.SliceThickness

    thickness: list[float] = []
    scan = read_scan(_enhanced(tmp_path / "t1", without))
    write_dicom_seg(tmp_path / "seg.dcm", scan.volume.array > 9, scan, ALGORITHM)
    made = pydicom.dcmread(tmp_path / "seg.dcm").SharedFunctionalGroupsSequence[0]
    assert float(made.PixelMeasuresSequence[0].SliceThickness) == pytest.approx(thickness[0])


def test_images_with_a_series_each_are_referred_to_there(tmp_path: Path) -> None:
    """The scan is read; its structure set names each image in the series that it is in."""

    def own(data: pydicom.Dataset) -> None:
        data.SeriesInstanceUID = f"{UID}.{100 + int(data.InstanceNumber)}"

    folder = edited(tmp_path / "t1", own)
    scan = read_scan(folder)
    labels = np.zeros(scan.volume.array.shape, int)
    write_dicom_rtstruct(tmp_path / "rt.dcm", labels, scan, {}, ALGORITHM)
    made = pydicom.dcmread(tmp_path / "rt.dcm").ReferencedFrameOfReferenceSequence[0]
    told = {
        (str(image.ReferencedSOPInstanceUID), str(part.SeriesInstanceUID))
        for part in made.RTReferencedStudySequence[0].RTReferencedSeriesSequence
        for image in part.ContourImageSequence
    }
    sources = map(pydicom.dcmread, folder.iterdir())
    assert told == {(str(d.SOPInstanceUID), str(d.SeriesInstanceUID)) for d in sources}
    assert problems(tmp_path / "rt.dcm") == []


def test_decimal_commas_are_put_right_in_the_objects_too(tmp_path: Path) -> None:
    def comma(data: pydicom.Dataset) -> None:
        for keyword in ("PixelSpacing", "SliceThickness", "ImagePositionPatient"):
            values = data[keyword].value
            values = [values] if keyword == "SliceThickness" else values
            text = "\\".join(str(float(v)) for v in values).replace(".", ",").encode()
            tag = data[keyword].tag
            raw = RawDataElement(
                tag, "DS", len(text), text + b" " * (len(text) % 2), 0, False, True
            )
            data._dict[tag] = raw

    plain = read_scan(series(tmp_path / "plain"))
    scan = read_scan(edited(tmp_path / "t1", comma))
    assert "decimal commas" in " ".join(scan.warnings)
    np.testing.assert_allclose(scan.volume.affine, plain.volume.affine, atol=1e-6)
    segmentation, _, contours = all_three(tmp_path, scan)
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert list(measures.PixelSpacing) == [1.5, 2.0]
    assert filled(contours, 1, scan).sum() == 300


@pytest.mark.parametrize("length", [0.98, 1.0002])
def test_direction_cosines_of_another_length_change_no_voxel_size(
    tmp_path: Path, length: float
) -> None:
    """As programs write them that round or scale; the standard wants them of length 1."""

    def scaled(data: pydicom.Dataset) -> None:
        cosines = length * np.array(data.ImageOrientationPatient, dtype=float)
        data.ImageOrientationPatient = [f"{value:.10f}" for value in cosines]

    plain = read_scan(series(tmp_path / "plain", "oblique"))
    (tmp_path / "t1").mkdir()
    for file in (tmp_path / "plain").iterdir():
        data = pydicom.dcmread(file)
        scaled(data)
        data.save_as(tmp_path / "t1" / file.name)
    scan = read_scan(tmp_path / "t1")
    np.testing.assert_allclose(scan.volume.affine, plain.volume.affine, atol=1e-6)
    assert ("length 1" in " ".join(scan.warnings)) == (length == 0.98)
    _, _, contours = all_three(tmp_path, scan)
    assert filled(contours, 1, scan).sum() == 300


@pytest.mark.parametrize("option", ["--dicom-sr", "--dicom-rtstruct"])
def test_input_that_is_no_dicom_is_told_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    scan = tmp_path / "t1.nii.gz"
    cli_support.write_head(scan, cli_support.head_array(0))
    assert main(["segment", str(scan), option, str(tmp_path / "x.dcm")]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert f"is not DICOM, to which DICOM {option[8:].upper()} has to refer" in said
    assert [f.name for f in tmp_path.iterdir()] == ["t1.nii.gz"]
