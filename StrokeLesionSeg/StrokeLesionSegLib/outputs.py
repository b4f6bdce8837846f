"""The files one run writes: checked before the work starts, complete together or not there at all.

Every file is first written into a hidden folder beside its place. Only when all of them are
complete are they renamed into their places, so that neither a crash nor a full disk leaves a mask
without its table, or half a file under a good name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import InputError
from .file_formats import FORMATS, ending_like, split_name, written_endings

_STAGING_PREFIX = ".stroke-lesion-seg-"
# No run takes so long, by the clock of the disk: what it staged is nobody's.
_ABANDONED_S = 86_400
# Windows' own numbers of errors: a path that is not found, a file that another program has open,
# a name that is too long; and how long a path may be unless the system was told to allow more.
_PATH_NOT_FOUND, _SHARING_VIOLATION, _NAME_TOO_LONG = 3, 32, 206
_WINDOWS_PATH = 248
# File systems take names of 255 bytes: of longer ones than this a temporary name has the end only,
# of which no character has more than four bytes.
_LONG_NAME = 200


def default_mask_path(source: Path, label: str | None = None) -> Path:
    """``<label>_lesion<ending>`` beside the source; NIfTI for DICOM and for formats not written.

    ``label``: by default ``default_label(source)``.
    """
    source = Path(os.path.abspath(source))
    suffix = "" if source.is_dir() else split_name(source)[1]
    return source.with_name(f"{label or default_label(source)}_lesion{ending_like(suffix)}")


def default_label(source: Path) -> str:
    """What results call a scan: its file's name, but for DICOM, named as patients are, a checksum.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.outputs import default_label
    >>> default_label(Path("sub-01_T1w.nii.gz")), default_label(Path("DOE_JANE.dcm"))[:6]
    ('sub-01_T1w', 'dicom-')
    """
    source = Path(os.path.abspath(source))
    stem, suffix = split_name(source)
    if source.is_dir() or suffix in FORMATS["dicom"].endings:
        return f"dicom-{hashlib.sha256(os.fsencode(source.name)).hexdigest()[:8]}"
    return stem


def beside_mask(mask: Path, suffix: str) -> Path:
    """The mask's path with another ending: ``x_lesion.nii.gz`` to ``x_lesion.tsv``."""
    return mask.with_name(split_name(mask)[0] + suffix)


class OutputSet:
    """A context in which a run's output files are staged and then committed together.

    Parameters
    ----------
    volumes: image files; their names must end in one of ``written_endings()``.
    documents: other files, with the ending each must have, for example ``(path, ".tsv")``.
    source: the input, or several, which must not be among the outputs.
    overwrite: whether existing files may be replaced.

    Entering checks every output, makes folders that are missing, and raises ``InputError`` if an
    output cannot be written: wrong ending, already there, named twice, its folder not writable,
    its name too long. Leaving removes what is staged; without :meth:`commit` nothing appears, no
    folder either, and a commit that fails is undone. A file that somebody else has put into an
    output's place meanwhile is not replaced, unless ``overwrite`` says so.
    """

    def __init__(
        self,
        volumes: Iterable[Path],
        documents: Iterable[tuple[Path, str]] = (),
        *,
        source: Path | Sequence[Path] | None = None,
        overwrite: bool = False,
    ) -> None:
        self._volumes = [Path(p) for p in volumes]
        self._documents = [(Path(p), suffix) for p, suffix in documents]
        self._sources = [source] if isinstance(source, Path) else list(source or ())
        self._overwrite = overwrite
        self._staging: dict[Path, Path] = {}
        self._absent: list[Path] = []
        self._made: list[Path] = []

    def __enter__(self) -> OutputSet:
        try:
            self._check()
        except BaseException:
            self._remove_staging()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._remove_staging()

    def staged(self, path: Path) -> Path:
        """Where to write the output that will become ``path``; the same name in a hidden folder."""
        return self._staging[_folder(path)] / path.name

    def absent(self, path: Path) -> None:
        """Say that ``path``, one of the outputs, cannot be made: an older one goes at the commit.

        Else it would pass for a result of this run.
        """
        self._absent.append(path)

    def commit(self) -> None:
        """Put every staged file into its place.

        Images come last: where there is a mask, there is all that belongs to it.

        Raises ``InputError`` if the system refuses, or if another program has made one of the
        files meanwhile; then none of ours is there, and files that were there before are back.
        """
        done: list[tuple[Path, Path | None]] = []
        at: Path | str = "outputs"
        images = {path.name for path in self._volumes}
        try:
            for folder, staging in self._staging.items():
                backups = Path(tempfile.mkdtemp(prefix="old-", dir=staging))
                ready = [p for p in staging.iterdir() if p.is_file()]
                for staged in sorted(ready, key=lambda p: (p.name in images, p.name)):
                    at = final = folder / staged.name
                    backup = None
                    if not self._overwrite:
                        _place(staged, final)
                    else:
                        if final.exists():
                            backup = backups / staged.name
                            _keep_copy(final, backup)
                        os.replace(staged, final)
                    done.append((final, backup))
                for final in (folder / p.name for p in self._absent if _folder(p) == folder):
                    if final.exists():
                        backup = backups / final.name
                        _keep_copy(final, backup)
                        final.unlink()
                        done.append((final, backup))
                sync_folder(folder)
        except BaseException as error:
            for final, backup in reversed(done):
                if backup is None:
                    final.unlink(missing_ok=True)
                else:
                    os.replace(backup, final)
            if isinstance(error, FileExistsError):
                raise InputError(
                    error.filename2 or error.filename,
                    "appeared during the run (from another run?) and was left unchanged",
                    "Add --overwrite or name another output",
                ) from error
            if isinstance(error, OSError):
                raise os_input_error(error, at) from error
            raise

    def _check(self) -> None:
        seen: set[Path] = set()
        endings: list[tuple[Path, tuple[str, ...]]]
        endings = [(p, written_endings()) for p in self._volumes]
        endings += [(p, (suffix,)) for p, suffix in self._documents]
        for path, suffixes in endings:
            suffix = next((s for s in suffixes if path.name.lower().endswith(s)), None)
            if suffix is None or len(path.name) == len(suffix):
                raise InputError(
                    path,
                    "its ending is not that of a format that can be written",
                    f"Let the name end in {' or '.join(suffixes)}",
                )
            key = _folder(path) / path.name
            if key in seen:
                raise InputError(path, "two outputs have this name", "Give each its own name")
            seen.add(key)
            if any(_same_file(path, source) for source in self._sources):
                raise InputError(path, "the output is the input", "Give the output another name")
            if os.path.isdir(path):
                raise InputError(path, "is a folder", "Give the name of a file")
            if not self._overwrite and os.path.lexists(path):
                raise InputError(path, "exists already", "Add --overwrite or name another output")
        for path, _ in endings:
            folder = _folder(path)
            if folder in self._staging:
                self._probe(path)
                continue
            if not os.path.isdir(folder):
                self._make_folder(folder, path)
            try:
                # The only test of writability that is true on every file system and for root.
                staging = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=folder))
            except OSError as error:
                raise os_input_error(error, path) from error
            self._staging[folder] = staging
            _sweep(staging)
            self._probe(path)

    def _make_folder(self, folder: Path, path: Path) -> None:
        """Make the folder of ``path``; it goes again if nothing is put into it."""
        above = folder
        while not os.path.lexists(above):
            self._made.append(above)
            above = above.parent
        if not above.is_dir():
            raise InputError(path, f"{above} is not a folder", "Choose another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise os_input_error(error, path) from error

    def _probe(self, path: Path) -> None:
        """Find out now, and not after the work, whether a file system takes the name."""
        staged = self.staged(path)
        try:
            staged.touch(exist_ok=False)
            staged.unlink()
        except OSError as error:
            raise os_input_error(error, path) from error

    def _remove_staging(self) -> None:
        for folder in self._staging.values():
            shutil.rmtree(folder, ignore_errors=True)
        self._staging.clear()
        # The deepest first; what holds outputs stays.
        for folder in sorted(self._made, key=lambda f: -len(f.parts)):
            with contextlib.suppress(OSError):
                folder.rmdir()
        self._made.clear()


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside ``path``, which takes its place when the block is done.

    The temporary name ends as ``path`` does, since some writers choose the format by it. On any
    exception it is removed and ``path`` is left as it was. Raises ``InputError`` if the system
    refuses.
    """
    path = Path(path)
    name = path.name
    if len(os.fsencode(name)) > _LONG_NAME:
        name = name[-_LONG_NAME // 4 :]
    temporary = path.with_name(f".{secrets.token_hex(4)}.tmp.{name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise os_input_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_file(path: Path) -> None:
    """Remove a file if it is there; ``InputError`` if the system refuses."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise os_input_error(error, path) from error


def sync_folder(folder: Path) -> None:
    """Have the names in ``folder`` on the disk, where the system can say so (not Windows)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def os_input_error(error: OSError, where: str | os.PathLike[str]) -> InputError:
    """What the operating system refused about ``where``, in one line with a remedy."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return InputError(where, "the disk is full", "Free some space or choose another folder")
    windows = getattr(error, "winerror", None)
    if windows == _SHARING_VIOLATION:
        return InputError(where, "is open in another program", "Close it there and run this again")
    length = len(os.path.abspath(where))
    if windows == _NAME_TOO_LONG or (windows == _PATH_NOT_FOUND and length >= _WINDOWS_PATH):
        cause = f"the path is too long for Windows ({length} characters)"
        return InputError(
            where, cause, "Allow long paths (docs/windows.md), or use a shorter folder"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(where, "cannot be written here", "Choose a folder that you may write to")
    if error.errno == errno.ENAMETOOLONG:
        return InputError(
            Path(where).name[:40] + "...", "the name is too long", "Give a shorter one"
        )
    return InputError(where, f"cannot be written ({error.strerror or error})", "Check the disk")


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; an empty one if the file is missing, unreadable or another."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json_object(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` on one line, completely or not at all."""
    with atomic_file(path) as part:
        part.write_text(json.dumps(content), encoding="utf-8")


def _sweep(staging: Path) -> None:
    """Remove the staging folders that killed runs have left beside ``staging``, which is new."""
    with contextlib.suppress(OSError):
        now = staging.stat().st_mtime
        for other in staging.parent.glob(f"{_STAGING_PREFIX}*"):
            if now - other.lstat().st_mtime > _ABANDONED_S and not other.is_symlink():
                shutil.rmtree(other, ignore_errors=True)


def _folder(path: Path) -> Path:
    return Path(os.path.realpath(path.parent))


def _same_file(a: Path, b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False


def _place(staged: Path, final: Path) -> None:
    """Rename, with ``FileExistsError`` if something is there already."""
    try:
        os.link(staged, final)
        staged.unlink()
        return
    except FileExistsError:
        raise
    except OSError:  # no hard links on this file system
        pass
    with open(final, "xb"):
        pass
    try:
        os.replace(staged, final)
    except BaseException:
        final.unlink(missing_ok=True)  # an empty file under a good name
        raise


def _keep_copy(path: Path, copy: Path) -> None:
    try:
        os.link(path, copy)
    except OSError:  # no hard links on this file system
        shutil.copy2(path, copy)
