"""A 2D model of one's own, all the way: trained on a simulated ATLAS tree, exported, installed,
chosen in the panel, run by ``segment`` and ``batch``, its mask corrected by clicks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")
from editor_stand_in import Editor
from panel_support import Panel
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.correction import load_click_model
from StrokeLesionSegLib.correction.robot import dice_of, largest_error
from StrokeLesionSegLib.images import read_scan
from StrokeLesionSegLib.inference import SegmentOptions, segment_volume
from StrokeLesionSegLib.models import load_model
from StrokeLesionSegLib.slicerbridge.editor import correct
from StrokeLesionSegLib.slicerbridge.editor.store import SessionStore
from StrokeLesionSegLib.slicerbridge.editor.target import EditTarget
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance
from StrokeLesionSegLib.slicerbridge.scene.volumes import add_volume_node
from stroketrain import cli

NETWORK = {"name": "residual_unet", "in_channels": 1, "filters": [4, 8, 8, 8], "skip": "stem"}
OPTIONS = SegmentOptions(align="none", device="cpu", precision="float32")
WORDS = ["--model", "own", "--align", "none", "--device", "cpu", "--precision", "float32"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A simulated scan with its mask, and the model that was trained on it for seconds."""
    folder = tmp_path_factory.mktemp("own")
    tree, cache, run, model = (folder / name for name in ("tree", "cache", "run", "model"))
    simulate = ["simulate", str(tree), "-n", "1", "--seed", "1", "--kinds", "cavity"]
    assert cli.main(simulate) == 0
    assert cli.main(["prepare", str(tree), str(cache)]) == 0
    fit = ["fit", str(cache), str(run), "--network", json.dumps(NETWORK), "--steps", "30"]
    fit += ["--batch", "4", "--lesion-share", "0.9", "--ema", "0.8", "--precision", "32-true"]
    assert cli.main(fit) == 0
    (t1,), (truth,) = (list(tree.rglob(f"*_{kind}.nii.gz")) for kind in ("T1w", "mask"))
    # Its probabilities mean little after seconds: a threshold that marks a fiftieth of the brain.
    export = ["export", str(run), str(model), "--name", "own", "--min-volume", "0"]
    assert cli.main(export) == 0
    p = segment_volume(read_scan(t1).volume, load_model(model), OPTIONS).probability.array
    threshold = str(round(float(np.quantile(p[p > 0], 0.98)), 4))
    shutil.rmtree(model)
    assert cli.main([*export, "--threshold", threshold]) == 0
    return t1, truth, model


@pytest.fixture
def installed(
    trained: tuple[Path, Path, Path],
    model_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Path, np.ndarray]:
    """The scan and its truth, in a home in which nothing but the model is installed."""
    t1, truth, model = trained
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))
    assert main(["models", "install", str(model)]) == 0
    return t1, read_scan(truth).volume.array > 0


@pytest.mark.long
def test_a_2d_model_from_training_to_a_corrected_mask(
    installed: tuple[Path, np.ndarray], panel: Panel, tmp_path: Path
) -> None:
    t1, truth = installed

    # By the command line, alone and as a batch.
    mask = tmp_path / "mask.nii.gz"
    assert main(["segment", str(t1), "-o", str(mask), *WORDS]) == 0
    expected = read_scan(mask).volume.array > 0
    assert 0 < expected.sum() < truth.size / 20
    (tmp_path / "scans").mkdir()
    shutil.copy(t1, tmp_path / "scans")
    assert main(["batch", str(tmp_path / "scans"), str(tmp_path / "masks"), *WORDS]) == 0
    (of_batch,) = (tmp_path / "masks").rglob("*_label-lesion_mask.nii.gz")
    np.testing.assert_array_equal(read_scan(of_batch).volume.array > 0, expected)

    # Chosen in the panel.
    node = add_volume_node(read_scan(t1).volume, "T1")
    panel.parameters.inputVolume = node
    for name, value in (("model", "own"), ("align", "none"), ("device", "cpu")):
        panel.choose(name, value)
    panel.choose("precision", "float32")
    panel.segment()
    np.testing.assert_array_equal(panel.mask(), expected)
    segmentation = panel.parameters.segmentation
    segment_id = panel.widget.logic.segment_id(segmentation)
    made = Provenance.from_segment(segmentation.GetSegmentation().GetSegment(segment_id))
    assert made.model == "own"

    # Corrected by clicks, which the model that ships answers.
    assert load_click_model("own").manifest.kind == "volumetric"
    editor, store = Editor(panel.slicer, node, segmentation), SessionStore()
    editor.select(segment_id)
    effect = editor.effect()
    effect.name = "Test"
    entry, target = store.open(effect), EditTarget.selected(editor.node)
    states = [editor.voxels(segment_id)]
    for _ in range(3):
        place = largest_error(states[-1], truth, entry.session.grid.spacing[::-1])
        assert place is not None
        lesion = bool(truth[place])
        change = correct.correct(effect, store, entry, target, [place], lesion)
        states.append(editor.voxels(segment_id))
        assert states[-1][place] == lesion
        changed = states[-1] != states[-2]
        assert change.voxels == changed.sum() > 0
        assert (states[-1][changed] == lesion).all()
    assert dice_of(states[-1], truth) > dice_of(states[0], truth)
    for state in reversed(states[:-1]):
        editor.undo()
        np.testing.assert_array_equal(editor.voxels(segment_id), state)
