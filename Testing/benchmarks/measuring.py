"""What every measurement of the side-by-side needs; runs in our environment and in the peers'.

Nothing here imports torch at its top, so that the time of importing it can be measured.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
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
    """A finished process: exit code, wall and processor seconds, largest resident MB, output."""

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
    import tempfile

    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(line, env=env, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        scale = 1 if sys.platform == "darwin" else 1024
        return Run(
            process.returncode,
            wall,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * scale / 1e6,
            out.read(),
            err.read(),
        )


def since_start() -> float:
    """Seconds since the driver started this process."""
    return time.time() - float(os.environ.get(STARTED, time.time()))


def peak_mb() -> float:
    """Largest resident memory of this process so far in MB."""
    try:
        # getrusage would start from the peak of the process that started this one.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def synchronize(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


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
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
