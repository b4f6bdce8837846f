"""Which device runs the network, with how many threads, and how those threads wait.

Nothing here imports torch before it has to: ``prepare_environment`` must come first.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import InputError
from .options import DEVICES

if TYPE_CHECKING:
    import torch

    from ..models import LoadedModel
    from .options import SegmentOptions

T = TypeVar("T")

#: Number of CPU threads, set by the user; goes before everything but ``SegmentOptions.threads``.
THREADS_VARIABLE = "STROKE_LESION_SEG_THREADS"

# OpenMP threads wait busily by default: with another program on one of two cores that costs more
# than half of the speed. GOMP_SPINCOUNT is libgomp's (torch for Linux), KMP_BLOCKTIME that of
# LLVM's and Intel's OpenMP (macOS, conda, Windows).
_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}

# Numbers in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# More than all activations of a batch, and than a volume.
_KEPT_BYTES = 512 << 20
_MOST_OF_OLD_GLIBC = 32 << 20
# Where everything is given back, blocks from this size on are.
_GIVEN_BACK_BYTES = 1 << 20

# Whether freed memory is kept in this process, and what lies between blocks in use with it.
_keeps_freed = False
_keeps_gaps = False


@dataclass(frozen=True)
class Device:
    """A device for torch (``name``: "cpu", "cuda" or "mps") and why it was taken, in words.

    Examples
    --------
    >>> from StrokeLesionSegLib.inference import Device
    >>> Device("cuda", "asked for").is_gpu
    True
    """

    name: str
    reason: str

    @property
    def is_gpu(self) -> bool:
        return self.name != "cpu"


def prepare_environment(environ: MutableMapping[str, str] | None = None) -> None:
    """Let OpenMP's threads sleep when they wait, and let ITK use no more threads than we may.

    Works only if called before torch and SimpleITK are first imported, and harms nothing after.
    Variables that the user has set are left alone. ``environ`` is ``os.environ`` unless given;
    without it freed memory is kept too (:func:`keep_freed_memory`).

    Examples
    --------
    >>> from StrokeLesionSegLib.inference import prepare_environment
    >>> environment = {"OMP_WAIT_POLICY": "ACTIVE"}
    >>> prepare_environment(environment)
    >>> environment["OMP_WAIT_POLICY"]
    'ACTIVE'
    """
    if environ is None:
        environ = os.environ
        keep_freed_memory()
    if not environ.keys() & _PASSIVE.keys():
        environ.update(_PASSIVE)
    environ.setdefault(
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", str(available_threads(environ=environ))
    )


def choose_device(requested: str = "auto") -> Device:
    """The device for ``requested`` ("auto", "cpu", "cuda" or "mps").

    Raises ``InputError`` if a GPU is asked for that torch cannot use here.

    Examples
    --------
    >>> from StrokeLesionSegLib.inference import choose_device
    >>> choose_device("cpu")
    Device(name='cpu', reason='asked for')
    """
    if requested not in DEVICES:
        raise InputError(f"device {requested!r}", "there is no such device", "Use auto")
    if requested == "cpu":
        return Device("cpu", "asked for")
    if requested == "auto":
        name, fact = _cuda()
        if fact is None:
            name, fact = _mps()
        if fact is None:
            return Device("cpu", f"no GPU that torch can use ({_why_not('cuda')})")
        return Device(name, f"{fact}, found by itself")
    name, fact = _cuda() if requested == "cuda" else _mps()
    if fact is None:
        raise InputError(
            f"device {requested}",
            f"torch cannot use it here ({_why_not(requested)})",
            "Use auto or cpu, or install a torch and a driver that support it",
        )
    return Device(name, f"{fact}, asked for")


def _cuda() -> tuple[str, str | None]:
    import torch

    try:
        if torch.cuda.is_available():
            return "cuda", torch.cuda.get_device_name(0)
    except (RuntimeError, AssertionError):  # a driver that is there but broken
        pass
    return "cuda", None


def _mps() -> tuple[str, str | None]:
    import torch

    backend = getattr(torch.backends, "mps", None)
    return "mps", "Apple GPU" if backend is not None and backend.is_available() else None


def _why_not(name: str) -> str:
    import torch

    if name == "mps":
        return "not an Apple computer with Metal, or a torch without it"
    built = torch.version.cuda or getattr(torch.version, "hip", None)
    if built is None:
        return f"torch {torch.__version__} is built without CUDA"
    return f"torch is built for CUDA {built}, but no driver or device answers"


def available_threads(
    requested: int | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    root: Path = Path("/"),
) -> int:
    """How many CPU threads this process should use; at least 1.

    ``requested`` decides, else ``STROKE_LESION_SEG_THREADS``, else ``OMP_NUM_THREADS``; else the
    smallest of: CPU quota of the control group (v1 or v2, rounded up), the CPUs this process may
    run on, and physical cores (two threads on one core share its arithmetic units and are slower
    than one). ``root`` stands for ``/`` in tests.

    Examples
    --------
    >>> from StrokeLesionSegLib.inference import available_threads
    >>> available_threads(4)
    4
    >>> available_threads(environ={"OMP_NUM_THREADS": "2"})
    2
    """
    if requested is not None:
        return max(1, int(requested))
    environ = os.environ if environ is None else environ
    for name in (THREADS_VARIABLE, "OMP_NUM_THREADS"):
        # OMP_NUM_THREADS may be a list, one entry a nesting level.
        first = environ.get(name, "").split(",")[0].strip()
        if first.isdigit() and int(first) > 0:
            return int(first)
    allowed = _affinity()
    counts = [os.cpu_count() or 1, len(allowed) if allowed else 0, _cores(allowed, root)]
    quota = cgroup_cpu_quota(root)
    if quota is not None:
        counts.append(max(1, math.ceil(quota - 1e-6)))
    return max(1, min(count for count in counts if count > 0))


def _affinity() -> frozenset[int]:
    """The CPUs this process may run on; empty where the system does not say."""
    try:
        return frozenset(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS, Windows
        return frozenset()


def _cores(allowed: frozenset[int], root: Path) -> int:
    """Physical cores among the ``allowed`` CPUs (Linux); 0 if unknown."""
    siblings = set()
    for cpu in allowed:
        text = _read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        if text is None:
            return 0
        siblings.add(text)
    return len(siblings)


def cgroup_cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs that the control groups of this process allow, as a fraction; None if unlimited.

    Reads cgroup v2 (``cpu.max``) and v1 (``cpu.cfs_quota_us``); every group on the way up to the
    root may limit, so the smallest counts. ``root`` stands for ``/``.
    """
    groups = _read(root / "proc/self/cgroup") or ""
    quotas: list[float] = []
    for line in groups.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            for folder in _upwards(root / "sys/fs/cgroup", path):
                quotas += _ratio(*(_read(folder / "cpu.max") or "").split()[:2])
        elif "cpu" in controllers.split(","):
            for mount in (controllers, "cpu"):
                for folder in _upwards(root / "sys/fs/cgroup" / mount, path):
                    quotas += _ratio(
                        _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
                    )
    return min(quotas, default=None)


def _upwards(mount: Path, path: str) -> list[Path]:
    # In a container the path may be the host's, which the mount does not show: its root then
    # is the container's own group, and that is in the list too.
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _ratio(quota: str | None = None, period: str | None = None) -> list[float]:
    try:
        limit, length = float(quota or "max"), float(period or 100_000)
    except ValueError:  # "max": unlimited
        return []
    return [limit / length] if limit > 0 and length > 0 else []


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def keep_freed_memory(environ: Mapping[str, str] | None = None) -> bool:
    """Let the C library keep freed blocks for the next layer instead of giving them back.

    glibc gives a freed block of more than some megabytes back to the system, and takes the next
    one from it page by page, each of them zeroed: about a fifth of a network's time goes there,
    and a good part of every operation on whole volumes. This is a setting of the process, so it
    is for processes of our own, and for nothing but glibc (Linux). ``MALLOC_`` variables of the
    user's go before. Returns whether it was set.
    """
    mallopt = _mallopt(environ)
    if mallopt is None:
        return False
    # One heap for all threads: heaps of their own are cut into pieces of 64 MB, of which a volume
    # fills a half, and gaps in one are of no use to another.
    mallopt(_M_ARENA_MAX, 1)
    # glibc refuses a mapping threshold above a bound of its own (32 MB before 2.35).
    kept = mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES) or mallopt(_M_MMAP_THRESHOLD, _MOST_OF_OLD_GLIBC)
    # Trimming is another matter: freed blocks below the threshold should stay in any case.
    trimmed = mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    global _keeps_freed
    _keeps_freed = bool(kept and trimmed)
    return _keeps_freed


def give_back_freed_memory(environ: Mapping[str, str] | None = None) -> bool:
    """Let the C library give every freed block of a megabyte back to the system at once.

    The other way round from :func:`keep_freed_memory`, for training: a step's arrays have so many
    sizes and lives that kept blocks fit no later one, and resident memory creeps up to twice what
    is in use. Fetching fresh pages for each array costs time, half of it if they are small ones:
    large pages are asked for, which torch heeds if this comes before its first array. Returns
    whether it was set.
    """
    mallopt = _mallopt(environ)
    if mallopt is None:
        return False
    global _keeps_freed
    _keeps_freed = False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_TRIM_THRESHOLD, _GIVEN_BACK_BYTES)
    # Once set, glibc no longer raises it by itself, as it does after the first large block.
    return bool(mallopt(_M_MMAP_THRESHOLD, _GIVEN_BACK_BYTES))


def _mallopt(environ: Mapping[str, str] | None) -> Callable[[int, int], int] | None:
    """glibc's; None for another C library, and where the user has set it by ``MALLOC_``."""
    environ = os.environ if environ is None else environ
    if not sys.platform.startswith("linux") or any(n.startswith("MALLOC_") for n in environ):
        return None
    import ctypes

    try:
        return ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return None


def release_gaps(*, always: bool = False) -> None:
    """Give freed memory back to the system where this process keeps it; else there is none.

    For the moments before much is taken: what was freed until then lies in gaps that are too small.
    Not within :func:`keeping_gaps`, unless ``always``.
    """
    if _keeps_freed and (always or not _keeps_gaps):
        _trim()


@contextmanager
def keeping_gaps() -> Iterator[None]:
    """Within it :func:`release_gaps` gives nothing back: for scan after scan.

    The next head's blocks are as large as this one's and fit into its gaps; to fetch their pages
    anew takes an eighth of a cohort's time. One scan alone would need a tenth more for nothing.

    Examples
    --------
    >>> from StrokeLesionSegLib.inference.device import keeping_gaps
    >>> with keeping_gaps():
    ...     pass
    """
    global _keeps_gaps
    before = _keeps_gaps
    _keeps_gaps = True
    try:
        yield
    finally:
        _keeps_gaps = before


def release_freed_memory() -> bool:
    """Give freed memory back to the system now; True if something was given back.

    For long runs under :func:`keep_freed_memory`: scans of different sizes, in several threads,
    leave gaps that fit no later one, and resident memory would creep up. glibc (Linux) only.
    """
    return _trim()


def _trim() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError):  # another C library
        return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whichever device."""
    import torch

    known = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
    if isinstance(error, (MemoryError, known)):
        return True
    # The CPU's allocator, MPS and cuDNN raise plain RuntimeErrors.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in text
        for sign in ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")
    )


class OnDevice:
    """What runs the network of ``model`` on a ``device``, and on the CPU after ``to_cpu``.

    ``options``: with what they leave open as the model recommends. ``_precision``: the number
    format that is asked for. ``_placed_network``: the network on the device, once it is there.
    """

    def __init__(self, model: LoadedModel, options: SegmentOptions) -> None:
        self.model = model
        self.options = options.for_model(model.manifest)
        self.device = choose_device(options.device)
        self._precision = self.options.precision
        self._placed_network: torch.nn.Module | None = None

    def to_cpu(self, device: Device) -> None:
        """From now on the network runs there; in the number format that was asked for, if a CPU
        has it."""
        self.device, self._placed_network = device, None
        self.model.network.to(device.name)
        if self._precision == "float16":
            self._precision = "auto"


def or_on_cpu(runs: OnDevice, do: Callable[[], T]) -> tuple[T, tuple[str, ...]]:
    """What ``do`` gives: once more, on the CPU, where the memory of a GPU does not suffice, and
    then a warning."""
    try:
        return do(), ()
    except (MemoryError, RuntimeError) as error:
        if not (runs.device.is_gpu and is_out_of_memory(error)):
            raise
    # Only here nothing of the error holds the GPU's memory any more.
    name = runs.device.name
    runs.to_cpu(Device("cpu", f"{name} ran out of memory"))
    if name == "cuda":
        import torch

        torch.cuda.empty_cache()
    return do(), (f"Memory ran out on {name}; the CPU goes on.",)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run torch with ``count`` CPU threads, and restore its setting (it is the process's)."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def peak_memory_bytes() -> int | None:
    """Largest resident memory of this process so far in bytes; None where it is not known."""
    # Linux: getrusage would start from the peak of the process that started this one.
    for line in (_read(Path("/proc/self/status")) or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else peak * 1024
