"""A table of pseudonyms: what patients are called in the outputs."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from ..errors import InputError
from .lists import plain_name, table_rows
from .naming import label

_REMEDY = "Give a line for each patient: number, name or folder, then the pseudonym"
_PATIENT = {"patient", "patientid", "id", "name", "patientname", "folder", "file", "mrn", "number"}
_SUBJECT = {"subject", "subjectid", "pseudonym", "participant", "participantid", "sub", "label"}


class Pseudonyms:
    """Pseudonyms by PatientID, patient's name, or name of a folder or file; case does not count.

    Raises ``InputError`` if the table cannot be read, or gives one patient two pseudonyms.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort.pseudonyms import Pseudonyms
    >>> _ = Path("key.csv").write_text("patient,subject\\n4711,S01\\nDoe^Jane,S02\\n")
    >>> pseudonyms = Pseudonyms(Path("key.csv"))
    >>> pseudonyms.of("4711"), pseudonyms.of("0", "DOE JANE"), pseudonyms.of("12")
    ('S01', 'S02', '')
    """

    def __init__(self, path: Path) -> None:
        self._subjects: dict[str, str] = {}
        columns = (0, 1)
        for number, (line, cells) in enumerate(table_rows(path)):
            if number == 0 and (heading := _heading(cells)):
                columns = heading
                continue
            if len(cells) <= max(columns) or not all(cells[n] for n in columns):
                raise InputError(path, f"line {line} lacks patient or pseudonym", _REMEDY)
            patient, subject = (cells[n] for n in columns)
            subject = label(re.sub(r"\Asub-", "", subject))
            known = self._subjects.setdefault(_key(patient), subject)
            if known != subject:
                raise InputError(path, f"line {line} gives a patient a second pseudonym", _REMEDY)
        if not self._subjects:
            raise InputError(path, "contains no pseudonyms", _REMEDY)

    def of(self, *names: str) -> str:
        """The pseudonym of the first of ``names`` that the table knows; "" if it knows none."""
        for name in names:
            if name and (subject := self._subjects.get(_key(name))):
                return subject
        return ""


def _heading(cells: list[str]) -> tuple[int, int] | None:
    names = [plain_name(cell) for cell in cells]
    patient = [n for n, name in enumerate(names) if name in _PATIENT]
    subject = [n for n, name in enumerate(names) if name in _SUBJECT]
    return (patient[0], subject[0]) if patient and subject else None


def _key(name: str) -> str:
    """The words of a name, in any order and whatever parts them; a number as it is.

    An accent may be a character of its own, as macOS writes it.
    """
    plain = unicodedata.normalize("NFC", name).casefold()
    words = [word for word in re.split(r"[\s^,_=]+", plain) if word]
    return " ".join(sorted(words))
