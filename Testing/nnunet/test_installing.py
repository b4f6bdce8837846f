"""Models of others are installed whole, or refused in one line with nothing left behind."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunet_support import MODELS, NATIVE, installed, write_synthstroke
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.models import ImportChoices, install_model, load_model, verify_model
from StrokeLesionSegLib.models.foreign import checkpoint_child, child
from StrokeLesionSegLib.models.install import _owner

RESULTS = "nnUNetTrainer__nnUNetPlans__3d_fullres"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def unpacked(tmp_path: Path, name: str = "plain3d") -> Path:
    """The exported model as a folder; its dataset's folder is returned."""
    with zipfile.ZipFile(MODELS / f"{name}.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    return next(path for path in (tmp_path / "unpacked").iterdir() if path.is_dir())


def change(path: Path, edit: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def refused(source: Path, home: Path, choices: ImportChoices = NATIVE) -> str:
    """The one line that a refusal prints; nothing may be left in the cache."""
    with pytest.raises(InputError) as caught:
        install_model(source, choices)
    assert not list((home / "models").iterdir())
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.remedy
    return text


def test_a_zip_a_folder_and_the_one_above_are_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as as_a_user:
        as_a_user.setattr(child, "subprocess", subprocess)
        from_zip = install_model(MODELS / "plain3d.zip", NATIVE)
    above = unpacked(tmp_path)
    for source in (above, above / RESULTS):
        manifest = install_model(source, NATIVE)
        assert manifest.weight_files == from_zip.weight_files
    assert from_zip.windows is not None
    assert from_zip.windows.folds == ("0", "1")
    assert from_zip.windows.mirror_axes == (0, 1, 2)
    assert from_zip.windows.measured["seconds"] > 0
    assert from_zip.license == "CC0-1.0"
    assert from_zip.training["trainer"] == "nnUNetTrainer"
    assert len(from_zip.training["original_sha256"]) == 2
    assert verify_model(from_zip.name).weight_files == from_zip.weight_files


def test_what_is_installed_is_a_copy_and_the_original_is_left_alone(tmp_path: Path) -> None:
    source = unpacked(tmp_path)
    before = {p: p.read_bytes() for p in source.rglob("*") if p.is_file()}
    directory = install_model(source, NATIVE).directory
    assert {p: p.read_bytes() for p in source.rglob("*") if p.is_file()} == before
    assert directory is not None
    assert sorted(p.suffix for p in directory.iterdir()) == [".json"] + [".safetensors"] * 2


def test_folds_lesion_space_and_name_are_chosen() -> None:
    choices = ImportChoices(
        name="mine", folds=("1",), space="mni152-fsl-1mm", orientation="LAS", license="MIT"
    )
    manifest = installed("plain3d", choices)
    assert (manifest.name, manifest.license) == ("mine", "MIT")
    windows = manifest.windows
    assert windows is not None
    assert windows.folds == ("1",)
    assert windows.space.shape == (182, 218, 182)
    assert windows.space.affine is not None
    assert windows.space.affine[0] == (-1.0, 0.0, 0.0, 90.0)
    assert windows.space.in_words == "MNI152 (FSL, 6th generation), 182 x 218 x 182"
    other = installed("residual", ImportChoices(space="native", lesion="other"))
    assert other.windows is not None
    assert other.windows.lesion == 1
    assert other.windows.space.orientation == "RAS"  # this one's plans say so


def test_one_of_several_configurations_is_chosen(tmp_path: Path, home: Path) -> None:
    """A model that was trained in two resolutions; the coarse one is no cascade by itself."""
    above = unpacked(tmp_path)
    low = above / RESULTS.replace("3d_fullres", "3d_lowres")
    shutil.copytree(above / RESULTS, low)

    def coarse(plans: dict[str, Any]) -> None:
        plans["configurations"]["3d_lowres"] = {**_first(plans), "spacing": [2.0] * 3}

    for folder in (above / RESULTS, low):
        change(folder / "plans.json", coarse)
    text = refused(above, home)
    assert "3d_lowres" in text
    assert "--configuration" in text
    assert "3d_odd" in refused(above / RESULTS, home, replace(NATIVE, configuration="3d_odd"))
    manifest = install_model(above, replace(NATIVE, configuration="3d_lowres", folds=("0",)))
    assert manifest.windows is not None
    assert manifest.windows.spacing == (2.0, 2.0, 2.0)
    assert manifest.name.endswith("3d_lowres")


def test_what_the_plans_do_not_say_is_asked(home: Path) -> None:
    text = refused(MODELS / "plain3d.zip", home, ImportChoices())
    assert "--space native" in text
    assert "--orientation RAS" in text
    assert "--orientation" not in refused(MODELS / "residual.zip", home, ImportChoices())


def test_the_command_says_it_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "install", str(MODELS / "plain3d.zip"), "--folds", "7"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert main(["models", "install", str(MODELS / "residual.zip"), "--space", "native"]) == 0


def _first(dataset: dict[str, Any]) -> dict[str, Any]:
    return dataset["configurations"]["3d_fullres"]


PLANS: list[tuple[str, Callable[[Any], object], str]] = [
    ("plans.json", lambda p: p.pop("configurations"), "nnU-Net v1"),
    (
        "plans.json",
        lambda p: _first(p)["architecture"].update(network_class_name="a.b.MedNeXt"),
        "MedNeXt",
    ),
    (
        "plans.json",
        lambda p: _first(p)["architecture"]["arch_kwargs"].update(features_per_stage=[3, 6, 9]),
        "do not fit",
    ),
    ("plans.json", lambda p: _first(p).update(previous_stage="3d_lowres"), "cascade"),
    ("plans.json", lambda p: _first(p).update(inherits_from="3d_fullres"), "inherit"),
    ("plans.json", lambda p: _first(p).update(inherits_from="absent"), "'absent'"),
    ("plans.json", lambda p: _first(p).update(normalization_schemes=["Odd"]), "Odd"),
    ("plans.json", lambda p: _first(p).update(preprocessor_name="Odd"), "Odd"),
    ("plans.json", lambda p: _first(p).update(resampling_fn_data="odd"), "odd"),
    ("plans.json", lambda p: _first(p).update(inherits_from=[1]), "no configuration"),
    ("plans.json", lambda p: _first(p).update(resampling_fn_data_kwargs=[1]), "nobody expects"),
    (
        "plans.json",
        lambda p: p.update(original_median_shape_after_transp=["x"] * 3),
        "define __round__",
    ),
    (
        "plans.json",
        lambda p: _first(p)["architecture"]["arch_kwargs"].update(n_stages=10**9),
        "number of stages",
    ),
    (
        "plans.json",
        lambda p: _first(p)["architecture"]["arch_kwargs"].update(n_stages=4),
        "each of 4 stages",
    ),
    (
        "plans.json",
        lambda p: _first(p)["architecture"]["arch_kwargs"].update(strides=[[0, 0, 0]] * 3),
        "multiple of 0",
    ),
    (
        "plans.json",
        lambda p: _first(p)["architecture"]["arch_kwargs"].update(features_per_stage=[10**9] * 3),
        "impossible numbers of channels",
    ),
    ("plans.json", lambda p: _first(p).update(use_mask_for_norm="yes"), "by a mask"),
    ("plans.json", lambda p: _first(p).update(patch_size=[24, 24]), "dimensions"),
    ("plans.json", lambda p: _first(p).update(patch_size=[24, 24, 31]), "fit"),
    ("dataset.json", lambda d: d.update(channel_names={"0": "CT"}), "CT"),
    ("dataset.json", lambda d: d.update(channel_names={"0": "T1", "1": "FLAIR"}), "2 images"),
    ("dataset.json", lambda d: d.update(labels={"background": 0, "a": 1, "b": 2}), "--lesion"),
    # What JSON can say and a manifest cannot hold.
    ("dataset.json", lambda d: d.update(numTraining=float("nan")), "cannot be used (Out of range"),
    ("plans.json", lambda p: p.update(dataset_name="\ud800"), "surrogates not allowed"),
]


@pytest.mark.parametrize(("file", "edit", "cause"), PLANS, ids=[cause for *_, cause in PLANS])
def test_plans_that_cannot_run_here(
    file: str, edit: Callable[[Any], object], cause: str, tmp_path: Path, home: Path
) -> None:
    source = unpacked(tmp_path)
    change(source / RESULTS / file, edit)
    assert cause in refused(source, home)


def test_folds_and_files_that_are_missing(tmp_path: Path, home: Path) -> None:
    source = unpacked(tmp_path)
    choices = ImportChoices(space="native", orientation="RAS", folds=("0", "3"))
    assert "has no fold 3; it holds 0, 1" in refused(source, home, choices)
    (source / RESULTS / "dataset.json").rename(source / "elsewhere.json")
    assert "dataset.json is missing" in refused(source, home)
    for checkpoint in source.rglob("*.pth"):
        checkpoint.unlink()
    (source / "elsewhere.json").rename(source / RESULTS / "dataset.json")
    assert "no trained fold" in refused(source, home)


def test_models_of_nnunets_first_version(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "nnUNetTrainerV2__nnUNetPlansv2.1"
    folder.mkdir()
    (folder / "plans.pkl").write_bytes(b"")
    assert "nnU-Net v1" in refused(folder, home)


def test_what_is_no_model_says_what_it_is(tmp_path: Path, home: Path) -> None:
    source = unpacked(tmp_path)
    (source / RESULTS / "plans.json").unlink()
    assert "plans.json is missing" in refused(source, home)
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
        outer.write(MODELS / "plain3d.zip", "inner.zip")
    assert "another zip instead of a model (inner.zip)" in refused(tmp_path / "outer.zip", home)
    whole = bytearray((MODELS / "plain3d.zip").read_bytes())
    for n in range(2000, 2400):
        whole[n] ^= 255
    (tmp_path / "odd.zip").write_bytes(bytes(whole))
    text = refused(tmp_path / "odd.zip", home)
    assert text.isascii()
    assert len(text) < 400 + len(str(tmp_path))


def test_options_that_name_nothing_and_names_that_are_taken(tmp_path: Path, home: Path) -> None:
    source = MODELS / "residual.zip"
    none = ImportChoices(space="native", folds=())
    assert "--folds names no fold" in refused(source, home, none)
    taken = ImportChoices(space="native", name="stroke-t1-volumetric")
    assert "ships with StrokeLesionSeg. Choose another with --name" in refused(source, home, taken)


def test_a_link_that_leads_up_is_not_followed(tmp_path: Path, home: Path) -> None:
    source = unpacked(tmp_path)
    (source / RESULTS / "round").symlink_to(source, target_is_directory=True)
    choices = ImportChoices(space="native", orientation="RAS", folds=("3",))
    assert "has no fold 3; it holds 0, 1" in refused(source, home, choices)


def test_what_a_killed_installation_left_is_swept(home: Path) -> None:
    models = home / "models"
    # Of a process that is gone, of this one, of another machine: now, and long ago.
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    machine = _owner().split("-")[0]
    names = (
        f"{machine}-{ended.pid}-a",
        f"{machine}-{os.getpid()}-b",
        "0000abcd-7-c",
        "0000abcd-7-d",
    )
    for name in names:
        (models / f".install-{name}").mkdir(parents=True)
        (models / f".install-{name}" / "fold_0.pth").write_bytes(b"half")
    for path in (models / ".install-0000abcd-7-d", models / ".install-0000abcd-7-d/fold_0.pth"):
        os.utime(path, (1, 1))
    with pytest.raises(InputError):
        install_model(MODELS / "plain3d.zip", ImportChoices(folds=("9",)))
    left = sorted(path.name for path in models.iterdir())
    assert left == sorted(f".install-{name}" for name in names[1:3])


def test_a_zip_that_is_cut_short(tmp_path: Path, home: Path) -> None:
    whole = (MODELS / "plain3d.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    assert "zip" in refused(tmp_path / "cut.zip", home)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("open('/tmp/stroke-lesion-seg-was-here', 'w')",))


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ({"network_weights": {}, "more": Bomb()}, "code to be run (exec)"),
        ({"state_dict": {}}, "no network_weights"),
        (b"text", "zip format"),
    ],
)
def test_checkpoints_that_hold_more_than_weights(
    content: Any, cause: str, tmp_path: Path, home: Path
) -> None:
    source = unpacked(tmp_path)
    path = source / RESULTS / "fold_0" / "checkpoint_final.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    text = refused(source, home)
    assert cause in text
    assert "fold_0/checkpoint_final.pth" in text
    assert not Path("/tmp/stroke-lesion-seg-was-here").exists()


def test_a_checkpoint_that_is_cut_short_or_of_the_old_format(tmp_path: Path, home: Path) -> None:
    source = unpacked(tmp_path)
    path = source / RESULTS / "fold_0" / "checkpoint_final.pth"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "zip format" in refused(source, home)
    old = io.BytesIO()
    torch.save({"network_weights": {}}, old, _use_new_zipfile_serialization=False)
    path.write_bytes(old.getvalue())
    assert "before 1.6" in refused(source, home)


def test_weights_that_are_not_finite(tmp_path: Path, home: Path) -> None:
    source = unpacked(tmp_path)
    path = source / RESULTS / "fold_1" / "checkpoint_final.pth"
    weights = torch.tensor([float("nan")])
    torch.save({"network_weights": {"x": weights}}, path)
    assert "not finite" in refused(source, home)


def test_old_versions_of_torch_read_no_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.1")
    with pytest.raises(checkpoint_child.Refused, match=r"2\.9\.1") as caught:
        checkpoint_child.read_checkpoint("any.pth")
    assert "2.10" in caught.value.remedy
    assert checkpoint_child.torch_version("2.10.0a0+git") == (2, 10)


def test_the_child_writes_nothing_but_its_output(tmp_path: Path) -> None:
    hook = checkpoint_child.write_only(str(tmp_path / "out"))
    hook("open", (str(tmp_path / "out"), "wb", 0))
    hook("open", (str(tmp_path / "other"), "rb", 0))
    for event, arguments in [
        ("open", (str(tmp_path / "other"), "w", 0)),
        ("open", (str(tmp_path / "other"), None, 1)),
        ("os.system", (b"true",)),
        ("subprocess.Popen", ("true", [], None, None)),
        ("socket.connect", (None, None)),
        ("os.remove", ("x", -1)),
    ]:
        with pytest.raises(PermissionError):
            hook(event, arguments)


def test_too_little_room_on_the_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(InputError, match=r"MB, but only 0\.0 MB are free"):
        install_model(MODELS / "plain3d.zip", NATIVE)
    assert not list((home / "models").iterdir())


def test_a_disk_that_fills_up_meanwhile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_child, "convert", full)
    assert checkpoint_child.main(["weights", "a.pth", "b.safetensors"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert "No space left" in said["error"]
    assert "Free space" in said["remedy"]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [({"in_channels": 4}, "4 images"), ({"norm": "BATCH"}, "norm"), ({"strides": [2]}, "built")],
)
def test_synthstroke_models_that_cannot_run_here(
    changes: dict[str, Any], cause: str, tmp_path: Path, home: Path
) -> None:
    pytest.importorskip("monai")
    write_synthstroke(tmp_path / "theirs")
    change(tmp_path / "theirs" / "config.json", lambda c: c.update(changes))
    assert cause in refused(tmp_path / "theirs", home, ImportChoices())


def test_synthstrokes_folder(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    write_synthstroke(tmp_path / "theirs", 6)
    manifest = install_model(tmp_path / "theirs")
    assert manifest.name == "synthstroke-baseline"
    assert manifest.windows is not None
    assert (manifest.windows.lesion, manifest.windows.classes) == (5, 6)
    assert load_model(manifest.name).manifest.training["framework"].startswith("SynthStroke")
