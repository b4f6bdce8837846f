"""Our calls against Slicer's own Python layer and headers, from a source tree of any version.

Skipped unless ``STROKE_LESION_SEG_SLICER_SOURCE`` names a checkout of Slicer's repository, for
example of the tag v5.8.1. With it, the other tests of the module and its panel use Slicer's real
Python layer, too (see ``slicer_python``).
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer_python
from bridge_scenes import blob_volume, head_node
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.slicerbridge.module import measure, sample
from StrokeLesionSegLib.slicerbridge.scene import results
from StrokeLesionSegLib.slicerbridge.scene.probability_map import ProbabilityMap
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance

pytestmark = pytest.mark.skipif(
    slicer_python.source_tree() is None,
    reason=f"no source tree of Slicer: set {slicer_python.SOURCE_VARIABLE}",
)
BRIDGE = slicer_python.MODULE_FILE.parent / "StrokeLesionSegLib" / "slicerbridge"


@pytest.fixture
def tree() -> Path:
    found = slicer_python.source_tree()
    assert found is not None
    assert (found / "Base" / "Python" / "slicer" / "util.py").is_file(), "no source tree of Slicer"
    return found


@pytest.fixture
def module(slicer: Any, tree: Path) -> Any:
    """The module over Slicer's real Python layer."""
    slicer_python.install()
    sys.modules.pop("StrokeLesionSeg", None)
    return importlib.import_module("StrokeLesionSeg")


def our_files() -> list[Path]:
    return [slicer_python.MODULE_FILE, *sorted(BRIDGE.rglob("*.py"))]


def test_the_parameters_are_typed_and_bounded(module: Any, slicer: Any) -> None:
    logic = module.StrokeLesionSegLogic()
    made = logic.getParameterNode()
    assert type(made).__module__ == "StrokeLesionSeg"
    assert inspect.getsourcefile(type(made).connectParametersToGui)
    assert (made.threshold, made.minimumVolumeMl, made.dropped) == (0.5, 0.05, "")
    assert (made.align, made.device, made.overlay) == ("auto", "auto", "none")
    assert made.inputVolume is None
    made.threshold = 0.25
    made.inputVolume = head_node(slicer)
    with pytest.raises(ValueError, match="range"):
        made.threshold = 0.99
    with pytest.raises(TypeError):
        made.inputVolume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    again = logic.getParameterNode()
    assert again.threshold == 0.25
    assert again.inputVolume is made.inputVolume
    again.threshold = 0.75
    assert made.threshold == 0.75, "two wrappers of one node agree"
    assert again.parameterNode is logic.parameterNodeOfScene()
    made.inputVolume = None
    assert again.inputVolume is None


def test_the_module_is_constructed_by_slicers_own_base_class(module: Any, slicer: Any) -> None:
    calls: list[Any] = []
    parent = types.SimpleNamespace(path=str(slicer_python.MODULE_FILE), helpText="")
    slicer.app.connect = lambda *a: calls.append(a)
    try:
        made = module.StrokeLesionSeg(parent)
    finally:
        del slicer.app.connect
    assert parent.title == "Stroke Lesion Segmentation"
    assert parent.categories == ["Segmentation"]
    assert calls == [("startupCompleted()", module.registerWithSlicer)]
    assert slicer.selfTests["StrokeLesionSeg"] == made.runTest
    test = module.StrokeLesionSegTest()
    test.messageDelay = 1
    assert inspect.signature(made.runTest).bind(msec=100)
    assert inspect.signature(test.delayDisplay).bind("text")


def test_what_we_call_of_slicer_util_is_there_and_takes_our_arguments(tree: Path) -> None:
    text = (tree / "Base" / "Python" / "slicer" / "util.py").read_text(encoding="utf-8")
    defined: dict[str, Any] = {}
    for item in ast.parse(text).body:
        if isinstance(item, (ast.FunctionDef, ast.ClassDef)):
            defined[item.name] = item
    wrong = []
    for file in our_files():
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            if ast.unparse(call.func.value) != "slicer.util":
                continue
            found = defined.get(call.func.attr)
            if not isinstance(found, ast.FunctionDef):
                wrong.append(f"{file.name}: slicer.util.{call.func.attr} is missing")
                continue
            names = {a.arg for a in [*found.args.args, *found.args.kwonlyargs]}
            given = {k.arg for k in call.keywords}
            if found.args.kwarg is None and not given <= names:
                wrong.append(f"{file.name}: {call.func.attr} takes no {given - names}")
            if found.args.vararg is None and len(call.args) > len(found.args.args):
                wrong.append(f"{file.name}: {call.func.attr} takes fewer arguments")
    assert not wrong


def test_the_methods_that_we_call_on_nodes_exist(tree: Path) -> None:
    """By name, in the headers of the tree or in VTK; a version without one would fail at run."""
    import vtk

    headers = "\n".join(
        path.read_text(encoding="utf-8", errors="replace")
        for folder in ("Base", "Libs", "Modules")
        for path in (tree / folder).rglob("*.h")
    )
    known = set(re.findall(r"\w+", headers))
    for macro, name in re.findall(r"vtk(Set|Get|Boolean)\w*Macro\s*\(\s*(\w+)", headers):
        known.update([name + "On", name + "Off"] if macro == "Boolean" else [macro + name])
    known.update(dir(vtk))
    for name in dir(vtk):
        known.update(dir(getattr(vtk, name)) if name.startswith("vtk") else [])
    ours, used = set(), {}
    for file in sorted(slicer_python.MODULE_FILE.parent.rglob("*.py")):
        for item in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(item, (ast.ClassDef, ast.FunctionDef)):
                ours.add(item.name)
    python = {"Popen", "Thread", "TimeoutExpired", "TemporaryDirectory", "Generator", "WaitCursor"}
    python |= {"PackageNotFoundError", "SampleDataLogic", "SegmentStatisticsLogic"}
    python |= {"CalledProcessError"}
    python |= {"PyTorchUtilsLogic", "OpenProcess", "CloseHandle", "WaitForSingleObject"}
    for file in our_files():
        for item in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(item, ast.Attribute) and re.match("[A-Z][a-z]|vtk", item.attr):
                used[item.attr] = file.name
    missing = {n: f for n, f in used.items() if n not in known | ours | python}
    assert len(used) > 100
    assert not missing


def test_the_form_uses_properties_that_the_node_selector_has(tree: Path) -> None:
    header = tree / "Libs" / "MRML" / "Widgets" / "qMRMLNodeComboBox.h"
    known = set(re.findall(r"Q_PROPERTY\(\S+\s+(\w+)", header.read_text(encoding="utf-8")))
    form = ElementTree.parse(slicer_python.MODULE_FILE.parent / "Resources/UI/StrokeLesionSeg.ui")
    (selector,) = form.iterfind(".//widget[@class='qMRMLNodeComboBox']")
    used = {p.get("name") for p in selector.iterfind("property") if p.get("stdset") != "0"}
    assert used - {"toolTip", "enabled", "sizePolicy", "minimumSize"} <= known


def test_the_sample_is_registered_with_the_real_sample_data_module(
    module: Any, slicer: Any, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tree / "Modules" / "Scripted" / "SampleData"))
    monkeypatch.delitem(sys.modules, "SampleData", raising=False)
    assert sample.register_sample("StrokeLesionSeg", "picture.png")
    assert sample.register_sample("StrokeLesionSeg", "picture.png")
    (source, *_again) = slicer.modules.sampleDataSources["StrokeLesionSeg"]
    assert source.sampleName == sample.SAMPLE_NAME
    (node,) = source.customDownloader(source)  # as the module's button calls it
    assert node.GetName() == sample.NODE_NAME


def test_slicers_segment_statistics_agree_with_the_table(
    module: Any, slicer: Any, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tree / "Modules" / "Scripted" / "SegmentStatistics"))
    for name in [n for n in sys.modules if n.startswith("SegmentStatistics")]:
        monkeypatch.delitem(sys.modules, name)
    # Slicer's names of its extension modules, and those of slicer-core.
    for name, core in (
        ("vtkITK", "vtkITK"),
        ("vtkSegmentationCorePython", "vtkSegmentationCore"),
    ):
        monkeypatch.setitem(sys.modules, name, importlib.import_module(f"slicer_core.{core}"))
    # Each of its plugins makes widgets for its dialog, which have nothing to do with the numbers.
    base = importlib.import_module("SegmentStatisticsPlugins").SegmentStatisticsPluginBase
    monkeypatch.setattr(base, "createDefaultOptionsWidget", lambda self: None)
    monkeypatch.setattr(base, "updateGuiFromParameterNode", lambda self, *_: None)
    node = head_node(slicer, np.diag([0.9, 1.1, 3.0, 1]))
    probability = blob_volume(node)
    segmentation = results.add_segmentation(node)
    patch = ProbabilityMap(probability).lesions(OperatingPoint(0.5)).patch
    segment_id = results.add_segment(segmentation, patch, Provenance())
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    theirs = measure.segment_statistics(segmentation, segment_id, node)
    assert theirs is not None
    total = sum(r.volume_ml for r in measure.measure_segment(segmentation, segment_id, node))
    assert theirs["LabelmapSegmentStatisticsPlugin.volume_cm3"] == pytest.approx(total)
    assert theirs["LabelmapSegmentStatisticsPlugin.voxel_count"] == patch.mask.sum()
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes, "it leaves nothing in the scene"
