"""Saving a figure in both formats; colours that people with colour blindness can tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Okabe and Ito.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def pyplot() -> Any:
    """matplotlib.pyplot on a backend that needs no display."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    return plt


def save(figure: Any, out: Path, name: str) -> list[Path]:
    """``name``.png (200 dpi) and ``name``.svg in ``out``; closes the figure."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{name}.png", out / f"{name}.svg"]
    for path in paths:
        figure.savefig(path, dpi=200, bbox_inches="tight")
    pyplot().close(figure)
    return paths
