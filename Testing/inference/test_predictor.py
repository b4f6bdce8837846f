"""Kinds of models: each names its grid, does its own intensity step and answers on that grid."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import MNI_GRID, Alignment, Grid, Volume
from StrokeLesionSegLib.inference import (
    CANONICAL,
    NATIVE,
    GridPrediction,
    SegmentOptions,
    TargetGrid,
    make_predictor,
    predictor,
    segment_volume,
)
from StrokeLesionSegLib.inference import prepare as preparing
from StrokeLesionSegLib.inference.device import Device
from StrokeLesionSegLib.inference.placing import place
from StrokeLesionSegLib.inference.slices import SlicesPredictor
from StrokeLesionSegLib.models import Inference, load_model
from StrokeLesionSegLib.operating_point import OperatingPoint

# Oblique, unequal voxels, stored from left to right.
AFFINE = np.array([[-2.1, 0.1, 0, 62], [0.2, 2.0, 0.1, -80], [0, -0.1, 2.5, -40], [0, 0, 0, 1.0]])
SHAPE = (40, 70, 60)
_COARSE_AFFINE = np.array([[2.0, 0, 0, -98], [0, 2, 0, -134], [0, 0, 2, -72], [0, 0, 0, 1]])
COARSE = TargetGrid("mni152-2009a-2mm", Grid((95, 117, 99), _COARSE_AFFINE))


def ramp(affine=AFFINE) -> Volume:
    """Intensities that are the world's coordinates: 1000 + x + 2 y + 3 z."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    x, y, z = (affine[:3, :3] @ np.stack([i, j, k]).reshape(3, -1)) + affine[:3, 3:]
    return Volume((1000 + x + 2 * y + 3 * z).reshape(SHAPE).astype(np.float32), affine)


class Bright:
    """Marks what is brighter than 1000, on the grid it was given."""

    seen: Volume

    def __init__(self, model, options):
        self.options, self.grid = options, model.grid

    def prepare(self, scan):
        Bright.seen = scan.volume
        return scan.volume.array > 1000, scan

    def predict(self, prepared, *, progress=None, cancel=None):
        bright, scan = prepared
        if progress is not None:
            progress("network", 1, 1)
        p = scan.volume.with_array(bright.astype(np.float32))
        zeros = scan.volume.with_array(np.zeros_like(p.array))
        return GridPrediction(p, zeros, ("Looked at brightness.",), {"prepare": 0.5}, {"n": 1})


@pytest.fixture
def bright(monkeypatch):
    """A model of a kind that was added in one place."""
    module = ModuleType("StrokeLesionSegLib.inference.bright")
    module.Bright = Bright
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(predictor._KINDS, "bright", ("bright", "Bright"))
    manifest = SimpleNamespace(
        name="b", kind="bright", inference=Inference(OperatingPoint(0.5), "triplanar")
    )
    return lambda grid: SimpleNamespace(manifest=manifest, grid=grid)


@pytest.mark.parametrize("grid", [CANONICAL, NATIVE, COARSE], ids=lambda g: g.name)
def test_a_predictor_sees_its_grid_and_the_answer_comes_back(bright, grid):
    volume = ramp()
    told = []
    result = segment_volume(
        volume,
        bright(grid),
        SegmentOptions(align="none"),
        progress=lambda *step: told.append(step[0]),
    )
    assert result.probability.grid.same_as(volume.grid)
    # Exact on the native grid; else but for the voxels that the edge runs through.
    inside = np.abs(volume.array - 1000) > (0 if grid is NATIVE else 15)
    inside &= np.pad(np.ones([n - 8 for n in SHAPE], bool), 4)
    np.testing.assert_allclose(
        result.probability.array[inside], (volume.array > 1000)[inside], atol=1e-6
    )
    # Unwindowed: a place has the same intensity on both grids.
    seen = Bright.seen
    k, j, i = (n // 2 for n in seen.array.shape)
    x, y, z = (seen.affine @ [i, j, k, 1])[:3]
    assert seen.array[k, j, i] == pytest.approx(1000 + x + 2 * y + 3 * z, abs=0.05)
    assert told.index("window") < told.index("network") < told.index("back")
    assert result.warnings == ("Looked at brightness.",)
    assert result.timings["prepare"] == 0.5
    assert result.details["n"] == 1
    assert result.details["options"]["views"] == "triplanar"
    assert result.details["exact_grid"] == (grid is NATIVE)


def test_a_named_grid_is_in_mni_space():
    turn = np.eye(4)
    turn[:3, 3] = [5, -3, 2]
    alignment = Alignment(turn, True, "", 0.9, 0.9, 0.1)
    placed = place(ramp(), alignment, COARSE)
    assert placed.in_mni
    assert placed.volume.grid.same_as(COARSE.grid)
    k, j, i = 40, 60, 50
    x, y, z = (COARSE.grid.affine @ [i, j, k, 1])[:3] - turn[:3, 3]
    assert placed.volume.array[k, j, i] == pytest.approx(1000 + x + 2 * y + 3 * z, abs=0.1)
    assert place(ramp(), alignment, CANONICAL).volume.grid.same_as(MNI_GRID)
    assert not place(ramp(), None, CANONICAL).in_mni
    native = place(ramp(), alignment, NATIVE)
    assert not native.in_mni
    assert native.exact
    with pytest.raises(ValueError, match="shape"):
        native.to_native(np.zeros((2, 2, 2)))


def test_the_native_grid_shares_no_memory():
    volume = ramp()
    placed = place(volume, None, NATIVE)
    placed.volume.array[:] = 0
    assert volume.array.max() > 0


@pytest.mark.parametrize("name", ["canonical", "native"])
def test_only_named_grids_are_given(name):
    with pytest.raises(ValueError, match="MNI"):
        TargetGrid(name, MNI_GRID)
    with pytest.raises(ValueError, match="MNI"):
        TargetGrid("mni152-2009a-1mm")


def test_a_kind_that_this_version_cannot_run():
    manifest = SimpleNamespace(name="m", kind="cubes", inference=Inference(OperatingPoint(0.5)))
    with pytest.raises(InputError, match="cannot run a model of kind cubes"):
        make_predictor(SimpleNamespace(manifest=manifest))


def test_a_gpu_without_room_for_the_network_leaves_it_to_the_cpu(monkeypatch):
    """Nor for the check of its number format: before any slice is asked for."""
    model = load_model(Path(__file__).resolve().parents[1] / "trained_2d")
    options = SegmentOptions(device="cpu", precision="float32", crop=False)
    made = SlicesPredictor(model, options)
    made.device = Device("mps", "pretended")
    real, asked = preparing.prepare_network, []

    def prepare(network, channels, device, *rest, **more):
        asked.append(device.name)
        if device.is_gpu:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)")
        return real(network, channels, device, *rest, **more)

    monkeypatch.setattr(preparing, "prepare_network", prepare)
    shape = (2, 32, 32)
    volume = Volume(np.random.default_rng(0).random(shape, np.float32), np.eye(4))
    found = made.predict(made.prepare(place(volume, None, CANONICAL)))
    assert asked == ["mps", "cpu"]
    assert found.warnings[0] == "Memory ran out on mps; the CPU goes on."
    assert found.details["device_reason"] == "mps ran out of memory"
