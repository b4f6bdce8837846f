"""``python -m MODULE`` and ``python -c CODE`` in a process that is forked from one with torch
imported.

To import torch and what goes with it is most of what a small run of the command line costs. Here a
run is a process of its own all the same, with its environment, signals, streams and exit code, and
with our own modules imported anew; only those of others are there already. That a new interpreter
can be started, and what it imports, is asked by tests that start one.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import IO, Any

_context = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
_PRELOADED = ["numpy", "scipy.ndimage", "scipy.spatial", "SimpleITK", "torch", "nibabel"]
# For trainings, where the tests here have some.
_OF_TRAININGS = ["lightning.pytorch", "torch._dynamo"]


def _become(
    what: str,
    source: str,
    arguments: list[str],
    environment: dict[str, str],
    folder: str | None,
    own_session: bool,
    streams: tuple[Connection, Connection],
    ready: Connection,
) -> None:
    """Be the interpreter that was asked for, to its end."""
    gc.freeze()  # what is there already stays: it need not be gone through for garbage
    if own_session:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in zip((1, 2), streams, strict=True):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )
    os.environ.clear()
    os.environ.update(environment)
    if folder is not None:
        os.chdir(folder)
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [os.getcwd(), *filter(None, paths)]
    sys.argv = [source if what == "-m" else what, *arguments]
    ready.send(True)
    ready.close()
    code = 0
    try:
        if what == "-m":
            runpy.run_module(source, run_name="__main__", alter_sys=True)
        else:
            exec(compile(source, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


class Popen:
    """As ``subprocess.Popen`` of ``[sys.executable, "-m", MODULE, ...]``, or ``"-c", CODE``, with
    piped streams and nothing to read."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        text: bool = False,
        start_new_session: bool = False,
        stdin: int | None = None,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
    ) -> None:
        assert _can_be_forked(command), command
        assert stdout == stderr == subprocess.PIPE
        self.args = list(command)
        trainings = _OF_TRAININGS if "lightning" in sys.modules else []
        _context.set_forkserver_preload([*_PRELOADED, *trainings])
        pipes = [_context.Pipe(duplex=False) for _ in range(3)]
        given = dict(os.environ if env is None else env)
        self._process = _context.Process(
            target=_become,
            args=(
                command[1],
                command[2],
                list(command[3:]),
                given,
                None if cwd is None else os.fspath(cwd),
                start_new_session,
                (pipes[0][1], pipes[1][1]),
                pipes[2][1],
            ),
        )
        self._one_asks = threading.Lock()
        self._process.start()
        for _, theirs in pipes:
            theirs.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        with contextlib.suppress(EOFError):
            pipes[2][0].recv()
        self.stdout: IO[Any] = _reading(pipes[0][0], text)
        self.stderr: IO[Any] = _reading(pipes[1][0], text)

    @property
    def returncode(self) -> int | None:
        # The code can be read once: a second thread that asks meanwhile would find an end.
        with self._one_asks:
            return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.005)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[Any, Any]:
        end = None if timeout is None else time.monotonic() + timeout
        said: dict[str, Any] = {}
        threads = [
            threading.Thread(target=lambda n=name: said.update({n: getattr(self, n).read()}))
            for name in ("stdout", "stderr")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
            if thread.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(None if end is None else max(0.1, end - time.monotonic()))
        self.stdout.close()
        self.stderr.close()
        return said["stdout"], said["stderr"]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Subprocess:
    """To stand where a module has its ``subprocess``: its Pythons are forked."""

    DEVNULL, PIPE, TimeoutExpired = subprocess.DEVNULL, subprocess.PIPE, subprocess.TimeoutExpired

    @staticmethod
    def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """With ``text`` and ``capture_output``, as those who use it ask for."""
        if not (_can_be_forked(command) and hasattr(os, "fork")):
            return subprocess.run(command, **options)
        assert options["text"]
        assert options["capture_output"]
        process = Popen(command, env=options.get("env"), text=True)
        said = process.communicate(options.get("timeout"))
        return subprocess.CompletedProcess(command, process.wait(), *said)

    @staticmethod
    def Popen(command: Sequence[str], **options: Any) -> Any:
        forked = _can_be_forked(command) and hasattr(os, "fork")
        return (Popen if forked else subprocess.Popen)(command, **options)


def _can_be_forked(command: Sequence[str]) -> bool:
    return command[0] == sys.executable and command[1] in ("-m", "-c")


def _reading(connection: Connection, text: bool) -> IO[Any]:
    number = os.dup(connection.fileno())
    connection.close()
    return open(number, encoding="utf-8") if text else open(number, "rb")
