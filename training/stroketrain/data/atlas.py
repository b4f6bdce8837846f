"""Find the scans and masks of an ATLAS R2.0 tree (INDI layout or the tidy BIDS derivative)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from StrokeLesionSegLib.errors import InputError

_T1 = "*_space-MNI152NLin2009aSym*_T1w.nii.gz"
_SUBJECT = re.compile(r"sub-(r\d+s\d+|[A-Za-z0-9]+)")


@dataclass(frozen=True)
class AtlasScan:
    """One scan of ATLAS: ``masks`` is empty for unlabelled (Testing) scans."""

    subject: str
    session: str
    site: str
    t1: Path
    masks: tuple[Path, ...]

    @property
    def name(self) -> str:
        return f"{self.subject}_{self.session}"


def find_r2_scans(root: Path) -> list[AtlasScan]:
    """Every T1 below ``root`` with its masks, sorted by name.

    Raises ``InputError`` if ``root`` is missing or holds no scan named as in ATLAS R2.0.
    """
    if not root.is_dir():
        raise InputError(root, "no such folder", "name the folder that holds ATLAS_2")
    scans = []
    for t1 in sorted(root.rglob(_T1)):
        found = _SUBJECT.search(t1.name)
        if not found or t1.name.startswith("."):
            continue
        subject = found.group(0)
        session = next((p for p in t1.parts if p.startswith("ses-")), "ses-1")
        code = re.match(r"sub-(r\d+)s", subject)
        masks = tuple(sorted(t1.parent.glob(f"{subject}_{session}*label-L*mask.nii.gz")))
        scans.append(AtlasScan(subject, session, code.group(1).upper() if code else "", t1, masks))
    if not scans:
        raise InputError(
            root,
            "no scan named *_space-MNI152NLin2009aSym_T1w.nii.gz below it",
            "name the folder of an ATLAS R2.0 release, unpacked and decrypted",
        )
    return scans
