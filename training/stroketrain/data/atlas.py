"""Find the scans and masks of an ATLAS release in whichever of its layouts it was unpacked.

==========  ==================================================================================
``r2.0``    ``ATLAS_2/{Training,Testing}/R0xx/sub-r001s001/ses-1/anat/`` (INDI), or the tidy
            derivative ``train/derivatives/ATLAS/sub-*``; MNI152NLin2009aSym, 1 mm
``r3.0``    R2.1 and R3.0: native space, skull-stripped, ``*_space-orig_desc-brain_T1w.nii.gz``
``r1.1``    ``Site{n}/{id}/t01/{id}_t1w_deface_stx.nii.gz`` (INDI)
``r1.2``    ``standard_MNI/c0008/c0008s0011t01/c0008s0011t01_t1w_stx.nii.gz`` (ICPSR)
==========  ==================================================================================
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from StrokeLesionSegLib.brief import counted
from StrokeLesionSegLib.errors import InputError

LAYOUTS = ("r2.0", "r3.0", "r1.1", "r1.2")
# One T1 per match; "stem" is what its masks' names start with.
_T1_NAMES = {
    "r2.0": re.compile(
        r"(?P<stem>(?P<subject>sub-[A-Za-z0-9]+)_(?P<session>ses-[A-Za-z0-9]+)"
        r"_space-MNI152NLin2009aSym)(_[A-Za-z0-9-]+)*_T1w\.nii(\.gz)?"
    ),
    "r3.0": re.compile(
        r"(?P<stem>(?P<subject>sub-[A-Za-z0-9]+)_(?P<session>ses-[A-Za-z0-9]+)_space-orig)"
        r"(_[A-Za-z0-9-]+)*_T1w\.nii(\.gz)?"
    ),
    "r1.1": re.compile(r"(?P<stem>(?P<subject>[A-Za-z0-9]+))_t1w_deface_stx\.nii(\.gz)?"),
    "r1.2": re.compile(r"(?P<stem>(?P<subject>c\d+s\d+)(?P<session>t\d+))_t1w_stx\.nii(\.gz)?"),
}
_MASK_NAMES = {
    "r2.0": re.compile(
        r"(?P<stem>sub-[^_]+_ses-[^_]+_space-MNI152NLin2009aSym)_.*label-(L|lesion)_.*mask\.nii"
        r"(\.gz)?"
    ),
    "r3.0": re.compile(
        r"(?P<stem>sub-[^_]+_ses-[^_]+_space-orig)_.*label-(L|lesion)_.*mask\.nii(\.gz)?"
    ),
    "r1.1": re.compile(r"(?P<stem>[A-Za-z0-9]+)_LesionSmooth(_\d+)?_stx\.nii(\.gz)?"),
    "r1.2": re.compile(r"(?P<stem>c\d+s\d+t\d+)_LesionSmooth(_\d+)?_stx\.nii(\.gz)?"),
}
_ARCHIVES = (".tar.gz", ".tgz", ".zip", ".tar", ".gpg", ".enc")


@dataclass(frozen=True)
class AtlasScan:
    """One scan of ATLAS: ``masks`` is empty for unlabelled (Testing) scans."""

    subject: str
    session: str
    site: str
    t1: Path
    masks: tuple[Path, ...]
    layout: str = "r2.0"
    cohort: str = "training"

    @property
    def name(self) -> str:
        return f"{self.subject}_{self.session}"

    @property
    def native(self) -> bool:
        """Whether the scan lies in its own space and needs an alignment to MNI152."""
        return self.layout == "r3.0"


@dataclass
class Survey:
    """What a tree holds.

    Attributes
    ----------
    layout: one of ``LAYOUTS``.
    scans: every scan, sorted by name, labelled or not.
    skipped: (path, reason) of what looked like a part of ATLAS and is not used.
    """

    layout: str
    scans: list[AtlasScan] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def labelled(self) -> list[AtlasScan]:
        return [s for s in self.scans if s.masks]

    @property
    def unlabelled(self) -> list[AtlasScan]:
        return [s for s in self.scans if not s.masks]

    def lines(self) -> list[str]:
        """The report for people: counts first, then one line per oddity."""
        sites = len({s.site for s in self.scans})
        subjects = len({s.subject for s in self.scans})
        several = sum(len(s.masks) > 1 for s in self.scans)
        return [
            f"ATLAS {self.layout}: {counted(len(self.scans), 'scan')} of "
            f"{counted(subjects, 'subject')} from {counted(sites, 'site')}, {len(self.labelled)} "
            f"with masks ({several} with several masks, which are united), "
            f"{len(self.unlabelled)} without (for prediction only)",
            *(f"skipped {path}: {reason}" for path, reason in self.skipped),
        ]


def _files(root: Path) -> Iterable[Path]:
    # os.walk follows links to folders, as archives shared between users often are.
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(d for d in folders if not d.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder) / name


def _site(layout: str, t1: Path, subject: str) -> str:
    if layout == "r1.2":
        return subject.split("s")[0]
    for part in reversed(t1.parts[:-1]):
        if re.fullmatch(r"Site\w+", part) or re.fullmatch(r"[Rr]\d{3}", part):
            return part.upper() if part[0] in "rR" else part
    code = re.match(r"sub-(r\d+)s", subject)
    return code.group(1).upper() if code else ""


def _scan(root: Path, layout: str, t1: Path, found: re.Match[str], masks: list[Path]) -> AtlasScan:
    parts = found.groupdict()
    subject = parts["subject"] if layout in ("r2.0", "r3.0") else f"sub-{parts['subject']}"
    session = parts.get("session")
    if session is None:  # R1.1 names the time point by the folder alone.
        session = next((p for p in reversed(t1.parts[:-1]) if re.fullmatch(r"t\d+", p)), "t01")
    # Of the folders above the tree nothing follows: /data/test/ATLAS_2 holds Training as well.
    inside = (root.name, *t1.relative_to(root).parts)
    cohort = "testing" if any(p.lower() in ("testing", "test") for p in inside) else "training"
    site = _site(layout, t1, subject.removeprefix("sub-") if layout == "r1.2" else subject)
    return AtlasScan(subject, session, site, t1, tuple(masks), layout, cohort)


def _nothing_found(root: Path, files: list[Path]) -> InputError:
    packed = [f for f in files if f.name.lower().endswith(_ARCHIVES)]
    if packed:
        return InputError(
            packed[0],
            "is an archive, and ATLAS is encrypted: nothing in the folder can be read yet",
            "Decrypt it with the key from your data agreement and unpack it",
        )
    return InputError(
        root,
        "contains no scan named as in ATLAS R1.1, R1.2, R2.0, R2.1 or R3.0",
        "Name the folder of a release, unpacked and decrypted",
    )


def find_scans(root: Path, layout: str = "auto") -> Survey:
    """Every scan of an ATLAS release below ``root`` with its masks.

    ``layout`` is one of ``LAYOUTS``, or "auto" to tell it from the files' names. A scan in
    Training without a mask is reported and kept as unlabelled; a mask without its T1 and a scan
    that is found twice are reported and not used.

    Raises ``InputError`` if ``root`` is missing, holds no such scan (an archive that is still
    packed or encrypted is named) or, with "auto", scans of several layouts.
    """
    if not root.is_dir():
        raise InputError(root, "there is no such folder", "Name the folder of the ATLAS release")
    if layout != "auto" and layout not in LAYOUTS:
        raise InputError(
            "--layout", f"unknown layout {layout!r}", f"Use auto, {', '.join(LAYOUTS)}"
        )
    files = list(_files(root))
    t1s: dict[str, list[tuple[Path, re.Match[str]]]] = {name: [] for name in LAYOUTS}
    for file in files:
        for name, pattern in _T1_NAMES.items():
            found = pattern.fullmatch(file.name)
            if found:
                t1s[name].append((file, found))
    present = [name for name in LAYOUTS if t1s[name]]
    if layout == "auto":
        if len(present) > 1:
            raise InputError(
                root,
                f"holds scans of several layouts: {', '.join(present)}",
                "Name one of them with --layout",
            )
        layout = present[0] if present else LAYOUTS[0]
    if not t1s[layout]:
        raise _nothing_found(root, files)
    masks: dict[tuple[Path, str], list[Path]] = {}
    for file in files:
        found = _MASK_NAMES[layout].fullmatch(file.name)
        if found:
            masks.setdefault((file.parent, found["stem"]), []).append(file)
    survey = Survey(layout)
    seen: dict[str, Path] = {}
    for t1, found in t1s[layout]:
        scan = _scan(root, layout, t1, found, masks.pop((t1.parent, found["stem"]), []))
        if scan.name in seen:
            survey.skipped.append((t1, f"the same scan as {seen[scan.name]}"))
            continue
        seen[scan.name] = t1
        survey.scans.append(scan)
        if not scan.masks and scan.cohort == "training":
            survey.skipped.append((t1, "no lesion mask beside it, kept for prediction only"))
    for orphans in masks.values():
        survey.skipped += [(mask, "a mask without its T1") for mask in orphans]
    survey.scans.sort(key=lambda s: s.name)
    return survey
