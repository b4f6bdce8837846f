"""Draws the icons of the Segment Editor effects: python Resources/draw_effect_icons.py

A red lesion in each, with what the effect does to it: a pulsing rim, a brush, two clicks, a list
with a tick. Few thick shapes, so that 24 pixels are enough, on light and on dark ground.
"""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw

FOLDER = Path(__file__).resolve().parents[1] / "StrokeLesionSeg/StrokeLesionSegEffects/Icons"
SIZE, FINE = 48, 16
RED, DARK = (224, 58, 44, 255), (140, 20, 16, 255)
BLUE, WHITE, GREY = (38, 128, 214, 255), (250, 250, 250, 255), (96, 105, 118, 255)
ORANGE, GREEN = (246, 150, 30, 255), (40, 160, 80, 255)

Point = tuple[float, float]


class Sheet:
    """48 x 48 units, drawn finer and reduced."""

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (SIZE * FINE, SIZE * FINE), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.image)

    def polygon(self, points: list[Point], color: tuple[int, ...]) -> None:
        self.draw.polygon([(x * FINE, y * FINE) for x, y in points], fill=color)

    def line(self, points: list[Point], color: tuple[int, ...], width: float) -> None:
        fine = [(x * FINE, y * FINE) for x, y in points]
        self.draw.line(fine, fill=color, width=round(width * FINE), joint="curve")
        for x, y in (points[0], points[-1]):
            self.disk(x, y, width / 2, color)

    def disk(self, x: float, y: float, radius: float, color: tuple[int, ...]) -> None:
        box = [(x - radius) * FINE, (y - radius) * FINE, (x + radius) * FINE, (y + radius) * FINE]
        self.draw.ellipse(box, fill=color)

    def lesion(self, x: float, y: float, radius: float) -> None:
        self.polygon(blob(x, y, radius * 1.16), DARK)
        self.polygon(blob(x, y, radius), RED)

    def save(self, name: str) -> None:
        reduced = self.image.resize((SIZE, SIZE), Image.LANCZOS)
        reduced.save(FOLDER / f"{name}.png", optimize=True)


def blob(x: float, y: float, radius: float) -> list[Point]:
    """An uneven round shape."""
    points = []
    for step in range(120):
        angle = math.radians(3 * step)
        r = radius * (1 + 0.14 * math.sin(3 * angle + 0.6) + 0.07 * math.sin(5 * angle))
        points.append((x + r * math.cos(angle), y + r * math.sin(angle)))
    return points


def stroke_lesion() -> Sheet:
    """The lesion within the outline of a head."""
    sheet = Sheet()
    sheet.draw.ellipse([4 * FINE, 1 * FINE, 44 * FINE, 47 * FINE], fill=GREY)
    sheet.draw.ellipse([8 * FINE, 5 * FINE, 40 * FINE, 43 * FINE], fill=(214, 219, 225, 255))
    sheet.line([(24, 6), (24, 42)], GREY, 2)
    sheet.lesion(31, 22, 8.5)
    return sheet


def lesion_review() -> Sheet:
    """A list of lesions, the first one ticked."""
    sheet = Sheet()
    for row, y in enumerate((10, 25, 40)):
        sheet.lesion(9, y, 5.4 - row)
        sheet.line([(21, y), (44, y)], GREY, 4)
    sheet.line([(21, 17), (30, 27), (45, 5)], WHITE, 9)
    sheet.line([(21, 17), (30, 27), (45, 5)], GREEN, 5.5)
    return sheet


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in (
        ("StrokeLesion", stroke_lesion),
        ("LesionReview", lesion_review),
    ):
        draw().save(name)


if __name__ == "__main__":
    main()
