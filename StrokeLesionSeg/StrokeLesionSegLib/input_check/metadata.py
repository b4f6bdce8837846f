"""What the metadata of a scan say against it: DICOM elements, the BIDS sidecar, the file's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..file_formats import image_endings, split_name
from ..images.formats.sequence import (
    SequenceFacts,
    facts_from,
    has_agent,
    other_kind,
    other_word,
)
from .findings import Finding, Level

if TYPE_CHECKING:
    from ..images import Scan

# Sidecars of scans have a few kilobytes.
_LARGEST_SIDECAR = 1 << 20
_PARTS = {"phase": "a phase image", "real": "the real part of an image",
          "imag": "the imaginary part of an image"}  # fmt: skip
# BIDS suffixes of images that are no T1-weighted anatomy.
_SUFFIXES = {
    "T2w": "T2-weighted", "T2star": "T2*-weighted", "T2starw": "T2*-weighted", "FLAIR": "FLAIR",
    "PDw": "proton-density-weighted", "PDT2": "proton-density- or T2-weighted",
    "bold": "functional", "sbref": "functional", "dwi": "diffusion-weighted",
    "asl": "a perfusion scan", "angio": "an angiogram", "swi": "T2*-weighted",
    "T1map": "a T1 map", "T2map": "a T2 map",
    "T2starmap": "a T2* map", "R1map": "an R1 map", "R2map": "an R2 map", "UNIT1": "",
    "phase1": "a phase image", "phase2": "a phase image", "phasediff": "a phase image",
    "magnitude1": "a field map's magnitude", "fieldmap": "a field map", "defacemask": "a mask",
    "MP2RAGE": "an inversion of MP2RAGE", "IRT1": "an inversion series",
    "VFA": "a flip angle series", "MPM": "a multi-parameter series",
    "MESE": "a multi-echo series", "MEGRE": "a multi-echo series",
    **dict.fromkeys(("MTS", "MTR"), "a magnetisation transfer series"),
    "T1rho": "a T1rho map", "R2starmap": "an R2* map", "PDmap": "a proton density map",
    "MTVmap": "a tissue volume map", "MTRmap": "a magnetisation transfer map",
    "MTsat": "a magnetisation transfer map", "MWFmap": "a myelin water map", "M0map": "an M0 map",
    "Chimap": "a susceptibility map", "inplaneT2": "T2-weighted",
    "TB1AFI": "a field map", "TB1map": "a field map", "RB1map": "a field map",
    "mask": "a mask", "dseg": "a label map", "probseg": "a probability map", "pet": "PET",
    "ct": "CT",
}  # fmt: skip


def check_metadata(scan: Scan) -> list[Finding]:
    """What name, sidecar and DICOM elements of a scan say against it.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.images import Scan, Volume
    >>> from StrokeLesionSegLib.input_check import check_metadata
    >>> volume = Volume(np.ones((4, 4, 4), np.float32), np.eye(4))
    >>> [f.code for f in check_metadata(Scan(volume, Path("sub-01_FLAIR.nii.gz"), "nifti"))]
    ['contrast']
    """
    found = check_name(scan.path.name) if scan.format != "dicom" else []
    facts = sequence_of(scan)
    if facts is None:
        return found
    other = other_kind(facts)
    if other is not None and not any(f.level == "refuse" for f in found):
        level: Level = "refuse" if other.certain else "warn"
        text = f"is {other.kind}, not T1-weighted"
        if not other.certain:
            text = f"may be {other.kind}, not T1-weighted"
        found.append(Finding(level, "contrast", f"{text} ({other.reason})"))
    if has_agent(facts):
        text = "was made after a contrast agent was given, which the model has hardly seen"
        found.append(Finding("warn", "agent", text))
    return found


def check_name(name: str) -> list[Finding]:
    """What the name of a file says against it: BIDS suffix and entities, or a plain word.

    Examples
    --------
    >>> from StrokeLesionSegLib.input_check import check_name
    >>> check_name("sub-01_T1w.nii.gz"), check_name("sub-01_FLAIR.nii.gz")[0].level
    ([], 'refuse')
    """
    # In Slicer it is a node's name, which may hold slashes.
    ending = next((end for end in image_endings() if name.lower().endswith(end)), "")
    stem = name[: len(name) - len(ending)]
    pieces = stem.split("_")
    entities = dict(piece.split("-", 1) for piece in pieces if "-" in piece)
    part = _PARTS.get(entities.get("part", ""))
    if part:
        why = f"is {part}, by its name (part-{entities['part']})"
        return [Finding("refuse", "phase", why, "Give the magnitude image (part-mag)")]
    found = []
    if name.startswith("sub-") and len(pieces) > 1:
        if kind := _SUFFIXES.get(pieces[-1]):
            text = f"is {kind}, not T1-weighted, by its name (_{pieces[-1]})"
            return [Finding("refuse", "contrast", text)]
        if "ce" in entities:
            text = f"was made after a contrast agent was given (ce-{entities['ce']})"
            found.append(Finding("warn", "agent", text))
    elif word := other_word(stem):
        certain = other_word(stem, certain=True) is not None
        text = f'is {word[1]}, not T1-weighted, by its name ("{word[0]}")'
        found.append(Finding("refuse" if certain else "warn", "contrast", text))
    return found


def sequence_of(scan: Scan) -> SequenceFacts | None:
    """How a scan was made: from its DICOM elements, or from the JSON file beside it.

    Examples
    --------
    >>> from StrokeLesionSegLib.images import checked_scan
    >>> from StrokeLesionSegLib.input_check import sequence_of
    >>> sequence_of(checked_scan("t1", np.arange(64.0).reshape(4, 4, 4), np.eye(4))) is None
    True
    """
    series = scan.header.get("series", {})
    if "sequence" in series:
        return facts_from(series["sequence"], seconds=False)
    if scan.format == "memory":
        return None
    fields = _sidecar(scan.path)
    return None if fields is None else facts_from(fields, seconds=True)


def _sidecar(path: Path) -> dict[str, Any] | None:
    file = path.with_name(f"{split_name(path)[0]}.json")
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST_SIDECAR:
            return None
        fields = json.loads(file.read_text(encoding="utf-8-sig", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None
