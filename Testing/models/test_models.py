"""Models on disk: manifests, checksums, installing, removing, finding; no pickle anywhere."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from model_manifest import model_manifest
from StrokeLesionSegLib import models
from StrokeLesionSegLib.calibration import Calibration
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.models import install as install_module
from StrokeLesionSegLib.models import store
from StrokeLesionSegLib.models.load import load_directory
from StrokeLesionSegLib.networks import build_network
from StrokeLesionSegLib.operating_point import OperatingPoint

SPEC = {"name": "residual_unet", "in_channels": 4, "filters": [4, 8, 16], "skip": "stem"}


def manifest_dict(name: str = "tiny", **changes):
    inference = {
        "threshold": 0.5,
        "second_threshold": None,
        "min_volume_ml": 0.05,
        "views": "axial",
    }
    own = {"inference": inference, "training": {"commit": "0" * 40}}
    return model_manifest(name, SPEC, **{**own, **changes})


def trained_network(seed: int = 0):
    torch.manual_seed(seed)
    network = build_network(SPEC)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty user cache and an empty directory of shipped models."""
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(store, "shipped_models_directory", lambda: shipped)
    return tmp_path / "home"


@pytest.fixture
def shipped(home) -> Path:
    return home.parent / "shipped"


def write(directory: Path, seed: int = 0, **changes):
    network = trained_network(seed)
    name = changes.pop("name", directory.name)
    manifest = models.write_model(directory, manifest_dict(name, **changes), network.state_dict())
    return manifest, network


def make_zip(tmp_path: Path, name: str = "tiny", seed: int = 0, **changes) -> Path:
    write(tmp_path / "build" / name, seed, **changes)
    return models.pack_model(tmp_path / "build" / name, tmp_path / f"{name}-{seed}.zip")


def manifest_of(directory: Path) -> dict:
    return json.loads((directory / "manifest.json").read_text())


def put_manifest(directory: Path, content) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (directory / "manifest.json").write_text(text)


# ---------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 0.0), ("float16", 2e-3), ("bfloat16", 2e-2)]
)
def test_written_model_predicts_the_same(tmp_path, dtype, tolerance):
    network = trained_network()
    models.write_model(tmp_path / "m", manifest_dict("m"), network.state_dict(), dtype)
    state = torch.get_rng_state()
    loaded = models.load_model(tmp_path / "m")
    assert torch.equal(state, torch.get_rng_state())  # loading draws no random numbers
    x = torch.rand(2, 4, 32, 32)
    with torch.no_grad():
        difference = (torch.sigmoid(loaded.network(x)) - torch.sigmoid(network(x))).abs().max()
    assert difference <= tolerance
    assert not loaded.network.training
    assert {p.dtype for p in loaded.network.parameters()} == {torch.float32}
    assert not any(t.is_meta for t in (*loaded.network.parameters(), *loaded.network.buffers()))
    assert loaded.directory == tmp_path / "m"
    assert loaded.manifest.weights["dtype"] == dtype


def test_stored_weights_are_the_state_dict_without_counters(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    manifest, network = write(tmp_path / "m")
    stored = safetensors.load_file(manifest.weights_path)
    state = network.state_dict()
    assert set(stored) == {n for n in state if not n.endswith("num_batches_tracked")}
    for name, tensor in stored.items():
        # Statistics of normalisation outgrow half precision.
        exact = name.endswith(("running_mean", "running_var"))
        assert torch.equal(tensor, state[name] if exact else state[name].half())
        assert tensor.dtype == (torch.float32 if exact else torch.float16)
    raw = manifest.weights_path.read_bytes()
    assert manifest.weights["sha256"] == hashlib.sha256(raw).hexdigest()
    assert manifest.weights["bytes"] == len(raw)


def test_unknown_manifest_fields_survive(tmp_path):
    write(tmp_path / "m", citation="Somebody 2026", default=True)
    manifest = models.Manifest.from_file(tmp_path / "m")
    assert manifest.extra == {"citation": "Somebody 2026"}
    assert manifest.default is True
    assert manifest.to_dict() == manifest_of(tmp_path / "m")
    assert manifest.channels[0] == "t1"


def test_write_model_refuses_what_a_reader_would_refuse(tmp_path):
    state = trained_network().state_dict()
    with pytest.raises(ValueError, match="dtype"):
        models.write_model(tmp_path / "m", manifest_dict("m"), state, "float64")
    with pytest.raises(ValueError, match="missing"):
        models.write_model(tmp_path / "m", manifest_dict("m"), dict(list(state.items())[1:]))
    with pytest.raises(ValueError, match="no part"):
        models.write_model(tmp_path / "m", manifest_dict("m"), {**state, "other": torch.zeros(1)})
    with pytest.raises(ValueError, match="not finite in float16"):
        models.write_model(
            tmp_path / "m", manifest_dict("m"), {**state, "head.bias": torch.tensor([1e6])}
        )
    with pytest.raises(ValueError, match="shape"):
        models.write_model(
            tmp_path / "m", manifest_dict("m"), {**state, "head.bias": torch.ones(2)}
        )
    assert not (tmp_path / "m").exists()


# ------------------------------------------------------------------------------ bad manifests


def remove(key):
    def change(content):
        section, _, inner = key.partition(".")
        if inner:
            del content[section][inner]
        else:
            del content[section]

    return change


def put(key, value):
    def change(content):
        section, _, inner = key.partition(".")
        if inner:
            content[section][inner] = value
        else:
            content[section] = value

    return change


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (put("schema", 2), "schema 2 is unknown"),
        (put("schema", True), "no schema version"),
        (remove("schema"), "no schema version"),
        (remove("license"), "lacks license"),
        (remove("weights"), "lacks weights"),
        (put("network", []), "network has the wrong type"),
        (put("default", "yes"), "default"),
        (put("name", "../evil"), "no model can be called"),
        (put("name", ".hidden"), "no model can be called"),
        # What Windows makes of these is another directory, or none.
        (put("name", "mine."), "no model can be called"),
        (put("name", "NUL"), "no model can be called"),
        (put("name", "com1.v2"), "no model can be called"),
        (put("created", "yesterday"), "date"),
        (put("channels", []), "channels"),
        (put("channels", ["t1"]), "takes 4 channels but 1"),
        (put("channels", ["t1", "t1_mirror", "t2", "flair"]), "no input channel 't2'"),
        (put("labels", {}), "labels"),
        (remove("network.name"), "no name"),
        (put("network.filters", [1] * 9000), "absurdly long"),
        (put("preprocessing.window_percentiles", [99, 1]), "window_percentiles"),
        (put("preprocessing.window_percentiles", [0, True]), "window_percentiles"),
        (put("preprocessing.window_low_of", "brain"), "window_low_of"),
        (put("preprocessing.window_low_of", None), "window_low_of"),
        (put("preprocessing.pad_multiple", 0), "pad_multiple"),
        (put("preprocessing.brain_mask_margin_mm", "8"), "brain_mask_margin_mm"),
        (put("inference.threshold", 0), "threshold"),
        (put("inference.threshold", float("nan")), "threshold"),
        (put("inference.second_threshold", 1.5), "second_threshold"),
        (put("inference.second_threshold", 0.5), "second_threshold"),  # not above the first
        (put("inference.min_mean_probability", 1.5), "min_mean_probability"),
        (put("inference.flip_axes", "i"), "flip_axes"),
        (put("inference.flip_axes", ["x"]), "flip_axes"),
        (put("inference.flip_axes", ["i", "i"]), "flip_axes"),
        (put("kind", "cubes"), "kind"),
        (put("inference.min_volume_ml", -1), "min_volume_ml"),
        (put("inference.views", "coronal"), "views"),
        (put("inference.of_views", {"coronal": {"threshold": 0.2}}), "of_views"),
        (put("inference.of_views", {"triplanar": {"flip_axes": ["i"]}}), "of_views"),
        (put("inference.of_views", {"triplanar": {"threshold": 0}}), "threshold"),
        (put("inference.of_views", [1]), "of_views"),
        (put("inference.calibration", [1, 0]), "calibration"),
        (put("inference.calibration", {"slope": 0}), "calibration"),
        (put("inference.calibration", {"slope": float("nan")}), "calibration"),
        (put("inference.calibration", {"slope": "1"}), "calibration.slope"),
        (put("inference.calibration", {"shift": 11}), "calibration"),
        (put("inference.calibration", {"offset": 0}), "calibration"),
        (put("weights.file", "../weights.safetensors"), "weights.file"),
        (put("weights.file", "weights.pt"), "weights.file"),
        (put("weights.sha256", "0" * 63), "sha256"),
        (put("weights.bytes", 1 << 40), "weights.bytes"),
        (put("weights.dtype", "float8"), "dtype"),
    ],
)
def test_unusable_manifests_are_refused(tmp_path, change, cause):
    write(tmp_path / "m")
    content = manifest_of(tmp_path / "m")
    change(content)
    put_manifest(tmp_path / "m", content)
    with pytest.raises(InputError, match=cause) as caught:
        models.Manifest.from_file(tmp_path / "m")
    assert caught.value.where == str(tmp_path / "m" / "manifest.json")
    assert caught.value.remedy


@pytest.mark.parametrize("low_of", ["foreground", "volume"])
def test_what_the_low_percentile_is_of_is_read_and_optional(tmp_path, low_of):
    write(tmp_path / "m")
    content = manifest_of(tmp_path / "m")
    assert models.Manifest.from_file(tmp_path / "m").preprocessing.window_low_of == "foreground"
    content["preprocessing"]["window_low_of"] = low_of
    put_manifest(tmp_path / "m", content)
    assert models.Manifest.from_file(tmp_path / "m").preprocessing.window_low_of == low_of


def test_views_may_have_an_operating_point_of_their_own(tmp_path):
    write(tmp_path / "m")
    content = manifest_of(tmp_path / "m")
    content["inference"]["of_views"] = {"triplanar": {"threshold": 0.2, "second_threshold": 0.6}}
    put_manifest(tmp_path / "m", content)
    manifest = models.Manifest.from_file(tmp_path / "m")
    assert manifest.operating_point() == manifest.operating_point("axial")
    assert manifest.operating_point("axial") == OperatingPoint(0.5, None, 0.05)
    assert manifest.operating_point("triplanar") == OperatingPoint(0.2, 0.6, 0.05)


def test_probabilities_may_have_a_calibration(tmp_path):
    write(tmp_path / "m")
    content = manifest_of(tmp_path / "m")
    assert models.Manifest.from_file(tmp_path / "m").inference.calibration is None
    content["inference"]["calibration"] = {"slope": 0.5, "shift": -0.25}
    put_manifest(tmp_path / "m", content)
    inference = models.Manifest.from_file(tmp_path / "m").inference
    assert inference.calibration == Calibration(0.5, -0.25)
    assert models.Inference.from_dict(inference.to_dict()) == inference


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 200_000, '"text"'])
def test_manifests_that_are_not_json_objects(tmp_path, text):
    put_manifest(tmp_path, text)
    with pytest.raises(InputError, match="manifest"):
        models.Manifest.from_file(tmp_path)


def test_manifest_that_is_not_text_too_large_or_absent(tmp_path):
    with pytest.raises(InputError, match="no model manifest"):
        models.Manifest.from_file(tmp_path)
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        models.Manifest.from_file(tmp_path)
    (tmp_path / "manifest.json").write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(InputError, match="1 MiB"):
        models.Manifest.from_file(tmp_path)


# ------------------------------------------------------------------------------- bad weights


@pytest.mark.parametrize("kind", ["flipped", "short", "long", "missing", "empty"])
def test_tampered_weights_are_named(tmp_path, kind):
    manifest, _ = write(tmp_path / "m")
    path = manifest.weights_path
    raw = bytearray(path.read_bytes())
    if kind == "flipped":
        raw[len(raw) // 2] ^= 1
    elif kind == "short":
        raw = raw[:-1]
    elif kind == "long":
        raw += b"\0"
    elif kind == "empty":
        raw = bytearray()
    if kind == "missing":
        path.unlink()
    else:
        path.write_bytes(bytes(raw))
    for function in (models.load_model, models.verify_model):
        with pytest.raises(InputError) as caught:
            function(str(tmp_path / "m"))
        assert caught.value.where == str(path)
        assert caught.value.remedy


def repack(directory: Path, data: bytes) -> None:
    """Weights with a manifest that vouches for them: only their content is at fault."""
    content = manifest_of(directory)
    content["weights"]["sha256"] = hashlib.sha256(data).hexdigest()
    content["weights"]["bytes"] = len(data)
    (directory / content["weights"]["file"]).write_bytes(data)
    put_manifest(directory, content)


def test_weights_that_do_not_fit_the_network(tmp_path):
    from StrokeLesionSegLib.models.safetensors_io import serialize_safetensors

    manifest, _ = write(tmp_path / "m")
    sound = {
        n: t.half()
        for n, t in trained_network().state_dict().items()
        if not n.endswith("num_batches_tracked")
    }
    cases = {
        "missing": {n: t for n, t in sound.items() if n != "head.bias"},
        "no part": {**sound, "extra": torch.zeros(1)},
        "wants": {**sound, "head.bias": torch.zeros(3)},
        "not finite": {**sound, "head.bias": torch.tensor([float("nan")])},
    }
    for cause, tensors in cases.items():
        repack(tmp_path / "m", serialize_safetensors(tensors))
        with pytest.raises(InputError, match=cause) as caught:
            models.load_model(tmp_path / "m")
        assert caught.value.where == str(manifest.weights_path)
    repack(tmp_path / "m", b"\x80\x04K\x01.not a safetensors file")
    with pytest.raises(InputError, match="do not fit"):
        models.load_model(tmp_path / "m")


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "no such network", "in_channels": 4},
        {"name": "unet", "in_channels": 4, "no_such_argument": 1},
        {"name": "unet", "in_channels": 4, "filters": "abc"},
        {"name": "unet", "in_channels": 4, "filters": []},
        {"name": "unet", "in_channels": 4, "filters": [-4, 8]},
        # 40 GB of weights if it were built: only its shapes may be looked at.
        {"name": "unet", "in_channels": 4, "filters": [100_000, 100_000]},
    ],
)
def test_specifications_that_build_nothing_or_too_much(tmp_path, spec):
    write(tmp_path / "m")
    content = manifest_of(tmp_path / "m")
    content["network"] = spec
    put_manifest(tmp_path / "m", content)
    with pytest.raises(InputError):
        models.load_model(tmp_path / "m")


# ------------------------------------------------------------------------------------ finding


def test_default_model(home, shipped, caplog):
    with pytest.raises(InputError, match="no model is installed"):
        models.find_model(None)
    write(home / "models" / "own")
    assert models.find_model() == home / "models" / "own"
    write(shipped / "b")
    assert models.find_model() == shipped / "b"  # shipped comes before the user's
    write(shipped / "a")
    with pytest.raises(InputError, match="none is the default"):
        models.find_model()
    write(shipped / "c", default=True)
    assert models.find_model() == shipped / "c"
    assert [m.name for m in models.list_models()] == ["a", "b", "c", "own"]


def test_finding_by_name_path_and_not_at_all(home, shipped, tmp_path):
    write(shipped / "a")
    write(home / "models" / "own")
    write(tmp_path / "elsewhere")
    assert models.find_model("a") == shipped / "a"
    assert models.find_model("own") == home / "models" / "own"
    assert models.find_model(str(tmp_path / "elsewhere")) == tmp_path / "elsewhere"
    for name in ("nothing", "", "..", "../shipped", "a\0b"):
        with pytest.raises(InputError, match="no such model") as caught:
            models.find_model(name)
        assert "a, own" in caught.value.remedy


def test_a_clash_of_names_is_said_aloud(home, shipped, caplog):
    write(shipped / "same", seed=1)
    write(home / "models" / "same", seed=2)
    assert models.find_model("same") == shipped / "same"
    assert "user/same" in caplog.text
    assert models.find_model("user/same") == home / "models" / "same"
    assert models.find_model("shipped/same") == shipped / "same"
    assert models.remove_model("user/same") == home / "models" / "same"
    assert (shipped / "same").is_dir()
    assert not (home / "models" / "same").exists()


def test_a_broken_model_does_not_hide_the_others(home, shipped, caplog):
    write(shipped / "a")
    write(home / "models" / "broken")
    put_manifest(home / "models" / "broken", "{")
    problems: list[InputError] = []
    assert [m.name for m in models.list_models(problems)] == ["a"]
    assert [Path(p.where).parent.name for p in problems] == ["broken"]
    assert [m.name for m in models.list_models()] == ["a"]
    assert "broken" in caplog.text


def test_user_home_of_every_platform(monkeypatch, tmp_path):
    monkeypatch.delenv("STROKE_LESION_SEG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", staticmethod(lambda: tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    expected = {
        ("linux", ""): tmp_path / ".local" / "share",
        ("linux", "relative/ignored"): tmp_path / ".local" / "share",
        ("linux", str(tmp_path / "xdg")): tmp_path / "xdg",
        ("darwin", ""): tmp_path / "Library" / "Application Support",
        ("win32", ""): tmp_path / "Local",
    }
    for (platform, xdg), base in expected.items():
        monkeypatch.setattr(store.sys, "platform", platform)
        monkeypatch.setenv("XDG_DATA_HOME", xdg)
        assert models.user_home() == base / "stroke-lesion-seg"
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "mine"))
    assert models.user_home() == tmp_path / "mine"


# --------------------------------------------------------------------------------- installing


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()
    }


def test_install_from_zip_and_directory(home, tmp_path):
    archive = make_zip(tmp_path)
    manifest = models.install_model(archive)
    assert manifest.directory == home / "models" / "tiny"
    assert contents(home / "models" / "tiny") == contents(tmp_path / "build" / "tiny")
    assert models.verify_model("tiny").name == "tiny"
    assert sorted(os.listdir(home / "models")) == ["tiny"]  # no stage is left behind

    write(tmp_path / "build" / "second")
    (tmp_path / "build" / "second" / "notes.txt").write_text("not part of a model")
    models.install_model(tmp_path / "build" / "second")
    assert sorted(os.listdir(home / "models" / "second")) == [
        "manifest.json",
        "weights.safetensors",
    ]
    assert models.remove_model("second") == home / "models" / "second"
    assert sorted(os.listdir(home / "models")) == ["tiny"]


def test_packing_is_reproducible_and_checks_first(tmp_path):
    archive = make_zip(tmp_path)
    again = models.pack_model(tmp_path / "build" / "tiny", tmp_path / "again.zip")
    assert archive.read_bytes() == again.read_bytes()
    weights = tmp_path / "build" / "tiny" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError):
        models.pack_model(tmp_path / "build" / "tiny", tmp_path / "broken.zip")
    assert not (tmp_path / "broken.zip").exists()


def test_a_network_of_a_later_version_is_told(home, tmp_path):
    write(tmp_path / "later")
    content = manifest_of(tmp_path / "later")
    put_manifest(tmp_path / "later", {**content, "network": {"name": "of_tomorrow"}})
    with pytest.raises(InputError, match=r"unknown network 'of_tomorrow'.* or update StrokeLes"):
        models.install_model(tmp_path / "later")


def test_what_was_adapted_here_is_not_lost_to_a_namesake(home, tmp_path):
    mine = models.install_model(make_zip(tmp_path, seed=1))
    card = mine.directory / store.LOCAL_CARD
    card.write_text(json.dumps({"sha256": mine.sha256, "learnt": ["01"], "kept": []}))
    before = contents(home / "models")
    # The same model again, as it was exported.
    models.install_model(tmp_path / "tiny-1.zip")
    assert contents(home / "models") == before
    # A colleague's: ``adapt`` calls all of them the same.
    theirs = make_zip(tmp_path, seed=2)
    with pytest.raises(InputError, match="would replace tiny, a model that was adapted on this"):
        models.install_model(theirs)
    assert contents(home / "models") == before
    assert models.install_model(theirs, models.ImportChoices(name="theirs")).name == "theirs"
    assert models.verify_model("theirs").sha256 != models.verify_model("tiny").sha256
    with pytest.raises(InputError, match="is no name of a model"):
        models.install_model(theirs, models.ImportChoices(name="a b"))
    with pytest.raises(InputError, match="options but --name do not apply"):
        models.install_model(theirs, models.ImportChoices(space="native"))


def test_flat_zip(home, tmp_path):
    write(tmp_path / "flat")
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        for name in ("manifest.json", "weights.safetensors"):
            archive.write(tmp_path / "flat" / name, name)
    assert models.install_model(tmp_path / "flat.zip").name == "flat"


def test_replacing_keeps_the_old_model_until_the_new_one_is_sound(home, tmp_path):
    models.install_model(make_zip(tmp_path, seed=1))
    before = contents(home / "models")
    bad = make_zip(tmp_path, seed=2)
    raw = bytearray(bad.read_bytes())
    raw[len(raw) // 2] ^= 0xFF  # inside the compressed weights
    (tmp_path / "bad.zip").write_bytes(bytes(raw))
    with pytest.raises(InputError):
        models.install_model(tmp_path / "bad.zip")
    assert contents(home / "models") == before
    models.install_model(bad)
    assert contents(home / "models") != before
    assert contents(home / "models" / "tiny") == contents(tmp_path / "build" / "tiny")
    assert sorted(os.listdir(home / "models")) == ["tiny"]


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("kind", ["checksum", "tensors"])
def test_sound_containers_of_unsound_models_are_refused(home, tmp_path, as_zip, kind):
    from StrokeLesionSegLib.models.safetensors_io import read_safetensors, serialize_safetensors

    models.install_model(make_zip(tmp_path, seed=1))
    before = contents(home / "models")
    directory = tmp_path / "bad" / "tiny"
    manifest, _ = write(directory, seed=2)
    if kind == "checksum":
        raw = bytearray(manifest.weights_path.read_bytes())
        raw[-1] ^= 1
        manifest.weights_path.write_bytes(bytes(raw))
    else:
        tensors = read_safetensors(manifest.weights_path)
        tensors["head.bias"] = torch.zeros(2, dtype=torch.float16)
        repack(directory, serialize_safetensors(tensors))
    source = directory
    if as_zip:
        source = tmp_path / "bad.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for name in ("manifest.json", "weights.safetensors"):
                archive.write(directory / name, f"tiny/{name}")
    cause = "SHA-256" if kind == "checksum" else "do not fit"
    with pytest.raises(InputError, match=cause) as caught:
        models.install_model(source)
    assert caught.value.where == f"{source}: weights.safetensors"
    assert contents(home / "models") == before
    assert os.listdir(home / "models") == ["tiny"]


def test_a_failed_rename_restores_the_old_model(home, tmp_path, monkeypatch):
    models.install_model(make_zip(tmp_path, seed=1))
    before = contents(home / "models")
    archive = make_zip(tmp_path, seed=2)
    real = os.rename

    def failing(source, target):
        if Path(source).name.startswith(".install-"):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(install_module.os, "rename", failing)
    with pytest.raises(InputError, match="No space left"):
        models.install_model(archive)
    monkeypatch.undo()
    assert contents(home / "models") == before


def test_an_installation_beside_another_succeeds(home, tmp_path, monkeypatch):
    """Another process moves the same model between two steps of this one."""
    models.install_model(make_zip(tmp_path, seed=1))
    archive, target = make_zip(tmp_path, seed=2), home / "models" / "tiny"
    real, others = os.rename, []

    def interfering(source, goal):
        if len(others) < 3:
            others.append(goal)
            if Path(source) == target:  # taken away by another installation, and put back
                real(target, home / "models" / ".taken")
                try:
                    return real(source, goal)
                finally:
                    real(home / "models" / ".taken", target)
            if Path(goal) == target:  # listing the models has put the old one back
                (old,) = (home / "models").glob(".old-*")
                real(old, target)
        return real(source, goal)

    with monkeypatch.context() as patch:
        patch.setattr(install_module.os, "rename", interfering)
        installed = models.install_model(archive)
    assert len(others) == 3
    assert installed == models.verify_model("tiny")
    assert installed.sha256 == models.verify_model(tmp_path / "build" / "tiny").sha256
    assert os.listdir(home / "models") == ["tiny"]


def test_a_replacement_that_was_killed_between_its_renames_is_undone(home, tmp_path):
    models.install_model(make_zip(tmp_path))
    before = contents(home / "models")
    os.rename(home / "models" / "tiny", home / "models" / ".old-tiny-0a1b2c3d")
    assert [m.name for m in models.list_models()] == ["tiny"]
    assert contents(home / "models") == before


def test_what_a_removed_model_had_replaced_does_not_come_back(home, tmp_path):
    """As after an installation that was killed before it had deleted the old model."""
    for name in ("tiny", "tiny-2"):
        models.install_model(make_zip(tmp_path, name))
    (home / "models" / ".old-tiny-2-0a1b2c3d").mkdir()  # of another model
    write(home / "models" / ".old-tiny-0a1b2c3d", name="tiny")
    models.remove_model("tiny")
    assert [m.name for m in models.list_models()] == ["tiny-2"]
    assert sorted(os.listdir(home / "models")) == [".old-tiny-2-0a1b2c3d", "tiny-2"]


def test_shipped_models_are_neither_replaced_nor_removed(home, shipped, tmp_path):
    write(shipped / "tiny")
    before = contents(shipped)
    with pytest.raises(InputError, match="ships with"):
        models.install_model(make_zip(tmp_path))
    with pytest.raises(InputError, match="ships with"):
        models.remove_model("tiny")
    write(tmp_path / "outside")
    with pytest.raises(InputError, match="is not in"):
        models.remove_model(str(tmp_path / "outside"))
    assert (tmp_path / "outside" / "manifest.json").is_file()
    assert contents(shipped) == before
    assert os.listdir(home / "models") == []


def test_names_that_differ_in_capitals_alone_are_refused(home, shipped, tmp_path):
    """On Windows and macOS they are one directory: the other model would be gone."""
    write(shipped / "other", name="other")
    models.install_model(make_zip(tmp_path, "mine"))
    with pytest.raises(InputError, match="installed model mine in capitals"):
        models.install_model(make_zip(tmp_path, "Mine"))
    with pytest.raises(InputError, match="other ships with"):
        models.install_model(make_zip(tmp_path, "OTHER"))
    assert os.listdir(home / "models") == ["mine"]
    models.install_model(make_zip(tmp_path, "mine"))  # the same one again


def hostile(tmp_path: Path, entries: list[tuple[zipfile.ZipInfo | str, bytes]]) -> Path:
    """A sound model's zip with more entries in it."""
    path = tmp_path / "hostile.zip"
    path.write_bytes(make_zip(tmp_path).read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        for info, data in entries:
            archive.writestr(info, data)
    return path


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("entry", "cause"),
    [
        ("../escape.txt", "unsafe name"),
        ("tiny/../../escape.txt", "unsafe name"),
        ("/tmp/escape.txt", "unsafe name"),
        ("C:/escape.txt", "unsafe name"),
        ("..\\escape.txt", "unsafe name"),
        (link("tiny/link"), "link or device"),
        ("other/manifest.json", "more than one manifest.json"),
    ],
)
def test_hostile_archives_are_refused(home, tmp_path, entry, cause):
    archive = hostile(tmp_path, [(entry, b"x")])
    before = contents(tmp_path)
    with pytest.raises(InputError, match=cause):
        models.install_model(archive)
    assert contents(tmp_path) == before  # nothing was written anywhere


def test_archives_of_absurd_size(home, tmp_path):
    many = [(f"f{i}", b"") for i in range(100)]
    with pytest.raises(InputError, match="entries"):
        models.install_model(hostile(tmp_path, many))
    # A manifest of 64 MiB that compresses to nothing.
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b" " * (64 << 20))
    with pytest.raises(InputError, match="larger than"):
        models.install_model(tmp_path / "bomb.zip")
    assert os.listdir(home / "models") == []


def test_declared_sizes_are_checked_before_unpacking(home, tmp_path):
    archive = make_zip(tmp_path)
    raw = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        size = opened.getinfo("tiny/weights.safetensors").file_size
    old = size.to_bytes(4, "little")
    assert raw.count(old) >= 2
    (tmp_path / "lie.zip").write_bytes(bytes(raw).replace(old, (7 << 29).to_bytes(4, "little")))
    with pytest.raises(InputError, match="unpacks to more"):
        models.install_model(tmp_path / "lie.zip")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no archive", b"plain text"])
def test_files_that_are_no_archives(home, tmp_path, data):
    path = tmp_path / "model.zip"
    path.write_bytes(data)
    with pytest.raises(InputError, match="zip"):
        models.install_model(path)
    with pytest.raises(InputError, match="no such file"):
        models.install_model(tmp_path / "absent.zip")


def test_encrypted_and_truncated_archives(home, tmp_path):
    raw = bytearray(make_zip(tmp_path).read_bytes())
    for at, flag in ((raw.find(b"PK\x03\x04"), 6), (raw.find(b"PK\x01\x02"), 8)):
        raw[at + flag] |= 1
    (tmp_path / "locked.zip").write_bytes(bytes(raw))
    with pytest.raises(InputError, match="encrypted"):
        models.install_model(tmp_path / "locked.zip")
    whole = make_zip(tmp_path).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError):
        models.install_model(tmp_path / "cut.zip")


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")
def test_links_in_a_directory_are_refused(home, tmp_path):
    manifest, _ = write(tmp_path / "m")
    real = tmp_path / "real.safetensors"
    os.replace(manifest.weights_path, real)
    manifest.weights_path.symlink_to(real)
    with pytest.raises(InputError, match="symbolic link"):
        models.install_model(tmp_path / "m")


def test_unwritable_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    archive = make_zip(tmp_path)
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot be written") as caught:
        models.install_model(archive)
    assert "STROKE_LESION_SEG_HOME" in caught.value.remedy


# ------------------------------------------------------------------------------ walls and rules


def test_no_pickle_in_the_library(repository):
    library = repository / "StrokeLesionSeg" / "StrokeLesionSegLib"
    banned = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    # nnU-Net's checkpoints, in a process of their own; see Testing/house/test_repository.py.
    reads_checkpoints = library / "models" / "foreign" / "checkpoint_child.py"
    checked = 0
    for path in library.rglob("*.py"):
        checked += 1
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [a.name.split(".")[0] for a in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module.split(".")[0]]
            elif isinstance(node, ast.Call):
                text = ast.unparse(node.func)
                assert text != "torch.save", path
                assert text != "torch.load" or path == reads_checkpoints, path
                if text in ("np.load", "numpy.load"):
                    pickled = [k for k in node.keywords if k.arg == "allow_pickle"]
                    assert not pickled or ast.unparse(pickled[0].value) == "False", path
            assert not banned & set(names), path
    assert checked > 10


def test_importing_models_does_not_import_torch(repository):
    code = "import sys, StrokeLesionSegLib.models; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(repository / "StrokeLesionSeg")}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_shipped_models_are_sound(repository):
    root = repository / "StrokeLesionSeg" / "Resources" / "Models"
    directories = sorted(p.parent for p in root.glob("*/manifest.json"))
    if not directories:
        pytest.skip("no model ships yet")
    for directory in directories:
        model = load_directory(directory)
        assert model.manifest.name == directory.name
        assert model.manifest.weights["bytes"] <= 20e6
        if model.manifest.kind == "volumetric":
            shapes = (1, model.network.in_channels, 32, 32, 32), (1, 16, 32, 32, 32)
        else:
            shapes = (1, len(model.manifest.channels), 64, 64), (1, 1, 64, 64)
        with torch.no_grad():
            out = model.network(torch.zeros(shapes[0]))
        assert out.shape == shapes[1]
        assert torch.isfinite(out).all()


def test_models_are_packed_with_plain_names(tmp_path):
    with zipfile.ZipFile(io.BytesIO(make_zip(tmp_path).read_bytes())) as archive:
        assert archive.namelist() == ["tiny/manifest.json", "tiny/weights.safetensors"]
