"""Finding the scans of a cohort: a folder, a BIDS data set, an ATLAS tree, or a list of paths.

One walk finds them all; what the names say (BIDS entities, ATLAS folders) is the business of
``naming``. Symbolic links are followed, since data sets under DataLad consist of them, but never
in a circle.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..file_formats import FORMATS, IMAGES_NOT_READ, image_endings, split_name
from .naming import Entities, dicom_entities_of, entities_of, label, tell_apart

_LISTS = (".txt", ".tsv", ".csv", ".lst")
_NEVER = {"derivatives", "sourcedata", "code", "logs", "@eaDir", "__MACOSX"}

_T1 = {"t1", "t1w", "t1c", "mprage", "spgr", "bravo", "mp2rage"}
_MASKS = {
    *("mask", "masks", "seg", "segmentation", "dseg", "probseg", "label", "labels"),
    *("lesion", "lesions", "lesionsmooth", "probability", "prob", "spread", "uncertainty"),
    *("gt", "truth", "brainmask", "pred", "prediction", "aseg", "aparc", "t1lesion"),
}
# Only words that cannot mean anything else: "pd_03" may be a patient with Parkinson's disease.
_OTHERS = {"flair", "t2", "t2w", "t2star", "t2starw", "pdw", "dwi", "adc", "bold", "swi", "sbref"}


@dataclass(frozen=True)
class FoundScan:
    """One scan of the cohort.

    Attributes
    ----------
    path: absolute path of the file or DICOM folder.
    relative: what it is called in tables and ledger: relative to the input, with ``/``.
    entities: subject, session and so on, distinct within the cohort.
    series: SeriesInstanceUID to take from a DICOM folder that holds several; None takes the one.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort import find_scans
    >>> _ = Path("sub-01_ses-2_T1w.nii.gz").write_bytes(b"")
    >>> found = find_scans(Path()).scans[0]
    >>> found.relative, found.stem
    ('sub-01_ses-2_T1w.nii.gz', 'sub-01_ses-2')
    """

    path: Path
    relative: str
    entities: Entities
    series: str | None = None

    @property
    def stem(self) -> str:
        return self.entities.stem


@dataclass(frozen=True)
class Cohort:
    """``scans`` in the order of their paths, and how many images were ``passed_over``."""

    scans: tuple[FoundScan, ...]
    passed_over: tuple[str, ...]


def find_scans(source: Path, *, leave_out: Path | None = None) -> Cohort:
    """The T1-weighted scans in ``source``.

    Parameters
    ----------
    source: a folder (searched through), a list of paths (.txt, .tsv, .csv, .lst; see
        ``read_list``), or a single scan.
    leave_out: a folder within that is not searched: the output.

    In a folder count: files named ``sub-*_T1w`` (BIDS), other image files whose names say neither
    mask nor another contrast, and folders that hold DICOM files. ``derivatives``, ``sourcedata``
    and ``code`` are left out, unless nothing is found elsewhere; hidden names and results of this
    program always are.

    Raises ``InputError`` if ``source`` is missing or unreadable, or if nothing is found.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort import find_scans
    >>> for name in ("sub-01_T1w.nii.gz", "sub-01_FLAIR.nii.gz"):
    ...     _ = Path(name).write_bytes(b"")
    >>> cohort = find_scans(Path())
    >>> [scan.stem for scan in cohort.scans], cohort.passed_over
    (['sub-01'], ('sub-01_FLAIR.nii.gz',))
    """
    source = Path(os.path.abspath(source))
    if not os.path.lexists(source):
        raise InputError(source, "there is no such file or folder", "Check the path")
    if not source.is_dir():
        if source.name.lower().endswith(_LISTS):
            listed = read_list(source)
            cohort = _cohort(source, [line[:3] for line in listed], [])
            scans = (
                replace(s, series=line[3]) for s, line in zip(cohort.scans, listed, strict=True)
            )
            return Cohort(tuple(scans), cohort.passed_over)
        return _cohort(source, [(source, source.name, None)], [])
    try:
        os.listdir(source)
    except OSError as error:
        raise InputError(
            source, f"cannot be read ({error.strerror or error})", "Ask for read access"
        ) from error
    found, passed_over = _search(source, leave_out, _NEVER)
    if not found:
        found, passed_over = _search(source, leave_out, _NEVER - {"derivatives"})
    return _cohort(source, [(path, _relative(path, source), None) for path in found], passed_over)


def _cohort(
    source: Path, found: list[tuple[Path, str, Entities | None]], passed_over: list[str]
) -> Cohort:
    if not found:
        raise InputError(
            source,
            "holds no T1-weighted scans"
            + (f" ({len(passed_over)} images are something else)" if passed_over else ""),
            "Give a folder with NIfTI, NRRD, MetaImage or DICOM files, a BIDS data set, or a list",
        )
    named = [
        (relative, given or (entities_of if _is_image(path) else dicom_entities_of)(relative))
        for path, relative, given in found
    ]
    scans = [
        FoundScan(path, relative, entities)
        for (path, relative, _), entities in zip(found, tell_apart(named), strict=True)
    ]
    return Cohort(tuple(scans), tuple(passed_over))


def _is_image(path: Path) -> bool:
    """Whether ``path`` is an image file by its name, not a DICOM folder or file."""
    name = path.name.lower()
    return name.endswith((*image_endings(), *IMAGES_NOT_READ)) and not path.is_dir()


def _relative(path: Path, source: Path) -> str:
    return source.name if path == source else path.relative_to(source).as_posix()


def _search(source: Path, leave_out: Path | None, never: set[str]) -> tuple[list[Path], list[str]]:
    found: list[Path] = []
    passed_over: list[str] = []
    left_out = None if leave_out is None else os.path.realpath(leave_out)
    images = image_endings()
    for folder, names in _walk(source, left_out, never):
        dicom = False
        for name in names:
            path = folder / name
            suffix = split_name(path)[1]
            if suffix in images or name.lower().endswith(IMAGES_NOT_READ):
                if is_t1_name(path, suffix):
                    found.append(path)
                else:
                    passed_over.append(_relative(path, source))
            elif not dicom:
                dicom = name.lower().endswith(FORMATS["dicom"].endings) or _is_dicom(path)
        if dicom:
            found.append(folder)
    return sorted(found), sorted(passed_over)


def _walk(top: Path, left_out: str | None, never: set[str]) -> Iterator[tuple[Path, list[str]]]:
    """Folders with the names of their files, sorted; linked folders too, none of them twice."""
    waiting, seen = [top], set()
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen or real == left_out:
            continue
        seen.add(real)
        if folder != top and _is_ours(folder):
            continue
        files, folders = [], []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if not _is_folder(entry):
                        files.append(entry.name)
                    elif entry.name not in never:
                        folders.append(Path(entry.path))
        except OSError:
            continue  # a folder that may not be entered holds nothing for us
        waiting.extend(sorted(folders, reverse=True))
        yield folder, sorted(files)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _is_ours(folder: Path) -> bool:
    """True for a data set that this program has written."""
    try:
        described = json.loads((folder / "dataset_description.json").read_text("utf-8"))
        makers = described.get("GeneratedBy", [])
        return any(maker.get("Name") == "StrokeLesionSeg" for maker in makers)
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def is_t1_name(path: Path, suffix: str) -> bool:
    """Whether an image's name lets it be a T1-weighted scan, and not a mask or another contrast."""
    stem = path.name[: -len(suffix)] if suffix else path.name
    if stem.startswith("sub-") and "_" in stem:
        kind = stem.rsplit("_", 1)[1]
        if "-" not in kind:
            return kind.lower() == "t1w"
    words = [word for word in re.split(r"[^a-z0-9]+", stem.lower()) if word]
    t1 = [n for n, word in enumerate(words) if word in _T1]
    # Only the end of a name tells masks: "lesion_study_07_T1w" is a scan.
    after = words[t1[-1] + 1 :] if t1 else words[-3:]
    if any(word in _MASKS for word in after):
        return False
    return bool(t1) or not any(word in _OTHERS for word in words)


def _is_dicom(path: Path) -> bool:
    try:
        # Only plain files: opening a pipe would wait for ever.
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_list(path: Path) -> list[tuple[Path, str, Entities | None, str | None]]:
    """The scans named in a text file: (absolute path, path as given, entities, DICOM series).

    One path a line, relative ones from the list's own folder; empty lines and lines that begin
    with ``#`` are skipped. Subject, session and SeriesInstanceUID may follow after tabs; what is
    not given is None. A first line that begins with ``path`` is taken as a heading. In ``.csv``
    files commas take the place of tabs.

    Raises ``InputError`` if the list cannot be read, names a scan twice, or has more columns.
    """
    remedy = (
        "Give one path a line, optionally followed by subject, session and DICOM series after tabs"
    )
    try:
        # Names that are not UTF-8 come through as the file system itself treats them.
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror or error})", remedy) from error
    if "\0" in text:
        raise InputError(path, "is not a list of paths but a binary file", remedy)
    separator = "," if path.name.lower().endswith(".csv") else "\t"
    found: list[tuple[Path, str, Entities | None, str | None]] = []
    seen: set[Path] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        cells = [cell.strip() for cell in line.split(separator)]
        if not cells[0] or cells[0].startswith("#") or (number == 1 and cells[0] == "path"):
            continue
        if len(cells) > 4:
            raise InputError(path, f"line {number} has {len(cells)} columns", remedy)
        scan = Path(os.path.abspath(path.parent / Path(cells[0]).expanduser()))
        if scan in seen:
            raise InputError(path, f"line {number} names {cells[0]} again", "Name each scan once")
        seen.add(scan)
        entities = None
        if len(cells) > 1 and cells[1]:
            session = cells[2] if len(cells) > 2 else ""
            entities = Entities(
                label(cells[1].removeprefix("sub-")),
                label(session.removeprefix("ses-")) if session else "",
            )
        series = cells[3] if len(cells) > 3 and cells[3] else None
        found.append((scan, Path(cells[0]).as_posix(), entities, series))
    return found
