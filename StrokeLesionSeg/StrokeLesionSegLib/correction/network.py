"""The volumetric network, asked about a part of one head with clicks in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..boxes import Box, extents, whole_box
from ..inference.head_box import HEAD_SHAPE, INNER_SHAPE

if TYPE_CHECKING:
    from torch import Tensor

    from ..inference.whole_head import HeadScan, WholeHeadPredictor

Place = tuple[int, int, int]
#: Shifts in voxels of 1 mm that a head which cannot be mirrored is looked at with.
_SHIFT = (1, 1, 1)


class Answers(Protocol):
    """What a session asks; ``ClickNetwork`` is the one that people use.

    Clicks are (place, lesion): k, j, i of the head box in voxels of 2 mm, and what is there.
    """

    def cube(
        self, box: Box, clicks: Sequence[tuple[Place, bool]], previous: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Probability of lesion in ``box``, of the head box in voxels of 2 mm.

        ``previous``: what was answered before, at 1 mm: (2 K, 2 J, 2 I) float32, as is the result.
        """
        ...

    def head(
        self, clicks: Sequence[tuple[Place, bool]], previous: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probability and uncertainty of the whole head, head arrays; of several passes."""
        ...


class ClickNetwork:
    """One head that is ready to be asked about.

    The number format is tried on the middle of this head first, as in ``WholeHeadPredictor``.
    """

    def __init__(self, predictor: WholeHeadPredictor, scan: HeadScan) -> None:
        import torch

        from ..inference.volumetric import head_channels

        self._predictor, self._scan = predictor, scan
        self._image = torch.from_numpy(scan.image)
        self._mirror = scan.placed.in_mni
        self._channels = head_channels(self._image, mirror=self._mirror).contiguous(
            memory_format=torch.channels_last_3d
        )
        self._run, self.format = predictor.runner(scan)

    def cube(
        self, box: Box, clicks: Sequence[tuple[Place, bool]], previous: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See ``Answers``."""
        import torch

        inside = [
            ((p[0] - box[0].start, p[1] - box[1].start, p[2] - box[2].start), lesion)
            for p, lesion in clicks
            if all(s.start <= n < s.stop for n, s in zip(p, box, strict=True))
        ]
        part = self._channels[(slice(None), slice(None), *box)]
        return self._ask(part, inside, torch.from_numpy(previous))

    def head(
        self, clicks: Sequence[tuple[Place, bool]], previous: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See ``Answers``: the head and the mirrored head, or the head and the shifted head."""
        import torch

        from ..inference.volumetric import head_channels

        before = torch.zeros(HEAD_SHAPE) if previous is None else torch.from_numpy(previous)
        first = self._ask(self._channels, clicks, before)
        if self._mirror:
            channels = head_channels(self._image, flipped=True)
            last = INNER_SHAPE[2]
            other = [((k, j, min(last - i, last - 1)), lesion) for (k, j, i), lesion in clicks]
            answer = torch.from_numpy(self._ask(channels, other, _mirrored(before)))
            second = _mirrored(answer).numpy()
        else:
            channels = head_channels(torch.roll(self._image, _SHIFT, (0, 1, 2)), mirror=False)
            answer = torch.from_numpy(
                self._ask(channels, clicks, torch.roll(before, _SHIFT, (0, 1, 2)))
            )
            second = torch.roll(answer, [-n for n in _SHIFT], (0, 1, 2)).numpy()
        mean = (first + second) / 2
        uncertainty = np.abs(first - second) / 2
        keep = self._predictor.searched(self._scan)
        if keep is not None:
            mean *= keep
            uncertainty *= keep
        return mean, uncertainty

    def _ask(
        self, scan: Tensor, clicks: Sequence[tuple[Place, bool]], previous: Tensor
    ) -> NDArray[np.float32]:
        from ..inference.volumetric import with_clicks

        return self._run(with_clicks(scan, clicks, previous))[0].numpy()


def _mirrored(array: Tensor) -> Tensor:
    """A head array with left and right exchanged."""
    import torch

    return torch.roll(array.flip(-1), 1, -1)


def cube_around(low: Place, high: Place, side: int) -> Box | None:
    """The cube of ``side`` voxels of 2 mm about the box from ``low`` to ``high`` (inclusive),
    moved into the head box; None if it leaves less than a sixth of the side around them."""
    if any(b - a > side - side // 3 for a, b in zip(low, high, strict=True)):
        return None
    k, j, i = (
        slice(start, start + side)
        for a, b, n in zip(low, high, INNER_SHAPE, strict=True)
        for start in [min(max((a + b + 1) // 2 - side // 2, 0), n - side)]
    )
    return k, j, i


def whole_head() -> Box:
    """The head box in voxels of 2 mm."""
    return whole_box(INNER_SHAPE)


def is_whole(box: Box) -> bool:
    """Whether a box in voxels of 2 mm is the head box."""
    return extents(box) == INNER_SHAPE
