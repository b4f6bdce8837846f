"""Reading NIfTI: nibabel is the independent witness for voxels and affine."""

from __future__ import annotations

import gzip
import itertools
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import Scan, read_scan
from StrokeLesionSegLib.images.formats.nifti_header import quaternion

SHAPE = (11, 7, 5)
AFFINE = np.array([[0.9, 0, 0, -30.5], [0, 1.1, 0, 12.25], [0, 0, 2.5, -7], [0, 0, 0, 1.0]])
ORIENTATIONS = [
    np.array([[axis, flip] for axis, flip in zip(order, flips, strict=True)])
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def _rotation(x: float, y: float, z: float) -> np.ndarray:
    cx, sx, cy, sy, cz, sz = (f(a) for a in (x, y, z) for f in (np.cos, np.sin))
    return (
        np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    )


def _data(dtype: str = "int16", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    values = np.random.default_rng(5).integers(1, 120, shape)
    return values.astype(dtype)


def _save(folder: Path, image: nib.Nifti1Image, name: str = "scan.nii.gz") -> Path:
    path = folder / name
    nib.save(image, path)
    return path


def _same_as_nibabel(path: Path, exact: bool = True) -> Scan:
    witness, scan = nib.load(path), read_scan(path)
    expected = witness.get_fdata(dtype=np.float32)
    expected = np.ascontiguousarray(expected.reshape(expected.shape[:3]).T)
    assert scan.volume.array.dtype == np.float32
    assert scan.volume.array.flags.c_contiguous
    if exact:
        np.testing.assert_array_equal(scan.volume.array, expected)
    else:
        np.testing.assert_allclose(scan.volume.array, expected, rtol=2e-6, atol=1e-4)
    np.testing.assert_allclose(scan.volume.affine, witness.affine, rtol=0, atol=1e-12)
    return scan


@pytest.mark.parametrize("ornt", ORIENTATIONS, ids=lambda o: "".join(map(str, o.ravel())))
def test_every_axis_orientation(tmp_path: Path, ornt: np.ndarray) -> None:
    image = nib.Nifti1Image(_data(), AFFINE).as_reoriented(ornt)
    scan = _same_as_nibabel(_save(tmp_path, image, "scan.nii"))
    assert scan.warnings == ()


@pytest.mark.parametrize("kind", ["nifti1", "nifti2"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "dtype",
    [
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float32",
        "float64",
    ],
)
def test_every_scalar_type_in_both_byte_orders(
    tmp_path: Path, kind: str, order: str, dtype: str
) -> None:
    make = {"nifti1": nib.Nifti1Image, "nifti2": nib.Nifti2Image}[kind]
    header = make.header_class(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    image = make(_data(dtype), AFFINE, header, dtype=dtype)
    scan = _same_as_nibabel(_save(tmp_path, image))
    assert scan.header["dtype"] == dtype
    assert scan.header["byteorder"] == order
    assert scan.header["nifti_version"] == int(kind[-1])


def _with_fields(path: Path, **fields: object) -> Path:
    """Overwrites fields of an uncompressed little-endian NIfTI-1 file."""
    raw = bytearray(path.read_bytes())
    header = np.ndarray((), nib.Nifti1Header().template_dtype, buffer=raw)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(bytes(raw))
    return path


@pytest.mark.parametrize(
    ("slope", "inter"),
    [(2.5, -10.0), (0.001, 0.0), (1.0, 7.0), (0.0, 5.0), (np.nan, 3.0), (-1.5, 2.0), (np.inf, 1)],
)
@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32"])
def test_slope_and_intercept(tmp_path: Path, slope: float, inter: float, dtype: str) -> None:
    path = _save(tmp_path, nib.Nifti1Image(_data(dtype), AFFINE), "s.nii")
    _with_fields(path, scl_slope=slope, scl_inter=inter)
    scan = _same_as_nibabel(path, exact=False)
    if np.isfinite(slope) and slope != 0:
        assert not np.array_equal(scan.volume.array, _data(dtype).T)
    else:
        np.testing.assert_array_equal(scan.volume.array, _data(dtype).T)


@settings(max_examples=60, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 3),
    zooms=st.tuples(*[st.floats(0.6, 6)] * 3),
    flip=st.booleans(),
)
def test_qform_alone(tmp_path_factory, angles, zooms, flip) -> None:
    affine = np.eye(4)
    affine[:3, :3] = _rotation(*angles) * zooms * ((-1, 1, 1) if flip else (1, 1, 1))
    affine[:3, 3] = (-40, 20, 3.5)
    image = nib.Nifti1Image(_data(), None)
    image.set_qform(affine, 1)
    image.set_sform(None, 0)
    path = _save(tmp_path_factory.mktemp("q"), image, "q.nii")
    scan = _same_as_nibabel(path)
    # Near half a turn the float32 quaternion is good to about 4e-4 (root of the float's epsilon).
    np.testing.assert_allclose(scan.volume.affine, affine, atol=8e-3)


@settings(max_examples=100, deadline=None)
@given(angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 3), flip=st.booleans())
def test_quaternion_of_a_rotation(angles, flip) -> None:
    axes = _rotation(*angles) * ((1, 1, -1) if flip else (1, 1, 1))
    (b, c, d), qfac = quaternion(axes)
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    back = nib.quaternions.quat2mat([a, b, c, d]) * (1, 1, qfac)
    np.testing.assert_allclose(back, axes, atol=1e-6)


def test_oblique_and_sheared_sform(tmp_path: Path) -> None:
    oblique = np.eye(4)
    oblique[:3, :3] = _rotation(0.2, -0.1, 0.4) * (0.9, 1.0, 3.0)
    assert _same_as_nibabel(_save(tmp_path, nib.Nifti1Image(_data(), oblique))).warnings == ()
    sheared = oblique.copy()
    sheared[:3, 1] += 0.2 * sheared[:3, 0]
    image = nib.Nifti1Image(_data(), None)
    image.set_sform(sheared, 1)
    image.set_qform(None, 0)
    image.header["pixdim"][1:4] = np.sqrt((sheared[:3, :3] ** 2).sum(axis=0))
    (warning,) = _same_as_nibabel(_save(tmp_path, image, "sheared.nii")).warnings
    assert "sheared" in warning


def test_disagreeing_forms_are_warned_about_in_mm(tmp_path: Path) -> None:
    image = nib.Nifti1Image(_data(), AFFINE)
    moved = AFFINE.copy()
    moved[:3, 3] += (3, 4, 0)
    image.set_sform(AFFINE, 1)
    image.set_qform(moved, 1)
    scan = _same_as_nibabel(_save(tmp_path, image))
    assert len(scan.warnings) == 1
    assert "5.0 mm" in scan.warnings[0]
    assert "mirror" not in scan.warnings[0]
    np.testing.assert_allclose(scan.volume.affine, AFFINE, atol=1e-6)
    image.set_qform(np.diag([-1, 1, 1, 1]) @ AFFINE, 1)
    assert "mirror" in read_scan(_save(tmp_path, image, "m.nii")).warnings[0]


def test_no_form_at_all(tmp_path: Path) -> None:
    path = _save(tmp_path, nib.Nifti1Image(_data(), AFFINE), "n.nii")
    _with_fields(path, sform_code=0, qform_code=0)
    scan = _same_as_nibabel(path)
    assert "left and right" in scan.warnings[0]
    for bad in (0.0, np.nan, -1.0):
        _with_fields(path, pixdim=[1, 1, bad, 1, 0, 0, 0, 0])
        with pytest.raises(InputError, match=r"voxel spacing.*Set the voxel spacing"):
            read_scan(path)


@pytest.mark.parametrize("extra", [(1,), (1, 1), (1, 1, 1, 1)])
def test_one_frame_is_accepted(tmp_path: Path, extra: tuple[int, ...]) -> None:
    path = _save(tmp_path, nib.Nifti1Image(_data(shape=SHAPE + extra), AFFINE))
    assert _same_as_nibabel(path).volume.array.shape == SHAPE[::-1]


def test_not_finite_voxels_become_zero_and_are_counted(tmp_path: Path) -> None:
    data = _data("float32")
    data[0, 0, 0], data[1, 0, 0], data[2, 0, 0] = np.nan, np.inf, -np.inf
    scan = read_scan(_save(tmp_path, nib.Nifti1Image(data, AFFINE)))
    assert "3 of 385 voxels" in scan.warnings[0]
    assert scan.volume.array[0, 0, :3].tolist() == [0, 0, 0]
    data[np.isfinite(data)] = np.where(np.arange(382) < 378, np.nan, data[np.isfinite(data)])
    with pytest.raises(InputError, match="NaN or infinite"):
        read_scan(_save(tmp_path, nib.Nifti1Image(data, AFFINE), "most.nii.gz"))


def test_names_with_accents_spaces_and_capitals(tmp_path: Path) -> None:
    folder = tmp_path / "Émile Ünal (1)"
    folder.mkdir()
    source = _save(folder, nib.Nifti1Image(_data(), AFFINE), "cerveau été.nii.gz")
    np.testing.assert_array_equal(read_scan(source).volume.array, _data().T)
    loud = folder / "SCAN.NII"
    loud.write_bytes(gzip.decompress(source.read_bytes()))
    np.testing.assert_array_equal(read_scan(loud).volume.array, _data().T)
    # Compression is told from the content: both mistakes are common in the wild.
    (folder / "plain.nii.gz").write_bytes(loud.read_bytes())
    np.testing.assert_array_equal(read_scan(folder / "plain.nii.gz").volume.array, _data().T)


def test_gzip_members_extensions_and_padding(tmp_path: Path) -> None:
    image = nib.Nifti1Image(_data("float64"), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 700))
    plain = _save(tmp_path, image, "e.nii")
    _same_as_nibabel(plain)
    raw = plain.read_bytes()
    for cut in (100, 353, 900, 1500):
        path = tmp_path / "members.nii.gz"
        path.write_bytes(gzip.compress(raw[:cut]) + gzip.compress(raw[cut:]) + b"\0" * 512)
        np.testing.assert_array_equal(read_scan(path).volume.array, _data().T)


def _file(folder: Path, data: bytes, name: str = "bad.nii.gz") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _image(folder: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    return _save(folder, nib.Nifti1Image(data, affine), "bad.nii")


def _edited(folder: Path, **fields: object) -> Path:
    return _with_fields(_image(folder, _data()), **fields)


def _gz(folder: Path) -> bytes:
    return _save(folder, nib.Nifti1Image(_data(), AFFINE), "good.nii.gz").read_bytes()


def _flipped(data: bytes) -> bytes:
    middle = len(data) - 6  # inside the checksum
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda f: f / "none.nii.gz", "no such file"),
    "zero size": (lambda f: _file(f, b""), "empty"),
    "text": (lambda f: _file(f, b"<html>404 not found</html>\n" * 40), "web page"),
    "short text": (lambda f: _file(f, b"hi"), "not a NIfTI file"),
    "gzipped text": (lambda f: _file(f, gzip.compress(b"hello " * 200)), "not a NIfTI file"),
    "truncated gzip": (lambda f: _file(f, _gz(f)[:-200]), "truncated"),
    "gzip without its end": (lambda f: _file(f, _gz(f)[:-4]), "truncated"),
    "gzip checksum": (lambda f: _file(f, _flipped(_gz(f))), "damaged"),
    "gzip header alone": (lambda f: _file(f, _gz(f)[:12]), "truncated"),
    "truncated": (lambda f: _file(f, _image(f, _data()).read_bytes()[:-1], "t.nii"), "truncated"),
    "cut header": (lambda f: _file(f, _image(f, _data()).read_bytes()[:200], "t.nii"), "header"),
    "wrong magic": (lambda f: _edited(f, magic=b"abc"), "not a NIfTI file"),
    "pair magic": (lambda f: _edited(f, magic=b"ni1"), "two-file"),
    "hdr": (lambda f: _file(f, b"x" * 348, "a.hdr"), "two-file"),
    "img": (lambda f: _file(f, b"x" * 348, "a.img"), "two-file"),
    "suffix": (lambda f: _file(f, b"x" * 348, "a.xyz"), "not supported"),
    "folder": (lambda f: f, "no DICOM images"),
    "frames": (lambda f: _image(f, _data(shape=(5, 6, 7, 8))), "8 frames"),
    "2D": (lambda f: _image(f, _data(shape=(9, 9))), "2D"),
    "one slice": (lambda f: _image(f, _data(shape=(9, 9, 1))), "2D"),
    "empty axis": (lambda f: _edited(f, dim=[3, 11, 0, 5, 1, 1, 1, 1]), "empty"),
    "negative axis": (lambda f: _edited(f, dim=[3, 11, -7, 5, 1, 1, 1, 1]), "empty"),
    "no axes": (lambda f: _edited(f, dim=[0, 11, 7, 5, 1, 1, 1, 1]), "empty"),
    "absurd": (lambda f: _edited(f, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]), "32767 x"),
    "too large": (lambda f: _edited(f, dim=[3, 800, 800, 800, 1, 1, 1, 1]), "truncated"),
    "offset": (lambda f: _edited(f, vox_offset=100.0), "byte 100"),
    "offset nan": (lambda f: _edited(f, vox_offset=np.nan), "byte nan"),
    "constant": (lambda f: _image(f, np.full(SHAPE, 7, "int16")), "constant"),
    "zeros": (lambda f: _image(f, np.zeros(SHAPE, "float32")), "constant"),
    "complex": (lambda f: _image(f, _data("complex64")), "complex"),
    "RGB": (
        lambda f: _image(f, np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        "RGB",
    ),
    "type": (lambda f: _edited(f, datatype=999), "datatype 999"),
    "singular": (lambda f: _edited(f, sform_code=1, srow_z=[0, 0, 0, 0]), "singular"),
    "flat": (
        lambda f: _edited(f, sform_code=1, srow_x=[1, 1, 0, 0], srow_y=[1, 1, 0, 0]),
        "singular",
    ),
    "nan affine": (lambda f: _edited(f, sform_code=1, srow_x=[np.nan, 0, 0, 0]), "not finite"),
    "metres": (lambda f: _image(f, _data(), np.diag([1e-3, 1e-3, 1e-3, 1])), "spacing"),
    "kilometres": (lambda f: _image(f, _data(), np.diag([900, 900, 900, 1.0])), "spacing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(tmp_path: Path, case: str) -> None:
    make, expected = BAD[case]
    path = make(tmp_path)
    with pytest.raises(InputError) as caught:
        read_scan(path)
    line = str(caught.value)
    assert expected in line
    assert line.startswith(str(path))
    assert "\n" not in line
    assert caught.value.remedy


def test_a_bomb_is_not_expanded(tmp_path: Path) -> None:
    """A stream of 4 GiB of zeros behind a small image: only the image and a little are read."""
    import tracemalloc

    raw = _image(tmp_path, _data()).read_bytes()
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = bytes(1 << 24)
    packed = [deflate.compress(raw), *(deflate.compress(piece) for _ in range(16))]
    path = _file(tmp_path, b"".join(packed) + deflate.flush())
    tracemalloc.start()
    try:
        scan = read_scan(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(scan.volume.array, _data().T)
    assert peak < 8 << 20


def test_a_header_that_promises_too_much_allocates_nothing(tmp_path: Path) -> None:
    import tracemalloc

    header = bytearray(_image(tmp_path, _data()).read_bytes()[:352])
    struct.pack_into("<8h", header, 40, 3, 800, 800, 800, 1, 1, 1, 1)
    path = _file(tmp_path, gzip.compress(bytes(header) + bytes(4096)))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="truncated"):
            read_scan(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_unreadable_permissions(tmp_path: Path) -> None:
    path = _save(tmp_path, nib.Nifti1Image(_data(), AFFINE))
    read_scan(path)
    path.chmod(0)
    if os.geteuid() != 0:
        with pytest.raises(InputError, match="no permission"):
            read_scan(path)
        return
    # Root may read everything, so a child gives root up and reports through its exit status.
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005 and folder != Path("/"):
            if not folder.is_relative_to(tmp_path.parents[1]):
                break
            folder.chmod(0o755)
    child = os.fork()
    if child == 0:
        status = 3
        try:
            os.setuid(65534)
            read_scan(path)
        except InputError as error:
            status = 0 if "no permission" in str(error) else 2
        except BaseException:
            status = 1
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.shared
def test_shared_scans_as_nibabel_reads_them(shared_data: Path) -> None:
    paths = sorted((shared_data / "t1").rglob("*.nii.gz"))
    assert len(paths) >= 20
    for path in paths:
        assert _same_as_nibabel(path).warnings == ()


def test_importing_images_is_cheap() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import StrokeLesionSegLib.images as images; from pathlib import Path\n"
        "assert set(images.__all__) <= set(dir(images))\n"
        "from StrokeLesionSegLib.images import read_scan, write_volume, to_canonical\n"
        "heavy = {'SimpleITK', 'torch', 'nibabel', 'scipy', 'pydicom'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    lib = Path(__file__).resolve().parents[2] / "StrokeLesionSeg"
    environment = {**os.environ, "PYTHONPATH": str(lib)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_an_sform_beyond_all_numbers_is_refused_without_a_warning(tmp_path: Path) -> None:
    image = nib.Nifti2Image(np.arange(8000, dtype=np.float32).reshape(20, 20, 20), np.eye(4))
    file = tmp_path / "huge.nii"
    nib.save(image, file)
    data = bytearray(file.read_bytes())
    at = nib.Nifti2Header.template_dtype.fields["srow_x"][1]
    data[at : at + 8] = np.array(1e200, image.header.endianness + "f8").tobytes()
    file.write_bytes(bytes(data))
    with pytest.raises(InputError):
        read_scan(file)
