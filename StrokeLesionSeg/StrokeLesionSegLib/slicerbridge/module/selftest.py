"""The whole way of a user, as one scenario: in Slicer as the self test, here without desktop.

Sample, segment, threshold, undo, measure, drop a lesion, save and load the scene, linear and
non-linear transform, cancel. ``AssertionError`` says what is wrong. It uses the model that is
installed; the simulated lesion does not have to be found well, but everything after it has to be
exact.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ...lesions import find_lesions
from ...operating_point import OperatingPoint
from ..engine.run import RunParameters
from ..scene import results
from ..scene.probability_map import seeds_to_text
from ..scene.provenance import Provenance
from ..scene.volumes import volume_from_node
from . import sample
from .measure import TABLE_ROLE, segment_statistics, table_rows


def run_scenario(
    logic: Any,
    say: Callable[[str], Any] = print,
    parameters: RunParameters | None = None,
    timeout_s: float = 600.0,
) -> None:
    """Run it in the scene that is open (which it clears); ``logic`` is the module's logic.

    The module's settings are those from before in the end.
    """
    before = _parameters(_parameter_node(logic))
    try:
        _run_scenario(logic, say, parameters or RunParameters(), timeout_s)
    finally:
        node = _parameter_node(logic)  # the one that was loaded with the scene
        for name, value in before.items():
            setattr(node, name, value)


def _run_scenario(
    logic: Any, say: Callable[[str], Any], parameters: RunParameters, timeout_s: float
) -> None:
    import slicer

    say("Sample: making a simulated stroke T1")
    volume = sample.add_sample()
    say("Segment: in a process of its own")
    began = time.monotonic()
    segmentation = logic.segment(volume, parameters, timeout_s=timeout_s)
    say(f"Segmented in {time.monotonic() - began:.1f} s")
    segment_id = logic.segment_id(segmentation)
    _check_result(logic, volume, segmentation, segment_id)

    say("Threshold, smallest lesion and undo")
    first = _voxels(segmentation, segment_id, volume)
    probability = results.maps_of(segmentation)[0]
    array = slicer.util.arrayFromVolume(probability)
    logic.threshold(segmentation, 0.2, 0.0)
    low = _voxels(segmentation, segment_id, volume)
    _same(low, _by_engine(segmentation, segment_id), "the threshold gives what the engine finds")
    rows = logic.threshold(segmentation, 0.2, 0.5)
    if rows:
        assert min(row.volume_ml for row in rows) >= 0.5, "the smallest lesion is not respected"
    assert logic.undo(segmentation) is not None
    _same(_voxels(segmentation, segment_id, volume), low, "undo")
    assert logic.undo(segmentation) is not None
    _same(_voxels(segmentation, segment_id, volume), first, "undo to the first result")
    assert logic.undo(segmentation, redo=True) is not None
    _same(_voxels(segmentation, segment_id, volume), low, "redo")

    say("Lesion table: drop and take back")
    rows = logic.threshold(segmentation, 0.2, 0.0)
    assert rows, "nothing has a probability of .2: the model cannot be tried on this sample"
    total = sum(row.volume_ml for row in rows)
    rows = logic.threshold(segmentation, 0.2, 0.0, dropped=[rows[0].seed])
    assert not rows[0].keep
    left = _voxels(segmentation, segment_id, volume).sum() / 1000.0
    assert abs(left - (total - rows[0].volume_ml)) < 1e-6, "a dropped lesion is still there"

    say("Save and load the scene")
    node = _parameter_node(logic)
    if node is not None:
        node.inputVolume, node.segmentation = volume, segmentation
        node.threshold, node.minimumVolumeMl = 0.2, 0.0
        node.dropped = seeds_to_text([rows[0].seed])
        node.views, node.align, node.device, node.precision = "axial", "none", "cpu", "float32"
        node.model, node.overlay, node.overlayOpacity = "a model", "probability", 0.25
    kept_parameters = _parameters(node)
    names = (volume.GetName(), segmentation.GetName())
    expected = _voxels(segmentation, segment_id, volume)
    kept_array, kept_rows = array.copy(), table_rows(segmentation.GetNodeReference(TABLE_ROLE))
    with tempfile.TemporaryDirectory(prefix="StrokeLesionSeg-") as folder:
        file = os.path.join(folder, "self test.mrb")
        assert slicer.mrmlScene.WriteToMRB(file), "the scene could not be saved"
        logic.forget()
        slicer.mrmlScene.Clear(0)
        assert slicer.mrmlScene.ReadFromMRB(file, True), "the scene could not be loaded"
    volume, segmentation = (slicer.util.getNode(name) for name in names)
    _same(_voxels(segmentation, segment_id, volume), expected, "the segment after loading")
    probability = results.maps_of(segmentation)[0]
    _same(slicer.util.arrayFromVolume(probability), kept_array, "the probability after loading")
    loaded_rows = table_rows(segmentation.GetNodeReference(TABLE_ROLE))
    _same_tables(loaded_rows, kept_rows)
    if node is not None:
        node = _parameter_node(logic)
        assert node.inputVolume is volume
        assert node.segmentation is segmentation
        assert _parameters(node) == kept_parameters, "parameters changed"
    logic.threshold(segmentation, 0.2, 0.0)
    _same(_voxels(segmentation, segment_id, volume), low, "the slider after loading")

    for kind in ("linear", "non-linear"):
        say(f"Under a {kind} transform")
        _check_transformed(logic, volume, parameters, kind, low, timeout_s)

    say("Cancel")
    _check_cancel(logic, volume, parameters)
    say("All passed")


def run_without_engine(logic: Any, say: Callable[[str], Any] = print) -> None:
    """What can be tried where PyTorch or a model is missing: everything after a run.

    The probability is made from grey values, so that the sliders, undo and the table have
    something to work on.
    """
    from ..scene.probability_map import ProbabilityMap
    from .logic import SEGMENT_ATTRIBUTE

    say("Without the engine: sample, segment from grey values")
    volume = sample.add_sample()
    scan = volume_from_node(volume)
    grey = scan.array.astype(np.float32) / 800
    dark = np.clip(1.2 - np.abs(grey - 0.35) / 0.2, 0, 1).astype(np.float32)
    probability = scan.with_array(dark)
    segmentation = results.add_segmentation(volume)
    node = results.add_map(probability, volume, "probability")
    segmentation.SetNodeReferenceID(results.PROBABILITY_ROLE, node.GetID())
    found = ProbabilityMap(probability).lesions(OperatingPoint(0.5, min_volume_ml=1.0))
    made = Provenance("grey values", threshold=0.5, min_volume_ml=1.0)
    segment_id = results.add_segment(segmentation, found.patch, made)
    segmentation.SetAttribute(SEGMENT_ATTRIBUTE, segment_id)
    first = _voxels(segmentation, segment_id, volume)
    logic.threshold(segmentation, 0.9, 0.0)
    _same(_voxels(segmentation, segment_id, volume), (dark >= 0.9).astype(np.uint8), "threshold")
    assert logic.undo(segmentation) is not None
    _same(_voxels(segmentation, segment_id, volume), first, "undo")
    assert logic.measure(segmentation), "no lesion was measured"
    assert segmentation.GetNodeReference(TABLE_ROLE) is not None
    say("Passed what does not need the engine")


_PARAMETERS = (
    *("threshold", "minimumVolumeMl", "dropped", "views", "align", "device", "precision"),
    *("model", "overlay", "overlayOpacity"),
)


def _parameter_node(logic: Any) -> Any | None:
    """The module's parameters, typed; None for a logic without the module."""
    return logic.getParameterNode() if hasattr(logic, "getParameterNode") else None


def _parameters(node: Any | None) -> dict[str, Any]:
    """The module's settings but for the nodes, which have other identities after loading."""
    return {} if node is None else {name: getattr(node, name) for name in _PARAMETERS}


def _same_tables(loaded: list[dict[str, Any]], kept: list[dict[str, Any]]) -> None:
    """A scene file has numbers as text, and a bare scene all columns: 5 digits are compared."""
    assert len(loaded) == len(kept), "the table lost rows"
    for ours, theirs in zip(loaded, kept, strict=True):
        assert list(ours) == list(theirs), "the table's columns changed"
        for name, value in theirs.items():
            if isinstance(value, float):
                same = abs(float(ours[name]) - value) <= 1e-5 * max(1.0, abs(value))
            else:
                same = str(ours[name]) == str(value)
            assert same, f"the table after loading: {name} was {value}, is {ours[name]}"


def _voxels(segmentation: Any, segment_id: str, volume: Any) -> Any:
    return results.read_segment(segmentation, segment_id, volume).full()


def _by_engine(segmentation: Any, segment_id: str) -> Any:
    """The mask that the engine finds by itself with the operating point of a segment."""
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    made = Provenance.from_segment(segment)
    probability = volume_from_node(results.maps_of(segmentation, segment_id)[0])
    return find_lesions(probability.array, probability.affine, made.operating_point).mask


def _same(a: Any, b: Any, what: str) -> None:
    assert a.shape == b.shape, what
    assert bool((a == b).all()), f"{what}: {int((a != b).sum())} voxels differ"


def _check_result(logic: Any, volume: Any, segmentation: Any, segment_id: str) -> None:
    import slicer

    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    made = Provenance.from_segment(segment)
    assert made.model, "the model is not named"
    assert len(made.checksum) == 64, "the model's checksum is missing"
    module = slicer.vtkSlicerSegmentationsModuleLogic
    assert module.GetSegmentStatus(segment) == module.InProgress
    assert logic.volume_of(segmentation) is volume
    probability = results.maps_of(segmentation)[0]
    array = slicer.util.arrayFromVolume(probability)
    assert array.shape == slicer.util.arrayFromVolume(volume).shape
    assert 0 <= float(array.min()) <= float(array.max()) <= 1
    table = segmentation.GetNodeReference(TABLE_ROLE)
    voxels = int(_voxels(segmentation, segment_id, volume).sum())
    total = sum(row["Volume (mL)"] for row in table_rows(table))
    assert abs(total - voxels / 1000.0) < 1e-6, "the table and the segment disagree"
    theirs = segment_statistics(segmentation, segment_id, volume)
    if theirs is not None and voxels:
        found = theirs["LabelmapSegmentStatisticsPlugin.volume_cm3"]
        assert abs(found - total) < 1e-3, "Slicer's Segment Statistics and the table disagree"


def _check_transformed(
    logic: Any, volume: Any, parameters: RunParameters, kind: str, expected: Any, timeout_s: float
) -> None:
    """The segment has the image's own voxels and lies under the image's transform."""
    import slicer
    import vtk

    if kind == "linear":
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Turned")
        turn = vtk.vtkTransform()
        turn.Translate(20, -10, 5)
        turn.RotateZ(25)
        transform.SetMatrixTransformToParent(turn.GetMatrix())
    else:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Warped")
        warp = vtk.vtkThinPlateSplineTransform()
        warp.SetBasisToR()
        source, target = vtk.vtkPoints(), vtk.vtkPoints()
        corners = [(x, y, z) for x in (-90, 90) for y in (-120, 90) for z in (-60, 110)]
        for index, (x, y, z) in enumerate(corners):
            source.InsertNextPoint(x, y, z)
            target.InsertNextPoint(x + 4 * (index % 3), y - 3 * (index % 2), z + index)
        warp.SetSourceLandmarks(source)
        warp.SetTargetLandmarks(target)
        transform.SetAndObserveTransformToParent(warp)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    segmentation = logic.segment(volume, parameters, timeout_s=timeout_s)
    assert results.same_parent(segmentation, volume), f"{kind}: not under the image's transform"
    segment_id = logic.segment_id(segmentation)
    logic.threshold(segmentation, 0.2, 0.0)
    _same(_voxels(segmentation, segment_id, volume), expected, f"{kind} transform")
    # Slicer itself, in world coordinates: the centre of the segment is that of its voxels.
    k, j, i = (float(v.mean()) for v in np.nonzero(expected))
    row = logic.measure(segmentation)[0]
    world = [0.0, 0.0, 0.0]
    volume.TransformPointToWorld(list(row.centroid_ras_mm), world)
    back = [0.0, 0.0, 0.0]
    segmentation.TransformPointFromWorld(world, back)
    assert np.allclose(back, row.centroid_ras_mm, atol=0.05), f"{kind}: off the image"
    assert min(k, j, i) >= 0
    probability = results.maps_of(segmentation)[0]
    assert probability.GetTransformNodeID() == transform.GetID()
    volume.SetAndObserveTransformNodeID(None)
    slicer.mrmlScene.RemoveNode(segmentation)


def _check_cancel(logic: Any, volume: Any, parameters: RunParameters) -> None:
    import slicer

    nodes = slicer.mrmlScene.GetNumberOfNodes()
    run = logic.start(volume, parameters)
    scratch = run.scratch
    end = time.monotonic() + 60
    while run.poll() and run.stage == "export" and time.monotonic() < end:
        time.sleep(0.02)
    began = time.monotonic()
    run.cancel()
    while scratch.exists() and time.monotonic() - began < 1.0:
        run.cancel()
        time.sleep(0.01)
    assert not scratch.exists(), "cancel left files behind"
    assert run.state == "cancelled"
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes, "cancel left nodes behind"
