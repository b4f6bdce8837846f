"""Damaged files of every format: a scan or one clear ``InputError``, never anything else."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import from_canonical, read_scan, to_canonical

VALUES = np.random.default_rng(0).integers(1, 99, (6, 7, 8)).astype(np.int16)
# The same cases on every run of CI, which must not fail by chance; fresh ones everywhere else.
FUZZ = settings(
    max_examples=100,
    derandomize=bool(os.environ.get("CI")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
EDITS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    affine = np.diag([0.9, 1.1, 1.3, 1])
    for name, make in (("a.nii", nib.Nifti1Image), ("b.nii", nib.Nifti2Image)):
        image = make(VALUES, affine)
        image.set_qform(affine, 1)
        nib.save(image, folder / name)
    picture = sitk.GetImageFromArray(VALUES)
    for name in ("a.nrrd", "a.mha"):
        sitk.WriteImage(picture, str(folder / name))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    deep = sitk.GetImageFromArray(np.concatenate([VALUES, VALUES]))
    for k in range(12):
        piece = deep[:, :, k]
        facts = {"0008|0016": "1.2.840.10008.5.1.4.1.1.4", "0008|0018": f"1.2.3.5.{k + 1}",
                 "0020|000d": "1.2.3", "0020|000e": "1.2.3.4", "0020|0032": f"0\\0\\{k}",
                 "0020|0037": "1\\0\\0\\0\\1\\0"}  # fmt: skip
        for tag, value in facts.items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{k}.dcm"))
        writer.Execute(piece)
    found = {p.name: p.read_bytes() for p in folder.iterdir()}
    found["a.nii.gz"] = gzip.compress(found["a.nii"], mtime=0)
    return found


def _read(path: Path) -> None:
    try:
        scan = read_scan(path)
    except InputError as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert "\n" not in str(refused)
        assert refused.cause
        assert refused.remedy
        return
    assert scan.volume.array.dtype == np.float32
    assert np.isfinite(scan.volume.array).all()
    assert abs(np.linalg.det(scan.volume.affine)) > 0
    if scan.volume.grid.voxel_volume_ml * scan.volume.array.size < 1000:
        canonical = to_canonical(scan.volume)
        from_canonical(canonical.volume.array, canonical)


@pytest.mark.parametrize("name", ["a.nii", "b.nii", "a.nii.gz", "a.nrrd", "a.mha", "3.dcm"])
@FUZZ
@given(edits=EDITS, cut=st.one_of(st.none(), st.integers(0, 10_000)))
def test_changed_bytes(
    tmp_path: Path, originals: dict[str, bytes], name: str, edits, cut: int | None
) -> None:
    data = bytearray(originals[name])
    # Mostly the header: that is where a changed byte has consequences.
    reach = min(len(data), 1100 if name.endswith("dcm") else 640)
    for place, value in edits:
        data[place % reach] = value
    if cut is not None:
        del data[cut % len(data) :]
    path = tmp_path / name
    if name.endswith("dcm"):  # one damaged file in a good series
        for other in originals:
            if other.endswith("dcm"):
                (tmp_path / other).write_bytes(originals[other])
    path.write_bytes(bytes(data))
    _read(tmp_path if name.endswith("dcm") else path)


FIELDS = nib.Nifti1Header().template_dtype
NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2, 127, 255, 32767, -32768, 0.0, -0.0, 1e-30, 1e30, -5.5]),
    st.sampled_from([float("nan"), float("inf"), float("-inf")]),
)


@FUZZ
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(FIELDS.names), st.integers(0, 7), NUMBERS),
        min_size=1,
        max_size=4,
    )
)
def test_odd_numbers_in_header_fields(tmp_path: Path, originals: dict[str, bytes], changes) -> None:
    raw = bytearray(originals["a.nii"])
    header = np.ndarray((), FIELDS, buffer=raw)
    for name, index, value in changes:
        field = header[name]
        if field.dtype.kind not in "if":
            continue
        if field.dtype.kind == "i":
            if not np.isfinite(value):
                continue
            limits = np.iinfo(field.dtype)
            value = int(min(max(value, limits.min), limits.max))
        with np.errstate(over="ignore"):
            if field.shape:
                header[name][index % field.shape[0]] = value
            else:
                header[name] = value
    path = tmp_path / "odd.nii"
    path.write_bytes(bytes(raw))
    _read(path)


def test_the_originals_are_good(tmp_path: Path, originals: dict[str, bytes]) -> None:
    """Otherwise the fuzz above would only ever see refusals."""
    for name, data in originals.items():
        (tmp_path / name).write_bytes(data)
    for name in ("a.nii", "b.nii", "a.nii.gz", "a.nrrd", "a.mha"):
        np.testing.assert_array_equal(
            read_scan(tmp_path / name).volume.array.shape, (8, 7, 6)[:: 1 if ".nii" in name else -1]
        )
    assert read_scan(tmp_path).volume.array.shape == (12, 7, 8)
