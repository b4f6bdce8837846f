"""Values that are made once, also when several threads want them at the same time."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


def once(make: Callable[_P, _R]) -> Callable[_P, _R]:
    """Keep what ``make`` gives for its last two sets of arguments; others wait while it is made.

    ``functools.lru_cache`` would let a second thread make it again.
    """
    cached = functools.lru_cache(maxsize=2)(make)
    lock = threading.RLock()

    @functools.wraps(make)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with lock:
            return cached(*args, **kwargs)  # type: ignore[arg-type]

    return call
