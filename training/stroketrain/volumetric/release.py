"""A release out of a run: a tail with a falling rate on a copy, an operating point, a model.

The run itself is left as it is, and may go on meanwhile.
"""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.learning.checkpoint import STATE, TrainingProgress, load_run, take_saved
from StrokeLesionSegLib.models.manifest import check_name_option
from StrokeLesionSegLib.networks.volumetric import INPUTS, VolumetricUNet
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.outputs import os_input_error, read_json_object, write_json_object
from torch import nn

from ..made_of import keep_made_of
from .calibrate import Answer, fit_calibration
from .heads import HeadFolder
from .trainer import TrainOptions, train
from .validation import ScanScore, find, measure, score, summary, validation_scans

CHANNELS = (
    "t1",
    "t1_mirror",
    "template",
    "click_positive",
    "click_negative",
    "previous_probability",
)
# The run that a tail was cut from, and the step and second of it.
_TAIL = "tail.json"
# What is tried; the second threshold is what a lesion has to reach somewhere.
POINTS = tuple(
    OperatingPoint(low, high, ml, mean)
    for low in (0.2, 0.3, 0.4, 0.5)
    for high in (0.5, 0.6, 0.7, 0.8, 0.9)
    for ml in (0.1, 0.3)
    for mean in (0.0, 0.4)
    if high > low
)


@dataclass(frozen=True)
class ReleaseOptions:
    """``minutes`` of the tail, 0 for none. ``empty``: share of healthy scans that has to stay
    exactly empty. ``threshold``: fixes the first threshold, where real patients ask for another
    than simulated ones."""

    name: str
    version: str
    minutes: float = 30.0
    empty: float = 0.95
    threshold: float | None = None
    title: str = "Volumetric residual U-Net, simulated strokes"
    description: str = (
        "A residual U-Net over the whole head for chronic stroke lesions in T1-weighted MRI, with "
        "clicks; trained on strokes simulated in real heads."
    )
    default: bool = False


def cut_release(
    folder: HeadFolder, run: Path, out: Path, options: ReleaseOptions, tail: TrainOptions
) -> dict[str, Any]:
    """Write a model to ``out`` and return what it scores on validation, by what is in it.

    ``tail``: how the tail is trained; minutes and falling rate come from ``options``.
    Raises ``InputError`` for a run that is none, a name that no model may have, heads of which
    none validates, and beside the stopped tail of another run, ``KeyboardInterrupt`` where it is
    told to end while the tail is trained.
    """
    check_name_option(options.name)
    if not folder.names("validation"):
        raise InputError(
            folder.path,
            "holds nobody to choose the operating point on",
            "Name the folder of stroketrain heads, or one of stroketrain distill with two subjects",
        )
    network = VolumetricUNet()
    mean = VolumetricUNet()
    if load_run(run, network, mean) is None:
        raise InputError(run, "has no saved run", "Train one with stroketrain fit")
    work = out.with_name(out.name + ".tail")
    if options.minutes > 0:
        if not (work / STATE).is_file():  # else a tail that was stopped goes on
            _copy_run(run, work)
        asked = {"run": str(run.resolve())}
        keep_made_of(work / _TAIL, asked, holds="the tail of another run", there=True)
        since = read_json_object(work / _TAIL).get("since")  # of all its sittings
        falling = replace(tail, minutes=options.minutes, fall=1.0, steps=None, since=since)
        if not train(folder, work, falling).complete:
            raise KeyboardInterrupt  # the tail is saved; weights of half of it are no release
    source = work if options.minutes > 0 else run
    progress = load_run(source, network, mean)
    assert progress is not None
    keep = out.with_name(out.name + ".kept")
    measure(mean, folder, (), mirrored_pass=True, keep=keep)
    point, scores = choose_point(folder, keep, options)
    calibration = fit_calibration(_answers(folder, keep, point, scores))
    shutil.rmtree(keep)
    metrics = {"validation": summary(scores)}
    recommended = {**point.as_dict(), "calibration": calibration.as_dict()}
    write(mean, out, recommended, options, _training(progress, folder), metrics)
    # The next release is to be cut from the run as it is then.
    shutil.rmtree(work, ignore_errors=True)
    return {"point": asdict(point), "calibration": calibration.as_dict(), **metrics}


def _copy_run(run: Path, work: Path) -> None:
    """What is saved of ``run`` in ``work``, all of it or nothing: of a half copied run the tail
    would begin with random weights."""
    part = work.with_name(work.name + ".part")
    for left in (part, work):
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        record, _ = take_saved(run, lambda file: shutil.copyfile(file, part / file.name))
    except OSError as error:
        raise os_input_error(error, part) from error
    (part / STATE).write_text(json.dumps(record), encoding="utf-8")
    since = [record["step"], record["seconds"]]
    write_json_object(part / _TAIL, {"since": since, "run": str(run.resolve())})
    part.rename(work)


def choose_point(
    folder: HeadFolder, keep: Path, options: ReleaseOptions
) -> tuple[OperatingPoint, list[ScanScore]]:
    """Chosen on the probabilities that ``measure`` has kept: the point with the best mean of Dice
    and F1 of chronic and faint scans among those that leave enough of the healthy ones empty, or,
    if none does, that which leaves most of them empty.
    """
    points = [p for p in POINTS if options.threshold in (None, p.threshold)]
    if not points:
        low = options.threshold or 0.5
        points = [OperatingPoint.at(low, h, 0.1) for h in (0.5, 0.7, 0.9, 0.95)]
    by_point: list[list[ScanScore]] = [[] for _ in points]
    for scan in validation_scans(folder):
        p = _kept(keep, scan.name)
        for scores, one in zip(by_point, score(scan, p, points), strict=True):
            scores.append(one)
    best = max(range(len(points)), key=lambda n: _worth(summary(by_point[n]), options.empty))
    return points[best], by_point[best]


def _answers(
    folder: HeadFolder, keep: Path, point: OperatingPoint, scores: list[ScanScore]
) -> Iterator[Answer]:
    """What was found in each validation scan, with the Dice coefficient that it reached."""
    for scan, reached in zip(validation_scans(folder), scores, strict=True):
        p = _kept(keep, scan.name)
        # Whatever is marked in a healthy scan reaches nothing.
        yield Answer.of(p, find(p, point), reached.dice if scan.lesions.any() else 0.0)


def _kept(keep: Path, name: str) -> NDArray[np.float32]:
    kept: NDArray[np.float32] = np.load(keep / f"{name}.npy").astype(np.float32)
    return kept


def _worth(found: dict[str, float], empty: float) -> tuple[float, float]:
    """Enough healthy ones empty goes before everything else."""
    share = min(found.get("healthy empty", 1.0), empty)
    names = ("chronic Dice", "chronic F1", "faint Dice", "faint F1")
    return share, float(np.mean([found[n] for n in names if n in found] or [0.0]))


def write(
    network: nn.Module,
    out: Path,
    recommended: dict[str, Any],
    options: ReleaseOptions,
    training: dict[str, Any],
    metrics: dict[str, Any],
) -> None:
    """Write manifest and float16 weights of a model to the folder ``out``.

    ``recommended``: the manifest's ``inference``.
    """
    from StrokeLesionSegLib.models import write_model

    manifest: dict[str, Any] = {
        "schema": 1,
        "kind": "volumetric",
        "name": options.name,
        "version": options.version,
        "title": options.title,
        "description": options.description,
        "license": "Apache-2.0",
        "intended_use": "Research on stroke lesions in T1w MRI of adults. Trained on simulated "
        "strokes. Not a medical device; not for diagnosis or treatment.",
        "created": datetime.date.today().isoformat(),
        "network": {"name": "volumetric_unet"},
        "channels": list(CHANNELS),
        "contrast": "T1w",
        "labels": {"1": "stroke lesion"},
        "preprocessing": {
            "grid": "mni152-2009a-1mm",
            "window_percentiles": [0.5, 99.5],
            "window_low_of": "volume",
            "brain_mask_margin_mm": 3,
        },
        "inference": recommended,
        "training": training,
        "metrics": metrics,
    }
    if options.default:
        manifest["default"] = True
    write_model(out, manifest, network.state_dict(), dtype="float16")


def _training(progress: TrainingProgress, folder: HeadFolder) -> dict[str, Any]:
    return {
        "simulated": True,
        "steps": progress.step,
        "hours": round(progress.seconds / 3600, 2),
        "people": len(folder.names("train")),
        "masks": len(folder.bank("train")),
        "inputs": dict(INPUTS),
    }
