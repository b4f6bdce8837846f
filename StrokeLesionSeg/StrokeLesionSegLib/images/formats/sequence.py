"""What a scan's metadata say about the kind of image it is: from DICOM elements or BIDS fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Words of names and descriptions that T1-weighted scans bear.
T1_WORDS = frozenset(
    ("t1", "t1w", "t1c", "t1wc", "t1ce", "t1gd", "mprage", "rage", "mp2rage", "spgr", "fspgr",
     "bravo", "unit1")
)  # fmt: skip
#: Words that only scans of another kind bear, and what that kind is.
OTHER_WORDS = {
    **dict.fromkeys(("flair", "darkfluid"), "FLAIR"),
    **dict.fromkeys(("t2", "t2w", "t2tse", "ciss", "fiesta", "stir"), "T2-weighted"),
    **dict.fromkeys(("t2star", "t2starw", "t2s", "swi", "swan", "swip", "gre2d"), "T2*-weighted"),
    **dict.fromkeys(("pd", "pdw"), "proton-density-weighted"),
    **dict.fromkeys(
        ("dwi", "dti", "adc", "tracew", "ep2d", "epi2d", "diff", "diffusion"), "diffusion-weighted"
    ),
    **dict.fromkeys(("bold", "fmri", "sbref", "asl", "pcasl", "perf", "pwi", "dsc"), "functional"),
    **dict.fromkeys(("tof", "mra", "angio", "pcmra", "mip"), "an angiogram"),
    **dict.fromkeys(("localizer", "localiser", "scout", "survey", "loc"), "a localizer"),
    **dict.fromkeys(("fieldmap", "b0map", "b1map", "fmap"), "a field map"),
    **dict.fromkeys(("ct", "cta", "cct"), "CT"),
    **dict.fromkeys(("pet", "suv"), "PET"),
}
# They may be somebody's initials, Parkinson's disease or the second time point.
_MAY_MEAN_ELSE = {"t2", "pd", "ct", "loc", "diff", "perf", "mip", "rage"}

_PHASE = {"P", "PHASE", "PHASE MAP", "PHASE_MAP"}
_COMPLEX = {"R": "real part", "REAL": "real part", "I": "imaginary part",
            "IMAGINARY": "imaginary part"}  # fmt: skip
_DERIVED_MAPS = {
    "ADC": "a diffusion map", "TRACEW": "diffusion-weighted", "FA": "a diffusion map",
    "DIFFUSION": "diffusion-weighted", "PERFUSION": "a perfusion map", "ASL": "a perfusion map",
    "PROJECTION IMAGE": "a projection", "MIP": "a projection", "MAX_IP": "a projection",
    "MINIP": "a projection", "SUBTRACTION": "a difference of two scans", "FMRI": "functional",
    "T1 MAP": "a T1 map", "T2 MAP": "a T2 map", "FIELD_MAP": "a field map",
    "SCREEN SAVE": "a screen shot", "LOCALIZER": "a localizer",
}  # fmt: skip
# Enhanced MR states the contrast itself (PS3.3 C.8.13.3.1.4).
_ACQUISITION = {
    "T2": "T2-weighted", "T2_STAR": "T2*-weighted", "PROTON_DENSITY": "proton-density-weighted",
    "DIFFUSION": "diffusion-weighted", "FLUID_ATTENUATED": "FLAIR",
    "FLOW_ENCODED": "an angiogram",
    "PERFUSION": "a perfusion map", "TAGGING": "tagged", "STIR": "T2-weighted",
    "TOF": "an angiogram",
}  # fmt: skip

_AGENTS = re.compile(
    r"(?<![a-z])(gad\w*|gd|post|contrast|ce|km|dotarem|magnevist|gadovist)(?![a-z])", re.IGNORECASE
)

# No T1-weighted sequence waits this long for its echo; those for T2 and FLAIR wait 80 ms and more.
_LONG_ECHO_MS, _LATE_ECHO_MS = 60.0, 35.0
# Spin echoes of T1 weighting repeat within .4 to .8 s (3 s with inversion).
_LONG_REPETITION_MS = 1800.0


@dataclass(frozen=True)
class SequenceFacts:
    """What is known of how a scan was made; empty or None what is not. Nothing names the patient.

    Attributes
    ----------
    description: of series or protocol. image_type, scanning_sequence: as in DICOM, upper case.
    component: magnitude, phase and so on, of enhanced files. contrast: acquisition contrast of
    enhanced files. echo_ms, repetition_ms, inversion_ms: times. agent: contrast agent.
    modality: "MR" or another.
    """

    description: str = ""
    image_type: tuple[str, ...] = ()
    scanning_sequence: tuple[str, ...] = ()
    component: str = ""
    contrast: str = ""
    echo_ms: float | None = None
    repetition_ms: float | None = None
    inversion_ms: float | None = None
    agent: str = ""
    modality: str = ""


@dataclass(frozen=True)
class OtherKind:
    """Why a scan is not T1-weighted: what it is, by what; ``certain`` if nothing speaks for T1."""

    kind: str
    reason: str
    certain: bool


def facts_from(given: Mapping[str, Any], *, seconds: bool) -> SequenceFacts:
    """The facts in a mapping by DICOM keyword; ``seconds`` if times are so (BIDS), else ms."""

    def number(keyword: str) -> float | None:
        value = given.get(keyword)
        value = value[0] if isinstance(value, list | tuple) and value else value
        try:
            found = float(str(value).replace(",", "."))
        except ValueError:
            return None
        if not 0 < found < 1e6:
            return None
        # Some converters write milliseconds all the same; no echo comes after a second.
        scale = 1000.0 if seconds and found < (1.0 if keyword == "EchoTime" else 30.0) else 1.0
        return found * scale

    def plain(text: str) -> str:
        # Findings that quote it are one line, whatever a header holds.
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())

    def words(keyword: str) -> tuple[str, ...]:
        value = given.get(keyword)
        if value is None or isinstance(value, Mapping):
            return ()
        texts = str(value).replace("\\", "_").split("_") if isinstance(value, str) else value
        try:
            return tuple(plain(str(text)).upper() for text in texts if plain(str(text)))
        except TypeError:
            return ()

    def text(*keywords: str) -> str:
        values = (given.get(keyword) for keyword in keywords)
        return " ".join(plain(v) for v in values if isinstance(v, str) and plain(v))[:200]

    return SequenceFacts(
        text("SeriesDescription", "ProtocolName"),
        words("ImageType"),
        words("ScanningSequence"),
        text("ComplexImageComponent").upper(),
        text("AcquisitionContrast").upper(),
        number("EchoTime"),
        number("RepetitionTime"),
        number("InversionTime"),
        text("ContrastBolusAgent", "ContrastBolusIngredient"),
        text("Modality").upper(),
    )


def words_of(text: str) -> list[str]:
    """The words of a name or description in lower case, scanners' prefixes left out."""
    found = re.findall(r"[a-z0-9*]+", text.lower().replace("t2*", "t2star"))
    # Philips writes sT1W_3D_TFE and eT2W; a flow-compensated GE one is fT2.
    return [re.sub(r"^[sefq](?=t[12])", "", word) for word in found]


def other_word(text: str, *, certain: bool = False) -> tuple[str, str] | None:
    """(word, kind) in a name that says another contrast and nowhere T1; None if there is none.

    ``certain`` leaves out words that may mean something else.
    """
    words = words_of(text)
    if any(word in T1_WORDS for word in words):
        return None
    # "T2 FLAIR" is a FLAIR.
    for word in sorted(words, key=lambda w: OTHER_WORDS.get(w) != "FLAIR"):
        if word in OTHER_WORDS and not (certain and word in _MAY_MEAN_ELSE):
            return word, OTHER_WORDS[word]
    return None


def has_agent(facts: SequenceFacts) -> bool:
    """Whether a contrast agent was given before the scan, by its element or its name."""
    given = facts.agent.strip().upper() not in ("", "NONE", "NO", "N", "0", "NA", "N/A")
    return given or bool(_AGENTS.search(facts.description))


def says_t1(facts: SequenceFacts) -> bool:
    """Whether the description names a T1-weighted sequence."""
    return any(word in T1_WORDS for word in words_of(facts.description))


def other_kind(facts: SequenceFacts) -> OtherKind | None:
    """What the metadata say a scan is, if that is no T1-weighted magnitude image; else None."""
    if facts.modality not in ("", "MR"):
        return OtherKind(facts.modality, f"its modality is {facts.modality}", True)
    if found := _not_magnitude(facts):
        return found
    named = other_word(facts.description)
    echo, repetition = facts.echo_ms, facts.repetition_ms
    short = echo is not None and echo < 15 and (repetition is None or repetition < 3000)
    if echo is not None and echo >= _LONG_ECHO_MS:
        kind = named[1] if named else ("FLAIR" if facts.inversion_ms else "T2-weighted")
        return OtherKind(kind, f"echo time {echo:g} ms{_called(facts)}", True)
    if facts.contrast in _ACQUISITION:
        kind = _ACQUISITION[facts.contrast]
        return OtherKind(kind, f"acquisition contrast {facts.contrast}", not says_t1(facts))
    if named:
        return OtherKind(named[1], f'called "{facts.description}"', not short)
    if "EP" in facts.scanning_sequence and not says_t1(facts):
        return OtherKind("echo-planar", f"an echo-planar sequence{_called(facts)}", True)
    if echo is not None and echo >= _LATE_ECHO_MS and not says_t1(facts):
        return OtherKind("T2*- or T2-weighted", f"echo time {echo:g} ms{_called(facts)}", False)
    spin = facts.scanning_sequence == ("SE",) and facts.inversion_ms is None
    if spin and repetition is not None and repetition > _LONG_REPETITION_MS:
        why = f"a spin echo with a repetition time of {repetition:g} ms{_called(facts)}"
        return OtherKind("proton-density- or T2-weighted", why, False)
    return None


def _not_magnitude(facts: SequenceFacts) -> OtherKind | None:
    listed = "\\".join(facts.image_type)
    # The third value on, or the second of private types: "P" is PRIMARY nowhere.
    values = facts.image_type[2:]
    if facts.component in ("PHASE", "MIXED") or _PHASE & set(values):
        return OtherKind("a phase image", f"image type {listed or facts.component}", True)
    if facts.component in ("REAL", "IMAGINARY"):
        return OtherKind(f"the {_COMPLEX[facts.component]}", f"component {facts.component}", True)
    for value in values:
        if value in _COMPLEX and "M" not in values:
            # Inversion recovery is reconstructed so for T1 weighting, too.
            certain = _COMPLEX[value] != "real part" or not says_t1(facts)
            return OtherKind(f"the {_COMPLEX[value]} of an image", f"image type {listed}", certain)
        if value in _DERIVED_MAPS:
            return OtherKind(_DERIVED_MAPS[value], f"image type {listed}", True)
    return None


def _called(facts: SequenceFacts) -> str:
    return f', "{facts.description}"' if facts.description else ""
