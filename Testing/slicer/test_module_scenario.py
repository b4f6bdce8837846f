"""The self test's scenario on slicer-core, with the engine in its own process."""

from __future__ import annotations

import importlib
import shutil
import sys
import time
import types
from pathlib import Path
from typing import Any

import forked_python
import numpy as np
import pytest
from simulated import simulated_head, small_head
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.sample_scan import SimulatedStroke
from StrokeLesionSegLib.slicerbridge.engine import process
from StrokeLesionSegLib.slicerbridge.engine.process import EngineProcess
from StrokeLesionSegLib.slicerbridge.engine.run import RunError, RunParameters, SegmentationRun
from StrokeLesionSegLib.slicerbridge.module import sample, selftest
from StrokeLesionSegLib.slicerbridge.module.logic import BridgeLogic
from StrokeLesionSegLib.slicerbridge.scene import results
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance
from StrokeLesionSegLib.slicerbridge.scene.volumes import (
    add_volume_node,
    affine_from_node,
    volume_from_node,
)

FAST = RunParameters(model="fluid", align="none", precision="float32", device="cpu")


@pytest.fixture
def module(slicer: Any, model_home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module StrokeLesionSeg, imported as Slicer does; its sample is made once."""
    import slicer_python

    monkeypatch.setattr(sample, "stroke_in_head", lambda seed: simulated_head())
    slicer_python.install()
    sys.modules.pop("StrokeLesionSeg", None)
    return importlib.import_module("StrokeLesionSeg")


@pytest.fixture(autouse=True)
def the_engine_is_forked(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Where a test is not about the whole way, which starts a new interpreter as a user's does."""
    if "module" not in request.fixturenames:
        monkeypatch.setattr(process, "subprocess", forked_python.Subprocess)


@pytest.fixture(scope="module")
def simulated() -> SimulatedStroke:
    return small_head()


def test_the_whole_way_of_a_user(module: Any, slicer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "stroke_in_head", lambda seed: simulated_head())
    logic = module.StrokeLesionSegLogic()
    said: list[str] = []
    node = logic.getParameterNode()
    node.threshold, node.views, node.overlay = 0.35, "triplanar", "uncertainty"
    selftest.run_scenario(logic, said.append, FAST, timeout_s=240)
    assert said[-1] == "All passed"
    node = logic.getParameterNode()
    assert (node.threshold, node.views, node.overlay, node.model) == (
        0.35,
        "triplanar",
        "uncertainty",
        "",
    )


def test_one_registration_that_fails_keeps_no_other_off(
    module: Any, slicer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(slicer.modules, "strokeLesionSegRegistered", frozenset())
    done: list[str] = []
    defect = [True]

    def terms() -> None:
        if defect.pop():
            raise OSError("no such file")
        done.append("terms")

    from StrokeLesionSegLib.slicerbridge.scene import terminology

    effects = types.ModuleType("StrokeLesionSegEffects")
    effects.registerEffects = lambda: done.append("effects")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "StrokeLesionSegEffects", effects)
    monkeypatch.setattr(sample, "register_sample", lambda *_: done.append("sample"))
    monkeypatch.setattr(terminology, "load_terminology", terms)
    module.registerWithSlicer()
    assert done == ["sample", "effects"]
    assert "no such file" in caplog.text
    defect.append(False)
    for _ in range(2):
        module.registerWithSlicer()
    assert done == ["sample", "effects", "terms"], "each once in a session"


def test_the_part_of_the_self_test_without_the_engine(module: Any, slicer: Any) -> None:
    said: list[str] = []
    selftest.run_without_engine(module.StrokeLesionSegLogic(), said.append)
    assert said[-1].startswith("Passed")


def test_the_simulated_lesion_is_found_where_it_is(
    slicer: Any, model_home: Path, simulated: SimulatedStroke
) -> None:
    node = add_volume_node(simulated.t1, "T1")
    logic = BridgeLogic()
    segmentation = logic.segment(node, FAST, timeout_s=120)
    mask = results.read_segment(segmentation, logic.segment_id(segmentation), node).full()
    truth = simulated.truth.array
    found = (mask & truth).sum() / truth.sum()
    mirrored = (mask & truth[:, :, ::-1]).sum() / truth.sum()
    assert found > 0.4
    assert found > 2 * mirrored, "left and right"


def test_two_runs_do_not_collide(slicer: Any, model_home: Path, simulated: SimulatedStroke) -> None:
    nodes = [add_volume_node(simulated.t1, name) for name in ("One", "Two")]
    runs = [SegmentationRun(node, FAST) for node in nodes]
    for run in runs:
        run.start()
    while [run.poll() for run in runs] != [False, False]:
        time.sleep(0.02)
    masks = []
    for run, node in zip(runs, nodes, strict=True):
        assert run.state == "done", run.failure
        assert run.results is not None
        assert run.results.segmentation_node.GetName().startswith(node.GetName())
        got = results.read_segment(run.results.segmentation_node, run.results.segment_id, node)
        masks.append(got.full())
    np.testing.assert_array_equal(masks[0], masks[1])
    assert runs[0].scratch != runs[1].scratch
    assert not any(run.scratch.exists() for run in runs)


def test_closing_the_scene_during_a_run_is_safe(
    slicer: Any, model_home: Path, simulated: SimulatedStroke
) -> None:
    run = SegmentationRun(add_volume_node(simulated.t1, "T1"), FAST)
    run.start()
    while run.poll() and run.state != "running":
        time.sleep(0.01)
    slicer.mrmlScene.Clear(0)
    while run.poll():
        time.sleep(0.02)
    assert run.state == "cancelled"
    assert run.results is None
    assert not run.scratch.exists()
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_an_engine_that_fails_says_why_and_changes_nothing(slicer: Any, model_home: Path) -> None:
    node = add_volume_node(sample_like(slicer), "My scan")
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(RunError) as caught:
        BridgeLogic().segment(node, RunParameters(model="no-such-model"), timeout_s=60)
    assert "no-such-model" in str(caught.value)
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_a_crash_of_the_engine_is_told_with_its_last_lines(slicer: Any) -> None:
    node = add_volume_node(sample_like(slicer), "My scan")

    def broken(arguments: list[str]) -> EngineProcess:
        process = EngineProcess(arguments)
        process._python, process._whole = None, True
        code = "import sys; print('about to fail', file=sys.stderr); sys.exit(77)"
        process.arguments = Broken([sys.executable, "-c", code])
        return process

    run = SegmentationRun(node, process=broken)
    run.start()
    while run.poll():
        time.sleep(0.02)
    assert run.state == "failed"
    assert run.failure is not None
    assert "77" in run.failure.cause
    assert run.failure.lines == ("about to fail",)
    assert not run.scratch.exists()


class Broken(list):  # type: ignore[type-arg]
    """Arguments that stay as they are."""

    def __iadd__(self, other: Any) -> Any:
        return self


@pytest.mark.parametrize("kind", ["vector", "empty", "constant", "slice", "result", "labels"])
def test_unusable_inputs_are_refused_before_the_run(slicer: Any, kind: str) -> None:
    volume = sample_like(slicer)
    if kind == "vector":
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "RGB")
        slicer.util.updateVolumeFromArray(node, np.zeros((20, 20, 20, 3), np.uint8))
    elif kind == "empty":
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    elif kind == "labels":
        node = add_volume_node(volume, "Labels", class_name="vtkMRMLLabelMapVolumeNode")
    else:
        array = volume.array.copy()
        if kind == "constant":
            array[:] = 7
        node = add_volume_node(volume.with_array(array), "T1")
        if kind == "slice":
            slicer.util.updateVolumeFromArray(node, array[:1])
        if kind == "result":
            node.SetAttribute("StrokeLesionSeg", "probability")
    with pytest.raises(InputError) as caught:
        SegmentationRun(node).start()
    assert caught.value.where == node.GetName()


def test_thresholds_do_not_start_the_engine(
    slicer: Any, model_home: Path, simulated: SimulatedStroke, monkeypatch: Any
) -> None:
    logic = BridgeLogic()
    segmentation = logic.segment(add_volume_node(simulated.t1, "T1"), FAST, timeout_s=120)
    monkeypatch.setattr(EngineProcess, "start", lambda self: pytest.fail("the engine was started"))
    first = logic.threshold(segmentation, 0.3, 0.0)
    second = logic.threshold(segmentation, 0.6, 0.0)
    assert sum(r.volume_ml for r in first) > sum(r.volume_ml for r in second) > 0


@pytest.mark.timeout(600)
def test_the_shipped_model_from_run_to_report(
    slicer: Any, simulated: SimulatedStroke, tmp_path: Path
) -> None:
    """Its lesions end at one probability and have to reach another: the engine's mask follows
    from its probability by both, and so does the segment at every position of the slider."""
    from StrokeLesionSegLib.lesions import find_lesions
    from StrokeLesionSegLib.models import Manifest, find_model

    name = "stroke-t1-volumetric"
    asks = Manifest.from_file(find_model(name)).operating_point()
    first, second = asks.thresholds
    assert 0 < first < second < 1
    node, logic = add_volume_node(simulated.t1, "T1"), BridgeLogic()
    parameters = RunParameters("axial", "none", "cpu", "float32", name)
    segmentation = logic.segment(node, parameters, timeout_s=500)
    segment_id = logic.segment_id(segmentation)
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    made = Provenance.from_segment(segment)
    assert (made.threshold, made.second_threshold) == pytest.approx((first, second))
    assert made.min_volume_ml == pytest.approx(asks.min_volume_ml)
    probability = volume_from_node(results.maps_of(segmentation, segment_id)[0])
    masks = []
    for value in (first, 0.4, 0.8):
        if value != first:
            logic.threshold(segmentation, value)
        expected = find_lesions(
            probability.array,
            probability.affine,
            OperatingPoint(value, second if second > value else None, made.min_volume_ml),
        )
        mask = results.read_segment(segmentation, segment_id, node).full()
        np.testing.assert_array_equal(mask, expected.mask)
        masks.append(mask)
    assert masks[0].sum() > masks[1].sum() > 0
    loose = find_lesions(
        probability.array,
        probability.affine,
        OperatingPoint(first, min_volume_ml=made.min_volume_ml),
    )
    print(f"{loose.mask.sum()} voxels by one threshold, {masks[0].sum()} by both")
    logic.undo(segmentation)
    page = logic.report(segmentation, tmp_path)
    text = page.path.read_text(encoding="utf-8")
    assert name in text
    assert f"{masks[1].sum() * simulated.t1.grid.voxel_volume_ml:.1f}" in text
    assert "corrected by hand" not in text


@pytest.mark.shared
def test_mrml_gives_the_mask_of_the_command_line(
    slicer: Any, model_home: Path, shared_data: Path, tmp_path: Path
) -> None:
    """Three scans of different axes, spacing and kind, voxel for voxel."""
    files = [
        shared_data / "t1" / "heads" / "uih1_T1w.nii.gz",  # PIR axes
        shared_data / "t1" / "heads" / "openms_patient01_study1_T1W.nii.gz",  # 3 mm slices
        shared_data / "t1" / "brains" / "ds002748_sub-02_T1w_brain.nii.gz",  # LAS, stripped
    ]
    compare_with_command_line(slicer, files, tmp_path)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(
    "STROKE_LESION_SEG_ALL_T1" not in __import__("os").environ,
    reason="all T1s take minutes: set STROKE_LESION_SEG_ALL_T1=1",
)
@pytest.mark.timeout(3600)
def test_mrml_gives_the_mask_of_the_command_line_on_every_t1(
    slicer: Any, model_home: Path, shared_data: Path, tmp_path: Path
) -> None:
    files = sorted((shared_data / "t1").rglob("*.nii.gz"))
    # Every kind early, for whoever looks on with -s.
    compare_with_command_line(slicer, files[::3] + files[1::3] + files[2::3], tmp_path, "auto")


def compare_with_command_line(
    slicer: Any, files: list[Path], folder: Path, align: str = "none"
) -> None:
    import nibabel

    for file in files:
        local = folder / file.name
        shutil.copy(file, local)
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
        storage.SetFileName(str(local))
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T1")
        assert storage.ReadData(node), file
        slicer.mrmlScene.AddNode(storage)
        node.SetAndObserveStorageNodeID(storage.GetID())
        parameters = RunParameters(model="fluid", align=align, precision="float32", device="cpu")
        logic = BridgeLogic()
        segmentation = logic.segment(node, parameters, timeout_s=600)
        ours = results.read_segment(segmentation, logic.segment_id(segmentation), node).full()
        mask = folder / "mask.nii"
        words = ["segment", str(local), "-o", str(mask), "--overwrite", "--progress", "none"]
        assert main([*words, *parameters.arguments()]) == 0
        image = nibabel.load(mask)
        theirs = np.asarray(image.dataobj)  # i, j, k
        assert theirs.sum() > 0
        ours = on_grid(ours, affine_from_node(node), theirs.shape, image.affine)
        assert int((ours != theirs).sum()) == 0, file.name
        print(f"{file.name}: the same {int(theirs.sum())} voxels", flush=True)
        slicer.mrmlScene.Clear(0)


def on_grid(
    mask: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], wanted: np.ndarray
) -> np.ndarray:
    """A mask (k, j, i) on the grid of a file (i, j, k) that holds the same voxels.

    Slicer turns left-handed files into right-handed volumes by reversing an axis.
    """
    to_file = np.linalg.inv(wanted) @ affine
    assert np.abs(to_file - np.rint(to_file)).max() < 1e-3, "the grids differ by more than axes"
    k, j, i = np.nonzero(mask)
    index = np.rint(to_file @ np.stack([i, j, k, np.ones_like(i)]))[:3].astype(int)
    out = np.zeros(shape, mask.dtype)
    out[tuple(index)] = 1
    return out


def sample_like(slicer: Any) -> Any:
    from bridge_scenes import head_node

    node = head_node(slicer)
    volume = volume_from_node(node)
    slicer.mrmlScene.RemoveNode(node)
    return volume
