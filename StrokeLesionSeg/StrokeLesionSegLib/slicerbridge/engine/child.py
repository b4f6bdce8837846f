"""The command line as Slicer's child: it ends when Slicer is gone.

``python -m StrokeLesionSegLib.slicerbridge.engine.child segment ...`` is the command line, with a
thread that looks for the parent twice a second. If Slicer crashed or was ended by force, nobody
reads the progress any more: the scratch folder is removed and the whole process group ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time

PARENT = "STROKE_LESION_SEG_PARENT"
SCRATCH = "STROKE_LESION_SEG_SCRATCH"
_SYNCHRONIZE = 0x00100000
_WAIT_TIMEOUT = 0x102


def alive(pid: int) -> bool:
    """True if a process of this number runs (or may run: without the right to ask)."""
    if os.name == "nt":
        import ctypes

        kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
        handle = kernel.OpenProcess(_SYNCHRONIZE, False, pid)
        if not handle:
            return False
        try:
            return bool(kernel.WaitForSingleObject(handle, 0) == _WAIT_TIMEOUT)
        finally:
            kernel.CloseHandle(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _leave(scratch: str | None) -> None:
    if scratch:
        shutil.rmtree(scratch, ignore_errors=True)
    # ``EngineProcess`` starts the child in a session of its own. Its leader need not be this
    # Python: PythonSlicer is a launcher above it.
    if os.name != "nt" and os.getpgid(0) == os.getsid(0):
        os.killpg(0, signal.SIGKILL)
    os._exit(3)


def watch(parent: int, scratch: str | None, every_s: float = 0.5) -> None:
    """Return never; end this process once ``parent`` has gone."""
    while alive(parent):
        time.sleep(every_s)
    _leave(scratch)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line with ``arguments``; returns its exit code."""
    parent = os.environ.get(PARENT, "")
    if parent.isdigit():
        threading.Thread(
            target=watch, args=(int(parent), os.environ.get(SCRATCH)), daemon=True
        ).start()
    from ...cli import main as command_line

    return int(command_line(sys.argv[1:] if arguments is None else arguments) or 0)


if __name__ == "__main__":
    from StrokeLesionSegLib.cli import command

    command(main)
