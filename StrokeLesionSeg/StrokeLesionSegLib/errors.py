"""Expected failures; anything else is a defect of ours."""

from __future__ import annotations

import os


class InputError(Exception):
    """The user's input or arguments cannot be used: exit code 2, one line on stderr.

    ``where`` names the file (or argument), ``cause`` what is wrong with it and ``remedy`` what to
    do; ``str()`` joins them into one line whatever they contain.
    """

    exit_code = 2

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


class Cancelled(Exception):
    """The caller's cancel hook said stop; nothing was written."""
