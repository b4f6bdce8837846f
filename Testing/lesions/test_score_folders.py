"""Scoring folders: which file belongs to which, geometry, what is missing, the summary."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.lesions.scorers import (
    ScoreOptions,
    metrics_of,
    score_folders,
    summarise_scores,
)
from StrokeLesionSegLib.lesions.scorers.summary import bootstrap_interval


@dataclass
class Image:
    array: np.ndarray
    affine: np.ndarray


class Shelf:
    """Images in memory under real, empty files: the pairing looks at names, not at contents."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: dict[Path, Image] = {}
        self.read_paths: list[Path] = []

    def put(self, name: str, lesion=((1, 1, 1),), affine=None, shape=(4, 5, 6), soft=None) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        array = np.zeros(shape, dtype=np.uint8)
        for voxel in lesion:
            array[voxel] = 1
        if soft is not None:
            array = np.where(array > 0, soft, 0.0).astype(np.float32)
        self.images[path] = Image(array, np.eye(4) if affine is None else affine)
        return path

    def read(self, path: Path) -> Image:
        self.read_paths.append(path)
        if path not in self.images:
            raise InputError(path, "the file is damaged", "Copy it again")
        return self.images[path]

    def score(self, scorer="isles2022", pred="pred", truth="truth", progress=None, **options):
        folders, how = (self.root / pred, self.root / truth), ScoreOptions(**options)
        return score_folders(*folders, scorer, how, read=self.read, progress=progress)


@pytest.fixture
def shelf(tmp_path) -> Shelf:
    return Shelf(tmp_path)


def test_atlas_tree_against_a_bids_derivative(shelf):
    atlas = "truth/Training/R001/sub-r001s00{}/ses-1/anat/sub-r001s00{}_ses-1_"
    ours = "pred/sub-r001s00{}/ses-1/anat/sub-r001s00{}_ses-1_"
    for n in (1, 2, 3):
        shelf.put(
            (atlas + "space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask.nii.gz").format(n, n),
            lesion=[(1, 1, x + 1) for x in range(n)],
        )
        shelf.put((atlas + "space-MNI152NLin2009aSym_T1w.nii.gz").format(n, n))
        shelf.put((ours + "label-lesion_mask.nii.gz").format(n, n))
        shelf.put((ours + "label-lesion_probseg.nii.gz").format(n, n), soft=0.9)
    (shelf.root / "pred" / "index.html").touch()
    result = shelf.score("isles2026")
    assert result.problems == ()
    assert [c.case for c in result.cases] == [f"sub-r001s00{n}_ses-1" for n in (1, 2, 3)]
    assert [c.scores["dice"] for c in result.cases] == [1, 2 / 3, 0.5]
    assert not math.isnan(result.cases[0].scores["pr_auc"])  # the probseg was found
    assert not any("T1w" in p.name for p in shelf.read_paths)
    shelf.read_paths.clear()
    assert len(shelf.score("atlas2022").cases) == 3
    assert not any("probseg" in p.name for p in shelf.read_paths)


def test_a_derivative_with_results_in_mni_space_and_maps_of_the_group(shelf):
    """Of one scan's masks the one on its own grid counts, whatever else a batch has written."""
    start = "pred/sub-01/anat/sub-01_"
    mask = shelf.put(start + "label-lesion_mask.nii.gz")
    shelf.put(start + "label-lesion_probseg.nii.gz", soft=0.9)
    other_grid = {"shape": (7, 7, 7)}
    shelf.put(start + "space-MNI152NLin2009aSym_label-lesion_mask.nii.gz", **other_grid)
    shelf.put(start + "space-MNI152NLin2009aSym_label-lesion_probseg.nii.gz", **other_grid)
    shelf.put("pred/group_overlap_count.nii.gz", **other_grid)
    shelf.put("pred/group_overlap_share.nii.gz", **other_grid)
    shelf.put("truth/sub-01_mask.nii.gz")
    result = shelf.score("isles2026")
    assert result.problems == ()
    (case,) = result.cases
    assert case.pred == mask
    assert case.scores["pr_auc"] == 1


def test_corrected_masks_are_references_and_no_predictions(shelf):
    """They lie beside the automatic masks of a derivative, in both spaces."""
    there, here = [(1, 1, 1), (1, 1, 2)], [(1, 1, 1)]
    for name, voxels in {"label-lesion_mask": here, "desc-corrected_mask": there}.items():
        shelf.put(f"out/sub-01/anat/sub-01_{name}.nii.gz", voxels)
    for name in ("label-lesion_mask", "label-lesion_desc-corrected_mask"):
        space = f"sub-01_space-MNI152NLin2009aSym_{name}.nii.gz"
        shelf.put(f"out/sub-01/anat/{space}", shape=(7, 7, 7))
    shelf.put("readers/sub-01_mask.nii.gz", there)
    shelf.put("model/sub-01_label-lesion_mask.nii.gz", there)
    result = shelf.score(pred="out", truth="readers")
    assert result.cases[0].scores["dice"] == pytest.approx(2 / 3)
    assert result.notes == (
        "corrected masks lie beside the predictions of 1 scan and were left out: scored is what "
        "the model found",
    )
    result = shelf.score(pred="model", truth="out")
    assert result.cases[0].scores["dice"] == 1
    assert result.notes == (
        "the references of 1 scan are corrected masks, not the automatic ones beside them",
    )
    # A derivative against itself: what its readers have corrected, and nothing else.
    shelf.put("out/sub-02/anat/sub-02_label-lesion_mask.nii.gz")
    result = shelf.score(pred="out", truth="out")
    assert [case.scores["dice"] for case in result.cases] == [pytest.approx(2 / 3)]
    (problem,) = result.problems
    assert "is prediction and reference of sub-02 in one" in str(problem)
    # Where there is no other, it is the prediction.
    shelf.put("second/sub-01_desc-corrected_mask.nii.gz", there)
    result = shelf.score(pred="second", truth="readers")
    assert (result.cases[0].scores["dice"], result.notes) == (1, ())


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_linked_folders_are_entered_and_hidden_ones_are_not(shelf):
    shelf.put("elsewhere/sub-01_mask.nii.gz")
    shelf.put("pred/sub-01_mask.nii.gz")
    (shelf.root / "truth").mkdir()
    (shelf.root / "truth" / "sub-01").symlink_to(shelf.root / "elsewhere")
    (shelf.root / "elsewhere" / "round").symlink_to(shelf.root / "truth")
    # As DataLad keeps contents.
    shelf.put("truth/.git/annex/objects/MD5E-s1--0.nii.gz/MD5E-s1--0.nii.gz")
    linked = shelf.root / "truth" / "sub-01" / "sub-01_mask.nii.gz"
    shelf.images[linked] = shelf.images[shelf.root / "pred" / "sub-01_mask.nii.gz"]
    result = shelf.score()
    assert result.problems == ()
    assert [case.truth for case in result.cases] == [linked]


def test_entities_tell_sessions_and_runs_apart(shelf):
    for ses in ("1", "2"):
        for run in ("1", "2"):
            name = f"sub-a/ses-{ses}/sub-a_ses-{ses}_run-{run}"
            lesion = [(1, int(ses), int(run))]
            shelf.put(f"truth/{name}_label-lesion_mask.nii.gz", lesion)
            shelf.put(f"pred/{name}_space-orig_label-lesion_mask.nii.gz", lesion)
    result = shelf.score()
    assert len(result.cases) == 4
    assert all(c.scores["dice"] == 1 for c in result.cases)


@pytest.mark.parametrize(("theirs", "ours"), [("run-01", "run-1"), ("echo-2", "echo-002")])
def test_indices_compare_as_numbers_and_labels_as_they_are(shelf, theirs, ours):
    for other in ("run-10", "echo-20", "acq-01"):
        shelf.put(f"truth/sub-1_{other}_mask.nii.gz")
    shelf.put(f"truth/sub-1_{theirs}_mask.nii.gz")
    shelf.put(f"pred/sub-1_{ours}_mask.nii.gz")
    shelf.put("pred/sub-1_acq-1_mask.nii.gz")
    result = shelf.score()
    assert len(result.cases) == 1
    assert len(result.problems) == 4  # three references, and acq-1, a label


def test_plain_names_with_the_usual_endings(shelf):
    shelf.put("truth/case_7_mask.nii.gz")
    shelf.put("pred/case_7_pred.nrrd")
    shelf.put("pred/case_7_prob.nrrd", soft=0.7)
    shelf.put("truth/case_8.nii")
    shelf.put("pred/case_8_lesion_seg.mha")
    shelf.put("truth/.hidden_mask.nii")
    result = shelf.score("isles2026")
    assert result.problems == ()
    assert [c.case for c in result.cases] == ["case_7", "case_8"]
    assert result.cases[0].scores["pr_auc"] == 1
    assert math.isnan(result.cases[1].scores["pr_auc"])
    assert result.summary["metrics"]["pr_auc"]["n"] == 1


def test_accents_may_be_characters_of_their_own(shelf):
    shelf.put("truth/Mu\u0308ller/re\u0301f_mask.nii.gz")
    shelf.put("pred/M\u00fcller/r\u00e9f_pred.nii.gz")
    result = shelf.score()
    assert result.problems == ()
    assert len(result.cases) == 1


def test_one_folder_per_case(shelf):
    for case in ("a", "b"):
        shelf.put(f"truth/{case}/mask.nii.gz", [(1, 1, ord(case) - 97)])
        shelf.put(f"truth/{case}/t1.nii.gz")
        shelf.put(f"pred/{case}/prediction.nii.gz", [(1, 1, ord(case) - 97)])
    result = shelf.score()
    assert result.problems == ()
    assert [(c.case, c.scores["dice"]) for c in result.cases] == [("a", 1), ("b", 1)]
    # The same references against a flat folder of predictions.
    for case in ("a", "b"):
        shelf.put(f"flat/{case}.nii.gz", [(1, 1, ord(case) - 97)])
    flat = shelf.score(pred="flat")
    assert flat.problems == ()
    assert [c.scores["dice"] for c in flat.cases] == [1, 1]


def test_masks_of_single_lesions_are_united(shelf):
    """ATLAS R1.1: LesionSmooth, LesionSmooth_1 and so on; the T1 beside them is no reference."""
    for start in ("truth/Site1/031768/t01/031768", "truth/c0008/c0008s0011t01/c0008s0011t01"):
        shelf.put(f"{start}_LesionSmooth_stx.nii.gz", [(1, 1, 1)])
        shelf.put(f"{start}_LesionSmooth_1_stx.nii.gz", [(1, 1, 3)])
        shelf.put(f"{start}_LesionSmooth_2_stx.nii.gz", [(1, 1, 5)])
    shelf.put("truth/Site1/031768/t01/031768_t1w_deface_stx.nii.gz", [(0, 0, 0)])
    shelf.put("truth/c0008/c0008s0011t01/c0008s0011t01_t1w_stx.nii.gz", [(0, 0, 0)])
    for name in ("Site1/031768/t01/031768", "c0008/c0008s0011t01/c0008s0011t01"):
        shelf.put(f"pred/{name}_pred.nii.gz", [(1, 1, 1), (1, 1, 3), (1, 1, 5)])
    result = shelf.score()
    assert result.problems == ()
    assert [(c.scores["dice"], c.scores["n_truth"], len(c.more)) for c in result.cases] == [
        (1, 3, 2),
        (1, 3, 2),
    ]


def test_another_grid_among_united_masks_is_an_error(shelf):
    shelf.put("truth/a_LesionSmooth_stx.nii")
    shelf.put("truth/a_LesionSmooth_1_stx.nii", shape=(4, 5, 7))
    shelf.put("pred/a.nii")
    (problem,) = shelf.score().problems
    assert "LesionSmooth" in problem.where
    assert "shape" in problem.cause


def test_names_that_are_given_decide_last_and_never_twice(shelf):
    shelf.put("truth/site1/p-07_lesion.nii")
    shelf.put("pred/sub-Site1P07_label-lesion_mask.nii.gz")
    assert shelf.score().cases == ()

    def names(place):
        return (f"sub-{''.join(w.title() for w in place.replace('-', '/').split('/'))}",)

    (case,) = shelf.score(names_of=names).cases
    assert case.case == "site1/p-07"
    shelf.put("truth/site1/p/07_lesion.nii")  # the same name: nobody can say which
    result = shelf.score(names_of=names)
    assert result.cases == ()
    assert len(result.problems) == 3


def test_a_brain_mask_beside_the_lesion_mask_is_passed_over(shelf):
    shelf.put("truth/sub-a/sub-a_desc-brain_mask.nii.gz", [(0, 0, 0)])
    shelf.put("truth/sub-a/sub-a_label-lesion_desc-T1lesion_mask.nii.gz")
    shelf.put("pred/sub-a_label-lesion_mask.nii.gz")
    result = shelf.score()
    assert result.problems == ()
    assert result.cases[0].scores["dice"] == 1


def test_two_candidates_are_said_and_not_guessed(shelf):
    shelf.put("truth/sub-a_label-lesion_mask.nii.gz")
    shelf.put("pred/sub-a_desc-one_label-lesion_mask.nii.gz")
    shelf.put("pred/sub-a_desc-two_label-lesion_mask.nii.gz")
    shelf.put("truth/sub-b_label-lesion_mask.nii.gz")
    shelf.put("pred/sub-b_label-lesion_mask.nii.gz")
    result = shelf.score()
    assert [c.case for c in result.cases] == ["sub-b"]
    assert any("several masks of sub-a" in str(p) for p in result.problems)


def test_what_is_missing_is_listed_and_the_rest_goes_on(shelf):
    shelf.put("truth/a_mask.nii.gz")
    shelf.put("truth/b_mask.nii.gz")
    shelf.put("pred/b_mask.nii.gz")
    shelf.put("pred/c_mask.nii.gz")
    (shelf.root / "truth" / "d_mask.nii.gz").touch()  # Shelf.read finds it damaged
    shelf.put("pred/d_mask.nii.gz")
    result = shelf.score()
    assert [c.case for c in result.cases] == ["b"]
    text = sorted(f"{Path(p.where).name}: {p.cause}" for p in result.problems)
    assert text == [
        "a_mask.nii.gz: no prediction of a found",
        "c_mask.nii.gz: no reference of c found",
        "d_mask.nii.gz: the file is damaged",
    ]
    assert result.summary["n"] == 1
    assert result.summary["n_problems"] == 3


@pytest.mark.parametrize("kind", ["shape", "flipped", "moved", "nan"])
def test_another_grid_is_an_error_of_that_case(shelf, kind):
    affine = np.eye(4)
    shape = (4, 5, 6)
    if kind == "shape":
        shape = (4, 5, 7)
    elif kind == "flipped":
        affine = np.diag([-1.0, 1, 1, 1])
        affine[0, 3] = 5
    elif kind == "moved":
        affine[1, 3] = 0.1
    else:
        affine[0, 0] = np.nan
    shelf.put("truth/a.nii")
    shelf.put("truth/b.nii")
    pred = shelf.put("pred/a.nii", affine=affine, shape=shape)
    shelf.put("pred/b.nii")
    result = shelf.score()
    assert [c.case for c in result.cases] == ["b"]
    (problem,) = result.problems
    assert problem.where == str(pred)
    assert {"shape": "shape", "nan": "not finite"}.get(kind, "mm away") in problem.cause


def test_rounded_headers_are_the_same_grid(shelf):
    affine = np.eye(4)
    affine[:3, 3] = (-97.99999, 134.0001, 72.0)
    other = affine.astype(np.float32).astype(np.float64)
    other[0, 3] += 1e-3
    shelf.put("truth/a.nii", affine=affine)
    shelf.put("pred/a.nii", affine=other)
    assert shelf.score().problems == ()


def test_a_probability_map_as_mask_is_named(shelf):
    shelf.put("truth/a.nii")
    shelf.put("pred/a.nii", soft=0.4)
    result = shelf.score()
    assert result.cases == ()
    assert "probability map" in result.problems[0].cause


def test_two_single_files(shelf):
    shelf.put("x/one.nii.gz")
    shelf.put("y/other_T1w.nii.gz", lesion=[(1, 1, 1), (1, 1, 2)])
    result = shelf.score(pred="x/one.nii.gz", truth="y/other_T1w.nii.gz")
    assert [c.scores["dice"] for c in result.cases] == [2 / 3]
    shelf.put("z/other.nii.gz")
    one = shelf.score(pred="z", truth="y/other_T1w.nii.gz")
    assert one.cases == ()  # other_T1w and other are different names
    shelf.put("y/other_mask.nii.gz")
    assert len(shelf.score(pred="z", truth="y/other_mask.nii.gz").cases) == 1


def test_paths_that_are_not_there(shelf):
    with pytest.raises(InputError, match="no such prediction"):
        shelf.score()
    (shelf.root / "pred").mkdir()
    with pytest.raises(InputError, match="no such reference"):
        shelf.score()
    (shelf.root / "truth").mkdir()
    with pytest.raises(InputError, match="no reference mask"):
        shelf.score()
    with pytest.raises(ValueError, match="unknown scorer"):
        shelf.score("isles1999")


def test_progress(shelf):
    for n in range(3):
        shelf.put(f"truth/{n}.nii")
        shelf.put(f"pred/{n}.nii")
    seen = []
    shelf.score(progress=lambda *a: seen.append(a))
    assert seen == [("score", 0, 3), ("score", 1, 3), ("score", 2, 3), ("score", 3, 3)]


# --------------------------------------------------------------------------------------- summary


def case(dice: float, n_truth: int = 1, n_pred: int = 1, pr_auc: float = math.nan):
    return {
        "dice": dice,
        "lesion_f1": dice,
        "lesion_count_difference": float(abs(n_truth - n_pred)),
        "volume_difference_ml": 0.5,
        "pr_auc": pr_auc,
        "n_truth": float(n_truth),
        "n_pred": float(n_pred),
        "pred_volume_ml": 2.0 * n_pred,
        "truth_volume_ml": 1.0 * n_truth,
    }


def test_summary_by_hand():
    cases = [case(0.2), case(0.4), case(0.9, pr_auc=0.7), case(1.0, 0, 0), case(0.0, 0, 2)]
    summary = summarise_scores(cases, "isles2026", seed=3)
    dice = summary["metrics"]["dice"]
    assert dice["mean"] == pytest.approx(0.5)
    assert dice["median"] == pytest.approx(0.4)
    assert dice["ci95_low"] < 0.5 < dice["ci95_high"]
    assert dice["n"] == 5
    assert dice["higher_is_better"] is True
    assert summary["metrics"]["volume_difference_ml"]["higher_is_better"] is False
    assert summary["metrics"]["volume_difference_ml"]["ci95_low"] == 0.5
    pr_auc = summary["metrics"]["pr_auc"]
    assert (pr_auc["n"], pr_auc["mean"], pr_auc["ci95_low"]) == (1, 0.7, None)
    assert summary["lesion_free"] == {"n": 2, "exactly_empty": 1, "share_exactly_empty": 0.5}
    # Differences 1, 1, 1, 0 and 4 mL: mean 1.4, standard deviation of the sample: the root of 2.3.
    volumes = summary["volumes"]
    assert volumes["bias_ml"] == pytest.approx(1.4)
    assert volumes["limit_low_ml"] == pytest.approx(1.4 - 1.96 * 2.3**0.5)
    assert volumes["limit_high_ml"] == pytest.approx(1.4 + 1.96 * 2.3**0.5)
    assert volumes["correlation"] == 0
    assert list(summary["metrics"]) == list(metrics_of("isles2026"))
    assert summarise_scores(cases, "isles2026", seed=3) == summary
    assert summarise_scores(cases, "isles2026", seed=4) != summary


def test_summary_of_nothing():
    summary = summarise_scores([], "isles2022")
    assert summary["n"] == 0
    assert summary["metrics"]["dice"]["mean"] is None
    assert summary["lesion_free"]["share_exactly_empty"] is None
    assert set(summary["volumes"].values()) == {None}


def test_bootstrap_against_the_normal_interval():
    values = np.random.default_rng(0).normal(0.6, 0.2, 400)
    low, high = bootstrap_interval(values, seed=0)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=2e-3)
    assert high == pytest.approx(values.mean() + half, abs=2e-3)


def test_bootstrap_in_pieces_covers_every_resample():
    """More cases than fit one piece: an interval built from unfilled memory would be elsewhere."""
    values = np.full(300_000, 0.25)
    assert bootstrap_interval(values, resamples=10) == (0.25, 0.25)
