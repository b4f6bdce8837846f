"""Draws the icon of the extension and the thumbnail of the sample: python Resources/draw_icons.py

An axial brain, grey, with its midline, and a lesion in red on the left hemisphere (which lies on
the right of the picture, as radiologists look at it). Few shapes, so that 24 pixels are enough.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
ICONS = ROOT / "StrokeLesionSeg" / "Resources" / "Icons"
SIZE, FINE = 128, 8


def brain_outline(scale: float) -> list[tuple[float, float]]:
    """The outline of an axial brain, narrower in front, with a dent at both poles."""
    points = []
    for step in range(360):
        angle = math.radians(step)
        x, y = math.sin(angle), -math.cos(angle)
        width = 46 * (1 - 0.10 * max(0.0, -y)) * scale
        height = 56 * scale
        dent = 1 - 0.07 * math.exp(-((x / 0.12) ** 2))
        points.append((64 + width * x * dent, 64 + height * y * dent))
    return points


def blob(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """An uneven round shape."""
    points = []
    for step in range(180):
        angle = math.radians(2 * step)
        r = radius * (1 + 0.14 * math.sin(3 * angle + 0.6) + 0.07 * math.sin(5 * angle))
        points.append((x + 0.85 * r * math.cos(angle), y + 1.1 * r * math.sin(angle)))
    return points


def draw_icon() -> Image.Image:
    """128 x 128 RGBA, drawn eight times as fine and reduced."""
    image = Image.new("RGBA", (SIZE * FINE, SIZE * FINE), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)

    def fine(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * FINE, y * FINE) for x, y in points]

    draw.polygon(fine(brain_outline(1.06)), fill=(58, 66, 78, 255))
    draw.polygon(fine(brain_outline(0.96)), fill=(206, 211, 217, 255))
    # Ventricles and midline.
    for side in (-1, 1):
        draw.line(
            fine([(64 + side * 5, 44), (64 + side * 9, 58), (64 + side * 8, 74)]),
            fill=(88, 97, 110, 255),
            width=5 * FINE,
            joint="curve",
        )
    draw.line(fine([(64, 12), (64, 116)]), fill=(120, 128, 140, 255), width=2 * FINE)
    draw.polygon(fine(blob(89, 58, 19.5)), fill=(146, 22, 18, 255))
    draw.polygon(fine(blob(89, 58, 16)), fill=(230, 60, 46, 255))
    return image.resize((SIZE, SIZE), Image.LANCZOS)


def draw_thumbnail() -> Image.Image:
    """An axial slice of the simulated stroke, radiological view."""
    sys.path.insert(0, str(ROOT / "StrokeLesionSeg"))
    from StrokeLesionSegLib.sample_scan import stroke_in_head

    plane = stroke_in_head().t1.array[86].astype(np.float32)
    grey = np.clip(plane / 880 * 255, 0, 255).astype(np.uint8)[::-1, ::-1]
    image = Image.fromarray(grey)
    square = Image.new("L", (max(image.size),) * 2)
    square.paste(image, ((square.width - image.width) // 2, (square.height - image.height) // 2))
    return square.resize((SIZE, SIZE), Image.LANCZOS)


def main() -> None:
    ICONS.mkdir(parents=True, exist_ok=True)
    icon = draw_icon()
    for path in (ROOT / "Resources" / "StrokeLesionSeg.png", ICONS / "StrokeLesionSeg.png"):
        icon.save(path, optimize=True)
    draw_thumbnail().save(ICONS / "StrokeT1Simulated.png", optimize=True)


if __name__ == "__main__":
    main()
