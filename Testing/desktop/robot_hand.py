"""What the hand of a robot does about the errors of a mask; arrays only.

It knows the expert's outline, and with our effect the probability that the brush follows. As a
reader it looks where most is wrong: at the largest errors, missed or false, each in the axial slice
through its thickest place and in that where it is widest. Of all that it could do there it takes
what makes Dice largest. With Slicer's Paint that is a touch, a drag along the error's middle, and
the brush's radius; with our effect also a drag that begins elsewhere in the error, an outline, and
a click in the largest error, which can be shown before it is taken.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from StrokeLesionSegLib.boxes import Box, bounding_box
from StrokeLesionSegLib.correction import CorrectionSession, Outline, outlined, taken
from StrokeLesionSegLib.correction.robot import dice_of
from StrokeLesionSegLib.images import Grid

RADII_MM = np.array((1.0, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 26, 30))
#: A stroke may begin where the probability in the error is that low, middling or high.
BEGINNINGS = (0.1, 0.5, 0.9)

Voxel = tuple[int, int, int]
Mask = NDArray[np.bool_]


#: So many errors are looked at.
ERRORS = 4
#: A hand that draws an outline is seen about every so many mm.
SEEN_MM = 2.0


@dataclass(frozen=True, eq=False)
class Wrong:
    """An error in a slice: its middle there (k, j, i), whether lesion is missing, and the part of
    slice k that is connected with it, (J, I)."""

    place: Voxel
    missing: bool
    around: Mask


@dataclass(frozen=True)
class Touch:
    """A press at the first voxel of ``path``, a drag along it, and the Dice that it makes."""

    path: tuple[Voxel, ...]
    radius_mm: float
    adds: bool
    dice: float


@dataclass(frozen=True)
class Click:
    """A click that says that there is lesion, or that there is none, and the Dice that it makes."""

    place: Voxel
    adds: bool
    dice: float


@dataclass(frozen=True, eq=False)
class Drawn:
    """An outline around lesion, or around what is none: places (n, 3) k, j, i, and the Dice."""

    path: NDArray[np.float64]
    adds: bool
    dice: float


def errors(
    marked: Mask, wanted: Mask, spacing_kji: tuple[float, float, float], count: int = ERRORS
) -> list[Wrong]:
    """The largest errors of ``marked``, missed and false, in two slices each; the first is the
    thickest place of the largest error."""
    around = bounding_box(marked != wanted)
    if around is None:
        return []
    pieces: list[tuple[int, bool, Box, Mask]] = []
    for missing, error in ((True, wanted & ~marked), (False, marked & ~wanted)):
        labels, _ = ndimage.label(error[around], np.ones((3, 3, 3)))
        sizes = np.bincount(labels.ravel())
        boxes = ndimage.find_objects(labels)
        for n in np.argsort(-sizes[1:], kind="stable")[:count]:
            box = boxes[n]
            pieces.append((int(sizes[n + 1]), missing, box, labels[box] == n + 1))
    pieces.sort(key=lambda piece: -piece[0])
    found = []
    for _, missing, box, piece in pieces[:count]:
        depth = ndimage.distance_transform_edt(np.pad(piece, 1), sampling=spacing_kji)
        depth = depth[1:-1, 1:-1, 1:-1]
        thickest = int(np.unravel_index(int(depth.argmax()), depth.shape)[0])
        wide = piece.sum(axis=(1, 2))
        widest = int(wide.argmax())
        for k in (thickest, widest) if wide[widest] > wide[thickest] else (thickest,):
            j, i = np.unravel_index(int(depth[k].argmax()), depth[k].shape)
            labels, _ = ndimage.label(piece[k], np.ones((3, 3)))
            whole = np.zeros(marked.shape[1:], bool)
            whole[around[1:]][box[1:]] = labels == labels[j, i]
            starts = [a.start + b.start for a, b in zip(around, box, strict=True)]
            place = (k + starts[0], int(j) + starts[1], int(i) + starts[2])
            found.append(Wrong(place, missing, whole))
    return found


def middle_line(piece: Mask, start: tuple[int, int]) -> list[tuple[int, int]]:
    """The longest way through a piece (J, I) that keeps to its middle."""
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
    steps = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]

    def furthest(source: tuple[int, int]) -> list[tuple[int, int]]:
        cost = np.full(piece.shape, np.inf)
        cost[source], waiting, before = 0.0, [(0.0, source)], {}
        while waiting:
            so_far, here = heapq.heappop(waiting)
            for a, b in steps:
                there = (here[0] + a, here[1] + b)
                if not all(0 <= n < size for n, size in zip(there, piece.shape, strict=True)):
                    continue
                further = so_far + np.hypot(a, b) / max(depth[there], 1e-9)
                if piece[there] and further < cost[there]:
                    cost[there], before[there] = further, here
                    heapq.heappush(waiting, (further, there))
        j, i = np.unravel_index(int(np.where(np.isinf(cost), -1, cost).argmax()), cost.shape)
        way = [(int(j), int(i))]
        while way[-1] != source:
            way.append(before[way[-1]])
        return way

    return furthest(furthest(start)[0])


def ways(wrong: Wrong, probability: NDArray[Any] | None = None) -> list[list[Voxel]]:
    """The strokes to choose from, each its voxels in order."""
    k, j, i = wrong.place
    found = [[wrong.place], [(k, a, b) for a, b in middle_line(wrong.around, (j, i))]]
    if probability is None:
        return found
    inside = np.argwhere(wrong.around)
    order = np.argsort(probability[k][wrong.around], kind="stable")
    for share in BEGINNINGS:
        first = inside[order[int(share * (len(order) - 1))]]
        count = int(np.abs(first - (j, i)).max()) + 1
        line = np.rint(np.linspace(first, (j, i), count)).astype(int).tolist()
        found.append([(k, a, b) for a, b in line])
    return found


def distance_mm(
    way: NDArray[np.intp], shape: tuple[int, ...], spacing_kji: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Of all voxels of a window from a way (n, 3) through it."""
    first, last = way[0] * np.array(spacing_kji), way[-1] * np.array(spacing_kji)
    length = float(np.linalg.norm(last - first))
    along = (last - first) / length if length else np.zeros(3)
    off = way * np.array(spacing_kji) - first
    off = off - np.outer(off @ along, along)
    if np.linalg.norm(off, axis=1).max() > 1.0:
        away = np.ones(shape, bool)
        away[tuple(way.T)] = False
        return ndimage.distance_transform_edt(away, sampling=spacing_kji).astype(np.float32)
    # Straight: a distance transform would take ten times as long.
    k, j, i = np.ogrid[tuple(slice(0, n) for n in shape)]
    from_first = [
        (index * step - start).astype(np.float32)
        for index, step, start in zip((k, j, i), spacing_kji, first, strict=True)
    ]
    ahead = np.clip(
        sum(d * np.float32(a) for d, a in zip(from_first, along, strict=True)), 0, length
    )
    return np.sqrt(
        sum((d - np.float32(a) * ahead) ** 2 for d, a in zip(from_first, along, strict=True))
    )


def best_touch(
    marked: Mask,
    wanted: Mask,
    wrong: Wrong,
    spacing_kji: tuple[float, float, float],
    probability: NDArray[Any] | None = None,
    takes: Callable[[NDArray[Any], float], Mask] | None = None,
) -> Touch:
    """The stroke about an error after which Dice is largest.

    ``takes(probability, began)``: which voxels a brush takes that follows the probability where it
    began; what it takes nothing of it paints as a whole, as Slicer's does. None: Slicer's brush.
    """
    sign = 1 if wrong.missing else -1
    total, both = int(marked.sum()) + int(wanted.sum()), int((marked & wanted).sum())
    best = Touch((wrong.place,), RADII_MM[0], wrong.missing, -1.0)
    for way in ways(wrong, probability if takes is not None else None):
        reach = [int(RADII_MM[-1] / step) + 1 for step in spacing_kji]
        low = [max(0, int(n) - r) for n, r in zip(np.min(way, axis=0), reach, strict=True)]
        high = [int(n) + r + 1 for n, r in zip(np.max(way, axis=0), reach, strict=True)]
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        distance = distance_mm(np.array(way) - low, marked[window].shape, spacing_kji)
        ring = np.searchsorted(RADII_MM, distance - 1e-3)

        def within(voxels: Mask, ring: NDArray[np.intp] = ring) -> NDArray[np.intp]:
            return np.cumsum(np.bincount(ring[voxels], minlength=len(RADII_MM) + 1))[:-1]

        wrongly, truly = ~marked[window] if wrong.missing else marked[window], wanted[window]
        changed, right = within(wrongly), within(wrongly & truly)
        if takes is not None and probability is not None:
            taken = takes(probability[window], float(probability[way[0]]))
            some = within(taken) > 0
            changed = np.where(some, within(wrongly & taken), changed)
            right = np.where(some, within(wrongly & taken & truly), right)
        left = total + sign * changed
        dice = np.where(left > 0, 2 * (both + sign * right) / np.maximum(left, 1), 1.0)
        n = int(dice.argmax())
        if dice[n] > best.dice:
            best = Touch(tuple(way), float(RADII_MM[n]), wrong.missing, float(dice[n]))
    return best


def best_stroke(
    marked: Mask,
    wanted: Mask,
    wrongs: Sequence[Wrong],
    spacing_kji: tuple[float, float, float],
    session: CorrectionSession | None = None,
) -> Touch:
    """The stroke of all errors after which Dice is largest; with a session, of the brush that
    follows its probability, else of Slicer's."""
    found = []
    for wrong in wrongs:
        takes = None
        if session is not None:
            threshold, erase = session.point.threshold, not wrong.missing

            def takes(p: Any, began: float, t: float = threshold, erase: bool = erase) -> Mask:
                return taken(p, t, began, erase=erase)

        probability = None if session is None else session.probability
        found.append(best_touch(marked, wanted, wrong, spacing_kji, probability, takes))
    return max(found, key=lambda touch: touch.dice)


def shown_click(marked: Mask, wanted: Mask, wrong: Wrong, session: CorrectionSession) -> Click:
    """A click in the middle of an error and what it would make; the session is as before."""
    session.click(wrong.place, wrong.missing, marked)
    dice = dice_of(session.mask, wanted)
    session.undo(marked)
    return Click(wrong.place, wrong.missing, dice)


def choices(
    marked: Mask,
    wanted: Mask,
    wrongs: Sequence[Wrong],
    grid: Grid,
    session: CorrectionSession,
    earlier: Sequence[Outline],
) -> list[Touch | Click | Drawn]:
    """With our effect: the best stroke, the best outline, and a click in the largest error."""
    drawn = best_outline(marked, wanted, wrongs, grid, earlier)
    return [
        best_stroke(marked, wanted, wrongs, grid.spacing[::-1], session),
        shown_click(marked, wanted, wrongs[0], session),
        *([] if drawn is None else [drawn]),
    ]


def best_outline(
    marked: Mask, wanted: Mask, wrongs: Sequence[Wrong], grid: Grid, earlier: Sequence[Outline]
) -> Drawn | None:
    """The outline after which Dice is largest: around one of the lesion's pieces in the slice of an
    error, or around a piece of the mask that holds no lesion. None where there is nothing to draw.

    Slices are across the grid's third axis.
    """
    total, both = int(marked.sum()) + int(wanted.sum()), int((marked & wanted).sum())
    best: Drawn | None = None
    seen: set[tuple[int, bool, Voxel]] = set()
    for wrong in wrongs:
        k, j, i = wrong.place
        lesions, _ = ndimage.label(wanted[k], np.ones((3, 3)))
        piece = lesions == lesions[j, i] if wrong.missing else _piece(marked[k], (j, i))
        adds = wrong.missing
        if not wrong.missing and (piece & wanted[k]).any():
            # The mask reaches beyond a lesion, of several pieces the largest.
            piece = lesions == int(np.bincount(lesions[piece & wanted[k]]).argmax())
            adds = True
        first = tuple(int(n) for n in np.argwhere(piece)[0])
        key = (k, adds, (k, *first))
        if key in seen:
            continue
        seen.add(key)
        path = np.insert(edge(piece), 0, k, axis=1)[:: max(1, round(SEEN_MM / grid.spacing[0]))]
        points = path[:, ::-1] @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        across = np.cross(grid.affine[:3, 0], grid.affine[:3, 1])
        box, found = outlined(marked, grid, points, across, lesion=adds, earlier=earlier)
        before, truth = marked[box], wanted[box]
        hits = both + int((found & truth).sum()) - int((before & truth).sum())
        dice = 2 * hits / max(1, total + int(found.sum()) - int(before.sum()))
        if best is None or dice > best.dice:
            best = Drawn(path, adds, dice)
    return best


def shaken(
    path: NDArray[np.float64], shakes_mm: float, spacing_kji: Sequence[float], rng: Any
) -> NDArray[np.float64]:
    """A way (n, 3) k, j, i as a hand goes it that misses by so many mm within the slice (standard
    deviation), to one side for about a centimetre."""
    noise = ndimage.gaussian_filter1d(rng.normal(size=(len(path), 2)), 2.5, axis=0, mode="wrap")
    noise *= shakes_mm / max(1e-9, float(np.sqrt((noise**2).mean())))
    return path + np.insert(noise / np.array(spacing_kji)[1:], 0, 0.0, axis=1)


def _piece(marked: Mask, place: tuple[int, int]) -> Mask:
    """The piece of a slice at a place."""
    labels, _ = ndimage.label(marked, np.ones((3, 3)))
    return labels == labels[place]


def edge(piece: Mask) -> NDArray[np.float64]:
    """Once around a connected piece (8 neighbours) of a slice, past its holes: the middles of the
    sides of pixels that part it from what is outside, (n, 2) rows and columns, in order."""
    inside = np.pad(piece, 1)
    row, column = (int(n) for n in np.argwhere(inside)[0])
    # A corner is named after the pixel below and to the right of it; the piece is to the right.
    start = here = (row, column)
    ahead = (0, 1)
    middles = []
    while True:
        there = (here[0] + ahead[0], here[1] + ahead[1])
        middles.append(((here[0] + there[0]) / 2 - 1.5, (here[1] + there[1]) / 2 - 1.5))
        left, right = _beyond(inside, there, ahead)
        if left:  # also where two pixels meet at a corner only
            ahead = (-ahead[1], ahead[0])
        elif not right:
            ahead = (ahead[1], -ahead[0])
        here = there
        if here == start and ahead == (0, 1):
            return np.array(middles)


def _beyond(inside: Mask, corner: tuple[int, int], ahead: tuple[int, int]) -> tuple[bool, bool]:
    """Whether the two pixels beyond a corner, to the left and to the right, belong to a piece."""
    row, column = corner
    down, along = ahead
    left = (row + (down - along - 1) // 2, column + (down + along - 1) // 2)
    right = (row + (down + along - 1) // 2, column + (along - down - 1) // 2)
    return bool(inside[left]), bool(inside[right])


def best_threshold(
    wanted: Mask, found: Callable[[float], Mask], thresholds: tuple[float, ...]
) -> tuple[float, float]:
    """Of some positions of the threshold's slider the best one, and its Dice."""
    reached = {threshold: dice_of(found(threshold), wanted) for threshold in thresholds}
    best = max(reached, key=lambda threshold: reached[threshold])
    return best, reached[best]
