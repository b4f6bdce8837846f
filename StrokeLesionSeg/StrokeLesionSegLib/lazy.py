"""Packages that import their names on first use (PEP 562), and so cost nothing themselves."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, home: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for a package.

    Parameters
    ----------
    package: its ``__name__``.
    home: each public name to the module of the package that defines it.

    A name that was asked for once is kept in the package. Type checkers do not look in here: let
    the package import the same names under ``TYPE_CHECKING`` and list them in ``__all__``.

    The ``__getattr__`` raises ``AttributeError`` for names that are not in ``home``.
    """

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{home[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home})

    return __getattr__, __dir__
