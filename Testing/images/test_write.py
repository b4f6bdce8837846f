"""Writing: in the input's own grid and codes, complete or not at all; nibabel is the witness."""

from __future__ import annotations

import errno
import gzip
import itertools
import os
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import NiftiFields, Volume, read_scan, write_volume
from StrokeLesionSegLib.images.formats.writing import atomic_output

AFFINE = np.array(
    [[-0.87, 0.1, 0.05, 90.5], [0.1, 0.86, -0.2, -70.25], [0.04, 0.17, 2.9, -33], [0, 0, 0, 1.0]]
)


def _orthogonal() -> np.ndarray:
    u, _, vt = np.linalg.svd(AFFINE[:3, :3])
    affine = AFFINE.copy()
    affine[:3, :3] = (u @ vt) * (0.875, 0.9, 3.0)
    return affine


def _scan_file(folder: Path, make: type = nib.Nifti1Image, **codes: int) -> Path:
    data = np.random.default_rng(4).integers(0, 200, (11, 9, 6)).astype(np.int16)
    image = make(data, _orthogonal())
    image.set_sform(_orthogonal(), codes.get("sform", 1))
    qform = _orthogonal()
    qform[:3, 3] += codes.get("apart", 0)
    image.set_qform(qform, codes.get("qform", 1))
    image.header.set_xyzt_units(codes.get("units", 2), 8)
    path = folder / "scan.nii.gz"
    nib.save(image, path)
    return path


@pytest.mark.parametrize(("sform", "qform"), list(itertools.product((0, 1, 2, 4), (0, 1, 3))))
@pytest.mark.parametrize("make", [nib.Nifti1Image, nib.Nifti2Image])
def test_grid_and_codes_of_the_input_are_kept(
    tmp_path: Path, make: type, sform: int, qform: int
) -> None:
    source = _scan_file(tmp_path, make, sform=sform, qform=qform, apart=2)
    scan = read_scan(source)
    mask = Volume((scan.volume.array > 100).astype(np.uint8), scan.volume.affine)
    for name in ("mask.nii.gz", "mask.nii"):
        write_volume(tmp_path / name, mask, like=scan, nifti=NiftiFields("lesion mask"))
        ours, theirs = nib.load(tmp_path / name), nib.load(source)
        np.testing.assert_array_equal(ours.affine, theirs.affine)
        np.testing.assert_array_equal(np.asarray(ours.dataobj), mask.array.T)
        assert type(ours) is type(theirs)
        assert ours.get_data_dtype() == np.uint8
        for field in ("sform_code", "qform_code", "xyzt_units", "quatern_b", "srow_x"):
            np.testing.assert_array_equal(ours.header[field], theirs.header[field])
        np.testing.assert_array_equal(ours.header["pixdim"][:4], theirs.header["pixdim"][:4])
        np.testing.assert_array_equal(ours.get_qform(), theirs.get_qform())
        assert ours.header.get_intent()[0] == "label"
        assert ours.header.get_intent()[2] == "lesion mask"
        assert b"StrokeLesionSeg" in ours.header["descrip"].item()
        np.testing.assert_array_equal(read_scan(tmp_path / name).volume.array, mask.array)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "uint16", "int32", "int64", "float32", "float64"]
)
def test_types(tmp_path: Path, dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 100, (4, 5, 6)).astype(np.float32)
    write_volume(tmp_path / "x.nii.gz", Volume(values, AFFINE), dtype=dtype)
    image = nib.load(tmp_path / "x.nii.gz")
    assert image.get_data_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, values)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)


def test_rounding_and_overflow(tmp_path: Path) -> None:
    half = Volume(np.full((3, 3, 3), 0.999, np.float32), np.eye(4))
    write_volume(tmp_path / "r.nii", half, dtype="uint8")
    assert np.asarray(nib.load(tmp_path / "r.nii").dataobj).max() == 1
    for bad in (300.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="do not fit"):
            write_volume(tmp_path / "o.nii", half.with_array(half.array * bad), dtype="uint8")
    write_volume(tmp_path / "b.nii", half.with_array(half.array > 0.5))
    assert nib.load(tmp_path / "b.nii").get_data_dtype() == np.uint8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.nii", "r.nii"]


def test_without_a_source_both_forms_agree(tmp_path: Path) -> None:
    for flip in itertools.product((1, -1), repeat=3):
        affine = _orthogonal() @ np.diag([*flip, 1])
        volume = Volume(np.arange(120, dtype=np.float32).reshape(4, 5, 6), affine)
        write_volume(tmp_path / "v.nii", volume, overwrite=True)
        image = nib.load(tmp_path / "v.nii")
        assert image.header["sform_code"] == image.header["qform_code"] == 1
        np.testing.assert_allclose(image.get_sform(), affine, atol=1e-5)
        np.testing.assert_allclose(image.get_qform(), affine, atol=1e-4)
        assert image.header.get_xyzt_units()[0] == "mm"


def test_shear_leaves_the_qform_unset(tmp_path: Path) -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    write_volume(tmp_path / "s.nii", Volume(np.ones((3, 4, 5), np.uint8), sheared))
    image = nib.load(tmp_path / "s.nii")
    assert image.header["qform_code"] == 0
    np.testing.assert_allclose(image.affine, sheared, atol=1e-6)


def test_same_input_same_bytes(tmp_path: Path) -> None:
    volume = Volume(np.random.default_rng(0).random((30, 31, 32)).astype(np.float32), AFFINE)
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, volume)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert (tmp_path / "a.nii.gz").read_bytes()[4:8] == b"\0\0\0\0"  # no time stamp
    assert len(gzip.decompress((tmp_path / "a.nii.gz").read_bytes())) == 352 + 30 * 31 * 32 * 4


@pytest.mark.parametrize("name", ["m.nii.gz", "m.nii", "m.nrrd", "m.mha"])
def test_overwriting_only_when_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("precious")
    volume = Volume(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), np.eye(4))
    with pytest.raises(InputError, match=r"exists already.*--overwrite"):
        write_volume(path, volume)
    assert path.read_text() == "precious"
    write_volume(path, volume, overwrite=True)
    np.testing.assert_array_equal(read_scan(path).volume.array, volume.array)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    volume = Volume(np.zeros((3, 4, 5), np.uint8), np.eye(4))
    with pytest.raises(InputError, match="folder does not exist"):
        write_volume(tmp_path / "no" / "m.nii.gz", volume)
    with pytest.raises(InputError, match="is a folder"):
        write_volume(tmp_path, volume.with_array(volume.array))
    for name in ("m.png", "m", "m.mhd", "m.nhdr", "m.hdr"):
        with pytest.raises(InputError, match="cannot write"):
            write_volume(tmp_path / name, volume)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="folder does not exist"):
        write_volume(tmp_path / "file" / "m.nii", volume)
    with pytest.raises(InputError, match="too long"):
        write_volume(tmp_path / ("x" * 300 + ".nii"), volume)


def _in_child(work) -> int:  # type: ignore[no-untyped-def]
    """Runs ``work`` in a forked child; 0 if it raised the ``InputError`` it names."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = work()
        except BaseException:
            status = 3
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(os.name != "posix", reason="resource limits")
@pytest.mark.parametrize("name", ["m.nii.gz", "m.nii", "m.nrrd", "m.mha"])
def test_a_write_that_fails_midway_leaves_nothing(tmp_path: Path, name: str) -> None:
    """A real failing write (the size limit of the process), with the old file kept whole."""
    import resource

    import SimpleITK  # noqa: F401  before the limit: nothing but the image shall hit it

    old = tmp_path / name
    old.write_text("precious")
    noise = np.random.default_rng(0).random((40, 40, 40)).astype(np.float32)

    def work() -> int:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        try:
            write_volume(old, Volume(noise, np.eye(4)), overwrite=True)
        except InputError as error:
            return 0 if str(old) in str(error) and "written" in str(error) else 2
        return 4

    assert _in_child(work) == 0
    assert old.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    volume = Volume(np.zeros((3, 4, 5), np.uint8), np.eye(4))

    def work() -> int:
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            write_volume(closed / "m.nii.gz", volume)
        except InputError as error:
            return 0 if "cannot be written here" in str(error) else 2
        return 4

    for folder in (tmp_path, tmp_path.parent):
        folder.chmod(0o755)
    tmp_path.parents[1].chmod(0o755)
    assert _in_child(work) == 0


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "cannot be written here"),
        (errno.EIO, "cannot be written"),
    ],
)
def test_errors_of_the_system_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: str
) -> None:
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match=expected):
        write_volume(tmp_path / "m.nii.gz", Volume(np.zeros((3, 4, 5), np.uint8), np.eye(4)))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def write_and_interrupt() -> None:
        with atomic_output(tmp_path / "table.tsv") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_interrupt()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.shared
def test_masks_on_shared_scans_lie_where_the_scan_lies(shared_data: Path, tmp_path: Path) -> None:
    for source in sorted((shared_data / "t1").rglob("*.nii.gz"))[::4]:
        scan = read_scan(source)
        mask = Volume((scan.volume.array > 80).astype(np.uint8), scan.volume.affine)
        path = tmp_path / source.name
        write_volume(path, mask, like=scan)
        ours, theirs = nib.load(path), nib.load(source)
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(ours.affine, theirs.affine)
        np.testing.assert_array_equal(np.asarray(ours.dataobj), theirs.get_fdata() > 80)
