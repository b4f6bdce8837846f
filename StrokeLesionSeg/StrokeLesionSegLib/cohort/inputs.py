"""Finding the scans of a cohort: a folder, a BIDS data set, an ATLAS tree, or a list of paths.

One walk finds them all; what the names say (BIDS entities, ATLAS folders) is the business of
``naming``. Symbolic links are followed, since data sets under DataLad consist of them, but never
in a circle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..brief import counted, first_of
from ..errors import InputError, not_there
from ..file_formats import FORMATS, IMAGES_NOT_READ, image_endings, split_name
from .bidsignore import BidsIgnore
from .dicom_study import dicom_scans, told_as
from .image_names import ARCHIVE, derived, kind_of, unread, why_not
from .lists import LIST_ENDINGS, WORKBOOKS, read_list
from .naming import Entities, checksum, dicom_entities_of, entities_of, tell_apart
from .pseudonyms import Pseudonyms

_NEVER = {"derivatives", "sourcedata", "code", "logs", "@eaDir", "__MACOSX"}


@dataclass(frozen=True)
class FoundScan:
    """One scan of the cohort.

    Attributes
    ----------
    path: absolute path of the file or DICOM folder.
    relative: what it is called in tables and ledger: relative to the input, with ``/``; a checksum
        for DICOM and for scans with a pseudonym, whose folders may be called as patients are.
    entities: subject, session and so on, distinct within the cohort.
    place: the path relative to the input; never written, unless ``relative`` is the same.
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
    place: str = ""

    @property
    def stem(self) -> str:
        return self.entities.stem


@dataclass(frozen=True)
class Cohort:
    """``scans`` in the order of their paths, and why each other image was ``left_out``.

    ``left_out``: reasons by the images' names relative to the input; by checksums with pseudonyms.
    ``closed``: folders that cannot be entered, relative to the input; for the terminal alone, as
    they may be called as patients are.
    """

    scans: tuple[FoundScan, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    closed: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the input, a sentence each."""
        return (f"{_closed(self.closed)}.",) if self.closed else ()

    @property
    def passed_over(self) -> tuple[str, ...]:
        """The images that are no scans, sorted."""
        return tuple(sorted(self.left_out))


def find_scans(
    source: Path,
    *,
    leave_out: Path | None = None,
    pseudonyms: Pseudonyms | None = None,
    source_names: bool = False,
) -> Cohort:
    """The T1-weighted scans in ``source``.

    Parameters
    ----------
    source: a folder (searched through), a list of paths (.txt, .tsv, .csv, .lst; see
        ``read_list``), or a single scan.
    leave_out: a folder within that is not searched: the output.
    pseudonyms: what patients are called, by number, name, folder or file.
    source_names: call all scans by their paths, those of DICOM too.

    In a folder count: files named ``sub-*_T1w`` (BIDS), other image files whose names say neither
    mask nor another contrast, and of DICOM studies the T1-weighted series. What a program has made
    of another of the images (tissue maps, bias fields, copies), what ``.bidsignore`` names,
    ``derivatives``, ``sourcedata`` and ``code`` are left out, the last three unless nothing is
    found elsewhere;
    hidden names and results of this program always are.

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
        raise InputError(source, *not_there(source))
    if not source.is_dir():
        if source.name.lower().endswith(LIST_ENDINGS):
            found = [_Found(s.path, s.given, s.entities, s.series) for s in read_list(source)]
            return _cohort(source, found, {}, pseudonyms, source_names)
        if source.name.lower().endswith(WORKBOOKS):
            raise InputError(
                source, "is a workbook, not a text file", "Save it as CSV or as tab-separated text"
            )
        return _cohort(source, [_Found(source, source.name)], {}, pseudonyms, source_names)
    try:
        os.listdir(source)
    except OSError as error:
        raise InputError(
            source, f"cannot be read ({error.strerror or error})", "Ask for read access"
        ) from error
    closed: set[str] = set()
    paths, left_out = _search(source, leave_out, _NEVER, closed)
    if not paths:
        paths, left_out = _search(source, leave_out, _NEVER - {"derivatives"}, closed)
    if pseudonyms is not None and not source_names:
        left_out = {f"image-{checksum(name)}": kind_of(why) for name, why in left_out.items()}
    images = [path for path in paths if is_image(path)]
    series, others = dicom_scans(source, [p for p in paths if not is_image(p)], pseudonyms)
    found = [_Found(path, _relative(path, source)) for path in images]
    found += [_Found(s.path, s.place, s.entities, s.series, s.told) for s in series]
    found.sort(key=lambda f: (f.path, f.series or ""))
    if not found and closed:
        raise InputError(source, _closed(closed), "Ask for read access")
    cohort = _cohort(source, found, {**left_out, **others}, pseudonyms, source_names)
    return replace(cohort, closed=tuple(sorted(closed)))


@dataclass(frozen=True)
class _Found:
    path: Path
    place: str
    entities: Entities | None = None
    series: str | None = None
    told: str = ""


def _cohort(
    source: Path,
    found: list[_Found],
    left_out: Mapping[str, str],
    pseudonyms: Pseudonyms | None,
    source_names: bool,
) -> Cohort:
    if not found:
        raise InputError(
            source,
            "holds no T1-weighted scans"
            + (f" ({_something_else(left_out.values())})" if left_out else ""),
            "Give a folder with NIfTI, NRRD, MetaImage or DICOM files, a BIDS data set, or a list",
        )
    told, named = [], []
    for scan in found:
        image = is_image(scan.path)
        entities = scan.entities or (entities_of if image else dicom_entities_of)(scan.place)
        hidden = not image
        if pseudonyms is not None and scan.entities is None:
            path = Path(scan.place)
            subject = pseudonyms.of(path.name, split_name(path)[0], *path.parts)
            if subject:
                hidden, entities = True, Entities(subject, entities.session, entities.rest)
        name = scan.told or (told_as(scan.place) if hidden else scan.place)
        told.append(scan.place if source_names else name)
        named.append((f"{scan.place} {scan.series or ''}".strip(), entities))
    scans = [
        FoundScan(scan.path, name, entities, scan.series, scan.place)
        for scan, name, entities in zip(found, told, tell_apart(named), strict=True)
    ]
    return Cohort(tuple(scans), dict(sorted(left_out.items())))


def _closed(folders: Collection[str]) -> str:
    """That folders cannot be entered."""
    which = counted(len(folders), "folder")
    return f"{which} of the input cannot be read ({first_of(folders)})"


def _something_else(reasons: Collection[str]) -> str:
    archives = sum(reason == ARCHIVE for reason in reasons)
    told = (
        (len(reasons) - archives, "image", "of another kind"),
        (archives, "archive", "not read"),
    )
    return ", ".join(
        f"{counted(count, what)} {'is' if count == 1 else 'are'} {why}"
        for count, what, why in told
        if count
    )


def is_image(path: Path) -> bool:
    """Whether ``path`` is an image file by its name, not a DICOM folder or file."""
    name = path.name.lower()
    return name.endswith((*image_endings(), *IMAGES_NOT_READ)) and not path.is_dir()


def require_dicom(source: Path, scans: Sequence[FoundScan], options: Sequence[str]) -> None:
    """Raise ``InputError`` if results are wanted as DICOM, by ``options``, and no scan is."""
    if options and all(is_image(scan.path) for scan in scans):
        raise InputError(
            source,
            f"contains no DICOM files, to which the results of {options[0]} have to refer",
            f"Leave out {' and '.join(options)}, or give the folders of DICOM files",
        )


def _relative(path: Path, source: Path) -> str:
    return source.name if path == source else path.relative_to(source).as_posix()


def _search(
    source: Path, leave_out: Path | None, never: set[str], closed: set[str]
) -> tuple[list[Path], dict[str, str]]:
    """Scans, and by the relative names of other images why they are none.

    Folders that cannot be entered are added to ``closed``.
    """
    found: list[Path] = []
    left_out: dict[str, str] = {}
    ignored = BidsIgnore(source)
    images = image_endings()
    avoid = None if leave_out is None else os.path.realpath(leave_out)
    for folder, names in _walk(source, avoid, never, closed):
        dicom = False
        for name in names:
            path = folder / name
            suffix = split_name(path)[1]
            if suffix in images or name.lower().endswith(IMAGES_NOT_READ):
                relative = _relative(path, source)
                reason = "named in .bidsignore" if ignored(relative) else why_not(path, suffix)
                if reason:
                    left_out[relative] = reason
                else:
                    found.append(path)
            elif reason := unread(name, names):
                left_out[_relative(path, source)] = reason
            elif not dicom and not ignored(_relative(path, source)):
                dicom = name.lower().endswith(FORMATS["dicom"].endings) or _is_dicom(path)
        if dicom:
            found.append(folder)
    made = derived(path for path in found if is_image(path))
    left_out.update({_relative(path, source): reason for path, reason in made.items()})
    return sorted(path for path in found if path not in made), left_out


def _walk(
    top: Path, left_out: str | None, never: set[str], closed: set[str]
) -> Iterator[tuple[Path, list[str]]]:
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
            closed.add(_relative(folder, top))
            continue
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


def _is_dicom(path: Path) -> bool:
    try:
        # Only plain files: opening a pipe would wait for ever.
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
