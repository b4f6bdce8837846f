"""The one line about an input, and what is said when something is missing."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bridge_scenes import AFFINES, head_node
from simulated import simulated_head
from StrokeLesionSegLib.images.volume import Volume
from StrokeLesionSegLib.input_check import contrast_of, measure
from StrokeLesionSegLib.sample_scan import SimulatedStroke, stroke_in_head
from StrokeLesionSegLib.slicerbridge.engine import batch, system_check, torch_setup
from StrokeLesionSegLib.slicerbridge.engine.run import RunParameters
from StrokeLesionSegLib.slicerbridge.module import sample
from StrokeLesionSegLib.slicerbridge.module.panel import texts as panel_texts
from StrokeLesionSegLib.slicerbridge.scene import terminology
from StrokeLesionSegLib.slicerbridge.scene.input_check import (
    CHOOSE,
    InputCheck,
    check_input,
)
from StrokeLesionSegLib.slicerbridge.scene.volumes import add_volume_node


@pytest.fixture(scope="module")
def simulated() -> SimulatedStroke:
    return simulated_head()


def test_nothing_chosen_says_what_to_choose(slicer: Any) -> None:
    assert check_input(None).text == CHOOSE
    assert not check_input(None).usable


def test_a_whole_head_a_stripped_brain_and_other_contrasts(
    slicer: Any, simulated: SimulatedStroke
) -> None:
    t1 = simulated.t1
    judged = check_input(add_volume_node(t1, "T1"))
    assert judged.usable
    assert judged.text == "Looks T1-weighted, 1 x 1 x 1 mm."
    from StrokeLesionSegLib.images import mni_brain_mask

    brain = mni_brain_mask().array > 0
    stripped = t1.with_array(np.where(brain, t1.array, 0).astype(np.int16))
    assert "already brain-extracted" in check_input(add_volume_node(stripped, "T1")).text
    bright_fluid = np.where(brain, 800 - t1.array, t1.array // 4).astype(np.int16)
    judged = check_input(add_volume_node(t1.with_array(bright_fluid), "A scan"))
    assert judged.contrast == "T2"
    assert "trained on T1 only" in judged.text
    hounsfield = (t1.array.astype(np.int16) // 20) + np.where(t1.array < 60, -1000, 0)
    judged = check_input(add_volume_node(t1.with_array(hounsfield.astype(np.int16)), "A scan"))
    assert judged.contrast == "CT"


def test_an_inverted_t1_does_not_look_t1_weighted(slicer: Any, simulated: SimulatedStroke) -> None:
    t1 = simulated.t1
    top = int(t1.array.max())
    everything = top - t1.array
    head_alone = np.where(t1.array > 60, everything, 0)
    for inverted in (everything, head_alone):
        judged = check_input(add_volume_node(t1.with_array(inverted.astype(np.int16)), "A scan"))
        assert judged.contrast != "T1"
        assert not judged.text.startswith("Looks T1-weighted")


def test_a_head_whose_face_was_zeroed_is_not_called_extracted(
    slicer: Any, shared_data: Path
) -> None:
    """Defaced heads have as many zeros as some extracted brains."""
    from StrokeLesionSegLib.images import read_scan

    for name, extracted in (
        ("ARC_M2001_T1w", False),
        ("ARC_M2304_T1w", False),
        ("ARC_M2058_brain_T1w", True),
    ):
        volume = read_scan(shared_data / "real" / f"{name}.nii.gz").volume
        judged = check_input(add_volume_node(volume, "A scan"))
        assert ("already brain-extracted" in judged.text) == extracted, name


@pytest.mark.parametrize("name", ["ax FLAIR", "sub-01_T2w", "DWI_b1000", "ADC", "t2_tse"])
def test_a_name_that_speaks_of_another_contrast_is_doubted(slicer: Any, name: str) -> None:
    assert check_input(head_node(slicer, name=name)).doubts


@pytest.mark.parametrize("name", ["T1", "sub-ct01_T1w", "MPRAGE", "patient2"])
def test_ordinary_names_are_not(slicer: Any, simulated: Any, name: str) -> None:
    assert not check_input(add_volume_node(simulated.t1, name)).doubts


def test_thick_oblique_slices_and_transforms_are_named(slicer: Any) -> None:
    node = head_node(slicer, AFFINES["oblique, thick"])
    text = check_input(node).text
    assert "thick slices (3 mm)" in text
    assert "oblique (23 degrees)" in text  # 20 and 12 about two axes
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Warp")
    node.SetAndObserveTransformNodeID(warp.GetID())
    assert "under the " in check_input(node).text
    assert "'Warp': the mask will follow it" in check_input(node).text


def test_spacing_in_the_wrong_unit_is_doubted(slicer: Any) -> None:
    node = head_node(slicer, np.diag([0.001, 0.001, 0.001, 1]))
    assert "less than a head" in check_input(node).text


@pytest.mark.shared
def test_every_shared_t1_looks_t1_weighted(slicer: Any, shared_data: Path) -> None:
    import nibabel

    files = sorted((shared_data / "t1").rglob("*.nii.gz"))
    wrong = []
    for file in files:
        array = np.asarray(nibabel.load(file).dataobj).squeeze().T
        measures = measure(Volume(np.asarray(array), np.eye(4)))
        contrast = contrast_of(measures)
        is_brain = "brain" in file.name
        if measures is None or contrast != "T1" or measures.stripped != is_brain:
            wrong.append((file.name, contrast, measures))
    assert len(files) >= 10
    assert not wrong


def test_the_terminology_is_read_by_slicer(slicer: Any) -> None:
    assert terminology.load_terminology()
    assert terminology.load_terminology(), "a second call finds it loaded"
    for term in (terminology.INFARCT, terminology.ISCHEMIC_STROKE):
        entry = slicer.vtkSlicerTerminologyEntry()
        logic = slicer.modules.terminologies.logic()
        assert logic.DeserializeTerminologyEntry(term.entry(), entry)
        assert entry.GetTypeObject().GetCodeMeaning() == term.meaning
        assert entry.GetCategoryObject().GetCodeValue() == "49755003"
        # Called "anatomic region" up to Slicer 5.8.
        region = getattr(entry, "GetRegionObject", entry.GetAnatomicRegionObject)
        assert region().GetCodeMeaning() == "Brain"


# -- torch --------------------------------------------------------------------------------------


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> list[torch_setup.TorchState]:
    """torch is absent; the list's first entry is what ``torch_state`` says."""
    states = [torch_setup.TorchState(False)]
    monkeypatch.setattr(torch_setup, "torch_state", lambda: states[0])
    return states


def extension(monkeypatch: pytest.MonkeyPatch, install: Any) -> None:
    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = lambda: types.SimpleNamespace(installTorch=install)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    monkeypatch.setattr(torch_setup.shutil, "which", lambda name: f"/Slicer/bin/{name}")


def test_an_installed_torch_is_left_alone() -> None:
    state = torch_setup.install_torch(lambda text: pytest.fail("asked"), testing=False)
    assert state.installed


def test_a_no_installs_nothing(monkeypatch: pytest.MonkeyPatch, no_torch: Any) -> None:
    extension(monkeypatch, lambda **k: pytest.fail("installed after a no"))
    with pytest.raises(torch_setup.TorchDeclined, match="Nothing was changed"):
        torch_setup.install_torch(lambda text: False, testing=False)


def test_testing_mode_installs_nothing(monkeypatch: pytest.MonkeyPatch, no_torch: Any) -> None:
    extension(monkeypatch, lambda **k: pytest.fail("installed in testing mode"))
    with pytest.raises(torch_setup.TorchDeclined):
        torch_setup.install_torch(lambda text: True, testing=True)


def test_without_the_extension_it_says_how(monkeypatch: pytest.MonkeyPatch, no_torch: Any) -> None:
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(RuntimeError, match="Extensions Manager"):
        torch_setup.install_torch(lambda text: True, testing=False)


def test_a_yes_installs_and_watches_slicers_packages(
    monkeypatch: pytest.MonkeyPatch, no_torch: list[torch_setup.TorchState]
) -> None:
    asked: list[tuple[Any, ...]] = []
    versions = {"numpy": "2.0"}

    def install(
        askConfirmation: bool = True,
        forceComputationBackend: str | None = None,
        torchVersionRequirement: str | None = None,
    ) -> object:
        asked.append((askConfirmation, forceComputationBackend, torchVersionRequirement))
        no_torch[0] = torch_setup.TorchState(True, "2.9")
        return object()

    monkeypatch.setattr(torch_setup, "package_versions", lambda: dict(versions))
    extension(monkeypatch, install)
    assert torch_setup.install_torch(lambda text: True, testing=False).version == "2.9"
    assert asked == [(False, None, ">=2.4")]

    def meddle(askConfirmation: bool = True) -> object:  # an older extension
        versions["numpy"] = "1.0"
        return install(askConfirmation)

    no_torch[0] = torch_setup.TorchState(False)
    extension(monkeypatch, meddle)
    with pytest.raises(RuntimeError, match=r"numpy 2\.0 became 1\.0"):
        torch_setup.install_torch(lambda text: True, testing=False)


@pytest.mark.parametrize(
    ("error", "installed", "said"),
    [
        (
            subprocess.CalledProcessError(3, ["x" * 500]),
            False,
            "pip ended with exit code 3",
        ),
        (ImportError("No module named 'light_the_torch'"), False, "light_the_torch"),
        (ImportError("libcudart.so.12: cannot open"), True, "does not load: libcudart"),
        (OSError("[WinError 126] c10.dll\nmore"), True, "does not load"),
    ],
)
def test_a_failed_installation_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
    no_torch: list[torch_setup.TorchState],
    error: Exception,
    installed: bool,
    said: str,
) -> None:
    def install() -> None:
        no_torch[0] = torch_setup.TorchState(installed, "2.9")
        raise error

    extension(monkeypatch, install)
    with pytest.raises(RuntimeError, match=said) as caught:
        torch_setup.install_torch(lambda text: True, testing=False)
    assert "'Offline installation'" in str(caught.value)
    assert "xxx" not in str(caught.value)
    assert caught.value.__cause__ is error


def test_without_the_launcher_nobody_is_asked(
    monkeypatch: pytest.MonkeyPatch, no_torch: list[torch_setup.TorchState]
) -> None:
    """The extension installs by PythonSlicer, which a Slicer of the system's Python lacks."""
    extension(monkeypatch, lambda: pytest.fail("installed"))
    monkeypatch.setattr(torch_setup.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="no PythonSlicer") as caught:
        torch_setup.install_torch(lambda text: pytest.fail("asked"), testing=False)
    assert f'"{sys.executable}" -m pip install "torch>=2.4"' in str(caught.value)


# -- texts --------------------------------------------------------------------------------------


def test_every_state_of_the_panel_says_what_to_do() -> None:
    usable = InputCheck(True, "Looks T1-weighted, 1 x 1 x 1 mm.", "T1")
    said = set()
    for changes in (
        {"input_check": InputCheck(False, CHOOSE)},
        {"input_check": InputCheck(False, "This volume is empty. Load the image again.")},
        {"has_model": False},
        {"torch_installed": False},
        {},
        {"running": True},
        {"installing": True},
        {"problem": "The disk is full. Free some space."},
        {"has_result": True},
        {"has_result": True, "kept_apart": True},
        {"has_result": True, "corrected": True},
        {"has_result": True, "corrected": True, "of_batch": True},
        {"shown_instead": "another scan"},
    ):
        shown = panel_texts.view(panel_texts.PanelState(**{"input_check": usable, **changes}))
        assert shown.next_step
        assert shown.next_step not in said
        said.add(shown.next_step)
        assert shown.segment_enabled or shown.segment_tooltip
        assert shown.result_enabled or shown.result_tooltip or changes.get("running")
    nothing = InputCheck(False, "Choose an image.")
    shown = panel_texts.view(panel_texts.PanelState(nothing, problem="PyTorch was not installed."))
    assert shown.next_step == "PyTorch was not installed.\nChoose an image."
    shown = panel_texts.view(
        panel_texts.PanelState(usable, has_model=False, problem="No zip file.")
    )
    assert shown.next_step.startswith("No zip file.\nNo model is installed")
    warned = panel_texts.PanelState(
        usable, has_result=True, warnings=("Not aligned", "Thick slices.", "Is it T1?")
    )
    said = panel_texts.view(warned).next_step
    assert said.endswith("Note: Not aligned. Thick slices. Is it T1?")
    assert panel_texts.as_html("a < b & c\nd") == "<span>a &lt; b &amp; c<br>d</span>"


def test_the_report_for_it_names_nobody() -> None:
    text = system_check.report_text(
        system_check.local_report(),
        {"machine": {"memory": "8 GiB"}, "model cache": str(Path.home() / "models")},
        log=(f"{Path.home()}/secret/scan.nii: broken",),
    )
    assert str(Path.home()) not in text
    assert "machine.memory: 8 GiB" in text
    assert "torch" in text
    failed = system_check.report_text({}, None, "exit code 1")
    assert "DOES NOT WORK" in failed
    assert "exit code 1" in failed


def test_a_failure_of_the_batch_names_its_file() -> None:
    failed = {"source": "sub-03/anat/sub-03_T1w.nii.gz", "error": "it is a mask. Choose the scan."}
    said = batch.result_text({"scans": 3, "done": 2, "failed": 1, "failures": [failed]})
    assert "First of them: sub-03/anat/sub-03_T1w.nii.gz: it is a mask." in said


def test_batch_arguments_and_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "scans"
    source.mkdir()
    wanted = batch.BatchParameters(
        str(source), str(tmp_path / "out"), False, RunParameters(views="triplanar", device="cpu")
    )
    assert wanted.problem() == ""
    arguments = wanted.arguments()
    assert arguments[:3] == ["batch", str(source), str(tmp_path / "out")]
    assert "--no-resume" in arguments
    assert arguments[arguments.index("--views") + 1] == "triplanar"
    for source_, target in (("", "x"), (str(source), ""), (str(source), str(source))):
        assert batch.BatchParameters(source_, target).problem()
    assert "no folder" in batch.BatchParameters(str(tmp_path / "absent"), "x").problem()
    # The table of results looks into the folder without blanks around its name, too.
    blanks = batch.BatchParameters(f" {tmp_path}", f"{tmp_path / 'out'} ")
    assert not blanks.problem()
    assert blanks.arguments()[1:3] == [str(tmp_path), str(tmp_path / "out")]
    for home in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(home, str(tmp_path))
    at_home = batch.BatchParameters("~/scans", "~/out")
    assert not at_home.problem()
    assert at_home.arguments()[1:3] == [str(source), str(tmp_path / "out")]


def test_run_parameters_are_understood_by_the_command_line() -> None:
    """Every argument that the bridge passes is one that the command line knows."""
    from StrokeLesionSegLib.cli import build_parser

    parameters = RunParameters("triplanar", "mni", "cpu", "float32", "m", 0.4, 0.1, True)
    arguments = ["segment", "in.nii", "-o", "mask.nii", "--probability", "p.nii"]
    arguments += ["--uncertainty", "s.nii", "--table", "t.tsv", "--sidecar", "j.json"]
    arguments += ["--progress", "json", "--overwrite", *parameters.arguments()]
    parsed = build_parser().parse_args(arguments)
    assert (parsed.views, parsed.align, parsed.precision) == ("triplanar", "mni", "float32")
    assert (parsed.threshold, parsed.min_volume, parsed.tta) == (0.4, 0.1, True)
    assert build_parser().parse_args(torch_setup.verify_arguments()).json


def test_the_terminology_file_is_sound(repository: Path) -> None:
    folder = repository / "StrokeLesionSeg" / "Resources" / "Terminologies"
    content = json.loads((folder / terminology.FILE).read_text(encoding="utf-8"))
    assert content["SegmentationCategoryTypeContextName"] == terminology.CONTEXT
    types_ = content["SegmentationCodes"]["Category"][0]["Type"]
    known = {t["CodeValue"]: t["CodeMeaning"] for t in types_}
    for term in (terminology.INFARCT, terminology.ISCHEMIC_STROKE):
        assert known[term.code] == term.meaning


def test_the_sample_is_the_same_every_time(simulated: SimulatedStroke) -> None:
    again = stroke_in_head()
    np.testing.assert_array_equal(again.t1.array, simulated.t1.array)
    np.testing.assert_array_equal(again.truth.array, simulated.truth.array)
    assert 20 < simulated.truth.array.sum() / 1000 < 60
    assert isinstance(simulated.t1, Volume)


@pytest.mark.parametrize("modern", [True, False])
def test_the_sample_is_offered_and_made_here(
    slicer: Any, monkeypatch: pytest.MonkeyPatch, modern: bool
) -> None:
    """With Slicer 5.12's categories and without, as SampleData calls it."""
    monkeypatch.setattr(sample, "stroke_in_head", lambda seed: simulated_head())
    sources: list[dict[str, Any]] = []
    categories: list[tuple[str, str]] = []

    class Logic:
        @staticmethod
        def registerCustomSampleDataSource(**source: Any) -> None:
            sources.append(source)

    if modern:
        Logic.registerCustomSampleDataCategory = staticmethod(  # type: ignore[attr-defined]
            lambda category, title: categories.append((category, title))
        )
    module = types.ModuleType("SampleData")
    module.SampleDataLogic = Logic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "SampleData", module)
    assert sample.register_sample("StrokeLesionSeg")
    assert len(categories) == modern
    (source,) = sources
    sample.register_sample("StrokeLesionSeg")
    assert sources.pop() == source, "Sample Data knows by this that it has it"
    assert source["uris"].startswith("file:")
    (node,) = source["customDownloader"](source)
    assert node.GetName() == source["nodeNames"]
    monkeypatch.setitem(sys.modules, "SampleData", None)
    assert not sample.register_sample("StrokeLesionSeg")


@pytest.mark.parametrize(
    ("version", "enough"),
    [("2.3.1+cu118", False), ("1.13", False), ("2.4.0", True), ("2.10", True)],
)
def test_an_old_torch_is_told_and_not_replaced(
    monkeypatch: pytest.MonkeyPatch, version: str, enough: bool
) -> None:
    monkeypatch.setattr(torch_setup.metadata, "version", lambda name: version)
    state = torch_setup.torch_state()
    assert (state.installed, state.too_old, state.version) == (enough, not enough, version)
    asked: list[str] = []
    if enough:
        assert torch_setup.install_torch(lambda text: not asked.append(text), False) == state
    else:
        with pytest.raises(RuntimeError, match=r"2\.4 or newer is needed"):
            torch_setup.install_torch(lambda text: not asked.append(text), False)
    assert not asked


def test_a_batch_gets_whole_paths_and_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child works in a folder of its own, where a relative path means something else."""
    from StrokeLesionSegLib.slicerbridge.engine.batch import BatchParameters
    from StrokeLesionSegLib.slicerbridge.engine.run import RunParameters

    (tmp_path / "scans").mkdir()
    monkeypatch.chdir(tmp_path)
    wanted = BatchParameters("scans", "out", run=RunParameters(threshold=0.3, min_volume_ml=0.2))
    assert not wanted.problem()
    arguments = wanted.arguments()
    assert arguments[1:3] == [str(tmp_path / "scans"), str(tmp_path / "out")]
    assert arguments[arguments.index("--threshold") + 1] == "0.3"
    assert arguments[arguments.index("--min-volume") + 1] == "0.2"
