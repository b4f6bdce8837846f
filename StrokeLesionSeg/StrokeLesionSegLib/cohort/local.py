"""Running a cohort in this process: preparing and finishing overlap the network.

Readers prepare scans, one thread runs the network, writers finish; between them at most one scan
waits, so that memory does not depend on the number of scans. The calling thread only waits: it is
where Ctrl-C and SIGTERM arrive.

The network uses all CPU threads, but at a lower priority than its neighbours. Aligning and
resampling one scan take about as many CPU seconds as the network, on one core. Were the cores
shared out evenly, the network would be through first and wait for the next scan while a core was
idle. So the others go first, and the network takes whatever they leave.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import Cancelled
from .inputs import FoundScan
from .lock import Superseded
from .scan_job import Prepared, failure, finish, predict, prepare
from .settings import Settings

if TYPE_CHECKING:
    from ..models import LoadedModel
    from ..pipeline import ScanRunner

#: Takes a finished record and has it on the disk when it returns; called by one thread at a time.
Keep = Callable[[dict[str, Any]], None]
#: Told of a scan that is taken up; called by one thread at a time, never together with ``Keep``.
Begin = Callable[[FoundScan], None]

_Item = TypeVar("_Item")

# By how much the network's threads are nicer than the others: a third of their share of a core.
_NICER = 5
# Scans leave gaps in the heap that fit no later one exactly: after so many, what is free goes back
# to the system. More often costs: every page that is needed again is zeroed first.
_TRIM_EVERY = 16
# How often a thread that waits looks whether all is to end.
_LOOK_S = 0.1
# Each holds a scan of its own in memory.
_MOST_READERS, _MOST_WRITERS = 4, 2


def run_here(
    scans: Sequence[FoundScan],
    settings: Settings,
    model: LoadedModel,
    keep: Keep,
    begin: Begin = lambda found: None,
) -> float | None:
    """Work on ``scans``; ``keep`` is called with the record of each, in another thread, ``begin``
    when a scan is taken up.

    A scan that fails is a record too. Returns the share of the time between the first and the last
    end of the network in which it ran; None if it ran less than twice. Raises ``InputError`` if
    the results cannot be written, ``Cancelled`` if another batch has taken over the folder, and
    whatever ``keep`` raises; ``KeyboardInterrupt`` is passed on after what was computed is safe.
    """
    from ..inference import available_threads, choose_device
    from ..inference.device import keeping_gaps
    from ..pipeline import ScanRunner

    readers, writers = helpers(available_threads(settings.options.threads))
    on_cpu = not choose_device(settings.options.device).is_gpu
    runner = ScanRunner(model, settings.options, settings.point, force=settings.force)
    line = _Line(settings, runner, keep, begin, readers, writers, step_back=on_cpu)
    with keeping_gaps():
        line.run(scans)
    return line.network_share


def helpers(threads: int) -> tuple[int, int]:
    """How many readers and writers keep a network busy that runs on ``threads`` CPU threads.

    One each up to three threads; beyond, the network becomes faster and a reader, which can use
    hardly more than one core, does not.
    """
    readers = min(max(1, threads // 2), _MOST_READERS)
    return readers, min(max(1, threads // 4), _MOST_WRITERS)


class _Line:
    def __init__(
        self,
        settings: Settings,
        runner: ScanRunner,
        keep: Keep,
        begin: Begin,
        readers: int,
        writers: int,
        *,
        step_back: bool,
    ) -> None:
        self._settings, self._runner, self._keep, self._begin = settings, runner, keep, begin
        self._readers, self._writers, self._step_back = readers, writers, step_back
        self._turn = threading.Lock()
        # No new work; what has been through the network is still written.
        self._stop = threading.Event()
        # Nothing more can be written.
        self._broken = threading.Event()
        self._error: BaseException | None = None
        self._busy: list[tuple[float, float]] = []
        self._written = 0
        self._superseded = Superseded(settings.out, settings.run)
        self._before: queue.Queue[tuple[FoundScan, Prepared | BaseException] | None]
        self._before = queue.Queue(1)
        self._after: queue.Queue[Callable[[], dict[str, Any]] | None] = queue.Queue(1)

    def run(self, scans: Sequence[FoundScan]) -> None:
        source = iter(scans)
        reading = [self._thread("reader", self._read, source) for _ in range(self._readers)]
        network = self._thread("network", self._run_network)
        writing = [self._thread("writer", self._write) for _ in range(self._writers)]
        for thread in (*reading, network, *writing):
            thread.start()
        try:
            _wait_for(reading)
            _put(self._before, None, self._stop)
            _wait_for([network])
        finally:
            # After a Ctrl-C: the network ends after its batch, the writers when all is written.
            self._stop.set()
            for thread in (*reading, network):
                thread.join()
            for _ in writing:
                _put(self._after, None, self._broken)
            for thread in writing:
                thread.join()
        if self._error is not None:
            raise self._error

    @property
    def network_share(self) -> float | None:
        if len(self._busy) < 2:
            return None
        busy = sum(end - begin for begin, end in self._busy[1:])
        return round(busy / (self._busy[-1][1] - self._busy[0][1]), 3)

    def _thread(self, name: str, work: Callable[..., None], *arguments: object) -> threading.Thread:
        """A thread whose failure ends the whole line."""

        def guarded() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                with self._turn:
                    self._error = self._error or error
                self._broken.set()
                self._stop.set()

        return threading.Thread(target=guarded, name=f"batch {name}", daemon=True)

    def _read(self, source: Iterator[FoundScan]) -> None:
        while not self._stop.is_set():
            with self._turn:
                found = next(source, None)
                if found is None:
                    return
                self._begin(found)
            item: Prepared | BaseException
            try:
                item = prepare(found, self._settings, self._runner, self._stop.is_set)
            except Cancelled:
                return
            except BaseException as error:
                item = error
            _put(self._before, (found, item), self._stop)
            del item

    def _run_network(self) -> None:
        if self._step_back:
            _let_others_go_first()
        while (given := _get(self._before, self._stop)) is not None:
            found, item = given
            del given
            started = time.perf_counter()
            if isinstance(item, Prepared):
                try:
                    predict(item, self._runner, self._stop.is_set)
                except Cancelled:
                    return
                except Exception as error:
                    item = error
            ended = time.perf_counter()
            if isinstance(item, Prepared):
                self._busy.append((started, ended))
                work = self._finishing(found, item)
            else:
                work = self._failing(found, item, ended - started)
            _put(self._after, work, self._broken)
            del item, work

    def _finishing(self, found: FoundScan, prepared: Prepared) -> Callable[[], dict[str, Any]]:
        def work() -> dict[str, Any]:
            try:
                return finish(found, prepared, self._settings, self._runner, self._superseded)
            except Exception as error:
                seconds = time.perf_counter() - prepared.started
                return failure(found, self._settings, error, seconds)

        return work

    def _failing(
        self, found: FoundScan, error: BaseException, seconds: float
    ) -> Callable[[], dict[str, Any]]:
        return lambda: failure(found, self._settings, error, seconds)

    def _write(self) -> None:
        from ..inference.device import release_freed_memory

        while (work := _get(self._after, self._broken)) is not None:
            record = work()
            del work
            with self._turn:
                if not self._broken.is_set():
                    self._keep(record)
                self._written += 1
                full = self._written % _TRIM_EVERY == 0
            if full:
                release_freed_memory()


def _put(line: queue.Queue[_Item], item: _Item, unless: threading.Event) -> None:
    """Wait for room and leave ``item`` there; drop it if ``unless`` is set."""
    while not unless.is_set():
        with contextlib.suppress(queue.Full):
            line.put(item, timeout=_LOOK_S)
            return


def _get(line: queue.Queue[_Item | None], unless: threading.Event) -> _Item | None:
    """Wait for the next item; None at the end, or if ``unless`` is set."""
    while not unless.is_set():
        with contextlib.suppress(queue.Empty):
            return line.get(timeout=_LOOK_S)
    return None


def _wait_for(threads: Sequence[threading.Thread]) -> None:
    """Until all have ended. In small steps: signals are not delivered during a long wait."""
    for thread in threads:
        while thread.is_alive():
            thread.join(_LOOK_S)


def _let_others_go_first() -> None:
    """Lower the priority of this thread, and of those of OpenMP that it will start.

    Only Linux has a priority for every thread that anybody may lower; elsewhere all are equal.
    """
    if sys.platform == "linux":
        this = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, this, os.getpriority(os.PRIO_PROCESS, this) + _NICER)
