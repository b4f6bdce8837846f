"""The engine in a process of its own, watched by polling: from a QTimer, or in a loop.

The child prints one JSON object a line; everything else it prints is kept as a bounded log. Reader
threads only move lines into queues; no Qt, MRML or callback runs in them, and they get their turns
while somebody polls. Cancel ends the whole process tree at once (PythonSlicer is a launcher with
the real Python below it) and removes the scratch folder. Each run has its own folder, so runs
cannot collide.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..i18n import tr as _
from .child import PARENT, SCRATCH

CHILD_MODULE = "StrokeLesionSegLib.slicerbridge.engine.child"
_PREFIX = "StrokeLesionSeg-"
_LOG_LINES = 200
_LINE_BYTES = 1 << 16
# A cohort of many thousand scans is told in one object.
_OBJECT_BYTES = 1 << 28
_KEPT_LINE = 500
# Slicer's event loop keeps Python's lock (GIL): a thread runs only when the main thread waits in
# Python. So whoever polls gives the threads a turn, too short to be noticed in the GUI.
READERS_TURN_S = 0.002
WORKERS_TURN_S = 0.02


@dataclass(frozen=True)
class Progress:
    """One step: ``stage`` is the engine's word, ``done`` of ``total`` its count (0 if unknown).
    ``facts``: all that the engine says of it."""

    stage: str
    done: int
    total: int
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Failure:
    """Why a run ended without a result, for the user: what, what to do, and the last lines."""

    cause: str
    remedy: str
    lines: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Cause and remedy in one line."""
        return f"{self.cause} {self.remedy}".strip()

    def __str__(self) -> str:
        text = f"{self.cause}\n{self.remedy}"
        if self.lines:
            text += "\n\n" + _("Last lines:") + "\n" + "\n".join(self.lines)
        return text


# (what the log says, what it means, what to do); the first that is found counts.
_KNOWN_FAILURES = (
    (
        ("No module named 'torch'", 'No module named "torch"'),
        _("PyTorch is not installed in this Slicer."),
        _("Open Advanced and press 'Install PyTorch...', or follow the manual's offline page."),
    ),
    (
        ("DLL load failed", "error loading", "undefined symbol", "GLIBC"),
        _("PyTorch is installed but does not load."),
        _("Press 'System check' for details; reinstall it with the PyTorch Utils module."),
    ),
    (
        ("out of memory", "MemoryError", "bad_alloc", "can't allocate memory", "paging file"),
        _("The computer ran out of memory."),
        _("Close other programs, or choose the CPU under Advanced."),
    ),
    (
        ("No space left on device", "Errno 28", "disk full"),
        _("The disk for temporary files is full."),
        _("Free some space, or set another temporary folder in Slicer's application settings."),
    ),
    (
        ("checksum", "sha256"),
        _("The model's file is damaged."),
        _("Install the model again from its file, under Advanced."),
    ),
)


# What a refusal says of options of the command line, and how it is done in the panel.
_OPTIONS = (
    (", or segment it all the same with --force", ""),
    (", or use --force", ""),
    ("--align none takes it as it lies", _("Alignment 'None' under Advanced takes it as it lies")),
)


def in_the_panel(sentence: str) -> str:
    """A refusal of the engine without the options that only the command line has."""
    for option, here in _OPTIONS:
        sentence = sentence.replace(option, here)
    return sentence


def failure_of(error: OSError) -> Failure:
    """What the system said when a file could not be made, read or written, for the user."""
    said = error.strerror or str(error)
    for words, cause, remedy in _KNOWN_FAILURES:
        if any(word in str(error) for word in words):
            return Failure(cause, remedy, ())
    where = f"{error.filename}: " if error.filename else ""
    return Failure(
        f"{where}{said}.", _("Nothing in the scene was changed. Correct this and try again."), ()
    )


def python_executable() -> str:
    """The Python to run the engine with: Slicer's PythonSlicer, or the present interpreter.

    In an installed Slicer PythonSlicer lies in its ``bin`` folder, in a build tree somewhere on the
    PATH. A Slicer that was built with the system's Python has none: then it is the interpreter of
    the same version. Slicer's own executable would open a second Slicer. Raises
    ``FileNotFoundError`` if there is nothing to run the engine with.
    """
    home = _slicer_home()
    if not home:
        return sys.executable
    suffix = ".exe" if os.name == "nt" else ""
    beside = os.path.join(home, "bin", "PythonSlicer" + suffix)
    found = beside if os.path.isfile(beside) else shutil.which("PythonSlicer")
    found = found or _system_interpreter()
    if not found:
        raise FileNotFoundError(f"PythonSlicer is missing from {os.path.join(home, 'bin')}")
    return found


def _slicer_home() -> str:
    """The folder of the Slicer that this is, or an empty string."""
    application = getattr(sys.modules.get("slicer"), "app", None)
    return str(getattr(application, "slicerHome", "") or "")


def _system_interpreter() -> str:
    """The interpreter of the Python library that this process runs on, or an empty string."""
    if os.name == "nt":
        names, folders = ["python.exe"], [sys.exec_prefix, sys.base_exec_prefix]
    else:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        names = [f"python{version}", "python3"]
        folders = [os.path.join(p, "bin") for p in (sys.exec_prefix, sys.base_exec_prefix)]
        folders.append(str(sysconfig.get_config_var("BINDIR") or ""))
    candidates = [os.path.join(folder, name) for folder in folders for name in names]
    own = os.path.basename(sys.executable or "").lower()
    if own.startswith("python") and not own.startswith("pythonqt"):
        candidates.insert(0, sys.executable)
    return next((c for c in candidates if os.path.isfile(c) and os.access(c, os.X_OK)), "")


def temporary_folder() -> str:
    """Where runs keep their files: the folder of Slicer's settings, else the system's."""
    application = getattr(sys.modules.get("slicer"), "app", None)
    folder = getattr(application, "temporaryPath", "")
    usable = folder and os.path.isdir(folder) and os.access(folder, os.W_OK)
    return str(folder) if usable else tempfile.gettempdir()


def engine_environment(extra: Mapping[str, str] | None = None, python: str = "") -> dict[str, str]:
    """The environment of the child: it finds the Lib and speaks UTF-8 whatever the locale.

    ``python``: the interpreter, if it is known; one other than PythonSlicer gets Slicer's paths.
    """
    environment = dict(os.environ)
    lib = str(Path(__file__).resolve().parents[3])
    paths = [lib, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    if _slicer_home() and "PythonSlicer" not in os.path.basename(python):
        # Another interpreter does not know by itself where this Slicer keeps its packages.
        paths += [p for p in sys.path if os.path.exists(p)]
    environment["PYTHONPATH"] = os.pathsep.join(p for p in dict.fromkeys(paths) if p)
    environment.update(PYTHONUTF8="1", PYTHONIOENCODING="utf-8", PYTHONUNBUFFERED="1")
    environment.update(extra or {})
    return environment


def _owner() -> str:
    """How the folders of this process begin; with the computer, for folders that several share."""
    computer = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
    return f"{_PREFIX}{computer}-{os.getpid()}-"


def remove_leftovers() -> list[Path]:
    """Remove the folders of runs whose process is gone without having done so: it crashed, or was
    ended by force, and the image of a patient may lie there. Returns them.

    Folders of other computers, of processes that live and of other users are left alone.
    """
    from .child import alive

    computer = _owner().rsplit("-", 2)[0] + "-"
    removed = []
    for folder in Path(temporary_folder()).glob(f"{computer}*"):
        pid = folder.name[len(computer) :].split("-")[0]
        if not pid.isdigit() or alive(int(pid)):
            continue
        with contextlib.suppress(OSError):
            if os.name != "nt" and folder.lstat().st_uid != os.getuid():
                continue
            if folder.is_symlink() or not folder.is_dir():
                continue
            shutil.rmtree(folder)
            removed.append(folder)
    return removed


class EngineProcess:
    """One run of the command line.

    ``arguments`` are those of the command line (or a whole command with ``whole=True``).
    ``scratch`` is the run's own folder, made here and removed by ``close()`` and ``cancel()``.
    ``result`` is the object with the stage "result", ``document`` the last one without a stage.
    """

    def __init__(
        self,
        arguments: Sequence[str] = (),
        *,
        python: str | None = None,
        environment: Mapping[str, str] | None = None,
        whole: bool = False,
    ) -> None:
        remove_leftovers()
        self.scratch = Path(tempfile.mkdtemp(prefix=_owner(), dir=temporary_folder()))
        self.arguments = list(arguments)
        self.result: dict[str, Any] | None = None
        self.document: dict[str, Any] | None = None
        self.cancelled = False
        self._python = python
        self._environment = environment
        self._whole = whole
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []
        self._events: deque[Progress] = deque(maxlen=1000)
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._closed = False

    # -- life -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start it; raises ``OSError`` if the program cannot be started (scratch is removed)."""
        options: dict[str, Any] = {}
        if os.name == "nt":
            options["creationflags"] = (
                subprocess.CREATE_NO_WINDOW  # type: ignore[attr-defined]
                | subprocess.CREATE_NEW_PROCESS_GROUP  # type: ignore[attr-defined]
            )
        else:
            options["start_new_session"] = True
        try:
            command, python = list(self.arguments), "PythonSlicer"
            if not self._whole:
                python = self._python or python_executable()
                command = [python, "-m", CHILD_MODULE, *command]
            environment = engine_environment(self._environment, python)
            environment[PARENT] = str(os.getpid())
            environment[SCRATCH] = str(self.scratch)
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=self.scratch,
                **options,
            )
        except OSError:
            self.close()
            raise
        for stream, structured in ((self._process.stdout, True), (self._process.stderr, False)):
            assert stream is not None
            thread = threading.Thread(target=self._read, args=(stream, structured), daemon=True)
            thread.start()
            self._threads.append(thread)

    def poll(self) -> list[Progress]:
        """What has been reported since the last call; waits no more than two milliseconds."""
        if self._process is not None:
            self._process.poll()
            if any(t.is_alive() for t in self._threads):
                time.sleep(READERS_TURN_S)
        events = []
        while self._events:
            events.append(self._events.popleft())
        if self.cancelled and not self.running:
            self.close()
        return events

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end (scripts only, never the GUI); raises ``TimeoutError``."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while self.running:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"the engine has not ended within {timeout_s:g} s")
            time.sleep(0.02)
        return self.returncode or 0

    def cancel(self) -> None:
        """End the whole process tree now and remove the scratch folder. May be called twice."""
        if self.running:
            self.cancelled = True
            self._kill_tree()
            # Killed processes go within milliseconds; on a busy computer somebody has to wait.
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert self._process is not None
                self._process.wait(0.15)
            if self.running:
                threading.Thread(target=self._close_when_gone, daemon=True).start()
        if not self.running:
            self.close()

    def _close_when_gone(self) -> None:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(60)
            self.close()

    def close(self) -> None:
        """Remove the scratch folder, once the process has ended; after a cancel that is looked
        after anyway."""
        if self._closed or (self._process is not None and self._process.poll() is None):
            return
        self._closed = True
        for thread in self._threads:
            thread.join(0.2)
        shutil.rmtree(self.scratch, ignore_errors=True)

    # -- state ----------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """True until the process has ended and all it printed has been taken in."""
        if self._process is None:
            return False
        if self._process.poll() is None:
            return True
        return not self.cancelled and any(t.is_alive() for t in self._threads)

    @property
    def returncode(self) -> int | None:
        return None if self._process is None else self._process.returncode

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines that were not progress."""
        return tuple(self._log)

    def failure(self, names: Mapping[str, str] | None = None) -> Failure | None:
        """Why it ended without success; None after success, cancel or while it runs.

        ``names`` replaces paths of scratch files by what the user calls them.
        """
        if self._process is None or self.running or self.cancelled or self.returncode == 0:
            return None
        lines = [line for line in self.log if line.strip()]
        for path, name in (names or {}).items():
            lines = [line.replace(path, name) for line in lines]
        if self.returncode == 2 and lines:
            # The engine's own sentence: file, cause, remedy.
            return Failure(in_the_panel(lines[-1].removeprefix("stroke-lesion-seg: ")), "", ())
        tail = tuple(lines[-12:])
        text = "\n".join(lines)
        for words, cause, remedy in _KNOWN_FAILURES:
            if any(word in text for word in words):
                return Failure(cause, remedy, tail)
        if self.returncode in (-9, 137):
            return Failure(
                _("The system killed the engine, probably out of memory."),
                _("Close other programs and try again."),
                tail,
            )
        return Failure(
            _("The engine stopped unexpectedly (exit code {code}).").format(code=self.returncode),
            _(
                "Nothing in the scene was changed. Try again; if it comes back, press 'System "
                "check' and send its text with the lines below to your support or the project."
            ),
            tail,
        )

    # -- inner ----------------------------------------------------------------------------

    def _read(self, stream: IO[bytes], structured: bool) -> None:
        with contextlib.suppress(ValueError, OSError), stream:
            longest = _OBJECT_BYTES if structured else _LINE_BYTES
            for raw in iter(lambda: stream.readline(longest), b""):
                line = raw.decode("utf-8", errors="replace").rstrip("\r\n")
                if not (structured and self._take(line)):
                    self._log.append(line[:_KEPT_LINE])

    def _take(self, line: str) -> bool:
        if not line.startswith("{"):
            return False
        try:
            message = json.loads(line)
        except ValueError:
            return False
        stage = message.get("stage")
        if stage is None:
            self.document = message  # what a command such as "info --json" prints
        elif stage == "result":
            self.result = message
        else:
            with contextlib.suppress(ValueError, TypeError):
                done, total = int(message.get("done") or 0), int(message.get("total") or 0)
                self._events.append(Progress(str(stage), done, total, message))
        return True

    def _kill_tree(self) -> None:
        process = self._process
        assert process is not None
        if os.name == "nt":
            subprocess.run(
                ["taskkill", "/T", "/F", "/PID", str(process.pid)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                creationflags=subprocess.CREATE_NO_WINDOW,  # type: ignore[attr-defined]
                check=False,
            )
        else:
            # The group outlives its leader as long as a member runs.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            process.kill()
