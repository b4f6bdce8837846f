"""The session that all effects share: one scan, one model, one segmentation being edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..images.volume import Grid, Volume
from ..inference.options import SegmentOptions
from .regions import WHOLE, Region
from .types import Box, Candidate, Click

if TYPE_CHECKING:
    from ..images import Alignment
    from ..models import LoadedModel

Cancel = Callable[[], bool]
Progress = Callable[[str, int, int], None]
Piece = tuple[Box, NDArray[np.uint8]]


class EditingSession:
    """Predictions on demand, thresholds, brush, clicks, review and mirror image of one scan.

    Arrays are (K, J, I) on the native grid ``grid``, the geometry of the edited segmentation;
    places are native RAS mm; ``Box`` is (k, j, i) slices of native voxels. A method that gives a
    ``Piece`` returns a box and a uint8 array of the box's shape, so that an edit costs what it
    changes. Nothing here starts threads: the caller calls ``work`` and ``refine_more`` from a
    timer. A session is used from one thread.

    Attributes
    ----------
    grid: the native grid.
    threshold: the model's own threshold, a good start for a slider.
    alignment: native RAS mm to MNI RAS mm; None if none was wanted. One with ``ok`` false was not
        used.
    warnings: one sentence each (failed alignment, number format given up).
    takes_clicks: whether the model has the channels for clicks.
    """

    grid: Grid
    threshold: float
    alignment: Alignment | None
    warnings: tuple[str, ...]
    takes_clicks: bool

    @classmethod
    def open(
        cls,
        volume: Volume,
        model: LoadedModel,
        *,
        options: SegmentOptions | None = None,
        alignment: Alignment | None = None,
        probability: NDArray[np.floating] | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> EditingSession:
        """A session on ``volume`` (a T1 on any grid): canonical grid, window, prepared network.

        Nothing is predicted yet. Takes as long as the alignment (seconds), or about a second if
        ``alignment`` (of the same volume) is given or ``options.align`` is "none". ``probability``
        is a finished map on the native grid: the session is ``complete`` from the start.
        ``options``, ``progress`` and ``cancel`` as in ``segment_volume``.

        Raises ``InputError`` as ``segment_volume`` does, ``Cancelled`` if told so, ``ValueError``
        for a ``probability`` of another shape.
        """
        raise NotImplementedError

    # --- predictions ---------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """True once every voxel has the answer of ``segment_volume``."""
        raise NotImplementedError

    @property
    def fraction_done(self) -> float:
        """Share of the background's work that is done, 0 to 1."""
        raise NotImplementedError

    @property
    def probability(self) -> NDArray[np.float32]:
        """(K, J, I) float32, read-only: all that is known so far; 0 where nothing is.

        Brings the whole volume up to date, which may take a few tenths of a second while the
        background is at work; ``probability_in`` costs what its box costs.
        """
        raise NotImplementedError

    def probability_in(self, box: Box) -> NDArray[np.float32]:
        """The probability of ``box``, read-only, as far as it is known; 0 where it is not."""
        raise NotImplementedError

    def probability_at(self, ras_mm: ArrayLike) -> float:
        """The probability of the voxel nearest to a place; 0 outside the grid.

        Predicts the slices that it needs if they are not known yet.
        """
        raise NotImplementedError

    def known(self, box: Box) -> NDArray[np.bool_]:
        """Which voxels of ``box`` have a prediction (of any kind) yet."""
        raise NotImplementedError

    def predict_visible(self, axis: int, index: int) -> Box:
        """Predict the native slice ``index`` of array axis ``axis``; returns its box.

        If the background has not come there, the network sees the slice in the slice's own plane
        (it has one set of weights for axial, coronal and sagittal slices), so that one pass is
        enough; the background's answer replaces it later. A slice that is known costs next to
        nothing. Raises ``ValueError`` for a slice that does not exist.
        """
        raise NotImplementedError

    def predict_plane(self, origin_ras: ArrayLike, u_ras: ArrayLike, v_ras: ArrayLike) -> Box:
        """Predict what a slice view shows: the plane through ``origin_ras`` along u and v.

        Any origin on the plane and any two directions in it (RAS, any length). Native voxels next
        to the plane get the answer. Returns the box of native voxels that may have changed, empty
        if the plane misses the scan. Raises ``ValueError`` for directions that span no plane.
        """
        raise NotImplementedError

    def work(self, milliseconds: float = 30.0, near: tuple[int, int] | None = None) -> Box | None:
        """A piece of background work; returns the box of what changed, None when all is done.

        At least one step (a slice through the network, or blocks of the native grid brought up to
        date), and further steps while they are expected to fit into ``milliseconds``. The box may
        be empty: a slice was predicted that no finished block shows yet. ``near`` is the (axis,
        index) of the native slice on view: what is closest to it goes first.
        """
        raise NotImplementedError

    # --- threshold -----------------------------------------------------------------------------

    def mask(
        self,
        threshold: float,
        *,
        region: Region = WHOLE,
        largest_only: bool = False,
        min_volume_ml: float = 0.0,
    ) -> Piece:
        """Voxels of at least ``threshold``, as far as they are known (see ``known``).

        The box is that of the region or smaller, and empty if there is no voxel that could be
        above the threshold; outside of it there is no lesion. ``largest_only`` keeps the largest
        connected piece (26 neighbours), ``min_volume_ml`` the pieces of at least that volume, both
        judged within the region. Raises ``ValueError`` for a threshold outside (0, 1].
        """
        raise NotImplementedError

    # --- brush ---------------------------------------------------------------------------------

    def dab(
        self,
        centre_ras: ArrayLike,
        radius_mm: float,
        *,
        sphere: bool = False,
        normal_ras: ArrayLike = (0.0, 0.0, 1.0),
        threshold: float,
        floor_from: float | None = None,
        erase: bool = False,
    ) -> Piece:
        """What one touch of the brush adds, or takes away if ``erase``.

        The brush is a sphere, or the disk of native voxels on the plane through ``centre_ras``
        with the normal ``normal_ras``; voxels belong to it by their centres. To add: those with a
        probability of at least ``threshold``. With ``floor_from``, the probability where the
        stroke began (``probability_at``), the bound is instead ``brush.FLOOR_SHARE`` of that, if
        that is lower: a stroke that starts in a faint lesion goes on in it. To take away: those
        below the bound. What is not known yet is predicted.

        The box is that of the brush, cut to the grid, and empty outside of it. Raises
        ``ValueError`` for a radius that is not positive or a normal of length 0.
        """
        raise NotImplementedError

    # --- clicks --------------------------------------------------------------------------------

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in the order in which they were made."""
        raise NotImplementedError

    def add_click(
        self, ras_mm: ArrayLike, positive: bool, *, axis: int, id: int | None = None
    ) -> Click:
        """Add a click in a slice of native array axis ``axis``; see ``refine_visible``.

        Raises ``InputError`` if the model takes no clicks, ``ValueError`` for an ``id`` in use, an
        axis that does not exist or a place that is not finite.
        """
        raise NotImplementedError

    def move_click(self, id: int, ras_mm: ArrayLike) -> Click:
        """Move a click; raises ``KeyError`` if there is none of that id."""
        raise NotImplementedError

    def remove_click(self, id: int) -> None:
        """Take a click back; raises ``KeyError`` if there is none of that id."""
        raise NotImplementedError

    def start_from(self, mask: NDArray[Any] | None) -> None:
        """Let clicks correct ``mask`` (native, (K, J, I), not 0 is lesion) instead of the model.

        It is handed to the network as its previous probability. None returns to the model's own.
        Clicks stay; their effect is worked out anew by ``refine_more``. Raises ``ValueError`` for
        another shape, ``InputError`` if the model takes no clicks.
        """
        raise NotImplementedError

    def refine_visible(self, threshold: float | None = None) -> Piece:
        """The slice of the click that was added or moved last, corrected at once.

        One pass of the network in the slice's own plane with all clicks that lie in it (two if the
        slice was not predicted before). The box is what may have changed in the slice: the segment
        takes the array's values there. After ``remove_click`` it is the removed click's slice.
        ``threshold`` (default: the session's) is where the model's own answer is cut. An empty box
        if there was no click. The clicked voxel and all within ``clicks.OBEYED_MM`` are as
        clicked, here and in ``refine_more`` and ``guided_mask``; later clicks win.
        """
        raise NotImplementedError

    def refine_more(
        self, milliseconds: float = 30.0, threshold: float | None = None
    ) -> Piece | None:
        """A further piece of the correction; None when all of it is done.

        Slice by slice from each click outwards, until the answer changes no longer. At least one
        pass of the network a call. The result, once it is None, depends only on scan, model,
        clicks in their order, starting mask and threshold. The segment takes the array's values
        within the box.
        """
        raise NotImplementedError

    def guided_mask(self, threshold: float | None = None, box: Box | None = None) -> Piece:
        """What clicks and model (or the starting mask) say together, as far as it is worked out.

        ``box``: None is the whole grid, and then the box returned is the smallest that holds all
        that is marked.
        """
        raise NotImplementedError

    # --- review --------------------------------------------------------------------------------

    def candidates(self, threshold: float, min_volume_ml: float = 0.0) -> tuple[Candidate, ...]:
        """The pieces of at least ``threshold`` and that volume, most doubtful first.

        Called again after the probability or the arguments have changed it finds the pieces anew;
        one that lies mostly where an earlier one lay keeps its id and state. Rejected ones stay
        in the list. Raises ``ValueError`` for a threshold outside (0, 1].
        """
        raise NotImplementedError

    def candidate_mask(self, id: int) -> Piece:
        """A candidate's voxels; raises ``KeyError`` if there is none of that id."""
        raise NotImplementedError

    def accept(self, id: int) -> Candidate:
        """Mark a candidate as a lesion; raises ``KeyError`` if there is none of that id."""
        raise NotImplementedError

    def reject(self, id: int) -> Candidate:
        """Mark a candidate as none; it stays listed. Raises ``KeyError``."""
        raise NotImplementedError

    def take_back(self, id: int) -> Candidate:
        """Make a candidate open again. Raises ``KeyError``."""
        raise NotImplementedError

    def split(self, id: int) -> tuple[Candidate, ...]:
        """Cut a candidate where it is thinnest or least probable; returns the parts, all open.

        The parts share out its voxels and take its place in ``candidates``; the largest keeps the
        id. A single voxel cannot be cut: the candidate itself is returned. Raises ``KeyError``.
        """
        raise NotImplementedError

    def rerun(self, id: int, *, cancel: Cancel | None = None) -> Box:
        """Ask the network again about a candidate: three views and flips, averaged.

        The answer replaces the probability in the candidate's surroundings; call ``candidates``
        afterwards. Takes a second or more: a wait cursor is in place. Returns the box of what
        changed. Raises ``KeyError``; ``Cancelled``, and then nothing has changed.
        """
        raise NotImplementedError

    # --- mirror image --------------------------------------------------------------------------

    def mirrored(self, *, cancel: Cancel | None = None) -> NDArray[np.float32]:
        """The scan flipped across its mid-sagittal plane, float32 on the native grid.

        In the scan's own intensities. The plane is that of the MNI alignment if there is one, else
        the one about which the scan is most like its own mirror image (one to three seconds).
        Made once and kept; read-only. Raises ``Cancelled``.
        """
        raise NotImplementedError

    # --- state ---------------------------------------------------------------------------------

    def to_state(self) -> dict[str, Any]:
        """What is kept in the scene, JSON-ready: clicks, and states of candidates."""
        raise NotImplementedError

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what ``to_state`` gave, of this or another session on the same scan.

        ``refine_more`` works out the clicks anew. Raises ``InputError`` for a state that makes no
        sense or has clicks for a model that takes none.
        """
        raise NotImplementedError
