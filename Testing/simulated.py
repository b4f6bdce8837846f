"""The simulated head and the demo's template with their strokes: each is made once for all tests
and processes of a session, and takes two to three seconds."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from StrokeLesionSegLib.images import Volume
from StrokeLesionSegLib.sample_scan import SimulatedStroke, stroke_in_head, stroke_in_template

#: Where processes find what another has made; ``conftest.py`` says so.
folder: Path | None = None


@functools.cache
def simulated_head(step: int = 1) -> SimulatedStroke:
    """The sample; its arrays are everybody's and stay as they are. ``step``: of its 1 mm voxels
    every so many along each axis, where a test needs no more."""
    if step == 1:
        return _made_once("head", stroke_in_head)
    whole, every = simulated_head(), (slice(None, None, step),) * 3
    scale = np.diag([step, step, step, 1.0])
    return SimulatedStroke(
        *(
            Volume(np.ascontiguousarray(volume.array[every]), volume.affine @ scale)
            for volume in (whole.t1, whole.truth)
        )
    )


@functools.cache
def small_head() -> SimulatedStroke:
    """The sample as a head of three quarters of its size, in voxels of 1.5 mm: an engine that
    brings it to 1 mm has two fifths of the work, where a test needs no head of a person's size."""
    head, scale = simulated_head(2), np.diag([0.75, 0.75, 0.75, 1.0])
    return SimulatedStroke(
        *(Volume(volume.array, scale @ volume.affine) for volume in (head.t1, head.truth))
    )


@functools.cache
def simulated_template() -> SimulatedStroke:
    """The demo's; its arrays are everybody's and stay as they are."""
    datasets = pytest.importorskip("nilearn.datasets")

    def volume(kind: str) -> Volume:
        image = getattr(datasets, f"load_mni152_{kind}")(resolution=1)
        array = np.ascontiguousarray(np.asarray(image.dataobj, np.float32).transpose(2, 1, 0))
        return Volume(array, image.affine.astype(np.float64))

    parts = ("template", "gm_template", "wm_template")
    return _made_once("template", lambda: stroke_in_template(*map(volume, parts)))


def _made_once(name: str, make: Callable[[], SimulatedStroke]) -> SimulatedStroke:
    if folder is None:
        return make()
    file = folder / f"{name}.npz"
    if not file.exists():
        made = make()
        # Two processes may come at once: each writes what is whole, and the same.
        own = file.with_suffix(f".{os.getpid()}.npz")
        np.savez(own, t1=made.t1.array, truth=made.truth.array, affine=made.t1.affine)
        own.replace(file)
    with np.load(file) as kept:
        return SimulatedStroke(*(Volume(kept[part], kept["affine"]) for part in ("t1", "truth")))
