"""The files of a model of others, whether they lie in a folder or in a zip."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ...errors import InputError
from ..manifest import MAX_WEIGHT_BYTES
from ..zip_safety import REMEDY, check_entries, opened

_MOST_ENTRIES = 4096
# Five folds with what their training left beside the weights.
_MOST_BYTES = 8 * MAX_WEIGHT_BYTES
_MOST_JSON = 16 << 20
_CHUNK = 1 << 20
_DEEPEST = 5


class Package:
    """Files by their paths below ``source``; see ``open_package``."""

    def __init__(self, source: Path, archive: zipfile.ZipFile | None) -> None:
        self.source = source
        self._archive = archive
        self._entries: dict[PurePosixPath, Any] = {}
        if archive is not None:
            self._entries = dict(
                check_entries(archive, source, most=_MOST_ENTRIES, limit=_MOST_BYTES)
            )
        else:
            self._entries = dict(_files_below(source))

    @property
    def files(self) -> list[PurePosixPath]:
        return sorted(self._entries)

    def __contains__(self, path: PurePosixPath) -> bool:
        return path in self._entries

    def where(self, path: PurePosixPath) -> str:
        """How messages call a file."""
        return f"{self.source}/{path}"

    def size(self, path: PurePosixPath) -> int:
        entry = self._entries[path]
        return entry.file_size if self._archive is not None else entry.stat().st_size

    def json(self, path: PurePosixPath) -> dict[str, Any]:
        """A JSON object; ``InputError`` for anything else."""
        if self.size(path) > _MOST_JSON:
            raise InputError(self.where(path), "is larger than 16 MiB", REMEDY)
        try:
            with self._open(path) as stream:
                content = json.loads(stream.read(_MOST_JSON + 1).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(self.where(path), f"is not valid JSON ({error})", REMEDY) from None
        except OSError as error:
            raise self._unreadable(path, error) from error
        if not isinstance(content, dict):
            raise InputError(self.where(path), "is not a JSON object", REMEDY)
        return content

    def copy(self, path: PurePosixPath, target: Path) -> str:
        """Write a file to ``target``; returns its SHA-256."""
        digest, left = hashlib.sha256(), self.size(path)
        if left > MAX_WEIGHT_BYTES:
            raise InputError(self.where(path), "is larger than 3 GiB", REMEDY)
        try:
            stream = self._open(path)
        except OSError as error:
            raise self._unreadable(path, error) from error
        with stream, target.open("xb") as out:
            while data := stream.read(_CHUNK):
                left -= len(data)
                if left < 0:
                    raise InputError(self.where(path), "is longer than its archive says", REMEDY)
                digest.update(data)
                out.write(data)
        if left:
            raise InputError(self.where(path), "ends too early", REMEDY)
        return digest.hexdigest()

    def _open(self, path: PurePosixPath) -> IO[bytes]:
        entry = self._entries[path]
        return entry.open("rb") if self._archive is None else self._archive.open(entry)

    def _unreadable(self, path: PurePosixPath, error: OSError) -> InputError:
        cause = f"cannot be read ({error.strerror or error})"
        return InputError(self.where(path), cause, "Check its permissions")


@contextmanager
def open_package(source: Path) -> Iterator[Package]:
    """The files of a folder, or of a zip.

    Raises ``InputError`` that names ``source`` for what cannot be read or is not safe.
    """
    if source.is_dir():
        yield Package(source, None)
        return
    with opened(source) as archive:
        yield Package(source, archive)


def _leads_up(path: Path) -> bool:
    """Whether a folder is a link to one that it lies in, whose files would come again."""
    if not path.is_symlink():
        return False
    goal, here = path.resolve(), path.absolute().parent.resolve()
    return goal == here or goal in here.parents


def _files_below(folder: Path, depth: int = 0) -> Iterator[tuple[PurePosixPath, Path]]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        cause = f"cannot be read ({error.strerror or error})"
        raise InputError(folder, cause, "Check its permissions") from error
    if len(entries) > _MOST_ENTRIES:
        raise InputError(folder, "contains too many files for a model", "Name the model's folder")
    for path in entries:
        if path.is_file():
            yield PurePosixPath(path.name), path
        elif (
            path.is_dir()
            and depth < _DEEPEST
            and not path.name.startswith(".")
            and not _leads_up(path)
        ):
            for inner, file in _files_below(path, depth + 1):
                yield PurePosixPath(path.name) / inner, file
