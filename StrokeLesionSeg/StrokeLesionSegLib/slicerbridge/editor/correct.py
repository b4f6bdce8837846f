"""Clicks, strokes and fills: what the session answers, into the segment.

Every user action is one step for Slicer's undo; one that changes nothing is none. Slicer's masking
and overwriting have the last word, see ``write``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...boxes import bounding_box, whole_box
from ..i18n import tr as _
from . import outline, write
from .store import Entry, SessionStore, Work
from .target import CannotEdit, EditGrid, EditTarget

if TYPE_CHECKING:
    from ...correction import Change

Voxel = tuple[int, int, int]


def correct(
    effect: Any,
    store: SessionStore,
    entry: Entry,
    target: EditTarget,
    voxels: Sequence[Voxel],
    lesion: bool,
    threshold: float | None = None,
) -> Change:
    """Say that ``voxels`` are lesion or are not, as one click or stroke; the segment follows.

    ``threshold``: where the answer is cut, by default as before.

    Raises ``CannotEdit`` for a segment that must not be changed, ``InputError`` for voxels outside
    of the scan; then nothing happens.
    """
    write.check(target)
    work = store.work(entry, target)
    if threshold is not None:
        work.session.change_threshold(threshold)
    change = work.session.stroke(voxels, lesion, work.mask)
    if change.voxels:
        write.begin(effect, target)
        put = write.add if lesion else write.remove
        put(effect, target, entry.edit_grid, change.box, change.changed)
        # Masking may have kept some of it out.
        change = work.session.settle(write.segment_voxels(target, entry.edit_grid, change.box))
    store.keep_state(entry, target, work)
    return change


def fill(
    effect: Any, store: SessionStore, entry: Entry, target: EditTarget, threshold: float
) -> int:
    """Make the segment what the model finds at a threshold, knowing the clicks; returns its voxels.

    What a hand painted goes; voxels that were clicked are as clicked. What changes nothing is no
    step for undo. Raises ``CannotEdit``.
    """
    write.check(target)
    work = store.work(entry, target)
    mask = found(work.session, threshold)
    if not np.array_equal(mask, work.mask):
        write.begin(effect, target)
        write.replace(effect, target, entry.edit_grid, None, whole_box(mask.shape), mask)
        outline.forget(target)
    work.session.start_from(write.segment_voxels(target, entry.edit_grid))
    store.keep_state(entry, target, work)
    work.texts = work.texts[-1:]
    return int(np.count_nonzero(mask))


def found(session: Any, threshold: float) -> Any:
    """What the model finds at a threshold, knowing the clicks: bool (K, J, I)."""
    from ...lesions import find_lesions
    from ...operating_point import OperatingPoint

    own = session.recommended
    point = OperatingPoint.at(
        threshold, own.second_threshold, own.min_volume_ml, own.min_mean_probability
    )
    probability = session.probability
    box = bounding_box(probability >= threshold)
    mask = np.zeros(session.grid.shape, bool)
    if box is not None:
        mask[box] = find_lesions(probability[box], session.grid.affine, point).mask != 0
    for click in session.clicks:
        mask[click.voxel] = click.lesion
    return mask


def voxels_along(edit_grid: EditGrid, path: Sequence[Any]) -> list[Voxel]:
    """The voxels that a path of local points passes, in order, each once; those outside of the
    image are left out. Raises ``CannotEdit`` if none lies in it."""
    indices = [edit_grid.local_to_index(point) for point in path]
    places = indices[:1]
    for here in indices[1:]:
        steps = max(1, int(np.ceil(2 * np.abs(here - places[-1]).max())))
        start = places[-1]
        places += [start + (here - start) * n / steps for n in range(1, steps + 1)]
    shape = edit_grid.grid.shape
    found: dict[Voxel, None] = {}
    for place in places:
        k, j, i = (int(n) for n in np.rint(place))
        if all(0 <= n < size for n, size in zip((k, j, i), shape, strict=True)):
            found[k, j, i] = None
    if not found:
        raise CannotEdit(_("That is outside of the image."))
    return list(found)


def unchanged_text() -> str:
    """What is said of a click, a stroke or an outline that changed nothing."""
    return _("Already so in the segment, or kept out by masking; nothing changed.")


def change_text(change: Change) -> str:
    """What a click or a stroke of clicks did, short enough for a line of the effect's panel."""
    if not change.voxels:
        return unchanged_text()
    if change.lesion:
        text = _("{ml:.2f} mL added.")
        by_hand = _("{ml:.2f} mL painted; the model finds no lesion here.")
    else:
        text = _("{ml:.2f} mL removed.")
        by_hand = _("{ml:.2f} mL erased; the model finds lesion here.")
    return (by_hand if change.painted_only else text).format(ml=change.volume_ml)


def volume_text(work: Work, made_by_model: bool) -> str:
    """The segment's volume while it is corrected: "12.4 mL, +1.1 since the automatic mask"."""
    text = _("{ml:.1f} mL").format(ml=work.volume_ml)
    change = work.volume_ml - work.first_ml
    if abs(change) < 0.05:
        return text
    if made_by_model:
        return text + _(", {change:+.1f} since the automatic mask").format(change=change)
    return text + _(", {change:+.1f} by corrections").format(change=change)
