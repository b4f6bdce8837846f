"""A picture of where the model fails worst on the bench: what it misses, and what it makes up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from StrokeLesionSegLib.correction.robot import axial_axis
from StrokeLesionSegLib.images import read_scan
from StrokeLesionSegLib.lesions import find_lesions
from StrokeLesionSegLib.operating_point import OperatingPoint

from ..figures.of_samples import shrink_png
from ..figures.page import pyplot
from .measure import load_maps
from .plan import NAMES
from .scans import T1, TRUTH
from .summary import KINDS, Row, free, lesioned

_EACH = 2


def worst(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """(why, row): of each kind of lesion the scans with the most volume wrongly marked or missed
    for their Dice, and the lesion-free scans with the most false lesion."""
    chosen = []
    for kind in KINDS:
        some = [r for r in lesioned(rows, 1.0) if r["kind"] == kind]
        some.sort(key=lambda r: (1 - r["dice"]) * np.log1p(r["volume_ml"]), reverse=True)
        chosen += [
            (f"{kind}, {r['volume_ml']:.1f} mL, Dice {r['dice']:.2f}", r) for r in some[:_EACH]
        ]
    marked = sorted(free(rows), key=lambda r: -r["predicted_ml"])[:_EACH]
    chosen += [
        (f"no lesion, {r['predicted_ml']:.1f} mL marked", r) for r in marked if r["predicted_ml"]
    ]
    return chosen


def plot_failures(
    rows: Sequence[Row], out: Path, model_key: str, view: str, point: OperatingPoint, path: Path
) -> Path | None:
    """The slices with the most error of the ``worst`` scans; truth yellow, mask red. None if there
    is nothing to show.

    ``out``: the bench's folder.
    """
    chosen = worst(rows)
    if not chosen:
        return None
    columns = min(4, len(chosen))
    lines = -(-len(chosen) // columns)
    figure, axes = pyplot().subplots(
        lines, columns, figsize=(2.6 * columns, 3.1 * lines), facecolor="black", squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, (why, row) in zip(axes.flat, chosen, strict=False):
        t1, truth, mask, aspect = _slice(row["name"], out, model_key, view, point)
        top = np.percentile(t1, 99.5) or 1
        axis.imshow(t1, cmap="gray", origin="lower", vmin=0, vmax=top, aspect=aspect)
        for wanted, colour in ((truth, "#ffd400"), (mask, "#ff3b30")):
            if wanted.any():
                axis.contour(wanted, [0.5], colors=[colour], linewidths=1)
        made = NAMES.get(row["procedure"], "")
        if row["procedure"] == "none":
            made = "an untouched scan"
        axis.set_title(f"{why}\n{made}", fontsize=7, color="white")
    figure.tight_layout()
    figure.savefig(path, dpi=80, facecolor="black")
    pyplot().close(figure)
    shrink_png(path)
    return path


def _slice(
    name: str, out: Path, model_key: str, view: str, point: OperatingPoint
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], float]:
    """T1, truth and mask (rows to the front, columns to the person's right) of the axial slice
    with the most wrong voxels, and how much longer a row's pixel is than a column's."""
    import nibabel

    folder = out / "scans" / name
    volume = read_scan(folder / T1).volume
    truth = read_scan(folder / TRUTH, allow_constant=True).volume.array > 0
    p, _ = load_maps(out / "models" / model_key / name / f"{view}.npz")
    mask = find_lesions(p, volume.affine, point).mask != 0
    wrong = mask ^ truth
    axis = axial_axis(volume.affine)
    other = tuple(n for n in range(3) if n != axis)
    index = int(wrong.sum(axis=other).argmax())
    # Turned so that left and right, front and back lie as in every other picture.
    turn = nibabel.orientations.io_orientation(volume.affine)
    shown = []
    for array in (np.asarray(volume.array), truth, mask):
        ijk = np.moveaxis(array, (0, 1, 2), (2, 1, 0))
        plane = np.take(ijk, [index], axis=2 - axis)
        ras = nibabel.orientations.apply_orientation(plane, turn)
        shown.append(np.squeeze(ras, axis=2).T.astype(np.float32))
    along = [float(volume.spacing[int(np.flatnonzero(turn[:, 0] == n)[0])]) for n in (0, 1)]
    return shown[0], shown[1], shown[2], along[1] / along[0]
