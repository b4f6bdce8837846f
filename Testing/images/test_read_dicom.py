"""DICOM: GDCM's own series reader and pydicom's pixels are the witnesses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, generate_uid
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import read_scan, to_canonical, write_volume

MR, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
SHAPE = (12, 9, 14)  # k, j, i
PIXELS = np.random.default_rng(7).integers(1, 900, SHAPE).astype(np.uint16)


@dataclass(frozen=True)
class _Geometry:
    row: np.ndarray
    column: np.ndarray
    first: np.ndarray
    spacing: tuple[float, float] = (1.25, 0.9)  # between rows, between columns
    step: float = 1.2

    def position(self, k: float) -> list[float]:
        place = self.first + np.cross(self.row, self.column) * self.step * k
        return [round(float(x), 6) for x in place]

    @property
    def orientation(self) -> list[float]:
        return [round(float(x), 9) for x in (*self.row, *self.column)]


def _geometry(plane: str = "sagittal", tilt: float = 0.1) -> _Geometry:
    turn = np.array(sitk.Euler3DTransform((0, 0, 0), tilt, -tilt / 2, tilt / 3).GetMatrix())
    turn = turn.reshape(3, 3)
    row, column = {
        "axial": ((1, 0, 0), (0, 1, 0)),
        "sagittal": ((0, 1, 0), (0, 0, -1)),
        "coronal": ((1, 0, 0), (0, 0, -1)),
    }[plane]
    return _Geometry(turn @ row, turn @ column, np.array([-70.5, -110.25, 80]))


def _base(storage: str, study: str, series: str, syntax: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = storage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = storage, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = study, series
    data.FrameOfReferenceUID = "1.2.3.4"
    data.Modality = "MR" if storage != CT else "CT"
    data.PatientName, data.PatientID = "Secret^Name", "secret-id"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.Rows, data.Columns = SHAPE[1:]
    return data


def _series(
    folder: Path,
    *,
    uid: str = "1.2.826.1",
    description: str = "T1 MPRAGE",
    geometry: _Geometry | None = None,
    storage: str = MR,
    ks: tuple[float, ...] = tuple(range(SHAPE[0])),
    edit: Callable[[Dataset, int], None] | None = None,
    syntax: str = ExplicitVRLittleEndian,
) -> Path:
    """Writes classic files in an order unlike that of their slices."""
    folder.mkdir(parents=True, exist_ok=True)
    geometry = geometry or _geometry()
    for n, k in enumerate(ks):
        data = _base(storage, "1.2.826.9", uid, syntax)
        data.SeriesDescription, data.InstanceNumber = description, len(ks) - n
        data.ImagePositionPatient = geometry.position(k)
        data.ImageOrientationPatient = geometry.orientation
        data.PixelSpacing = list(geometry.spacing)
        data.SliceThickness = geometry.step
        data.PixelData = PIXELS[n].tobytes()
        if edit:
            edit(data, n)
        data.save_as(folder / f"{(n * 7) % len(ks):03d}-{n}.dcm", enforce_file_format=True)
    return folder


def _enhanced(folder: Path, edit: Callable[[Dataset], None] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    geometry = _geometry("axial")
    data = _base(ENHANCED, "1.2.826.9", "1.2.826.7", ExplicitVRLittleEndian)
    data.SeriesDescription, data.NumberOfFrames = "T1 enhanced", SHAPE[0]
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(geometry.spacing), geometry.step
    orientation.ImageOrientationPatient = geometry.orientation
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    order = [(5 * n) % SHAPE[0] for n in range(SHAPE[0])]  # frames stored out of order
    for k in order:
        position, values, frame = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = geometry.position(k)
        values.RescaleSlope, values.RescaleIntercept = 0.5 + k, -3
        frame.PlanePositionSequence = Sequence([position])
        frame.PixelValueTransformationSequence = Sequence([values])
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    data.PixelData = PIXELS[order].tobytes()
    if edit:
        edit(data)
    path = folder / "enhanced.dcm"
    data.save_as(path, enforce_file_format=True)
    return path


def _place_of_pixel(geometry: _Geometry, i: int, j: int, k: int) -> np.ndarray:
    """RAS mm by the standard's own formula (PS3.3 C.7.6.2.1.1)."""
    lps = np.array(geometry.position(k)) + geometry.row * geometry.spacing[1] * i
    return (lps + geometry.column * geometry.spacing[0] * j) * (-1, -1, 1)


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_classic_series(tmp_path: Path, plane: str, syntax: str) -> None:
    geometry = _geometry(plane)
    folder = _series(tmp_path / "a b" / "séries", geometry=geometry, syntax=syntax)
    scan = read_scan(tmp_path)  # searched recursively
    assert scan.format == "dicom"
    assert scan.warnings == ()
    np.testing.assert_array_equal(scan.volume.array, PIXELS)
    assert scan.volume.array.dtype == np.float32
    assert scan.volume.array.flags.c_contiguous
    for ijk in [(0, 0, 0), (13, 0, 0), (0, 8, 0), (0, 0, 11), (3, 5, 7)]:
        expected = _place_of_pixel(geometry, *ijk)
        np.testing.assert_allclose((scan.volume.affine @ (*ijk, 1))[:3], expected, atol=1e-4)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    witness = reader.Execute()
    np.testing.assert_array_equal(scan.volume.array, sitk.GetArrayFromImage(witness))
    for ijk in [(0, 0, 0), (13, 8, 11)]:
        lps = np.array(witness.TransformIndexToPhysicalPoint(ijk))
        np.testing.assert_allclose(
            (scan.volume.affine @ (*ijk, 1))[:3], lps * (-1, -1, 1), atol=1e-3
        )


def test_facts_for_a_segmentation_object_and_no_patient(tmp_path: Path) -> None:
    _series(tmp_path)
    scan = read_scan(tmp_path)
    facts = scan.header["series"]
    assert facts["SeriesInstanceUID"] == "1.2.826.1"
    assert facts["StudyInstanceUID"] == "1.2.826.9"
    assert facts["FrameOfReferenceUID"] == "1.2.3.4"
    assert facts["SeriesDescription"] == "T1 MPRAGE"
    assert facts["Modality"] == "MR"
    assert scan.header["dtype"] == "uint16"
    for k, (file, uid) in enumerate(zip(facts["files"], facts["SOPInstanceUIDs"], strict=True)):
        data = pydicom.dcmread(file)
        assert data.SOPInstanceUID == uid
        np.testing.assert_array_equal(data.pixel_array, scan.volume.array[k])
    assert "ecret" not in repr(scan.header)


def test_rescale_of_each_slice(tmp_path: Path) -> None:
    def edit(data: Dataset, n: int) -> None:
        data.RescaleSlope, data.RescaleIntercept = str(1.5 + n), "-7"

    _series(tmp_path, edit=edit)
    scan = read_scan(tmp_path)
    slopes = 1.5 + np.arange(SHAPE[0])[:, None, None]
    np.testing.assert_allclose(scan.volume.array, PIXELS * slopes - 7, rtol=1e-6)


def test_signed_pixels(tmp_path: Path) -> None:
    signed = PIXELS.astype(np.int16) - 450

    def edit(data: Dataset, n: int) -> None:
        data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 15, 1
        data.PixelData = signed[n].tobytes()

    _series(tmp_path, edit=edit)
    scan = read_scan(tmp_path)
    np.testing.assert_array_equal(scan.volume.array, signed)
    assert scan.header["dtype"] == "int16"


def test_compressed_pixels(tmp_path: Path) -> None:
    _series(tmp_path)
    for file in tmp_path.glob("*.dcm"):
        data = pydicom.dcmread(file)
        data.compress(RLELossless, generate_instance_uid=False)
        data.save_as(file)
    np.testing.assert_array_equal(read_scan(tmp_path).volume.array, PIXELS)


@pytest.mark.parametrize("as_folder", [True, False])
def test_enhanced_multi_frame(tmp_path: Path, as_folder: bool) -> None:
    path = _enhanced(tmp_path)
    scan = read_scan(tmp_path if as_folder else path)
    scale = (0.5 + np.arange(SHAPE[0]))[:, None, None]
    np.testing.assert_allclose(scan.volume.array, PIXELS * scale - 3, rtol=1e-6)
    geometry = _geometry("axial")
    for ijk in [(0, 0, 0), (13, 8, 11), (2, 3, 4)]:
        expected = _place_of_pixel(geometry, *ijk)
        np.testing.assert_allclose((scan.volume.affine @ (*ijk, 1))[:3], expected, atol=1e-4)
    facts = scan.header["series"]
    assert facts["files"] == (str(path),)
    frames = [(5 * n) % SHAPE[0] for n in range(SHAPE[0])]
    assert [frames[f - 1] for f in facts["frames"]] == list(range(SHAPE[0]))


def test_the_one_usable_series_is_taken(tmp_path: Path) -> None:
    """A localizer, a short series, a CT, text and duplicates beside the T1 do no harm."""
    _series(tmp_path / "t1")
    _series(tmp_path / "short", uid="1.2.826.2", ks=tuple(range(5)))
    _series(tmp_path / "ct", uid="1.2.826.3", storage=CT)

    def three_planes(data: Dataset, n: int) -> None:
        plane = _geometry(["axial", "sagittal", "coronal"][n % 3], 0)
        data.ImageOrientationPatient = plane.orientation

    _series(tmp_path / "localizer", uid="1.2.826.4", edit=three_planes)
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "empty.dcm").write_bytes(b"")
    shutil.copytree(tmp_path / "t1", tmp_path / "copy of t1")
    scan = read_scan(tmp_path)
    assert scan.header["series"]["SeriesInstanceUID"] == "1.2.826.1"
    np.testing.assert_array_equal(scan.volume.array, PIXELS)


def test_several_series_are_listed_and_one_can_be_named(tmp_path: Path) -> None:
    _series(tmp_path / "a")
    _series(tmp_path / "b", uid="1.2.826.22", description="T1 SPACE", ks=tuple(range(10)))
    with pytest.raises(InputError) as caught:
        read_scan(tmp_path)
    line = str(caught.value)
    for part in ('"T1 MPRAGE" (12 images, UID 1.2.826.1)', '"T1 SPACE" (10 images', "--series"):
        assert part in line
    assert read_scan(tmp_path, series="1.2.826.22").volume.array.shape == (10, 9, 14)
    assert read_scan(tmp_path, series="1.2.826.1").volume.array.shape == SHAPE
    with pytest.raises(InputError, match=r"no series 9\.9.*1\.2\.826\.22"):
        read_scan(tmp_path, series="9.9")


def test_slightly_uneven_slices_are_warned_about(tmp_path: Path) -> None:
    _series(tmp_path, ks=(0, 1, 2, 3.05, 4, 5, 6, 7, 8, 9, 10, 11))
    (warning,) = read_scan(tmp_path).warnings
    assert "slice spacing varies" in warning


def test_a_tilted_gantry_is_sheared(tmp_path: Path) -> None:
    def edit(data: Dataset, n: int) -> None:
        position = np.array([float(x) for x in data.ImagePositionPatient])
        step = np.array([float(x) for x in data.ImageOrientationPatient[3:]]) * 0.3 * n
        data.ImagePositionPatient = [round(float(x), 6) for x in position + step]

    _series(tmp_path, edit=edit)
    scan = read_scan(tmp_path)
    assert "sheared" in scan.warnings[0]
    geometry = _geometry()
    expected = _place_of_pixel(geometry, 2, 3, 7) + geometry.column * (-1, -1, 1) * 0.3 * 7
    np.testing.assert_allclose((scan.volume.affine @ (2, 3, 7, 1))[:3], expected, atol=1e-4)


def test_mask_of_a_series_is_written_on_its_grid(tmp_path: Path) -> None:
    _series(tmp_path / "in")
    scan = read_scan(tmp_path / "in")
    mask = scan.volume.with_array((scan.volume.array > 400).astype(np.uint8))
    for name in ("m.nii.gz", "m.nrrd"):
        write_volume(tmp_path / name, mask, like=scan)
        back = read_scan(tmp_path / name)
        assert back.volume.grid.same_as(scan.volume.grid, 1e-3)
        np.testing.assert_array_equal(back.volume.array, mask.array)
    assert to_canonical(scan.volume).volume.array.max() > 400


def _set(**fields: object) -> Callable[[Dataset, int], None]:
    def edit(data: Dataset, n: int) -> None:
        for name, value in fields.items():
            if n == 4 or name == "PhotometricInterpretation":
                if value is None:
                    delattr(data, name)
                else:
                    setattr(data, name, value)

    return edit


def _colour(data: Dataset, n: int) -> None:
    data.SamplesPerPixel, data.PhotometricInterpretation = 3, "RGB"
    data.PlanarConfiguration = 0
    data.PixelData = PIXELS[n].tobytes() * 3


def _smaller(data: Dataset, n: int) -> None:
    if n == 4:
        data.Rows = 5
        data.PixelData = PIXELS[n, :5].tobytes()


def _broken(data: Dataset, n: int) -> None:
    if n == 4:
        data.PixelData = data.PixelData[:40]


def _nothing(folder: Path) -> Path:
    (folder / "notes.txt").write_text("no images here\n" * 30)
    return folder


def _one_file(folder: Path) -> Path:
    return next(iter(_series(folder).glob("*.dcm")))


def _cut_file(folder: Path) -> Path:
    victim = sorted(_series(folder).glob("*.dcm"))[3]
    victim.write_bytes(victim.read_bytes()[:-150])
    return folder


def _two_echoes(folder: Path) -> Path:
    return _series(folder, ks=tuple(k // 2 for k in range(12)))


def _shift_half(data: Dataset, n: int) -> None:
    """Half of the slices lie beside the others, as those of a second scan would."""
    beside = (n >= SHAPE[0] // 2) * 10.0 * np.array(data.ImageOrientationPatient[:3], float)
    place = np.array(data.ImagePositionPatient, float) + beside
    data.ImagePositionPatient = [f"{value:.6f}" for value in place]


ks = tuple(range(SHAPE[0]))
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty folder": (lambda f: f, "no DICOM images"),
    "folder without images": (_nothing, "no DICOM images"),
    "only CT": (lambda f: _series(f, storage=CT), "12 x CT, CT Image Storage"),
    "few slices": (lambda f: _series(f, ks=tuple(range(5))), "8 or more slices"),
    "one file": (_one_file, "8 or more slices"),
    "missing slice": (lambda f: _series(f, ks=(*ks[:5], *ks[6:])), "1 slice is missing between"),
    "three missing": (lambda f: _series(f, ks=(*ks[:5], *ks[8:])), "3 slices are missing"),
    "uneven": (lambda f: _series(f, ks=tuple(1.02**k * k for k in ks)), "unevenly spaced"),
    "shifted": (lambda f: _series(f, edit=_shift_half), "shifted sideways, by up to"),
    "echoes": (_two_echoes, "12 images share 6 positions"),
    "orientation": (
        lambda f: _series(f, edit=_set(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])),
        "differ in orientation",
    ),
    "sizes": (lambda f: _series(f, edit=_smaller), "differ in size (14 x 5, 14 x 9)"),
    "spacings": (lambda f: _series(f, edit=_set(PixelSpacing=[2, 2])), "pixel spacing"),
    "no spacing": (lambda f: _series(f, edit=_set(PixelSpacing=None)), "pixel spacing"),
    "no position": (lambda f: _series(f, edit=_set(ImagePositionPatient=None)), "no position"),
    "two patients": (
        lambda f: _series(f, edit=_set(PatientID="4711")),
        "identifiers of 2 patients",
    ),
    "colour": (lambda f: _series(f, edit=_colour), "colour"),
    "inverted": (
        lambda f: _series(f, edit=_set(PhotometricInterpretation="MONOCHROME1")),
        "MONOCHROME1",
    ),
    "pixels missing": (lambda f: _series(f, edit=_broken), "not complete"),
    "no pixels": (lambda f: _series(f, edit=_set(PixelData=None)), "not complete"),
    "file cut": (_cut_file, "decoded"),
    "enhanced cut": (
        lambda f: _enhanced(f, lambda d: setattr(d, "PixelData", d.PixelData[:400])),
        "decoded",
    ),
    "enhanced without groups": (
        lambda f: _enhanced(f, lambda d: delattr(d, "PerFrameFunctionalGroupsSequence")),
        "damaged",
    ),
    "text named dcm": (
        lambda f: (_nothing(f) / "notes.txt").rename(f / "x.dcm"),
        "no DICOM images",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(tmp_path: Path, case: str, capfd) -> None:
    make, expected = BAD[case]
    path = make(tmp_path)
    capfd.readouterr()
    with pytest.raises(InputError) as caught:
        read_scan(path)
    line = str(caught.value)
    assert expected in line
    assert "\n" not in line
    assert str(tmp_path) in line
    assert caught.value.remedy
    assert capfd.readouterr().err == ""
