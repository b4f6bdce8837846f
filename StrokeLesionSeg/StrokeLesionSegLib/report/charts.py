"""Charts as SVG within a page: bars, and points between two axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .page import Markup, element

# Volumes below this (mL) are drawn nearly to a linear scale, larger ones to a logarithmic one.
_LINEAR_ML = 0.1
# The whole chart of points, and the frame within it: left, top, right, bottom.
_SIZE = (480, 400)
_FRAME = (66.0, 14.0, 466.0, 346.0)


def bars(
    labels: Sequence[str],
    stacks: Sequence[Sequence[int]],
    described: str,
    *,
    coloured: bool = False,
) -> Markup:
    """One bar for each label with its count above; several ``stacks`` lie on each other.

    Parameters
    ----------
    stacks: counts, each with one for each label. described: what a screen reader says before the
    counts. coloured: give each stack a colour of its own.
    """
    counts = [sum(stack[n] for stack in stacks) for n in range(len(labels))]
    wide, high, base = 76, 150, 180
    most = max(1, *counts)
    parts = [element("line", x1=0, y1=base, x2=wide * len(labels), y2=base)]
    for n, (label, count) in enumerate(zip(labels, counts, strict=True)):
        middle, bottom = wide * n + wide / 2, float(base)
        for colour, stack in enumerate(stacks):
            height = high * stack[n] / most
            if not stack[n]:
                continue
            bottom -= height
            parts.append(
                element(
                    "rect",
                    x=wide * n + 10,
                    y=f"{bottom:.1f}",
                    width=wide - 20,
                    height=f"{height:.1f}",
                    class_=f"c{colour}" if coloured else None,
                )
            )
        parts.append(element("text", str(count), x=middle, y=f"{bottom - 6:.1f}", class_="count"))
        parts.append(element("text", label, x=middle, y=base + 18))
    told = ", ".join(f"{label}: {count}" for label, count in zip(labels, counts, strict=True))
    return element(
        "svg",
        element("title", f"{described} {told}"),
        *parts,
        viewBox=f"0 0 {wide * len(labels)} 206",
        role="img",
        class_="chart",
    )


@dataclass(frozen=True)
class Axis:
    """One axis of a chart of points, from ``low`` to ``high``.

    ``volumes``: a scale that begins at 0 and is logarithmic above a tenth of a mL.
    """

    title: str
    low: float
    high: float
    ticks: tuple[float, ...]
    volumes: bool = False

    def share(self, value: float) -> float:
        """Where on the axis a value lies: 0 at its start, 1 at its end; beyond it, at the end."""
        if self.volumes:
            place = math.log1p(max(value, 0.0) / _LINEAR_ML) / math.log1p(self.high / _LINEAR_ML)
        else:
            place = (value - self.low) / (self.high - self.low)
        return min(max(place, 0.0), 1.0)


def volume_axis(title: str, most_ml: float) -> Axis:
    """An axis for lesion volumes, from 0 to the power of ten that holds ``most_ml``."""
    high = max(1.0, 10.0 ** math.ceil(math.log10(most_ml)) if most_ml > 0 else 1.0)
    ticks = [0.0, _LINEAR_ML]
    while ticks[-1] < high * 0.999:
        ticks.append(ticks[-1] * 10)
    return Axis(title, 0.0, high, tuple(ticks), volumes=True)


def difference_axis(title: str, values: Sequence[float]) -> Axis:
    """A linear axis that holds 0 and all ``values``, with round ticks."""
    low, high = min([0.0, *values]), max([0.0, *values])
    if high - low < 1e-6:
        low, high = -1.0, 1.0
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(s for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return Axis(title, first * step, last * step, tuple(n * step for n in range(first, last + 1)))


def points(
    places: Sequence[tuple[float, float, str]],
    across: Axis,
    up: Axis,
    described: str,
    *,
    levels: Sequence[tuple[float, str]] = (),
    diagonal: bool = False,
) -> Markup:
    """Points between two axes.

    Parameters
    ----------
    places: x, y and what the point is called under the mouse. described: what a screen reader
    says. levels: heights at which a dashed line is drawn, each with its label. diagonal: draw where
    both axes have the same value.
    """
    left, top, right, bottom = _FRAME

    def x(value: float) -> str:
        return f"{left + (right - left) * across.share(value):.1f}"

    def y(value: float) -> str:
        return f"{bottom - (bottom - top) * up.share(value):.1f}"

    parts = []
    for tick in across.ticks:
        parts.append(element("line", x1=x(tick), y1=top, x2=x(tick), y2=bottom))
        parts.append(element("text", _tick(tick), x=x(tick), y=bottom + 18))
    for tick in up.ticks:
        parts.append(element("line", x1=left, y1=y(tick), x2=right, y2=y(tick)))
        parts.append(element("text", _tick(tick), x=left - 8, y=y(tick), dy=".35em", class_="rise"))
    centre, middle = (left + right) / 2, f"{(top + bottom) / 2:.0f}"
    turned = f"rotate(-90 16 {middle})"
    parts.append(element("text", across.title, x=centre, y=_SIZE[1] - 12, class_="axis"))
    parts.append(element("text", up.title, x=16, y=middle, transform=turned, class_="axis"))
    if diagonal:
        end = min(across.high, up.high)
        parts.append(element("line", x1=x(0), y1=y(0), x2=x(end), y2=y(end), class_="level"))
    for value, label in levels:
        parts.append(element("line", x1=left, y1=y(value), x2=right, y2=y(value), class_="level"))
        parts.append(element("text", label, x=right - 4, y=y(value), dy="-.4em", class_="rise"))
    for across_value, up_value, name in places:
        parts.append(
            element("circle", element("title", name), cx=x(across_value), cy=y(up_value), r=4.5)
        )
    return element(
        "svg",
        element("title", described),
        *parts,
        viewBox=f"0 0 {_SIZE[0]} {_SIZE[1]}",
        role="img",
        class_="chart plot",
    )


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "−")
