"""Running a cohort on Dask workers: several processes here, or a cluster's. One scan is one task.

The coordinator alone writes the ledger; workers write the scans' own files, each set complete
under its names or not at all. So a worker may die at any moment, and its scan is done by another.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import Cancelled, InputError
from .inputs import FoundScan
from .lock import Superseded, taken_over
from .scan_job import failure, finish, predict, prepare
from .settings import Settings

if TYPE_CHECKING:
    import distributed

    from ..models import LoadedModel

Keep = Callable[[dict[str, Any]], None]

# Tasks handed out ahead for each worker thread; the rest waits here, however many scans there are.
_AHEAD = 3
# How often a wait looks for finished tasks, and asks whether there are workers.
_LOOK_S, _ASK_S = 0.05, 5.0
# How long a scheduler may take to answer.
_ANSWER_S = 20.0

_LOG = logging.getLogger(__name__)


def require_distributed() -> None:
    """Raise ``InputError`` if dask.distributed is not installed."""
    if importlib.util.find_spec("distributed") is None:
        raise InputError(
            "--workers, --scheduler",
            "the Python package distributed is not installed",
            "Install it with: python -m pip install 'dask[distributed]'",
        )


@contextmanager
def local_workers(count: int) -> Iterator[distributed.Client]:
    """``count`` worker processes of this machine, with its CPU threads shared out among them."""
    require_distributed()
    import distributed

    cluster = distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        silence_logs=logging.ERROR,
        # Scans are large next to what Dask thinks a task should hold; the system's limit is ours.
        memory_limit=0,
        env={"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads_each(count))},
    )
    with cluster, distributed.Client(cluster) as client:
        yield client


def threads_each(count: int) -> int:
    """CPU threads for each of ``count`` processes of this machine."""
    from ..inference.device import available_threads

    return max(1, available_threads() // count)


@contextmanager
def connected(address: str) -> Iterator[distributed.Client]:
    """The scheduler at ``address``; ``InputError`` if none answers."""
    require_distributed()
    import distributed

    try:
        with ThreadPoolExecutor(1) as beside:  # a notebook has a loop of its own in this thread
            greeting = asyncio.wait_for(_greet(address), _ANSWER_S + 1)
            beside.submit(asyncio.run, greeting).result()
        client = distributed.Client(address, timeout=_ANSWER_S)
    except (OSError, ValueError, TimeoutError, asyncio.TimeoutError) as error:
        why = str(error) or f"something else does, without a word in {in_words(_ANSWER_S)}"
        raise InputError(
            f"--scheduler {address}", f"no scheduler answers ({why})", "Check host and port"
        ) from error
    # It tells of a connection that is lost by a traceback, and we in a line.
    told = logging.getLogger("distributed.client")
    level = told.level
    told.setLevel(logging.CRITICAL)
    try:
        with client:
            yield client
    finally:
        told.setLevel(level)


async def _greet(address: str) -> None:
    """Exchange greetings with the scheduler: for those of a program that is none, which says
    nothing, a client would wait for ever."""
    from distributed.comm.core import connect
    from distributed.security import Security

    comm = await connect(address, timeout=_ANSWER_S, **Security().get_connection_args("client"))
    comm.abort()


def run_on(
    client: distributed.Client,
    scans: Sequence[FoundScan],
    settings: Settings,
    keep: Keep,
    worker_timeout: float = 1800.0,
) -> None:
    """Work on ``scans`` with the workers of ``client``; ``keep`` gets the record of each.

    A scan whose workers die again and again becomes a failure. Raises ``InputError`` if results
    cannot be written, a worker has another version or model, there is no worker for
    ``worker_timeout`` seconds, or the scheduler goes away, and whatever ``keep`` raises.
    """
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    waiting = iter(scans)
    running: dict[Any, FoundScan] = {}
    completed = as_completed()

    def hand_out() -> None:
        while len(running) < max(1, _threads(client)) * _AHEAD and (found := next(waiting, None)):
            future = client.submit(
                segment_task, found, settings, key=f"{settings.run}-{found.stem}", pure=False
            )
            running[future.key] = found
            completed.add(future)

    hand_out()
    try:
        while running:
            _wait(completed, client, worker_timeout)
            future = next(completed)
            found = running.pop(future.key)
            error = future.exception()
            if isinstance(error, KilledWorker):
                keep(failure(found, settings, _killed(found)))
            elif error is not None:
                raise error
            else:
                keep(future.result())
            future.release()
            hand_out()
    except CancelledError as error:  # tasks are cancelled by nobody else
        raise _lost() from error
    except BaseException:
        client.cancel(list(completed.futures), force=True)
        raise


def _wait(completed: Any, client: distributed.Client, worker_timeout: float) -> None:
    """Until a task has ended; says when there are no workers, ``InputError`` if none come."""
    asked = time.monotonic()
    alone: float | None = None
    while not completed.has_ready():
        time.sleep(_LOOK_S)
        now = time.monotonic()
        if now - asked < _ASK_S:
            continue
        asked = now
        if _threads(client):
            alone = None
        elif alone is None:
            alone = now
            _LOG.warning("the scheduler has no workers; waiting up to %s", in_words(worker_timeout))
        elif now - alone > worker_timeout:
            raise InputError(
                "--scheduler",
                f"has had no workers for {in_words(worker_timeout)}",
                "Start some, or wait longer with --worker-timeout",
            )


def _threads(client: distributed.Client) -> int:
    """Of all workers together."""
    try:
        return sum(client.nthreads().values())
    except OSError as error:
        raise _lost() from error


def _lost() -> InputError:
    return InputError(
        "--scheduler",
        "the connection to the scheduler was lost",
        "Start it again if it has ended; the same batch goes on where this one stopped",
    )


def in_words(seconds: float) -> str:
    """``12 seconds``, ``1 minute``, ``2.5 minutes``."""
    number, unit = (seconds, "second") if seconds < 60 else (seconds / 60, "minute")
    shown = f"{number:.1f}".removesuffix(".0")
    return f"{shown} {unit}" if shown == "1" else f"{shown} {unit}s"


def _killed(found: FoundScan) -> InputError:
    return InputError(
        found.path,
        "its worker processes died repeatedly",
        "Give the workers more memory, or check the scan",
    )


def segment_task(found: FoundScan, settings: Settings) -> dict[str, Any]:
    """One scan from file to files, in a worker; returns its record for the ledger.

    Raises ``InputError`` only where the whole batch has to stop.
    """
    from ..inference.device import prepare_environment
    from ..pipeline import ScanRunner

    prepare_environment()
    started = time.perf_counter()
    model = _model(settings.model, settings.manifest["sha256"], settings.version)
    runner = ScanRunner(model, settings.options, settings.point, force=settings.force)
    cancel = Superseded(settings.out, settings.run)
    try:
        prepared = prepare(found, settings, runner, cancel)
        predict(prepared, runner, cancel)
        return finish(found, prepared, settings, runner, cancel)
    except Cancelled:
        raise taken_over(settings.out) from None
    except Exception as error:
        return failure(found, settings, error, time.perf_counter() - started)


@functools.lru_cache(maxsize=1)
def _model(name: str, sha256: str, version: str) -> LoadedModel:
    """The model, loaded once in each process, and the same as the coordinator's."""
    from ..models import load_model

    if version != __version__:
        raise InputError(
            "worker", f"has version {__version__}, not {version}", "Install the same on all workers"
        )
    model = load_model(name)
    if model.manifest.sha256 != sha256:
        raise InputError(
            f"model {name}", "differs on this worker", "Install the same on all workers"
        )
    return model


def with_threads(settings: Settings, count: int) -> Settings:
    """Settings for ``count`` processes on this machine: each takes its part of the threads."""
    if settings.options.threads is not None:
        return settings
    return replace(settings, options=replace(settings.options, threads=threads_each(count)))
