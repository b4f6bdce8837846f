"""Damaged files of every format: a scan or one clear ``InputError``, never anything else.

Bytes are changed anywhere; and, knowing the formats, numbers in NIfTI's fields, lines of the text
headers of NRRD and MetaImage, and elements of DICOM.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fuzz_support import FUZZ, check_reading, write_originals, write_series
from hypothesis import given
from hypothesis import strategies as st
from StrokeLesionSegLib.images import read_scan

EDITS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return write_originals(tmp_path_factory.mktemp("originals"))


def test_the_originals_are_good(tmp_path: Path, originals: dict[str, bytes]) -> None:
    """Otherwise the fuzz below would only ever see refusals."""
    for name in ("a.nii", "b.nii", "a.nii.gz", "a.nrrd", "a.mha"):
        (tmp_path / name).write_bytes(originals[name])
        np.testing.assert_array_equal(
            read_scan(tmp_path / name).volume.array.shape, (8, 7, 6)[:: 1 if ".nii" in name else -1]
        )
    series = write_series(tmp_path / "dicom", originals, originals["3.dcm"])
    assert read_scan(series).volume.array.shape == (12, 7, 8)


@pytest.mark.parametrize("name", ["a.nii", "b.nii", "a.nii.gz", "a.nrrd", "a.mha", "3.dcm"])
@FUZZ
@given(edits=EDITS, cut=st.one_of(st.none(), st.integers(0, 10_000)))
def test_changed_bytes(
    tmp_path: Path, originals: dict[str, bytes], name: str, edits, cut: int | None
) -> None:
    data = bytearray(originals[name])
    # Mostly the header: that is where a changed byte has consequences.
    reach = min(len(data), 1100 if name.endswith("dcm") else 640)
    for place, value in edits:
        data[place % reach] = value
    if cut is not None:
        del data[cut % len(data) :]
    if name.endswith("dcm"):
        check_reading(write_series(tmp_path / "dicom", originals, bytes(data)))
    else:
        (tmp_path / name).write_bytes(bytes(data))
        check_reading(tmp_path / name)


FIELDS = nib.Nifti1Header().template_dtype
NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2, 127, 255, 32767, -32768, 0.0, -0.0, 1e-30, 1e30, -5.5]),
    st.sampled_from([float("nan"), float("inf"), float("-inf")]),
)


@FUZZ
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(FIELDS.names), st.integers(0, 7), NUMBERS),
        min_size=1,
        max_size=4,
    ),
    packed=st.booleans(),
)
def test_odd_numbers_in_nifti_fields(
    tmp_path: Path, originals: dict[str, bytes], changes, packed: bool
) -> None:
    raw = bytearray(originals["a.nii"])
    header = np.ndarray((), FIELDS, buffer=raw)
    for name, index, value in changes:
        field = header[name]
        if field.dtype.kind not in "if":
            continue
        if field.dtype.kind == "i":
            if not np.isfinite(value):
                continue
            limits = np.iinfo(field.dtype)
            value = int(min(max(value, limits.min), limits.max))
        with np.errstate(over="ignore"):
            if field.shape:
                header[name][index % field.shape[0]] = value
            else:
                header[name] = value
    path = tmp_path / "odd.nii"
    path.write_bytes(gzip.compress(bytes(raw), 1) if packed else bytes(raw))
    check_reading(path)


# What a value of a text header may be turned into.
WORDS = st.one_of(
    st.sampled_from(
        ["", "0", "-1", "1", "3", "4", "2147483647", "99999999999999999999", "8 7", "8 7 6 5",
         "-8 -7 -6", "0 0 0", "800 800 800", "1e400", "nan nan nan", "inf", "1e-30 1e-30 1e-30",
         "none", "(1,0,0) (0,0,0) (0,0,1)", "(nan,0,0) (0,1,0) (0,0,1)", "(1,0) (0,1)", "True",
         "LIST", "LOCAL", "%d", "x%03d.raw 1 9999999 1", "../../../etc/passwd", "/dev/zero",
         "/etc/hostname", "raw", "gzip", "bzip2", "ascii", "hex", "float", "double", "block",
         "MET_DOUBLE", "MET_CHAR_ARRAY", "big", "left-posterior-superior", "3D-right-handed"]
    ),
    st.text(max_size=40),
    st.binary(max_size=40).map(lambda b: b.decode("latin-1")),
)  # fmt: skip
LINES = st.lists(
    st.tuples(
        st.integers(0, 30), st.sampled_from(["value", "key", "drop", "repeat", "insert"]), WORDS
    ),
    min_size=1,
    max_size=4,
)
BODIES = st.sampled_from(["same", "none", "short", "gzip", "gzip short", "zeros"])


def _edit_lines(text: str, separator: str, edits, kept: int) -> str:
    """The header with lines changed; the first ``kept`` stay where they are."""
    lines = text.split("\n")
    for place, kind, word in edits:
        n = kept + place % max(1, len(lines) - kept)
        if n >= len(lines):
            continue
        key, _, value = lines[n].partition(separator)
        if kind == "value":
            lines[n] = f"{key}{separator}{word}"
        elif kind == "key":
            lines[n] = f"{word}{separator}{value}"
        elif kind == "drop":
            del lines[n]
        elif kind == "repeat":
            lines.insert(n, lines[n])
        else:
            lines.insert(n, f"{word}{separator}{word}")
    return "\n".join(lines)


def _body(data: bytes, kind: str) -> bytes:
    packed = gzip.compress(data, 1)
    return {
        "same": data,
        "none": b"",
        "short": data[: len(data) // 2],
        "gzip": packed,
        "gzip short": packed[: len(packed) // 2],
        "zeros": bytes(len(data)),
    }[kind]


@FUZZ
@given(edits=LINES, body=BODIES, detached=st.booleans())
def test_odd_lines_in_nrrd_headers(
    tmp_path: Path, originals: dict[str, bytes], edits, body: str, detached: bool
) -> None:
    head, data = originals["a.nrrd"].split(b"\n\n", 1)
    text = head.decode("ascii")
    if detached:
        text += "\ndata file: a.raw"
    text = _edit_lines(text, ":", edits, kept=1)
    raw = _body(data, body)
    path = tmp_path / ("a.nhdr" if detached else "a.nrrd")
    path.write_bytes(text.encode("utf-8", "replace") + b"\n\n" + (b"" if detached else raw))
    (tmp_path / "a.raw").write_bytes(raw)
    check_reading(path)


@FUZZ
@given(edits=LINES, body=BODIES, detached=st.booleans())
def test_odd_lines_in_metaimage_headers(
    tmp_path: Path, originals: dict[str, bytes], edits, body: str, detached: bool
) -> None:
    mark = b"ElementDataFile = LOCAL\n"
    head, data = originals["a.mha"].split(mark, 1)
    text = head.decode("ascii") + f"ElementDataFile = {'a.raw' if detached else 'LOCAL'}"
    text = _edit_lines(text, " = ", edits, kept=0)
    raw = _body(data, body)
    path = tmp_path / ("a.mhd" if detached else "a.mha")
    path.write_bytes(text.encode("utf-8", "replace") + b"\n" + (b"" if detached else raw))
    (tmp_path / "a.raw").write_bytes(raw)
    check_reading(path)


LONG_VRS = {"OB", "OW", "OF", "OD", "SQ", "UN", "UT", "UC", "UR"}
VALUE_BYTES = st.one_of(
    st.sampled_from(
        [b"", b"\0", b"\0\0", b"\1\0", b"\xff\xff", b"\xff\xff\xff\xff", b"0 ", b"-1", b"1e999 ",
         b"nan\\nan\\nan ", b"1\\0\\0\\0\\0\\0 ", b"0\\0\\0 ", b"RGB ", b"MONOCHROME1 ",
         b"1.2.840.10008.1.2.4.90\0", b"1.2.840.10008.5.1.4.1.1.4.1\0", b"1.2.3.4 ",
         b"<script>alert(1)</script> ", b"\xfe\xff\x00\xe0\xff\xff\xff\xff"]
    ),
    st.binary(max_size=32),
)  # fmt: skip
ELEMENTS = st.lists(
    st.tuples(
        st.integers(0, 200),
        st.sampled_from(["value", "length", "vr", "drop", "repeat", "swap", "nest"]),
        VALUE_BYTES,
        st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=4,
)


def _elements(data: bytes) -> tuple[bytes, list[list]]:
    """(everything before the data set, [tag bytes, VR, value bytes, length or None] of each)."""
    start = 132
    length = struct.unpack_from("<I", data, start + 8)[0]
    at = start + 12 + length
    prefix, found = data[:at], []
    while at < len(data):
        tag, vr = data[at : at + 4], data[at + 4 : at + 6].decode("ascii")
        if vr in LONG_VRS:
            size, head = struct.unpack_from("<I", data, at + 8)[0], 12
        else:
            size, head = struct.unpack_from("<H", data, at + 6)[0], 8
        found.append([tag, vr, data[at + head : at + head + size], None])
        at += head + size
    return prefix, found


def _encoded(element: list) -> bytes:
    tag, vr, value, length = element
    length = len(value) if length is None else length
    if vr in LONG_VRS:
        return tag + vr.encode() + b"\0\0" + struct.pack("<I", length & 0xFFFFFFFF) + value
    return tag + vr.encode() + struct.pack("<H", length & 0xFFFF) + value


def test_dicom_elements_come_back(originals: dict[str, bytes]) -> None:
    """The encoder of the next test changes nothing by itself."""
    prefix, elements = _elements(originals["3.dcm"])
    assert len(elements) > 20
    assert prefix + b"".join(map(_encoded, elements)) == originals["3.dcm"]


@FUZZ
@given(edits=ELEMENTS, all_slices=st.booleans())
def test_odd_dicom_elements(
    tmp_path: Path, originals: dict[str, bytes], edits, all_slices: bool
) -> None:
    def damaged(data: bytes) -> bytes:
        prefix, elements = _elements(data)
        for place, kind, value, number in edits:
            n = place % len(elements)
            element = list(elements[n])
            if kind == "value":
                element[2] = value
            elif kind == "length":
                element[3] = number
            elif kind == "vr":
                element[1] = ("US", "SQ", "DS", "OB", "UN", "IS", "AT", "zz")[number % 8]
            elif kind == "drop":
                if len(elements) > 1:
                    del elements[n]
                continue
            elif kind == "repeat":
                elements.insert(n, element)
                continue
            elif kind == "swap":
                other = number % len(elements)
                elements[n], elements[other] = elements[other], elements[n]
                continue
            else:  # a sequence within a sequence, of undefined length, without end
                element[1], element[3] = "SQ", 0xFFFFFFFF
                element[2] = 200 * b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
            elements[n] = element
        return prefix + b"".join(map(_encoded, elements))

    files = dict(originals)
    if all_slices:
        files = {n: damaged(d) if n.endswith("dcm") else d for n, d in originals.items()}
    check_reading(write_series(tmp_path / "dicom", files, damaged(originals["3.dcm"])))
