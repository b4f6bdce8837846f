"""``stroke-lesion-seg info``: what this machine and this installation can do."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..pipeline import software_versions
from .options import prepare
from .progress import print_json

if TYPE_CHECKING:
    from ..models import LoadedModel

_OPTIONAL = ("highdicom", "rich", "nilearn", "matplotlib", "lightning", "dask", "slicer-core")


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "info",
        help="what this machine and installation can do",
        description="Versions, device, memory, models and the time a scan will take.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    prepare(arguments)
    facts = gather(arguments.device)
    if arguments.json:
        print_json(facts)
        return
    for title, content in facts.items():
        if isinstance(content, dict):
            print(f"{title}:")
            for key, value in content.items():
                print(f"  {key:<16}{value}")
        elif isinstance(content, list):
            print(f"{title}:")
            for model in content:
                print(f"  {_in_words(model)}")
        else:
            print(f"{title}: {content}")
    if any("fault" in model for model in facts["models"]):
        print("warning: a model is not sound; see above", file=sys.stderr)


def _in_words(model: dict[str, str]) -> str:
    """A model as a line."""
    name = " ".join(filter(None, (model["name"], model.get("version"))))
    default = " (default)" if "default" in model else ""
    return f"{name}{default}: {model.get('fault') or model['sha256'].replace('ok,', 'ok, SHA-256')}"


def gather(requested: str = "auto") -> dict[str, Any]:
    """All facts, JSON-ready. Raises ``InputError`` for a device that is not there."""
    from ..inference import available_threads, choose_device
    from ..inference.precision import choose_precision, cpu_has_bfloat16
    from ..models import user_models_directory
    from ..models.store import no_home

    device = choose_device(requested)
    precision, why = choose_precision("auto", device)
    models, expected = _models(requested)
    return {
        "versions": {**software_versions(), **_optional_versions()},
        "machine": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "threads used": available_threads(),
            "bfloat16": "native" if cpu_has_bfloat16() else "not native on this CPU",
            "memory": _memory(),
        },
        "inference": {
            "device": f"{device.name} ({device.reason})",
            "precision": f"{precision} ({why})",
            "expected": expected,
        },
        "models": models,
        "model cache": "none: there is no home folder (set STROKE_LESION_SEG_HOME)"
        if no_home()
        else str(user_models_directory()),
    }


def _optional_versions() -> dict[str, str]:
    from importlib import metadata

    versions = {}
    for package in _OPTIONAL:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed (optional)"
    return versions


def _models(device: str) -> tuple[list[dict[str, str]], str]:
    """Each model with the verdict on its checksum, and the expected time of the default one on a
    device."""
    from ..models import find_model, list_models, load_model

    problems: list[InputError] = []
    manifests = list_models(problems)
    lines: list[dict[str, str]] = []
    expected = "no default model, so no estimate"
    try:
        default = find_model(None)
    except InputError:
        default = None
    for manifest in manifests:
        line = {"name": manifest.name, "version": manifest.version}
        assert manifest.directory is not None
        try:
            model = load_model(manifest.directory)
        except InputError as fault:
            line["fault"] = str(fault)
        else:
            line["sha256"] = f"ok, {manifest.sha256}"
            if manifest.directory == default:
                line["default"] = "yes"
                expected = f"{_expected_seconds(model, device):.1f} s of network time for one scan"
        lines.append(line)
    lines += [{"name": problem.where, "fault": str(problem)} for problem in problems]
    return lines, expected


def _expected_seconds(model: LoadedModel, device: str) -> float:
    """Time of the network for one head, measured on the template after a first run."""
    from ..images import MNI_GRID, Volume
    from ..images.space.template import template_head, upsample_linear
    from ..inference import CANONICAL, SegmentOptions, make_predictor
    from ..inference.placing import place

    predictor = make_predictor(model, SegmentOptions(device=device))
    head = Volume(upsample_linear(template_head().array), MNI_GRID.affine)
    seconds = 0.0
    for _ in range(2):  # the first run chooses algorithms and allocates
        prepared = predictor.prepare(place(head, None, CANONICAL))
        started = time.perf_counter()
        predictor.predict(prepared)
        seconds = time.perf_counter() - started
    return seconds


def _memory() -> str:
    """Total and available memory in GiB as far as the system tells without further packages."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total = os.sysconf("SC_PHYS_PAGES") * page / 2**30
    except (AttributeError, OSError, ValueError):  # Windows
        return "unknown"
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * page / 2**30
    except (OSError, ValueError):  # macOS
        return f"{total:.1f} GiB"
    return f"{total:.1f} GiB, {free:.1f} GiB free"
