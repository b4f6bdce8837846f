"""Headers as archives and anonymisers leave them, made what a new DICOM object may hold.

Text in character sets that are misstated, dates and times that are none and coded values that the
standard does not know keep libraries from making an object that refers to the series.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pydicom

_TEXT = {"PN", "LO", "SH", "ST", "LT", "UC", "UT"}
_DATES = {"DA", "TM", "DT"}
_UTF8 = "ISO_IR 192"
_LONGEST = {"PN": 64, "LO": 64, "SH": 16}


def mend_header(dataset: pydicom.Dataset) -> list[str]:
    """Make the top level of a header valid in place; a clause for each value that was given up.

    Text becomes UTF-8 (where the stated character set does not fit: UTF-8, or else Latin-1), dates
    and times in other ways of writing become DICOM's, and so does an age; those that are none
    become empty, and so do a sex that is neither M, F nor O, a weight or size that is no number.

    Examples
    --------
    >>> from pydicom import Dataset
    >>> header = Dataset()
    >>> header.SpecificCharacterSet, header.PatientSex = ["", "ISO 2022 IR 87"], "FEMALE"
    >>> mend_header(header), header.SpecificCharacterSet, header.PatientSex
    ([], 'ISO_IR 192', 'F')
    """
    notes: list[str] = []
    encodings = _encodings(dataset)
    for tag in list(dataset.keys()):
        item = dataset.get_item(tag)
        vr, value = item.VR or _vr(tag), item.value
        if vr in _TEXT:
            text = _decoded(value, encodings) if isinstance(value, bytes) else _joined(value)
            if text is not None:
                _put(dataset, tag, vr, _plain(text, vr, single=_holds_one(tag)))
        elif vr in _DATES:
            _mend_date(dataset, tag, vr, _ascii(value), notes)
    _mend_sex(dataset, notes)
    _mend_measures(dataset, notes)
    dataset.SpecificCharacterSet = _UTF8
    return notes


def _vr(tag: Any) -> str:
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def _holds_one(tag: Any) -> bool:
    """Whether the standard wants a single value there."""
    from pydicom.datadict import dictionary_VM

    try:
        return dictionary_VM(tag) == "1"
    except KeyError:
        return False


def _encodings(dataset: pydicom.Dataset) -> list[str] | None:
    """Python's names of the stated character sets; None if none is stated, or an unknown one."""
    from pydicom.charset import convert_encodings, python_encoding

    item = dataset.get_item("SpecificCharacterSet") if "SpecificCharacterSet" in dataset else None
    if item is None or not item.value:
        return None
    text = _ascii(item.value) if isinstance(item.value, bytes | str) else None
    names = text.split("\\") if text is not None else [str(v or "") for v in item.value]
    names = [name.strip() for name in names]
    if any(name and name not in python_encoding for name in names):
        return None
    return list(convert_encodings(names))


def _decoded(data: bytes, encodings: list[str] | None) -> str:
    from pydicom.charset import decode_bytes

    if encodings is not None:
        try:
            if len(encodings) == 1:
                return data.decode(encodings[0])
            # pydicom replaces what it cannot decode, and says so in a warning only.
            text = str(decode_bytes(data, encodings, set(b"\r\n\t\f\\^=")))
            if "\ufffd" not in text:
                return text
        except (UnicodeError, LookupError):
            pass
    try:
        return data.decode("utf-8")
    except UnicodeError:
        return data.decode("latin-1")


def _joined(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    parts = value if hasattr(value, "__iter__") and not hasattr(value, "components") else [value]
    return "\\".join(str(part) for part in parts)


def _plain(text: str, vr: str, *, single: bool) -> str:
    """Without control characters, not longer than the standard lets it be."""
    if vr in ("ST", "LT", "UT"):
        return text.rstrip("\0 ")
    text = "".join(c for c in text if c.isprintable()).strip()
    if single:
        text = text.replace("\\", " ")  # one value that was written with the mark between two
    longest = _LONGEST.get(vr)
    separator = {"PN": "="}.get(vr, "\\")
    if longest is None:
        return text
    return separator.join(part[:longest] for part in text.split(separator))


def _put(dataset: pydicom.Dataset, tag: Any, vr: str, value: str) -> None:
    from pydicom.dataelem import DataElement

    dataset[tag] = DataElement(tag, vr, value)


def _ascii(value: Any) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value or "")
    return text.strip("\0 ")


def _mend_date(dataset: pydicom.Dataset, tag: Any, vr: str, text: str, notes: list[str]) -> None:
    from pydicom.datadict import keyword_for_tag

    mended = _date(text) if vr == "DA" else _time(text) if vr == "TM" else _moment(text)
    if text and not mended:
        what = {"DA": "date", "TM": "time", "DT": "date and time"}[vr]
        notes.append(f"{keyword_for_tag(tag) or tag} is no {what} and was left empty")
    if mended != text:
        _put(dataset, tag, vr, mended)


def _date(text: str) -> str:
    digits = re.sub(r"\A(\d{4})[-./](\d{2})[-./](\d{2})\Z", r"\1\2\3", text)
    try:
        return datetime.strptime(digits, "%Y%m%d").strftime("%Y%m%d")
    except ValueError:
        return ""


def _time(text: str) -> str:
    digits = re.sub(r"\A(\d{2}):(\d{2})(?::(\d{2}))?", lambda m: "".join(filter(None, m.groups())),
                    text)  # fmt: skip
    match = re.match(r"(\d{2})(\d{2})?(\d{2})?(\.\d{1,6})?\Z", digits)
    if match is None:
        return ""
    limits = zip(match.groups()[:3], (23, 59, 59), strict=True)
    return digits if all(part is None or int(part) <= most for part, most in limits) else ""


def _moment(text: str) -> str:
    return text if re.match(r"\d{4}(\d{2}){0,5}(\.\d{1,6})?([+-]\d{4})?\Z", text) else ""


def _mend_sex(dataset: pydicom.Dataset, notes: list[str]) -> None:
    if "PatientSex" not in dataset:
        return
    text = _ascii(dataset.get_item("PatientSex").value)
    if text not in ("", "M", "F", "O"):
        sex = {"m": "M", "f": "F", "w": "F", "d": "O", "o": "O"}.get(text[:1].lower(), "")
        dataset.PatientSex = sex
        if not sex:
            notes.append("PatientSex is neither M, F nor O and was left empty")


def _mend_measures(dataset: pydicom.Dataset, notes: list[str]) -> None:
    """The patient's age, weight and size, which objects take over from their source."""
    for keyword, kind, mended in (
        ("PatientAge", "age", _age),
        ("PatientWeight", "number", _number),
        ("PatientSize", "number", _number),
    ):
        if keyword not in dataset:
            continue
        item = dataset.get_item(keyword)
        text = _ascii(item.value)
        if text and mended(text) != text:
            _put(dataset, item.tag, "AS" if kind == "age" else "DS", mended(text))
            if not mended(text):
                notes.append(f"{keyword} is no {kind} and was left empty")


def _age(text: str) -> str:
    match = re.match(r"(\d{1,3})\s*([DWMY]?)[A-Z]*\Z", text.upper())
    return f"{int(match[1]):03d}{match[2] or 'Y'}" if match else ""


def _number(text: str) -> str:
    return text if re.match(r"[+-]?\d*\.?\d+([eE][+-]?\d+)?\Z|\d+\.\Z", text) else ""
