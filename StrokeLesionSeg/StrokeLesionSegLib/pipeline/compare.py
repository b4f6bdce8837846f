"""Two scans of one person: aligned through the halfway space, lesions compared, a page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Cancelled, InputError
from ..inference.progress import Cancel, Progress
from ..operating_point import OperatingPoint, OperatingPointChoice
from ..outputs import OutputSet, default_label
from .change_files import ChangePaths, labels_halfway, write_change
from .contents import scan_sha256
from .result import OutputPaths
from .segment import FileOptions, segment_into
from .source import check_source, read_repaired
from .time_points import Comparison, TimePoint

if TYPE_CHECKING:
    from ..images import Volume
    from ..inference import SegmentOptions
    from ..models import LoadedModel


def compare_scans(
    a: TimePoint, b: TimePoint, *, force: bool = False, cancel: Cancel | None = None
) -> Comparison:
    """Align two scans of one person and compare their lesions.

    Raises ``InputError`` if they do not look like scans of one person, unless ``force``;
    ``Cancelled``.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import Volume
    >>> from StrokeLesionSegLib.lesions import find_lesions
    >>> from StrokeLesionSegLib.operating_point import OperatingPoint
    >>> from StrokeLesionSegLib.pipeline import TimePoint, compare_scans
    >>> k, j, i = np.mgrid[-20:21, -20:21, -20:21]
    >>> head = (k**2 / 300 + j**2 / 200 + (i - 3) ** 2 / 100 < 1) * (100.0 + 2 * i + k)
    >>> volume = Volume(head.astype(np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))
    >>> points = [
    ...     TimePoint(str(at), volume, find_lesions(head > at, volume.affine, OperatingPoint(0.5)))
    ...     for at in (125, 110)
    ... ]
    >>> [group.kind for group in compare_scans(*points).groups]
    ['grown']
    """
    from ..images import align_rigid
    from ..images.space.rigid import SAME_PERSON, inverse_of
    from ..lesions import classify, touching_groups

    start = None
    if a.to_mni is not None and b.to_mni is not None:
        start = np.linalg.inv(b.to_mni) @ a.to_mni
    alignment = align_rigid(a.volume, b.volume, start, cancel=cancel)
    if not alignment.same_person and not force:
        raise InputError(
            b.name,
            f"does not look like a scan of the same person as {a.name} (similarity "
            f"{alignment.similarity:.2f}; {SAME_PERSON:g} or more for one person)",
            "Check the scans, or use --force",
        )
    back = inverse_of(alignment.matrix)
    on_half = [
        labels_halfway(a, alignment.to_half_a, alignment),
        labels_halfway(b, alignment.to_half_b, alignment),
    ]
    covered = (
        _covered_ml(a, alignment.matrix, b.volume),
        _covered_ml(b, back, a.volume),
    )
    whole = [{x.label: x.volume_ml for x in side.lesion_map.lesions if x.keep} for side in (a, b)]
    sides = {(n, x.label): x.side for n, side in enumerate((a, b)) for x in side.lesion_map.lesions}
    groups = touching_groups(*on_half)
    # A lesion smaller than the halfway grid's voxels may have no voxel there.
    seen = [{n for group in groups for n in group[side]} for side in (0, 1)]
    groups += [((n,), ()) for n in whole[0] if n not in seen[0]]
    groups += [((), (n,)) for n in whole[1] if n not in seen[1]]
    centres = {
        (n, x.label): _moved(x.centroid_ras_mm, way)
        for n, (side, way) in enumerate(((a, np.eye(4)), (b, back)))
        for x in side.lesion_map.lesions
    }
    changes = classify(groups, covered[0], covered[1], whole[0], whole[1], sides, centres)
    return Comparison(a, b, alignment, tuple(changes))


@dataclass(frozen=True)
class CompareOptions:
    """How two scans of one person are compared.

    Attributes
    ----------
    masks: the lesions of the earlier and of the later scan, where they are known (corrected ones,
        for instance); the others are found first.
    model, options, point: how they are found, as in :class:`FileOptions`.
    convention: on which side the page shows the left, "radiological" or "neurological".
    force: compare scans that seem to be of different people, or in the wrong order.

    Examples
    --------
    >>> from StrokeLesionSegLib.pipeline import CompareOptions
    >>> CompareOptions().masks
    (None, None)
    """

    masks: tuple[Path | None, Path | None] = (None, None)
    model: LoadedModel | str | None = None
    options: SegmentOptions | None = None
    point: OperatingPointChoice | None = None
    convention: str = "radiological"
    force: bool = False


def compare_files(
    sources: tuple[Path, Path],
    out: Path,
    options: CompareOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Comparison:
    """Compare two scans of one person, the earlier one first, and write ``out``/change.*.

    ``sources``: T1-weighted scans, or session folders of a BIDS subject. The folder gets
    ``change.tsv``, ``change.json`` and the page ``change.html``, and what lesions are found first.

    Raises ``InputError`` for scans that cannot be used, that are of different people by name or by
    look, or in the wrong order by their sessions, ``Cancelled``.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.pipeline import compare_files
    >>> scans = Path("sub-1_ses-2_T1w.nii.gz"), Path("sub-1_ses-1_T1w.nii.gz")
    >>> for scan in scans:
    ...     _ = scan.write_bytes(b"")
    >>> compare_files(scans, Path("out"))
    Traceback (most recent call last):
    ...
    StrokeLesionSegLib.errors.InputError: sub-1_ses-2_T1w.nii.gz: comes after...
    """
    wanted, out = options or CompareOptions(), Path(out)
    first, second = (_scan_of(Path(source)) for source in sources)
    for source in (first, second):
        check_source(source)
    if not wanted.force:
        check_pair(first, second)
    paths = ChangePaths.of(out / "change")
    names = _names(first, second)
    found = [OutputPaths.beside(Path(name), out / f"{name}_lesion.nii.gz") for name in names]
    made = [beside for beside, mask in zip(found, wanted.masks, strict=True) if mask is None]
    documents = [*(pair for beside in made for pair in beside.documents), *paths.documents]
    # What is found of one scan stays only together with the comparison.
    with OutputSet(
        [volume for beside in made for volume in beside.volumes],
        documents,
        source=[path for path in (first, second, *wanted.masks) if path is not None],
        overwrite=overwrite,
    ) as outputs:
        points = []
        for source, mask, name, beside in zip(
            (first, second), wanted.masks, names, found, strict=True
        ):
            if mask is not None:
                points.append(known_time_point(source, mask, name))
                continue
            result = segment_into(
                outputs,
                source,
                beside,
                FileOptions(wanted.model, wanted.options, wanted.point, force=wanted.force),
                progress=progress,
                cancel=cancel,
            )
            if progress is not None:
                progress("write", 1, 1)
            points.append(_found(source, result, name))
        if cancel is not None and cancel():
            raise Cancelled
        comparison = compare_scans(*points, force=wanted.force, cancel=cancel)
        write_change(comparison, paths, outputs, convention=wanted.convention)
        outputs.commit()
    return comparison


def check_pair(first: Path, second: Path) -> None:
    """Raise ``InputError`` if names tell of two people, of one scan, or of the wrong order."""
    if first.resolve() == second.resolve():
        raise InputError(second, "is the first scan again", "Give two scans of one person")
    subjects, sessions = (
        [_entity(path, key) for path in (first, second)] for key in ("sub", "ses")
    )
    if all(subjects) and subjects[0] != subjects[1]:
        raise InputError(
            second,
            f"is of sub-{subjects[1]}, but the first scan is of sub-{subjects[0]}",
            "Give two scans of one person, or use --force",
        )
    before, after = (_ordinal(session) for session in sessions)
    if before is not None and after is not None and before > after:
        raise InputError(
            first,
            f"comes after {second.name} by its session (ses-{sessions[0]}, ses-{sessions[1]})",
            "Give the earlier scan first, or use --force",
        )


def _scan_of(path: Path) -> Path:
    """The T1-weighted scan of a BIDS session's folder; another path as it is."""
    anat = path / "anat"
    if not anat.is_dir():
        return path
    # Hidden ones are none: macOS leaves ._sub-01_T1w.nii.gz on other systems' disks.
    found = sorted(p for p in anat.glob("*_T1w.nii*") if not p.name.startswith("."))
    if len(found) == 1:
        return found[0]
    count = f"{len(found)} T1-weighted scans" if found else "no T1-weighted scan"
    raise InputError(path, f"has {count} (anat/*_T1w.nii.gz)", "Name the file")


def _entity(path: Path, key: str) -> str:
    """A BIDS entity of a path: of the file's name, else of a folder's."""
    for part in reversed(path.parts[-4:]):
        if found := re.search(rf"(?:^|_){key}-([0-9A-Za-z+]+)", part):
            return found[1]
    return ""


def _ordinal(session: str) -> int | None:
    """The number in a session's label ("02", "m12", "followup3"); None if there is none."""
    numbers = re.findall(r"\d+", session)
    return int(numbers[0]) if len(numbers) == 1 else None


def _names(first: Path, second: Path) -> tuple[str, str]:
    # A DICOM folder, often named as the patient is, goes by a checksum.
    names = [default_label(path) for path in (first, second)]
    if names[0] == names[1]:
        return f"{names[0]}_1", f"{names[1]}_2"
    return names[0], names[1]


def known_time_point(
    source: Path,
    mask: Path,
    name: str,
    *,
    to_mni: NDArray[np.float64] | None = None,
    series: str | None = None,
    sha256: str | None = None,
) -> TimePoint:
    """A scan whose lesions are known: every voxel of ``mask`` that is not 0, but for traces that
    resampling leaves.

    ``series``: SeriesInstanceUID, if ``source`` is a DICOM folder that holds several. ``sha256``:
    of the scan, if it is known already.

    Raises ``InputError`` if one cannot be read, if they lie on different grids, or if the mask is a
    soft map or a map of several labels, all of whose voxels above 0 would be lesion.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.images import Volume, write_volume
    >>> from StrokeLesionSegLib.pipeline import known_time_point
    >>> scan = np.random.default_rng(0).random((16, 32, 32), np.float32)
    >>> write_volume("t1.nii.gz", Volume(scan, np.eye(4)))
    >>> write_volume("mask.nii.gz", Volume((scan > 0.999).astype(np.uint8), np.eye(4)))
    >>> known_time_point(Path("t1.nii.gz"), Path("mask.nii.gz"), "first").name
    'first'
    """
    from ..images import read_scan
    from ..lesions import find_lesions
    from ..lesions.scorers.values import drawn_voxels

    scan = read_repaired(source, series).volume
    lesions = read_scan(mask, allow_constant=True).volume
    if not lesions.grid.same_as(scan.grid, 0.1):
        raise InputError(mask, f"is not on the grid of {source.name}", "Give the mask of this scan")
    drawn = drawn_voxels(lesions.array, mask)
    found = find_lesions(drawn, lesions.affine, OperatingPoint(0.5), to_mni=to_mni)
    return TimePoint(name, scan, found, to_mni, sha256 or _checksum(source), _checksum(mask))


def _checksum(path: Path) -> str | None:
    return None if path.is_dir() else scan_sha256(path)


def _found(source: Path, result: Any, name: str) -> TimePoint:
    from .runner import mni_matrix

    volume = read_repaired(source).volume
    to_mni = mni_matrix(result.prediction)
    return TimePoint(name, volume, result.lesion_map, to_mni, _checksum(source))


def _moved(
    point: tuple[float, float, float], matrix: NDArray[np.float64]
) -> tuple[float, float, float]:
    x, y, z = (matrix @ np.array([*point, 1.0]))[:3]
    return float(x), float(y), float(z)


def _covered_ml(side: TimePoint, to_other: NDArray[np.float64], other: Volume) -> dict[int, float]:
    """mL of each lesion that lies in the other scan's field."""
    from ..images.space.rigid import covered

    labels = side.lesion_map.labels
    k, j, i = np.nonzero(labels)
    there = covered(side.volume.grid, to_other, other.grid, np.stack([i, j, k]).astype(float))
    counts = np.bincount(labels[k, j, i], weights=there, minlength=len(side.lesion_map.lesions) + 1)
    voxel_ml = side.volume.grid.voxel_volume_ml
    return {x.label: float(counts[x.label] * voxel_ml) for x in side.lesion_map.lesions if x.keep}
