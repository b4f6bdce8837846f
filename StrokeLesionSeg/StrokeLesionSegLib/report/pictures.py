"""Pictures of slices: a PNG within an SVG, with outlines, letters and crosshairs as vectors."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..boxes import Box, bounding_box, whole_box, widen
from ..brief import brief_repr
from .content import NEUROLOGICAL
from .contours import outline_path
from .page import Markup, element

AXIAL, CORONAL, SAGITTAL = 0, 1, 2  # the array axis (k, j, i) that a plane cuts
GAP = 3  # pixels between cells
LETTER_PX = 12  # height of letters on the screen

# From dark purple to pale yellow, even in lightness, so that it survives a grey printer.
_HEAT = np.array(
    [(92, 22, 110), (150, 38, 103), (203, 65, 73), (237, 105, 37), (251, 170, 30), (250, 235, 120)],
    dtype=np.float64,
)
_HEAT_LEVELS = 32


def crop_box(mask: NDArray[np.bool_], margin: int) -> Box:
    """The box (k, j, i) that holds a 3D mask and ``margin`` voxels more; all if it is empty."""
    return widen(bounding_box(mask) or whole_box(mask.shape), margin, mask.shape)


@dataclass(frozen=True)
class Views:
    """How planes of a RAS array are shown: anterior or superior up, and which side is left.

    Sagittal planes show anterior on the left. ``box`` (k, j, i) is what is shown.
    """

    convention: str
    box: Box

    def plane(self, array: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
        """The plane ``index`` of ``array`` along ``axis``, cropped and turned as it is shown."""
        rows, columns = (part for a, part in enumerate(self.box) if a != axis)
        cut = np.take(array, index, axis=axis)[rows, columns]
        return cut[::-1, ::-1] if self._turned(axis) else cut[::-1]

    def point(self, kji: Sequence[int], axis: int) -> tuple[float, float]:
        """Where the middle of a voxel is shown in its plane along ``axis``: x, y in pixels."""
        (row, rows), (column, columns) = (
            (kji[a], part) for a, part in enumerate(self.box) if a != axis
        )
        x = columns.stop - 1 - column if self._turned(axis) else column - columns.start
        return x + 0.5, rows.stop - 1 - row + 0.5

    def letters(self, axis: int, mirrored: bool = False) -> tuple[str, str]:
        """What is on the left and on the right of the picture."""
        if axis == SAGITTAL:
            return "A", "P"
        left_first = (self.convention == NEUROLOGICAL) != mirrored
        return ("L", "R") if left_first else ("R", "L")

    def size(self, axis: int) -> tuple[int, int]:
        """Height and width of a plane in pixels."""
        height, width = (p.stop - p.start for a, p in enumerate(self.box) if a != axis)
        return height, width

    def _turned(self, axis: int) -> bool:
        return axis == SAGITTAL or self.convention != NEUROLOGICAL


@dataclass(eq=False)
class Cell:
    """One plane in a sheet.

    Attributes
    ----------
    plane: (rows, columns) uint8 as shown. letters: at its left and right edge. label: below.
    outlines: masks as shown, with the class of their line ("lesion", "other", "automatic",
        "opposite", "brain", "over").
    cross: where a crosshair is put, x and y in pixels.
    heat: (rows, columns), 0 to 1, drawn over the plane where above 0.
    """

    plane: NDArray[np.uint8]
    letters: tuple[str, str]
    label: str = ""
    outlines: list[tuple[NDArray[np.bool_], str]] = field(default_factory=list)
    cross: tuple[float, float] | None = None
    heat: NDArray[np.floating] | None = None

    __repr__ = brief_repr


def sheet(cells: Sequence[Cell], columns: int, description: str, shown: int = 980) -> Markup:
    """Cells in rows of ``columns`` as one SVG; one unit is one pixel of the planes.

    Rows are as high as their highest cell, columns as wide as their widest. ``description`` is
    read out in place of the picture. ``shown`` is how wide the picture will be about, in pixels
    of the screen: letters are the same size on all pictures. Sides that all cells share stand once
    a row, beside the planes.
    """
    count = min(columns, len(cells))
    rows = [cells[n : n + count] for n in range(0, len(cells), count)]
    widths = [max(row[c].plane.shape[1] for row in rows if c < len(row)) for c in range(count)]
    heights = [max(cell.plane.shape[0] for cell in row) for row in rows]
    lefts = np.concatenate(([0], np.cumsum([w + GAP for w in widths]))).tolist()
    tops = np.concatenate(([0], np.cumsum([h + GAP for h in heights]))).tolist()
    width, height = lefts[-1] - GAP, tops[-1] - GAP

    letter = LETTER_PX * width / shown
    shared = len(cells) > 1 and len({cell.letters for cell in cells}) == 1
    margin = 1.5 * letter if shared else 0.0

    canvas = np.zeros((height, width), dtype=np.uint8)
    heat = np.zeros((height, width), dtype=np.float32)
    marks: list[Markup] = []
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            h, w = cell.plane.shape
            x, y = lefts[c] + (widths[c] - w) // 2, tops[r] + (heights[r] - h) // 2
            canvas[y : y + h, x : x + w] = cell.plane
            if cell.heat is not None:
                heat[y : y + h, x : x + w] = cell.heat
            marks.append(_marks(cell, x, y, w, h, letter, sides=not shared))
        if shared:
            marks += _beside(row[0].letters, margin, width, tops[r] + heights[r] / 2, letter)
    layers = [_image(grey_png(canvas), width, height)]
    if heat.any():
        layers.append(_image(heat_png(heat), width, height))
    return element(
        "svg",
        element("title", description),
        *layers,
        *marks,
        viewBox=f"{-margin:.4g} 0 {width + 2 * margin:.5g} {height}",
        role="img",
        class_="sheet",
        font_size=f"{letter:.1f}",
        preserveAspectRatio="xMidYMid meet",
    )


def _beside(
    letters: tuple[str, str], margin: float, width: int, middle: float, letter: float
) -> list[Markup]:
    """The sides of a row, left and right of its planes."""
    places = (-margin / 2, width + margin / 2)
    return [
        element("text", side, x=f"{x:.1f}", y=f"{middle + letter / 3:.1f}", class_="side row")
        for side, x in zip(letters, places, strict=True)
    ]


def _marks(
    cell: Cell, x: int, y: int, width: int, height: int, letter: float, *, sides: bool
) -> Markup:
    parts: list[Markup] = []
    for mask, kind in cell.outlines:
        path = outline_path(mask)
        if path:
            parts.append(element("path", d=path, class_=kind))
    if cell.cross is not None:
        cx, cy = cell.cross
        gap = 7
        lines = (
            f"M0 {cy:g}H{max(0, cx - gap):g}M{cx + gap:g} {cy:g}H{width}"
            f"M{cx:g} 0V{max(0, cy - gap):g}M{cx:g} {cy + gap:g}V{height}"
        )
        parts.append(element("path", d=lines, class_="cross"))
    # In the upper corners, where there is no brain, let alone a lesion.
    edge, high = f"{letter / 3:.1f}", f"{1.1 * letter:.1f}"
    far, low = f"{width - letter / 3:.1f}", f"{height - letter / 3:.1f}"
    if sides:
        parts.append(element("text", cell.letters[0], x=edge, y=high, class_="side"))
        parts.append(element("text", cell.letters[1], x=far, y=high, class_="side end"))
    if cell.label:
        parts.append(element("text", cell.label, x=edge, y=low, class_="at"))
    return element("g", *parts, transform=f"translate({x} {y})")


def _image(png: bytes, width: int, height: int) -> Markup:
    address = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return element("image", href=address, width=width, height=height)


def grey_png(canvas: NDArray[np.uint8]) -> bytes:
    """8-bit grey PNG of (rows, columns) uint8, in 64 grey levels: noise below them costs most."""
    return _png(_pillow(canvas & np.uint8(0xFC), "L"))


def heat_png(values: NDArray[np.floating]) -> bytes:
    """PNG of (rows, columns) values: clear at 0, then from purple to pale yellow up to 1."""
    image = _pillow(heat_levels(values), "P")
    colors = np.vstack([np.zeros((1, 3)), heat_colors(_HEAT_LEVELS)])
    image.putpalette(np.rint(colors).astype(np.uint8).tobytes())
    return _png(image, transparency=bytes([0] + [215] * _HEAT_LEVELS))


def heat_levels(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """0 for 0 and below, 1 to 32 for what is above, 32 for 1 and above."""
    levels = np.ceil(np.clip(values, 0, 1) * _HEAT_LEVELS)
    return levels.astype(np.uint8)


def heat_colors(count: int) -> NDArray[np.float64]:
    """(count, 3) colours of the scale, 0 to 255, from low to high."""
    where = np.linspace(0, len(_HEAT) - 1, count)
    known = np.arange(len(_HEAT))
    return np.stack([np.interp(where, known, _HEAT[:, channel]) for channel in range(3)], axis=1)


def legend(title: str, ticks: Sequence[str]) -> Markup:
    """The heat scale with evenly spaced labels below, as SVG."""
    width, bar = 300, 12
    step = width / _HEAT_LEVELS
    parts = [
        element(
            "rect",
            x=f"{10 + n * step:.2f}",
            y=20,
            width=f"{step + 0.3:.2f}",
            height=bar,
            fill="#" + "".join(f"{round(v):02x}" for v in color),
        )
        for n, color in enumerate(heat_colors(_HEAT_LEVELS).tolist())
    ]
    for n, tick in enumerate(ticks):
        x = 10 + width * n / max(1, len(ticks) - 1)
        parts.append(element("text", tick, x=f"{x:g}", y=48, class_="tick"))
    description = f"Colour scale: {title}, from {ticks[0]} to {ticks[-1]}"
    return element(
        "svg",
        element("title", description),
        element("text", title, x=10, y=13, class_="scale"),
        *parts,
        viewBox="0 0 330 54",
        role="img",
        class_="legend",
    )


def _pillow(array: NDArray[np.uint8], mode: str):  # type: ignore[no-untyped-def]
    from PIL import Image

    rows, columns = array.shape
    return Image.frombytes(mode, (columns, rows), np.ascontiguousarray(array).tobytes())


def _png(image, **options: object) -> bytes:  # type: ignore[no-untyped-def]
    stream = io.BytesIO()
    # Pillow's "optimize" takes five times as long, and of these pictures it makes larger files.
    image.save(stream, "PNG", compress_level=6, **options)
    return stream.getvalue()
