"""Much in few words: dataclasses that hold arrays as they print, long lists and counts in a
sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

_SHOWN = 4


def brief_repr(self: Any) -> str:
    """For ``__repr__`` of a dataclass: arrays and tensors by type and shape, not by their values.

    Examples
    --------
    >>> import numpy as np
    >>> @dataclasses.dataclass(frozen=True, eq=False)
    ... class Found:
    ...     mask: np.ndarray
    ...     threshold: float
    ...     __repr__ = brief_repr
    >>> Found(np.zeros((2, 3, 4), np.uint8), 0.5)
    Found(mask=<uint8 (2, 3, 4)>, threshold=0.5)
    """
    told = (f.name for f in dataclasses.fields(self) if f.repr)
    shown = (f"{name}={_brief(getattr(self, name))}" for name in told)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def first_of(things: Iterable[Any], most: int = _SHOWN) -> str:
    """The first few of them, at ``most`` so many, sorted, and whether there are more.

    Examples
    --------
    >>> first_of([3, 1]), first_of("fedcba"), first_of("fedcba", most=6)
    ('1, 3', 'a, b, c, d and more', 'a, b, c, d, e, f')
    """
    ordered = sorted(things)
    shown = ", ".join(map(str, ordered[:most]))
    return f"{shown} and more" if len(ordered) > most else shown


def counted(number: int, noun: str) -> str:
    """A number and what it counts, in the singular for one.

    Examples
    --------
    >>> counted(1, "scan"), counted(2, "scan")
    ('1 scan', '2 scans')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _brief(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"<{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}>"
    return repr(value)
