"""What a run of the engine on volume nodes is: polled, with its files in a thread, ended safely."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..engine_words import stage_name
from ..i18n import tr as _
from .polled_thread import PolledThread
from .process import EngineProcess, Failure, failure_of


class EngineRun:
    """Volume nodes go out, results come back from a process of its own.

    A run is polled, from a QTimer or a loop; files are written and read in a thread that touches
    arrays only. ``state`` goes "new", "exporting", "running", "reading", for some "adding", and
    ends as "done", "failed" or "cancelled"; ``failure`` is set when failed. A run of its kind says
    in ``_step`` what one poll does.
    """

    def __init__(self, process: Callable[[list[str]], EngineProcess]) -> None:
        self.state = "new"
        self.stage = "export"
        self.failure: Failure | None = None
        self._make_process = process
        self._process: EngineProcess | None = None
        self._thread: PolledThread[Any] | None = None

    # What one poll does.
    _step: Callable[[], None]

    @property
    def active(self) -> bool:
        return self.state in ("exporting", "running", "reading", "adding")

    @property
    def working(self) -> bool:
        """True while a thread of this process works for it: it runs only while it is polled."""
        return self.state in ("exporting", "reading")

    @property
    def stage_text(self) -> str:
        return stage_name(self.stage)

    @property
    def scratch(self) -> Path | None:
        """The folder of the run's files; None before it has started."""
        return None if self._process is None else self._process.scratch

    def poll(self) -> bool:
        """Do what can be done now, in some hundredths of a second; True while it is active."""
        try:
            self._step()
        except InputError as error:
            self._fail(Failure(str(error), "", ()))
        except OSError as error:
            self._fail(failure_of(error))
        except Exception as error:
            self._fail(
                Failure(
                    _("The results could not be used: {error}").format(error=error),
                    _("Nothing was overwritten. Try again, and report it if it comes back."),
                    (type(error).__name__,),
                )
            )
        return self.active

    def cancel(self) -> None:
        """End the engine and everything it started, and remove its files. May be called twice."""
        if self.active:
            self._end("cancelled")
        elif self._process is not None and self.state == "cancelled":
            self._process.poll()

    def _thread_done(self) -> bool:
        """Whether the thread has done its work; raises what that raised."""
        assert self._thread is not None
        if self._thread.poll():
            return False
        self._thread.result()
        return True

    def _fail(self, failure: Failure) -> None:
        self.failure = failure
        self._end("failed")

    def _end(self, state: str) -> None:
        self.state = state
        process, thread = self._process, self._thread
        if process is None:
            return
        # Its turn: most often it is about to end.
        if thread is not None and thread.wait(0.1):
            # It has files of the scratch folder open.
            threading.Thread(target=_close_after, args=(thread, process), daemon=True).start()
        else:
            process.cancel()


def _close_after(thread: PolledThread[Any], process: EngineProcess) -> None:
    thread.wait()
    process.cancel()
