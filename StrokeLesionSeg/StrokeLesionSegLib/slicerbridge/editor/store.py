"""The correction sessions of the Segment Editor: opened in the background, kept in step.

A session belongs to a source volume, the grid of a segmentation and one segment. Its clicks are
kept in a tag of the segment, so that they are saved with the scene and that Slicer's undo and redo,
which restore tags, take them along.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...correction.voxel_text import voxels_from_text, voxels_to_text
from ...errors import InputError
from ..engine.polled_thread import PolledThread
from ..engine.torch_setup import torch_state
from ..engine_words import stage_name
from ..i18n import tr as _
from ..scene.patch import Patch
from ..scene.probability_map import ProbabilityMap, seeds_from_text
from ..scene.provenance import TAG, Provenance, get_tag
from ..scene.results import (
    PROBABILITY_ROLE,
    add_map,
    bring_along,
    find_segmentation,
    made_of,
    maps_of,
    same_parent,
)
from ..scene.volumes import (
    affine_from_node,
    fingerprint,
    node_by_id,
    same_voxels,
    volume_from_node,
    voxels_from_node,
)
from .target import CannotEdit, EditGrid, EditTarget, resampled, volume_of_image
from .write import segment_voxels

if TYPE_CHECKING:
    from ...correction import Click, CorrectionSession
    from ...images.volume import Grid, Volume

STATE_TAG = "Corrections"
_KEPT = 2  # scans; each with what the network was told of it
_SEGMENTS = 3  # sessions of one scan; each holds a mask and a probability


@dataclass(frozen=True)
class Readiness:
    """Whether an effect can work, what it says, and what its button does.

    ``kind``: "ready", or what is missing: "source", "segment", "torch", "session".
    ``text``: a sentence for the panel. ``button``: its text; empty if there is nothing to press.
    """

    kind: str
    text: str
    button: str = ""


@dataclass(eq=False)
class Work:
    """The session of one segment, and the segment's tag after each of its steps.

    ``first_ml``: the volume of the segment before anybody corrected it, as far as that is known.
    ``step``: the number of the last step, none of which is used twice. ``mask``: the segment as it
    was when the work was asked for, bool (K, J, I).
    """

    session: CorrectionSession
    texts: list[str]
    first_ml: float
    step: int
    mask: NDArray[np.bool_]

    @property
    def volume_ml(self) -> float:
        """Of ``mask``."""
        return float(np.count_nonzero(self.mask)) * self.session.grid.voxel_volume_ml


@dataclass(eq=False)
class Entry:
    """One scan that is ready to be corrected, with the grid that it is edited on.

    ``session``: becomes that of the first segment. ``probability``: before any click, (K, J, I).
    """

    session: CorrectionSession
    edit_grid: EditGrid
    key: tuple[Any, ...]
    source_id: str
    volume: Volume
    works: dict[EditTarget, Work] = field(default_factory=dict)
    probability: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self.probability = self.session.probability

    def session_for(self, mask: NDArray[np.bool_]) -> CorrectionSession:
        """One for a segment that has none yet; what others were told by clicks is not known to it.

        ``mask``: the segment, bool (K, J, I).
        """
        return self.session.for_mask(mask, self.probability) if self.works else self.session

    def mirrored(self) -> NDArray[np.float32]:
        """The scan with left and right exchanged, on the edited grid; up to some seconds."""
        from ...correction import mirrored_scan

        return mirrored_scan(self.volume, self.session.alignment)


@dataclass(frozen=True, eq=False)
class Plan:
    """All that a session needs, taken from the scene: ``open`` may run in any thread."""

    volume: Volume
    model: str
    alignment: Any
    probability: NDArray[np.float32] | None
    edit_grid: EditGrid
    key: tuple[Any, ...]
    source_id: str

    def open(self, progress: Any = None, cancel: Any = None) -> CorrectionSession:
        """The session, for a mask without voxels; touches no node. Raises ``InputError``,
        ``Cancelled``."""
        from ...correction import CorrectionSession, Known, load_click_model

        return CorrectionSession.open(
            self.volume,
            load_click_model(self.model),
            Known(
                mask=np.zeros(self.edit_grid.grid.shape, bool),
                probability=self.probability,
                alignment=self.alignment,
            ),
            progress=progress,
            cancel=cancel,
        )


class Opening:
    """A session that is opened in a thread while Slicer goes on; a timer calls ``poll``.

    Slicer's main thread keeps Python's lock, so that each poll gives the thread a short turn; the
    alignment and the network, which take the seconds, work without the lock.
    """

    def __init__(self, store: SessionStore, effect: Any) -> None:
        self._store, self._plan = store, store.plan(effect)
        self._stage, self._cancelled = "", False
        plan = self._plan
        self._work = PolledThread(lambda: plan.open(self._progress, lambda: self._cancelled))

    @property
    def key(self) -> tuple[Any, ...]:
        """What it is opened for, see ``SessionStore.key``."""
        return self._plan.key

    @property
    def edit_grid(self) -> EditGrid:
        """The grid that is edited."""
        return self._plan.edit_grid

    @property
    def text(self) -> str:
        """What it is doing, for the panel."""
        stage = stage_name(self._stage) if self._stage else _("Loading the model")
        return stage + " ..."

    def poll(self) -> bool:
        """True while it works; then the store has the session. Raises what the work raised."""
        if self._work.poll():
            return not self._cancelled
        session = self._work.result()
        if not self._cancelled and node_by_id(self._plan.source_id) is not None:
            self._store.add(self._plan, session)
        return False

    def cancel(self) -> None:
        """Give it up; the thread ends by itself."""
        self._cancelled = True

    def _progress(self, stage: str, _done: int, _total: int) -> None:
        self._stage = stage


class SessionStore:
    """Open sessions, newest last; one store serves all effects of all Segment Editors."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._observed: Any = None

    # -- what there is ----------------------------------------------------------------------------

    def key(self, effect: Any) -> tuple[Any, ...] | None:
        """Equal as long as the Segment Editor shows the same scan and segmentation, both at the
        same place; None if one of them is missing."""
        editor = effect.parameterSetNode()
        if editor is None or editor.GetSegmentationNode() is None:
            return None
        source = editor.GetSourceVolumeNode()
        return None if source is None or source.GetImageData() is None else _key(editor)

    def find(self, effect: Any) -> Entry | None:
        """The open session for what the Segment Editor shows now, or None."""
        key = self.key(effect)
        for entry in self._entries if key is not None else ():
            if entry.key != key:
                continue
            image = _source_image(effect)
            segmentation = effect.parameterSetNode().GetSegmentationNode()
            if image is not None and entry.edit_grid.matches(image, segmentation):
                return entry
        return None

    def readiness(self, effect: Any) -> Readiness:
        """What the effect's panel has to say now; cheap."""
        editor = effect.parameterSetNode()
        if editor is None or editor.GetSegmentationNode() is None:
            return Readiness("segment", _("Choose or make a segmentation first."))
        if editor.GetSourceVolumeNode() is None:
            return Readiness("source", _("Choose the T1-weighted image as source volume first."))
        target = EditTarget.selected(editor)
        if target is None:
            return Readiness("segment", _("Add or select a segment first."))
        refusal = target.refusal()
        if refusal:
            return Readiness("segment", refusal)
        if self.find(effect) is not None:
            return Readiness("ready", "")
        if not torch_state().installed:
            return Readiness(
                "torch",
                _("PyTorch, which runs the model, is not installed in this Slicer yet."),
                _("Open the module's set-up"),
            )
        return Readiness("session", "")

    # -- opening and closing -----------------------------------------------------------------------

    def open(self, effect: Any, progress: Any = None, cancel: Any = None) -> Entry:
        """The session for what the Segment Editor shows; opened if need be (seconds).

        Raises ``InputError`` for an unusable image or if no model answers clicks, ``Cancelled``,
        and ``CannotEdit`` if there is no source volume.
        """
        found = self.find(effect)
        if found is not None:
            return found
        plan = self.plan(effect)
        return self.add(plan, plan.open(progress, cancel))

    def plan(self, effect: Any) -> Plan:
        """What a session needs from the scene; raises as ``open`` does."""
        editor = effect.parameterSetNode()
        image = _source_image(effect)
        if image is None:
            raise CannotEdit(_("Choose a source volume first."))
        segmentation, source = editor.GetSegmentationNode(), editor.GetSourceVolumeNode()
        voxels_from_node(source)  # of a colour image Slicer would show us one of its values only
        edit_grid = EditGrid.from_image(image, segmentation)
        volume = volume_of_image(image, edit_grid)
        if np.ptp(volume.array) == 0:
            raise InputError(
                source.GetName(),
                _("the source volume does not overlap the segmentation's geometry"),
                _("Choose the image that the segmentation was made on as source volume"),
            )
        map_node = map_for(editor)
        made = _provenance(editor)
        return Plan(
            volume,
            made.model,
            _alignment(made, segmentation, source),
            None if map_node is None else resampled(map_node, edit_grid),
            edit_grid,
            _key(editor),
            source.GetID(),
        )

    def add(self, plan: Plan, session: CorrectionSession) -> Entry:
        """The session of a plan as an entry from now on; its probability goes into the scene."""
        entry = Entry(session, plan.edit_grid, plan.key, plan.source_id, plan.volume)
        self._entries = [*self._entries[1 - _KEPT :], entry]
        self._observe_scene()
        if plan.probability is None:
            _keep_map(entry)
        return entry

    def forget(self, *_: Any) -> None:
        """Let go of all sessions, when the scene closes."""
        self._entries.clear()

    def _observe_scene(self) -> None:
        import slicer

        scene = slicer.mrmlScene
        if self._observed is not scene:
            scene.AddObserver(scene.StartCloseEvent, self.forget)
            self._observed = scene

    # -- state kept in the segment -----------------------------------------------------------------

    def work(self, entry: Entry, target: EditTarget) -> Work:
        """The session of a segment, in step with its voxels and its tag: after undo, redo, loading,
        and whatever other effects did. A tag that makes no sense is ignored."""
        text = get_tag(target.segment, STATE_TAG) if target.segment is not None else ""
        mask = segment_voxels(target, entry.edit_grid) != 0
        work = entry.works.pop(target, None)
        if work is None:
            own = entry.session_for(mask)
            state = _state_in(text, entry, mask)
            clicks, first_ml, step = _read(entry, state)
            first = _made_in(state, mask) if text else _before_hand_work(entry, target, mask)
            own.start_from(first)
            own.restore(clicks, first)
            if math.isnan(first_ml):
                first_ml = float(np.count_nonzero(first)) * own.grid.voxel_volume_ml
            work = Work(own, [text], first_ml, step, mask)
            while len(entry.works) >= _SEGMENTS:
                entry.works.pop(next(iter(entry.works)))
        elif text != work.texts[-1]:
            steps = work.texts[::-1].index(text) if text in work.texts else None
            # A session forgets old steps, maybe sooner than Slicer does.
            if steps is not None and steps <= work.session.steps:
                for _ in range(steps):
                    work.texts.pop()
                    work.session.undo(mask)
            else:
                work.session.restore(_read(entry, _state_in(text, entry, mask))[0], mask)
                work.texts = [text]
        work.mask = mask
        entry.works[target] = work  # the one that was used last comes last
        return work

    def keep_state(self, entry: Entry, target: EditTarget, work: Work) -> None:
        """Write the session's clicks into the segment's tag, after one step more."""
        grid = entry.edit_grid
        work.step += 1
        state = {
            "clicks": [
                [*(round(float(v), 3) for v in grid.index_to_local(c.voxel)), int(c.lesion)]
                for c in work.session.clicks
            ],
            "grid": grid.stamp(),
            "first_ml": round(work.first_ml, 4),
            # What differs from it is the work of a hand, also in another session.
            "made": _packed(work.session.made, grid.grid),
            # So that undo is seen even where the clicks stay the same, as with a fill.
            "step": work.step,
            # By both a warp of image and segment is seen, see ``_state_in``.
            "image": [entry.source_id, _fingerprint_of(entry.source_id)],
            "mask": _checksum(work.session.mask, grid.grid),
        }
        text = json.dumps(state, separators=(",", ":"))
        if target.segment is not None and get_tag(target.segment, STATE_TAG) != text:
            target.segment.SetTag(TAG + STATE_TAG, text)
        work.texts.append(text)


def _state_in(text: str, entry: Entry, mask: NDArray[np.bool_]) -> Any:
    """What a tag holds of a segment that is ``mask`` now, bool (K, J, I); nothing if it makes no
    sense, or if image and segment were warped since: then places are others.

    An image that was filtered has other voxels, too, but the segment is as the clicks left it.
    """
    try:
        state = json.loads(text) if text else {}
        source_id, image = state.get("image", ("", ""))
    except (ValueError, TypeError, AttributeError):
        return {}
    source = node_by_id(source_id) if source_id == entry.source_id else None
    if source is None or same_voxels(image, voxels_from_node(source)):
        return state
    return state if state.get("mask") == _checksum(mask, entry.edit_grid.grid) else {}


def _read(entry: Entry, state: Any) -> tuple[list[Click], float, int]:
    """Clicks, first volume and step of a tag's state; none, NaN and 0 if it holds none."""
    from ...correction import Click

    try:
        clicks = []
        moved = entry.edit_grid.moved_since(state.get("grid"))
        for r, a, s, lesion in state.get("clicks", []):
            place = (moved @ np.array([r, a, s, 1.0]))[:3]
            k, j, i = np.rint(entry.edit_grid.local_to_index(place)).astype(int)
            clicks.append(Click((int(k), int(j), int(i)), bool(lesion)))
        first_ml, step = float(state.get("first_ml", math.nan)), int(state.get("step", 0))
        return clicks, first_ml, step
    except (ValueError, TypeError, AttributeError):
        return [], math.nan, 0


def _fingerprint_of(source_id: str) -> str:
    source = node_by_id(source_id)
    return "" if source is None else fingerprint(voxels_from_node(source))


def _checksum(mask: NDArray[np.bool_], grid: Grid) -> str:
    """The same for equal masks (K, J, I)."""
    return Patch.of_mask(mask, grid).checksum()


def _packed(made: NDArray[np.bool_], grid: Grid) -> dict[str, Any]:
    """A mask (K, J, I) in JSON."""
    cut = Patch.of_mask(made, grid)
    voxels = voxels_to_text(cut.mask)
    return {"start": list(cut.start), "shape": list(cut.mask.shape), "voxels": voxels}


def _made_in(state: Any, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What a tag says that its session had made of the segment, bool (K, J, I); ``mask``, what it
    is now, for one that does not say so or is of a grid of another shape."""
    try:
        made = state["made"]
        if state["grid"]["shape"] != list(mask.shape):
            return mask
        (k, j, i), (dk, dj, di) = made["start"], made["shape"]
        first = np.zeros(mask.shape, bool)
        cut = voxels_from_text(made["voxels"], (dk, dj, di))
        first[k : k + dk, j : j + dj, i : i + di] = cut
    except (ValueError, TypeError, KeyError, zlib.error):
        return mask
    return first


def _before_hand_work(
    entry: Entry, target: EditTarget, mask: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The segment as a run or the sliders have written it, bool (K, J, I), by its settings and its
    map; ``mask``, what it is now, where nobody has worked on it or that is not known any more."""
    segment = target.segment
    written = get_tag(segment, "Written") if segment is not None else ""
    node = maps_of(target.node, target.segment_id)[0] if written else None
    now = _checksum(mask, entry.edit_grid.grid)
    if node is None or node.GetImageData() is None or now == written:
        return mask
    made = Provenance.from_segment(segment)
    probability = ProbabilityMap(volume_from_node(node))
    found = probability.lesions(made.operating_point, seeds_from_text(made.dropped)).patch
    known = found.grid.shape == mask.shape and found.checksum() == written
    return found.full() != 0 if known else mask


def _keep_map(entry: Entry) -> None:
    """Put the probability into the scene, for other effects, the module and the saved scene."""
    from ...images.volume import Volume

    segmentation, source = entry.edit_grid.node, node_by_id(entry.source_id)
    if segmentation is None or source is None or maps_of(segmentation)[0] is not None:
        return
    if not _made_on(segmentation, source):
        return  # it would be taken for that of the segmentation's own image
    probability = np.array(entry.session.probability)
    node = add_map(Volume(probability, entry.edit_grid.grid.affine), source, "probability")
    node.SetAndObserveTransformNodeID(segmentation.GetTransformNodeID())
    segmentation.SetNodeReferenceID(PROBABILITY_ROLE, node.GetID())


def map_for(editor: Any) -> Any | None:
    """The probability node of the selected segment, else of the newest result in its segmentation,
    if that was made on the source volume, or of another result of the same source volume; None if
    there is none."""
    segmentation, source = editor.GetSegmentationNode(), editor.GetSourceVolumeNode()
    if source is None:
        return None
    selected = editor.GetSelectedSegmentID() or ""
    of_source = [segmentation] if _made_on(segmentation, source) else []
    for node in (*of_source, find_segmentation(source)):
        if node is None:
            continue
        bring_along(node, source)
        found = maps_of(node, selected if node is segmentation else "")[0]
        if found is not None and made_of(found, source):
            return found
    return None


def _made_on(segmentation: Any, source: Any) -> bool:
    """Whether a segmentation was made on this image, as far as it says."""
    import slicer

    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return segmentation.GetNodeReferenceID(role) in (None, "", source.GetID())


_store: SessionStore | None = None


def shared_store() -> SessionStore:
    """The store of this Slicer."""
    global _store
    if _store is None:
        _store = SessionStore()
    return _store


def _source_image(effect: Any) -> Any | None:
    editor = effect.parameterSetNode()
    if editor is None or editor.GetSegmentationNode() is None:
        return None
    if editor.GetSourceVolumeNode() is None:
        return None
    image = effect.sourceVolumeImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        return None
    return image


def _key(editor: Any) -> tuple[Any, ...]:
    """Equal as long as the source volume's voxels and places are the same, and the model that made
    the segment, with its map."""
    source, segmentation = editor.GetSourceVolumeNode(), editor.GetSegmentationNode()

    def moved(node: Any) -> tuple[str, int]:
        parent = node.GetParentTransformNode()
        return (parent.GetID(), _transform_time(parent)) if parent is not None else ("", 0)

    return (
        *_made_by(editor),
        source.GetID(),
        source.GetImageData().GetMTime(),
        affine_from_node(source).tobytes(),
        segmentation.GetID(),
        # Where both lie under the same transform, moving it changes nothing between them.
        *(() if same_parent(source, segmentation) else (moved(source), moved(segmentation))),
    )


def _made_by(editor: Any) -> tuple[str, str]:
    """The model that the session is opened with, by its checksum, and the id of its result's own
    map; not of one that sessions themselves have made."""
    found = _result(editor)
    if found is None:
        return "", ""
    node, segment_id = found
    segment = node.GetSegmentation().GetSegment(segment_id)
    own = maps_of(node, segment_id)[0] if get_tag(segment, "OwnMaps") else None
    return get_tag(segment, "Checksum"), "" if own is None else str(own.GetID())


def _transform_time(node: Any) -> int:
    time = 0
    while node is not None:
        time = max(time, int(node.GetTransformToWorldMTime()))
        node = node.GetParentTransformNode()
    return time


def _provenance(editor: Any) -> Provenance:
    """What made the selected segment, else the newest result in its segmentation, or in another
    one of the same image; with its alignment if that is this image's."""
    found = _result(editor)
    if found is None:
        return Provenance()
    node, segment_id = found
    made = Provenance.from_segment(node.GetSegmentation().GetSegment(segment_id))
    return made if _made_on(node, editor.GetSourceVolumeNode()) else replace(made, to_mni=None)


def _result(editor: Any) -> tuple[Any, str] | None:
    """Segmentation and segment id of the result that ``_provenance`` tells of, if there is one."""
    segmentation, source = editor.GetSegmentationNode(), editor.GetSourceVolumeNode()
    target = EditTarget.selected(editor)
    if target is not None and get_tag(target.segment, "Model"):
        return segmentation, target.segment_id
    for node in (segmentation, find_segmentation(source)):
        if node is None:
            continue
        segments = node.GetSegmentation()
        for index in reversed(range(segments.GetNumberOfSegments())):
            if get_tag(segments.GetNthSegment(index), "Model"):
                return node, segments.GetNthSegmentID(index)
    return None


def _alignment(made: Provenance, segmentation: Any, source: Any) -> Any | None:
    """The alignment of an earlier run, if it still says where the edited grid lies."""
    if made.to_mni is None or not same_parent(segmentation, source):
        return None
    from ...images import Alignment

    return Alignment(np.array(made.to_mni), True, "", 0.0, 0.0, 0.0)
