"""The user's scans made ready: read, checked, aligned once, and kept on the head box.

What is prepared stays in the run's folder, so that a run that was stopped does not do it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...images.volume import Volume
from ...outputs import os_input_error, write_json_object
from ..heads import load_head, save_head
from ..strokes.anatomy import Head
from .pairs import LeftOut, Pair

if TYPE_CHECKING:
    from ...images import Alignment, Scan
    from ...inference.whole_head import WholeHeadPredictor

Cancel = Callable[[], bool]
Tell = Callable[[str, int, int], None]
# Headers that went through float32 and quaternions agree to about this.
_TOLERANCE_MM = 0.01
# The share of a mask that rounding to another grid may change.
_SAME_DICE = 0.995


@dataclass(frozen=True)
class ReadyPair:
    """A pair that can be used.

    ``head``: its file on the head box. ``alignment``: None for a scan on the MNI grid. ``ml``: of
    the corrected mask. ``same``: whether that equals the automatic one, None if that is not there.
    """

    pair: Pair
    head: Path
    alignment: Alignment | None
    ml: float
    same: bool | None


def read_pair(pair: Pair) -> tuple[Volume, NDArray[np.bool_]]:
    """The scan, and the corrected mask on its grid.

    Raises ``InputError`` for a scan or mask that cannot be read, a mask on another grid, an empty
    one, a soft map and a map of several labels.
    """
    volume = _scan(pair).volume
    return volume, _mask(pair, volume)


def _scan(pair: Pair) -> Scan:
    from ...images import read_scan
    from ...input_check import repair

    return repair(read_scan(pair.scan, series=pair.series))


def _mask(pair: Pair, volume: Volume) -> NDArray[np.bool_]:
    from ...images import read_scan
    from ...lesions.scorers.values import drawn_voxels

    mask = read_scan(pair.mask, allow_constant=True).volume
    if mask.array.shape != volume.array.shape or not volume.grid.same_as(mask.grid, _TOLERANCE_MM):
        raise InputError(
            pair.mask, "is not on the grid of its T1-weighted scan", "Correct it on that scan"
        )
    there = drawn_voxels(mask.array, pair.mask)
    if not there.any():
        raise InputError(pair.mask, "is empty: there is no lesion to learn", "Leave it out")
    return there


def prepare_pairs(
    pairs: Sequence[Pair],
    predictor: WholeHeadPredictor,
    folder: Path,
    tell: Tell,
    cancel: Cancel,
) -> tuple[list[ReadyPair], list[LeftOut]]:
    """Every pair that can be used, on the head box in ``folder``, and what cannot.

    What cannot is not kept: a name or a sidecar may be put right before the run goes on.

    Raises ``InputError`` if the folder cannot be written, ``Cancelled`` if told so.
    """
    from ...errors import Cancelled

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_input_error(error, folder) from error
    ready, left_out = [], []
    for n, pair in enumerate(pairs):
        tell("prepare", n, len(pairs))
        if cancel():
            raise Cancelled("cancelled while scans were prepared")
        facts = folder / f"{n:04d}.json"
        if not facts.is_file():
            made = _prepare(pair, predictor, facts.with_suffix(".npz"), cancel)
            if isinstance(made, LeftOut):
                left_out.append(made)
                continue
            write_json_object(facts, made)
        content = json.loads(facts.read_text(encoding="utf-8"))
        ready.append(
            ReadyPair(
                pair,
                facts.with_suffix(".npz"),
                _alignment(content["alignment"]),
                content["ml"],
                content["same"],
            )
        )
    tell("prepare", len(pairs), len(pairs))
    return ready, left_out


def _prepare(
    pair: Pair, predictor: WholeHeadPredictor, target: Path, cancel: Cancel
) -> dict[str, Any] | LeftOut:
    from ...correction.head_map import HeadMap
    from ...inference import before_network
    from ...input_check import check_aligned, check_scan, refuse_or_warn

    try:
        scan = _scan(pair)
        volume, mask = scan.volume, _mask(pair, scan.volume)
        findings = check_scan(scan)
        refuse_or_warn(pair.scan, findings, force=False)
        ready = before_network(volume, predictor, cancel=cancel)
        canonical = ready.placed.canonical
        if not ready.placed.in_mni or canonical is None:
            reason = "" if ready.found is None else ready.found.reason
            raise InputError(pair.scan, f"cannot be aligned ({reason})", "Not used")
        findings += check_aligned(volume, ready.found)
        refuse_or_warn(pair.scan, findings, force=False)
    except InputError as error:
        # A file of the scan, too, where that is a folder or has its data elsewhere.
        of_scan = error.where != str(pair.mask)
        whose = f"its T1, {Path(error.where).name}: " if of_scan else ""
        return LeftOut(pair.mask, f"{whose}{error.cause}; not used")
    on_head = HeadMap(canonical, ready.prepared.start).from_native(mask.astype(np.float32)) >= 0.5
    image = np.round(ready.prepared.image * 255).astype(np.uint8)
    nothing = np.zeros(on_head.shape, bool)
    save_head(target, Head(image, nothing, False, pair.subject, on_head))
    ml = float(mask.sum()) * volume.grid.voxel_volume_ml
    alignment = None
    if ready.found is not None:
        alignment = {**asdict(ready.found), "matrix": ready.found.matrix.tolist()}
    return {"alignment": alignment, "ml": ml, "same": _same(pair, mask)}


def add_ventricles(
    ready: ReadyPair,
    answer: Callable[[NDArray[np.uint8]], tuple[NDArray[np.bool_], NDArray[np.bool_]]],
) -> bool:
    """Give a head the ventricles that the parent sees in it; returns whether the corrected mask is
    what the parent marks.

    ``answer``: from a head's image to the parent's lesions and ventricles.
    """
    head = load_head(ready.head)
    assert head.lesions is not None
    found, ventricles = answer(head.image)
    save_head(
        ready.head,
        Head(head.image, ventricles & ~head.lesions, False, ready.pair.subject, head.lesions),
    )
    from ...lesions.scorers.common import dice

    return dice(found, head.lesions) > _SAME_DICE


def _same(pair: Pair, mask: NDArray[np.bool_]) -> bool | None:
    from ...images import read_scan

    if pair.automatic is None:
        return None
    try:
        before = read_scan(pair.automatic, allow_constant=True).volume.array > 0
    except InputError:
        return None
    return bool(before.shape == mask.shape and np.array_equal(before, mask))


def _alignment(content: dict[str, Any] | None) -> Alignment | None:
    from ...images import Alignment

    if content is None:
        return None
    return Alignment(**{**content, "matrix": np.array(content["matrix"], np.float64)})
