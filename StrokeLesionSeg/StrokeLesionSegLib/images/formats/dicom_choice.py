"""Which series of a folder is the T1-weighted scan, and what is said of the choice.

MR images only. A series is usable if it has at least eight slices, all of one orientation and size.
Of several usable ones those that their headers call something else are left out; then one that is
called T1 goes before others, one without contrast agent before one with it, an original before what
was made of it, a fine one before a coarse one. If that leaves several, the caller has to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import InputError
from .dicom_pixels import EXPORT as _EXPORT
from .dicom_series import Series, patients_of, several_people
from .sequence import SequenceFacts, facts_from, has_agent, other_kind, says_t1

MIN_SLICES = 8
# Voxels this much larger than the smallest make a series a coarse one.
_COARSE = 1.6
# More series than this are not listed in a message.
_LISTED = 6


def problem_of(entry: Series) -> str:
    """Why a series is no stack of parallel slices of one patient and size; empty if it is."""
    if problem := entry.refused or several_people(entry):
        return problem
    first = entry.slices[0]
    for s in entry.slices:
        if s.position is None or s.orientation is None or s.spacing is None:
            return f"an image has no position, orientation or pixel spacing ({s.file.name})"
        if min(s.rows, s.columns) < 1 or min(s.spacing) <= 0:
            return f"an image has no size or no pixel spacing ({s.file.name})"
    if len({(s.rows, s.columns) for s in entry.slices}) > 1:
        sizes = sorted({f"{s.columns} x {s.rows}" for s in entry.slices})
        return f"its images differ in size ({', '.join(sizes)})"
    assert first.orientation is not None
    for s in entry.slices:
        assert s.orientation is not None
        assert s.spacing is not None
        assert first.spacing is not None
        if np.abs(s.orientation - first.orientation).max() > 1e-3:
            return _orientations(entry)
        if np.abs(np.subtract(s.spacing, first.spacing)).max() > 1e-3:
            return "its images differ in pixel spacing"
    return ""


def _orientations(entry: Series) -> str:
    """How many images lie in which orientation, as of a scan and what was reformatted from it."""
    counts: dict[tuple[float, ...], int] = {}
    for s in entry.slices:
        assert s.orientation is not None
        key = tuple(np.round(s.orientation, 2) + 0.0)
        counts[key] = counts.get(key, 0) + 1
    if len(counts) < 2:
        return "its images differ in orientation"
    told = ", ".join(map(str, sorted(counts.values(), reverse=True)[:_LISTED]))
    return f"its images differ in orientation ({told} images in {len(counts)} orientations)"


def candidates(usable: Sequence[Series]) -> tuple[list[Series], dict[str, str]]:
    """The series that may be the T1-weighted scan, and by UID why each other one is not.

    More than one is left only if nothing tells which.
    """
    reasons: dict[str, str] = {}
    plain: list[Series] = []
    unsure: list[Series] = []
    for series in usable:
        other = other_kind(facts_of(series))
        if other is None:
            plain.append(series)
            continue
        reasons[series.uid] = f"{other.kind} ({other.reason})"
        if not other.certain:
            unsure.append(series)
    if not plain:
        plain = unsure
        for series in unsure:
            del reasons[series.uid]
    for rule, reason in _RULES:
        kept = [series for series in plain if rule(series, plain)]
        if kept:
            reasons |= {series.uid: reason for series in plain if series not in kept}
            plain = kept
    return plain, reasons


def facts_of(series: Series) -> SequenceFacts:
    """How a series was made."""
    return facts_from(series.facts["sequence"], seconds=False)


def _original(series: Series) -> bool:
    return "DERIVED" not in facts_of(series).image_type[:1]


def _voxel(series: Series) -> float:
    first = series.slices[0]
    spacing = first.spacing or (1.0, 1.0)
    return spacing[0] * spacing[1] * _pitch(series)


def _pitch(series: Series) -> float:
    """Distance of the slices in mm, whatever the headers say of it."""
    places = [s.position for s in series.slices if s.position is not None]
    if len(places) < 2:
        return 1.0
    array = np.array(places)
    return float(np.linalg.norm(array.max(axis=0) - array.min(axis=0))) / (len(places) - 1)


_Rule = Callable[[Series, Sequence[Series]], bool]
_RULES: tuple[tuple[_Rule, str], ...] = (
    (lambda s, among: says_t1(facts_of(s)), "another one is called T1-weighted"),
    (lambda s, among: not has_agent(facts_of(s)), "made after a contrast agent was given"),
    (lambda s, among: _original(s), "made from another series"),
    (
        lambda s, among: _voxel(s) <= _COARSE * min(_voxel(other) for other in among),
        "coarser than another one",
    ),
)


def usable_series(everything: Sequence[Series]) -> tuple[list[Series], dict[str, str]]:
    """Those of a folder's series that can be stacked, and by UID why each other one cannot."""
    usable: list[Series] = []
    reasons: dict[str, str] = {}
    for series in everything:
        if len(series.slices) < MIN_SLICES:
            count = len(series.slices)
            reasons[series.uid] = f"{count} image{'s' * (count > 1)} only"
        elif problem := problem_of(series):
            reasons[series.uid] = problem
        else:
            usable.append(series)
    if any(not series.kind for series in usable):
        reasons |= {s.uid: f"{s.kind}s" for s in usable if s.kind and s.uid not in reasons}
        usable = [series for series in usable if not series.kind]
    return usable, reasons


def choose(path: Path, found: Mapping[str, Series], series: str | None) -> tuple[Series, list[str]]:
    """The series to take, and what is to be said of the choice.

    Raises ``InputError`` if none can be taken, or if it is not clear which.
    """
    everything = joined(sorted(found.values(), key=lambda s: (s.uid, s.kind)))
    if series is not None:
        chosen = next((s for s in everything if s.uid == series), None)
        if chosen is None:
            raise InputError(
                path,
                f"there is no series {series}",
                f"Pass --series with one of: {_listing(everything)}",
            )
        problem = problem_of(chosen)
        if len(chosen.slices) < MIN_SLICES:
            problem = f"it has fewer than {MIN_SLICES} images"
        if problem:
            raise InputError(path, f"series {chosen.describe()}: {problem}", _EXPORT)
        return chosen, []
    if all(len(s.slices) < MIN_SLICES for s in everything):
        raise InputError(
            path,
            f"no MR series has {MIN_SLICES} or more slices: {_listing(everything)}",
            "Give the folder of the whole T1-weighted series",
        )
    usable, why = usable_series(everything)
    if not usable:
        long = [s for s in everything if len(s.slices) >= MIN_SLICES]
        reasons = "; ".join(f"{s.describe()}: {problem_of(s)}" for s in long[:_LISTED])
        raise InputError(path, f"contains no usable series: {reasons}", _EXPORT)
    people = patients_of(usable)
    if len(people) > 1:
        raise InputError(
            path,
            f"contains series of {len(people)} patients",
            "Give the folder of one of them, or use the command batch",
        )
    if len(usable) == 1:
        return usable[0], []
    left, others = candidates(usable)
    if len(left) > 1:
        raise InputError(
            path,
            f"contains {len(left)} series that may be the T1-weighted scan: {_listing(left)}",
            "Choose one with --series UID",
        )
    if not left:
        told = "; ".join(f"{s.describe()}: {others[s.uid]}" for s in usable[:_LISTED])
        raise InputError(
            path, f"contains no T1-weighted series: {told}", "Choose one with --series UID"
        )
    more = {**why, **others}
    named = [f"{s.describe()}: {more[s.uid]}" for s in everything if s.uid in more]
    rest = "; ".join(named[:_LISTED]) + ("; ..." if len(named) > _LISTED else "")
    note = f"{left[0].describe()} is taken of {len(everything)} series (left out: {rest})"
    return left[0], [note]


def _listing(series: Sequence[Series]) -> str:
    """The series in words, not more than a line holds."""
    more = len(series) - _LISTED
    text = "; ".join(s.describe() for s in series[:_LISTED])
    return text + (f"; and {more} more" if more > 0 else "")


def joined(series: Sequence[Series]) -> list[Series]:
    """``series``, those of one scan put together if every image bears a series UID of its own.

    Study, description and frame of reference tell what is one scan; it bears the first UID.
    """
    if any(len(s.slices) != 1 or s.enhanced for s in series):
        return list(series)
    names = ("StudyInstanceUID", "SeriesDescription", "FrameOfReferenceUID")
    scans: dict[tuple[str, ...], list[Series]] = {}
    for s in series:
        scans.setdefault((s.kind, *(str(s.facts[name]) for name in names)), []).append(s)
    found: list[Series] = []
    for single in scans.values():
        people = set().union(*(s.people for s in single))
        whole = replace(single[0], slices=[s.slices[0] for s in single], people=people, notes=[
            f"each of the {len(single)} images has a series UID of its own; taken as one series"
        ])  # fmt: skip
        # What is said of images of several patients is not that each is too short a series.
        sound = several_people(whole) or not problem_of(whole)
        found += [whole] if len(single) >= MIN_SLICES and sound else single
    return found


def images_left_out(chosen: Series, found: Mapping[str, Series]) -> list[str]:
    """What of the same series is not in the scan, and how many images are said to be missing."""
    notes = [
        f"{s.count_of_kind} of the same series {'is' if len(s.slices) == 1 else 'are'} left out"
        for s in found.values()
        if s.uid == chosen.uid and s.kind != chosen.kind and s.kind
    ]
    if not chosen.enhanced and chosen.promised > len(chosen.slices):
        notes.append(
            f"the header speaks of {chosen.promised} images, {len(chosen.slices)} are here"
        )
    return notes
