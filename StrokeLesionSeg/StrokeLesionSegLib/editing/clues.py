"""What speaks for and against lesion at the voxels around clicks, as numbers for a learned judge.

Distances to clicks, likeness of tissue, what lies on the way to the nearest click, the other half
of the brain, the model's own odds: each says a little. ``judge.py`` weighs them.

All arrays and boxes are on the canonical grid of 1 mm voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .regions import around, whole_box
from .spread import Evidence, Spread
from .types import Box, extents, intersect, is_empty, within

#: What is said of each voxel, in this order.
CLUES = (
    "model",  # its own log odds of lesion
    "answer",  # the network's log odds once it was shown the clicks, 0 where it was not
    "answered",
    "spread",  # what clicks say by distance and tissue alone, see ``spread.py``
    "to_positive",  # mm, /10: to the nearest click on lesion, and the one after it
    "to_second_positive",
    "to_negative",
    "positive_to_positive",  # mm, /10: from that nearest click to the nearest other of its kind,
    "positive_to_negative",  # and of the other kind: clicks far apart speak of a large lesion
    "model_at_positive",
    "model_at_negative",
    "above_positive",  # T1 minus that at the nearest click on lesion, /.1
    "unlike_positive",  # its size
    "above_negative",
    "unlike_negative",
    "brighter_between",  # on the straight way from the nearest click on lesion, /.1
    "darker_between",
    "relative",  # T1 as a share of the mean around
    "relative_at_positive",
    "asymmetry",  # T1 minus that of the mirror image, /.1; 0 where there is none
    "asymmetry_at_positive",
    "in_piece_of_positive",  # connected with the nearest click in what the model marks,
    "in_piece_of_negative",
    "piece_of_positive",  # and how large that is: log of mL + .01
    "piece_of_negative",
    "grown_tight",  # connected with the nearest click on lesion through tissue like it,
    "grown_wide",
    "volume_tight",  # and how large that is
    "volume_wide",
    "grown_from_negative",
    "volume_from_negative",
    "positives",  # clicks within reach
    "negatives",
)
#: Nothing is said of what lies further from all clicks, in mm.
REACH_MM = 40
_FINE_MM, _COARSE_MM, _LOCAL_MM = 1.0, 2.5, 30
_ON_THE_WAY = (0.25, 0.5, 0.75)
_TONE = 0.1
# T1 within so much of a click's is like it, and so near may a connection lead.
_TIGHT, _WIDE, _GROWN_MM = 0.06, 0.12, 30


class Tissue:
    """Smoothed copies of a T1, for the clues of a box and the places of clicks.

    ``t1`` (K, J, I) float32 in [0, 1]; ``mirrored``: it lies on the MNI grid, so that left and
    right are exchanged by reversing the last axis. Takes half a second for a head; what is wide
    is kept at 2 mm.
    """

    def __init__(self, t1: NDArray[np.float32], mirrored: bool) -> None:
        from scipy.ndimage import gaussian_filter, uniform_filter

        self.fine = gaussian_filter(t1, _FINE_MM, truncate=3.0)
        small = _halved(self.fine)
        self._asymmetry = np.zeros_like(small)
        if mirrored:
            apart = _halved(self.fine - self.fine[..., ::-1])
            self._asymmetry = gaussian_filter(apart, _COARSE_MM / 2, truncate=3.0)
        # Of the head alone: air around it would make the brain's edge look bright.
        head = (small > 0.05).astype(np.float32)
        share = uniform_filter(head, _LOCAL_MM // 2)
        around = uniform_filter(small * head, _LOCAL_MM // 2) / np.maximum(share, 1e-3)
        self._around = np.maximum(around, np.float32(0.05))

    def relative(self, box: Box) -> NDArray[np.float32]:
        """T1 as a share of the mean around, less 1."""
        return self.fine[box] / _of_halves(self._around, box) - 1  # type: ignore[no-any-return]

    def asymmetry(self, box: Box) -> NDArray[np.float32]:
        """T1 minus that of the mirror image, /.1; 0 where there is none."""
        return _of_halves(self._asymmetry, box) / np.float32(_TONE)


def _halved(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of 2 x 2 x 2 voxels; an odd last one is repeated."""
    padded = np.pad(array, [(0, size % 2) for size in array.shape], mode="edge")
    k, j, i = (size // 2 for size in padded.shape)
    return padded.reshape(k, 2, j, 2, i, 2).mean(axis=(1, 3, 5), dtype=np.float32)


def _of_halves(halves: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
    return halves[np.ix_(*(np.arange(part.start, part.stop) // 2 for part in box))]


class Connected:
    """What is connected with one click, in the box around it.

    ``model``: gives the model's log odds in a box. Boxes within ``_GROWN_MM`` of the place.
    """

    def __init__(
        self,
        tissue: Tissue,
        place: Sequence[float],
        model: Callable[[Box], NDArray[np.float32]],
    ) -> None:
        self.box = around(place, _GROWN_MM, whole_box(tissue.fine.shape))
        size = extents(self.box)
        if not np.prod(size):
            self.masks: NDArray[np.bool_] = np.zeros((3, *size), bool)
            self.logs = [float(np.log(0.01))] * 3
            return
        middle = tuple(
            int(np.clip(round(float(p)) - part.start, 0, n - 1))
            for p, part, n in zip(place[::-1], self.box, size, strict=True)
        )
        fine = tissue.fine[self.box]
        apart = np.abs(fine - fine[middle])
        self.masks = np.stack(
            [_piece(m, middle) for m in (model(self.box) > 0, apart < _TIGHT, apart < _WIDE)]
        )
        self.logs = [float(np.log(m.sum() / 1000 + 0.01)) for m in self.masks]


def _piece(mask: NDArray[np.bool_], place: tuple[int, ...]) -> NDArray[np.bool_]:
    """The connected piece (faces) of ``mask`` that holds ``place``; empty if it is not marked."""
    from scipy import ndimage

    if not mask[place]:
        return np.zeros(mask.shape, bool)
    labels, _ = ndimage.label(mask)
    return np.asarray(labels == labels[place])


def clues(
    tissue: Tissue,
    evidence: Sequence[Evidence],
    connected: Sequence[Connected],
    spread: Spread,
    box: Box,
    model: NDArray[np.float32],
    answer: NDArray[np.float32],
    answered: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The clues of ``box`` and the distance in mm to the nearest click.

    Parameters
    ----------
    evidence: the clicks. connected, spread: of the same clicks.
    model, answer, answered: of the shape of ``box``: log odds of the model (or the starting mask)
        and, where it has answered to clicks, of that answer.

    Returns (len(CLUES), K, J, I) float32 and (K, J, I) float32, the latter at most ``REACH_MM``.
    """
    shape = extents(box)
    far = np.float32(REACH_MM / 10)
    stack = np.zeros((len(CLUES), *shape), np.float32)
    out = dict(zip(CLUES, stack, strict=True))
    out["model"][:] = model
    out["answer"][answered] = answer[answered]
    out["answered"][:] = answered
    out["spread"][:] = spread.push(box)
    for name in ("to_positive", "to_second_positive", "to_negative"):
        out[name][:] = far
    out["positive_to_positive"][:] = far
    out["positive_to_negative"][:] = far
    places = np.array([e.place for e in evidence], np.float64).reshape(-1, 3)
    signs = np.array([e.positive for e in evidence], bool)
    here = tissue.fine[box]
    out["relative"][:] = tissue.relative(box)
    out["asymmetry"][:] = tissue.asymmetry(box)
    last = np.array(tissue.fine.shape) - 1
    for number, one in enumerate(evidence):
        near = around(places[number], REACH_MM, box)
        if is_empty(near):
            continue
        part = within(near, box)
        distance = _distance(places[number], near) / np.float32(10)
        at = np.clip(np.rint(places[number][::-1]).astype(int), 0, last)
        own: Box = tuple(slice(int(n), int(n) + 1) for n in at)  # type: ignore[assignment]
        level = float(tissue.fine[own].item())
        inside = distance < far
        joined = connected[number]
        piece, tight, wide = np.zeros((3, *distance.shape), np.float32)
        shared = intersect(joined.box, near)
        if not is_empty(shared):
            for target, mask in zip((piece, tight, wide), joined.masks, strict=True):
                target[within(shared, near)] = mask[within(shared, joined.box)]
        if one.positive:
            out["positives"][part] += inside
            nearest = distance < out["to_positive"][part]
            second = np.where(nearest, out["to_positive"][part], distance)
            np.minimum(out["to_second_positive"][part], second, out=out["to_second_positive"][part])
            others = np.sqrt(((places - places[number]) ** 2).sum(axis=1)) / 10
            same, other = signs.copy(), ~signs
            same[number] = False
            brighter, darker = _on_the_way(tissue.fine, places[number], near, level)
            said = {
                "to_positive": distance,
                "positive_to_positive": min(float(far), others[same].min(initial=np.inf)),
                "positive_to_negative": min(float(far), others[other].min(initial=np.inf)),
                "model_at_positive": one.before,
                "above_positive": (here[part] - np.float32(level)) / np.float32(_TONE),
                "brighter_between": brighter,
                "darker_between": darker,
                "relative_at_positive": tissue.relative(own).item(),
                "asymmetry_at_positive": tissue.asymmetry(own).item(),
                "in_piece_of_positive": piece,
                "piece_of_positive": joined.logs[0],
                "grown_tight": tight,
                "volume_tight": joined.logs[1],
                "grown_wide": wide,
                "volume_wide": joined.logs[2],
            }
        else:
            out["negatives"][part] += inside
            nearest = distance < out["to_negative"][part]
            said = {
                "to_negative": distance,
                "model_at_negative": one.before,
                "above_negative": (here[part] - np.float32(level)) / np.float32(_TONE),
                "in_piece_of_negative": piece,
                "piece_of_negative": joined.logs[0],
                "grown_from_negative": wide,
                "volume_from_negative": joined.logs[2],
            }
        for name, value in said.items():
            np.copyto(out[name][part], np.asarray(value, np.float32), where=nearest)
    np.abs(out["above_positive"], out=out["unlike_positive"])
    np.abs(out["above_negative"], out=out["unlike_negative"])
    nearest_of_all = np.minimum(out["to_positive"], out["to_negative"]) * np.float32(10)
    return stack, nearest_of_all


def reach_of(place: ArrayLike, shape: tuple[int, ...]) -> Box:
    """The box within reach of a place (ijk) in a volume of ``shape``; may be empty."""
    return around(place, REACH_MM, whole_box(shape))


def _distance(place: NDArray[np.float64], box: Box) -> NDArray[np.float32]:
    k, j, i = (
        ((np.arange(part.start, part.stop) - middle) ** 2).astype(np.float32)
        for part, middle in zip(box, place[::-1], strict=True)
    )
    return np.sqrt(k[:, None, None] + j[:, None] + i)


def _on_the_way(
    fine: NDArray[np.float32], place: NDArray[np.float64], box: Box, level: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How much brighter and darker than ``level`` it gets between a place and each voxel."""
    brightest = np.full(extents(box), level, np.float32)
    darkest = brightest.copy()
    for share in _ON_THE_WAY:
        steps = [
            np.clip(
                np.rint(middle + share * (np.arange(part.start, part.stop) - middle)), 0, size - 1
            ).astype(np.intp)
            for part, middle, size in zip(box, place[::-1], fine.shape, strict=True)
        ]
        seen = fine[np.ix_(*steps)]
        np.maximum(brightest, seen, out=brightest)
        np.minimum(darkest, seen, out=darkest)
    return (brightest - np.float32(level)) / np.float32(_TONE), (
        np.float32(level) - darkest
    ) / np.float32(_TONE)
