"""Going through a folder as ``batch`` does: through links to folders, but not into hidden ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(top: Path) -> Iterator[Path]:
    """The files in ``top`` and below, none of them hidden; linked folders are entered once.

    Data sets under DataLad consist of links, and keep contents in hidden folders.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.walk import files_below
    >>> for name in ("set/a/1", "set/.git/2"):
    ...     Path(name).parent.mkdir(parents=True)
    ...     _ = Path(name).write_bytes(b"")
    >>> [file.as_posix() for file in files_below(Path("set"))]
    ['set/a/1']
    """
    seen = set()
    for folder, folders, names in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file():
                yield file
