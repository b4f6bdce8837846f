"""No real T1 is refused or doubted, however it was prepared; a real FLAIR is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from StrokeLesionSegLib.images import Alignment, align_to_mni, read_scan
from StrokeLesionSegLib.images.volume import Volume
from StrokeLesionSegLib.input_check import Finding, check_aligned, check_looks, check_scan

# One in so many of the scans of one study; all of them passed when the bounds were set.
_EVERY = 12
# One in so many of those is asked in ``make test``, the others in ``make test-long``.
_SOME = 5


def findings(volume: Volume, alignment: Alignment | None = None) -> list[Finding]:
    alignment = alignment or align_to_mni(volume)
    return check_looks(volume) + check_aligned(volume, alignment)


def variants(volume: Volume) -> Iterator[tuple[str, Volume]]:
    yield "as it is", volume
    array = volume.array
    axis = int(np.argmin(volume.spacing[::-1]))
    times = max(2, round(4 / float(volume.spacing[::-1][axis])))
    moved = np.moveaxis(array, axis, 0)
    n = moved.shape[0] // times * times
    thick = np.moveaxis(moved[:n].reshape(-1, times, *moved.shape[1:]).mean(1), 0, axis)
    affine = volume.affine.copy()
    affine[:3, 2 - axis] *= times
    yield "thick slices", Volume(np.ascontiguousarray(thick), affine)
    yield "half its bits", volume.with_array(np.rint(array / array.max() * 120))


@pytest.mark.shared
@pytest.mark.parametrize("others", [False, pytest.param(True, marks=pytest.mark.long)])
def test_no_t1_is_refused(
    shared_data: Path, aligned: Callable[[Path], Alignment], others: bool
) -> None:
    files = sorted((shared_data / "ixi").glob("*.nii.gz"))[::_EVERY]
    files += sorted((shared_data / "t1").rglob("*.nii.gz"))
    files += sorted((shared_data / "real").glob("*T1w.nii.gz"))
    assert len(files) >= 30
    said = []
    for file in (f for n, f in enumerate(files) if (n % _SOME > 0) == others):
        scan = read_scan(file)
        said += [f"{file.name}: {f.text}" for f in check_scan(scan)]
        alignment = aligned(file)
        for name, volume in variants(scan.volume):
            # Fewer grey values do not move a head; thick slices are aligned anew.
            known = None if name == "thick slices" else alignment
            found = findings(volume, known)
            said += [
                f"{file.name}, {name}: {f.text}"
                for f in found
                if f.level == "refuse" or name == "as it is"
            ]
    assert not said


@pytest.mark.shared
def test_a_flair_is_refused_by_its_name_and_by_its_looks(shared_data: Path) -> None:
    scan = read_scan(shared_data / "real" / "CSTAR_FLAIR.nii.gz")
    assert any(f.level == "refuse" for f in check_scan(scan))
    assert any(f.level == "refuse" for f in findings(scan.volume))
