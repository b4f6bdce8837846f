"""Series as archives and anonymisers leave them: all images are used, or what is not is told."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    generate_uid,
)
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import read_scan
from StrokeLesionSegLib.images.formats import dicom_pixels
from StrokeLesionSegLib.images.formats.dicom_series import missing_slices, other_component
from StrokeLesionSegLib.images.formats.sequence import facts_from, other_kind
from StrokeLesionSegLib.input_check import check_metadata
from test_read_dicom import CT, PIXELS, SHAPE, _enhanced, _series


def _refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_scan(path)
    return str(caught.value)


@pytest.mark.parametrize("files", [3, SHAPE[0]])
def test_files_without_the_mark_are_read(tmp_path: Path, files: int) -> None:
    _series(tmp_path)
    for file in sorted(tmp_path.glob("*.dcm"))[:files]:
        whole = file.read_bytes()
        assert whole[128:132] == b"DICM"
        file.write_bytes(whole[132:])
    np.testing.assert_array_equal(read_scan(tmp_path).volume.array, PIXELS)


def test_other_files_without_the_mark_are_none(tmp_path: Path) -> None:
    _series(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"\x08\x00\x05\x00" + b"\xff" * 300)
    (tmp_path / "b.bin").write_bytes(b"\x08\x00" * 100)
    (tmp_path / "c.txt").write_bytes(b"\x02")
    np.testing.assert_array_equal(read_scan(tmp_path).volume.array, PIXELS)


def test_uids_that_were_cut_lose_no_slice(tmp_path: Path) -> None:
    def cut(data: Dataset, n: int) -> None:
        data.SOPInstanceUID = f"1.2.826.{n % 3}"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID

    scan = read_scan(_series(tmp_path, edit=cut))
    np.testing.assert_array_equal(scan.volume.array, PIXELS)
    assert any("share one SOPInstanceUID" in note for note in scan.warnings)


def test_the_same_image_twice_counts_once(tmp_path: Path) -> None:
    _series(tmp_path)
    for file in list(tmp_path.glob("*.dcm")):
        (tmp_path / f"copy-{file.name}").write_bytes(file.read_bytes())
    scan = read_scan(tmp_path)
    np.testing.assert_array_equal(scan.volume.array, PIXELS)
    assert scan.warnings == ()


def test_a_series_uid_for_every_image(tmp_path: Path) -> None:
    def own(data: Dataset, n: int) -> None:
        data.SeriesInstanceUID = generate_uid()

    scan = read_scan(_series(tmp_path / "a", edit=own))
    np.testing.assert_array_equal(scan.volume.array, PIXELS)
    assert any("series UID of its own" in note for note in scan.warnings)

    def and_names(data: Dataset, n: int) -> None:
        data.SeriesInstanceUID, data.SeriesDescription = generate_uid(), f"part {n}"

    # Not those of several descriptions, and the message stays a line that can be read.
    line = _refused(_series(tmp_path / "b", edit=and_names))
    assert "8 or more slices" in line
    assert "and 6 more" in line
    assert len(line) < 1500


@pytest.mark.parametrize(
    ("identifiers", "names", "told"),
    [
        (("4711", "4712"), ("Doe^Jane", "Doe^Jane"), "identifiers of 2 patients"),
        (("", "ANON"), ("Doe^Jane", "Doe^John"), "names of 2 patients"),
        (("4711", "4711"), ("Doe^Jane", "Roe^Jane"), "one patient's identifier, but 2 names"),
        (("4711", ""), ("Doe^Jane", "Anonymous"), ""),
        (("4711", "4711"), ("Doe^Jane", "DOE^JANE^^^"), ""),
    ],
)
def test_images_of_several_patients_in_one_series(
    tmp_path: Path, identifiers: tuple[str, str], names: tuple[str, str], told: str
) -> None:
    def halves(data: Dataset, n: int) -> None:
        half = int(n >= SHAPE[0] // 2)
        data.PatientID, data.PatientName = identifiers[half], names[half]

    def own(data: Dataset, n: int) -> None:
        halves(data, n)
        data.SeriesInstanceUID = generate_uid()

    folders = [_series(tmp_path / edit.__name__, edit=edit) for edit in (halves, own)]
    if "patients" in told:
        line = _refused(folders[0])
        assert told in line
        assert "4711" not in line
        assert "Doe" not in line
        _refused(folders[1])
        return
    for folder in folders:
        assert " ".join(read_scan(folder).warnings).count("names") == bool(told)
        assert told in " ".join(read_scan(folder).warnings)


@pytest.mark.parametrize(("letter", "words"), [("P", "phase image"), ("I", "imaginary part")])
def test_phase_images_in_a_series(tmp_path: Path, letter: str, words: str) -> None:
    def some(data: Dataset, n: int) -> None:
        data.ImageType = ["ORIGINAL", "PRIMARY", letter if n in (4, 7) else "M", "ND"]

    line = _refused(_series(tmp_path / "a", edit=some))
    assert "2 slices are missing" in line
    assert f"2 {words}s of the same series are left out" in line

    # A whole set of them beside the magnitude images: those are taken, and the rest is told.
    def beside(data: Dataset, n: int) -> None:
        data.ImageType = ["ORIGINAL", "PRIMARY", letter]

    _series(tmp_path / "b")
    _series(tmp_path / "b" / "more", edit=beside)
    scan = read_scan(tmp_path / "b")
    np.testing.assert_array_equal(scan.volume.array, PIXELS)
    assert scan.warnings == (f"{SHAPE[0]} {words}s of the same series are left out",)


def test_every_other_slice(tmp_path: Path) -> None:
    places = tuple(range(0, 2 * SHAPE[0], 2))

    def numbered(data: Dataset, n: int) -> None:
        data.InstanceNumber = 1 + 2 * n

    (note,) = read_scan(_series(tmp_path / "a", ks=places, edit=numbered)).warnings
    assert "slices seem to be missing" in note
    assert "2.4 mm apart" in note
    assert "1.2 mm thick" in note
    assert "numbered 1, 3, 5" in note

    def fewer(data: Dataset, n: int) -> None:
        data.ImagesInAcquisition = 2 * SHAPE[0]

    (note,) = read_scan(_series(tmp_path / "b", edit=fewer)).warnings
    assert note == f"the header speaks of {2 * SHAPE[0]} images, {SHAPE[0]} are here"


def test_gaps_between_slices_are_no_missing_slices() -> None:
    numbers = list(range(1, 21))
    assert missing_slices(numbers, [5.0] * 20, 6.0) == []
    assert missing_slices(numbers, [None] * 20, 6.0) == []
    # Interleaved, and numbered by time.
    assert missing_slices([*range(1, 21, 2), *range(2, 21, 2)], [5.0] * 20, 5.5) == []
    # SpacingBetweenSlices goes before the thickness, so that gaps as wide as slices are no loss.
    assert missing_slices(numbers, [10.0] * 20, 10.0) == []


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    _series(tmp_path / "a")
    os.symlink(tmp_path / "annex" / "x", tmp_path / "a" / "100.dcm")
    line = _refused(tmp_path / "a")
    assert "100.dcm: is a link that leads nowhere" in line
    assert "datalad get" in line


def test_the_storage_class_is_named(tmp_path: Path) -> None:
    captured = "1.2.840.10008.5.1.4.1.1.7"
    assert "12 x MR, Secondary Capture Image Storage" in _refused(
        _series(tmp_path / "a", storage=captured)
    )
    assert "12 x CT, CT Image Storage" in _refused(_series(tmp_path / "b", storage=CT))


def test_the_sequence_is_known(tmp_path: Path) -> None:
    def flair(data: Dataset, n: int) -> None:
        data.SeriesDescription, data.ScanningSequence = "AX T2 FLAIR", ["SE", "IR"]
        data.EchoTime, data.RepetitionTime, data.InversionTime = "120", "9000", "2500"
        data.ImageType = ["ORIGINAL", "PRIMARY", "M"]

    given = read_scan(_series(tmp_path, edit=flair)).header["series"]["sequence"]
    facts = facts_from(given, seconds=False)
    assert facts.scanning_sequence == ("SE", "IR")
    assert (facts.echo_ms, facts.repetition_ms, facts.inversion_ms) == (120, 9000, 2500)
    assert facts.image_type == ("ORIGINAL", "PRIMARY", "M")
    other = other_kind(facts)
    assert other is not None
    assert (other.kind, other.certain) == ("FLAIR", True)


def test_components() -> None:
    assert other_component(["DERIVED", "SECONDARY", "REAL"]) == "real part"
    assert other_component(["ORIGINAL", "P"]) == ""
    assert other_component(["ORIGINAL", "PRIMARY", "M", "R"]) == ""
    assert other_component([]) == ""


def test_frames_that_pydicom_cannot_decode_are_those_of_gdcm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alike(data: Dataset) -> None:
        for frame in data.PerFrameFunctionalGroupsSequence:
            values = frame.PixelValueTransformationSequence[0]
            values.RescaleSlope, values.RescaleIntercept = 2.5, -3

    path = _enhanced(tmp_path, alike)
    before = read_scan(path).volume.array
    read = pydicom.dcmread

    def no_decoder(*args: object, **kwargs: object) -> Dataset:
        found = read(*args, **kwargs)
        if "specific_tags" not in kwargs:
            found.PixelData = found.PixelData[:100]
        return found

    monkeypatch.setattr(pydicom, "dcmread", no_decoder)
    np.testing.assert_allclose(read_scan(path).volume.array, before, atol=1e-4)
    monkeypatch.setattr(dicom_pixels, "_frames_by_gdcm", lambda *_: None)
    assert "cannot be decoded" in _refused(path)


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagePositionPatient"])
def test_decimal_commas_are_numbers(tmp_path: Path, keyword: str) -> None:
    _series(tmp_path)
    plain = read_scan(tmp_path)
    changed = 0
    for file in tmp_path.glob("*.dcm"):
        stored = str(pydicom.dcmread(file)[keyword].value).strip("[]").replace(", ", "\\").encode()
        data = file.read_bytes()
        if stored in data:
            changed += b"." in stored
            file.write_bytes(data.replace(stored, stored.replace(b".", b",")))
    scan = read_scan(tmp_path)
    np.testing.assert_allclose(scan.volume.affine, plain.volume.affine)
    np.testing.assert_array_equal(scan.volume.array, PIXELS)
    assert changed
    assert any("decimal commas" in note for note in scan.warnings)


def test_a_rescale_slope_with_a_comma_is_refused(tmp_path: Path) -> None:
    _series(tmp_path, edit=lambda data, n: setattr(data, "RescaleSlope", "1.5"))
    for file in tmp_path.glob("*.dcm"):
        data = file.read_bytes()
        assert b"1.5 " in data
        file.write_bytes(data.replace(b"1.5 ", b"1,5 "))
    assert "decimal comma" in _refused(tmp_path)


def test_phase_images_do_not_pass_for_their_magnitude_images(tmp_path: Path) -> None:
    """Exports that give both one UID, and one place: the magnitude images are the scan."""
    _series(tmp_path)
    for file in sorted(tmp_path.glob("*.dcm")):
        data = pydicom.dcmread(file)
        data.ImageType = ["ORIGINAL", "PRIMARY", "P", "ND"]
        data.save_as(tmp_path / f"a-{file.name}")
    np.testing.assert_array_equal(read_scan(tmp_path).volume.array, PIXELS)


def test_echoes_of_one_series_are_named(tmp_path: Path) -> None:
    def two(data: Dataset, n: int) -> None:
        data.EchoTime = "1.64" if n % 2 else "3.5"

    line = _refused(_series(tmp_path, ks=tuple(k // 2 for k in range(12)), edit=two))
    assert "12 images share 6 positions (with echo times of 1.64, 3.5 ms)" in line
    assert "Export one of them" in line


def test_a_scan_with_its_reformats_in_one_series(tmp_path: Path) -> None:
    def planes(data: Dataset, n: int) -> None:
        if n >= 8:
            data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]

    line = _refused(_series(tmp_path, edit=planes))
    assert f"differ in orientation (8, {SHAPE[0] - 8} images in 2 orientations)" in line


def test_mosaics_are_called_so(tmp_path: Path) -> None:
    def mosaic(data: Dataset, n: int) -> None:
        data.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]

    assert "mosaics, many slices in one" in _refused(_series(tmp_path, edit=mosaic))


def _ge(value: int) -> Callable[[Dataset, int], None]:
    """As GE says of an image that it is phase: by a private element alone."""

    def edit(data: Dataset, n: int) -> None:
        data.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        block = data.private_block(0x0043, "GEMS_PARM_01", create=True)
        block.add_new(0x2F, "SS", value)

    return edit


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    ("value", "words"), [(1, "phase image"), (2, "real part"), (3, "imaginary part")]
)
def test_components_of_ge(tmp_path: Path, value: int, words: str, syntax: str) -> None:
    _series(tmp_path, edit=_ge(0), syntax=syntax)
    _series(tmp_path / "more", edit=_ge(value), syntax=syntax)
    scan = read_scan(tmp_path)
    np.testing.assert_array_equal(scan.volume.array, PIXELS)
    assert scan.warnings == (f"{SHAPE[0]} {words}s of the same series are left out",)
    alone = read_scan(tmp_path / "more")
    (finding,) = [f for f in check_metadata(alone) if f.code == "contrast"]
    assert (finding.level, words in finding.text) == ("refuse", True)


def test_private_elements_of_others_say_nothing(tmp_path: Path) -> None:
    def other(data: Dataset, n: int) -> None:
        block = data.private_block(0x0043, "SOMEBODY ELSE", create=True)
        block.add_new(0x2F, "SS", 1)

    np.testing.assert_array_equal(read_scan(_series(tmp_path, edit=other)).volume.array, PIXELS)


def _components(*names: str, frame_type: str = "T1") -> Callable[[Dataset], None]:
    """Each frame of an enhanced file once for each of the components."""

    def edit(data: Dataset) -> None:
        frames = list(data.PerFrameFunctionalGroupsSequence)
        pixels = np.frombuffer(data.PixelData, np.uint16).reshape(len(frames), -1)
        new = []
        for name in names:
            for frame in frames:
                kind, copied = Dataset(), copy.deepcopy(frame)
                kind.FrameType = ["ORIGINAL", "PRIMARY", frame_type, "NONE"]
                kind.ComplexImageComponent = name
                copied.MRImageFrameTypeSequence = [kind]
                new.append(copied)
        data.PerFrameFunctionalGroupsSequence = new
        data.NumberOfFrames = len(new)
        whole = [pixels if name == "MAGNITUDE" else pixels // 3 for name in names]
        data.PixelData = np.concatenate(whole).astype(np.uint16).tobytes()

    return edit


def test_phase_frames_of_an_enhanced_file_are_left_out(tmp_path: Path) -> None:
    alone = read_scan(_enhanced(tmp_path / "a"))
    both = read_scan(_enhanced(tmp_path / "b", _components("PHASE", "MAGNITUDE")))
    np.testing.assert_array_equal(both.volume.array, alone.volume.array)
    assert both.warnings == (f"{SHAPE[0]} phase images of the same series are left out",)
    assert min(both.header["series"]["frames"]) == SHAPE[0] + 1


def test_an_enhanced_file_of_phase_is_refused(tmp_path: Path) -> None:
    scan = read_scan(_enhanced(tmp_path, _components("PHASE")))
    (finding,) = [f for f in check_metadata(scan) if f.code == "contrast"]
    assert (finding.level, "phase image" in finding.text) == ("refuse", True)


def test_times_of_an_enhanced_file_are_read(tmp_path: Path) -> None:
    """They stand in the frames' groups; nothing else of this file says T2."""

    def late(data: Dataset) -> None:
        echo, timing = Dataset(), Dataset()
        echo.EffectiveEchoTime, timing.RepetitionTime = 95.0, 4000.0
        shared = data.SharedFunctionalGroupsSequence[0]
        shared.MREchoSequence, shared.MRTimingAndRelatedParametersSequence = [echo], [timing]
        data.SeriesDescription = "ax"

    scan = read_scan(_enhanced(tmp_path, late))
    assert scan.header["series"]["sequence"]["RepetitionTime"] == "4000.0"
    (finding,) = check_metadata(scan)
    assert (finding.level, "echo time 95 ms" in finding.text) == ("refuse", True)


def test_the_table_of_contents_of_a_disc_is_no_image(tmp_path: Path) -> None:
    _series(tmp_path / "IMAGES")
    contents = Dataset()
    contents.file_meta = FileMetaDataset()
    contents.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    contents.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    contents.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    contents.FileSetID, contents.DirectoryRecordSequence = "DISC", []
    contents.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    line = _refused(tmp_path / "DICOMDIR")
    assert "table of contents" in line
    assert "Give its folder" in line
    # Given the folder, it is passed over.
    np.testing.assert_array_equal(read_scan(tmp_path).volume.array, PIXELS)


@pytest.mark.parametrize("left", [0, 100])
def test_files_that_were_cut_short_at_the_end_of_a_stack_are_told(
    tmp_path: Path, left: int
) -> None:
    """No gap tells of them."""
    folder = _series(tmp_path)
    places = {pydicom.dcmread(f).ImagePositionPatient[0]: f for f in folder.glob("*.dcm")}
    last = places[max(places)]
    last.write_bytes(last.read_bytes()[:left])
    (folder / "notes.txt").write_text("")
    scan = read_scan(folder)
    assert scan.volume.array.shape[0] == SHAPE[0] - 1
    (note,) = scan.warnings
    assert note == "1 file beside its images is empty or cut short; slices may be missing"
    assert "the file is empty or cut short" in _refused(last)
    for file in folder.iterdir():
        file.write_bytes(b"")
    assert f"all its {SHAPE[0] + 1} files are empty" in _refused(folder)


def test_a_folder_of_other_images_names_one(tmp_path: Path) -> None:
    """As when a folder is called like the file in it."""
    folder = tmp_path / "t1.nii.gz"
    folder.mkdir()
    for name in ("t1.nii.gz", "t2.nii.gz"):
        (folder / name).write_bytes(b"x" * 400)
    line = _refused(folder)
    assert "contains no DICOM images, but the image t1.nii.gz and 1 more" in line
    assert "batch" in line


def test_numbers_with_gaps_are_told_where_nothing_says_how_thick_slices_are(
    tmp_path: Path,
) -> None:
    def numbered(data: Dataset, n: int) -> None:
        data.InstanceNumber = 1 + 2 * n
        del data.SliceThickness

    (note,) = read_scan(_series(tmp_path, edit=numbered)).warnings
    assert "slices may be missing: the images are numbered 1, 3, 5" in note
    assert missing_slices([1, 2, 3], [None] * 3, 2.4) == []
    # Numbered so because phase images lie between, with slices as thick as they are apart.
    assert missing_slices([1, 3, 5], [2.4] * 3, 2.4) == []
