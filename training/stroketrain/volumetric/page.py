"""One picture that sets simulated patients beside real ones: can you tell which are which?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from StrokeLesionSegLib.learning.strokes.anatomy import Anatomy
from StrokeLesionSegLib.learning.strokes.head import StrokeFrequencies, scan_of, simulate_head

from .heads import HeadFolder, windowed_on_box

_LEVELS_MM = (-14, 14)  # beside the middle of the lesion


def draw_page(
    folder: HeadFolder,
    out: Path,
    *,
    scans: int = 48,
    seed: int = 0,
    real: Path | None = None,
    outlines: bool = True,
) -> list[str]:
    """Write a PNG with three slices of each scan, real patients in between.

    ``real``: folder with ``*_T1w.nii.gz`` of patients, or None. ``outlines``: a second row of each
    shows lesion (red) and ventricle (blue) of the simulated. Returns what each place shows, in
    the order of reading. Raises ``InputError`` for a scan that cannot be read.
    """
    from PIL import Image

    anatomy, bank = Anatomy.of_template(), folder.bank("train")
    names = folder.names("train")
    g = torch.Generator().manual_seed(seed)
    panels: list[tuple[str, NDArray[np.uint8]]] = []
    for n in range(scans):
        head = folder.head(names[int(torch.randint(len(names), (), generator=g))])
        drawn = simulate_head(g, head, anatomy, bank, StrokeFrequencies(lesion=1.0))
        scan = scan_of(g, drawn, anatomy)
        image = (scan.image.numpy().clip(0, 1) * 255).astype(np.uint8)
        looks = ", ".join(f"{kind} {ml:.1f} mL" for kind, ml in scan.kinds) or "none"
        panel = _panel(image, scan.lesions.numpy(), scan.ventricles.numpy(), outlines)
        panels.append((f"simulated {n}: {looks}; {', '.join(drawn.mimics)}", panel))
    for file in sorted(real.glob("*_T1w.nii.gz")) if real else ():
        nothing = np.zeros(anatomy.brain.shape, bool)
        place = int(torch.randint(len(panels) + 1, (), generator=g))
        panel = _panel(windowed_on_box(file), nothing, nothing, outlines)
        panels.insert(place, (f"real: {file.name}", panel))
    Image.fromarray(_grid([p for _, p in panels], 4)).save(out)
    return [name for name, _ in panels]


def _panel(
    image: NDArray[np.uint8],
    lesions: NDArray[np.bool_],
    ventricles: NDArray[np.bool_],
    outlines: bool,
) -> NDArray[np.uint8]:
    from scipy.ndimage import binary_erosion

    where = np.nonzero(lesions)[0]
    middle = int(np.median(where)) if len(where) else 90
    rows: list[list[Any]] = [[], []] if outlines else [[]]
    for level in (middle + _LEVELS_MM[0], middle, middle + _LEVELS_MM[1]):
        k = min(max(level, 0), len(image) - 1)
        tile = np.stack([image[k]] * 3, axis=-1)[::-1]
        rows[0].append(tile)
        if outlines:
            marked = tile.copy()
            for mask, colour in ((ventricles, (60, 160, 255)), (lesions, (255, 40, 40))):
                part = mask[k][::-1]
                marked[part & ~binary_erosion(part)] = colour
            rows[1].append(marked)
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def _grid(panels: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Panels of one size in rows, with a line between them; the last row is filled with black."""
    lined = [np.pad(p, ((0, 4), (0, 4), (0, 0)), constant_values=90) for p in panels]
    lined += [np.zeros_like(lined[0])] * (-len(lined) % columns)
    rows = [np.concatenate(lined[n : n + columns], axis=1) for n in range(0, len(lined), columns)]
    return np.concatenate(rows)
