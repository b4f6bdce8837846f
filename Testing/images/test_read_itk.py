"""NRRD and MetaImage: SimpleITK's own view of the file is the witness, and nibabel's of a copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import Volume, read_scan, to_canonical, write_volume

SHAPE = (5, 7, 11)  # k, j, i


def _image(dtype: str = "int16") -> sitk.Image:
    image = sitk.GetImageFromArray(np.random.default_rng(2).integers(1, 99, SHAPE).astype(dtype))
    image.SetSpacing((0.9, 1.1, 2.5))
    image.SetOrigin((-30.5, 12.25, -7))
    turn = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.3)
    image.SetDirection(
        (np.array(turn.GetMatrix()).reshape(3, 3)[:, [1, 0, 2]] * (1, -1, 1)).ravel()
    )
    return image


def _write(path: Path, image: sitk.Image, compress: bool = False) -> Path:
    sitk.WriteImage(image, str(path), useCompression=compress)
    return path


@pytest.mark.parametrize("suffix", ["nrrd", "nhdr", "mha", "mhd"])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_voxels_and_places(tmp_path: Path, suffix: str, compress: bool, dtype: str) -> None:
    image = _image(dtype)
    path = _write(tmp_path / f"cerveau été.{suffix}", image, compress)
    scan = read_scan(path)
    assert scan.format == ("nrrd" if suffix[0] == "n" else "metaimage")
    assert scan.warnings == ()
    assert scan.header["dtype"] == dtype
    assert scan.volume.array.dtype == np.float32
    assert scan.volume.array.flags.c_contiguous
    np.testing.assert_array_equal(scan.volume.array, sitk.GetArrayFromImage(image))
    for ijk in [(0, 0, 0), (10, 0, 0), (0, 6, 0), (0, 0, 4), (10, 6, 4), (3, 2, 1)]:
        lps = np.array(image.TransformIndexToPhysicalPoint(ijk))
        ras = (scan.volume.affine @ (*ijk, 1))[:3]
        np.testing.assert_allclose(ras, lps * (-1, -1, 1), atol=1e-9)


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_same_canonical_voxels_as_the_nifti_copy(tmp_path: Path, suffix: str) -> None:
    image = _image()
    other = read_scan(_write(tmp_path / f"a.{suffix}", image)).volume
    nifti = read_scan(_write(tmp_path / "a.nii.gz", image)).volume
    np.testing.assert_allclose(nifti.affine, other.affine, atol=1e-5)
    np.testing.assert_allclose(
        to_canonical(other).volume.array, to_canonical(nifti).volume.array, atol=1e-3
    )


NRRD = """NRRD0004
type: short
dimension: 3
sizes: 4 3 2
encoding: raw
endian: little
{extra}
"""
META = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
DimSize = 4 3 2
ElementType = MET_SHORT
{extra}ElementDataFile = LOCAL
"""


def _raw(folder: Path, text: str, extra: str, voxels: int = 24) -> Path:
    path = folder / ("raw.nrrd" if text is NRRD else "raw.mha")
    body = (np.arange(voxels, dtype="<i2") + 1).tobytes()
    path.write_bytes(text.format(extra=extra).encode() + (b"\n" if text is NRRD else b"") + body)
    return path


RAS = "space: right-anterior-superior\nspace directions: (2,0,0) (0,2,0) (0,0,3)"


def test_space_names_and_missing_orientation(tmp_path: Path) -> None:
    scan = read_scan(_raw(tmp_path, NRRD, RAS))
    np.testing.assert_allclose(scan.volume.affine, np.diag([2, 2, 3, 1]), atol=1e-12)
    assert scan.warnings == ()
    np.testing.assert_array_equal(scan.volume.array.ravel(), np.arange(24) + 1)
    scan = read_scan(_raw(tmp_path, NRRD, RAS.replace("right-anterior", "left-posterior")))
    np.testing.assert_allclose(scan.volume.affine, np.diag([-2, -2, 3, 1]), atol=1e-12)
    scan = read_scan(_raw(tmp_path, NRRD, "spacings: 2 2 3"))
    np.testing.assert_allclose(scan.volume.spacing, (2, 2, 3))
    assert "left and right" in scan.warnings[0]
    scan = read_scan(_raw(tmp_path, META, "ElementSpacing = 2 2 3\n"))
    np.testing.assert_allclose(scan.volume.spacing, (2, 2, 3))
    assert "left and right" in scan.warnings[0]


def test_sheared_nrrd_is_read_as_it_is_written(tmp_path: Path) -> None:
    extra = RAS.replace("(0,2,0)", "(0.5,2,0)")
    scan = read_scan(_raw(tmp_path, NRRD, extra))
    expected = np.diag([2, 2, 3, 1.0])
    expected[0, 1] = 0.5
    np.testing.assert_allclose(scan.volume.affine, expected, atol=1e-9)
    assert "sheared" in scan.warnings[0]


def _vector(folder: Path) -> Path:
    array = np.zeros((4, 5, 6, 3), np.uint8)
    return _write(folder / "v.nrrd", sitk.GetImageFromArray(array, isVector=True))


def _cut(path: Path, drop: int) -> Path:
    path.write_bytes(path.read_bytes()[:-drop])
    return path


def _text(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def _without_data(folder: Path, suffix: str) -> Path:
    path = _write(folder / f"d.{suffix}", _image())
    (folder / "d.raw").unlink()
    return path


def _huge(folder: Path, text: str, extra: str) -> Path:
    path = _raw(folder, text, extra)
    path.write_bytes(path.read_bytes().replace(b"4 3 2", b"40000 30000 20000"))
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda f: f / "none.nrrd", "no such file"),
    "nrrd empty": (lambda f: _text(f, "a.nrrd", ""), "empty"),
    "nrrd text": (lambda f: _text(f, "a.nrrd", "hello\n" * 99), "not a NRRD"),
    "mha text": (lambda f: _text(f, "a.mha", "hello\n" * 99), "not a MetaImage"),
    "nrrd truncated": (lambda f: _cut(_write(f / "a.nrrd", _image(), True), 200), "truncated"),
    "nrrd cut": (lambda f: _cut(_write(f / "a.nrrd", _image()), 200), "truncated"),
    "mha truncated": (lambda f: _cut(_write(f / "a.mha", _image(), True), 200), "truncated"),
    "mha cut": (lambda f: _cut(_write(f / "a.mha", _image()), 200), "truncated"),
    "nhdr alone": (lambda f: _without_data(f, "nhdr"), "incomplete"),
    "mhd alone": (lambda f: _without_data(f, "mhd"), "incomplete"),
    "nrrd no spacing": (lambda f: _raw(f, NRRD, "content: x"), "voxel spacing"),
    "nrrd nan spacing": (lambda f: _raw(f, NRRD, "spacings: nan nan nan"), "voxel spacing"),
    "nrrd directions of none": (
        lambda f: _raw(f, NRRD, "space: RAS\nspace directions: none none none"),
        "voxel spacing",
    ),
    "mha channels": (
        lambda f: _raw(f, META, "ElementSpacing = 1 1 1\nElementNumberOfChannels = x\n"),
        "the header is damaged",
    ),
    "mha no spacing": (lambda f: _raw(f, META, ""), "voxel spacing"),
    "nrrd absurd": (lambda f: _huge(f, NRRD, RAS), "40000 x 30000 x 20000"),
    "mha absurd": (lambda f: _huge(f, META, "ElementSpacing = 1 1 1\n"), "40000 x"),
    "colour": (_vector, "3 components"),
    "complex": (
        lambda f: _write(
            f / "c.mha", sitk.GetImageFromArray(np.full((4, 5, 6), 1 + 2j, np.complex64))
        ),
        "2 components",
    ),
    "frames": (
        lambda f: _write(
            f / "f.nrrd",
            sitk.GetImageFromArray(np.zeros((8, 4, 5, 6), np.uint8), isVector=False),
        ),
        "8 frames",
    ),
    "2D": (
        lambda f: _write(f / "2.mha", sitk.GetImageFromArray(np.eye(9, dtype=np.uint8))),
        "2D",
    ),
    "constant": (lambda f: _write(f / "k.nrrd", _image() * 0 + 4), "constant"),
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
    assert line.startswith(str(path))
    assert "\n" not in line
    assert capfd.readouterr().err == ""  # ITK's own complaints stay out of stderr


def test_one_frame_of_4d_is_accepted(tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(1, 90, (1, 4, 5, 6)).astype(np.int16)
    path = _write(tmp_path / "one.mha", sitk.GetImageFromArray(array, isVector=False))
    np.testing.assert_array_equal(read_scan(path).volume.array, array[0])


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_written_files_are_what_simpleitk_reads(tmp_path: Path, suffix: str) -> None:
    scan = read_scan(_write(tmp_path / f"in.{suffix}", _image("float64")))
    mask = Volume((scan.volume.array > 50).astype(np.uint8), scan.volume.affine)
    path = tmp_path / f"mask.{suffix}"
    write_volume(path, mask, like=scan)
    image = sitk.ReadImage(str(path))
    assert image.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), mask.array)
    np.testing.assert_allclose(image.GetSpacing(), (0.9, 1.1, 2.5), atol=1e-12)
    np.testing.assert_allclose(image.GetOrigin(), (-30.5, 12.25, -7), atol=1e-12)
    np.testing.assert_allclose(image.GetDirection(), _image().GetDirection(), atol=1e-12)
    assert read_scan(path).volume.grid.same_as(scan.volume.grid, 1e-9)
    nifti = tmp_path / "mask.nii.gz"
    write_volume(nifti, mask, like=scan)
    np.testing.assert_allclose(nib.load(nifti).affine, scan.volume.affine, atol=1e-5)


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_a_sheared_grid_is_refused_with_a_remedy(tmp_path: Path, suffix: str) -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.3
    volume = Volume(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), affine)
    with pytest.raises(InputError, match=r"sheared.*nii\.gz"):
        write_volume(tmp_path / f"s.{suffix}", volume)
    assert list(tmp_path.iterdir()) == []
