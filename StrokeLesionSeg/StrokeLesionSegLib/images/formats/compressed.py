"""Compressed files as streams that never hold more than one block beyond what was asked for.

What a file is compressed with is told by its first bytes, whatever it is called: ``.nii.gz`` that
are plain, packed twice (by a server or a browser, on the way) or with bzip2 all exist.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, Protocol

from ...errors import InputError
from .size_limits import DEFLATE_LIMIT

BLOCK = 1 << 18  # bytes of output per step: stays in a core's cache
_FEED = 1 << 16  # compressed bytes per step
_TAIL = 1 << 20  # bytes behind the image that are read to reach the checksum of the stream
_MOST_LAYERS = 3
TRUNCATED = "the file is truncated or damaged"
COPY_AGAIN = "Copy or download it again"

_GZIP, _BZIP2, _XZ = "gzip", "bzip2", "xz"
_MAGIC = ((b"\x1f\x8b", _GZIP), (b"BZh", _BZIP2), (b"\xfd7zXZ\x00", _XZ))
#: How many bytes one byte may become: deflate's own limit; for the others what zeros reach.
_LIMITS = {_GZIP: DEFLATE_LIMIT, _BZIP2: 2_000_000, _XZ: 20_000}


class Source(Protocol):
    """What bytes come from."""

    def read(self, size: int, /) -> bytes: ...


class Stream(Source, Protocol):
    """Up to ``size`` bytes at a time, empty only at the end; ``check_end`` verifies checksums."""

    def check_end(self) -> None: ...


class Layers:
    """A file without its layers of compression.

    Attributes
    ----------
    start: its first bytes, ``head`` of them unless it is shorter. stream: what follows them.
    names: the layers that were taken off, from the outside; empty for a plain file.
    """

    def __init__(self, file: Source, where: Path, head: int) -> None:
        self.names: list[str] = []
        self.stream: Stream = _PlainStream(file)
        self.start = read_exactly(self.stream, head)
        while name := _compression_of(self.start):
            if len(self.names) == _MOST_LAYERS:
                raise InputError(
                    where,
                    f"the file is compressed more than {_MOST_LAYERS} times over",
                    "Unpack it until it is a plain .nii file",
                )
            self.names.append(name)
            packed = _Rest(self.start, self.stream)
            self.stream = (
                _GzipStream(packed, where) if name == _GZIP else _BlockStream(packed, where, name)
            )
            self.start = read_exactly(self.stream, head)

    def most_bytes(self, size: int) -> int:
        """How many bytes a file of ``size`` bytes can hold at the most."""
        for name in self.names:
            size *= _LIMITS[name]
        return size

    @property
    def warnings(self) -> list[str]:
        """What is odd about how the file is packed."""
        if len(self.names) < 2:
            return []
        how = " in ".join(reversed(self.names))
        return [f"the file is compressed {len(self.names)} times ({how}); it was unpacked as often"]


def _compression_of(start: bytes) -> str | None:
    return next((name for magic, name in _MAGIC if start.startswith(magic)), None)


def read_exactly(stream: Source, size: int) -> bytes:
    """``size`` bytes, fewer only at the end of the stream."""
    parts, left = [], size
    while left:
        data = stream.read(left)
        if not data:
            break
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


class _PlainStream:
    def __init__(self, file: Source) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def check_end(self) -> None:
        return None


class _Rest:
    """Bytes that were read already, then the stream that they came from."""

    def __init__(self, start: bytes, stream: Source) -> None:
        self._start, self._stream = start, stream

    def read(self, size: int) -> bytes:
        if not self._start:
            return self._stream.read(size)
        data, self._start = self._start[:size], self._start[size:]
        return data


def _read_to_end(stream: Source) -> None:
    """Reads on, so that the checksum of what was read is verified."""
    left = _TAIL
    while left > 0:
        data = stream.read(min(left, BLOCK))
        if not data:
            return
        left -= len(data)


class _GzipStream:
    def __init__(self, file: Source, where: Path) -> None:
        self._file, self._where = file, where
        self._inflate = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._ended = False

    def read(self, size: int) -> bytes:
        while not self._ended:
            if not self._pending:
                self._pending = self._file.read(_FEED)
                if not self._pending and not self._inflate.eof:
                    # Output that zlib still holds comes before the verdict.
                    rest = self._decompress(b"", size)
                    if rest:
                        return rest
                    raise InputError(
                        self._where, f"{TRUNCATED} (the gzip stream stops early)", COPY_AGAIN
                    )
            if self._inflate.eof:
                # Several gzip members in a row are one stream (bgzip, pigz); what else may follow
                # the last member is padding.
                self._pending = self._pending.lstrip(b"\0")
                if not self._pending:
                    more = self._file.read(_FEED)
                    self._pending = more.lstrip(b"\0")
                    if more:
                        continue
                if not self._pending.startswith(b"\x1f"):
                    self._ended = True
                    break
                self._inflate = zlib.decompressobj(wbits=31)
            data = self._decompress(self._pending, size)
            self._pending = self._inflate.unconsumed_tail or self._inflate.unused_data
            if data:
                return data
        return b""

    def _decompress(self, data: bytes, size: int) -> bytes:
        try:
            return self._inflate.decompress(data, size)
        except zlib.error as error:
            raise InputError(self._where, f"{TRUNCATED} (gzip: {error})", COPY_AGAIN) from error

    def check_end(self) -> None:
        _read_to_end(self)


class _BlockStream:
    """bzip2 and xz, whose decoders share one interface; several streams in a row are one."""

    def __init__(self, file: Source, where: Path, name: str) -> None:
        self._file, self._where, self._name = file, where, name
        self._magic = next(magic for magic, known in _MAGIC if known == name)
        self._new, self._errors = _decoder(where, name)
        self._decoder = self._new()
        self._ended = False

    def read(self, size: int) -> bytes:
        while not self._ended:
            feed = b""
            if self._decoder.eof:
                feed = (self._decoder.unused_data or self._file.read(_FEED)).lstrip(b"\0")
                if not feed.startswith(self._magic[: len(feed)]) or not feed:
                    self._ended = True
                    break
                self._decoder = self._new()
            elif self._decoder.needs_input:
                feed = self._file.read(_FEED)
                if not feed:
                    cause = f"{TRUNCATED} (the {self._name} stream stops early)"
                    raise InputError(self._where, cause, COPY_AGAIN)
            try:
                data: bytes = self._decoder.decompress(feed, size)
            except self._errors as error:
                cause = f"{TRUNCATED} ({self._name}: {error})"
                raise InputError(self._where, cause, COPY_AGAIN) from error
            if data:
                return data
        return b""

    def check_end(self) -> None:
        _read_to_end(self)


def bzip2_stream(file: Source, where: Path) -> Stream:
    """What a bzip2 stream holds; errors name ``where``."""
    return _BlockStream(file, where, _BZIP2)


def _decoder(where: Path, name: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """A maker of decoders and what they raise; some builds of Python lack either library."""
    try:
        if name == _BZIP2:
            import bz2

            return bz2.BZ2Decompressor, (OSError, ValueError)
        import lzma

        return lzma.LZMADecompressor, (lzma.LZMAError, EOFError)
    except ImportError as error:
        raise InputError(
            where,
            f"it is compressed with {name}, which this Python does not support",
            "Unpack it first",
        ) from error
