"""Scans of all kinds, values gone wrong and series taken apart: never a crash, never in silence."""

from __future__ import annotations

import json
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from fuzz_support import CASES, write_originals
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from scipy import ndimage
from simulated import simulated_head
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import Scan, Volume, checked_scan, read_scan
from StrokeLesionSegLib.input_check import check_scan, refuse_or_warn, repair, sentence

# Three tests: 200 cases in all where the others have 50 each, 2,000 in the long run.
FUZZ = settings(
    max_examples=CASES * (4 if CASES < 100 else 10) // 3 + 1,
    derandomize=bool(os.environ.get("CI")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@lru_cache(maxsize=1)
def head() -> Volume:
    """The simulated head at 4 mm, read-only."""
    t1 = simulated_head().t1
    k, j, i = (n // 4 * 4 for n in t1.array.shape)
    array = t1.array[:k, :j, :i].astype(np.float32)
    array = array.reshape(k // 4, 4, j // 4, 4, i // 4, 4).mean((1, 3, 5))
    array.setflags(write=False)
    return Volume(array, t1.affine @ np.diag([4, 4, 4, 1.0]))


# ------------------------------------------------------------------------------- is it a T1?

KINDS = ("t1", "mask", "labels", "map", "noise", "constant", "tiny", "ct")


def of_kind(kind: str, rng: np.random.Generator) -> np.ndarray:
    array = head().array
    if kind == "mask":
        return (array > rng.uniform(0.2, 0.8) * array.max()).astype(np.float32)
    if kind == "labels":
        return np.digitize(ndimage.gaussian_filter(array, 2), np.linspace(1, array.max(), 6))
    if kind == "map":
        return (array > 0.5 * array.max()) * rng.choice([1.0, 100.0])
    if kind == "noise":
        return rng.normal(size=array.shape)
    if kind == "constant":
        made = np.zeros(array.shape)
        made[2, 2, 2] = 1
        return made
    if kind == "tiny":
        return array[10:14, 10:14, 10:14]
    if kind == "ct":
        return np.where(array > 50, array * 0.05, -1000 + 3 * rng.normal(size=array.shape))
    return array


@FUZZ
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(1e-3, 1e4),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    spacing=st.floats(0.1, 12),
    name=st.sampled_from(["a.nii", "sub-1_T1w.nii", "sub-1_FLAIR.nii", "x_t2.nii", "ä\u2028b.nii"]),
    facts=st.dictionaries(
        st.sampled_from(["EchoTime", "RepetitionTime", "ImageType", "SeriesDescription",
                         "ScanningSequence", "ComplexImageComponent"]),
        st.one_of(st.none(), st.floats(allow_nan=True), st.text(max_size=9),
                  st.lists(st.one_of(st.text(max_size=5), st.integers()), max_size=4)),
    ),
)  # fmt: skip
def test_any_picture_is_judged_in_words(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    seed: int,
    scale: float,
    flips: tuple[bool, bool, bool],
    spacing: float,
    name: str,
    facts: dict[str, Any],
) -> None:
    folder = tmp_path_factory.mktemp("f")
    (folder / f"{name[:-4]}.json").write_text(json.dumps(facts))
    array = of_kind(kind, np.random.default_rng(seed)) * np.float32(scale)
    array = np.ascontiguousarray(np.flip(array, [n for n in range(3) if flips[n]]))
    affine = head().affine @ np.diag([spacing / 4, spacing / 4, spacing / 4, 1])
    try:
        scan = checked_scan(folder / name, array, affine, format="nifti")
    except InputError:
        return
    findings = check_scan(scan)
    for finding in findings:
        assert finding.level in ("refuse", "warn")
        assert "\n" not in finding.text
        assert sentence(finding)
    refused = any(finding.level == "refuse" for finding in findings)
    assert len(refuse_or_warn(scan.path, findings, force=True)) == len(findings)
    if refused:
        with pytest.raises(InputError):
            refuse_or_warn(scan.path, findings, force=False)
    if kind != "t1":
        assert findings
    elif not facts and "FLAIR" not in name and "t2" not in name and 3 < spacing < 5:
        assert not refused, findings
    assert [p.name for p in folder.iterdir()] == [f"{name[:-4]}.json"]


# ------------------------------------------------------------------------------- values


@FUZZ
@given(
    background=st.one_of(st.none(), st.floats(-1e5, 1e5, width=32), st.just(float("nan"))),
    wrapped=st.booleans(),
    turned=st.booleans(),
    absurd=st.lists(st.floats(-1e30, 1e30), max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_values_are_put_right_or_left_and_every_change_is_told(
    background: float | None, wrapped: bool, turned: bool, absurd: list[float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    brain = np.rint(head().array)
    inside = ndimage.binary_erosion(brain > 0.3 * brain.max())
    array = np.where(inside, brain, 0).astype(np.float32) if background is not None else brain
    dtype = "float32"
    if wrapped:
        dtype = "int16"
        array = (array / array.max() * 60_000).astype(np.uint16).astype(np.int16)
        array = array.astype(np.float32)
    array = -array if turned and not wrapped else array.copy()
    if background is not None:
        array[~inside] = background
    places = np.flatnonzero(inside.ravel())
    for value in absurd:
        array.ravel()[rng.choice(places)] = value
    kept = array.copy()
    try:
        scan = checked_scan("x.nii", array, head().affine, header={"dtype": dtype})
    except InputError:
        return
    before = scan.volume.array.copy()
    mended = repair(scan)
    np.testing.assert_array_equal(array, kept)
    np.testing.assert_array_equal(scan.volume.array, before)
    assert np.isfinite(mended.volume.array).all()
    assert all("\n" not in note for note in mended.warnings)
    if not np.array_equal(mended.volume.array, before):
        assert len(mended.warnings) > len(scan.warnings)
    if not wrapped and not turned and not absurd:
        # Whatever the background was, the brain keeps its contrast.
        values = mended.volume.array[inside], brain[inside]
        assert np.corrcoef(*values)[0, 1] > 0.999
    again = repair(Scan(mended.volume, mended.path, mended.format, (), {"dtype": "float32"}))
    assert np.isfinite(again.volume.array).all()


# ------------------------------------------------------------------------------- DICOM series

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["drop", "copy", "unmark", "cut uid", "phase", "number", "shift", "rename",
                         "link", "empty", "comma", "short", "ge phase", "echo", "turn", "mosaic",
                         "slice thickness"]),
        st.integers(0, 11),
    ),
    max_size=8,
)  # fmt: skip


@FUZZ
@given(actions=ACTIONS, everywhere=st.booleans())
def test_no_slice_of_a_series_is_lost_in_silence(
    tmp_path_factory: pytest.TempPathFactory,
    actions: list[tuple[str, int]],
    everywhere: bool,
) -> None:
    folder = tmp_path_factory.mktemp("s")
    for n in range(12):
        (folder / f"{n}.dcm").write_bytes(originals()[f"{n}.dcm"])
    for action, n in actions:
        for place in range(12) if everywhere and action not in ("drop", "empty", "short") else [n]:
            _change(folder, action, place)
    before = {p.name: p.lstat().st_size for p in folder.iterdir()}
    images = _images(folder)
    said, scan = "", None
    try:
        scan = read_scan(folder)
    except InputError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 3000
    if scan is not None:
        used = len(scan.header["series"]["files"])
        assert used <= images
        assert used == images or scan.warnings
        assert np.isfinite(scan.volume.array).all()
    assert {p.name: p.lstat().st_size for p in folder.iterdir()} == before


@lru_cache(maxsize=1)
def originals() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return write_originals(Path(folder))


def _change(folder: Path, action: str, n: int) -> None:
    file = folder / f"{n}.dcm"
    if not file.is_file() or file.is_symlink():
        return
    data = file.read_bytes()
    if action == "drop":
        file.unlink()
    elif action == "copy":
        (folder / f"copy{n}.dcm").write_bytes(data)
    elif action == "unmark":
        if data[128:132] == b"DICM":
            file.write_bytes(data[132:])
    elif action == "rename":
        file.rename(folder / f"IM{n:04d}")
    elif action == "link":
        file.rename(folder / f"kept{n}.bin")
        file.symlink_to(folder / f"kept{n}.bin")
    elif action == "empty":
        file.write_bytes(b"")
    elif action == "short":
        file.write_bytes(data[:100])
    elif data[128:132] == b"DICM":
        dataset = pydicom.dcmread(file)
        if action == "cut uid":
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        elif action == "phase":
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "P", "ND"]
        elif action == "number":
            dataset.InstanceNumber = str(2 * n + 1)
        elif action == "shift":
            dataset.ImagePositionPatient = [0, 0, float(n) + 0.3]
        elif action == "ge phase":
            block = dataset.private_block(0x0043, "GEMS_PARM_01", create=True)
            if 0x2F not in block:
                block.add_new(0x2F, "SS", 1)
        elif action == "echo":
            dataset.EchoTime = str(n + 2)
            dataset.SOPInstanceUID = f"1.2.3.99.{n + 1}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            file = folder / f"echo{n}.dcm"
        elif action == "turn":
            dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        elif action == "mosaic":
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
        elif action == "slice thickness":
            dataset.SliceThickness = "0.4"
        elif action == "comma":
            raw = dataset.get_item("ImagePositionPatient").value
            place = raw.decode() if isinstance(raw, bytes) else "\\".join(map(str, raw))
            written = place.strip().replace(",", ".")
            written = "\\".join(f"{float(x):.2f}" for x in written.split("\\"))
            written = written.replace(".", ",").encode()
            written += b" " * (len(written) % 2)
            tag = Tag("ImagePositionPatient")
            dataset[tag] = RawDataElement(tag, "DS", len(written), written, 0, False, True)
        dataset.save_as(file)


def _images(folder: Path) -> int:
    """Images at different places that are there, duplicates counted once."""
    places = set()
    for file in folder.iterdir():
        try:
            dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True)
            key = (str(dataset.SOPInstanceUID), str(dataset.ImagePositionPatient))
        except Exception:
            continue
        places.add(key)
    return len(places)
