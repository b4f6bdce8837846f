"""Which of the original's windows are asked at once, and which only where something is seen.

Windows lie where the original puts them, or the answer would be another: what a network says of a
place depends on all that a window shows. What can be saved are whole windows: those beyond the
brain, those that hold nothing, and those between others as long as these see no lesion there.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..brief import brief_repr
from .window_grid import Window, fewest, pad_to, starts, weights
from .window_scan import WindowScan

# Around the brain, in mm: an affine alignment leaves a few of them.
_MARGIN_MM = 6
# Windows that are asked at once share so much of a window with the next one, as MONAI's do.
_OVERLAP = 0.25
# A probability from which on something is seen, and the share of a place's answer from which on a
# window has a say there. With these the mask is the original's to some voxels.
SEEN = 0.1
_SAY = 0.1


@dataclass(frozen=True)
class WayWindows:
    """Windows of the image mirrored along ``way``: ``first`` are asked in any case, ``rest`` where
    ``bear`` finds that the answers so far call for them."""

    way: tuple[int, ...]
    first: list[Window]
    rest: list[Window]

    def bear(
        self, left: Sequence[Window], seen: NDArray[np.bool_], gaussian: NDArray[np.float32]
    ) -> list[bool]:
        """Of each window that is ``left``, whether it has a say where a lesion is ``seen``.

        seen: (A, B, C) of the image with its pads; gaussian: the weights in a window.
        """
        if not left:
            return []
        every = _summed([*self.first, *self.rest], seen.shape, gaussian)
        return [bool((seen[w] & (gaussian > _SAY * every[w])).any()) for w in left]


@dataclass(frozen=True, eq=False)
class Tiling:
    """``image``: (A, B, C); ``pads``: what is added to it, once mirrored, so that it has room for a
    window; ``ways``: the windows by way to mirror the whole image (one way but for MONAI);
    ``skipped``: how many of the original's are never asked."""

    image: NDArray[np.float32]
    pads: list[tuple[int, int]]
    ways: list[WayWindows]
    skipped: int

    __repr__ = brief_repr

    @property
    def most(self) -> int:
        """How many windows are asked at most."""
        return sum(len(w.first) + len(w.rest) for w in self.ways)


def tiling(
    scan: WindowScan,
    patch: Sequence[int],
    step: float,
    rule: str,
    ways: Sequence[tuple[int, ...]],
    *,
    exact: bool,
) -> Tiling:
    """The windows of ``scan`` by nnU-Net's or MONAI's ``rule``; if ``exact`` all at once."""
    pads = pad_to(scan.image.shape, patch)
    shape = [n + before + after for n, (before, after) in zip(scan.image.shape, pads, strict=True)]
    brain = None if exact else _brain_box(scan)
    flat = len(shape) - len(patch)
    axes = [starts(size, p, step, rule) for size, p in zip(shape[flat:], patch, strict=True)]
    gaussian = weights(patch, rule)
    asked, skipped = [], 0
    for way in ways:
        box = [slice(0, n) for n in scan.image.shape] if brain is None else list(brain)
        box = _padded(_mirrored_box(box, scan.image.shape, way), pads)
        there = np.flip(scan.there, way) if way else scan.there
        slices = range(shape[0]) if exact else range(box[0].start, box[0].stop)
        soon = [
            set(at_once(places, p, b.start, b.stop))
            for places, p, b in zip(axes, patch, box[flat:], strict=True)
        ]
        first: list[Window] = []
        rest: list[Window] = []
        for places in itertools.product(*axes):
            for number in slices if flat else [None]:
                window = tuple(slice(n, n + p) for n, p in zip(places, patch, strict=True))
                if number is not None:
                    window = (slice(number, number + 1), *window)
                if exact:
                    first.append(window)
                elif not _touches(window, box) or not _holds(window, there, shape, pads):
                    skipped += 1
                elif all(n in chosen for n, chosen in zip(places, soon, strict=True)):
                    first.append(window)
                else:
                    rest.append(window)
        if flat and not exact:
            skipped += (shape[0] - len(slices)) * len(list(itertools.product(*axes)))
        every = _summed([*first, *rest], shape, gaussian)
        matter = [w for w in rest if _has_say(w, box, every, gaussian)]
        skipped += len(rest) - len(matter)
        asked.append(WayWindows(way, first, matter))
    return Tiling(scan.image, pads, asked, skipped)


def at_once(places: Sequence[int], width: int, low: int, high: int) -> list[int]:
    """Of windows of ``width`` voxels that start at ``places`` those that are asked at once, for a
    brain from ``low`` to ``high`` along that axis."""
    return fewest(places, width, low, high, round(width * _OVERLAP))


# ------------------------------------------------------------------ boxes


def _brain_box(scan: WindowScan) -> list[slice] | None:
    """Slices of the image around the brain; None where nobody knows where it lies."""
    if scan.brain is None:
        return None
    box = []
    for axis, size in enumerate(scan.image.shape):
        margin = _MARGIN_MM / scan.step_mm[axis]
        low, high = scan.brain[:, axis].min() - margin, scan.brain[:, axis].max() + margin + 1
        start, stop = int(max(0, np.floor(low))), int(min(size, np.ceil(high)))
        if start >= stop:
            return None  # the scan shows no brain there: its alignment cannot be right
        box.append(slice(start, stop))
    return box


def _padded(box: Sequence[slice], pads: Sequence[tuple[int, int]]) -> list[slice]:
    return [
        slice(part.start + before, part.stop + before)
        for part, (before, _) in zip(box, pads, strict=True)
    ]


def _mirrored_box(box: Sequence[slice], shape: Sequence[int], axes: Sequence[int]) -> list[slice]:
    return [
        slice(n - part.stop, n - part.start) if axis in axes else part
        for axis, (part, n) in enumerate(zip(box, shape, strict=True))
    ]


def _touches(window: Window, box: Sequence[slice]) -> bool:
    return all(w.start < b.stop and b.start < w.stop for w, b in zip(window, box, strict=True))


def _summed(
    windows: Sequence[Window], shape: Sequence[int], gaussian: NDArray[np.float32]
) -> NDArray[np.float32]:
    every = np.zeros(tuple(shape), np.float32)
    for window in windows:
        every[window] += gaussian
    return every


def _has_say(
    window: Window,
    box: Sequence[slice],
    every: NDArray[np.float32],
    gaussian: NDArray[np.float32],
) -> bool:
    """Whether a window weighs anything within ``box``, beside all the others."""
    inside = tuple(
        slice(max(w.start, b.start), min(w.stop, b.stop)) for w, b in zip(window, box, strict=True)
    )
    part = tuple(
        slice(i.start - w.start, i.stop - w.start) for i, w in zip(inside, window, strict=True)
    )
    part = part[len(window) - gaussian.ndim :]
    return bool((gaussian[part] > _SAY * every[inside]).any())


def _holds(
    window: Window,
    there: NDArray[np.bool_],
    shape: Sequence[int],
    pads: Sequence[tuple[int, int]],
) -> bool:
    """Whether a window of the padded image holds something; ``there`` says it of the scan's own
    voxels, which may be larger or smaller."""
    parts = []
    for w, size, n, (before, after) in zip(window, shape, there.shape, pads, strict=True):
        scale = n / (size - before - after)
        low, high = (w.start - before) * scale, (w.stop - before) * scale
        parts.append(slice(max(0, int(low)), max(0, int(np.ceil(high)))))
    return bool(there[tuple(parts)].any())
