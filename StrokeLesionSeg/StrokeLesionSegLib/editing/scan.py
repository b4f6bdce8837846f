"""What the parts of a session share: scan, network, and predictions on both grids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..images.volume import Grid, Volume
from ..inference.options import SegmentOptions
from ..operating_point import OperatingPoint
from .background import Background
from .clues import Tissue
from .native import NativeMap
from .network import SliceNetwork
from .planes import Plane, oblique_plane, view_of
from .regions import whole_box
from .types import Click

if TYPE_CHECKING:
    from ..images import Alignment, Canonical
    from ..models import LoadedModel

Cancel = Callable[[], bool]
Progress = Callable[[str, int, int], None]

# A slice counts as a canonical one if no corner is further off than this (voxels of 1 mm).
_SAME_PLANE = 0.02


@dataclass(eq=False)
class EditedScan:
    """One scan with one model.

    Attributes
    ----------
    volume: as it was given. grid: its grid, the native one. canonical: on the canonical grid
        (its array is windowed). network, background, native: see there. alignment: as in
        ``Prediction``. point: the operating point that the model recommends.
        multiple: what planes are padded to. tissue: for what clicks say of their surroundings.
    """

    volume: Volume
    grid: Grid
    canonical: Canonical
    network: SliceNetwork
    background: Background
    native: NativeMap
    alignment: Alignment | None
    point: OperatingPoint
    multiple: int
    flip_axes: tuple[str, ...]
    to_index: NDArray[np.float64]
    tissue: Tissue

    def index_of(self, ras_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Native ijk (fractions) of a place in RAS mm."""
        return self.to_index[:3, :3] @ np.asarray(ras_mm, np.float64) + self.to_index[:3, 3]

    def canonical_of(self, ijk: NDArray[np.float64]) -> NDArray[np.float64]:
        """Canonical ijk of native ijk, (3,) or (n, 3)."""
        return ijk @ self.native.parts.matrix.T + self.native.parts.offset

    def place_of(self, click: Click) -> NDArray[np.float64]:
        """Canonical ijk of a click, (3,)."""
        return self.canonical_of(self.index_of(np.array(click.ras_mm)))

    def slice_normal(self, axis: int) -> NDArray[np.float64]:
        """Canonical direction across the native slices of array axis ``axis``."""
        first, second = (self.native.parts.matrix[:, n] for n in range(3) if n != 2 - axis)
        normal = np.cross(first, second)
        return normal / np.linalg.norm(normal)

    def slice_view(self, axis: int) -> str:
        """The view that the native slices of an axis are nearest to."""
        return view_of(self.slice_normal(axis))

    def slice_plane(self, axis: int, index: int) -> Plane | None:
        """The plane of a native slice; None if it misses what is searched."""
        centre = (np.asarray(self.grid.shape[::-1], np.float64) - 1) / 2
        centre[2 - axis] = index
        return self.plane(self.canonical_of(centre), self.slice_normal(axis))

    def plane(self, point: NDArray[np.float64], normal: NDArray[np.float64]) -> Plane | None:
        """The plane through ``point`` across ``normal`` (canonical ijk) in what is searched.

        A canonical slice where it is one. None if it misses the searched box.
        """
        n = int(np.argmax(np.abs(normal)))
        level = float(point[n])
        size = max(self.background.t1.shape)
        tilt = np.abs(np.delete(normal, n)).max() / abs(normal[n]) * size / 2
        if tilt + abs(level - round(level)) <= _SAME_PLANE:
            part = self.background.box[2 - n]
            if not part.start <= round(level) < part.stop:
                return None
            return self.background.plane(view_of(normal), round(level))
        return oblique_plane(point, normal, self.background.box, self.multiple)


# The shipped model of slices that takes clicks.
_CLICKS = "stroke-t1-sim"


def open_scan(
    volume: Volume,
    model: LoadedModel,
    options: SegmentOptions,
    *,
    alignment: Alignment | None,
    probability: NDArray[np.floating] | None,
    progress: Progress | None,
    cancel: Cancel | None,
) -> EditedScan:
    """Everything that comes before the first prediction; see ``EditingSession.open``."""
    from ..images.space.partial import NativeParts
    from ..inference import SlicesPredictor, available_threads, before_network
    from ..inference.device import torch_threads
    from ..inference.views import passes

    if probability is not None and probability.shape != volume.array.shape:
        raise ValueError(
            f"a probability of shape {probability.shape} for a scan of {volume.array.shape}"
        )
    if model.manifest.kind != "slices":
        from ..models import load_model

        # A model of whole heads gives the automatic mask; clicks are answered slice by slice.
        model = load_model(_CLICKS)
    predictor = SlicesPredictor(model, options)
    ready = before_network(volume, predictor, alignment=alignment, progress=progress, cancel=cancel)
    windowed, canonical, manifest = ready.prepared, ready.placed.canonical, model.manifest
    assert canonical is not None
    in_mni = ready.placed.in_mni
    threads = available_threads(options.threads)
    with torch_threads(threads):
        prepared = predictor.network_for(windowed)
    network = SliceNetwork(prepared, threads)
    network.warnings[:0] = ready.warnings
    multiple, flip_axes = manifest.preprocessing.pad_multiple, manifest.inference.flip_axes
    background = Background(
        windowed.array,
        windowed.box,
        passes(options.views or manifest.inference.views, options.tta, flip_axes),
        network,
        multiple,
        predictor.searched(windowed),
        in_mni,
    )
    native = NativeMap(NativeParts(canonical), volume.grid.shape, background)
    scan = EditedScan(
        volume,
        volume.grid,
        canonical,
        network,
        background,
        native,
        ready.found,
        manifest.operating_point(options.views),
        multiple,
        flip_axes,
        np.linalg.inv(volume.grid.affine),
        Tissue(windowed.array, in_mni),
    )
    if probability is not None:
        _adopt(scan, np.asarray(probability, dtype=np.float32))
    else:
        _warm_up(scan)
    return scan


def _warm_up(scan: EditedScan) -> None:
    """Call the network once for every size of plane that is to be expected.

    The first call of each size is slow (its kernels are chosen): not when someone waits.
    """
    box = scan.background.box
    planes = [scan.background.plane("axial", (box[0].start + box[0].stop) // 2)]
    for axis, size in enumerate(scan.grid.shape):
        plane = scan.slice_plane(axis, size // 2)
        if plane is not None and plane.shape not in [p.shape for p in planes]:
            planes.append(plane)
    for plane in planes:
        scan.background.ask([plane])
    scan.network.calls = 0  # what it has measured so far says nothing of the calls to come


def to_canonical_grid(scan: EditedScan, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """A native array (K, J, I) on the scan's own canonical grid, float32, linear."""
    from ..images import to_canonical

    return to_canonical(Volume(array, scan.grid.affine), scan.canonical.alignment).volume.array  # type: ignore[return-value]


def _adopt(scan: EditedScan, probability: NDArray[np.float32]) -> None:
    scan.background.adopt(np.clip(to_canonical_grid(scan, probability), 0, 1))
    scan.native.adopt(probability)
    scan.native.searched = whole_box(scan.grid.shape)
