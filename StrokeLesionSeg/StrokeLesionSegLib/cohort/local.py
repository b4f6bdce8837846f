"""Running a cohort in this process: preparing and finishing overlap the network.

Three threads, each with at most one scan waiting before it, so that memory does not depend on the
number of scans. The network runs in the calling thread, where Ctrl-C and SIGTERM arrive.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled
from .inputs import FoundScan
from .scan_job import Prepared, Settings, failure, finish, predict, prepare

if TYPE_CHECKING:
    from ..models import LoadedModel

#: Takes a finished record and has it on the disk when it returns.
Keep = Callable[[dict[str, Any]], None]


def run_here(
    scans: Sequence[FoundScan], settings: Settings, model: LoadedModel, keep: Keep
) -> float | None:
    """Work on ``scans`` in their order; ``keep`` is called with the record of each, in a thread.

    A scan that fails is a record too. Returns the share of the time between the first and the last
    end of the network in which it ran; None if it ran less than twice. Raises ``InputError`` if
    the results cannot be written, and whatever ``keep`` raises; ``KeyboardInterrupt`` is passed on
    after what was computed is safe.
    """
    line = _Line(settings, model, keep)
    line.run(scans)
    return line.network_share


class _Line:
    def __init__(self, settings: Settings, model: LoadedModel, keep: Keep) -> None:
        self._settings, self._model, self._keep = settings, model, keep
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._busy: list[tuple[float, float]] = []
        self._before: queue.Queue[tuple[FoundScan, Prepared | BaseException] | None]
        self._before = queue.Queue(1)
        self._after: queue.Queue[Callable[[], dict[str, Any]] | None] = queue.Queue(1)

    def run(self, scans: Sequence[FoundScan]) -> None:
        reader = threading.Thread(
            target=self._read, args=(scans,), name="batch reader", daemon=True
        )
        writer = threading.Thread(target=self._write, name="batch writer", daemon=True)
        reader.start()
        writer.start()
        try:
            self._predict()
        finally:
            self._stop.set()
            # The reader may be waiting for room.
            while reader.is_alive():
                _empty(self._before)
                reader.join(0.05)
            while writer.is_alive():
                try:
                    self._after.put(None, timeout=0.05)
                    break
                except queue.Full:
                    continue
            writer.join()
        if self._error is not None:
            raise self._error

    @property
    def network_share(self) -> float | None:
        if len(self._busy) < 2:
            return None
        busy = sum(end - begin for begin, end in self._busy[1:])
        return round(busy / (self._busy[-1][1] - self._busy[0][1]), 3)

    def _read(self, scans: Sequence[FoundScan]) -> None:
        try:
            for found in scans:
                if self._stop.is_set():
                    return
                item: Prepared | BaseException
                try:
                    item = prepare(found, self._settings, self._model, self._stop.is_set)
                except Cancelled:
                    return
                except BaseException as error:
                    item = error
                self._before.put((found, item))
                del item
        finally:
            self._before.put(None)

    def _predict(self) -> None:
        while not self._stop.is_set() and (given := self._before.get()) is not None:
            found, item = given
            del given
            started = time.perf_counter()
            if isinstance(item, Prepared):
                try:
                    predict(item, self._settings, self._model, self._stop.is_set)
                except Exception as error:
                    item = error
                else:
                    self._busy.append((started, time.perf_counter()))
                    self._after.put(self._finishing(found, item))
                    del item
                    continue
            seconds = time.perf_counter() - started
            self._after.put(self._failing(found, item, seconds))
            del item

    def _finishing(self, found: FoundScan, prepared: Prepared) -> Callable[[], dict[str, Any]]:
        def work() -> dict[str, Any]:
            try:
                return finish(found, prepared, self._settings, self._model)
            except Exception as error:
                seconds = time.perf_counter() - prepared.started
                return failure(found, self._settings, error, seconds)

        return work

    def _failing(
        self, found: FoundScan, error: BaseException, seconds: float
    ) -> Callable[[], dict[str, Any]]:
        return lambda: failure(found, self._settings, error, seconds)

    def _write(self) -> None:
        while (work := self._after.get()) is not None:
            try:
                self._keep(work())
            except Cancelled:
                continue
            except BaseException as error:
                self._error = self._error or error
                self._stop.set()
                # Let the network's thread get rid of what it has.
                while self._after.get() is not None:
                    pass
                return
            finally:
                del work


def _empty(waiting: queue.Queue[Any]) -> None:
    try:
        while True:
            waiting.get_nowait()
    except queue.Empty:
        return
