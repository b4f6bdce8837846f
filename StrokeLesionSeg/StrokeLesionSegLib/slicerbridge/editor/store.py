"""The editing session of a source volume: opened on demand, shared by all effects, kept in step.

A session belongs to a source volume and the grid of a segmentation. Clicks and decisions belong
to a segment: they are kept in a tag of it, so that they are saved with the scene and that Slicer's
undo and redo, which restore tags, take them along.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ..engine.process import WORKERS_TURN_S
from ..engine.run import STAGE_NAMES
from ..engine.torch_setup import torch_state
from ..i18n import tr as _
from ..scene.provenance import TAG, Provenance, get_tag
from ..scene.results import PROBABILITY_ROLE, add_map, find_segmentation, maps_of, same_parent
from ..scene.volumes import affine_from_node, node_by_id
from .target import CannotEdit, EditGrid, EditTarget, resampled, volume_of_image
from .write import segment_voxels

if TYPE_CHECKING:
    from ...editing import EditingSession

STATE_TAG = "Editing"
_KEPT = 2  # sessions; each holds the scan, its probability and the canonical copies of both


@dataclass(frozen=True)
class Readiness:
    """Whether an effect can work, what it says, and what its button does.

    ``kind``: "ready", or what is missing: "source", "segment", "torch", "model", "session".
    ``text``: a sentence for the panel. ``button``: its text; empty if there is nothing to press.
    """

    kind: str
    text: str
    button: str = ""


@dataclass
class Entry:
    """One open session with the grid it works on."""

    session: EditingSession
    edit_grid: EditGrid
    key: tuple[Any, ...]
    source_id: str
    state_of: EditTarget | None = None
    state_text: str = ""
    map_kept: bool = False
    work: Any = None  # ClickWork that goes on in the session, with the clicks of its segment
    started: bool = False  # clicks correct the segment instead of the model
    blank: dict[str, Any] = field(default_factory=dict)  # no clicks, nothing decided

    def __post_init__(self) -> None:
        self.blank = self.session.to_state()


@dataclass(frozen=True)
class Plan:
    """All that a session needs, taken from the scene: ``open`` may run in any thread."""

    arguments: dict[str, Any]
    edit_grid: EditGrid
    key: tuple[Any, ...]
    source_id: str

    def open(self, progress: Any = None, cancel: Any = None) -> EditingSession:
        """The session; touches no node. Raises as ``EditingSession.open``."""
        from ...editing import EditingSession

        return EditingSession.open(**self.arguments, progress=progress, cancel=cancel)


class Opening:
    """A session that is opened in a thread while Slicer goes on; a timer calls ``poll``.

    Slicer's main thread keeps Python's lock, so that each poll gives the thread a short turn; the
    alignment, which takes the seconds, works without the lock.
    """

    def __init__(self, store: SessionStore, effect: Any, model: str = "") -> None:
        self._store, self._plan = store, store.plan(effect, model)
        self._stage, self._cancelled = "", False
        self._session: EditingSession | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        """What it is doing, for the panel."""
        return STAGE_NAMES.get(self._stage, _("Preparing the model")) + " ..."

    def poll(self) -> bool:
        """True while it works; then the store has the session. Raises what the work raised."""
        self._thread.join(WORKERS_TURN_S)
        if self._thread.is_alive():
            return not self._cancelled
        if self._error is not None:
            raise self._error
        if not self._cancelled and node_by_id(self._plan.source_id) is not None:
            self._store.add(self._plan, session=self._session)
        return False

    def cancel(self) -> None:
        """Give it up; the thread ends by itself."""
        self._cancelled = True

    def _run(self) -> None:
        try:
            self._session = self._plan.open(self._progress, lambda: self._cancelled)
        except BaseException as error:  # told to the thread that polls
            self._error = error

    def _progress(self, stage: str, _done: int, _total: int) -> None:
        self._stage = stage


class SessionStore:
    """Open sessions, newest last; one store serves all effects of all Segment Editors."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._observed: Any = None

    # -- what there is ----------------------------------------------------------------------------

    def find(self, effect: Any) -> Entry | None:
        """The open session for what the Segment Editor shows now, or None."""
        editor = effect.parameterSetNode()
        image = _source_image(effect)
        if image is None:
            return None
        key = _key(editor)
        for entry in self._entries:
            if entry.key == key and entry.edit_grid.matches(image, editor.GetSegmentationNode()):
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
        entry = self.find(effect)
        if entry is not None:
            refusal = target.refusal()
            if refusal:
                return Readiness("segment", refusal)
            session = entry.session
            if session.complete:
                return Readiness("ready", _("The probability of the whole volume is known."))
            share = int(100 * session.fraction_done)
            text = _("Working in the background: {share} % of the volume is known.")
            return Readiness("ready", text.format(share=share))
        if not torch_state().installed:
            return Readiness(
                "torch",
                _(
                    "PyTorch, which runs the model, is not installed in this Slicer yet. The "
                    "module 'Stroke Lesion Segmentation' installs it after asking."
                ),
                _("Open the module's set-up"),
            )
        if not _has_model():
            return Readiness(
                "model",
                _(
                    "No model is installed. The module 'Stroke Lesion Segmentation' installs one "
                    "from a file (section Advanced)."
                ),
                _("Open the module's set-up"),
            )
        if map_for(editor) is not None:
            return Readiness(
                "session",
                _("A probability map of this volume is in the scene. Load the model to use it."),
                _("Load the model"),
            )
        return Readiness(
            "session",
            _(
                "There is no lesion probability for this volume yet. It is made here, slice by "
                "slice, while you work."
            ),
            _("Look for lesions"),
        )

    # -- opening and closing -----------------------------------------------------------------------

    def open(self, effect: Any, model: str = "", progress: Any = None, cancel: Any = None) -> Entry:
        """The session for what the Segment Editor shows; opened if need be (a second or some).

        Raises ``InputError`` for an unusable image or model, ``Cancelled``, and ``ValueError`` if
        there is no source volume.
        """
        return self.find(effect) or self.add(self.plan(effect, model), progress, cancel)

    def plan(self, effect: Any, model: str = "") -> Plan:
        """What ``open`` reads from the scene, and the loaded model; raises as ``open`` does."""
        from ...inference import SegmentOptions
        from ...models import find_model, load_model

        editor = effect.parameterSetNode()
        image = _source_image(effect)
        if image is None:
            raise CannotEdit(_("Choose a source volume first."))
        segmentation, source = editor.GetSegmentationNode(), editor.GetSourceVolumeNode()
        edit_grid = EditGrid.from_image(image, segmentation)
        if np.ptp(volume_of_image(image, edit_grid).array) == 0:
            raise InputError(
                source.GetName(),
                _("the source volume does not overlap the segmentation's geometry"),
                _("Choose the image that the segmentation was made on as source volume"),
            )
        made = _provenance(segmentation, source)
        map_node = map_for(editor)
        known = None if map_node is None else resampled(map_node, edit_grid)
        name = model or made.model
        try:
            find_model(name or None)
        except InputError:
            name = ""  # the model that made the segment is not on this computer
        arguments = {
            "volume": volume_of_image(image, edit_grid),
            "model": load_model(name or None),
            "options": SegmentOptions(views=made.views or None),
            "alignment": _alignment(made, segmentation, source),
            "probability": known,
        }
        return Plan(arguments, edit_grid, _key(editor), source.GetID())

    def add(
        self, plan: Plan, progress: Any = None, cancel: Any = None, session: Any = None
    ) -> Entry:
        """The session of a plan, opened unless it is given, as an entry from now on."""
        session = session or plan.open(progress, cancel)
        known = plan.arguments["probability"] is not None
        entry = Entry(session, plan.edit_grid, plan.key, plan.source_id, map_kept=known)
        self._entries = [*self._entries[1 - _KEPT :], entry]
        self._observe_scene()
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

    def follow(self, entry: Entry, target: EditTarget) -> bool:
        """Bring the session's clicks and decisions in step with the segment's tag.

        Needed when another segment was selected, and after undo, redo or loading. Returns whether
        anything changed. A tag that makes no sense is ignored. Work that goes on for another
        segment is finished first.
        """
        if entry.work is not None and entry.work.target != target:
            entry.work.finish()
        text = get_tag(target.segment, STATE_TAG) if target.segment is not None else ""
        if entry.state_of == target and entry.state_text == text:
            return False
        entry.work = None  # of clicks that were undone
        try:
            state = json.loads(text) if text else entry.blank
            entry.session.restore(state)
        except (InputError, ValueError, KeyError, TypeError):
            state = entry.blank
            entry.session.restore(state)
        # The starting mask itself is not kept: the segment as it is now takes its place.
        started = bool(state.get("from_mask"))
        other = started and entry.state_of != target
        if entry.session.takes_clicks and (started != entry.started or other):
            start = segment_voxels(target, entry.edit_grid) if started else None
            entry.session.start_from(start)
            entry.started = started
        entry.state_of, entry.state_text = target, text
        return True

    def keep_state(self, entry: Entry, target: EditTarget) -> None:
        """Write the session's clicks and decisions into the segment's tag."""
        text = json.dumps(entry.session.to_state(), sort_keys=True, separators=(",", ":"))
        segment = target.segment
        if segment is not None and get_tag(segment, STATE_TAG) != text:
            segment.SetTag(TAG + STATE_TAG, text)
        entry.state_of, entry.state_text = target, text

    def keep_map(self, entry: Entry) -> Any | None:
        """Put a finished probability into the scene, once, for other effects, the module and the
        saved scene; returns the node that was added."""
        import slicer

        if entry.map_kept or not entry.session.complete:
            return None
        entry.map_kept = True
        segmentation = entry.edit_grid.node
        source = slicer.mrmlScene.GetNodeByID(entry.source_id)
        if segmentation is None or source is None or maps_of(segmentation)[0] is not None:
            return None
        from ...images.volume import Volume

        probability = np.array(entry.session.probability)
        node = add_map(Volume(probability, entry.edit_grid.grid.affine), source, "probability")
        node.SetAndObserveTransformNodeID(segmentation.GetTransformNodeID())
        segmentation.SetNodeReferenceID(PROBABILITY_ROLE, node.GetID())
        return node


def map_for(editor: Any) -> Any | None:
    """The probability node that belongs to the edited segmentation, or to another result of the
    same source volume; None if there is none."""
    own = maps_of(editor.GetSegmentationNode())[0]
    if own is not None:
        return own
    source = editor.GetSourceVolumeNode()
    other = find_segmentation(source) if source is not None else None
    return maps_of(other)[0]


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
    """Equal as long as the source volume's voxels and places are the same."""
    source, segmentation = editor.GetSourceVolumeNode(), editor.GetSegmentationNode()

    def moved(node: Any) -> tuple[str, int]:
        parent = node.GetParentTransformNode()
        return (parent.GetID(), _transform_time(parent)) if parent is not None else ("", 0)

    return (
        source.GetID(),
        source.GetImageData().GetMTime(),
        affine_from_node(source).tobytes(),
        segmentation.GetID(),
        # Where both lie under the same transform, moving it changes nothing between them.
        *(() if same_parent(source, segmentation) else (moved(source), moved(segmentation))),
    )


def _transform_time(node: Any) -> int:
    time = 0
    while node is not None:
        time = max(time, int(node.GetTransformToWorldMTime()))
        node = node.GetParentTransformNode()
    return time


def _has_model() -> bool:
    from ...models import list_models

    try:
        return bool(list_models([]))
    except (InputError, OSError):
        return False


def _provenance(segmentation: Any, source: Any) -> Provenance:
    """What made the newest result in this segmentation, or in another one of the same image."""
    for node in (segmentation, find_segmentation(source)):
        if node is None:
            continue
        segments = node.GetSegmentation()
        for index in reversed(range(segments.GetNumberOfSegments())):
            made = Provenance.from_segment(segments.GetNthSegment(index))
            if made.model:
                return made
    return Provenance()


def _alignment(made: Provenance, segmentation: Any, source: Any) -> Any | None:
    """The alignment of an earlier run, if it still says where the edited grid lies."""
    if made.to_mni is None or not same_parent(segmentation, source):
        return None
    from ...images import Alignment

    return Alignment(np.array(made.to_mni), True, "", 0.0, 0.0, 0.0)
