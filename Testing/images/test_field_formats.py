"""Files as people have them: packed twice, with long headers, in bzip2, FreeSurfer's, somebody
else's, or not at all what their names say. After public bug reports of other programs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import read_scan, write_volume

SHAPE = (6, 5, 4)  # i, j, k
AFFINE = np.array([[-1.5, 0, 0, 30], [0, 0, 2.0, -7], [0, 1.25, 0, 3], [0, 0, 0, 1]])


def _array(dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(3).integers(1, 99, SHAPE).astype(dtype)


def _nifti() -> bytes:
    return bytes(nib.Nifti1Image(_array(), AFFINE).to_bytes())


def _check(path: Path) -> tuple[str, ...]:
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.volume.array, _array().T)
    np.testing.assert_allclose(scan.volume.affine, AFFINE, atol=1e-6)
    return scan.warnings


def _refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_scan(path)
    assert "defect" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------ compression
@pytest.mark.parametrize(
    ("name", "pack", "layers"),
    [
        ("a.nii.bz2", bz2.compress, 1),
        ("a.nii.xz", lzma.compress, 1),
        ("a.nii.gz", bz2.compress, 1),
        ("a.nii", lzma.compress, 1),
        ("a.nii.gz", lambda b: gzip.compress(gzip.compress(b)), 2),
        ("a.nii.gz", lambda b: gzip.compress(gzip.compress(gzip.compress(b))), 3),
        ("a.nii.bz2", lambda b: bz2.compress(gzip.compress(b)), 2),
        ("two streams.nii.bz2", lambda b: bz2.compress(b[:500]) + bz2.compress(b[500:]), 1),
    ],
)
def test_compression_is_told_by_the_bytes(tmp_path: Path, name: str, pack, layers: int) -> None:
    path = tmp_path / name
    path.write_bytes(pack(_nifti()))
    warnings = _check(path)
    assert len(warnings) == (layers > 1)
    if layers > 1:
        assert f"compressed {layers} times" in warnings[0]


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_torn_streams_are_truncated(tmp_path: Path, pack) -> None:
    path = tmp_path / "a.nii.gz"
    packed = pack(bytes(nib.Nifti1Image(np.random.default_rng(0).random((30, 30, 30)), AFFINE)
                        .to_bytes()))  # fmt: skip
    path.write_bytes(packed[: len(packed) // 2])
    assert "truncated" in _refused(path)
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 255
    path.write_bytes(damaged)
    assert "truncated or damaged" in _refused(path)


def test_endless_layers_and_bombs_are_refused(tmp_path: Path) -> None:
    data = _nifti()
    for _ in range(5):
        data = gzip.compress(data)
    (tmp_path / "a.nii.gz").write_bytes(data)
    assert "more than 3 times" in _refused(tmp_path / "a.nii.gz")
    (tmp_path / "b.nii.gz").write_bytes(bz2.compress(bytes(50_000_000)))
    assert "not a NIfTI file" in _refused(tmp_path / "b.nii.gz")


def _tar(data: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("p.nii")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _zip(data: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("p.nii", data)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "make", "cause"),
    [
        ("a.nii.gz", _tar, "tar archive"),
        ("a.nii.gz", _zip, "zip archive"),
        ("a.nii", lambda b: b"\x28\xb5\x2f\xfd" + b, "Zstandard"),
        ("a.nii.zst", lambda b: b"\x28\xb5\x2f\xfd" + b, "Zstandard"),
        ("a.nii.gz", lambda b: b"<!DOCTYPE html><html>Log in" + b, "web page"),
        ("a.nii", lambda b: b'{"EchoTime": 3}' + b, "JSON"),
        ("a.nii.gz", lambda b: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.nii.gz", lambda b: b"/annex/objects/MD5E-s12--a.nii.gz\n", "datalad get"),
        ("a.nii", lambda b: b"NRRD0004\ntype: short\n\n" + b, "NRRD"),
        ("a.nii", lambda b: bytes(128) + b"DICM" + b, "DICOM"),
        ("a.nii", lambda b: b"\x89HDF\r\n\x1a\n" + b, "MINC"),
        ("a.mnc", lambda b: b, "MINC"),
        ("a+orig.HEAD", lambda b: b, "AFNI"),
        ("a+orig.BRIK.gz", lambda b: b, "AFNI"),
        ("a.mif", lambda b: b, "MRtrix"),
        ("a.img", lambda b: b, "two-file"),
        ("a.jpg", lambda b: b"\xff\xd8\xff" + b, "picture"),
        ("a.nii.gz", lambda b: b"not an image at all, but long enough" * 20, "not a NIfTI file"),
    ],
)
def test_what_is_not_read_is_called_by_its_name(tmp_path: Path, name: str, make, cause) -> None:
    path = tmp_path / name
    path.write_bytes(make(_nifti()))
    assert cause in _refused(path)


# -------------------------------------------------------------------------- NRRD and MetaImage
def _nrrd(encoding: str, body: bytes, more: str = "", fields: str = "") -> bytes:
    head = (
        f"NRRD0005\n{more}type: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 6 5 4\n"
        f"space directions: (-1.5,0,0) (0,0,1.25) (0,2,0)\nendian: little\n"
        f"space origin: (30,-7,3)\n{fields}encoding: {encoding}\n\n"
    )
    return head.encode() + body


def _raw() -> bytes:
    return np.ascontiguousarray(_array().T).astype("<i2").tobytes()


def test_nrrd_bzip2_attached_detached_and_with_skips(tmp_path: Path) -> None:
    packed = bz2.compress(_raw())
    (tmp_path / "a.nrrd").write_bytes(_nrrd("bzip2", packed))
    (tmp_path / "b.raw.bz2").write_bytes(packed)
    (tmp_path / "b.nhdr").write_bytes(_nrrd("bz2", b"", fields="data file: b.raw.bz2\n"))
    skipped = bz2.compress(b"seven b" + _raw())
    (tmp_path / "c.nrrd").write_bytes(_nrrd("bzip2", skipped, fields="byte skip: 7\n"))
    for name in ("a.nrrd", "b.nhdr", "c.nrrd"):
        assert _check(tmp_path / name) == ()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.nrrd", "b.nhdr", "b.raw.bz2", "c.nrrd"
    ]  # fmt: skip


def test_nrrd_of_other_encodings_and_torn_bzip2(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(_nrrd("bzip2", bz2.compress(_raw())[:-20]))
    assert "truncated" in _refused(path)
    path.write_bytes(_nrrd("bzip2", bz2.compress(_raw()[:-2])))
    assert "99% of the voxels are there" in _refused(path)
    for skip in ("byte skip: x", "byte skip: -1", "line skip: -3"):
        path.write_bytes(_nrrd("bzip2", bz2.compress(_raw()), fields=f"{skip}\n"))
        assert "the header is damaged" in _refused(path)
    # More lines than anybody could read.
    path.write_bytes(_nrrd("bzip2", bz2.compress(_raw()), fields="line skip: 99999999999\n"))
    assert "truncated" in _refused(path)
    path.write_bytes(_nrrd("zstd", _raw()))
    assert "zstd" in _refused(path)


@pytest.mark.parametrize("name", ["scan 100%.raw", "50%d.raw", "a%20b.raw", "%s 1 4 1.raw"])
def test_a_percent_in_the_data_files_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(_raw())
    (tmp_path / "a.nhdr").write_bytes(_nrrd("raw", b"", fields=f"data file: {name}\n"))
    (tmp_path / "a.mhd").write_bytes(_metaimage(name))
    for header in ("a.nhdr", "a.mhd"):
        assert _check(tmp_path / header) == ()


def test_numbered_slices_are_still_read(tmp_path: Path) -> None:
    for k in range(SHAPE[2]):
        plane = np.ascontiguousarray(_array()[:, :, k].T).astype("<i2")
        (tmp_path / f"s{k + 1:02d}.raw").write_bytes(plane.tobytes())
    (tmp_path / "a.mhd").write_bytes(_metaimage("s%02d.raw 1 4 1"))
    assert _check(tmp_path / "a.mhd") == ()


def _metaimage(data: str, more: str = "", body: bytes = b"") -> bytes:
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        "CompressedData = False\nTransformMatrix = 1 0 0 0 0 1 0 -1 0\nOffset = -30 7 3\n"
        f"ElementSpacing = 1.5 1.25 2\n{more}DimSize = 6 5 4\nElementType = MET_SHORT\n"
        f"ElementDataFile = {data}\n"
    )
    return head.encode() + body


@pytest.mark.parametrize(
    "more",
    [
        "0029|1020 = " + "A" * 120_000 + "\n",
        "".join(f"0008|{n:04x} = {'x' * 90}\n" for n in range(3000)),
        "Comment = the word ElementDataFile stands in it " + "B" * 300_000 + "\n",
    ],
)
def test_metaimage_headers_of_any_length(tmp_path: Path, more: str, capfd) -> None:
    (tmp_path / "a.mha").write_bytes(_metaimage("LOCAL", more, _raw()))
    (tmp_path / "b.raw").write_bytes(_raw())
    (tmp_path / "b.mhd").write_bytes(_metaimage("b.raw", more))
    for name in ("a.mha", "b.mhd"):
        assert _check(tmp_path / name) == ()
    assert capfd.readouterr().err == ""


def test_a_long_header_before_compressed_voxels(tmp_path: Path) -> None:
    voxels = zlib.compress(_raw())
    more = f"0029|1020 = {'A' * 120_000}\nCompressedDataSize = {len(voxels)}\n"
    plain = _metaimage("LOCAL", more, voxels)
    (tmp_path / "a.mha").write_bytes(plain.replace(b"Data = False", b"Data = True", 1))
    np.testing.assert_array_equal(read_scan(tmp_path / "a.mha").volume.array, _array().T)


def test_nrrd_headers_of_any_length(tmp_path: Path) -> None:
    more = "".join(f"key{n}:={'x' * 90}\n" for n in range(3000)) + "# " + "c" * 200_000 + "\n"
    (tmp_path / "a.nrrd").write_bytes(_nrrd("raw", _raw(), more))
    (tmp_path / "b.nrrd").write_bytes(_nrrd("bzip2", bz2.compress(_raw()), more))
    for name in ("a.nrrd", "b.nrrd"):
        assert _check(tmp_path / name) == ()


# ------------------------------------------------------------------------------------- FreeSurfer
@pytest.mark.parametrize("suffix", ["mgz", "mgh"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
def test_freesurfer_as_nibabel_reads_it(tmp_path: Path, suffix: str, dtype: str) -> None:
    turn = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ AFFINE[:3, :3]
    affine[:3, 3] = (12, -7, 3.25)
    path = tmp_path / f"T1.{suffix}"
    nib.save(nib.MGHImage(_array(dtype), affine), path)
    stored = path.read_bytes()
    witness = nib.MGHImage.from_bytes(gzip.decompress(stored) if suffix == "mgz" else stored)
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.volume.array, witness.get_fdata().T)
    np.testing.assert_allclose(scan.volume.affine, witness.affine, atol=1e-4)
    np.testing.assert_allclose(scan.volume.affine, affine, atol=1e-4)
    assert (scan.format, scan.warnings, scan.header["dtype"]) == ("mgh", (), dtype)


def test_freesurfer_without_geometry_frames_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "T1.mgh"
    nib.save(nib.MGHImage(_array(), AFFINE), path)
    whole = path.read_bytes()
    plain = bytearray(whole)
    plain[28:30] = b"\0\0"
    path.write_bytes(plain)
    scan = read_scan(path)
    assert "states no geometry" in scan.warnings[0]
    # FreeSurfer's own default (MRIallocHeader): LIA, so nibabel's, which is LSA, is no witness.
    np.testing.assert_array_equal(
        scan.volume.affine, [[-1, 0, 0, 3], [0, 0, 1, -2], [0, -1, 0, 2.5], [0, 0, 0, 1]]
    )
    path.write_bytes(whole[: 284 + 100])
    assert "truncated" in _refused(path)
    path.write_bytes(whole[:100])
    assert "not a FreeSurfer volume" in _refused(path)
    path.write_bytes(gzip.compress(whole[:300]))
    assert "truncated" in _refused(path)
    several = np.zeros((*SHAPE, 3), np.float32)
    nib.save(nib.MGHImage(several, AFFINE), path)
    assert "3 frames" in _refused(path)


# ------------------------------------------------------- headers that contradict themselves
@pytest.mark.parametrize("zooms", [(1, 1, 1), (1.5, 1.25, 3.0), (0.75, 0.625, 1)])
@pytest.mark.parametrize("qform", [0, 1])
def test_pixdim_against_sform_is_told_and_not_repeated(tmp_path: Path, zooms, qform: int) -> None:
    image = nib.Nifti1Image(_array(), AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(AFFINE if qform else None, qform)
    image.header["pixdim"][1:4] = zooms
    path = tmp_path / "a.nii"
    path.write_bytes(image.to_bytes())
    scan = read_scan(path)
    (warning,) = scan.warnings
    assert "different voxel sizes; the sform is used" in warning
    np.testing.assert_allclose(scan.volume.affine, AFFINE, atol=1e-6)
    write_volume(tmp_path / "mask.nii", scan.volume, like=scan)
    back = nib.load(tmp_path / "mask.nii")
    np.testing.assert_allclose(back.header.get_zooms(), (1.5, 1.25, 2.0), atol=1e-5)
    np.testing.assert_allclose(back.get_sform(), AFFINE, atol=1e-5)
    np.testing.assert_allclose(back.get_qform(), AFFINE, atol=1e-5)
    assert read_scan(tmp_path / "mask.nii").warnings == ()


def test_rounded_voxel_sizes_are_no_contradiction(tmp_path: Path) -> None:
    image = nib.Nifti1Image(_array(), AFFINE)
    image.header["pixdim"][1:4] = (1.5, 1.25, 1.99)
    image.set_qform(None, 0)
    image.header["pixdim"][1:4] = (1.5, 1.25, 1.99)
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    assert read_scan(tmp_path / "a.nii").warnings == ()


@pytest.mark.parametrize("intent", [3001, 3002, 3006, 3007, 3012])
def test_values_along_surfaces_are_called_so(tmp_path: Path, intent: int) -> None:
    shape = (1, 1, 1, 1, 40, 90)
    image = nib.Nifti2Image(np.zeros(shape, np.float32), np.eye(4))
    image.header["intent_code"] = intent
    nib.save(image, tmp_path / "x.dtseries.nii")
    assert "CIFTI" in _refused(tmp_path / "x.dtseries.nii")


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("x.surf.gii", b'<?xml version="1.0"?><!DOCTYPE GIFTI>'),
        ("lh.thickness.gii.gz", b"\x1f\x8b"),
        ("lh.white", b"\xff\xff\xfecreated by somebody"),
        ("lh.aparc.annot", b"\0\2"),
    ],
)
def test_surfaces_are_called_so(tmp_path: Path, name: str, start: bytes) -> None:
    (tmp_path / name).write_bytes(start + b"\0" * 600)
    assert "surfaces" in _refused(tmp_path / name)


@pytest.mark.parametrize(("unit", "name"), [("meter", "metre"), ("micron", "micrometre")])
def test_another_unit_is_told(tmp_path: Path, unit: str, name: str) -> None:
    image = nib.Nifti1Image(_array(), np.diag([2, 2, 2, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "x.nii")
    (note,) = read_scan(tmp_path / "x.nii").warnings
    assert name in note


@pytest.mark.parametrize(("unit", "good"), [("mm", True), ("cm", False), ("um", False)])
def test_units_of_nrrd(tmp_path: Path, unit: str, good: bool) -> None:
    fields = f'space units: "{unit}" "{unit}" "{unit}"\n'
    (tmp_path / "x.nrrd").write_bytes(_nrrd("raw", _raw(), fields=fields))
    if good:
        read_scan(tmp_path / "x.nrrd")
    else:
        assert f"gives lengths in {unit}, not mm" in _refused(tmp_path / "x.nrrd")


def test_a_quaternion_that_is_none_is_told(tmp_path: Path) -> None:
    image = nib.Nifti1Image(_array(), AFFINE)
    image.set_sform(None, 0)
    image.set_qform(AFFINE, 1)
    nib.save(image, tmp_path / "a.nii")
    assert read_scan(tmp_path / "a.nii").warnings == ()
    data = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<3f", data, 256, 2, 3, 4)
    (tmp_path / "b.nii").write_bytes(data)
    (note,) = read_scan(tmp_path / "b.nii").warnings
    assert "quaternion is no rotation" in note


def test_more_voxels_than_announced_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.nrrd").write_bytes(_nrrd("raw", b"\n" + _raw()))
    (note,) = read_scan(tmp_path / "x.nrrd").warnings
    assert "1 byte more than the header announces" in note
    (tmp_path / "y.nrrd").write_bytes(_nrrd("raw", b"\n" + _raw(), fields="byte skip: -1\n"))
    assert _check(tmp_path / "y.nrrd") == ()
    (tmp_path / "x.mha").write_bytes(_metaimage("LOCAL", body=_raw() + b"more"))
    (note,) = read_scan(tmp_path / "x.mha").warnings
    assert "4 bytes more" in note


def test_a_slice_in_nrrd_is_called_so(tmp_path: Path) -> None:
    text = "NRRD0004\ntype: short\ndimension: 2\nsizes: 9 8\nspacings: 1 1\nencoding: raw\n\n"
    (tmp_path / "x.nrrd").write_bytes(text.encode() + bytes(144))
    assert "the image is 2D (9 x 8)" in _refused(tmp_path / "x.nrrd")
