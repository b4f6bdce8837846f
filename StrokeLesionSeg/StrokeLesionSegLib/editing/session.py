"""The session that all effects share: one scan, one model, one segmentation being edited."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..images.space.brainbox import on_mni_grid
from ..images.volume import Grid, Volume
from ..inference.options import SegmentOptions
from .brush import floor_of, footprint
from .clicks import Guided
from .mirror import find_mirror_plane, mirror, mni_reflection, reflection
from .native import NOTHING
from .pieces import keep_pieces
from .regions import WHOLE, Region
from .review import Review, check_places, check_verdicts
from .scan import EditedScan, open_scan
from .types import EMPTY, Box, Candidate, Click, extents, intersect, is_empty, within
from .visible import predict_plane, predict_slice
from .worker import Worker

if TYPE_CHECKING:
    from ..images import Alignment
    from ..models import LoadedModel

Cancel = Callable[[], bool]
Progress = Callable[[str, int, int], None]
Piece = tuple[Box, NDArray[np.uint8]]

_STATE_VERSION = 1
# Boxes up to so many voxels are brought up to date before they are shown; larger ones show what
# the background has brought.
_SMALL = 1_000_000


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
    threshold, sure, min_volume_ml: the model's own bound of a lesion, the probability that it has
        to reach somewhere (None: no more than the threshold), and its smallest volume in mL; good
        starts for sliders.
    alignment: native RAS mm to MNI RAS mm; None if none was wanted. One with ``ok`` false was not
        used.
    takes_clicks: whether the model has the channels for clicks.
    """

    grid: Grid
    threshold: float
    sure: float | None
    min_volume_ml: float
    alignment: Alignment | None
    takes_clicks: bool

    def __init__(self, scan: EditedScan) -> None:
        self._scan = scan
        self._worker = Worker(scan)
        self._guided = Guided(scan)
        self._review = Review(scan)
        self._mirrored: NDArray[np.float32] | None = None
        self._next_click = 1  # the id of a click that was taken back is not given again
        self.grid = scan.grid
        self._kept: tuple[tuple[float | None, ...], NDArray[np.bool_]] | None = None
        point = scan.point
        self.threshold, self.sure = point.threshold, point.second_threshold
        self.min_volume_ml = point.min_volume_ml
        self._min_mean = point.min_mean_probability
        self.alignment = scan.alignment
        self.takes_clicks = scan.network.takes_clicks

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence each: a failed alignment, a number format given up, a GPU that gave out."""
        return tuple(self._scan.network.warnings)

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
        scan = open_scan(
            volume,
            model,
            options or SegmentOptions(),
            alignment=alignment,
            probability=probability,
            progress=progress,
            cancel=cancel,
        )
        return cls(scan)

    # --- predictions ---------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """True once every voxel has the answer of ``segment_volume``."""
        return self._scan.background.complete and self._scan.native.complete

    @property
    def fraction_done(self) -> float:
        """Share of the background's work that is done, 0 to 1."""
        background, native = self._scan.background, self._scan.native
        if self.complete:
            return 1.0
        # A block costs about a tenth of a slice.
        share = 0.9 * background.fraction_done + 0.1 * native.fraction_done
        return min(share, 0.999)

    @property
    def probability(self) -> NDArray[np.float32]:
        """(K, J, I) float32, read-only: all that is known so far; 0 where nothing is.

        Brings the whole volume up to date, which may take a few tenths of a second while the
        background is at work; ``probability_in`` costs what its box costs.
        """
        self._scan.native.refresh_all()
        return _read_only(self._scan.native.values)

    def probability_in(self, box: Box) -> NDArray[np.float32]:
        """The probability of ``box``, read-only, as far as it is known; 0 where it is not."""
        self._scan.native.refresh(box)
        return _read_only(self._scan.native.values[box])

    def probability_at(self, ras_mm: ArrayLike) -> float:
        """The probability of the voxel nearest to a place; 0 outside the grid.

        Predicts the slices that it needs if they are not known yet.
        """
        index = np.rint(self._scan.index_of(_place(ras_mm))).astype(int)[::-1]
        if not all(0 <= n < size for n, size in zip(index, self.grid.shape, strict=True)):
            return 0.0
        k, j, i = (slice(int(n), int(n) + 1) for n in index)
        self._know((k, j, i))
        return float(self._scan.native.values[k, j, i][0, 0, 0])

    def known(self, box: Box) -> NDArray[np.bool_]:
        """Which voxels of ``box`` have a prediction (of any kind) yet."""
        self._scan.native.refresh(box)
        return self._scan.native.known[box] != NOTHING

    def predict_visible(self, axis: int, index: int) -> Box:
        """Predict the native slice ``index`` of array axis ``axis``; returns its box.

        If the background has not come there, the network sees the slice in the slice's own plane
        (it has one set of weights for axial, coronal and sagittal slices), so that one pass is
        enough; the background's answer replaces it later. A slice that is known costs next to
        nothing. Raises ``ValueError`` for a slice that does not exist.
        """
        return predict_slice(self._scan, int(axis), int(index))

    def predict_plane(self, origin_ras: ArrayLike, u_ras: ArrayLike, v_ras: ArrayLike) -> Box:
        """Predict what a slice view shows: the plane through ``origin_ras`` along u and v.

        Any origin on the plane and any two directions in it (RAS, any length). Native voxels next
        to the plane get the answer. Returns the box of native voxels that may have changed, empty
        if the plane misses the scan. Raises ``ValueError`` for directions that span no plane.
        """
        origin, u, v = (np.asarray(x, np.float64) for x in (origin_ras, u_ras, v_ras))
        return predict_plane(self._scan, origin, u, v)

    def work(self, milliseconds: float = 30.0, near: tuple[int, int] | None = None) -> Box | None:
        """A piece of background work; returns the box of what changed, None when all is done.

        At least one step (a slice through the network, or blocks of the native grid brought up to
        date), and further steps while they are expected to fit into ``milliseconds``. The box may
        be empty: a slice was predicted that no finished block shows yet. ``near`` is the (axis,
        index) of the native slice on view: what is closest to it goes first.
        """
        return self._worker.work(milliseconds, near)

    # --- threshold -----------------------------------------------------------------------------

    def mask(
        self,
        threshold: float,
        *,
        region: Region = WHOLE,
        largest_only: bool = False,
        min_volume_ml: float = 0.0,
        sure: float | None = None,
    ) -> Piece:
        """Voxels of at least ``threshold``, as far as they are known (see ``known``).

        The box is that of the region or smaller, and empty if there is no voxel that could be
        above the threshold; outside of it there is no lesion. Pieces have 26 neighbours.
        ``min_volume_ml`` keeps the pieces of at least that volume, ``sure`` those that reach that
        probability somewhere; both are judged over the whole scan, so that a slice shows what the
        whole volume will have. ``largest_only`` keeps the largest piece within the region. Pieces
        of a scan that is not complete yet are not judged, nor is the largest one of all of it
        looked for: they change with every slice, and a viewer scrolls meanwhile. With the model's
        own ``threshold``, ``sure`` and ``min_volume_ml`` the whole volume is the automatic mask.
        Raises ``ValueError`` for a threshold or ``sure`` outside (0, 1].
        """
        for value in (threshold, threshold if sure is None else sure):
            if not 0 < value <= 1:
                raise ValueError(f"a threshold must be above 0 and at most 1, not {value}")
        native = self._scan.native
        box = intersect(region.box(self.grid), native.searched)
        if is_empty(box):
            return EMPTY, np.zeros((0, 0, 0), np.uint8)
        if np.prod(extents(box)) < _SMALL:
            native.refresh(box)
        selective = min_volume_ml > 0 or (sure is not None and sure > threshold)
        selective = selective or self._min_mean > 0
        if selective and native.complete:
            marked = self._judged(threshold, sure, min_volume_ml)[within(box, native.searched)]
        else:
            marked = native.values[box] >= threshold
        allowed = region.mask(self.grid, box)
        if allowed is not None:
            marked = marked & allowed
        if largest_only and (native.complete or box != native.searched):
            marked = keep_pieces(marked, self.grid.voxel_volume_ml, largest_only=True)
        return box, np.ascontiguousarray(marked).view(np.uint8)

    def _judged(
        self, threshold: float, sure: float | None, min_volume_ml: float
    ) -> NDArray[np.bool_]:
        """The pieces that stay, on all that was searched; kept for the next slice or region."""
        native = self._scan.native
        wanted = (threshold, sure, min_volume_ml, self._scan.background.version)
        if self._kept is not None and self._kept[0] == wanted:
            return self._kept[1]
        values = native.values[native.searched]
        marked = keep_pieces(
            values >= threshold,
            self.grid.voxel_volume_ml,
            min_volume_ml=min_volume_ml,
            sure=None if sure is None else (values, sure),
            mean=(values, self._min_mean),
        )
        self._kept = (wanted, marked)
        return marked

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
        centre = _place(centre_ras)
        normal = None if sphere else np.asarray(normal_ras, np.float64)
        box, inside = footprint(self.grid, centre, float(radius_mm), normal)
        if is_empty(box):
            return EMPTY, np.zeros((0, 0, 0), np.uint8)
        native = self._scan.native
        native.refresh(box)
        if normal is not None and (inside & (native.known[box] == NOTHING)).any():
            across = np.eye(3)[int(np.argmin(np.abs(normal)))]
            u = np.cross(normal, across)
            predict_plane(self._scan, centre, u, np.cross(normal, u))
        if (inside & (native.known[box] == NOTHING)).any():
            self._know(box)
        marked = native.values[box] >= floor_of(float(threshold), floor_from)
        return box, (inside & (~marked if erase else marked)).view(np.uint8)

    # --- clicks --------------------------------------------------------------------------------

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in the order in which they were made."""
        return tuple(self._guided.clicks)

    def add_click(
        self, ras_mm: ArrayLike, positive: bool, *, axis: int, id: int | None = None
    ) -> Click:
        """Add a click in a slice of native array axis ``axis``; see ``refine_visible``.

        Raises ``InputError`` if the model takes no clicks, ``ValueError`` for an ``id`` in use, an
        axis that does not exist or a place that is not finite.
        """
        self._must_take_clicks()
        place = _place(ras_mm)
        if axis not in (0, 1, 2):
            raise ValueError(f"there is no axis {axis}")
        taken = {click.id for click in self._guided.clicks}
        if id is None:
            id = self._next_click
        elif id in taken:
            raise ValueError(f"there is a click {id} already")
        x, y, z = (float(value) for value in place)
        click = Click(int(id), (x, y, z), bool(positive), int(axis))
        self._guided.add(click)
        self._next_click = max(self._next_click, click.id + 1)
        return click

    def move_click(self, id: int, ras_mm: ArrayLike) -> Click:
        """Move a click; raises ``KeyError`` if there is none of that id."""
        old = self._click(id)
        x, y, z = (float(value) for value in _place(ras_mm))
        click = replace(old, ras_mm=(x, y, z))
        self._guided.move(old, click)
        return click

    def remove_click(self, id: int) -> None:
        """Take a click back; raises ``KeyError`` if there is none of that id."""
        self._guided.remove(self._click(id))

    def start_from(self, mask: NDArray[Any] | None) -> None:
        """Let clicks correct ``mask`` (native, (K, J, I), not 0 is lesion) instead of the model.

        It is handed to the network as its previous probability. None returns to the model's own.
        Clicks stay; their effect is worked out anew by ``refine_more``. Raises ``ValueError`` for
        another shape, ``InputError`` if the model takes no clicks.
        """
        self._must_take_clicks()
        if mask is not None and mask.shape != self.grid.shape:
            raise ValueError(f"a mask of shape {mask.shape} on a grid of {self.grid.shape}")
        self._guided.start_from(None if mask is None else np.asarray(mask) != 0)

    def refine_visible(self, threshold: float | None = None) -> Piece:
        """The slice of the click that was added or moved last, corrected at once.

        One pass of the network in the slice's own plane with all clicks that lie in it (two if the
        slice was not predicted before). The box is what may have changed in the slice: the segment
        takes the array's values there. After ``remove_click`` it is the removed click's slice.
        ``threshold`` (default: the session's) is where the model's own answer is cut. An empty box
        if there was no click. The clicked voxel and all within ``clicks.OBEYED_MM`` are as
        clicked, here and in ``refine_more`` and ``guided_mask``; later clicks win.
        """
        self._guided.use_threshold(threshold)
        return self._guided.visible()

    def refine_more(
        self, milliseconds: float = 30.0, threshold: float | None = None
    ) -> Piece | None:
        """A further piece of the correction; None when all of it is done.

        Slice by slice from each click outwards, until the answer changes no longer. At least one
        pass of the network a call. The result, once it is None, depends only on scan, model,
        clicks in their order, starting mask and threshold. The segment takes the array's values
        within the box.
        """
        self._guided.use_threshold(threshold)
        return self._guided.more(milliseconds)

    def is_behind(self, threshold: float | None = None) -> bool:
        """True while clicks that had been worked out are worked out anew by ``refine_more``.

        So it is after ``restore``, with another ``threshold``, and after a click was moved or
        removed. Who corrects a segment in which others may have drawn since lets ``refine_more``
        come to its end before the next click, and leaves the segment as it is meanwhile.
        """
        self._guided.use_threshold(threshold)
        return self._guided.behind

    def guided_mask(self, threshold: float | None = None, box: Box | None = None) -> Piece:
        """What clicks and model (or the starting mask) say together, as far as it is worked out.

        ``box``: None is the whole grid, and then the box returned is the smallest that holds all
        that is marked.
        """
        self._guided.use_threshold(threshold)
        if box is None:
            return self._guided.whole()
        return box, self._guided.mask(box)

    def clues(self) -> tuple[Box, NDArray[np.float32], NDArray[np.float32]]:
        """What speaks for and against lesion around the clicks, for learning to weigh it.

        (box, clues, distance) on the canonical grid, where there is at least one click; see
        ``clues.clues``.
        """
        return self._guided.clues()

    def on_canonical_grid(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """A native array (K, J, I) on the canonical grid, linear."""
        from .scan import to_canonical_grid

        return to_canonical_grid(self._scan, np.asarray(array, dtype=np.float32))

    # --- review --------------------------------------------------------------------------------

    def candidates(self, threshold: float, min_volume_ml: float = 0.0) -> tuple[Candidate, ...]:
        """The pieces of at least ``threshold`` and that volume, most doubtful first.

        Called again after the probability or the arguments have changed it finds the pieces anew;
        one that lies mostly where an earlier one lay keeps its id and state. Accepted and
        rejected ones stay in the list, also where these arguments find nothing any more.
        Raises ``ValueError`` for a threshold outside (0, 1].
        """
        if not 0 < threshold <= 1:
            raise ValueError(f"a threshold must be above 0 and at most 1, not {threshold}")
        return self._review.candidates(float(threshold), float(min_volume_ml))

    def candidate_mask(self, id: int) -> Piece:
        """A candidate's voxels; raises ``KeyError`` if there is none of that id."""
        return self._review.piece(id)

    def accept(self, id: int) -> Candidate:
        """Mark a candidate as a lesion; raises ``KeyError`` if there is none of that id."""
        return self._review.judge(id, "accepted")

    def reject(self, id: int) -> Candidate:
        """Mark a candidate as none; it stays listed. Raises ``KeyError``."""
        return self._review.judge(id, "rejected")

    def take_back(self, id: int) -> Candidate:
        """Make a candidate open again. Raises ``KeyError``."""
        return self._review.judge(id, "open")

    def split(self, id: int) -> tuple[Candidate, ...]:
        """Cut a candidate where it is thinnest or least probable; returns the parts, all open.

        The parts share out its voxels and take its place in ``candidates``; the largest keeps the
        id. A single voxel cannot be cut: the candidate itself is returned. Raises ``KeyError``.
        """
        return self._review.split(id)

    def rerun(self, id: int, *, cancel: Cancel | None = None) -> Box:
        """Ask the network again about a candidate: three views and flips, averaged.

        The answer replaces the probability in the candidate's surroundings; call ``candidates``
        afterwards. Takes a second or more: a wait cursor is in place. Returns the box of what
        changed. Raises ``KeyError``; ``Cancelled``, and then nothing has changed.
        """
        changed = self._review.rerun(id, cancel)
        self._guided.redo()
        return changed

    # --- mirror image --------------------------------------------------------------------------

    def mirrored(self, *, cancel: Cancel | None = None) -> NDArray[np.float32]:
        """The scan flipped across its mid-sagittal plane, float32 on the native grid.

        In the scan's own intensities. The plane is that of the MNI alignment if there is one, else
        the one about which the scan is most like its own mirror image (one to three seconds).
        Made once and kept; read-only. Raises ``Cancelled``.
        """
        if self._mirrored is None:
            scan = self._scan
            if scan.canonical.alignment is not None:
                across = mni_reflection(scan.canonical.alignment.matrix)
            elif on_mni_grid(scan.canonical):
                across = mni_reflection(None)
            else:
                across = reflection(*find_mirror_plane(scan.volume, cancel))
            self._mirrored = mirror(scan.volume, across)
        return _read_only(self._mirrored)

    # --- state ---------------------------------------------------------------------------------

    def to_state(self) -> dict[str, Any]:
        """What is kept in the scene, JSON-ready: clicks, and verdicts on candidates.

        A starting mask is not in it, only (``from_mask``) that there was one: the caller has it.
        """
        start = self._guided.start
        return {
            "version": _STATE_VERSION,
            "shape_kji": list(self.grid.shape),
            "clicks": [
                {
                    "id": click.id,
                    "ras_mm": list(click.ras_mm),
                    "positive": click.positive,
                    "axis": click.axis,
                }
                for click in self.clicks
            ],
            "from_mask": start is not None,
            "review": self._review.to_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what ``to_state`` gave, of this or another session on the same scan.

        ``refine_more`` works out the clicks anew. Raises ``InputError`` for a state that makes no
        sense or has clicks for a model that takes none.
        """
        try:
            if state["version"] != _STATE_VERSION:
                raise ValueError(f"version {state['version']!r}")
            clicks = []
            for each in state["clicks"]:
                x, y, z = (float(value) for value in _place(each["ras_mm"]))
                if each["axis"] not in (0, 1, 2) or not isinstance(each["positive"], bool):
                    raise ValueError(f"click {each!r}")
                clicks.append(Click(int(each["id"]), (x, y, z), each["positive"], each["axis"]))
            if len({click.id for click in clicks}) != len(clicks):
                raise ValueError("two clicks of one id")
            verdicts = check_verdicts(state["review"]["verdicts"])
            cuts = check_places(state["review"].get("cuts", []))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                "saved editing state",
                f"makes no sense ({error})",
                "Start the correction anew",
            ) from None
        if clicks:
            self._must_take_clicks()
        for click in list(self._guided.clicks):
            self._guided.remove(click)
        for click in clicks:
            self._guided.add(click)
            self._next_click = max(self._next_click, click.id + 1)
        self._guided.redo()
        self._review.restore(verdicts, cuts)

    # --- helpers -------------------------------------------------------------------------------

    def _know(self, box: Box) -> None:
        """Predict what ``box`` lacks, as the background would."""
        native = self._scan.native
        native.refresh(box)
        if (native.known[box] == NOTHING).any():
            self._scan.background.ensure(native.parts.canonical_box(box))
            native.refresh(box)

    def _click(self, id: int) -> Click:
        for click in self._guided.clicks:
            if click.id == id:
                return click
        raise KeyError(id)

    def _must_take_clicks(self) -> None:
        if not self.takes_clicks:
            raise InputError(
                "clicks",
                "the model has no channels for them",
                "Take a model that has (channels click_positive, click_negative and "
                "previous_probability in its manifest), or use the Lesion Brush",
            )


def _place(ras_mm: ArrayLike) -> NDArray[np.float64]:
    """Three finite numbers; raises ``ValueError`` for anything else."""
    place = np.asarray(ras_mm, np.float64)
    if place.shape != (3,) or not np.isfinite(place).all():
        raise ValueError(f"a place has three finite coordinates, not {ras_mm!r}")
    return place


def _read_only(array: NDArray[np.float32]) -> NDArray[np.float32]:
    view = array.view()
    view.setflags(write=False)
    return view
