"""The images of a DICOM series, what is no magnitude image, and whether slices are missing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...brief import brief_repr, counted

if TYPE_CHECKING:
    import pydicom

#: What ``sequence.facts_from`` reads of a header.
SEQUENCE_KEYWORDS = (
    "ImageType", "ComplexImageComponent", "AcquisitionContrast", "ScanningSequence", "EchoTime",
    "RepetitionTime", "InversionTime", "ProtocolName", "SeriesDescription", "Modality",
    "ContrastBolusAgent",
)  # fmt: skip
#: Of whom and of when a series is. They tell people apart, and go nowhere else.
PATIENT_KEYWORDS = ("PatientID", "PatientName", "PatientBirthDate", "StudyDate", "StudyTime")
#: Of whom nothing is known: these identifiers are everybody's.
NOBODY = re.compile(r"(anon\w*|unknown|none|test|patient|deidentified|removed|x+|0*|-*)\Z", re.I)
_COMPONENTS = {
    "P": "phase image", "PHASE": "phase image", "PHASE MAP": "phase image",
    "PHASE_MAP": "phase image", "R": "real part", "REAL": "real part", "I": "imaginary part",
    "IMAGINARY": "imaginary part",
}  # fmt: skip
#: ComplexImageComponent of what is no magnitude image.
COMPONENT_OF = {"phase image": "PHASE", "real part": "REAL", "imaginary part": "IMAGINARY"}
#: GE calls phase images ORIGINAL, PRIMARY, OTHER and says what they are in its private group: the
#: block's owner, and the element for magnitude (0), phase, real part and imaginary part.
GE_COMPONENT = (0x00430010, 0x0043102F)
_GE_OWNER = "GEMS_PARM_01"
_GE_KINDS = {1: "phase image", 2: "real part", 3: "imaginary part"}
# Slices this much farther apart than they are thick were not acquired so: gaps are a fifth or so.
_APART = 1.8


@dataclass(frozen=True, eq=False)
class SeriesImage:
    """One image: a classic file, or a frame of an enhanced one."""

    file: Path
    frame: int  # 0-based; 0 for classic files
    uid: str
    rows: int
    columns: int
    position: NDArray[np.float64] | None  # LPS mm of the first pixel's centre
    orientation: NDArray[np.float64] | None  # six direction cosines, LPS
    spacing: tuple[float, float] | None  # between rows, between columns
    slope: float = 1.0
    intercept: float = 0.0
    number: int | None = None  # of the instance
    pitch: float | None = None  # SpacingBetweenSlices, or else SliceThickness, in mm
    echo_ms: float | None = None  # echo time

    __repr__ = brief_repr


@dataclass
class Series:
    """The images of one series, as far as their headers tell."""

    uid: str
    facts: dict[str, Any]
    slices: list[SeriesImage] = field(default_factory=list)
    enhanced: bool = False
    refused: str = ""  # why its pixels cannot be used at all
    kind: str = ""  # "phase image" and so on, for what is no magnitude image
    notes: list[str] = field(default_factory=list)
    promised: int = 0  # images that the header says there are
    patient: tuple[str, ...] = ()  # of the first image, by PATIENT_KEYWORDS
    people: set[tuple[str, ...]] = field(default_factory=set)  # PatientID and name of all images

    @property
    def count_of_kind(self) -> str:
        """``1 phase image``, ``2 phase images``."""
        return counted(len(self.slices), self.kind or "image")

    def describe(self) -> str:
        name = self.facts.get("SeriesDescription") or "no description"
        kind = f", {self.kind}s" if self.kind else ""
        return f'"{name}" ({counted(len(self.slices), "image")}{kind}, UID {self.uid})'


def other_component(image_type: Iterable[str] | str) -> str:
    """By DICOM's ImageType: "phase image", "real part" or "imaginary part"; "" for magnitude.

    The first two values say original or derived, primary or secondary, and never the component.

    Examples
    --------
    >>> other_component(["ORIGINAL", "PRIMARY", "P", "ND"]), other_component("ORIGINAL")
    ('phase image', '')
    """
    values = [image_type] if isinstance(image_type, str) else [str(v) for v in image_type]
    later = [v.strip().upper() for v in values[2:]]
    if "M" in later:
        return ""
    return next((_COMPONENTS[v] for v in later if v in _COMPONENTS), "")


def ge_component(header: pydicom.Dataset) -> str:
    """The same by GE's private element; "" for magnitude and for other scanners."""
    owner, told = (header.get(tag) for tag in GE_COMPONENT)
    if owner is None or told is None or str(owner.value).strip() != _GE_OWNER:
        return ""
    value = told.value
    if isinstance(value, bytes):  # pydicom may not know the element's type
        value = int.from_bytes(value[:2], "little")
    return _GE_KINDS.get(value, "") if isinstance(value, int) else ""


def frame_component(groups: Sequence[pydicom.Dataset]) -> str:
    """The same of a frame, by its functional groups: the frame's own, and then the shared ones."""
    for group in groups:
        for item in group.get("MRImageFrameTypeSequence") or ():
            component = str(item.get("ComplexImageComponent") or "").strip().upper()
            return _COMPONENTS.get(component) or other_component(item.get("FrameType") or ())
    return ""


def timing_of(groups: Sequence[pydicom.Dataset]) -> dict[str, float]:
    """EchoTime and RepetitionTime in ms of a frame, as far as its functional groups say."""
    found: dict[str, float] = {}
    for name, sequence, keyword in (
        ("EchoTime", "MREchoSequence", "EffectiveEchoTime"),
        ("RepetitionTime", "MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    ):
        for group in groups:
            for item in group.get(sequence) or ():
                with contextlib.suppress(TypeError, ValueError):  # not there, or no number
                    found.setdefault(name, float(item.get(keyword)))
    return found


def several_people(entry: Series) -> str:
    """Why the images of a series are those of several patients; empty if they are not.

    Images without an identifier or a name, as a de-identification may leave some, are anybody's.
    """
    identifiers, names = (len(_told(entry, n)) for n in (0, 1))
    count = identifiers if identifiers > 1 else names
    if count < 2 or (count == names and identifiers == 1):
        return ""
    return f"its images bear {'identifiers' if identifiers > 1 else 'names'} of {count} patients"


def patients_of(series: Sequence[Series]) -> set[str]:
    """The identifiers of the patients of several series, or where nobody has one their names."""
    identifiers = {identifier for s in series for identifier in s.patient[:1]} - {""}
    return identifiers or set().union(*(_told(s, 1) for s in series))


def several_names(entry: Series) -> list[str]:
    """A warning if images of one patient, by the identifier, bear several names."""
    names = len(_told(entry, 1))
    if names < 2 or len(_told(entry, 0)) != 1:
        return []
    return [f"the images bear one patient's identifier, but {names} names; are all of one patient?"]


def _told(entry: Series, n: int) -> set[str]:
    """The different identifiers (``n`` 0) or names (1) of the images."""
    told = {" ".join(re.split(r"[\s^]+", person[n].casefold())).strip() for person in entry.people}
    return {name for name in told if not NOBODY.match(name)}


def cut_short(entry: Series, short: Sequence[Path]) -> list[str]:
    """A warning if files beside those of a series, called as they are, are too ``short`` to hold
    anything: at either end of a stack no gap would tell that they were slices."""
    kinds = {(s.file.parent, s.file.suffix.lower()) for s in entry.slices}
    count = sum((file.parent, file.suffix.lower()) in kinds for file in short)
    if not count:
        return []
    files = "1 file beside its images is" if count == 1 else f"{count} files beside its images are"
    return [f"{files} empty or cut short; slices may be missing"]


def missing_slices(
    numbers: Sequence[int | None], pitches: Sequence[float | None], step_mm: float
) -> list[str]:
    """Warnings where the images say that others lie between them.

    ``numbers``: of the instances, in the order of their places. ``pitches``: distance between
    slices or their thickness in mm, as the header has it. ``step_mm``: between their places.
    """
    known = [p for p in pitches if p is not None]
    thin = bool(known) and step_mm > _APART * float(np.median(known))
    given = [n for n in numbers if n is not None]
    steps = np.diff(given) if len(given) == len(numbers) and len(numbers) > 1 else np.zeros(0)
    skipping = bool(steps.size) and int(np.median(np.abs(steps))) > 1 and np.ptp(steps) == 0
    if skipping and not known:
        told = ", ".join(map(str, given[:3]))
        return [
            f"slices may be missing: the images are numbered {told} ..., and no header says how "
            "thick they are"
        ]
    if not thin:
        return []
    why = f"the slices lie {step_mm:.3g} mm apart, but are {float(np.median(known)):.3g} mm thick"
    if skipping:
        why += f" and numbered {given[0]}, {given[1]}, {given[2]} ..." if len(given) > 2 else ""
    return [f"slices seem to be missing: {why}"]
