"""One batch at a time in an output folder.

``logs/batch.lock`` says who works there. The operating system's lock on that file decides between
processes of one machine, and goes away with its owner however that ends. Between machines, where
a network file system may not carry such locks, the owner's heartbeat decides: it touches the file
every few seconds, and a lock whose heart has stopped is taken over. A batch that was only asleep
finds another's name in the file when it wakes, and stops. Where only the name decides, it is
written, and counts if it is still there a moment later.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..outputs import os_input_error, read_json_object

LOCK_NAME = Path("logs", "batch.lock")
HEARTBEAT_S = 15.0
#: How long a name has to stay in the file where the system's lock does not decide.
SETTLE_S = 2.0
#: A lock of another machine that was not touched for so long belongs to nobody.
STALE_S = 120.0


class FolderLock:
    """Context manager that holds the lock of the output folder ``out`` for the batch ``run``.

    Entering raises ``InputError`` that names the owner if another batch works there.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.cohort import FolderLock
    >>> with FolderLock(Path("out"), "run 1") as lock:
    ...     lock.is_lost()
    False
    """

    def __init__(self, out: Path, run: str) -> None:
        self.path = out / LOCK_NAME
        self._run = run
        self._descriptor = -1
        self._stop = threading.Event()
        self._heart: threading.Thread | None = None

    def __enter__(self) -> FolderLock:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
            self._descriptor = os.open(self.path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            raise os_input_error(error, self.path) from error
        try:
            self._take()
        except BaseException:
            os.close(self._descriptor)
            raise
        self._heart = threading.Thread(target=self._beat, name="lock heartbeat", daemon=True)
        self._heart.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._heart is not None:
            self._heart.join()
        owner = read_owner(self.path)
        if owner is not None and owner.get("run") == self._run:
            with contextlib.suppress(OSError):
                # Emptied, not removed: another batch may have opened it and be about to lock it.
                os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)  # gives the system's lock back

    def check(self) -> None:
        """Raise ``InputError`` if another batch has taken the folder over meanwhile."""
        if self.is_lost():
            raise taken_over(self.path.parent.parent)

    def is_lost(self) -> bool:
        """Whether another batch has written its name into the lock."""
        owner = read_owner(self.path)
        return owner is not None and owner.get("run") != self._run

    def _take(self) -> None:
        owner = read_owner(self.path)
        locked = _lock(self._descriptor)
        if locked is False:
            raise self._taken(owner)
        if locked is None and owner is not None and _alive(owner):
            raise self._taken(owner)
        if owner is not None and owner.get("host") != platform.node():
            age = self._age()
            if age < STALE_S:
                raise self._taken(owner, f"; its last sign of life is {age:.0f} s old")
        text = json.dumps(
            {
                "run": self._run,
                "pid": os.getpid(),
                "host": platform.node(),
                "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
        )
        try:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, text.encode())
            os.fsync(self._descriptor)
        except OSError as error:
            raise os_input_error(error, self.path) from error
        if locked is None or (owner is not None and owner.get("host") != platform.node()):
            time.sleep(SETTLE_S)
            winner = read_owner(self.path)
            if winner is None or winner.get("run") != self._run:
                raise self._taken(winner)

    def _taken(self, owner: dict[str, Any] | None, note: str = "") -> InputError:
        who = "another batch"
        if owner is not None:
            who += " (process {pid} on {host}, since {since})".format(
                **{key: owner.get(key, "unknown") for key in ("pid", "host", "since")}
            )
        return InputError(
            self.path.parent.parent,
            f"{who} is writing there{note}",
            "Wait until it has ended, stop it, or give another output folder",
        )

    def _age(self) -> float:
        """Seconds since the last heartbeat by the file system's own clock."""
        probe = self.path.with_name(f".{self._run}.clock")
        try:
            probe.write_bytes(b"")
            now = probe.stat().st_mtime
            return max(0.0, now - os.fstat(self._descriptor).st_mtime)
        except OSError as error:
            raise os_input_error(error, probe) from error
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S) and not self.is_lost():
            with contextlib.suppress(OSError):
                os.utime(self.path)


class Superseded:
    """Asks now and then whether the batch ``run`` still owns its output folder.

    For those who do not hold the lock themselves: a worker outlives a coordinator that was killed;
    it must not write over what a later batch, perhaps with other settings, has written.
    """

    def __init__(self, out: Path, run: str) -> None:
        self._path = out / LOCK_NAME
        self._run = run
        self._asked = float("-inf")

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._asked < 1.0:
            return False
        self._asked = now
        owner = read_owner(self._path)
        return owner is not None and owner.get("run") != self._run


def taken_over(out: Path) -> InputError:
    """What a batch says that has lost its output folder."""
    return InputError(out, "another batch has taken over the output folder", "Stop one of the two")


def read_owner(path: Path) -> dict[str, Any] | None:
    """Who holds or held the lock file ``path``; None if it is free or cannot be read."""
    return read_json_object(path) or None


def _alive(owner: dict[str, Any]) -> bool:
    """Whether the owner is a living process of this machine."""
    if owner.get("host") != platform.node() or os.name != "posix":
        return False
    try:
        os.kill(int(owner["pid"]), 0)
    except PermissionError:
        return True
    except (OSError, KeyError, ValueError, TypeError, OverflowError):
        return False
    return True


def _lock(descriptor: int) -> bool | None:
    """Take the system's lock: True; False if somebody has it; None if there are no locks here."""
    try:
        import fcntl
    except ImportError:
        return _lock_windows(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            return False
        return None  # some network file systems know no locks
    return True


def _lock_windows(descriptor: int) -> bool:
    import msvcrt

    # Windows' locks are mandatory, so a byte far behind the text is locked.
    os.lseek(descriptor, 1 << 20, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return True
