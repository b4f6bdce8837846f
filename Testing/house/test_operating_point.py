"""One operating point, resolved by one rule, whoever asks."""

from __future__ import annotations

import json
import math

import cli_support
import pytest
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.cohort import BatchOptions, run_batch
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.inference import SegmentOptions
from StrokeLesionSegLib.models import load_model
from StrokeLesionSegLib.operating_point import OperatingPoint, OperatingPointChoice
from StrokeLesionSegLib.pipeline import FileOptions, OutputPaths, segment_file

MODEL = OperatingPoint(0.1, 0.7, 0.2, 0.3)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, MODEL),
        # The threshold moves, and the model's second one holds as long as it is above ...
        ({"threshold": 0.3}, OperatingPoint(0.3, 0.7, 0.2, 0.3)),
        # ... and says nothing where it is not.
        ({"threshold": 0.7}, OperatingPoint(0.7, None, 0.2, 0.3)),
        ({"threshold": 0.8}, OperatingPoint(0.8, None, 0.2, 0.3)),
        ({"second_threshold": 0.0}, OperatingPoint(0.1, None, 0.2, 0.3)),
        ({"second_threshold": 0.9}, OperatingPoint(0.1, 0.9, 0.2, 0.3)),
        ({"threshold": 0.8, "second_threshold": 0.9}, OperatingPoint(0.8, 0.9, 0.2, 0.3)),
        ({"min_volume_ml": 0.0}, OperatingPoint(0.1, 0.7, 0.0, 0.3)),
        ({"min_mean_probability": 0.0}, OperatingPoint(0.1, 0.7, 0.2, 0.0)),
    ],
)
def test_what_is_asked_for_and_what_is_recommended(asked, expected):
    assert OperatingPointChoice(**asked).resolve(MODEL) == expected


@pytest.mark.parametrize(
    "asked",
    [
        {"second_threshold": 0.1},  # not above the model's threshold
        {"threshold": 0.8, "second_threshold": 0.5},
        {"threshold": 0.0},
        {"threshold": 1.1},
        {"min_volume_ml": -1.0},
        {"min_mean_probability": 2.0},
        {"threshold": "high"},  # no numbers
        {"min_volume_ml": [1.0]},
    ],
)
def test_what_makes_no_sense_is_told(asked):
    with pytest.raises(InputError, match="operating point"):
        OperatingPointChoice(**asked).resolve(MODEL)


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ((0.0,), "threshold"),
        ((1.1,), "threshold"),
        ((math.nan,), "threshold"),
        ((0.5, 0.5), "second"),
        ((0.5, 0.3), "second"),
        ((0.5, 1.1), "second"),
        ((0.5, None, -1.0), "volume"),
        ((0.5, None, math.inf), "volume"),
        ((0.5, None, 0.0, 1.5), "mean"),
        ((0.5, None, 0.0, math.nan), "mean"),
    ],
)
def test_senseless_points(values, cause):
    with pytest.raises(ValueError, match=cause):
        OperatingPoint(*values)


def test_there_and_back_as_json():
    for point in (MODEL, OperatingPoint(0.5)):
        assert OperatingPoint.from_dict({**point.as_dict(), "views": "axial"}) == point
    assert OperatingPoint.from_dict({"threshold": 0.4}) == OperatingPoint(0.4)
    with pytest.raises(ValueError, match="not an operating point"):
        OperatingPoint.from_dict({"second_threshold": 0.4})
    assert MODEL.thresholds == (0.1, 0.7)
    assert OperatingPoint(0.5).thresholds == (0.5,)
    assert ("Least mean probability", "0.3") in MODEL.facts()


# --- every way to a mask ---------------------------------------------------------------------

THREE_VIEWS = OperatingPoint(0.45, 0.55, 0.01, 0.2)
ALIGNMENT = {"align": "none", "device": "cpu", "precision": "float32", "threads": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A model that recommends three views, with an operating point of their own, and a scan."""
    folder = tmp_path_factory.mktemp("home")
    inference = {
        **OperatingPoint(0.3, 0.9).as_dict(),
        "views": "triplanar",
        "of_views": {"triplanar": THREE_VIEWS.as_dict()},
    }
    cli_support.write_tiny_model(folder, inference=inference)
    (folder / "scans").mkdir()
    cli_support.write_head(folder / "scans" / "case.nii.gz")
    return folder


def by_command_line(home, out, asked):
    words = {"threshold": "--threshold", "second_threshold": "--second-threshold"}
    words |= {"min_volume_ml": "--min-volume", "min_mean_probability": "--min-mean-probability"}
    options = [word for key, value in asked.items() for word in (words[key], str(value))]
    return sidecar_of(home, out, options)


def by_batch(home, out, asked):
    options = BatchOptions("tiny", SegmentOptions(**ALIGNMENT), OperatingPointChoice(**asked))
    run_batch(home / "scans", out / "batch", options)
    (file,) = (out / "batch").rglob("*_label-lesion_mask.json")
    return json.loads(file.read_text())


def by_python(home, out, asked):
    result = segment_file(
        home / "scans" / "case.nii.gz",
        OutputPaths.beside(home / "scans" / "case.nii.gz", out / "m.nii"),
        FileOptions("tiny", SegmentOptions(**ALIGNMENT), OperatingPointChoice(**asked)),
    )
    kept = json.loads((out / "m.json").read_text())
    assert kept["operating_point"] == result.lesion_map.operating_point.as_dict()
    return kept


def by_slicer(home, out, asked):
    run = pytest.importorskip("StrokeLesionSegLib.slicerbridge.engine.run")
    parameters = run.RunParameters(align="none", device="cpu", precision="float32", **asked)
    sidecar = sidecar_of(home, out, parameters.arguments())
    point = run.provenance_of(sidecar).operating_point
    return {**sidecar, "operating_point": point.as_dict()}


def by_bench(home, out, asked):
    measure = pytest.importorskip("stroketrain.bench.measure")
    point = measure.operating_point(load_model("tiny"), "triplanar+flips", **asked)
    return {"operating_point": point.as_dict()}


def sidecar_of(home, out, options):
    words = ["--model", "tiny", "--align", "none", "--precision", "float32", *options]
    scan = str(home / "scans" / "case.nii.gz")
    assert main(["segment", scan, "-o", str(out / "mask.nii"), *words]) == 0
    return json.loads((out / "mask.json").read_text())


ASKED = {
    "recommended": ({}, THREE_VIEWS),
    "lower": ({"threshold": 0.4}, OperatingPoint(0.4, 0.55, 0.01, 0.2)),
    "above the second": (
        {"threshold": 0.6, "min_volume_ml": 0.0},
        OperatingPoint(0.6, None, 0.0, 0.2),
    ),
    "second off": ({"second_threshold": 0.0}, OperatingPoint(0.45, None, 0.01, 0.2)),
    "mean": ({"min_mean_probability": 0.1}, OperatingPoint(0.45, 0.55, 0.01, 0.1)),
}
#: The panel has no other sliders, and the bench takes no other.
TWO_VALUES = ("recommended", "lower", "above the second")
WAYS = dict.fromkeys((by_command_line, by_batch, by_python), tuple(ASKED))
WAYS |= dict.fromkeys((by_slicer, by_bench), TWO_VALUES)


@pytest.mark.parametrize(
    ("way", "asked", "expected"),
    [
        pytest.param(way, *ASKED[name], id=f"{way.__name__}-{name}")
        for way, names in WAYS.items()
        for name in names
    ],
)
def test_every_way_ends_in_the_same_operating_point(
    way, asked, expected, home, tmp_path, monkeypatch
):
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(home))
    found = way(home, tmp_path, asked)
    assert found["operating_point"] == expected.as_dict()
    # The views are those that the model recommends, too.
    assert found.get("options", {"views": "triplanar"})["views"] == "triplanar"


@pytest.mark.parametrize("second", ["0.45", "0.2"])
def test_a_second_threshold_that_is_not_above_the_first(
    home, tmp_path, monkeypatch, capsys, second
):
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(home))
    scan, mask = home / "scans" / "case.nii.gz", tmp_path / "mask.nii"
    words = ["--model", "tiny", "--align", "none", "--second-threshold", second]
    assert main(["segment", str(scan), "-o", str(mask), *words]) == 2
    assert "above the threshold of 0.45" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
