"""A small table on stdout: with rich where it is installed, in plain columns where it is not."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print ``rows`` under ``columns``; a column whose cells are all numbers is set right."""
    right = [bool(rows) and all(_is_number(row[n]) for row in rows) for n in range(len(columns))]
    if sys.stdout.isatty():
        try:
            _print_rich(columns, rows, title, right)
            return
        except ImportError:
            pass
    # Also into pipes and files, where a frame of box characters would be in the way.
    widths = [max(len(cell) for cell in cells) for cells in zip(columns, *rows, strict=True)]
    if title:
        print(title)
    for row in (columns, *rows):
        cells = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        )
        print("  ".join(cells).rstrip())


def _print_rich(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str, right: Sequence[bool]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left")
    for column, is_right in zip(columns, right, strict=True):
        table.add_column(column, justify="right" if is_right else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in ("", "-")
    return True


def one_line(text: str) -> str:
    """Without line ends and control characters, whatever a file is called."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown.encode("utf-8", "replace").decode("utf-8")
