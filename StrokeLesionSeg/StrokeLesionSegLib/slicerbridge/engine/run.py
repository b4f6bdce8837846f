"""One run: a volume node goes out, a segment, a probability and an uncertainty come back.

A ``SegmentationRun`` is polled, from a QTimer or a loop. Each ``poll()`` does a small step in the
main thread (a few nodes at most); files are written and read in a worker thread that touches
arrays only. The scene may be closed at any time: what belongs to a node that is gone is dropped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...images import Grid, NiftiFields, Volume, read_scan, write_volume
from ...operating_point import OperatingPoint
from ...pipeline import alignment_of
from ..engine_words import said
from ..i18n import tr as _
from ..scene.input_check import check_input
from ..scene.probability_map import SHOWN_FROM, Found, ProbabilityMap
from ..scene.provenance import Provenance
from ..scene.results import (
    PROBABILITY_ROLE,
    UNCERTAINTY_ROLE,
    add_map,
    add_segment,
    add_segmentation,
    edited_on,
    find_segmentation,
    set_maps,
)
from ..scene.volumes import (
    affine_from_node,
    exact_affine,
    fingerprint,
    if_present,
    voxels_from_node,
)
from .engine_run import EngineRun
from .polled_thread import PolledThread
from .process import EngineProcess, Failure

# What each stage takes of a run on a CPU, roughly; the bar only has to move evenly.
_SHARES = {
    "export": 0.02,
    "start": 0.06,
    "read": 0.02,
    "align": 0.2,
    "canonical": 0.04,
    "window": 0.02,
    "network": 0.5,
    "back": 0.06,
    "clean": 0.02,
    "write": 0.03,
    "results": 0.03,
}


@dataclass(frozen=True)
class RunParameters:
    """How to run; None and empty strings mean what the model recommends."""

    views: str = ""
    align: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    model: str = ""
    threshold: float | None = None
    min_volume_ml: float | None = None
    tta: bool = False

    def arguments(self) -> list[str]:
        """As arguments of the command line."""
        arguments = ["--align", self.align, "--device", self.device, "--precision", self.precision]
        if self.views:
            arguments += ["--views", self.views]
        if self.model:
            arguments += ["--model", self.model]
        if self.threshold is not None:
            arguments += ["--threshold", f"{self.threshold:.6g}"]
        if self.min_volume_ml is not None:
            arguments += ["--min-volume", f"{self.min_volume_ml:.6g}"]
        return arguments + (["--tta"] if self.tta else [])


@dataclass(frozen=True)
class RunResults:
    """What a run left in the scene, and what it said about itself."""

    segmentation_node: Any
    segment_id: str
    probability_node: Any
    uncertainty_node: Any | None
    probability: ProbabilityMap
    found: Found
    provenance: Provenance
    warnings: tuple[str, ...]
    sidecar: dict[str, Any]
    seconds: float


class RunError(Exception):
    """A run that ended without results; ``failure`` has cause, remedy and last lines."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class SegmentationRun(EngineRun):
    """Segments one volume node in a process of its own.

    ``results`` is set when done. ``segmentation_node``: add the new segment there instead of to
    the volume's own segmentation.
    """

    def __init__(
        self,
        volume_node: Any,
        parameters: RunParameters | None = None,
        *,
        segmentation_node: Any | None = None,
        process: Callable[[list[str]], EngineProcess] = EngineProcess,
    ) -> None:
        super().__init__(process)
        self.parameters = parameters or RunParameters()
        self.fraction = 0.0
        self.results: RunResults | None = None
        self._volume_node = volume_node
        self._name = volume_node.GetName() or volume_node.GetID()
        self._segmentation_node = segmentation_node
        self._loaded: dict[str, Any] = {}
        self._steps: list[Callable[[], None]] = []
        self._added: dict[str, Any] = {}
        self._affine: NDArray[np.float64] = np.eye(4)
        self._shape: tuple[int, int, int] = (0, 0, 0)
        self._image = ""
        self._began = 0.0

    # -- for the caller ---------------------------------------------------------------------

    def start(self) -> None:
        """Hand the image over; raises ``InputError`` if the node cannot be used."""
        node = if_present(self._volume_node)
        judged = check_input(node)
        if not judged.usable:
            raise InputError(self._name, judged.text.rstrip("."), _("Choose another volume"))
        self._began = time.monotonic()
        # Copied here, because the node may change or go while the worker writes.
        array = np.array(voxels_from_node(node))
        self._affine, self._shape = affine_from_node(node), array.shape  # type: ignore[assignment]
        self._image = fingerprint(array)
        self._process = self._make_process([])
        scratch = self._process.scratch
        self._process.arguments += [
            *("segment", str(scratch / "input.nii"), "-o", str(scratch / "mask.nii")),
            *("--probability", str(scratch / "probability.nii")),
            *("--uncertainty", str(scratch / "uncertainty.nii")),
            *("--table", str(scratch / "lesions.tsv")),
            *("--sidecar", str(scratch / "run.json")),
            *("--progress", "json", "--overwrite"),
            *(("--force",) if judged.refused else ()),
            *self.parameters.arguments(),
        ]
        volume = Volume(array, exact_affine(node))
        # In double precision, a scan that Slicer has turned into a right-handed one keeps its place
        # to the last bit that counts, and gets the mask that the command line makes of its file.
        exact = NiftiFields(version=2)
        self._thread = PolledThread(
            lambda: write_volume(scratch / "input.nii", volume, nifti=exact)
        )
        self.state = "exporting"

    def _step(self) -> None:
        if self.state == "exporting" and self._thread_done():
            assert self._process is not None
            self._process.start()
            self._reach("start")
            self.state = "running"
        elif self.state == "running":
            self._poll_process()
        elif self.state == "reading" and self._thread_done():
            # A step each, so that the GUI is free in between.
            self._steps = [
                self._follow_image,
                lambda: self._add_map("probability"),
                lambda: self._add_map("uncertainty"),
                self._add_segment,
            ]
            self.state = "adding"
        elif self.state == "adding":
            if if_present(self._volume_node) is None:
                self._end("cancelled")
            else:
                self._steps.pop(0)()
                if not self._steps:
                    self._finish()

    def wait(self, timeout_s: float | None = None) -> RunResults:
        """Poll until the end (for scripts); raises ``RunError`` or ``TimeoutError``."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while self.poll():
            if end is not None and time.monotonic() > end:
                self.cancel()
                raise TimeoutError(f"no result within {timeout_s:g} s")
            time.sleep(0.02)
        if self.results is None:
            raise RunError(self.failure or Failure(_("The run was cancelled."), "", ()))
        return self.results

    # -- steps ------------------------------------------------------------------------------

    def _poll_process(self) -> None:
        process = self._process
        assert process is not None
        if if_present(self._volume_node) is None:  # the scene was closed meanwhile
            self._end("cancelled")
            return
        for event in process.poll():
            self._reach(event.stage, event.done / event.total if event.total else 0.0)
        if process.running:
            return
        failure = process.failure({str(process.scratch / "input.nii"): self._name})
        if failure is not None:
            self._fail(failure)
            return
        scratch, grid, into = process.scratch, Grid(self._shape, self._affine), self._loaded
        self._thread = PolledThread(lambda: into.update(_read_outputs(scratch, grid)))
        self._reach("results")
        self.state = "reading"

    def _follow_image(self) -> None:
        """Results go where the image lies by now: it may have been recentred, or had a transform
        hardened, while the network worked."""
        node, then = if_present(self._volume_node), self._affine
        image, now = node.GetImageData(), affine_from_node(node)
        if image is None or image.GetDimensions()[::-1] != self._shape:
            return  # these are other voxels
        if Grid(self._shape, now).same_as(Grid(self._shape, then)):
            return
        made, kept = self._loaded["provenance"].moved(then, now), self._loaded["map"]
        moved = Volume(kept.volume.array, now)
        kept = ProbabilityMap(moved, made.to_mni, calibration=kept.calibration)
        found = kept.lesions(made.operating_point)
        self._affine = now
        self._loaded.update({"provenance": made, "map": kept, "found": found})

    def _add_map(self, kind: str) -> None:
        if kind in self._loaded:
            node = if_present(self._volume_node)
            volume = Volume(self._loaded[kind], self._affine)
            self._added[kind] = add_map(volume, node, kind, self._image)

    def _add_segment(self) -> None:
        node = if_present(self._volume_node)
        segmentation: Any = if_present(self._segmentation_node) or find_segmentation(node)
        if segmentation is None or not edited_on(segmentation, node):
            # The image was moved or resampled since: its earlier segmentation stays as it is.
            segmentation = self._added["new"] = add_segmentation(node)
        kept = segmentation.GetSegmentation()
        before = {kept.GetNthSegmentID(n) for n in range(kept.GetNumberOfSegments())}
        try:
            segment_id = add_segment(
                segmentation,
                self._loaded["found"].patch,
                self._loaded["provenance"],
                image=self._image,
            )
        except Exception:
            for n in reversed(range(kept.GetNumberOfSegments())):
                if kept.GetNthSegmentID(n) not in before:
                    kept.RemoveSegment(kept.GetNthSegmentID(n))
            raise
        probability, uncertainty = self._added["probability"], self._added.get("uncertainty")
        segmentation.SetNodeReferenceID(PROBABILITY_ROLE, probability.GetID())
        segmentation.SetNodeReferenceID(
            UNCERTAINTY_ROLE, uncertainty.GetID() if uncertainty else None
        )
        set_maps(segmentation, segment_id, (probability, uncertainty))
        self._added["segmentation"], self._added["segment"] = segmentation, segment_id

    def _take_away(self) -> None:
        """What was added to the scene before the run was cancelled or failed."""
        import slicer

        for kind in ("probability", "uncertainty", "new"):
            node = self._added.get(kind)
            # After the scene was closed, another node may have the ID.
            if if_present(node) is None:
                continue
            for part in (node.GetDisplayNode(), node):
                if part is not None:
                    slicer.mrmlScene.RemoveNode(part)

    def _finish(self) -> None:
        sidecar = self._loaded["sidecar"]
        self.results = RunResults(
            self._added["segmentation"],
            self._added["segment"],
            self._added["probability"],
            self._added.get("uncertainty"),
            self._loaded["map"],
            self._loaded["found"],
            self._loaded["provenance"],
            tuple(said(str(warning)) for warning in sidecar.get("warnings") or ()),
            sidecar,
            time.monotonic() - self._began,
        )
        self.fraction = 1.0
        self._end("done")

    def _end(self, state: str) -> None:
        super()._end(state)
        if state != "done":
            self._take_away()
        self._added.clear()
        self._loaded.clear()

    def _reach(self, stage: str, part: float = 0.0) -> None:
        names = list(_SHARES)
        if stage in names:
            before = sum(_SHARES[n] for n in names[: names.index(stage)])
            # The engine may report a stage again; the bar never goes back.
            self.fraction = max(self.fraction, before + _SHARES[stage] * min(1.0, part))
        self.stage = stage


def provenance_of(sidecar: dict[str, Any]) -> Provenance:
    """What the engine's sidecar says, for the segment's tags."""
    model, used = sidecar.get("model") or {}, sidecar.get("operating_point") or {}
    alignment = alignment_of(sidecar)
    aligned = alignment if alignment is not None and alignment.ok else None
    point = OperatingPoint.from_dict({"threshold": 0.5, **used})
    return Provenance(
        model=str(model.get("name", "")),
        version=str(model.get("version", "")),
        checksum=str(model.get("sha256", "")),
        threshold=point.threshold,
        second_threshold=point.second_threshold,
        min_volume_ml=point.min_volume_ml,
        min_mean_probability=point.min_mean_probability,
        views=str((sidecar.get("options") or {}).get("views", "")),
        to_mni=None if aligned is None else aligned.matrix,
        alignment="" if aligned is None else f"{aligned.overlap:.4f} {aligned.similarity:.4f}",
    )


def _read_outputs(scratch: Path, grid: Grid) -> dict[str, Any]:
    """What a run wrote, ready for the scene; everything that takes time is done here."""
    sidecar = json.loads((scratch / "run.json").read_text(encoding="utf-8"))
    made = provenance_of(sidecar)
    probability = _read_map(scratch / "probability.nii", grid)
    manifest = made.manifest()
    calibration = None if manifest is None else manifest.inference.calibration
    kept = ProbabilityMap(Volume(probability, grid.affine), made.to_mni, calibration=calibration)
    found = kept.lesions(made.operating_point)
    # From now on the sliders make the mask: they have to make the one that the engine made.
    mask = _read_map(scratch / "mask.nii", grid)
    if not np.array_equal(found.patch.full(), mask):
        raise ValueError(_("the engine's mask does not follow from its probability"))
    out = {
        "sidecar": sidecar,
        "provenance": made,
        "probability": probability,
        "map": kept,
        "found": found,
    }
    if (scratch / "uncertainty.nii").exists():
        uncertainty = _read_map(scratch / "uncertainty.nii", grid)
        # Where no lesion is likely at all, two passes differ by noise: nothing to look at.
        uncertainty[probability < SHOWN_FROM] = 0
        if float(uncertainty.max()) > 0:  # else no lesion is likely anywhere
            out["uncertainty"] = uncertainty
    return out


def _read_map(path: Path, grid: Grid) -> NDArray[np.float32]:
    """(K, J, I) voxels that the engine has written; ``ValueError`` if they lie on another grid."""
    array = read_scan(path, allow_constant=True).volume.array
    if array.shape != grid.shape:
        raise ValueError(_("{file} has another grid than the image").format(file=path.name))
    return array
