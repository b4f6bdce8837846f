"""Arrays that come from memory (a MRML node, say) pass the checks that files pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import check_output, checked_scan

DATA = np.random.default_rng(0).random((6, 7, 8)).astype(np.float32)


def test_a_good_array_is_not_copied() -> None:
    scan = checked_scan("node T1", DATA, np.eye(4))
    assert np.shares_memory(scan.volume.array, DATA)
    assert scan.format == "memory"
    assert scan.warnings == ()
    assert scan.header["dtype"] == "float32"


def test_leading_axes_of_one_and_other_types() -> None:
    scan = checked_scan("node", (DATA * 100).astype(np.int16)[None], np.eye(4))
    assert scan.volume.array.shape == (6, 7, 8)
    assert scan.header["dtype"] == "int16"
    np.testing.assert_array_equal(scan.volume.array, (DATA * 100).astype(np.int16))


def test_the_callers_array_is_not_changed_by_cleaning() -> None:
    dirty = DATA.copy()
    dirty[0, 0, :3] = np.nan, np.inf, -np.inf
    scan = checked_scan("node", dirty, np.eye(4))
    assert "3 of 336 voxels" in scan.warnings[0]
    assert np.isnan(dirty[0, 0, 0])
    assert (scan.volume.array[0, 0, :3] == 0).all()
    np.testing.assert_array_equal(scan.volume.array.ravel()[3:], dirty.ravel()[3:])


def test_values_beyond_float32_count_as_infinite() -> None:
    large = DATA.astype(np.float64)
    large[0, 0, 0] = 1e300
    scan = checked_scan("node", large, np.eye(4))
    assert "1 of 336 voxels" in scan.warnings[0]


@pytest.mark.parametrize(
    ("array", "affine", "expected"),
    [
        (DATA[:1], np.eye(4), "2D"),
        (DATA[0], np.eye(4), "2D"),
        (DATA[:0], np.eye(4), "empty"),
        (np.stack([DATA, DATA]), np.eye(4), "2 frames"),
        (DATA * 0, np.eye(4), "constant"),
        (DATA + 1j, np.eye(4), "not scalar"),
        (np.where(DATA < 0.99, np.nan, DATA), np.eye(4), "NaN or infinite"),
        (DATA, np.diag([1, 1, 0, 1.0]), "singular"),
        (DATA, np.eye(4) * 1e5, "spacing cannot be right"),
        (DATA, np.full((4, 4), np.nan), "not finite"),
        (DATA, np.eye(4) + np.outer([1e9, 0, 0, 0], [0, 0, 0, 1]), "kilometres away"),
    ],
)
def test_unusable_arrays(array: np.ndarray, affine: np.ndarray, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        checked_scan("node T1", array, affine)
    assert str(caught.value).startswith("node T1: ")


def test_outputs_are_looked_at_before_the_work(tmp_path: Path) -> None:
    check_output(tmp_path / "new.nii.gz")
    old = tmp_path / "old.nii.gz"
    old.write_bytes(b"x")
    check_output(old, overwrite=True)
    with pytest.raises(InputError, match="exists already"):
        check_output(old)
    with pytest.raises(InputError, match="folder does not exist"):
        check_output(tmp_path / "no" / "new.nii.gz")
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["old.nii.gz"]
