"""The search for an operating point counts what the engine would mark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("monai")
from scipy import ndimage
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.inference import SegmentOptions
from StrokeLesionSegLib.lesions import find_lesions
from StrokeLesionSegLib.operating_point import OperatingPoint
from stroketrain.data.atlas import AtlasScan
from stroketrain.evaluate import Case, predict_tree
from stroketrain.tune import Tried, choose_operating_point, search_operating_points

AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])  # .024 mL a voxel


def case(seed: int, lesion: bool) -> Case:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(14, 15, 16)), 1.2)
    probability = ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)
    truth = (probability > 0.62).astype(np.uint8) if lesion else np.zeros(noise.shape, np.uint8)
    scan = AtlasScan(t1=Path("x"), masks=(), subject=f"s{seed}", session="1", site="R001")
    return Case(scan, "cavity" if lesion else "healthy", 1.0, AFFINE, probability, truth)


def test_every_setting_agrees_with_find_lesions() -> None:
    cases = [case(1, True), case(2, True), case(3, False)]
    table = search_operating_points(cases)
    assert any(t.point.second_threshold for t in table)
    assert any(t.point.second_threshold is None for t in table)
    assert len({p.dice for p in table}) > 20
    for tried in table[::7]:
        dice, empty = [], []
        for c in cases:
            mask = find_lesions(c.probability, AFFINE, tried.point).mask
            if c.truth.any():
                dice.append(2 * float((mask & c.truth).sum()) / (mask.sum() + c.truth.sum()))
            else:
                empty.append(not mask.any())
        assert tried.dice == pytest.approx(np.mean(dice), abs=1e-9)
        assert tried.empty == np.mean(empty)


def test_without_lesions_nothing_is_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="no scan has a lesion"):
        search_operating_points([case(3, False)])
    # A tree whose scans were all left out.
    stem = "sub-r001s001_ses-1_space-MNI152NLin2009aSym"
    (tmp_path / f"{stem}_T1w.nii").write_bytes(b"not found")
    (tmp_path / f"{stem}_label-L_mask.nii").write_bytes(b"not found")
    with pytest.raises(InputError, match="could be used"):
        list(predict_tree(None, tmp_path, SegmentOptions()))  # type: ignore[arg-type]
    # Not among the results, which are JSON.
    said = capsys.readouterr()
    assert (said.out, said.err.startswith("left out: ")) == ("", True)


def test_takes_the_best_dice_among_the_quiet_ones() -> None:
    table = [
        Tried(OperatingPoint(0.2), dice=0.9, empty=0.5),
        Tried(OperatingPoint(0.4, 0.8, 0.1), dice=0.7, empty=0.9),
        Tried(OperatingPoint(0.8, None, 0.4), dice=0.5, empty=1.0),
    ]
    assert choose_operating_point(table, quiet=0.85).dice == 0.7
    assert choose_operating_point(table, quiet=0.0).dice == 0.9
    assert choose_operating_point(table[:1], quiet=0.85).dice == 0.9
