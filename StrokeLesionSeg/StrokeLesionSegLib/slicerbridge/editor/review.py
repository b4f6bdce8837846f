"""Going through the pieces of a segment: keep, drop, take back, split. Needs no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..i18n import tr as _
from ..scene.provenance import TAG, get_tag
from . import write
from .target import CannotEdit, EditGrid, EditTarget

if TYPE_CHECKING:
    from ...correction import Piece

REVIEW_TAG = "Review"


class Reviewer:
    """The pieces of one segment, largest first.

    ``drop`` removes a piece from the segment, ``take_back`` undoes a decision; each decision is one
    step for undo. What was decided lies in a tag of the segment, which Slicer's undo takes along.
    """

    def __init__(
        self,
        effect: Any,
        edit_grid: EditGrid,
        target: EditTarget,
        probability: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        from ...correction import PieceList

        self.effect, self.edit_grid, self.target = effect, edit_grid, target
        self.probability = probability
        self._list = PieceList(edit_grid.grid)
        self._stamp: tuple[Any, ...] = ()

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """As they were found by the last ``look``."""
        return self._list.pieces

    def is_stale(self) -> bool:
        """Whether voxels or decisions changed since the last ``look``; cheap."""
        return self._stamp != self._now()

    def look(self) -> tuple[Piece, ...]:
        """Find the pieces anew."""
        stamp = self._now()
        if stamp != self._stamp:
            # Also if the text is the same: an undo may have brought its voxels back.
            self._list.read_text(stamp[0])
        mask = write.segment_voxels(self.target, self.edit_grid) != 0
        self._list.look(mask, self.probability)
        self._stamp = stamp
        return self.pieces

    def at(self, voxel: tuple[int, int, int]) -> int | None:
        """The id of the piece that holds a voxel (k, j, i), or None."""
        for piece in self.pieces:
            if all(s.start <= n < s.stop for n, s in zip(voxel, piece.box, strict=True)):
                place = tuple(n - s.start for n, s in zip(voxel, piece.box, strict=True))
                if piece.mask[place]:
                    return piece.id
        return None

    def previous(self, current: int | None) -> Piece | None:
        """The piece before, whatever was decided; the last one comes before the first."""
        ids = [p.id for p in self.pieces]
        return self.pieces[ids.index(current) - 1 if current in ids else -1] if ids else None

    def next_open(self, current: int | None) -> Piece | None:
        """The next piece that is still open, else the next."""
        count = len(self.pieces)
        if not count:
            return None
        ids = [p.id for p in self.pieces]
        start = ids.index(current) if current in ids else -1
        order = [self.pieces[(start + n + 1) % count] for n in range(count)]
        return next((p for p in order if p.state == "open"), order[0])

    def keep(self, piece_id: int) -> None:
        """The piece was looked at and stays. Raises ``CannotEdit``."""
        self._decide(piece_id, "kept")

    def drop(self, piece_id: int) -> None:
        """The piece leaves the segment, and stays listed. Raises ``CannotEdit``."""
        self._decide(piece_id, "dropped")

    def take_back(self, piece_id: int) -> None:
        """Make the piece open again; one that was dropped comes back. Raises ``CannotEdit``, also
        if masking keeps it out."""
        self._decide(piece_id, "open")

    def split(self, piece_id: int) -> int:
        """Cut a piece in parts; returns their number. Raises ``CannotEdit``."""
        write.check(self.target)
        piece = self._list.piece(piece_id)
        if piece.state == "dropped" or piece.voxels < 2:
            return 1
        write.begin(self.effect, self.target)
        count = self._list.split(piece_id)
        self._keep()
        return count

    def _decide(self, piece_id: int, state: str) -> None:
        piece = self._list.piece(piece_id)
        if piece.state == state:
            return
        write.begin(self.effect, self.target)
        if state == "dropped":
            write.remove(self.effect, self.target, self.edit_grid, piece.box, piece.mask)
        elif piece.state == "dropped":
            write.add(self.effect, self.target, self.edit_grid, piece.box, piece.mask)
            there = write.segment_voxels(self.target, self.edit_grid, piece.box) != 0
            if 2 * int(np.count_nonzero(there & piece.mask)) <= piece.voxels:
                self._keep()  # as dropped: as an open one, which is in no segment, it would be lost
                raise CannotEdit(_("The masking of the Segment Editor keeps this piece out."))
        self._list.mark(piece_id, state)
        self._keep()

    def _keep(self) -> None:
        """Look again, since masking may have kept a piece, and write down what was decided."""
        mask = write.segment_voxels(self.target, self.edit_grid) != 0
        self._list.look(mask, self.probability)
        text, segment = self._list.to_text(), self.target.segment
        if segment is not None and get_tag(segment, REVIEW_TAG) != text:
            segment.SetTag(TAG + REVIEW_TAG, text)
        self._stamp = self._now()

    def _now(self) -> tuple[Any, ...]:
        import slicer

        segment = self.target.segment
        if segment is None:
            return ("", None, 0)
        name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
        image = segment.GetRepresentation(name)
        return (
            get_tag(segment, REVIEW_TAG),
            None if image is None else image.GetAddressAsString(""),
            0 if image is None else image.GetMTime(),
        )
