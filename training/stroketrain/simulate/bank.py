"""Real lesion masks on the MNI152 grid, kept small in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from StrokeLesionSegLib.brief import brief_repr
from StrokeLesionSegLib.images import MNI_GRID, read_scan, to_canonical
from torch import Tensor


@dataclass(eq=False)
class LesionBank:
    """Lesion masks as packed bits of their bounding boxes.

    Attributes
    ----------
    names: one per mask, the source file's stem.
    volumes_ml: one per mask.
    """

    names: list[str] = field(default_factory=list)
    volumes_ml: list[float] = field(default_factory=list)
    _starts: list[tuple[int, ...]] = field(default_factory=list)
    _shapes: list[tuple[int, ...]] = field(default_factory=list)
    _bits: list[np.ndarray] = field(default_factory=list)

    __repr__ = brief_repr

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str, mask: np.ndarray) -> None:
        """Keep ``mask``, (189, 233, 197) bool on the MNI grid; an empty one is left out."""
        where = np.nonzero(mask)
        if not len(where[0]):
            return
        start = tuple(int(w.min()) for w in where)
        stop = tuple(int(w.max()) + 1 for w in where)
        box = mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        self.names.append(name)
        self.volumes_ml.append(float(box.sum()) / 1000)
        self._starts.append(start)
        self._shapes.append(box.shape)
        self._bits.append(np.packbits(box))

    def mask(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """Mask ``n`` as (189, 233, 197) bool."""
        shape, start = self._shapes[n], self._starts[n]
        box = np.unpackbits(self._bits[n], count=int(np.prod(shape))).reshape(shape)
        full = torch.zeros(MNI_GRID.shape, dtype=torch.bool)
        where = tuple(slice(a, a + b) for a, b in zip(start, shape, strict=True))
        full[where] = torch.from_numpy(box).bool()
        return full.to(device)


def read_mask_bank(paths: Iterable[Path]) -> LesionBank:
    """Read masks that lie in MNI space on any 1 mm grid; a mask outside of the brain is cut.

    Raises ``InputError`` for a file that cannot be read.
    """
    bank = LesionBank()
    for path in paths:
        canonical = to_canonical(read_scan(path).volume).volume
        full = np.zeros(MNI_GRID.shape, bool)
        shift = np.round(canonical.affine[:3, 3] - MNI_GRID.affine[:3, 3]).astype(int)[::-1]
        source, target = [], []
        for a, n, m in zip(shift, canonical.array.shape, MNI_GRID.shape, strict=True):
            low, high = max(0, int(a)), min(m, int(a) + n)
            target.append(slice(low, high))
            source.append(slice(low - int(a), high - int(a)))
        full[tuple(target)] = canonical.array[tuple(source)] > 0.5
        bank.add(path.name.split(".")[0], full)
    return bank
