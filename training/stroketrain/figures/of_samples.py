"""Random samples of a cache in one picture, to be judged by eye: does this look like a stroke?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data.cache import Cache
from .page import COLOURS, pyplot

# Each sample is a T1 alone, and beside it the same slice with the truth's outline.
_COLUMNS = 5
_CROP = (slice(8, 225), slice(12, 185))  # rows j, columns i of an axial slice that hold a head


def samples(cache: Cache, out: Path, count: int = 50, seed: int = 0, dpi: int = 60) -> list[Path]:
    """``count`` random scans, the axial slice with most lesion of each (the middle one of a scan
    without): T1, and T1 with the outline of the truth. Writes ``samples.png``."""
    plt = pyplot()
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(cache))[:count])
    rows = -(-len(chosen) // _COLUMNS)
    figure, axes = plt.subplots(
        rows,
        2 * _COLUMNS,
        figsize=(3.0 * _COLUMNS, 2.0 * rows),
        squeeze=False,
        gridspec_kw={"wspace": 0.01, "hspace": 0.12},
        facecolor="black",
    )
    for axis in axes.flat:
        axis.axis("off")
    for n, scan in enumerate(chosen):
        row, column = divmod(n, _COLUMNS)
        plain, outlined = axes[row][2 * column : 2 * column + 2]
        mask = np.asarray(cache.masks[scan])
        per_slice = mask.sum(axis=(1, 2))
        z = int(per_slice.argmax()) if per_slice.any() else mask.shape[0] // 2
        image, truth = np.asarray(cache.images[scan, z])[_CROP], mask[z][_CROP]
        for axis in (plain, outlined):
            axis.imshow(image, cmap="gray", origin="lower", vmin=0, vmax=255)
        if truth.any():
            outlined.contour(truth, levels=[0.5], colors=[COLOURS[4]], linewidths=0.7)
        facts = cache.scans[scan]
        kind = facts.get("simulation", {}).get("kind") or (
            "lesion" if facts["volume_ml"] else "healthy"
        )
        title = f"{scan}: {kind}, {facts['volume_ml']:.1f} mL" if facts["volume_ml"] else (
            f"{scan}: {kind}"
        )  # fmt: skip
        plain.set_title(title, fontsize=7, color="white", loc="left", pad=2)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "samples.png"
    figure.savefig(path, dpi=dpi, bbox_inches="tight", facecolor="black")
    plt.close(figure)
    shrink_png(path)
    return [path]


def shrink_png(path: Path, colours: int = 48) -> None:
    """The PNG with a palette: greys and one outline need no more, and it is a third as large."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(colours)
    small.save(path, optimize=True)
