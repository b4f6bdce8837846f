"""Two volumes of one person: what became of the lesions, by the command line in a process.

A ``ComparisonRun`` is polled as a ``SegmentationRun`` is: files are written and read in a thread
that touches arrays only, and the scene is left alone until the result is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...images import Grid, NiftiFields, Volume, read_scan, write_volume
from ..i18n import tr as _
from ..scene.input_check import check_input
from ..scene.patch import Patch
from ..scene.provenance import Provenance
from ..scene.results import read_segment
from ..scene.volumes import (
    affine_from_node,
    exact_affine,
    fingerprint,
    if_present,
    same_voxels,
    voxels_from_node,
)
from .engine_run import EngineRun
from .polled_thread import PolledThread
from .process import EngineProcess
from .run import RunParameters, provenance_of

# How the engine's files call the scans, and what the panel calls them.
_NAMES = ("earlier", "later")


@dataclass(frozen=True, eq=False)
class ScanToCompare:
    """A volume node, and the segment that holds its lesions; without one they are found first."""

    volume_node: Any
    segmentation_node: Any | None = None
    segment_id: str = ""


@dataclass(frozen=True, eq=False)
class FoundMask:
    """Lesions that were found on the way: a mask (K, J, I), and what made it."""

    mask: NDArray[np.uint8]
    made: Provenance


@dataclass(frozen=True, eq=False)
class ScanChange:
    """``rows``: of change.tsv. ``facts``: of change.json. ``matrix``: 4x4, RAS mm of the earlier
    scan to the later one's. ``found``: by scan, lesions that were not known before. ``affine``:
    4x4, ijk to RAS mm of the earlier scan as it lay when the rows were made."""

    rows: list[dict[str, Any]]
    facts: dict[str, Any]
    matrix: NDArray[np.float64]
    found: dict[int, FoundMask]
    affine: NDArray[np.float64]

    def centre(self, row: int, volume_node: Any) -> tuple[float, float, float] | None:
        """The middle of a row's lesions, in RAS mm of the earlier scan wherever that lies now; None
        where the row has none."""
        centre = [self.rows[row].get(f"centre_{axis}_mm") for axis in "ras"]
        if None in centre:
            return None
        move = affine_from_node(volume_node) @ np.linalg.inv(self.affine)
        r, a, s, _one = move @ np.array([*centre, 1.0], np.float64)
        return float(r), float(a), float(s)


class ComparisonRun(EngineRun):
    """Compares two volume nodes of one person in a process of its own.

    ``change`` is set when done.
    """

    def __init__(
        self,
        earlier: ScanToCompare,
        later: ScanToCompare,
        parameters: RunParameters | None = None,
        *,
        process: Callable[[list[str]], EngineProcess] = EngineProcess,
    ) -> None:
        super().__init__(process)
        self.scans = (earlier, later)
        self.parameters = parameters or RunParameters()
        self.change: ScanChange | None = None
        self._grids: list[Grid] = []
        self._images: list[str] = []

    def start(self) -> None:
        """Hand both images over; raises ``InputError`` if they cannot be used."""
        nodes = [if_present(scan.volume_node) for scan in self.scans]
        if nodes[0] is nodes[1]:
            raise InputError(
                nodes[1].GetName() if nodes[1] is not None else _("the scan"),
                _("is both the earlier and the later scan"),
                _("Choose two scans of one person"),
            )
        to_write: list[tuple[str, Volume]] = []
        self._grids, self._images = [], []
        for name, node, scan in zip(_NAMES, nodes, self.scans, strict=True):
            judged = check_input(node)
            if not judged.usable:
                where = node.GetName() if node is not None else name
                raise InputError(where, judged.text.rstrip("."), _("Choose another volume"))
            # Copied here, because the node may change or go while the thread writes.
            array = np.array(voxels_from_node(node))
            self._grids.append(Volume(array, affine_from_node(node)).grid)
            self._images.append(fingerprint(array))
            to_write.append((name, Volume(array, exact_affine(node))))
            if scan.segmentation_node is not None and scan.segment_id:
                patch = read_segment(scan.segmentation_node, scan.segment_id, node)
                to_write.append((f"{name}-mask", Volume(patch.full(), exact_affine(node))))
        self._process = self._make_process([])
        scratch = self._process.scratch
        written = {name for name, _volume in to_write}
        files = {name: str(scratch / f"{name}.nii") for name in written}
        arguments = ["compare", files["earlier"], files["later"]]
        for letter, name in zip("ab", _NAMES, strict=True):
            if f"{name}-mask" in files:
                arguments += [f"--mask-{letter}", files[f"{name}-mask"]]
        arguments += ["-o", str(scratch / "out"), "--progress", "json"]
        # Where both masks are known nothing is to be found, and what would find it is refused.
        if "--mask-a" not in arguments or "--mask-b" not in arguments:
            arguments += self.parameters.arguments()
        self._process.arguments += arguments

        def write() -> None:
            for name, volume in to_write:
                write_volume(scratch / f"{name}.nii", volume, nifti=NiftiFields(version=2))

        self._thread = PolledThread(write)
        self.state = "exporting"

    def _step(self) -> None:
        if self.state == "exporting" and self._thread_done():
            assert self._process is not None
            self._process.start()
            self.stage, self.state = "start", "running"
        elif self.state == "running":
            self._poll_process()
        elif self.state == "reading" and self._thread_done():
            assert self._thread is not None
            if self._gone():
                self._end("cancelled")
                return
            self.change = self._where_the_scans_are(self._thread.result())
            self._end("done")

    def _where_the_scans_are(self, change: ScanChange) -> ScanChange:
        """Results go where the scans lie by now: they may have been recentred, or had a transform
        hardened, while the engine worked. Raises ``InputError`` for one with other voxels."""
        moves, found = [], dict(change.found)
        kept = zip(self.scans, self._grids, self._images, strict=True)
        for number, (scan, then, image) in enumerate(kept):
            node = scan.volume_node
            now = affine_from_node(node)
            if node.GetImageData() is None or not same_voxels(image, voxels_from_node(node)):
                cause = _("was warped, resampled or filtered meanwhile")
                raise InputError(node.GetName(), cause, _("Compare again"))
            moves.append(now @ np.linalg.inv(then.affine))
            if number in found:
                made = found[number].made.moved(then.affine, now)
                found[number] = replace(found[number], made=made)
        matrix = moves[1] @ change.matrix @ np.linalg.inv(moves[0])
        return replace(change, matrix=matrix, found=found)

    def _gone(self) -> bool:
        """Whether a scan is no longer in the scene, as after that was closed."""
        return any(if_present(scan.volume_node) is None for scan in self.scans)

    def _poll_process(self) -> None:
        process = self._process
        assert process is not None
        if self._gone():
            self._end("cancelled")
            return
        for event in process.poll():
            self.stage = event.stage
        if process.running:
            return
        names = {
            name: str(scan.volume_node.GetName())
            for name, scan in zip(_NAMES, self.scans, strict=True)
        }
        failure = process.failure(
            {str(process.scratch / f"{name}.nii"): shown for name, shown in names.items()}
        )
        if failure is not None:
            self._fail(failure)
            return
        out, grids = process.scratch / "out", list(self._grids)
        self._thread = PolledThread(lambda: _read(out, grids))
        self.stage, self.state = "results", "reading"


def _read(out: Path, grids: list[Grid]) -> ScanChange:
    """What the engine has written; in a thread."""
    from ...lesions import read_sidecar, read_table

    facts = read_sidecar(out / "change.json")
    matrix = np.array(facts["alignment"]["matrix_ras_mm_first_to_second"], dtype=np.float64)
    found = {}
    for number, (name, grid) in enumerate(zip(_NAMES, grids, strict=True)):
        file = next((f for f in out.glob(f"{name}_lesion.nii*")), None)
        if file is not None:
            mask = read_scan(file, allow_constant=True).volume.array
            if mask.shape != grid.shape:
                raise InputError(name, _("came back on another grid"), _("Please report it"))
            sidecar = read_sidecar(out / f"{name}_lesion.json")
            found[number] = FoundMask((mask != 0).astype(np.uint8), provenance_of(sidecar))
    rows = read_table(out / "change.tsv")
    return ScanChange(rows, facts, matrix, found, grids[0].affine)


def patch_of(mask: NDArray[np.uint8], volume_node: Any) -> Patch:
    """A whole mask as a patch on the grid of its volume node."""
    return Patch(mask, (0, 0, 0), Volume(mask, affine_from_node(volume_node)).grid)
