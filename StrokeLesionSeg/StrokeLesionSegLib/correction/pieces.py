"""The connected pieces of a mask, as a reader goes through them: keep, drop, split.

Arrays only: no network, no scan. Who keeps the mask applies what ``drop`` and ``take_back`` say.
"""

from __future__ import annotations

import binascii
import json
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..boxes import Box, bounding_box, extents, intersect, is_empty, outside, whole_box, within
from ..brief import brief_repr
from ..images.volume import Grid
from .change import Voxel
from .voxel_text import voxels_from_text, voxels_to_text

STATES = ("open", "kept", "dropped")
# How much a piece is eaten away, and its threshold raised, in search of where it comes apart.
_STEPS = 12
# Parts smaller than this share of the piece are crumbs.
_LEAST_SHARE = 0.03
# Voxels of two grids are the same if they lie so near each other, in voxels.
_OFF = 0.05


@dataclass(frozen=True, eq=False)
class Piece:
    """One piece of a mask.

    Attributes
    ----------
    id: stays the same as long as the piece is recognised. box, mask: its voxels; bool, of the
        box's shape. state: "open", "kept", or "dropped": no longer in the mask.
    volume_ml, mean_probability: the latter None where no probability is known.
    voxel: (k, j, i) of the voxel of the piece that is nearest to its middle.
    part: made by ``split``.

    Examples
    --------
    >>> from StrokeLesionSegLib.correction import PieceList
    >>> from StrokeLesionSegLib.images import Grid
    >>> mask = np.ones((2, 3, 4), bool)
    >>> (piece,) = PieceList(Grid(mask.shape, np.eye(4))).look(mask)
    >>> piece.voxels, piece.state, piece.volume_ml
    (24, 'open', 0.024)
    """

    id: int
    box: Box
    mask: NDArray[np.bool_]
    state: str
    volume_ml: float
    mean_probability: float | None
    voxel: Voxel
    part: bool = False
    __repr__ = brief_repr

    @property
    def voxels(self) -> int:
        """How many it has."""
        return int(np.count_nonzero(self.mask))


class PieceList:
    """The pieces of one mask on ``grid``, largest first, with what was decided about them.

    Parameters
    ----------
    grid : that of the mask.

    Examples
    --------
    >>> from StrokeLesionSegLib.correction import PieceList
    >>> from StrokeLesionSegLib.images import Grid
    >>> mask = np.array([[[True, True, False, True]]])
    >>> pieces = PieceList(Grid(mask.shape, np.eye(4)))
    >>> [piece.voxels for piece in pieces.look(mask)]
    [2, 1]
    >>> small = pieces.pieces[1]
    >>> mask[small.box] &= ~pieces.mark(small.id, "dropped").mask
    >>> [(piece.voxels, piece.state) for piece in pieces.look(mask)]
    [(2, 'open'), (1, 'dropped')]
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.pieces: tuple[Piece, ...] = ()
        self._next = 1
        self._probability: NDArray[np.floating[Any]] | None = None

    def look(
        self, mask: NDArray[np.bool_], probability: NDArray[np.floating[Any]] | None = None
    ) -> tuple[Piece, ...]:
        """Find the pieces of ``mask`` anew; a decision stays with the piece that it was made about.

        ``probability``: (K, J, I) as ``mask``, for means and for ``split``.
        """
        self._probability = probability
        known = self.pieces
        found: list[Piece] = []
        for box, own in _components(mask):
            cuts = [
                p
                for p in known
                if p.part and p.state != "dropped" and _shared(p.box, p.mask, box, own)
            ]
            parts = _cut_again(box, own, cuts) if len(cuts) > 1 else [(box, own)]
            found += [self._measured(0, b, m, "open", len(parts) > 1) for b, m in parts]
        named = self._named(found, [p for p in known if p.state != "dropped"])
        gone = [p for p in known if p.state == "dropped" and not _is_back(p, mask)]
        self.pieces = tuple(sorted([*named, *gone], key=lambda p: (-p.voxels, p.id)))
        return self.pieces

    def piece(self, piece_id: int) -> Piece:
        """Raises ``KeyError`` if there is none of that id."""
        for piece in self.pieces:
            if piece.id == piece_id:
                return piece
        raise KeyError(piece_id)

    def mark(self, piece_id: int, state: str) -> Piece:
        """Decide about a piece: one of ``STATES``. Raises ``KeyError``."""
        piece = replace(self.piece(piece_id), state=state)
        self.pieces = tuple(piece if p.id == piece_id else p for p in self.pieces)
        return piece

    def split(self, piece_id: int) -> int:
        """Cut a piece where it is thinnest or least probable; returns the number of its parts: 1
        for a piece that cannot be cut. Raises ``KeyError``."""
        whole = self.piece(piece_id)
        p = self._probability
        values = whole.mask.astype(np.float32) if p is None else np.asarray(p[whole.box])
        labels = split_piece(whole.mask, values, _spacing(self.grid))
        count = int(labels.max())
        if whole.state == "dropped" or count < 2:
            return 1
        parts = []
        for number in range(1, count + 1):
            own = labels == number
            inner = bounding_box(own)
            assert inner is not None
            name = piece_id if number == 1 else self._new_id()
            parts.append(self._measured(name, outside(inner, whole.box), own[inner], "open", True))
        rest = [p for p in self.pieces if p.id != piece_id]
        self.pieces = tuple(sorted([*rest, *parts], key=lambda p: (-p.voxels, p.id)))
        return count

    def to_text(self) -> str:
        """What was decided, for a tag that is saved with the mask; empty if nothing was."""
        kept = [p for p in self.pieces if p.part or p.state != "open"]
        if not kept:
            return ""
        return json.dumps(
            [
                {
                    **_place(p.box, self.grid),
                    "box": [n for s in p.box for n in (s.start, s.stop)],
                    "voxels": voxels_to_text(p.mask),
                    "state": p.state,
                    "part": p.part,
                }
                for p in kept
            ],
            separators=(",", ":"),
        )

    def read_text(self, text: str) -> None:
        """Take what ``to_text`` gave in place of all that was decided; call ``look`` then.

        What makes no sense on this grid is left out.
        """
        try:
            entries = json.loads(text) if text else []
        except ValueError:
            entries = []
        self.pieces = ()
        pieces = []
        for entry in entries if isinstance(entries, list) else []:
            try:
                box, mask = _unpacked(entry, self.grid)
                state = STATES[STATES.index(entry["state"])]
                piece = self._measured(self._new_id(), box, mask, state, bool(entry["part"]))
            except (ValueError, KeyError, TypeError, zlib.error, binascii.Error):
                continue
            pieces.append(piece)
        self.pieces = tuple(pieces)

    def _new_id(self) -> int:
        self._next += 1
        return self._next - 1

    def _named(self, found: list[Piece], known: list[Piece]) -> list[Piece]:
        """Each found piece with id and state of the known one that it shares most with."""
        overlaps = []
        for number, piece in enumerate(found):
            for old in known:
                shared = _shared(old.box, old.mask, piece.box, piece.mask)
                if shared:
                    overlaps.append((-shared, old.id, number))
        taken: dict[int, Piece] = {}
        by_id = {p.id: p for p in known}
        for less, old_id, number in sorted(overlaps):
            if number in taken or any(p.id == old_id for p in taken.values()):
                continue
            old, piece = by_id[old_id], found[number]
            # A piece of which little is left, or that grew to another one, is to be looked at anew.
            same = -2 * less >= max(old.voxels, piece.voxels)
            state = old.state if same else "open"
            taken[number] = replace(piece, id=old_id, state=state, part=piece.part or old.part)
        return [
            taken.get(number) or replace(piece, id=self._new_id())
            for number, piece in enumerate(found)
        ]

    def _measured(
        self, piece_id: int, box: Box, mask: NDArray[np.bool_], state: str, part: bool
    ) -> Piece:
        places = np.argwhere(mask)
        middle = places[np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1))]
        k, j, i = (int(n) + s.start for n, s in zip(middle, box, strict=True))
        p = self._probability
        mean = None if p is None else float(np.asarray(p[box])[mask].mean())
        volume = len(places) * self.grid.voxel_volume_ml
        return Piece(piece_id, box, mask, state, volume, mean, (k, j, i), part)


def split_piece(
    piece: NDArray[np.bool_],
    probability: NDArray[np.floating[Any]],
    spacing_kji: tuple[float, float, float],
) -> NDArray[np.int32]:
    """Labels 1, 2, ... (largest first) of the parts of a connected piece; 0 outside of it.

    Cut where it is thinnest or, if that comes first, least probable: both are raised in steps until
    what is left comes apart, and every voxel goes to the nearest of the parts. A piece that never
    comes apart is cut in half across its longest axis. A single voxel stays one part.
    """
    from scipy.ndimage import distance_transform_edt

    from ..lesions.find import label_components

    count = int(piece.sum())
    if count < 2:
        return piece.astype(np.int32)
    padded = np.pad(piece, 1)
    depth = distance_transform_edt(padded, sampling=spacing_kji)[1:-1, 1:-1, 1:-1]
    inside = probability[piece]
    least = max(1, round(_LEAST_SHARE * count))
    seeds: NDArray[np.int32] | None = None
    for step in range(1, _STEPS + 1):
        share = step / (_STEPS + 1)
        deep = depth > share * depth.max()
        bound = float(inside.min() + share * (inside.max() - inside.min()))
        for core in (piece & deep, piece & (probability > bound)):
            labels = label_components(core, connectivity=26)
            sizes = np.bincount(labels.ravel())[1:]
            big = np.flatnonzero(sizes >= least) + 1
            if len(big) >= 2:
                seeds = np.where(np.isin(labels, big), labels, 0)
                break
        if seeds is not None:
            break
    if seeds is None:
        seeds = _halves(piece, spacing_kji)
    nearest = distance_transform_edt(
        seeds == 0, sampling=spacing_kji, return_distances=False, return_indices=True
    )
    parts = np.where(piece, seeds[tuple(nearest)], 0)
    names, sizes = np.unique(parts[piece], return_counts=True)
    table = np.zeros(int(names.max()) + 1, np.int32)
    table[names[np.lexsort((names, -sizes))]] = np.arange(1, len(names) + 1)
    return table[parts]


def _halves(piece: NDArray[np.bool_], spacing: tuple[float, float, float]) -> NDArray[np.int32]:
    places = np.argwhere(piece) * np.array(spacing)
    centred = places - places.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    along = centred @ axes[0]
    order = np.argsort(along, kind="stable")
    second = np.zeros(len(along), bool)
    second[order[len(order) // 2 :]] = True
    seeds = np.zeros(piece.shape, np.int32)
    seeds[piece] = 1 + second
    return seeds


def _components(mask: NDArray[np.bool_]) -> list[tuple[Box, NDArray[np.bool_]]]:
    from scipy.ndimage import find_objects

    from ..lesions.find import label_components

    box = bounding_box(mask)
    if box is None:
        return []
    labels = label_components(mask[box], connectivity=26)
    return [
        (outside(part, box), labels[part] == number)
        for number, part in enumerate(find_objects(labels), start=1)
    ]


def _cut_again(
    box: Box, mask: NDArray[np.bool_], cuts: list[Piece]
) -> list[tuple[Box, NDArray[np.bool_]]]:
    """A piece that had been split, split in the same places."""
    from scipy.ndimage import distance_transform_edt

    seeds = np.zeros(mask.shape, np.int32)
    for number, part in enumerate(cuts, start=1):
        shared = intersect(part.box, box)
        there = part.mask[within(shared, part.box)] & mask[within(shared, box)]
        seeds[within(shared, box)][there] = number
    nearest = distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    labels = np.where(mask, seeds[tuple(nearest)], 0)
    found = []
    for number in range(1, len(cuts) + 1):
        own = labels == number
        inner = bounding_box(own)
        if inner is not None:
            found.append((outside(inner, box), own[inner]))
    return found


def _shared(one: Box, mask: NDArray[np.bool_], other: Box, other_mask: NDArray[np.bool_]) -> int:
    """Voxels that two pieces share."""
    box = intersect(one, other)
    if is_empty(box):
        return 0
    return int(np.count_nonzero(mask[within(box, one)] & other_mask[within(box, other)]))


def _is_back(piece: Piece, mask: NDArray[np.bool_]) -> bool:
    """Whether most of a dropped piece is in the mask all the same."""
    return 2 * int(np.count_nonzero(mask[piece.box] & piece.mask)) > piece.voxels


def _place(box: Box, grid: Grid) -> dict[str, Any]:
    """Where the first and the last voxel of a box lie, in RAS mm, and the shape of the grid."""
    corners = ([s.start for s in box], [s.stop - 1 for s in box])
    ends = [(grid.affine @ np.array([*corner[::-1], 1.0]))[:3] for corner in corners]
    places = [[round(float(v), 3) for v in end] for end in ends]
    return {"grid": list(grid.shape), "first": places[0], "last": places[1]}


def _found_again(entry: dict[str, Any], grid: Grid) -> list[int]:
    """The box of an entry on this grid: where the entry's has another shape, such as one that was
    cropped, by its place. Raises ``ValueError`` if the voxels are others."""
    numbers = [int(n) for n in entry["box"]]
    # On a grid of the same shape indices hold: it may have been moved as a whole.
    if "grid" not in entry or tuple(entry["grid"]) == grid.shape:
        return numbers
    back = np.linalg.inv(grid.affine)
    ends = [(back @ np.array([*entry[name], 1.0]))[2::-1] for name in ("first", "last")]
    first, last = (np.rint(end) for end in ends)
    extent = np.array(numbers[1::2]) - np.array(numbers[::2])
    near = np.allclose(ends, [first, last], rtol=0, atol=_OFF)
    if not near or (last - first + 1 != extent).any():
        raise ValueError("a box of another grid")
    return [int(n) for pair in zip(first, last + 1, strict=True) for n in pair]


def _unpacked(entry: dict[str, Any], grid: Grid) -> tuple[Box, NDArray[np.bool_]]:
    """Box and voxels of one entry of ``to_text``. Raises ``ValueError`` and the like."""
    numbers = _found_again(entry, grid)
    k, j, i = (slice(a, b) for a, b in zip(numbers[::2], numbers[1::2], strict=True))
    box: Box = (k, j, i)
    if is_empty(box) or intersect(box, whole_box(grid.shape)) != box:
        raise ValueError("a box outside of the grid")
    mask = voxels_from_text(entry["voxels"], extents(box))
    if bounding_box(mask) != (
        slice(0, mask.shape[0]),
        slice(0, mask.shape[1]),
        slice(0, mask.shape[2]),
    ):
        raise ValueError("a box that is not that of its voxels")
    return box, mask


def _spacing(grid: Grid) -> tuple[float, float, float]:
    i, j, k = grid.spacing
    return float(k), float(j), float(i)
