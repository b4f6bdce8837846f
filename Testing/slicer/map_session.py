"""A session whose answers are known beforehand: a probability map, and clicks that add a ball.

For tests of what the effects do with a session's answers. The interface is that of
``StrokeLesionSegLib.editing.EditingSession``; a test holds the two together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage
from StrokeLesionSegLib.editing import WHOLE, Candidate, Click
from StrokeLesionSegLib.images.volume import Volume

BALL_MM = 5.0
EMPTY = (slice(0, 0), slice(0, 0), slice(0, 0))
FULL = np.ones((3, 3, 3), int)


class MapSession:
    """Complete from the start, unless ``unknown`` slices (first array axis) are to be done."""

    takes_clicks = True
    threshold = 0.5
    sure = None
    min_volume_ml = 0.0
    warnings: tuple[str, ...] = ()
    alignment = None

    def __init__(self, probability: Volume, unknown: int = 0) -> None:
        self.probability = probability.array.astype(np.float32)
        self.grid = probability.grid
        self._unknown = list(range(unknown))
        self._clicks: list[Click] = []
        self._start: np.ndarray | None = None
        self._pieces: list[int] = []
        self._last: Click | None = None
        self._behind = False
        self._unworked: set[int] = set()  # slices in which restored clicks are not worked out
        self._states: dict[int, str] = {}
        self._parts: dict[int, np.ndarray] = {}
        self.visible: list[tuple[int, int]] = []

    @property
    def complete(self) -> bool:
        return not self._unknown

    @property
    def fraction_done(self) -> float:
        return 1 - len(self._unknown) / self.grid.shape[0]

    @property
    def clicks(self) -> tuple[Click, ...]:
        return tuple(self._clicks)

    def known(self, box: Any) -> np.ndarray:
        out = np.ones(self.grid.shape, bool)
        out[self._unknown] = False
        return out[box]

    def _now(self) -> np.ndarray:
        out = self.probability.copy()
        out[self._unknown] = 0
        return out

    def probability_in(self, box: Any) -> np.ndarray:
        return self._now()[box]

    def probability_at(self, ras_mm: Any) -> float:
        return float(self.probability[self._index(ras_mm)])

    def _index(self, ras_mm: Any) -> tuple[int, ...]:
        ijk = np.linalg.inv(self.grid.affine) @ np.array([*ras_mm, 1.0])
        return tuple(int(n) for n in np.rint(ijk[2::-1]))

    def predict_visible(self, axis: int, index: int) -> Any:
        self.visible.append((axis, index))
        if axis == 0 and index in self._unknown:
            self._unknown.remove(index)
        box = [slice(0, n) for n in self.grid.shape]
        box[axis] = slice(index, index + 1)
        return tuple(box)

    def predict_plane(self, origin: Any, u: Any, v: Any) -> Any:
        return EMPTY

    def work(self, milliseconds: float = 30.0, near: Any = None) -> Any:
        if not self._unknown:
            return None
        return self.predict_visible(0, self._unknown[0])

    def mask(
        self,
        threshold: float,
        *,
        region: Any = WHOLE,
        largest_only: bool = False,
        min_volume_ml: float = 0.0,
        sure: float | None = None,
    ) -> Any:
        box = region.box(self.grid)
        mask = self._now()[box] >= threshold
        inside = region.mask(self.grid, box)
        if inside is not None:
            mask &= inside
        labels, count = ndimage.label(mask, FULL)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        keep = sizes * self.grid.voxel_volume_ml >= min_volume_ml
        if sure is not None:
            keep &= np.isin(np.arange(count + 1), labels[self._now()[box] >= sure])
        if largest_only and count:
            keep &= sizes == sizes[1:].max()
        keep[0] = False
        return box, keep[labels].astype(np.uint8)

    def dab(self, centre: Any, radius: float, **facts: Any) -> Any:
        k, j, i = np.indices(self.grid.shape).reshape(3, -1)
        places = (self.grid.affine @ np.array([i, j, k, np.ones_like(i)]))[:3].T - centre
        inside = (places**2).sum(1) <= radius**2
        if not facts["sphere"]:
            inside &= np.abs(places @ facts["normal_ras"]) < 0.5
        bound = facts["threshold"]
        if facts["floor_from"] is not None:
            bound = min(bound, 0.5 * facts["floor_from"])
        above = self.probability.ravel() >= bound
        inside &= ~above if facts["erase"] else above
        return tuple(slice(0, n) for n in self.grid.shape), inside.reshape(self.grid.shape).astype(
            np.uint8
        )

    # clicks: each takes or removes a ball; the slice at once, then the others one by one

    def add_click(self, ras_mm: Any, positive: bool, *, axis: int, id: int | None = None) -> Click:
        number = 1 + max([c.id for c in self._clicks], default=0) if id is None else id
        click = Click(number, tuple(float(v) for v in ras_mm), positive, axis)
        self._clicks.append(click)
        self._changed(click)
        return click

    def move_click(self, id: int, ras_mm: Any) -> Click:
        index = [c.id for c in self._clicks].index(id)
        old = self._clicks[index]
        self._clicks[index] = Click(id, tuple(float(v) for v in ras_mm), old.positive, old.axis)
        self._changed(self._clicks[index])
        return self._clicks[index]

    def remove_click(self, id: int) -> None:
        index = [c.id for c in self._clicks].index(id)
        self._changed(self._clicks.pop(index))

    def start_from(self, mask: Any) -> None:
        self._start = None if mask is None else np.asarray(mask) != 0

    def _changed(self, click: Click) -> None:
        self._last = click
        size = self.grid.shape[click.axis]
        middle = self._index(click.ras_mm)[click.axis]
        self._pieces = sorted(set(range(size)) - {middle}, key=lambda n: abs(n - middle))

    def _guided(self, threshold: float | None) -> np.ndarray:
        out = self._start if self._start is not None else self._now() >= (threshold or 0.5)
        out = out.copy()
        k, j, i = np.indices(self.grid.shape).reshape(3, -1)
        places = (self.grid.affine @ np.array([i, j, k, np.ones_like(i)]))[:3].T
        for click in self._clicks:
            ball = ((places - click.ras_mm) ** 2).sum(1) <= BALL_MM**2
            if self._unworked:
                near = ((places - click.ras_mm) ** 2).sum(1) <= 2.0**2
                slices = np.indices(self.grid.shape)[click.axis].ravel()
                ball &= near | ~np.isin(slices, list(self._unworked))
            out[ball.reshape(out.shape)] = click.positive
        return out

    def refine_visible(self, threshold: float | None = None) -> Any:
        return self._piece(self._index(self._last.ras_mm)[self._last.axis], threshold)

    def refine_more(self, milliseconds: float = 30.0, threshold: float | None = None) -> Any:
        if self._pieces:
            self._unworked.discard(self._pieces[0])
            return self._piece(self._pieces.pop(0), threshold)
        self._behind = False
        self._unworked.clear()
        return None

    def _piece(self, index: int, threshold: float | None) -> Any:
        box = [slice(0, n) for n in self.grid.shape]
        box[self._last.axis] = slice(index, index + 1)
        return tuple(box), self._guided(threshold)[tuple(box)].astype(np.uint8)

    def is_behind(self, threshold: float | None = None) -> bool:
        return self._behind

    def guided_mask(self, threshold: float | None = None, box: Any = None) -> Any:
        box = box or tuple(slice(0, n) for n in self.grid.shape)
        return box, self._guided(threshold)[box].astype(np.uint8)

    # review

    def candidates(self, threshold: float, min_volume_ml: float = 0.0) -> tuple[Candidate, ...]:
        _box, mask = self.mask(threshold, min_volume_ml=min_volume_ml)
        labels, count = ndimage.label(mask, FULL)
        self._parts = {n: labels == n for n in range(1, count + 1)}
        found = []
        for number, part in self._parts.items():
            where = ndimage.find_objects(part.astype(np.uint8))[0]
            middle = np.argwhere(part).mean(0)
            nearest = np.argwhere(part)[np.argmin(((np.argwhere(part) - middle) ** 2).sum(1))]
            places = [
                tuple(float(v) for v in (self.grid.affine @ [*p[::-1], 1.0])[:3])
                for p in (middle, nearest)
            ]
            p = self.probability[part]
            found.append(
                Candidate(
                    number,
                    where,
                    int(part.sum()),
                    float(part.sum() * self.grid.voxel_volume_ml),
                    float(p.mean()),
                    float(1 - abs(2 * p.mean() - 1)),
                    places[0],
                    places[1],
                    self._states.get(number, "open"),
                )
            )
        return tuple(sorted(found, key=lambda c: -c.doubt))

    def candidate_mask(self, id: int) -> Any:
        box = ndimage.find_objects(self._parts[id].astype(np.uint8))[0]
        return box, self._parts[id][box].astype(np.uint8)

    def accept(self, id: int) -> None:
        self._states[id] = "accepted"

    def reject(self, id: int) -> None:
        self._states[id] = "rejected"

    def take_back(self, id: int) -> None:
        self._states.pop(id, None)

    def split(self, id: int) -> Any:
        return ()

    def rerun(self, id: int, *, cancel: Any = None) -> Any:
        box, _mask = self.candidate_mask(id)
        self.probability[box] *= np.float32(0.9)
        return box

    def mirrored(self, *, cancel: Any = None) -> np.ndarray:
        return self.probability[:, :, ::-1].copy()

    def to_state(self) -> dict[str, Any]:
        return {
            "clicks": [[c.id, list(c.ras_mm), c.positive, c.axis] for c in self._clicks],
            "from_mask": self._start is not None,
            "states": {str(k): v for k, v in self._states.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        clicks = state.get("clicks", [])
        self._clicks = [Click(n, tuple(p), bool(s), a) for n, p, s, a in clicks]
        self._states = {int(k): v for k, v in state.get("states", {}).items()}
        self._pieces, self._behind = [], bool(self._clicks)
        if self._clicks:
            self._last = self._clicks[-1]
            self._pieces = list(range(self.grid.shape[self._last.axis]))
        self._unworked = set(self._pieces)
