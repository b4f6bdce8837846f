"""A command of the engine in a process of its own, followed by the panel's polls."""

from __future__ import annotations

from collections.abc import Callable

from ...engine.process import EngineProcess, Failure, Progress
from .context import Panel, Started


class FollowedProcess:
    """One process at a time, started and stopped by buttons of a section.

    ``told(event)`` is called for each step that it tells of, ``ended(process, failure)`` once it
    has ended by itself. With a result it went through, whatever its exit code: ``failure`` is None.
    """

    def __init__(
        self,
        panel: Panel,
        told: Callable[[Progress], None],
        ended: Callable[[EngineProcess, Failure | None], None],
    ) -> None:
        self._panel, self._told, self._ended = panel, told, ended
        self._process: EngineProcess | None = None
        self._started = Started()

    @property
    def running(self) -> bool:
        """Whether it runs, or its end is not dealt with yet."""
        return self._process is not None

    @property
    def seconds(self) -> float:
        """How long ago it was started."""
        return self._started.seconds

    def start(self, arguments: list[str]) -> None:
        """Start the command; raises ``OSError`` if it cannot be."""
        process = EngineProcess(arguments)
        process.start()
        self._process = process
        self._started.now()
        self._panel.keep_polling()

    def poll(self) -> bool:
        """Tell what it has told since the last call; True while it runs."""
        process = self._process
        if process is None:
            return False
        for event in process.poll():
            self._told(event)
        if not process.running:
            self._process = None
            self._ended(process, process.failure() if process.result is None else None)
            process.close()
        return self.running

    def stop(self) -> bool:
        """A press of the button that started it: end it, unless that is of the same double-click.
        True if it was ended."""
        if self._process is None or self._started.just_now:
            return False
        self.shut_down()
        return True

    def shut_down(self) -> None:
        """End it, whenever it was started."""
        process, self._process = self._process, None
        if process is not None:
            process.cancel()
