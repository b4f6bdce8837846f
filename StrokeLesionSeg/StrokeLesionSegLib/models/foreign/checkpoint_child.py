"""A process of its own that reads a checkpoint of nnU-Net: the one place that opens a pickle.

    python -m StrokeLesionSegLib.models.foreign.checkpoint_child weights CHECKPOINT TARGET
    python -m StrokeLesionSegLib.models.foreign.checkpoint_child trial   MODEL-DIRECTORY

``weights`` reads CHECKPOINT, torch's zip format only, by torch's restricted reader
(``weights_only``), which makes nothing but tensors, plain containers, and the few numpy types in an
allow-list. A torch before 2.10 is refused: its restricted reader has holes that are known. Should
there be another, an audit hook lets this process open no file for writing but TARGET, and start,
delete, rename and connect to nothing. ``trial`` asks an installed model's network about one window.

The last line on stdout is JSON: what was read, or ``{"error": ..., "remedy": ...}``.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zipfile
from collections.abc import Callable
from typing import Any

LEAST_TORCH = (2, 10)
# A pickled number, with which files of the old format begin.
_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_AGAIN = "Take the model from its publisher again"
# What an audit hook sees of attempts to do more than to read: whole groups, and single events.
_FORBIDDEN_GROUPS = ("subprocess.", "socket.", "shutil.", "ftplib.", "smtplib.", "winreg.", "pty.")
_FORBIDDEN = {
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "os.chown", "os.kill", "os.killpg", "os.putenv", "os.unsetenv", "os.setxattr",
    "os.utime", "ctypes.dlopen", "ctypes.dlsym", "code.__new__", "urllib.Request",
}  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Refused(Exception):
    """Why there is no result; ``remedy``: what to do about it."""

    def __init__(self, cause: str, remedy: str = _AGAIN) -> None:
        super().__init__(cause)
        self.remedy = remedy


def write_only(target: str) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that stops whatever would write to anything but ``target``."""
    allowed = os.path.realpath(target)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _FORBIDDEN or event.startswith(_FORBIDDEN_GROUPS):
            raise PermissionError(f"{event} is not allowed here")
        if event != "open":
            return
        path, mode, flags = (*arguments, None, None, None)[:3]
        writes = bool(set(mode or "") & set("wax+")) or bool((flags or 0) & _WRITING)
        if writes and (not isinstance(path, str) or os.path.realpath(path) != allowed):
            raise PermissionError(f"writing to {path!r} is not allowed here")

    return hook


def torch_version(text: str) -> tuple[int, ...]:
    """Major and minor of a version: "2.10.1" to (2, 10)."""
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in text.split(".")[:2])


def allowed_types() -> list[Any]:
    """What a checkpoint of nnU-Net holds besides tensors: numpy's numbers, in its log."""
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    # numpy 2 renamed the module that files name.
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    kinds = {type(np.dtype(code)) for code in ("f8", "f4", "f2", "i8", "i4", "u1", "?")}
    return [*((scalar, name) for name in names), np.dtype, *sorted(kinds, key=str)]


def read_checkpoint(path: str) -> dict[str, Any]:
    """The checkpoint's content. Raises ``Refused``."""
    import torch

    if torch_version(torch.__version__) < LEAST_TORCH:
        raise Refused(
            f"torch {torch.__version__} reads checkpoints with known security holes",
            "Install torch 2.10 or newer to import this model",
        )
    with open(path, "rb") as file:
        if file.read(len(_BEFORE_1_6)) == _BEFORE_1_6:
            raise Refused(
                "the checkpoint is in the format that torch had before 1.6, which is not read",
                "Load and save it again with a newer torch, where you trust it",
            )
    if not zipfile.is_zipfile(path):
        raise Refused("the checkpoint is not in torch's zip format, or it is cut short")
    try:
        with torch.serialization.safe_globals(allowed_types()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        text = str(error)
        for mark in ("Unsupported global: GLOBAL ", "Unsupported class "):
            if mark in text:
                name = text.split(mark, 1)[1].split()[0].strip("'\"`,.")
                raise Refused(
                    f"the checkpoint wants code to be run ({name}), not only weights to be read"
                ) from error
        if "Weights only load failed" in text:
            raise Refused("the checkpoint holds more than weights, which is not read") from error
        first = text.strip().splitlines()[0][:120] if text.strip() else type(error).__name__
        raise Refused(f"the checkpoint cannot be read ({first})") from error
    if not isinstance(content, dict) or not isinstance(content.get("network_weights"), dict):
        raise Refused("the checkpoint is none of nnU-Net v2 (no network_weights)")
    return content


def convert(checkpoint: str, target: str) -> dict[str, Any]:
    """Write the network's tensors to ``target`` as safetensors; returns what is known besides."""
    import torch

    from ...networks.foreign_names import nnunet_tensors
    from ..safetensors_io import serialize_safetensors

    sys.addaudithook(write_only(target))
    content = read_checkpoint(checkpoint)
    tensors = {}
    for name, value in nnunet_tensors(content["network_weights"]).items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise Refused("the checkpoint's weights are not tensors by name")
        if name.endswith("num_batches_tracked"):
            continue
        tensors[name] = value.float() if value.is_floating_point() else value
        if value.is_floating_point() and not torch.isfinite(tensors[name]).all():
            raise Refused(f"the checkpoint's tensor {name} holds values that are not finite")
    with open(target, "wb") as out:
        out.write(serialize_safetensors(tensors))
    axes = content.get("inference_allowed_mirroring_axes")
    return {
        "trainer": str(content.get("trainer_name", "")),
        "mirror_axes": [int(n) for n in axes] if isinstance(axes, (list, tuple)) else [],
    }


def trial(directory: str) -> dict[str, Any]:
    """Ask the first network of an installed model about one window of noise: seconds and memory."""
    import torch

    from ...networks.joined_up import ready_to_ask
    from ..load import load_directory

    model = load_directory(directory)
    settings = model.manifest.windows
    if settings is None:
        raise Refused("the model has no windows")
    window = torch.randn(1, 1, *settings.patch, generator=torch.Generator().manual_seed(0))
    seconds = []
    channels_last = torch.channels_last if window.ndim == 4 else torch.channels_last_3d
    network: Any = ready_to_ask(model.network, len(settings.patch))
    with torch.inference_mode():
        for _ in range(2):
            started = time.perf_counter()
            logits = network(window.to(memory_format=channels_last))
            seconds.append(time.perf_counter() - started)
    wanted = (1, settings.classes, *settings.patch)
    if tuple(logits.shape) != wanted:
        raise Refused(f"plans and weights do not fit: {tuple(logits.shape)} is not {wanted}")
    if not torch.isfinite(logits).all():
        raise Refused("the network answers with values that are not finite")
    return {
        "seconds": min(seconds),
        "threads": torch.get_num_threads(),
        "peak_mb": (_peak_bytes() or 0) / 1e6,
    }


def _peak_bytes() -> int | None:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next(
                (int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")), None
            )
    except OSError:
        return None


def main(arguments: list[str]) -> int:
    """See above; 0 if there is a result, 2 if not."""
    from ...errors import InputError

    try:
        actions: dict[str, Callable[..., dict[str, Any]]] = {"weights": convert, "trial": trial}
        what = actions[arguments[0]]
        result = what(*arguments[1:])
    except Refused as error:
        print(json.dumps({"error": str(error), "remedy": error.remedy}))
        return 2
    except OSError as error:
        cause = f"the model cache cannot be written ({error.strerror or error})"
        remedy = "Free space, or set STROKE_LESION_SEG_HOME to another disk"
        print(json.dumps({"error": cause, "remedy": remedy}))
        return 2
    except MemoryError:
        print(json.dumps({"error": "needs more memory than is free", "remedy": "Close programs"}))
        return 2
    except InputError as error:
        cause = error.cause.replace("the weights do not fit", "plans and weights do not fit")
        print(json.dumps({"error": cause, "remedy": _AGAIN}))
        return 2
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
