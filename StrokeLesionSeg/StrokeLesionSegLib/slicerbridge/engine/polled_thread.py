"""A piece of work on arrays beside the GUI: a thread that gets its turns while it is polled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from .process import WORKERS_TURN_S

T = TypeVar("T")


class PolledThread(Generic[T]):
    """Does ``work()`` in a thread, from now on; ``work`` must not touch nodes, Qt or the scene."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._value: list[T] = []
        self._error: BaseException | None = None
        # Not a daemon: those are stopped in the middle of compiled code when Slicer is left.
        self._thread = threading.Thread(target=self._run, daemon=False)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value.append(self._work())
        except BaseException as error:
            self._error = error

    def poll(self) -> bool:
        """True while it works; lets the thread work for a moment."""
        return self.wait(WORKERS_TURN_S)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for its end, at most so long; True if it still works."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def result(self) -> T:
        """What ``work()`` returned, waited for; raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value[0]
