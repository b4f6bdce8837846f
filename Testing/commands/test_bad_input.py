"""Everything a user may hand over by mistake ends in exit code 2, one line, and no files."""

from __future__ import annotations

import builtins
import gzip
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import cli_support
import nibabel
import numpy as np
import pydicom
import pytest
from StrokeLesionSegLib.cli import main

UID = "1.2.826.0.1.3680043.10.511."


pytestmark = pytest.mark.usefixtures("with_tiny_model")


def run(*arguments: object) -> int:
    return main(["segment", *map(str, arguments), "--model", "tiny", "--align", "none"])


def check_message(error: str, names: Path | str) -> None:
    """One line that names the file and has a cause and a remedy, each a sentence."""
    assert error.count("\n") == 1, error
    assert error.startswith("stroke-lesion-seg: ")
    assert "Traceback" not in error
    assert str(names) in error
    said = error.split(str(names), 1)[1].lstrip(": ").rstrip("\n")
    cause, _, remedy = said.partition(". ")
    assert len(cause) > 8, error
    assert len(remedy) > 8, error
    assert remedy.endswith("."), error


def truncated_gzip(folder: Path) -> Path:
    path = cli_support.write_head(folder / "x.nii.gz")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def corrupt_gzip(folder: Path) -> Path:
    path = cli_support.write_head(folder / "x.nii.gz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    return path


def truncated_nifti(folder: Path) -> Path:
    path = cli_support.write_head(folder / "x.nii")
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def text_file(folder: Path) -> Path:
    path = folder / "x.nii.gz"
    path.write_text("<html>404 not found</html>\n" * 40)
    return path


def gzipped_text(folder: Path) -> Path:
    path = folder / "x.nii.gz"
    path.write_bytes(gzip.compress(b"subject\tage\n" * 100))
    return path


def wrong_magic(folder: Path) -> Path:
    path = cli_support.write_head(folder / "x.nii")
    data = bytearray(path.read_bytes())
    data[344:348] = b"nope"
    path.write_bytes(data)
    return path


def zero_size(folder: Path) -> Path:
    path = folder / "x.nii.gz"
    path.touch()
    return path


def missing_file(folder: Path) -> Path:
    return folder / "not there.nii.gz"


def name_with_line_end(folder: Path) -> Path:
    """A name that would break the message into two lines."""
    return folder / "not\nthere.nii.gz"


def unknown_format(folder: Path) -> Path:
    path = folder / "x.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(200))
    return path


def empty_folder(folder: Path) -> Path:
    path = folder / "series"
    path.mkdir()
    return path


def folder_without_images(folder: Path) -> Path:
    path = empty_folder(folder)
    (path / "notes.txt").write_text("nothing to see")
    cli_support.write_head(path / "x.nii.gz")
    return path


def mixed_dicom(folder: Path) -> Path:
    path = folder / "series"
    for last in ("1", "2"):
        cli_support.write_dicom_series(path, uid=UID + last)
    return path


def dicom_with_a_missing_slice(folder: Path) -> Path:
    path = cli_support.write_dicom_series(folder / "series", uid=UID + "3")
    sorted(path.iterdir())[5].unlink()
    return path


def truncated_dicom(folder: Path) -> Path:
    path = cli_support.write_dicom_series(folder / "series", uid=UID + "4")
    for file in path.iterdir():
        file.write_bytes(file.read_bytes()[:600])
    return path


def four_d(folder: Path) -> Path:
    array = np.stack([cli_support.head_array()] * 3, axis=-1)
    return cli_support.write_head(folder / "x.nii.gz", array)


def rgb(folder: Path) -> Path:
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    return cli_support.write_head(folder / "x.nii.gz", np.ones(cli_support.SHAPE, dtype=kind))


def complex_values(folder: Path) -> Path:
    return cli_support.write_head(
        folder / "x.nii.gz", cli_support.head_array().astype(np.complex64)
    )


def mostly_nan(folder: Path) -> Path:
    array = cli_support.head_array().astype(np.float32)
    array.ravel()[array.size // 50 :] = np.nan
    return cli_support.write_head(folder / "x.nii.gz", array)


def all_zero(folder: Path) -> Path:
    return cli_support.write_head(folder / "x.nii.gz", np.zeros(cli_support.SHAPE, np.int16))


def constant(folder: Path) -> Path:
    return cli_support.write_head(folder / "x.nii.gz", np.full(cli_support.SHAPE, 7, np.int16))


def no_voxels(folder: Path) -> Path:
    path = cli_support.write_head(folder / "x.nii")
    data = bytearray(path.read_bytes())
    struct.pack_into("<h", data, 42, 0)  # dim[1]
    path.write_bytes(data)
    return path


def two_d(folder: Path) -> Path:
    return cli_support.write_head(folder / "x.nii.gz", cli_support.head_array()[:, :, 16])


def single_slice(folder: Path) -> Path:
    return cli_support.write_head(folder / "x.nii.gz", cli_support.head_array()[:, :, 16:17])


def missing_spacing(folder: Path) -> Path:
    path = cli_support.write_head(folder / "x.nii")
    data = bytearray(path.read_bytes())
    struct.pack_into("<3f", data, 80, 0, 0, 0)  # pixdim[1..3]
    struct.pack_into("<2h", data, 252, 0, 0)  # qform_code, sform_code
    path.write_bytes(data)
    return path


def _with_sform(folder: Path, rows: list[list[float]]) -> Path:
    path = cli_support.write_head(folder / "x.nii")
    data = bytearray(path.read_bytes())
    struct.pack_into("<2h", data, 252, 0, 1)
    struct.pack_into("<12f", data, 280, *(value for row in rows for value in row))
    path.write_bytes(data)
    return path


def sform_not_a_number(folder: Path) -> Path:
    return _with_sform(folder, [[float("nan"), 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])


def sform_singular(folder: Path) -> Path:
    return _with_sform(folder, [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]])


def spacing_in_metres(folder: Path) -> Path:
    return _with_sform(folder, [[0.001, 0, 0, 0], [0, 0.001, 0, 0], [0, 0, 0.001, 0]])


def absurd_dimensions(folder: Path) -> Path:
    """A header that promises 2 TB must not be believed before there is data."""
    path = cli_support.write_head(folder / "x.nii")
    data = bytearray(path.read_bytes())
    struct.pack_into("<3h", data, 42, 12000, 12000, 12000)
    path.write_bytes(data)
    return path


def truncated_nrrd(folder: Path) -> Path:
    path = folder / "x.nrrd"
    path.write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\n"
        b"sizes: 40 46 32\nspace directions: (2,0,0) (0,2,0) (0,0,2)\nkinds: domain domain domain\n"
        b"endian: little\nencoding: raw\nspace origin: (0,0,0)\n\n" + bytes(1000)
    )
    return path


def mhd_without_its_voxels(folder: Path) -> Path:
    path = folder / "x.mhd"
    path.write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 40 46 32\nElementSpacing = 2 2 2\n"
        "ElementType = MET_SHORT\nElementDataFile = gone.raw\n"
    )
    return path


def nrrd_in_centimetres(folder: Path) -> Path:
    path = folder / "x.nrrd"
    path.write_text(
        "NRRD0005\ntype: uchar\ndimension: 3\nspace: RAS\nsizes: 9 9 9\nencoding: raw\n"
        'space directions: (1,0,0) (0,1,0) (0,0,1)\nspace units: "cm" "cm" "cm"\n\n' + "x" * 729
    )
    return path


def nrrd_of_one_slice(folder: Path) -> Path:
    path = folder / "x.nrrd"
    path.write_text(
        "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 9 9\nspacings: 1 1\nencoding: raw\n\n"
        + "x" * 81
    )
    return path


def surface(folder: Path) -> Path:
    path = folder / "lh.pial.surf.gii"
    path.write_text('<?xml version="1.0"?>\n<!DOCTYPE GIFTI>' + " " * 600)
    return path


def values_on_surfaces(folder: Path) -> Path:
    image = nibabel.Nifti2Image(np.zeros((1, 1, 1, 1, 9, 90), np.float32), np.eye(4))
    image.header["intent_code"] = 3002
    nibabel.save(image, folder / "x.dtseries.nii")
    return folder / "x.dtseries.nii"


def sidecar_called_scan(folder: Path) -> Path:
    path = folder / "x.nii"
    path.write_text(json.dumps({"EchoTime": 0.003, "more": "x" * 600}))
    return path


def folder_of_other_images(folder: Path) -> Path:
    """As some programs for archives make one of a file."""
    path = folder / "x.nii.gz"
    path.mkdir()
    cli_support.write_head(path / "x.nii.gz")
    return path


def contents_of_a_disc(folder: Path) -> Path:
    path = folder / "DICOMDIR"
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    data.file_meta.MediaStorageSOPInstanceUID = UID + "1"
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.FileSetID = "DISC"
    data.save_as(path, enforce_file_format=True)
    return path


def empty_dicom(folder: Path) -> Path:
    (folder / "x.dcm").touch()
    return folder / "x.dcm"


BAD: list[Callable[[Path], Path]] = [
    truncated_gzip,
    corrupt_gzip,
    truncated_nifti,
    text_file,
    gzipped_text,
    wrong_magic,
    zero_size,
    missing_file,
    unknown_format,
    empty_folder,
    folder_without_images,
    mixed_dicom,
    dicom_with_a_missing_slice,
    truncated_dicom,
    four_d,
    rgb,
    complex_values,
    mostly_nan,
    all_zero,
    constant,
    no_voxels,
    two_d,
    single_slice,
    missing_spacing,
    sform_not_a_number,
    sform_singular,
    spacing_in_metres,
    absurd_dimensions,
    truncated_nrrd,
    mhd_without_its_voxels,
    nrrd_in_centimetres,
    nrrd_of_one_slice,
    surface,
    values_on_surfaces,
    sidecar_called_scan,
    folder_of_other_images,
    contents_of_a_disc,
    empty_dicom,
]


def everything_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_unusable_scan(
    make: Callable[[Path], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # capfd, not capsys: the libraries behind us write to the file descriptor themselves.
    path = make(tmp_path)
    before = everything_under(tmp_path)
    assert run(path) == 2
    captured = capfd.readouterr()
    check_message(captured.err, path)
    assert captured.out == ""
    assert everything_under(tmp_path) == before


@pytest.mark.parametrize("option", ["-o", "--probability"])
def test_a_format_that_cannot_hold_the_grid_is_refused_before_the_network(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unexpected(*arguments: object, **named: object) -> None:
        raise AssertionError("the network ran")

    monkeypatch.setattr("StrokeLesionSegLib.pipeline.runner.ScanRunner.network", unexpected)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[1, 2] = 0.8  # a tilted gantry
    path, out = tmp_path / "tilted.nii.gz", tmp_path / "out.nrrd"
    nibabel.save(nibabel.Nifti1Image(cli_support.head_array(), affine), path)
    assert run(path, option, out, "--force") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
    assert f"{out}: a sheared grid cannot be stored" in line
    assert everything_under(tmp_path) == {path.name}


def test_a_name_with_a_line_end_stays_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name_with_line_end(tmp_path)) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_permission_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = cli_support.write_head(tmp_path / "x.nii.gz")
    path.chmod(0)
    if os.access(path, os.R_OK):
        # root reads everything, so the refusal has to be played.
        real = builtins.open

        def refuse(file: object, *arguments: object, **named: object) -> object:
            if str(file) == str(path):
                raise PermissionError(13, "Permission denied", str(path))
            return real(file, *arguments, **named)  # type: ignore[call-overload]

        monkeypatch.setattr(builtins, "open", refuse)
    assert run(path) == 2
    check_message(capsys.readouterr().err, path)


def test_unwritable_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import tempfile

    path = cli_support.write_head(tmp_path / "x.nii.gz")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):

        def refuse(**named: object) -> str:
            raise PermissionError(13, "Permission denied", str(named["dir"]))

        monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert run(path, "-o", locked / "m.nii.gz") == 2
    check_message(capsys.readouterr().err, locked / "m.nii.gz")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["-o", "x.nii.gz/m.nii.gz"], "x.nii.gz/m.nii.gz"),
        (["-o", "m.jpg"], "m.jpg"),
        (["-o", ".nii.gz"], ".nii.gz"),
        (["--probability", "p.tsv"], "p.tsv"),
        (["--table", "t.xlsx"], "t.xlsx"),
        (["--sidecar", "s.txt"], "s.txt"),
        (["-o", "m.nii.gz", "--probability", "m.nii.gz"], "m.nii.gz"),
        (["-o", "taken.nii.gz"], "taken.nii.gz"),
        (["-o", "there.nii.gz"], "there.nii.gz"),
        (["-o", "x.nii.gz", "--overwrite"], "x.nii.gz"),
    ],
)
def test_unusable_outputs_are_seen_before_the_work_starts(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from StrokeLesionSegLib import images

    monkeypatch.chdir(tmp_path)
    cli_support.write_head(tmp_path / "x.nii.gz")
    (tmp_path / "taken.nii.gz").mkdir()
    (tmp_path / "there.nii.gz").write_text("mine")
    monkeypatch.setattr(images, "read_scan", lambda *a, **k: pytest.fail("the work had started"))
    before = everything_under(tmp_path)
    assert run("x.nii.gz", *arguments) == 2
    check_message(capsys.readouterr().err, named)
    assert everything_under(tmp_path) == before


def test_unknown_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = cli_support.write_head(tmp_path / "x.nii.gz")
    assert main(["segment", str(path), "--model", "nonesuch"]) == 2
    error = capsys.readouterr().err
    check_message(error, "nonesuch")
    assert "tiny" in error
    assert everything_under(tmp_path) == {"x.nii.gz"}


def tamper_weights(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)


def cut_weights(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])


def lose_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def break_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"schema": 1, "name": ')


def newer_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))


def other_network(folder: Path) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content["network"]["filters"] = [8, 8, 8, 8, 8]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "spoil",
    [tamper_weights, cut_weights, lose_weights, break_manifest, newer_manifest, other_network],
    ids=lambda spoil: spoil.__name__,
)
def test_unsound_model(
    spoil: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = cli_support.write_tiny_model(tmp_path / "home")
    spoil(folder)
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))
    path = cli_support.write_head(tmp_path / "x.nii.gz")
    before = everything_under(tmp_path)
    assert run(path) == 2
    check_message(capsys.readouterr().err, folder)
    assert everything_under(tmp_path) == before


def test_odd_but_usable_is_warned_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A few NaN and forms that disagree are dealt with, and said."""
    array = cli_support.head_array().astype(np.float32)
    array[20, 20, 10:14] = np.nan
    image = nibabel.Nifti1Image(array[..., None], cli_support.AFFINE)
    image.set_qform(cli_support.AFFINE + np.eye(4, k=3) * 9, code=1)
    image.set_sform(cli_support.AFFINE, code=2)
    nibabel.save(image, tmp_path / "x.nii.gz")
    assert run(tmp_path / "x.nii.gz", "--threshold", "0.3") == 0
    said = capsys.readouterr().err
    assert "4 of" in said
    assert "sform and qform disagree" in said
    side = json.loads((tmp_path / "x_lesion.json").read_text())
    assert len(side["warnings"]) >= 2
    mask = nibabel.load(tmp_path / "x_lesion.nii.gz")
    assert mask.shape[:3] == cli_support.SHAPE
    np.testing.assert_allclose(mask.affine, cli_support.AFFINE, atol=1e-4)
