"""``.bidsignore``: what a data set's owner has taken out of it, in the patterns of gitignore."""

from __future__ import annotations

import re
from pathlib import Path

BIDSIGNORE = ".bidsignore"


class BidsIgnore:
    """The patterns of a data set's ``.bidsignore``; none if there is no such file.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort.bidsignore import BidsIgnore
    >>> _ = Path(".bidsignore").write_text("*_rec-raw_*\\nextra/\\n!keep_T1w.nii\\n")
    >>> ignored = BidsIgnore(Path())
    >>> ignored("sub-01/sub-01_rec-raw_T1w.nii"), ignored("sub-01/extra/a.nii"), ignored("a.nii")
    (True, True, False)
    """

    def __init__(self, root: Path) -> None:
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        try:
            lines = (root / BIDSIGNORE).read_text("utf-8-sig", errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            negated = text.startswith("!")
            self._rules.append((not negated, _pattern(text[1:] if negated else text)))

    def __call__(self, relative: str) -> bool:
        """Whether a path below the data set, with ``/``, is left out; the last rule counts."""
        ignored = False
        for ignore, pattern in self._rules:
            if pattern.match(relative):
                ignored = ignore
        return ignored


def _pattern(text: str) -> re.Pattern[str]:
    folder = text.endswith("/")
    text = text.rstrip("/")
    # A slash before the end ties the pattern to the root.
    anchored = "/" in text
    out = "" if anchored else r"(?:.*/)?"
    n = 0
    text = text.lstrip("/")
    while n < len(text):
        if text.startswith("**/", n):
            out, n = out + r"(?:.*/)?", n + 3
        elif text.startswith("**", n):
            out, n = out + ".*", n + 2
        elif text[n] == "*":
            out, n = out + "[^/]*", n + 1
        elif text[n] == "?":
            out, n = out + "[^/]", n + 1
        elif text[n] == "[" and "]" in text[n + 2 :]:
            end = text.index("]", n + 2)
            inside = text[n + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            out += f"[{'^' + inside[1:] if inside.startswith('!') else inside}]"
            n = end + 1
        else:
            out, n = out + re.escape(text[n]), n + 1
    try:
        # What lies in an ignored folder is ignored too.
        return re.compile(out + (r"/.*\Z" if folder else r"(?:/.*)?\Z"), re.DOTALL)
    except re.error:  # a range such as [9-1]: as to git, it names nothing
        return re.compile(r"(?!)")
