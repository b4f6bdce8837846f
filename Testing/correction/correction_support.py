"""A head and a predictor of random answers, for sessions that cost next to nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from StrokeLesionSegLib.boxes import Box, extents
from StrokeLesionSegLib.correction.head_map import HeadMap
from StrokeLesionSegLib.correction.session import CorrectionSession, Known
from StrokeLesionSegLib.images import Alignment, Grid, Volume, to_canonical
from StrokeLesionSegLib.inference.head_box import HEAD_BOX, HEAD_SHAPE, at_1_mm
from StrokeLesionSegLib.operating_point import OperatingPoint

START = tuple(part.start for part in HEAD_BOX)
POINT = OperatingPoint(0.5)
#: Native RAS mm is MNI RAS mm.
AS_IT_LIES = Alignment(np.eye(4), True, "", 1.0, 1.0, 0.0)


class RandomField:
    """Answers that are blocks of noise, other ones at every call."""

    def __init__(self, seed: int = 0, share: float = 0.5) -> None:
        self.rng = np.random.default_rng(seed)
        self.share = share
        self.calls: list[tuple[Box, list]] = []

    def cube(
        self, box: Box, clicks: Sequence, previous: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        self.calls.append((box, list(clicks)))
        shape = extents(at_1_mm(box))
        assert previous.shape == shape
        side = int(self.rng.choice([2, 4, 8]))
        coarse = self.rng.random([n // side for n in shape], dtype=np.float32)
        coarse = (coarse < self.share).astype(np.float32)
        for axis in range(3):
            coarse = np.repeat(coarse, side, axis)
        return coarse

    def head(self, clicks: Sequence, previous: NDArray[np.float32] | None):
        return np.full(HEAD_SHAPE, 0.1, np.float32), np.zeros(HEAD_SHAPE, np.float32)


class BallAnswers(RandomField):
    """Lesion is what lies within ``radius`` mm of ``centre`` (k, j, i of the head box)."""

    def __init__(self, centre: Sequence[float], radius: float) -> None:
        super().__init__()
        k, j, i = np.ogrid[tuple(slice(0, n) for n in HEAD_SHAPE)]
        distance = np.sqrt((k - centre[0]) ** 2 + (j - centre[1]) ** 2 + (i - centre[2]) ** 2)
        self.field = np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32)

    def cube(
        self, box: Box, clicks: Sequence, previous: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        self.calls.append((box, list(clicks)))
        return self.field[at_1_mm(box)].copy()


def head_map(grid: Grid, alignment: Alignment | None = AS_IT_LIES) -> HeadMap:
    """The map of a scan of that grid."""
    volume = Volume(np.zeros(grid.shape, np.float32), grid.affine)
    return HeadMap(to_canonical(volume, alignment), START)


def session_on(
    grid: Grid,
    answers: RandomField,
    mask: NDArray | None = None,
    head: HeadMap | None = None,
) -> CorrectionSession:
    """A session that begins with ``mask``, by default an empty one."""
    mask = np.zeros(grid.shape, bool) if mask is None else mask
    return CorrectionSession(grid, head or head_map(grid), answers, POINT, Known(mask=mask))


def rotation(degrees: Sequence[float]) -> NDArray[np.float64]:
    """3x3, about x, y and z in turn."""
    out = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        a, b = [n for n in range(3) if n != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        out = turn @ out
    return out
