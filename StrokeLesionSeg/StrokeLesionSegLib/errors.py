"""Expected failures; anything else is a defect of ours."""

from __future__ import annotations

import os
import re


class InputError(Exception):
    """The user's input or arguments cannot be used: exit code 2, one line on stderr.

    ``where`` names the file (or argument), ``cause`` what is wrong with it and ``remedy`` what to
    do; ``str()`` joins them into one line whatever they contain.
    """

    def __init__(self, where: str | os.PathLike[str], cause: str, remedy: str) -> None:
        self.where = os.fspath(where)
        self.cause = cause.rstrip(". \n")
        self.remedy = remedy.rstrip(". \n")
        super().__init__(self.where, self.cause, self.remedy)

    def __str__(self) -> str:
        text = f"{self.where}: {self.cause}. {self.remedy}."
        return " ".join(text.split())


#: Cause and remedy of a link whose target is not there, as DataLad and git-annex leave them.
NOWHERE = (
    "is a link that leads nowhere (DataLad, git-annex: its content has not been fetched)",
    "Fetch it, e.g. with datalad get, or copy the file itself",
)


# As ``Path`` leaves them: one slash after the colon is all that it keeps.
_ADDRESS = re.compile(r"(?:^|[/\\])(?:https?|ftp|sftp|s3|gs|ria\+\w+):/", re.IGNORECASE)


def not_there(path: str | os.PathLike[str]) -> tuple[str, str]:
    """Cause and remedy of a path where nothing is, or of an address that was given for one.

    Examples
    --------
    >>> from StrokeLesionSegLib.errors import not_there
    >>> not_there("t1.nii")
    ('there is no such file or folder', 'Check the path')
    >>> not_there("https://example.org/t1.nii")[1]
    'Download it first'
    """
    if _ADDRESS.search(os.fspath(path)):
        return "is an address, and files on this computer alone are read", "Download it first"
    return "there is no such file or folder", "Check the path"


def why_unread(error: Exception) -> str:
    """Why a text file could not be read, in words: no number of an error, no codec, no path again.

    Examples
    --------
    >>> from StrokeLesionSegLib.errors import why_unread
    >>> why_unread(FileNotFoundError(2, "No such file or directory", "a.json"))
    'No such file or directory'
    >>> why_unread(UnicodeDecodeError("utf-8", b"\\xff", 0, 1, "invalid start byte"))
    'it is not UTF-8 text'
    """
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class Cancelled(Exception):
    """The caller's cancel hook said stop; nothing was written."""
