"""Candidates: what the model marks, piece by piece, in order of doubt, with a verdict on each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images.volume import Grid
from .pieces import split_piece
from .regions import true_box
from .scan import Cancel, EditedScan
from .types import EMPTY, STATES, Box, Candidate, intersect, is_empty, outside, within

# Around a candidate that the network is asked about again, mm: room to grow, and what it sees.
_ROOM_MM = 6
_CONTEXT_MM = 24


@dataclass(eq=False)
class _Piece:
    candidate: Candidate
    mask: NDArray[np.bool_]  # of the candidate's box


class Review:
    """The candidates of a session; see the methods of the same names there."""

    def __init__(self, scan: EditedScan) -> None:
        self.scan = scan
        self._pieces: dict[int, _Piece] = {}
        self._next = 1
        self._of: tuple[float, float] | None = None
        self._wanted: list[dict[str, Any]] = []  # restored verdicts that no piece has taken yet
        self._cuts: dict[int, int] = {}  # id of each part to the first part's id
        self._places: list[list[float]] = []  # RAS mm in the pieces that were split, in order
        self._to_cut: list[list[float]] = []  # of those, restored ones that are still to be made

    def candidates(self, threshold: float, min_volume_ml: float) -> tuple[Candidate, ...]:
        from ..lesions.find import label_components

        native, grid = self.scan.native, self.scan.grid
        native.refresh_all()
        marked = native.values >= threshold
        box = true_box(marked)
        old, self._pieces = self._pieces, {}
        cuts = {n: piece for n, piece in old.items() if n in self._cuts}
        found: list[tuple[Box, NDArray[np.bool_]]] = []
        if not is_empty(box):
            labels = label_components(marked[box], connectivity=26)
            for number, part in enumerate(_objects(labels), start=1):
                found.append((outside(part, box), labels[part] == number))
        found = [each for piece in found for each in _cut_again(piece, cuts)]
        least = min_volume_ml * (1 - 1e-6)
        found = [p for p in found if p[1].sum() * grid.voxel_volume_ml >= least]
        names = self._names(found, old)
        for (place, mask), name in zip(found, names, strict=True):
            state = old[name].candidate.state if name in old else "open"
            self._add(name, place, mask, state)
        # What has been decided stays listed, so that it can be taken back, whatever the bounds.
        for name, piece in old.items():
            judged = piece.candidate.state != "open" and name not in self._pieces
            if judged and not any(_overlap(piece, *each) for each in found):
                self._pieces[name] = piece
        self._cuts = {n: first for n, first in self._cuts.items() if n in self._pieces}
        self._to_cut = [place for place in self._to_cut if not self._cut_at(place)]
        self._give_verdicts()
        self._of = (threshold, min_volume_ml)
        return self.listed()

    def listed(self) -> tuple[Candidate, ...]:
        """All candidates as they are, most doubtful first."""
        every = [piece.candidate for piece in self._pieces.values()]
        return tuple(sorted(every, key=lambda c: (-round(c.doubt, 6), c.voxels, c.id)))

    def _names(
        self, found: list[tuple[Box, NDArray[np.bool_]]], old: dict[int, _Piece]
    ) -> list[int]:
        """Ids for new pieces: that of the old one with the largest overlap, each given once."""
        overlaps = []
        for number, (box, mask) in enumerate(found):
            for name, piece in old.items():
                both = _overlap(piece, box, mask)
                if both:
                    overlaps.append((-both, name, number))
        names: dict[int, int] = {}
        for _, name, number in sorted(overlaps):
            if number not in names and name not in names.values():
                names[number] = name
        for number in range(len(found)):
            if number not in names:
                names[number] = self._next
                self._next += 1
        return [names[number] for number in range(len(found))]

    def _add(self, name: int, box: Box, mask: NDArray[np.bool_], state: str) -> Candidate:
        candidate = _measure(name, box, mask, self.scan.native.values[box], self.scan.grid, state)
        self._pieces[name] = _Piece(candidate, mask)
        return candidate

    def piece(self, name: int) -> tuple[Box, NDArray[np.uint8]]:
        piece = self._pieces[name]
        return piece.candidate.box, piece.mask.astype(np.uint8)

    def judge(self, name: int, state: str) -> Candidate:
        piece = self._pieces[name]
        piece.candidate = replace(piece.candidate, state=state)
        return piece.candidate

    def split(self, name: int) -> tuple[Candidate, ...]:
        place = list(self._pieces[name].candidate.voxel_ras_mm)
        parts = self._split(name)
        if len(parts) > 1:
            self._places.append(place)
        return parts

    def _cut_at(self, place: list[float]) -> bool:
        """Split the piece at a place again; False if there is none yet."""
        name = self._at(place)
        return name is not None and bool(self._split(name))

    def _split(self, name: int) -> tuple[Candidate, ...]:
        piece = self._pieces[name]
        box = piece.candidate.box
        spacing = self.scan.grid.spacing[::-1]
        labels = split_piece(piece.mask, self.scan.native.values[box], spacing)  # type: ignore[arg-type]
        count = int(labels.max())
        if count < 2:
            return (piece.candidate,)
        first = self._cuts.get(name, name)
        parts = []
        for number in range(1, count + 1):
            own = labels == number
            inner = true_box(own)
            given = name if number == 1 else self._next
            self._next += number > 1
            self._cuts[given] = first
            parts.append(self._add(given, outside(inner, box), own[inner], "open"))
        return tuple(parts)

    def rerun(self, name: int, cancel: Cancel | None) -> Box:
        """See ``EditingSession.rerun``; the native box of what changed."""
        from ..inference.device import torch_threads
        from ..inference.predict import predict_volume

        scan, background = self.scan, self.scan.background
        parts = scan.native.parts
        inner = parts.canonical_box(self._pieces[name].candidate.box)
        room = intersect(_grown(inner, _ROOM_MM), background.box)
        if is_empty(room):
            return EMPTY
        background.ensure(room)
        seen = intersect(_grown(room, _CONTEXT_MM), background.box)
        with torch_threads(scan.network.threads):
            result = predict_volume(
                background.t1,
                scan.network.prepared,
                box=seen,
                views="triplanar",
                tta=True,
                flip_axes=scan.flip_axes,
                multiple=scan.multiple,
                cancel=cancel,
            )
        background.replace(room, result.mean[room])
        changed = parts.native_box(room)
        scan.native.recompute(changed)
        return changed

    # --- state

    def to_state(self) -> dict[str, Any]:
        judged = [p.candidate for p in self._pieces.values() if p.candidate.state != "open"]
        return {
            "threshold": None if self._of is None else self._of[0],
            "min_volume_ml": None if self._of is None else self._of[1],
            "verdicts": [
                {"ras_mm": list(c.voxel_ras_mm), "state": c.state}
                for c in sorted(judged, key=lambda c: c.id)
            ]
            + self._wanted,
            "cuts": self._places,
        }

    def restore(self, verdicts: list[dict[str, Any]], cuts: list[list[float]]) -> None:
        for piece in self._pieces.values():
            piece.candidate = replace(piece.candidate, state="open")
        self._wanted = verdicts
        if cuts != self._places:  # ``candidates`` finds the pieces anew and cuts them again
            self._places, self._to_cut, self._cuts = list(cuts), list(cuts), {}
        else:
            self._give_verdicts()

    def _at(self, ras_mm: list[float]) -> int | None:
        """The piece that holds the voxel at a place."""
        kji = np.rint(self.scan.index_of(np.array(ras_mm))).astype(int)[::-1]
        for name, piece in self._pieces.items():
            box = piece.candidate.box
            if all(part.start <= n < part.stop for n, part in zip(kji, box, strict=True)):
                place = tuple(int(n) - part.start for n, part in zip(kji, box, strict=True))
                if piece.mask[place]:
                    return name
        return None

    def _give_verdicts(self) -> None:
        left = []
        for verdict in self._wanted:
            name = self._at(verdict["ras_mm"])
            if name is None:
                left.append(verdict)
            else:
                self.judge(name, verdict["state"])
        self._wanted = left


def check_places(value: Any) -> list[list[float]]:
    """``value`` as places in RAS mm; raises ``ValueError`` if it is none."""
    places = [[float(x) for x in each] for each in value]
    if any(len(place) != 3 or not np.isfinite(place).all() for place in places):
        raise ValueError("a place has three coordinates")
    return places


def check_verdicts(value: Any) -> list[dict[str, Any]]:
    """``value`` as restored verdicts; raises ``ValueError`` if it is none."""
    places = check_places(each["ras_mm"] for each in value)
    if any(each["state"] not in STATES for each in value):
        raise ValueError("a verdict has a state")
    return [
        {"ras_mm": place, "state": str(each["state"])}
        for place, each in zip(places, value, strict=True)
    ]


def _overlap(piece: _Piece, box: Box, mask: NDArray[np.bool_]) -> int:
    """Voxels that a piece shares with another one."""
    shared = intersect(box, piece.candidate.box)
    if is_empty(shared):
        return 0
    both = mask[within(shared, box)] & piece.mask[within(shared, piece.candidate.box)]
    return int(both.sum())


def _objects(labels: NDArray[np.int32]) -> list[Box]:
    from scipy.ndimage import find_objects

    return find_objects(labels)  # type: ignore[return-value]


def _cut_again(
    piece: tuple[Box, NDArray[np.bool_]], cuts: dict[int, _Piece]
) -> list[tuple[Box, NDArray[np.bool_]]]:
    """A piece that had been split before, split in the same places."""
    from scipy.ndimage import distance_transform_edt

    box, mask = piece
    seeds = np.zeros(mask.shape, np.int32)
    for name, part in cuts.items():
        shared = intersect(box, part.candidate.box)
        if not is_empty(shared):
            own = part.mask[within(shared, part.candidate.box)]
            seeds[within(shared, box)][own & mask[within(shared, box)]] = name
    names = np.unique(seeds[seeds > 0])
    if len(names) < 2:
        return [piece]
    nearest = distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    owner = np.where(mask, seeds[tuple(nearest)], 0)
    result = []
    for name in names:
        own = owner == name
        inner = true_box(own)
        result.append((outside(inner, box), own[inner]))
    return result


def _measure(
    name: int,
    box: Box,
    mask: NDArray[np.bool_],
    probability: NDArray[np.float32],
    grid: Grid,
    state: str,
) -> Candidate:
    values = probability[mask].astype(np.float64)
    sure = np.clip(values, 1e-6, 1 - 1e-6)
    entropy = -(sure * np.log2(sure) + (1 - sure) * np.log2(1 - sure))
    places = np.argwhere(mask) + [part.start for part in box]
    middle = places.mean(axis=0)
    # The voxel nearest to the middle, in mm; the first of equally near ones.
    offsets = (places - middle)[:, ::-1] @ grid.affine[:3, :3].T
    own = places[int(np.argmin((offsets**2).sum(axis=1)))]

    def ras(kji: NDArray[Any]) -> tuple[float, float, float]:
        x, y, z = grid.affine[:3, :3] @ kji[::-1] + grid.affine[:3, 3]
        return float(x), float(y), float(z)

    count = len(values)
    return Candidate(
        name,
        box,
        count,
        count * grid.voxel_volume_ml,
        float(values.mean()),
        float(entropy.mean()),
        ras(middle),
        ras(own),
        state,
    )


def _grown(box: Box, by: int) -> Box:
    if is_empty(box):
        return EMPTY
    parts = [slice(max(0, part.start - by), part.stop + by) for part in box]
    return parts[0], parts[1], parts[2]
