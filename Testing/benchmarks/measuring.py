"""What every measurement of the side-by-side needs; runs in our environment and in the peers'.

Nothing here imports torch at its top, so that the time of importing it can be measured.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Environment variable with the time at which the driver started a process.
STARTED = "STROKE_LESION_SEG_BENCH_STARTED"


@dataclass(frozen=True)
class Run:
    """A finished process: exit code, wall and processor seconds, peak MB, output.

    The peak is that of the process and all that it started, together: pages that several of them
    share count once (Linux; elsewhere the largest single process).
    """

    code: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    stdout: str
    stderr: str

    def last_json(self) -> dict[str, Any]:
        """The JSON object in the last line of stdout; ``RuntimeError`` if the process failed."""
        if self.code:
            raise RuntimeError(f"exit code {self.code}: {self.stderr.strip()[-2000:]}")
        return json.loads(self.stdout.strip().splitlines()[-1])


def run_process(
    command: Sequence[str | Path],
    environment: dict[str, str] | None = None,
    cpus: Sequence[int] | None = None,
) -> Run:
    """Run ``command`` to its end, on ``cpus`` alone if given (Linux); measured from outside."""
    line = [str(part) for part in command]
    if cpus is not None:
        line = ["taskset", "-c", ",".join(map(str, cpus)), *line]
    env = {**os.environ, **(environment or {}), STARTED: repr(time.time())}
    started = time.perf_counter()
    # Files, not pipes: a pipe that nobody reads would stop the process.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(line, env=env, stdout=out, stderr=err)
        watch = MemoryWatch(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        # The system's own figure starts at the peak of the process that started this one.
        resident = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
        peak = watch.stop() or resident
        out.seek(0)
        err.seek(0)
        return Run(
            process.returncode,
            wall,
            usage.ru_utime + usage.ru_stime,
            peak,
            out.read(),
            err.read(),
        )


class MemoryWatch:
    """Looks at the memory of a process and its descendants until told to stop (Linux)."""

    def __init__(self, pid: int, every_s: float = 0.1) -> None:
        self._pid, self._every, self._peak = pid, every_s, 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Largest MB that was seen; 0 if nothing could be seen."""
        self._ended.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._ended.wait(self._every):
            family = descendants(self._pid)
            if len(family) == 1:  # its own high-water mark, which misses nothing between looks
                now = status_mb(f"/proc/{self._pid}/status", "VmHWM:")
            else:
                now = sum(status_mb(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in family)
            self._peak = max(self._peak, now)


def descendants(pid: int) -> list[int]:
    """``pid`` and every process below it, from /proc; ``pid`` alone where there is no /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything.
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    family = [pid]
    for one in family:
        family += children.get(one, [])
    return family


def status_mb(path: str, key: str) -> float:
    """MB of the line that begins with ``key``; 0 if there is none (any more)."""
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return 0.0


def busy_share(seconds: float = 1.0) -> float | None:
    """Share of all CPUs' time that something used in the next ``seconds``; None without /proc."""

    def ticks() -> tuple[int, int]:
        values = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(values) - values[3] - values[4], sum(values)  # idle, waiting for the disk

    try:
        busy, total = ticks()
        time.sleep(seconds)
        busy_after, total_after = ticks()
    except OSError:
        return None
    return round((busy_after - busy) / max(1, total_after - total), 3)


def since_start() -> float:
    """Seconds since the driver started this process."""
    return time.time() - float(os.environ.get(STARTED, time.time()))


def peak_mb() -> float:
    """Largest resident memory of this process so far in MB."""
    # getrusage would start from the peak of the process that started this one.
    if known := status_mb("/proc/self/status", "VmHWM:"):
        return known
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def synchronize(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def make_context(device: str) -> dict[str, Any]:
    """Start the device before anything is timed; its facts, for the results (none for a CPU)."""
    if device != "cuda":
        return {}
    import torch

    torch.nn.functional.conv2d(*(torch.ones(1, 1, 8, 8, device=device) for _ in range(2)))
    synchronize(device)
    torch.cuda.reset_peak_memory_stats()
    return {"gpu": torch.cuda.get_device_name()}


def gpu_memory(device: str) -> dict[str, Any]:
    """Largest MB of the GPU that tensors held; nothing for a CPU."""
    if device != "cuda":
        return {}
    import torch

    return {"gpu_peak_mb": torch.cuda.max_memory_allocated() / 1e6}


class WorkCounter:
    """Counts the calls of a network and what they are given; multiply-accumulates afterwards."""

    def __init__(self, network: Any) -> None:
        # Shapes without numbers: counting costs no time and no memory.
        self._blank = copy.deepcopy(network).to("meta").float().eval()
        self.parameters = sum(p.numel() for p in network.parameters())
        shapes: Counter[tuple[int, ...]] = Counter()
        self.shapes = shapes

        # A copy of the network, as the engine makes it, keeps the hook; a method would be copied
        # with its object, and count there.
        def seen(module: Any, inputs: tuple[Any, ...]) -> None:
            shapes[tuple(inputs[0].shape)] += 1

        network.register_forward_pre_hook(seen)

    @property
    def calls(self) -> int:
        return sum(self.shapes.values())

    @property
    def items(self) -> int:
        """Slices or patches."""
        return sum(shape[0] * count for shape, count in self.shapes.items())

    def gmac(self) -> float:
        """Multiply-accumulates of all calls in 1e9."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        total = 0
        for shape, count in self.shapes.items():
            counter = FlopCounterMode(display=False)
            with torch.no_grad(), counter:
                self._blank(torch.empty(shape, device="meta"))
            total += count * counter.get_total_flops() // 2
        return total / 1e9


def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine()


def versions(*packages: str) -> dict[str, str]:
    from importlib import metadata

    found = {"Python": sys.version.split()[0]}
    for package in packages:
        try:
            found[package] = metadata.version(package).split("+")[0]
        except metadata.PackageNotFoundError:
            continue
    return found
