"""DICOM exports in a cohort: one patient is one subject, and of each study the T1 is taken.

Patients are told apart by their headers. Neither these nor the names of folders, which are often
the patients', get into what is written: scans and series go by checksums, or by the pseudonyms of
a table.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from ..errors import InputError
from .naming import Entities, checksum, dicom_entities_of
from .pseudonyms import Pseudonyms

if TYPE_CHECKING:
    from ..images.formats.dicom_series import Series

# Names of files that are no longer are numbers or words that messages are made of.
_NOBODYS = 3


@dataclass(frozen=True)
class DicomScan:
    """A series to segment: ``path`` of its folder, its UID (None takes what there is), ``told``.

    ``told`` is what tables call it; ``place`` its folder relative to the input.
    """

    path: Path
    series: str | None
    told: str
    place: str
    entities: Entities


@dataclass
class _Part:
    """One series, with the folders that it lies in."""

    uid: str
    series: Series
    folders: list[Path]
    place: str

    @property
    def study(self) -> str:
        return str(self.series.facts["StudyInstanceUID"])

    @property
    def person(self) -> tuple[str, ...]:
        return self.series.patient[:3]

    @property
    def when(self) -> tuple[str, ...]:
        return (*self.series.patient[3:5], self.study)


@dataclass
class _FoundSeries:
    scans: list[DicomScan] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def dicom_scans(
    source: Path, folders: Sequence[Path], pseudonyms: Pseudonyms | None = None
) -> tuple[list[DicomScan], dict[str, str]]:
    """The T1-weighted series in ``folders`` below ``source``, and why each other one is left out.

    A study of which nothing tells which series is meant gives a scan for each, as runs. Folders
    that cannot be read are scans, too: they fail by themselves, with the reason.
    """
    found = _FoundSeries()
    parts: list[_Part] = []
    for folder in folders:
        parts += _parts_in(source, folder, found)
    parts = _across_folders(parts)
    patients = _patients(parts)
    for patient in patients:
        _one_patient(source, patient, patients, pseudonyms, found)
    return found.scans, found.left_out


def _relative(source: Path, path: Path) -> str:
    return source.name if path == source else path.relative_to(source).as_posix()


def told_as(place: str, uid: str = "") -> str:
    """What a DICOM scan is called where its folder must not be named."""
    return f"dicom-{checksum(f'{place} {uid}'.strip())}"


def is_told(name: str) -> bool:
    """Whether ``name`` is one of ``told_as``, and not that of a folder or file."""
    return re.fullmatch(r"dicom-[0-9a-f]{8}", name) is not None


def without_file_names(text: str, files: Iterable[Path]) -> str:
    """``text`` with DICOM ``files`` by number: they may be called as the patient is, too."""
    for number, file in enumerate(files, start=1):
        if len(file.name) > _NOBODYS and file.name in text:
            text = re.sub(rf"(?<![\w.]){re.escape(file.name)}(?!\w)", f"file {number}", text)
    return text


def _parts_in(source: Path, folder: Path, found: _FoundSeries) -> list[_Part]:
    from ..images.formats.dicom import NoMrImages, collect
    from ..images.formats.dicom_choice import joined

    place = _relative(source, folder)
    try:
        files = [Path(e.path) for e in os.scandir(folder) if not e.name.startswith(".")]
        series = collect(folder, sorted(f for f in files if not f.is_dir()))
    except NoMrImages as error:
        found.left_out[told_as(place)] = error.cause
        return []
    except (InputError, OSError):
        entities = dicom_entities_of(place)
        found.scans.append(DicomScan(folder, None, told_as(place), place, entities))
        return []
    everything = joined(sorted(series.values(), key=lambda s: (s.uid, s.kind)))
    if len(everything) == 1 < len(series):
        return [_Part("", everything[0], [folder], place)]
    # Phase images of a series with magnitude images go with these.
    chosen = {s.uid: s for s in reversed(everything)}
    return [_Part(uid, s, [folder], place) for uid, s in chosen.items()]


def _across_folders(parts: list[_Part]) -> list[_Part]:
    """Series that an export has spread over several folders are put together again."""
    groups: dict[tuple[str, ...], list[_Part]] = defaultdict(list)
    for number, part in enumerate(parts):
        key = (part.uid, part.study) if part.uid else (str(number),)
        groups[key].append(part)
    whole: list[_Part] = []
    for group in (people for same in groups.values() for people in _by_person(same)):
        images = {
            (s.uid, None if s.position is None else tuple(s.position)): s
            for part in group
            for s in part.series.slices
        }
        places = {position for _, position in images}
        if len(group) == 1 or len(places) < len(images):
            whole += group  # with cut UIDs these may be several people's
            continue
        first = group[0]
        people = set().union(*(part.series.people for part in group))
        series = replace(first.series, slices=list(images.values()), people=people)
        folders = [folder for part in group for folder in part.folders]
        whole.append(_Part(first.uid, series, folders, first.place))
    return whole


def _by_person(parts: list[_Part]) -> list[list[_Part]]:
    """The parts of one series by patient. What a de-identification has emptied in some of them
    tells nobody apart; the part of which most is known is then the first."""
    from ..images.formats.dicom_series import NOBODY

    people: dict[tuple[str, ...], list[_Part]] = defaultdict(list)
    for part in parts:
        people[tuple("" if NOBODY.match(told) else told for told in part.person)].append(part)
    if all(len(set(told) - {""}) < 2 for told in zip(*people, strict=True)):
        known = sorted(people, key=lambda person: person.count(""))
        return [[part for person in known for part in people[person]]]
    return list(people.values())


def _patients(parts: list[_Part]) -> list[list[_Part]]:
    """Series by patient.

    Equal headers are one patient's within a study and within a folder of the input; across these
    an identifier and a birth date have to agree, since "001" is somebody everywhere.
    """
    from ..images.formats.dicom_series import NOBODY

    parent = list(range(len(parts)))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    seen: dict[tuple[str, ...], int] = {}
    for n, part in enumerate(parts):
        identifier, _, born = part.person
        keys = [("study", part.study, *part.person)] if part.study else []
        if not NOBODY.match(identifier):
            keys.append(("folder", PurePath(part.place).parts[0], *part.person))
            if born:
                keys.append(("born", *part.person))
        for key in keys:
            parent[root(n)] = root(seen.setdefault(key, n))
    groups: dict[int, list[_Part]] = defaultdict(list)
    for n, part in enumerate(parts):
        groups[root(n)].append(part)
    return list(groups.values())


def _one_patient(
    source: Path,
    patient: list[_Part],
    patients: list[list[_Part]],
    pseudonyms: Pseudonyms | None,
    found: _FoundSeries,
) -> None:
    studies: dict[str, list[_Part]] = defaultdict(list)
    for part in sorted(patient, key=lambda p: (p.when, p.place, p.uid)):
        studies[part.study].append(part)
    chosen = {study: _chosen(parts) for study, parts in studies.items()}
    with_scan = [study for study, (left, _) in chosen.items() if left]
    whole = [part for left, _ in chosen.values() for part in left]
    named = _name(whole or patient, patients, pseudonyms)
    for study, (left, reasons) in chosen.items():
        for run, part in enumerate(left, start=1):
            entities = named
            if len(with_scan) > 1 and not named.session:
                entities = replace(entities, session=str(with_scan.index(study) + 1))
            if len(left) > 1:
                rest = [pair for pair in entities.rest if pair[0] != "run"]
                entities = replace(entities, rest=tuple(sorted((*rest, ("run", str(run))))))
            path = part.folders[0]
            if len(part.folders) > 1:
                path = Path(os.path.commonpath(part.folders))
            told = told_as(part.place, part.uid)
            found.scans.append(DicomScan(path, part.uid or None, told, part.place, entities))
        for part in studies[study]:
            if part not in left:
                name = str(part.series.facts.get("SeriesDescription") or "no description")
                told = f'sub-{named.subject}: "{name}" ({told_as(part.place, part.uid)})'
                why = reasons.get(part.uid, "another one is taken")
                files = sorted({image.file for image in part.series.slices})
                found.left_out[told] = without_file_names(why, files)


def _chosen(parts: list[_Part]) -> tuple[list[_Part], dict[str, str]]:
    """The series of a study to segment, and why not the others."""
    from ..images.formats.dicom_choice import candidates, facts_of, usable_series
    from ..images.formats.sequence import other_kind, says_t1

    usable, reasons = usable_series([part.series for part in parts])
    left, why = candidates(usable)
    reasons |= why
    if not left:
        # What calls itself T1 and is of no use has failed; all else is no candidate.
        left = [
            part.series
            for part in parts
            if part.series not in usable
            and not part.series.kind
            and says_t1(facts_of(part.series))
            and other_kind(facts_of(part.series)) is None
        ]
    return [part for part in parts if any(part.series is s for s in left)], reasons


def _name(
    parts: list[_Part], patients: list[list[_Part]], pseudonyms: Pseudonyms | None
) -> Entities:
    """Whose the series are: by the table, by BIDS and ATLAS folders, or by a checksum."""
    first = parts[0]
    identifier, name, _ = first.person
    if pseudonyms is not None:
        places = [piece for part in parts for piece in PurePath(part.place).parts]
        if subject := pseudonyms.of(identifier, name, *places):
            return Entities(subject)
    entities = dicom_entities_of(first.place)
    if not entities.subject.startswith("dicom"):
        return entities
    sharing = sum(any(part.place == first.place for part in other) for other in patients)
    unique = first.place if sharing == 1 else " ".join((first.place, *first.person, first.study))
    return Entities(f"dicom{checksum(unique)}")
