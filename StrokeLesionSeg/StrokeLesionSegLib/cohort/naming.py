"""From the path of a scan to its BIDS entities, and from those to the names of its outputs.

Every label that leaves this module consists of ASCII letters and digits, so no input name, however
hostile, can lead an output out of its folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from ..file_formats import split_name
from ..spaces import MNI_SPACE

# Entities of the source that tell scans of one session apart, in the order of BIDS names.
# "desc" and "label" are left out: they describe a derivative, and ours has its own.
_KEPT = ("acq", "ce", "rec", "run", "echo", "part", "space", "res", "den")
# A label may hold hyphens and more that BIDS does not know; ``label`` makes it one.
_PAIR = re.compile(r"([A-Za-z]+)-(.+)\Z")
_LONGEST_LABEL = 48

# ATLAS R1.1 is Site1/031768/t01/031768_t1w_deface_stx, R1.2 c0008/c0008s0011t01/<same>_t1w_stx.
_ATLAS_11_SESSION = re.compile(r"t\d{2}\Z")
_ATLAS_12 = re.compile(r"(c\d{4}s\d{4})(t\d{2})\Z")

# Words of a name that say which kind of image it is, nothing about whose.
_KIND = {"t1", "t1w", "mprage", "t1mprage", "deface", "defaced", "stx", "nii", "anat"}


@dataclass(frozen=True)
class Entities:
    """Whose scan it is: ``subject`` and ``session`` (or empty), and what else is in its name.

    ``rest`` holds (entity, label) pairs in BIDS order.
    """

    subject: str
    session: str = ""
    rest: tuple[tuple[str, str], ...] = field(default=())

    @property
    def stem(self) -> str:
        """The begin of all its outputs' names, for example ``sub-01_ses-1_run-2``."""
        pairs = [("sub", self.subject)]
        if self.session:
            pairs.append(("ses", self.session))
        return "_".join(f"{entity}-{label}" for entity, label in (*pairs, *self.rest))

    @property
    def folder(self) -> PurePath:
        """Where its outputs go, relative to the data set: ``sub-01[/ses-1]/anat``."""
        session = (f"ses-{self.session}",) if self.session else ()
        return PurePath(f"sub-{self.subject}", *session, "anat")

    def in_space(self, space: str) -> Entities:
        """With ``space``; that of the source, if its name has one, goes into the ``rec`` label.

        Two copies of one scan, in different spaces, thus stay two in the new one.
        """
        pairs = dict(self.rest)
        if old := pairs.get("space"):
            pairs["rec"] = f"{pairs.get('rec', '')}{old}"
        pairs["space"] = space
        rest = sorted(pairs.items(), key=lambda pair: _KEPT.index(pair[0]))
        return Entities(self.subject, self.session, tuple(rest))

    def told_apart(self, relative: str) -> Entities:
        """With a ``rec`` label made from the path, for scans whose names fall together."""
        mark = checksum(relative)
        rest = [pair for pair in self.rest if pair[0] != "rec"]
        old = dict(self.rest).get("rec", "")
        rest.append(("rec", f"{old}{mark}"))
        rest.sort(key=lambda pair: _KEPT.index(pair[0]))
        return Entities(self.subject, self.session, tuple(rest))


def entities_of(relative: str) -> Entities:
    """The entities of a scan from its path relative to the input folder.

    BIDS entities in the file's name or in the folders above count; ATLAS R1.1 and R1.2 are known
    by their folders; everything else becomes one subject label out of folders and name.
    """
    parts = PurePath(relative).parts
    name = split_name(Path(parts[-1]))[0]
    pairs = dict(_pairs(name))
    folders = [dict(_pairs(part)) for part in parts[:-1]]
    subject = pairs.get("sub") if name.startswith("sub-") else None
    for folder in reversed(folders):
        subject = subject or folder.get("sub")
    if subject:
        session = pairs.get("ses", "") if name.startswith("sub-") else ""
        for folder in reversed(folders):
            session = session or folder.get("ses", "")
        rest = tuple((key, label(pairs[key])) for key in _KEPT if pairs.get(key))
        return Entities(label(subject), label(session) if session else "", rest)
    atlas = _atlas(parts)
    if atlas is not None:
        return atlas
    words = [_camel(part) for part in parts[:-1] if part.lower() != "anat"]
    words.append(_camel(name))
    return Entities(label("".join(words), relative))


def dicom_entities_of(relative: str) -> Entities:
    """The entities of a DICOM folder from its path relative to the input folder.

    Such folders are often called what the patient is called. BIDS entities and ATLAS folders
    count, as they do for files; of other names only a checksum goes into the label.
    """
    entities = entities_of(relative)
    parts = PurePath(relative).parts
    if any("sub" in dict(_pairs(part)) for part in parts) or _atlas(parts) is not None:
        return entities
    return Entities(f"dicom{checksum(relative)}")


def _pairs(name: str) -> list[tuple[str, str]]:
    found = (_PAIR.match(piece) for piece in name.split("_"))
    return [(match[1], match[2]) for match in found if match]


def _atlas(parts: tuple[str, ...]) -> Entities | None:
    if len(parts) < 3:
        return None
    above, folder = parts[-3], parts[-2]
    if match := _ATLAS_12.match(folder):
        return Entities(match[1], match[2])
    if _ATLAS_11_SESSION.match(folder) and above.isdigit():
        return Entities(above, folder)
    return None


def _camel(text: str) -> str:
    """Letters and digits of a name, its words told apart by capitals; words of kind left out."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", _in_ascii(text)) if word]
    told = [word for word in words if word.lower() not in _KIND] or words
    return "".join(word[0].upper() + word[1:] for word in told)


def label(text: str, unique: str | None = None) -> str:
    """``text`` as a BIDS label: ASCII letters and digits, of bounded length, never empty.

    What cannot be said that way, not all of it either, or is too long, is told apart by a checksum
    of ``unique`` (default: ``text`` itself).
    """
    unique = text if unique is None else unique
    short = re.sub(r"[^A-Za-z0-9]+", "", _in_ascii(text))
    if 0 < len(short) <= _LONGEST_LABEL and not _loses(unique):
        return short
    return f"{short[: _LONGEST_LABEL - 8] or 'x'}{checksum(unique)}"


def _in_ascii(text: str) -> str:
    """What of a text ASCII has, letters without their accents."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _loses(text: str) -> bool:
    """Whether ASCII lacks a letter or digit of a text: two patients may differ in nothing else."""
    # The second are bytes of names in another character set.
    plain = unicodedata.normalize("NFKD", text)
    return any((c.isalnum() and not c.isascii()) or "\udc80" <= c <= "\udcff" for c in plain)


def bare_label(name: str, prefix: str) -> str:
    """The label of a subject or session that may be named with its ``prefix`` ("sub-", "ses-").

    Examples
    --------
    >>> from StrokeLesionSegLib.cohort.naming import bare_label
    >>> bare_label("ses-pre-op", "ses-"), bare_label("01", "sub-")
    ('preop', '01')
    """
    return label(name.removeprefix(prefix))


def checksum(text: str) -> str:
    """Eight digits that tell texts apart."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]


def tell_apart(found: list[tuple[str, Entities]]) -> list[Entities]:
    """Entities with distinct stems for (relative path, entities) pairs, in the same order.

    The stems in MNI space are distinct from all of them, too: a copy of a scan there has the name
    of the scan's own result there. Of scans with one stem, the one with the shortest path (then the
    first by name) keeps it.
    Letter case does not count, since on some file systems it does not tell files apart.
    """
    taken: set[str] = set()
    order = sorted(range(len(found)), key=lambda n: (len(found[n][0]), found[n][0]))
    chosen: dict[int, Entities] = {}
    for number in order:
        relative, entities = found[number]
        if not taken.isdisjoint(_stems(entities)):
            entities = entities.told_apart(relative)
        taken.update(_stems(entities))
        chosen[number] = entities
    return [chosen[number] for number in range(len(found))]


def _stems(entities: Entities) -> tuple[str, str]:
    """Of the results in the scan's own space, and in MNI space."""
    return entities.stem.casefold(), entities.in_space(MNI_SPACE).stem.casefold()
