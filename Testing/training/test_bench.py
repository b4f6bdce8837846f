"""The bench's plan, measures and page: worked out by hand, and once from scan to page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("torch")
from StrokeLesionSegLib.boxes import Box, whole_box
from StrokeLesionSegLib.calibration import Calibration
from StrokeLesionSegLib.images import Volume, write_volume
from StrokeLesionSegLib.lesions import expected_dice, write_sidecar
from StrokeLesionSegLib.models import load_model, write_model
from StrokeLesionSegLib.networks import build_network
from StrokeLesionSegLib.operating_point import OperatingPoint
from stroketrain.bench import failures, measure, summary
from stroketrain.bench.plan import BenchCase, make_plan
from stroketrain.bench.report import write_report
from stroketrain.bench.run import BenchSettings, Job, do, run
from stroketrain.bench.scans import BenchScan, read_back
from stroketrain.commands.bench import add_parser
from stroketrain.simulate.subject_split import kind_of, load_subject_split


def test_the_plan_has_what_a_bench_needs() -> None:
    split = load_subject_split()
    cases = make_plan(split["people"]["test"])
    assert cases == make_plan(split["people"]["test"])
    assert len({c.name for c in cases}) == len({c.seed for c in cases}) == len(cases)
    assert sum(c.kind != "healthy" for c in cases) >= 60
    assert sum(c.kind == "healthy" for c in cases) >= 20
    known = set(split["people"]["train"]) | set(split["people"]["val"])
    assert not {c.person for c in cases} & known
    for case in cases:
        assert not (case.multiple_sclerosis and case.kind != "healthy")
        assert not (case.procedure == "second" and kind_of(case.person) == "labels")
    for procedure in ("first", "second"):
        mine = [c for c in cases if c.procedure == procedure]
        for geometry, thick in (("mni", False), ("native", False), ("native", True)):
            kinds = {c.kind for c in mine if (c.geometry, c.thick) == (geometry, thick)}
            assert {"cavity", "faint", "healthy"} <= kinds
    # A short bench is a mixture too.
    assert {c.procedure for c in cases[:10]} == {"first", "second", "none"}


def test_calibration_by_hand() -> None:
    p = np.array([[[0.01, 0.02, 0.62, 0.64, 1.0, 0.9]]])
    truth = np.array([[[0, 0, 1, 0, 1, 1]]])
    brain = np.array([[[1, 1, 1, 1, 1, 0]]], bool)
    bins = measure.calibration(p, truth, brain, voxel_ml=2.0)
    assert bins["volume_ml"][0] == 4.0
    assert bins["volume_ml"][12] == 4.0
    assert bins["lesion_ml"][12] == 2.0
    assert bins["probability_ml"][19] == 2.0
    rows = [{"calibration": bins}, {"calibration": None}]
    # |.03 - 0| + |1.26 - 1| + |1 - 1| over 5 voxels; without the lowest bin over 3.
    assert summary.ece(rows) == pytest.approx((0.03 + 0.26) / 5)
    assert summary.ece(rows, 1) == pytest.approx(0.26 / 3)
    assert summary.ece([{"calibration": None}]) is None


def _row(name: str, **more: object) -> dict[str, object]:
    row = {
        "name": name, "procedure": "first", "kind": "cavity", "volume_ml": 4.0, "dice": 0.8,
        "multiple_sclerosis": False, "thick": False, "geometry": "mni", "skull": True,
        "predicted_ml": 4.0, "largest_false_ml": 0.0, "expected_dice": 0.7, "agreement": 0.9,
        "lesions": [{"volume_ml": 4.0, "marked": 0.5}], "calibration": None, "robot": {},
    }  # fmt: skip
    scores = {
        "atlas2022": ("dice", "lesion_f1", "lesion_count_difference", "volume_difference_voxels"),
        "isles2022": ("dice", "lesion_f1", "lesion_count_difference", "volume_difference_ml"),
        "isles2026": ("dice", "lesion_f1", "pr_auc", "volume_difference_ml"),
    }
    from StrokeLesionSegLib.lesions import metrics_of

    for scorer in scores:
        row[scorer] = dict.fromkeys(metrics_of(scorer), 0.5)
    return {**row, **more}


def test_targets_count_the_scans_they_name() -> None:
    well = {"kind": "healthy", "volume_ml": 0.0, "dice": 1.0, "predicted_ml": 0.0, "lesions": []}
    rows = [
        _row("a", dice=0.9),
        _row("b", dice=0.7, procedure="second"),
        _row("c", dice=0.1, volume_ml=0.6),
        _row("d", dice=0.3, kind="faint"),
        _row("e", **well),
        _row("f", **{**well, "predicted_ml": 0.1, "largest_false_ml": 0.1, "dice": 0.0}),
        _row("g", **{**well, "multiple_sclerosis": True, "predicted_ml": 2.0,
                     "largest_false_ml": 0.9, "dice": 0.0}),
        _row("h", **{**well, "thick": True}),
    ]  # fmt: skip
    rows[0]["robot"] = {0.0: {"dice": [0.9] * 11}, 4.0: {"dice": [0.9] * 11}}
    rows[3]["robot"] = {0.0: {"dice": [0.3, 0.5, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.8]}}
    found = {what: (f["value"], reached) for what, f, _, reached in summary.targets(rows)}
    values = list(found.items())
    assert values[0][1] == (pytest.approx(0.8), False)  # a and b; c is too small, d is faint
    assert values[1][1] == (pytest.approx(0.3), False)
    assert values[3][1] == (pytest.approx(2 / 3), False)  # e, f, h
    assert values[4][1] == (pytest.approx(1 / 2), False)  # g, h
    assert found["Dice after 3 clicks, lesions above 1 mL"][0] == pytest.approx(0.8)
    assert found["Dice after 10 clicks, lesions above 1 mL"] == (pytest.approx(0.85), False)
    assert found["ECE inside the brain"] == (None, None)


def test_correlation_and_paired_differences() -> None:
    rows = [_row(str(n), expected_dice=n / 10, dice=n / 20 + 0.1) for n in range(8)]
    assert summary.correlation(rows) == pytest.approx(1.0)
    others = [_row(str(n), dice=n / 20 + 0.15) for n in range(2, 10)]
    found = summary.paired(rows, others)
    assert found["n"] == 6
    assert found["difference"]["value"] == pytest.approx(0.05)
    assert found["p"] < 0.05
    interval = summary.resampled(rows, lambda some: float(np.mean([r["dice"] for r in some])))
    assert interval["low"] < interval["value"] < interval["high"]


def test_scores_of_a_kept_map(tmp_path: Path) -> None:
    affine = np.diag([2.0, 1.0, 3.0, 1.0])  # 6 microlitres a voxel
    truth = np.zeros((12, 14, 16), np.uint8)
    truth[2:5, 2:5, 2:5] = 1
    truth[9, 11, 13] = 1
    p = np.zeros(truth.shape, np.float32)
    p[2:5, 2:5, 2:4] = 0.9  # two thirds of the first lesion
    p[8:10, 2:4, 10:13] = 0.7  # 12 false voxels
    measure._save(tmp_path / "axial.npz", p, np.where(p > 0, 0.1, 0).astype(np.float32))
    back, uncertainty = measure.load_maps(tmp_path / "axial.npz")
    np.testing.assert_allclose(back, p, atol=1e-3)
    assert uncertainty[2, 2, 2] == pytest.approx(0.1, abs=1e-3)
    case = BenchCase("x", "first", "p", "cavity", "native", True, False, 1)
    scan = BenchScan(case, Volume(np.ones(truth.shape, np.float32), affine), truth, None, {})
    point = OperatingPoint(0.5)
    row = measure.score(scan, tmp_path, "axial", point)
    assert row["dice"] == pytest.approx(2 * 18 / (30 + 28))
    assert row["largest_false_ml"] == pytest.approx(12 * 0.006)
    assert [x["marked"] for x in row["lesions"]] == pytest.approx([2 / 3, 0.0])
    assert row["isles2022"]["lesions_false"] == 1
    # Kept scores are read, and another operating point is worked out.
    kept = json.loads((tmp_path / "axial.scores.json").read_text())
    (tmp_path / "axial.scores.json").write_text(json.dumps({**kept, "dice": 0.123}))
    assert measure.score(scan, tmp_path, "axial", point)["dice"] == 0.123
    strict = OperatingPoint(0.8)
    assert measure.score(scan, tmp_path, "axial", strict)["largest_false_ml"] == 0
    # The Dice to expect is what users are told: by the model's calibration.
    told = Calibration(0.6123456789, -0.3)
    mask = back >= 0.8
    calibrated = measure.score(scan, tmp_path, "axial", strict, told)
    assert calibrated["expected_dice"] == pytest.approx(
        expected_dice(back, mask, calibration=told).value
    )
    assert calibrated["expected_dice"] < expected_dice(back, mask).value - 0.01
    path = tmp_path / "axial.scores.json"
    path.write_text(json.dumps({**calibrated, "dice": 0.123}))
    assert measure.score(scan, tmp_path, "axial", strict, told)["dice"] == 0.123


def test_several_further_views_are_measured_on_one_scan(tmp_path: Path) -> None:
    # A part of a head: to bring a whole one back is half the work.
    cases, settings = _small_bench(tmp_path, (slice(11, 19), slice(14, 24), slice(6, 14)))
    views = ("axial", "triplanar", "axial+flips")
    assert do(Job("predict", cases[0], settings.model, views), settings) is None
    model = load_model(settings.model)
    together = settings.out / "models" / measure.key_of(model) / cases[0].name
    scan = read_back(cases[0], settings.out / "scans" / cases[0].name)
    for view in views:
        measure.predict(scan, model, [view], tmp_path / view, 1)
        facts = json.loads((tmp_path / view / f"{view}.prediction.json").read_text())
        same = json.loads((together / f"{view}.prediction.json").read_text())
        assert same["calibration"] == facts["calibration"]
        assert (same["passes"], same["warnings"]) == (facts["passes"], facts["warnings"])


def test_the_bench_knows_how_a_model_is_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, settings = _small_bench(tmp_path)
    scored: list[object] = []
    monkeypatch.setattr("stroketrain.bench.run.predict", lambda *told: None)
    monkeypatch.setattr("stroketrain.bench.run.score", lambda *told: scored.append(told[-1]))
    shipped = load_model().manifest.inference.calibration
    assert shipped is not None
    job = Job("predict", cases[0], None, ("axial",))
    assert do(job, settings) is None
    assert do(replace(job, model=settings.model), settings) is None
    assert scored == [shipped, None]


def test_the_robot_begins_at_the_operating_point_of_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = np.zeros((12, 14, 16), np.float32)
    p[2:5, 2:5, 2:5], p[8:10, 2:4, 10:13] = 0.9, 0.4
    measure._save(tmp_path / "axial.npz", p, np.zeros_like(p))
    case = BenchCase("x", "first", "p", "cavity", "native", True, False, 1)
    scan = BenchScan(case, Volume(np.ones_like(p), np.eye(4)), p > 0, None, {})
    begun: list[int] = []

    class Session:
        @staticmethod
        def open(volume: object, model: object, known: measure.Known, **options: object) -> None:
            begun.append(int(known.mask.sum()))

    monkeypatch.setattr(measure, "CorrectionSession", Session)
    monkeypatch.setattr(measure, "robot_corrections", lambda *told, **more: [0.5])
    model = load_model()

    def click(*point: OperatingPoint) -> dict:
        return measure.click(scan, model, tmp_path, "axial", measure.Robot(0.0, 1, *point), 1)

    wide, narrow = OperatingPoint(0.3), OperatingPoint(0.8)
    for point in (wide, wide, narrow):
        assert click(point)["operating_point"] == point.as_dict()
    assert begun == [27 + 12, 27]
    # What an earlier version has kept was at the model's own.
    write_sidecar(tmp_path / "robot-0mm.json", {"noise_mm": 0.0, "dice": [0.7]})
    assert click()["dice"] == [0.7]
    assert len(begun) == 2


_WHOLE = whole_box((30, 38, 32))


def _small_bench(tmp_path: Path, part: Box = _WHOLE) -> tuple[list[BenchCase], BenchSettings]:
    """Three coarse scans that lie in MNI space, or a part of them, and an untrained model of four
    channels."""
    import torch

    torch.manual_seed(0)
    spec = {"name": "residual_unet", "in_channels": 4, "filters": [2, 2, 2, 2, 2], "skip": "stem"}
    manifest = {
        "schema": 1, "name": "tiny", "version": "0", "title": "Tiny", "description": "untrained",
        "license": "Apache-2.0", "intended_use": "tests", "created": "2026-01-01",
        "network": spec,
        "channels": ["t1", "click_positive", "click_negative", "previous_probability"],
        "contrast": "T1w", "labels": {"1": "stroke lesion"},
        "preprocessing": {"grid": "mni152-2009a-1mm", "window_percentiles": [0.5, 99.5],
                          "pad_multiple": 16, "brain_mask_margin_mm": 5},
        "inference": {"threshold": 0.5, "second_threshold": None, "min_volume_ml": 0.0,
                      "views": "axial", "flip_axes": ["i"]},
        "training": {}, "metrics": {},
    }  # fmt: skip
    write_model(tmp_path / "tiny", manifest, build_network(spec).state_dict())
    affine = np.array([[-6.0, 0, 0, 96], [0, 6, 0, -130], [0, 0, 6, -70], [0, 0, 0, 1]])
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in part[::-1]]
    rng = np.random.default_rng(0)
    cases = []
    for n, kind in enumerate(("cavity", "faint", "healthy")):
        case = BenchCase(f"{n}-{kind}", "first", "p", kind, "native", False, False, n)
        folder = tmp_path / "out" / "scans" / case.name
        folder.mkdir(parents=True)
        t1 = rng.uniform(200, 900, (30, 38, 32)).astype(np.int16)
        truth = np.zeros(t1.shape, np.uint8)
        if kind != "healthy":
            truth[14:17, 18:21, 8:12] = 1
        t1, truth = t1[part], truth[part]
        write_volume(folder / "t1.nii", Volume(t1, affine))
        write_volume(folder / "truth.nii.gz", Volume(truth, affine))
        alignment = {"matrix": np.eye(4), "ok": True, "reason": "", "overlap": 1.0,
                     "similarity": 1.0, "seconds": 0.0}  # fmt: skip
        facts = {**case.as_dict(), "volume_ml": float(truth.sum()) * 0.216, "skull": True,
                 "spacing_mm": [6, 6, 6], "alignment": alignment}  # fmt: skip
        write_sidecar(folder / "case.json", facts)
        cases.append(case)
    settings = BenchSettings(
        out=tmp_path / "out",
        data=tmp_path,
        anatomies=tmp_path,
        model=str(tmp_path / "tiny"),
        views=("axial", "axial+flips"),
        view_scans=2,
        robot_scans=1,
        noise_mm=(3.0,),
        threads=1,
    )
    return cases, settings


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[BenchCase], BenchSettings]:
    """The small bench with everything measured on it, two clicks for each scan."""
    cases, settings = _small_bench(tmp_path_factory.mktemp("bench"))
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stroketrain.bench.run.CLICKS", 2)
        assert run(cases, settings, say=said.append) == []
    assert len(said) == 6
    return cases, settings


@pytest.mark.long
def test_from_scans_to_a_page_and_on_from_there(
    measured: tuple[list[BenchCase], BenchSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stroketrain.bench.run.CLICKS", 2)
    cases, settings = measured
    said: list[str] = []
    model = load_model(settings.model)
    results = settings.out / "models" / measure.key_of(model)
    files = {p: p.stat().st_mtime_ns for p in results.rglob("*.json")}
    assert len(files) == 11
    assert run(cases, settings, say=said.append) == []
    assert {p: p.stat().st_mtime_ns for p in results.rglob("*.json")} == files

    rows = summary.collect(cases, settings.out, measure.key_of(model), "axial")
    more = summary.collect(cases, settings.out, measure.key_of(model), "axial+flips")
    assert [r["kind"] for r in rows] == ["cavity", "faint", "healthy"]
    assert len(more) == 2
    assert more[0]["passes"] == ["axial", "axial, flipped i"]
    clicked = summary.robot_figures(rows)["3 mm"]
    assert [f["n"] for f in clicked] == [1, 1, 1]
    assert all(0 <= f["value"] <= 1 for f in clicked)
    # The brain of the template is 1.7 to 2 litres; each bin's sums are mL.
    assert 1500 < sum(rows[0]["calibration"]["volume_ml"]) < 2200
    assert sum(rows[0]["calibration"]["lesion_ml"]) == pytest.approx(36 * 0.216)
    page = tmp_path / "page" / "BENCH.md"
    page.parent.mkdir()
    files_written = write_report(page, rows, facts={"model": "tiny"}, others={"flips": more})
    assert all(f.stat().st_size > 100 for f in files_written)
    text = page.read_text()
    assert "| flips |" in text
    assert "![bench_reliability](bench_reliability.png)" in text
    figures = json.loads(page.with_suffix(".json").read_text())
    assert figures["all"]["targets"][0]["n"] == 1


@pytest.mark.long
def test_a_picture_of_the_worst_scans(
    measured: tuple[list[BenchCase], BenchSettings], tmp_path: Path
) -> None:
    cases, settings = measured
    model = load_model(settings.model)
    key = measure.key_of(model)
    rows = summary.collect(cases, settings.out, key, "axial")
    rows.append({**rows[0], "kind": "faint", "dice": 0.1, "volume_ml": 100.0})
    rows.append({**rows[0], "kind": "faint", "dice": 0.9, "volume_ml": 100.0})
    rows.append({**rows[0], "kind": "faint", "dice": 0.2, "volume_ml": 100.0})
    rows.append({**rows[-1], "kind": "healthy", "volume_ml": 0.0, "predicted_ml": 3.0})
    chosen = [why for why, _ in failures.worst(rows)]
    # The worst first, two of a kind; lesion-free scans that are empty are no failure.
    assert [why for why in chosen if why.startswith("faint")] == [
        "faint, 100.0 mL, Dice 0.10",
        "faint, 100.0 mL, Dice 0.20",
    ]
    assert "no lesion, 3.0 mL marked" in chosen
    point = measure.operating_point(model, "axial")
    picture = failures.plot_failures(rows, settings.out, key, "axial", point, tmp_path / "f.png")
    assert picture is not None
    assert picture.read_bytes()[:4] == b"\x89PNG"
    t1, truth, mask, aspect = failures._slice(cases[0].name, settings.out, key, "axial", point)
    assert t1.shape == truth.shape == mask.shape
    assert aspect == pytest.approx(1.0, abs=0.5)
    assert failures.plot_failures([], settings.out, key, "axial", point, tmp_path / "g.png") is None


def test_a_broken_scan_costs_a_line(tmp_path: Path) -> None:
    cases, settings = _small_bench(tmp_path)
    (settings.out / "scans" / cases[0].name / "t1.nii").write_bytes(b"no image")
    problems = run(cases[:1], settings, say=lambda line: None)
    assert len(problems) == 3  # each view, and the clicks
    assert all(cases[0].name in p and str(tmp_path) not in p for p in problems)


def test_arguments() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    a = parser.parse_args(["bench", "out", "--data", "d", "--views", "triplanar", "axial"])
    assert a.views == ["triplanar", "axial"]
    with pytest.raises(SystemExit):
        parser.parse_args(["bench", "out", "--data", "d", "--views", "oblique"])
