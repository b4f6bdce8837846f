"""Which atlas a run uses, by its files: what travels to other processes."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .atlas import Atlas


@dataclass(frozen=True)
class AtlasChoice:
    """The atlas that is shipped, or one of the user's.

    Attributes
    ----------
    image: a label image in MNI152 space; None is the shipped one. labels: its list of labels;
        None takes the one beside it.

    Examples
    --------
    >>> from StrokeLesionSegLib.atlases import AtlasChoice
    >>> AtlasChoice().identity
    ['shipped']
    """

    image: Path | None = None
    labels: Path | None = None

    @property
    def identity(self) -> list[str]:
        """Checksums of the files: another content is another atlas. Raises ``OSError``."""
        if self.image is None:
            return ["shipped"]
        from .labels import labels_beside

        files = [self.image, self.labels or labels_beside(self.image)]
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file is not None]

    def read(self) -> Atlas:
        """The atlas, read once in each process. Raises ``InputError`` if it cannot be used."""
        return _read(self)


@functools.lru_cache(maxsize=1)
def _read(choice: AtlasChoice) -> Atlas:
    if choice.image is None:
        from .shipped import shipped_atlas

        return shipped_atlas()
    from .reading import read_atlas

    return read_atlas(choice.image, choice.labels)
