"""The prediction of the whole volume, slice by slice, and where it has come to.

All arrays and boxes here are on the canonical grid.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..inference.views import VIEW_AXES, Pass
from ..models.channels import MIRROR, offset_mm
from .network import SliceNetwork
from .planes import Plane, canonical_plane
from .types import Box

# Slices of views that are not part of the passes, kept for clicks (60 KB each).
_KEPT_SLICES = 200


class Background:
    """Probability on the canonical grid, mean over passes, filled slice by slice in any order.

    When all slices are done ``mean`` is what ``predict_volume`` gives, up to rounding.

    Attributes
    ----------
    t1: (K, J, I) float32 in [0, 1]. box: the part that is searched. passes: as in
        ``inference.views``. mean: (K, J, I) float32, the mean over the passes that are done at
        each voxel, 0 where none is.
    done: for each pass, one bool for each slice of the whole array along its axis; slices outside
        of the box count as done.
    keep: (K, J, I) bool, what may be lesion at all; None for everything.
    mirror: ``t1`` lies on the MNI grid, and the network is shown mirror images if it takes them.
    version: grows whenever finished slices are changed (by ``replace``).
    """

    def __init__(
        self,
        t1: NDArray[np.float32],
        box: Box,
        passes: list[Pass],
        network: SliceNetwork,
        multiple: int,
        keep: NDArray[np.bool_] | None,
        mirror: bool = False,
    ) -> None:
        self.t1, self.box, self.passes = t1, box, passes
        self.network = network
        names = network.prepared.channels
        self._offsets = {n: mm for n in names if (mm := offset_mm(n)) is not None}
        self._mirror = mirror and MIRROR in names
        self.mean = np.zeros(t1.shape, np.float32)
        self.version = 0
        self._multiple = multiple
        self.keep = keep
        self._other: OrderedDict[tuple[str, int], NDArray[np.float32]] = OrderedDict()
        self.done: list[NDArray[np.bool_]] = []
        signal = {one.view: self._signal(one.view) for one in passes}
        for one in passes:
            # Slices without signal have the probability 0, as in predict_volume.
            done = ~signal[one.view]
            outside = np.ones(len(done), bool)
            outside[box[VIEW_AXES[one.view]]] = False
            self.done.append(done | outside)
        self._total = max(1, sum(int((~done).sum()) for done in self.done))

    def _signal(self, view: str) -> NDArray[np.bool_]:
        axis = VIEW_AXES[view]
        plane = self.plane(view, self.box[axis].start)
        moved = np.moveaxis(self.t1, axis, 0)
        _, there = plane.window(moved.shape[1:])
        return moved[(slice(None), *there)].any(axis=(1, 2))

    def plane(self, view: str, index: int) -> Plane:
        """The canonical slice ``index`` of a view as the network sees it."""
        return canonical_plane(self.t1.shape, self.box, view, index, self._multiple)

    def beside(self, plane: Plane) -> dict[str, NDArray[np.float32]]:
        """What the network is shown beside the T1 in ``plane``: (rows, columns) by channel."""
        shown = {name: plane.shifted(mm).sample(self.t1) for name, mm in self._offsets.items()}
        if self._mirror:
            shown[MIRROR] = plane.sample_mirrored(self.t1)
        return shown

    def ask(
        self,
        planes: list[Plane],
        guidance: dict[str, NDArray[np.float32]] | None = None,
        flips: Sequence[int] = (),
    ) -> NDArray[np.float32]:
        """What the network says of planes of one shape, (N, rows, columns) float32.

        ``guidance``: of the same shape, by channel.
        """
        t1 = np.stack([plane.sample(self.t1) for plane in planes])
        beside = [self.beside(plane) for plane in planes]
        further = {name: np.stack([one[name] for one in beside]) for name in beside[0]}
        return self.network(t1, {**further, **(guidance or {})}, flips=flips)

    @property
    def complete(self) -> bool:
        return all(done.all() for done in self.done)

    @property
    def left(self) -> int:
        """Slices still to be predicted, all passes together."""
        return sum(int((~done).sum()) for done in self.done)

    @property
    def fraction_done(self) -> float:
        return 1.0 - self.left / self._total

    def next_slices(self, near: tuple[str, int] | None, count: int) -> tuple[int, list[int]] | None:
        """(number of the pass, slices) to do next; None when all is done.

        The passes follow each other. Slices nearest to ``near`` (view, canonical index) first; if
        that is of another view, the middle of the box.
        """
        for number, done in enumerate(self.done):
            left = np.flatnonzero(~done)
            if left.size:
                view = self.passes[number].view
                part = self.box[VIEW_AXES[view]]
                middle = (part.start + part.stop - 1) / 2
                if near is not None and near[0] == view:
                    middle = near[1]
                order = np.argsort(np.abs(left - middle), kind="stable")
                return number, sorted(int(i) for i in left[order[:count]])
        return None

    def run(self, number: int, indices: list[int]) -> Box:
        """Predict slices of a pass; returns the box whose mean has changed."""
        one = self.passes[number]
        axis = VIEW_AXES[one.view]
        planes = [self.plane(one.view, index) for index in indices]
        values = self.ask(planes, flips=one.flips)
        for plane, index, value in zip(planes, indices, values, strict=True):
            self._add(number, index, value[plane.wanted])
        parts = list(self.box)
        parts[axis] = slice(min(indices), max(indices) + 1)
        return parts[0], parts[1], parts[2]

    def _add(self, number: int, index: int, values: NDArray[np.float32]) -> None:
        one = self.passes[number]
        axis = VIEW_AXES[one.view]
        inplane = [a for a in range(3) if a != axis]
        box = [self.box[a] for a in inplane]
        if self.keep is not None:
            values = values * np.moveaxis(self.keep, axis, 0)[(index, *box)]
        target = np.moveaxis(self.mean, axis, 0)[(index, *box)]
        # What each voxel of this slice holds already, by weight.
        before: NDArray[np.float32] | float = 0.0
        for other, done in zip(self.passes, self.done, strict=True):
            if other is one:
                continue
            along = VIEW_AXES[other.view]
            there = done.astype(np.float32) * np.float32(other.weight)
            if along == axis:
                before = before + there[index]
            else:
                row = inplane.index(along)
                line = there[self.box[along]]
                before = before + (line[:, None] if row == 0 else line[None, :])
        share = one.weight / (before + one.weight)
        target += (
            (values - target) * np.float32(share)
            if np.isscalar(share)
            else ((values - target) * share)
        )
        np.clip(target, 0, 1, out=target)
        self.done[number][index] = True

    def is_own(self, view: str) -> bool:
        """Whether a slice of ``mean`` is just what the network says of that slice of ``view``."""
        return len(self.passes) == 1 and self.passes[0].view == view

    def own_slice(self, view: str, index: int) -> tuple[Plane, NDArray[np.float32]]:
        """A canonical slice's plane and prediction from that slice alone, in its own view.

        Predicts it if need be; in a run with one pass over that view the slice is then done.
        """
        plane = self.plane(view, index)
        if self.is_own(view):
            if not self.done[0][index]:
                self.run(0, [index])
            return plane, plane.sample(self.mean)
        key = (view, index)
        if key not in self._other:
            values = self.ask([plane])[0]
            cut = np.zeros_like(values)
            cut[plane.wanted] = values[plane.wanted]
            if self.keep is not None:
                here, there = plane.window(np.moveaxis(self.keep, VIEW_AXES[view], 0).shape[1:])
                cut[here] *= np.moveaxis(self.keep, VIEW_AXES[view], 0)[(index, *there)]
            self._other[key] = cut
            while len(self._other) > _KEPT_SLICES:
                self._other.popitem(last=False)
        self._other.move_to_end(key)
        return plane, self._other[key]

    def predict(self, plane: Plane) -> NDArray[np.float32]:
        """What the network says on any plane, (rows, columns); 0 outside of what is searched."""
        if plane.index is not None:
            return self.own_slice(plane.view, plane.index)[1]
        values = self.ask([plane])[0]
        return self.cut(plane, values)

    def cut(self, plane: Plane, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """``values`` on an oblique plane, 0 outside of the box and of the brain mask."""
        rows, columns = np.ogrid[: plane.shape[0], : plane.shape[1]]
        places = [
            np.rint(plane.origin[n] + rows * plane.row[n] + columns * plane.column[n]).astype(int)
            for n in range(3)
        ][::-1]
        inside = np.ones(plane.shape, bool)
        for place, part in zip(places, self.box, strict=True):
            inside &= (place >= part.start) & (place < part.stop)
        if self.keep is not None:
            clipped = [np.clip(p, 0, n - 1) for p, n in zip(places, self.keep.shape, strict=True)]
            inside &= self.keep[clipped[0], clipped[1], clipped[2]]
        return values * inside

    def ensure(self, box: Box) -> Box | None:
        """Predict what the first pass lacks in ``box``; what changed, or None if nothing did."""
        axis = VIEW_AXES[self.passes[0].view]
        part = box[axis]
        missing = [int(i) + part.start for i in np.flatnonzero(~self.done[0][part])]
        changed: Box | None = None
        size = max(1, self.network.prepared.batch_size(*self.plane(self.passes[0].view, 0).shape))
        for first in range(0, len(missing), size):
            self.run(0, missing[first : first + size])
        if missing:
            parts = list(self.box)
            parts[axis] = slice(missing[0], missing[-1] + 1)
            changed = parts[0], parts[1], parts[2]
        return changed

    def adopt(self, mean: NDArray[np.float32]) -> None:
        """Take a finished map instead of predicting."""
        self.mean = mean
        for done in self.done:
            done[:] = True

    def replace(self, box: Box, values: NDArray[np.float32]) -> None:
        """Put another answer into ``box``."""
        self.mean[box] = values
        self.version += 1
        self._other.clear()
