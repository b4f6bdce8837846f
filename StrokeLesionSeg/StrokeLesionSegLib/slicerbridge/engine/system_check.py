"""What a help desk wants to know, as text to copy; no names of patients, users or folders."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from ... import __version__
from ..engine_words import said
from ..i18n import tr as _
from .process import temporary_folder
from .torch_setup import package_versions, torch_state


def local_report() -> dict[str, str]:
    """What can be said without starting anything: versions, space, the PyTorch extension."""
    report = {
        "StrokeLesionSeg": __version__,
        "Slicer": _slicer_version(),
        "System": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "Python": platform.python_version(),
    }
    report.update(package_versions())
    state = torch_state()
    report["torch"] = state.version if state.installed else "not installed"
    report["PyTorch extension"] = "installed" if _has_module("PyTorchUtils") else "not installed"
    free = shutil.disk_usage(temporary_folder()).free / 2**30
    report["Free temporary disk"] = f"{free:.1f} GiB" + ("" if free > 2 else " (too little)")
    return report


def report_text(
    local: dict[str, str],
    engine: dict[str, Any] | None,
    problem: str = "",
    log: tuple[str, ...] = (),
) -> str:
    """The whole report. ``engine`` is the object that ``info --json`` printed, or None with the
    ``problem`` that kept it from doing so; ``log`` are the last lines of the last run."""
    lines = ["StrokeLesionSeg system check", ""]
    lines += [f"{key}: {value}" for key, value in local.items()]
    if engine is not None:
        lines += ["", "Engine in its own process: works"]
        lines += _flat(engine)
    else:
        lines += ["", "Engine in its own process: DOES NOT WORK", problem or "no answer"]
    if log:
        lines += ["", "Last lines of the last run:", *log[-20:]]
    return anonymous("\n".join(lines))


def device_line(engine: dict[str, Any] | None) -> str:
    """Device, precision and expected time, each with the engine's reason, for the panel."""
    inference = (engine or {}).get("inference") or {}

    def with_reason(text: str) -> str:
        """``cpu (asked for)``: the name stays, the reason is translated."""
        name, _bracket, reason = text.removesuffix(")").partition(" (")
        return f"{name} ({said(reason)})" if reason else said(text)

    parts = [
        f"{title}: {with_reason(str(inference[key]))}"
        for key, title in (
            ("device", _("Device")),
            ("precision", _("Precision")),
            ("expected", _("Expected time")),
        )
        if inference.get(key)
    ]
    return "\n".join(parts)


def expected_seconds(engine: dict[str, Any] | None) -> float | None:
    """Time of the network for one scan, as the engine measured it; None if it did not."""
    said = str(((engine or {}).get("inference") or {}).get("expected", ""))
    number = said.split(" s ")[0]
    return float(number) if number.replace(".", "", 1).isdigit() else None


def anonymous(text: str) -> str:
    """``text`` with the home and temporary folders and the user's name in paths replaced."""
    for path, short in (
        (str(Path.home()), "~"),
        (temporary_folder(), "<temporary>"),
        (os.path.realpath(tempfile.gettempdir()), "<temporary>"),
        (tempfile.gettempdir(), "<temporary>"),
    ):
        if len(path) > 3:
            text = text.replace(path, short)
    return text


def _flat(content: Any, prefix: str = "") -> list[str]:
    if isinstance(content, dict):
        lines = []
        for key, value in content.items():
            lines += _flat(value, f"{prefix}{key}" + ("." if isinstance(value, dict) else ""))
        return lines
    if isinstance(content, list):
        return [line for item in content for line in _flat(item, prefix + " ")]
    return [f"{prefix}: {content}"]


def _slicer_version() -> str:
    slicer = sys.modules.get("slicer")
    application = getattr(slicer, "app", None)
    version = getattr(application, "applicationVersion", "")
    revision = getattr(application, "revision", "")
    return f"{version} {revision}".strip() or "not running in Slicer"


def _has_module(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None
