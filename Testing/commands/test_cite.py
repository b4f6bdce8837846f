"""``cite``: the methods text says what is installed, or what made a mask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from StrokeLesionSegLib import __version__
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.images import MNI_GRID
from StrokeLesionSegLib.models import Manifest, find_model

THERE = {
    "shape_ijk": MNI_GRID.shape[::-1],
    "affine_ijk_to_ras_mm": MNI_GRID.affine.tolist(),
}


def test_the_shipped_model(capsys: pytest.CaptureFixture) -> None:
    assert main(["cite"]) == 0
    text = capsys.readouterr().out
    manifest = Manifest.from_file(find_model(None))
    point = manifest.operating_point()
    assert f"StrokeLesionSeg {__version__}, model {manifest.name} {manifest.version}" in text
    assert manifest.weights["sha256"][:12] in text
    assert f"at least {point.threshold:g}" in text
    assert "trained on simulated strokes" in text
    name, figures = next(iter(manifest.metrics.items()))
    assert f"Measured on {name}" in text
    assert f"{next(iter(figures.values())):g}" in text
    assert "Fonov" in text.split("References")[1]


def test_a_sidecar_tells_what_made_its_mask(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    manifest = Manifest.from_file(find_model(None))
    content = {
        "software": {"version": "0.0.9"},
        "model": {"name": manifest.name, "version": "0.1", "sha256": "ab" * 32},
        "operating_point": {"threshold": 0.33, "second_threshold": None, "min_volume_ml": 0.5},
    }
    file = tmp_path / "mask.json"
    file.write_text(json.dumps(content))
    assert main(["cite", "--sidecar", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "StrokeLesionSeg 0.0.9" in told["methods"]
    assert "at least 0.33 and of at least 0.5 mL" in told["methods"]
    # Another model's figures are not told, nor a deformation that was not made.
    assert told["metrics"] == {}
    assert "demons" not in told["methods"]
    assert len(told["references"]) == 2
    content["deformation"] = {"used": True}
    file.write_text(json.dumps(content))
    assert main(["cite", "--sidecar", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "refined by demons" in told["methods"]
    assert len(told["references"]) == 4
    content["model"]["sha256"] = manifest.weights["sha256"]
    file.write_text(json.dumps(content))
    assert main(["cite", "--sidecar", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]


@pytest.mark.parametrize(
    ("changes", "said", "unsaid", "references"),
    [
        ({"alignment": None, "atlas": None}, "not aligned to a template", ("Ding", "Fonov"), 0),
        ({"alignment": {"ok": False}, "atlas": None}, "alignment to MNI152", ("Fonov",), 0),
        ({"alignment": None, "source": THERE}, "already", ("affine",), 2),
        ({"alignment": {"ok": True}, "atlas": "JHU"}, "follow the atlas JHU", ("Allen",), 1),
        ({}, "a mean probability of at least 0.5.", (), 2),
    ],
)
def test_only_what_was_done_is_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    changes: dict[str, object],
    said: str,
    unsaid: tuple[str, ...],
    references: int,
) -> None:
    """No alignment that was not made or failed, and no atlas but the one that was used."""
    point = {"threshold": 0.3, "second_threshold": None, "min_volume_ml": 0.1}
    content = {
        "software": {"version": "0.0.9"},
        "model": {"name": "another", "version": "0.1", "sha256": "ab" * 32},
        "operating_point": {**point, "min_mean_probability": 0.5},
        **changes,
    }
    file = tmp_path / "mask.json"
    file.write_text(json.dumps(content))
    assert main(["cite", "--sidecar", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert said in told["methods"]
    assert not any(word in told["methods"] for word in unsaid)
    assert len(told["references"]) == references


def test_what_is_no_sidecar(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "other.json"
    file.write_text("{}")
    assert main(["cite", "--sidecar", str(file)]) == 2
    assert "other.json: is not the sidecar of a mask" in capsys.readouterr().err
